package process

import (
	"net/netip"
	"strings"
	"testing"
)

// The configuration of the repository with ports, as a runtime hands them over: by capability, on ADD, CHECK and DEL.
func TestHostPortsByCapability(t *testing.T) {
	t.Parallel()
	const dir, network = "../../conf", "hostports"
	h := newHost(t)
	ports := `CAP_ARGS={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`
	first, second := h.Container("first"), h.Container("second")
	h.cnitool(dir, "add", network, h.Container("other")).succeeds() // makes what the network shares
	h.leaves(func() {
		h.cnitool(dir, "add", network, first, ports).succeeds()
		h.cnitool(dir, "check", network, first, ports).succeeds()
		first.Mirror(t, "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
		if _, err := h.SeenAs("tcp", netip.MustParseAddrPort("127.0.0.1:8080")); err != nil {
			t.Error(err)
		}
		refused := h.cnitool(dir, "add", network, second, ports)
		if refused.status == 0 || !strings.Contains(refused.stdout+refused.stderr, "hostPort tcp 0.0.0.0:8080 is taken") {
			t.Errorf("want a refusal: %s", refused)
		}
		h.cnitool(dir, "status", network, first).succeeds()
		h.cnitool(dir, "del", network, first, ports).succeeds()
	}, first, second)
}

// Keys as containerd spells them, and a DEL from which it left them out.
func TestHostPortsOfContainerd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	conf := `{"cniVersion": "1.0.0", "name": "podnet", "type": "veth",
		"ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.0.0/24"}]]}`
	mapped := conf + `, "runtimeConfig": {"portMappings":
		[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}]}}`
	h.add(conf+"}", h.Container("other"))
	h.leaves(func() {
		h.add(mapped, c)
		c.Mirror(t, "tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), 80))
		if _, err := h.SeenAs("tcp", netip.MustParseAddrPort("127.0.0.1:8080")); err != nil {
			t.Error(err)
		}
		h.del(conf+"}", c)
	}, c)
}
