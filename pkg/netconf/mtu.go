package netconf

import "github.com/veth-cni/veth/pkg/cnierr"

// mtu checks the size of packets against what the addresses need.
func (p *parser) mtu() error {
	mtu, overhead := p.raw.MTU, p.raw.MTUOverhead
	if mtu != 0 {
		if err := p.checkMTU("mtu", mtu, "68 to 65535 bytes, or 0 for that of the route to the world"); err != nil {
			return err
		}
	}
	if overhead < 0 || overhead > maxMTU-minMTU {
		return cnierr.Key(cnierr.InvalidConfig, "mtuOverhead", overhead, "0 to 65467 bytes")
	}
	if overhead != 0 && mtu != 0 {
		return cnierr.New(cnierr.InvalidConfig, "mtuOverhead: has no effect beside mtu, which is %d: want one of them", mtu)
	}
	p.config.MTU, p.config.MTUOverhead = int(mtu), int(overhead)
	return p.podMTU()
}

// subnet6 is the first IPv6 subnet of the built-in IPAM.
func (i IPAM) subnet6() (string, bool) {
	for _, subnet := range i.Pool.Subnets() {
		if subnet.Addr().Is6() {
			return subnet.String(), true
		}
	}
	return "", false
}

// Sized returns the configuration with an MTU in it, if it names none and the node knows one: that of the route to the
// world, less what a tunnel puts around each packet, and no more than the bridge's. A link that may carry IPv6 keeps the
// 1280 bytes that IPv6 demands of it (RFC 8200, section 5). An argument of 0 is unknown; all are bytes.
func (c *Config) Sized(world, bridge int) *Config {
	known := world != 0 || bridge != 0
	if c.MTU != 0 || !known && c.PodMTU == 0 {
		return c
	}
	mtu := maxMTU
	if !known {
		mtu = defaultMTU // or it could not be said whether the pod wants less
	}
	if world != 0 {
		least := minMTU
		if _, is6 := c.IPAM.subnet6(); is6 || c.IPAM.Delegated() {
			least = minMTU6
		}
		mtu = min(max(world-c.MTUOverhead, least), mtu)
	}
	if bridge != 0 {
		mtu = min(bridge, mtu)
	}
	sized := *c
	sized.MTU = mtu
	return &sized
}
