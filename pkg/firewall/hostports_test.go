package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

var (
	web = lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth0", PodNamespace: "shop", PodName: "web"}
	dns = lease.Owner{Network: "podnet", ContainerID: "c2", IfName: "eth0", PodNamespace: "shop", PodName: "dns"}
	lab = lease.Owner{Network: "lab", ContainerID: "c3", IfName: "eth0"}
)

// port reads "tcp 0.0.0.0:8080 10.88.0.5:80".
func port(text string) plan.HostPort {
	words := strings.Fields(text)
	protocol := map[string]netconf.Protocol{"tcp": netconf.TCP, "udp": netconf.UDP, "sctp": netconf.SCTP}[words[0]]
	p := plan.HostPort{Protocol: protocol, Host: netip.MustParseAddrPort(words[1]), Open: true}
	if len(words) > 2 {
		p.Pod = netip.MustParseAddrPort(words[2])
	}
	return p
}

// routed are ports of a container with routes, bridged of one on bridge br0.
func routed(owner lease.Owner, ports ...string) plan.HostPorts {
	h := plan.HostPorts{Owner: owner, Link: owner.HostName(), Source: plan.RoutedGateway4, Hairpin: true, State: "ok"}
	for _, p := range ports {
		h.Ports = append(h.Ports, port(p))
	}
	return h
}

func bridged(owner lease.Owner, ports ...string) plan.HostPorts {
	h := routed(owner, ports...)
	h.Link, h.Source = "br0", netip.Addr{}
	return h
}

func restricted(h plan.HostPorts, sources ...string) plan.HostPorts {
	for _, s := range sources {
		h.Sources = append(h.Sources, netip.MustParsePrefix(s))
	}
	for i := range h.Ports {
		h.Ports[i].Open = false
	}
	return h
}

// living says who lives: the owners given.
func living(owners ...lease.Owner) Living {
	return func(hostEnd string) (string, error) {
		for _, o := range owners {
			if o.HostName() == hostEnd {
				return o.String(), nil
			}
		}
		return "", nil
	}
}

var everybody = living(web, dns, lab)

func publish(t testing.TB, f *Firewall, list ...plan.HostPorts) {
	t.Helper()
	for _, h := range list {
		if created, _, err := f.ApplyHostPorts(h, everybody); err != nil || !created {
			t.Fatalf("apply %v: created %v, error %v", h.Ports, created, err)
		}
		published(t, f, h)
	}
}

func published(t testing.TB, f *Firewall, h plan.HostPorts) {
	t.Helper()
	if d := differences(t, f, h); len(d) > 0 {
		t.Errorf("%s: %s", h.ID(), d)
	}
}

func differences(t testing.TB, f *Firewall, h plan.HostPorts) plan.Findings {
	t.Helper()
	got, err := f.ObserveHostPorts(h, everybody)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Diff([]plan.Object{h}, []plan.Object{got})
}

func TestHostPortListings(t *testing.T) {
	for _, c := range []struct {
		golden string
		apply  []plan.HostPorts
	}{
		{"hostports-routed", []plan.HostPorts{
			routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "tcp [::]:8080 [2001:db8:88::5]:80"),
			routed(lab, "udp 192.0.2.1:53 198.18.0.5:5353", "sctp [2001:db8::1]:3868 [2001:db8:99::5]:3868"),
		}},
		{"hostports-bridged", []plan.HostPorts{
			bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80"), bridged(dns, "udp 127.0.0.1:53 10.88.0.6:53"),
		}},
		{"hostports-sources", []plan.HostPorts{
			restricted(routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "udp [2001:db8::1]:53 [2001:db8:88::5]:53"),
				"192.0.2.0/24", "198.18.0.9/32", "2001:db8:1::/48"),
			routed(dns, "tcp 0.0.0.0:9090 10.88.0.6:90"),
		}},
		{"hostports-masqall", []plan.HostPorts{func() plan.HostPorts {
			h := bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80")
			h.Masquerade = true
			return h
		}()}},
	} {
		t.Run(c.golden, func(t *testing.T) {
			f := fresh(t)
			publish(t, f, c.apply...)
			listed(t, c.golden)
			// What was listed can be loaded, and is the same to CHECK.
			before := nft(t, "list", "ruleset")
			nft(t, "flush", "ruleset")
			nft(t, before)
			for _, h := range c.apply {
				published(t, f, h)
			}
			for _, h := range c.apply {
				if _, err := f.ReleaseHostPorts(h.Owner, keys(h)); err != nil {
					t.Fatal(err)
				}
			}
			listed(t, "empty")
		})
	}
}

