package process

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// An IPAM plugin may give single addresses instead of one of a subnet. What is masqueraded then is the container's alone,
// and goes with it: by DEL without the earlier result, by GC after a container that died without one, by a failed ADD.
func TestMasqueradeOfSingleAddresses(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			d := newDelegate(h)
			config := with(with(mode.config, delegatedIPAM), `{"ipMasq": true, "isDefaultGateway": null}`)
			gives := func(number string) {
				d.says("ADD", `{"cniVersion": "1.1.0", "ips": [
					{"address": "10.88.0.`+number+`/32", "gateway": "10.88.0.1"}, {"address": "2001:db8:88::`+number+`/128", "gateway": "2001:db8:88::1"}]}`)
			}
			masked := func(numbers ...string) {
				t.Helper()
				rules := h.Snapshot()
				for _, number := range []string{"7", "8", "9"} {
					want := strings.Contains(strings.Join(numbers, ""), number)
					for _, a := range []string{"10.88.0." + number, "2001:db8:88::" + number} {
						line := "nft element inet veth masquerade[46] " + hex.EncodeToString(netip.MustParseAddr(a).AsSlice()) + " comment"
						if got := regexp.MustCompile(line).MatchString(rules); got != want {
							t.Errorf("%s is masqueraded %v, want %v", a, got, want)
						}
					}
				}
			}
			before := h.Snapshot()
			first, second, third := h.Container(), h.Container(), h.Container()
			gives("7")
			const port = `{"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}`
			added := h.add(with(config, port), first)
			gives("8")
			h.add(config, second)
			h.check(with(config, port), first, added)
			masked("7", "8")
			h.call("DEL", config, second).succeeds()
			masked("7")

			// An ADD that fails while others are attached.
			gives("9")
			h.call("ADD", with(config, port), third).refused(107, "8080")
			masked("7")

			// One that dies, and whose address another gets before GC comes. The DEL that comes late takes nothing of it.
			gives("8")
			h.dies(second, h.add(config, second).hostEnd())
			masked("7", "8")
			heir := h.Container()
			again := h.add(config, heir)
			h.call("DEL", config, second).succeeds()
			masked("7", "8")
			h.check(config, heir, again)

			gives("9")
			h.dies(third, h.add(config, third).hostEnd())
			masked("7", "8", "9")
			h.call("GC", config, nil).succeeds()
			masked("7", "8")
			h.call("DEL", config, first).succeeds()
			h.call("DEL", config, heir).succeeds()
			masked()
			h.call("GC", config, nil).succeeds()
			if diff := butForwarding(node.Diff(before, h.Snapshot())); diff != "" {
				t.Errorf("GC leaves\n%s", diff)
			}
		})
	}
}

// dies ends a container without a DEL, and waits until the kernel has taken it apart.
func (h *host) dies(c *node.Namespace, hostEnd string) {
	h.t.Helper()
	if err := c.Close(); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, func() error {
		if strings.Contains(h.Snapshot(), "link "+hostEnd+" ") {
			return fmt.Errorf("interface %s has outlived its container", hostEnd)
		}
		return nil
	})
}
