package process

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veth-cni/veth/test/node"
)

// Two hundred containers, sixteen at a time, on a subnet with 253 addresses to lease: no address twice, no failure, and
// not a file. This test and no other runs alone, for what it says of files is about the whole machine.
func TestTwoHundredAtOnce(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			h := warm(t, mode.config)
			containers := make([]*node.Namespace, 200)
			for i := range containers {
				containers[i] = h.Container()
			}
			files := filesOfState(t)
			h.leaves(func() {
				added := h.atOnce(16, "ADD", mode.config, containers)
				holders := map[netip.Addr]string{}
				for i, o := range added {
					for _, a := range o.addresses() {
						if other, taken := holders[a]; taken {
							t.Errorf("%s has been given to %s and to %s", a, other, containers[i].Name)
						}
						holders[a] = containers[i].Name
					}
				}
				if want := 2 * len(containers); len(holders) != want {
					t.Errorf("got %d distinct addresses, want %d", len(holders), want)
				}
				if now := filesOfState(t); !slices.Equal(now, files) {
					t.Errorf("the plugin has left files: had %q, have %q", files, now)
				}
				h.check(mode.config, containers[0], added[0])
				h.check(mode.config, containers[199], added[199])
				for _, o := range h.atOnce(16, "DEL", mode.config, containers) {
					o.succeeds()
				}
			}, containers...)
		})
	}
}

// atOnce calls a verb for all containers, so many at a time.
func (h *host) atOnce(workers int, verb, config string, containers []*node.Namespace) []outcome {
	h.t.Helper()
	out := make([]outcome, len(containers))
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				out[i] = <-h.background(verb, config, containers[i])
			}
		})
	}
	for i := range containers {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// filesOfState lists what is where plugins of other makes keep their state. The test's own namespaces are there too.
func filesOfState(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasPrefix(path, "/run/netns/") {
				return nil
			}
			files = append(files, path)
			return err
		})
		if err != nil && !strings.Contains(err.Error(), "no such file") {
			t.Fatal(err)
		}
	}
	return files
}

// Containers that vanish without a DEL give their addresses back by vanishing.
func TestPoolIsWholeAgainWithoutDel(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			config := with(mode.config, `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.5", "rangeEnd": "10.88.0.9"}]]}}`)
			for round := range 2 {
				var crowd []*node.Namespace
				for range 5 {
					c := h.Container()
					crowd = append(crowd, c)
					// The kernel takes a namespace apart in its own time, some milliseconds after the last use of it.
					eventually(t, func() error {
						if o := h.call("ADD", config, c); o.status != 0 {
							return fmt.Errorf("round %d, container %d of 5: %s", round, len(crowd), o)
						}
						return nil
					})
				}
				h.call("ADD", config, h.Container()).refused(104, "podnet", "5 addresses", "10.88.0.0/24")
				h.call("STATUS", config, nil).refused(50, "podnet", "5 addresses")
				for _, c := range crowd {
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, func() error {
				if strings.Contains(h.Snapshot(), "link veth") {
					return fmt.Errorf("an interface has outlived its container:\n%s", h.Snapshot())
				}
				return nil
			})
		})
	}
}

// eventually tries for five seconds.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Two interfaces of one container: an attachment is network, container and interface name together.
func TestTwoInterfacesOfOneContainer(t *testing.T) {
	t.Parallel()
	second := with(routed, `{"name": "othernet", "ipam": {"ranges": [[{"subnet": "10.89.0.0/24"}], [{"subnet": "2001:db8:89::/64"}]]},
		"isDefaultGateway": false}`)
	secondBridged := with(second, `{"bridge": "br1"}`)
	for _, tt := range []struct{ name, first, second string }{
		{"on two routed networks", routed, second},
		{"on two bridges", bridged, secondBridged},
		{"on a bridge and a routed network", bridged, second},
		{"on one bridge", layer2, layer2},
		{"on one network twice", with(bridged, `{"isDefaultGateway": false}`), with(bridged, `{"isDefaultGateway": false}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.add(tt.first, h.Container("other"))
			h.add(tt.second, h.Container("another"))
			c := h.Container()
			h.leaves(func() {
				one := h.add(tt.first, c)
				two := h.add(tt.second, c, "CNI_IFNAME=eth1")
				if one.hostEnd() == two.hostEnd() {
					t.Errorf("both interfaces have the host end %s", one.hostEnd())
				}
				h.check(tt.first, c, one)
				h.check(tt.second, c, two, "CNI_IFNAME=eth1")
				h.del(tt.first, c)
				h.check(tt.second, c, two, "CNI_IFNAME=eth1")
				h.del(tt.second, c, "CNI_IFNAME=eth1")
			}, c)
		})
	}
}

// Networks that share nothing: a container on one is not in the way of the other, even with the same addresses.
func TestTwoNetworksShareNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one := with(bridged, `{"ipMasq": false, "isDefaultGateway": false, "args": {"cni": {"ips": ["10.88.0.9"]}}}`)
	two := with(one, `{"name": "othernet", "bridge": "br1"}`)
	c1, c2 := h.Container(), h.Container()
	added1, added2 := h.add(one, c1), h.add(two, c2)
	h.check(one, c1, added1)
	h.check(two, c2, added2)
	if a, b := added1.addresses()[0], added2.addresses()[0]; a != b {
		t.Errorf("got %s and %s, want the same address on both networks", a, b)
	}
	h.leaves(func() {
		h.call("GC", with(one, `{"name": "thirdnet", "cni.dev/valid-attachments": []}`), nil).succeeds()
	}, c1, c2)
}

// Two networks on one bridge are one link with two subnets.
func TestTwoNetworksOnOneBridge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one := with(bridged, `{"isDefaultGateway": false}`)
	two := with(one, `{"name": "othernet", "ipam": {"ranges": [[{"subnet": "10.89.0.0/24"}], [{"subnet": "2001:db8:89::/64"}]]}}`)
	c1, c2, c3 := h.Container(), h.Container(), h.Container()
	added1, added2, added3 := h.add(one, c1), h.add(two, c2), h.add(two, c3)
	for _, a := range added3.addresses() {
		if err := c2.Ping(a); err != nil {
			t.Error(err)
		}
	}
	gc := with(two, `{"cni.dev/valid-attachments": []}`)
	h.call("GC", gc, nil).succeeds()
	h.check(one, c1, added1)
	h.call("CHECK", added2.before(two), c2).refused(105, added2.hostEnd())
}