// keys are ports as DEL knows them.
func keys(h plan.HostPorts) []plan.HostPort {
	list := slices.Clone(h.Ports)
	for i := range list {
		list[i].Pod = netip.AddrPort{}
	}
	return list
}

// Somebody breaks what the ports share: CHECK names it, and the next ADD, of another port, makes it whole.
func TestHostPortRepair(t *testing.T) {
	var (
		held = restricted(routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80"), "192.0.2.0/24")
		next = routed(dns, "tcp 0.0.0.0:9090 10.88.0.6:90")
	)
	for _, c := range []struct {
		name, want string
		nft        []string
		lost       bool // the port itself, which only its own ADD brings back
	}{
		{"ruleset flushed", "nftables table inet veth is missing", []string{"flush ruleset"}, true},
		{"chain flushed", "nftables chain hostports has lost its rule for IPv4, who may use", []string{"flush chain inet veth hostports"}, false},
		{
			"hook flushed", "nftables chain hostports_prerouting has lost its rule for the host's addresses",
			[]string{"flush chain inet veth hostports_prerouting"},
			false,
		},
		{
			"guard gone", "nftables chain hostports_loopback is missing",
			[]string{"flush chain inet veth hostports_loopback", "delete chain inet veth hostports_loopback"},
			false,
		},
		{"dormant", "nftables table inet veth is dormant", []string{"add table inet veth { flags dormant; }"}, false},
		{
			"a rule of another's", "nftables chain hostports holds a rule that is not the plugin's",
			[]string{"add rule inet veth hostports accept"},
			false,
		},
		{"port deleted", "", []string{"delete element inet veth hostports4 { tcp . 8080 }"}, true},
		{
			"map of another kind", "nftables map hostports4 is not a map of inet_proto . inet_service to ipv4_addr . inet_service",
			[]string{
				"flush chain inet veth hostports", "delete map inet veth hostports4",
				"add map inet veth hostports4 { type inet_service : ipv4_addr; }",
			},
			true,
		},
		{"map deleted", "nftables map hostports4 is missing", []string{
			"flush chain inet veth hostports", "delete map inet veth hostports4",
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fresh(t)
			publish(t, f, held)
			for _, command := range c.nft {
				nft(t, command)
			}
			got := differences(t, f, held).String()
			if !strings.Contains(got, c.want) || (c.lost && !strings.Contains(got, "tcp 0.0.0.0:8080: want 10.88.0.5:80")) {
				t.Errorf("CHECK says %q, want %q", got, c.want)
			}
			must(t, f.ProbeHostPorts())
			publish(t, f, next)
			if got := differences(t, f, held); (len(got) > 0) != c.lost {
				t.Errorf("after the next ADD: %s", got)
			}
			if _, _, err := f.ApplyHostPorts(held, everybody); err != nil {
				t.Error(err)
			}
			published(t, f, held)
			for _, h := range []plan.HostPorts{held, next} {
				if _, err := f.ReleaseHostPorts(h.Owner, keys(h)); err != nil {
					t.Error(err)
				}
			}
			listed(t, "empty")
		})
	}
	t.Run("a rule replaced by another is CHECK's", func(t *testing.T) {
		f := fresh(t)
		publish(t, f, held)
		nft(t, "replace rule inet veth hostports handle "+lastHandle(t)+" accept")
		if got := differences(t, f, held).String(); !strings.Contains(got, "nftables chain hostports has lost its rule for unmarking") {
			t.Errorf("CHECK says %q", got)
		}
	})
}

// lastHandle is that of the last rule of chain hostports.
func lastHandle(t *testing.T) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(nft(t, "-a", "list", "chain", "inet", "veth", "hostports")), "\n")
	_, handle, _ := strings.Cut(lines[len(lines)-3], "# handle ")
	return handle
}

// Somebody takes 16 calls for the same port at once: one gets it, the others are told who has it.
func TestHostPortRace(t *testing.T) {
	for _, ports := range [][2]string{
		{"tcp 0.0.0.0:8080", "tcp 0.0.0.0:8080"}, {"tcp 0.0.0.0:8080", "tcp 192.0.2.1:8080"},
	} {
		fresh(t)
		won := make([]bool, 16)
		parallel(t, len(won), func(i int, f *Firewall) {
			owner := lease.Owner{Network: "podnet", ContainerID: fmt.Sprint("c", i), IfName: "eth0"}
			h := routed(owner, fmt.Sprintf("%s 10.88.0.%d:80", ports[i%2], i+1))
			_, _, err := f.ApplyHostPorts(h, func(string) (string, error) { return "somebody", nil })
			if won[i] = err == nil; !won[i] && cnierr.Of(err, 0).Code != cnierr.Conflict {
				t.Error(err)
			}
		})
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		// One on all addresses, or any number, here eight at most, that differ in nothing but the container: one.
		if winners != 1 {
			t.Errorf("%v: %d calls got the port, want 1", ports, winners)
		}
	}
}

