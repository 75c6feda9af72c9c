package kernel_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/plan"
)

// TestAnnounced counts the neighbour advertisements that a container has sent by the time its address is usable.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	for name, announced := range map[string]bool{"announced": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				address := plan.Address{
					Place: plan.Container, Link: "eth0", Prefix: netip.MustParsePrefix("2001:db8::5/64"), State: "ok",
					Announced: announced,
				}
				m.apply(
					pair, plan.Sysctl{Place: plan.Container, Key: "net/ipv6/conf/eth0/accept_dad", Value: "0"},
					plan.Sysctl{Place: plan.Container, Key: "net/ipv6/conf/eth0/ndisc_notify", Value: "1"},
					plan.Sysctl{Place: plan.Container, Key: "net/ipv6/conf/eth0/addr_gen_mode", Value: "1"}, // or there is another
					inside, address,
				)
				m.must(m.kernel.Ready(plan.Plan{Pair: pair, Inside: []plan.Object{inside, address}}))
				m.asPlanned(address)
				sent := ""
				m.must(m.in(plan.Container, func() error {
					b, err := os.ReadFile("/proc/thread-self/net/snmp6")
					for line := range strings.Lines(string(b)) {
						if f := strings.Fields(line); len(f) == 2 && f[0] == "Icmp6OutNeighborAdvertisements" {
							sent = f[1]
						}
					}
					return err
				}))
				if (sent != "0") != announced {
					m.Errorf("%q neighbour advertisements were sent", sent)
				}
			})
		})
	}
}