// An ADD that was cut short has left things; the next of the same attachment begins anew.
func TestLeftovers(t *testing.T) {
	f := fresh(t)
	publish(t, f, routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "udp 192.0.2.1:53 10.88.0.5:53"))
	h := routed(web, "tcp 0.0.0.0:9090 10.88.0.7:80")
	publish(t, f, h)
	publish(t, f, routed(dns, "tcp 0.0.0.0:8080 10.88.0.6:80", "udp 0.0.0.0:53 10.88.0.6:53"))
	if created, _, err := f.ApplyHostPorts(h, everybody); err != nil || created {
		t.Errorf("apply again: created %v, error %v", created, err)
	}
}

func TestNote(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 4)
	for name, c := range map[string]struct {
		owner lease.Owner
		want  string
	}{
		"as it is": {web, web.HostName() + " podnet/c1/eth0 shop/web"},
		"a container id of full length": {
			lease.Owner{Network: "podnet", ContainerID: long, IfName: "eth0", PodNamespace: "shop", PodName: "web"},
			" podnet/" + long + "/eth0 shop/web",
		},
		"no room for all of it": {
			lease.Owner{Network: strings.Repeat("n", 50), ContainerID: long, IfName: "eth0", PodNamespace: "shop", PodName: "web"},
			" " + strings.Repeat("n", 50) + "/0123456789ab/eth0 shop/web",
		},
		"no room for the pod": {
			lease.Owner{Network: "n", ContainerID: "c", IfName: "eth0", PodNamespace: "s", PodName: strings.Repeat("p", 200)},
			" n/c/eth0 s/" + strings.Repeat("p", 101),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := note(c.owner)
			if !strings.HasPrefix(got, c.owner.HostName()) || !strings.HasSuffix(got, c.want) || len(got) > 128 {
				t.Errorf("got %q (%d bytes), want ...%q", got, len(got), c.want)
			}
			e := entry{set: "hostports4", note: got}
			if e.holder() != c.owner.HostName() || !e.of(c.owner.Network) || e.of("other") {
				t.Errorf("%q is read as %q", got, e.holder())
			}
		})
	}
}

// One container more, with one port of both families, beside others: it costs the same whatever they have.
func BenchmarkHostPorts(b *testing.B) {
	for _, c := range []struct {
		name   string
		others int
		port   func(i int) string
	}{
		{"beside 1", 1, func(i int) string { return fmt.Sprintf("tcp 0.0.0.0:%d 10.88.0.5:80", 1000+i) }},
		{"beside 1000", 1000, func(i int) string { return fmt.Sprintf("tcp 0.0.0.0:%d 10.88.0.5:80", 1000+i) }},
		{"beside 1000 on one address", 1000, func(i int) string { return fmt.Sprintf("tcp 192.0.2.1:%d 10.88.0.5:80", 1000+i) }},
	} {
		for _, restrict := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/sources=%v", c.name, restrict), func(b *testing.B) {
				enterNew(b)
				f := Open()
				defer f.Close()
				next := routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "tcp [::]:8080 [2001:db8:88::5]:80")
				others := make([]string, c.others)
				for i := range others {
					others[i] = c.port(i)
				}
				first := routed(dns, others...)
				if restrict {
					next, first = restricted(next, "192.0.2.0/24"), restricted(first, "192.0.2.0/24")
				}
				publish(b, f, first)
				for b.Loop() {
					if _, _, err := f.ApplyHostPorts(next, everybody); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if _, err := f.ReleaseHostPorts(next.Owner, keys(next)); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}

// most is how many ports a transaction can hold: only the machine's root may have a socket that takes a larger message
// than net.core.wmem_max (SO_SNDBUFFORCE), and not the root of a user namespace.
func most(t *testing.T) int {
	t.Helper()
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(strings.Fields(string(users)), " ") == "0 0 4294967295" {
		return 1 << 15
	}
	return 1000
}

// More ports lead to one container than the kernel's default buffers hold messages for, and go again.
func TestThousandsOfPorts(t *testing.T) {
	f := fresh(t)
	var all []string
	for p := 1; p < most(t); p++ {
		all = append(all, fmt.Sprintf("tcp 0.0.0.0:%d 10.88.0.5:%d", p, p))
	}
	h := routed(web, all...)
	publish(t, f, h)
	if gone, err := f.ReleaseHostPorts(web, keys(h)); err != nil || len(gone) != len(all) {
		t.Errorf("%d ports released: %v", len(gone), err)
	}
	listed(t, "empty")
}
