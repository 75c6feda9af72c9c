package isolation

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/frames"
)

// arrive sends frames on a pod's interface and tells which arrive, by the names in them. The last is an honest one.
func arrive(t *testing.T, from, at *wire, list []frames.Frame) map[string]bool {
	t.Helper()
	for _, f := range list {
		from.send(f.Bytes)
	}
	heard := at.heard([]byte(list[len(list)-1].Name))
	got := map[string]bool{}
	for _, f := range list {
		got[f.Name] = slices.ContainsFunc(heard, func(b []byte) bool { return bytes.HasSuffix(b, []byte(f.Name)) })
	}
	return got
}

// judge expects the honest frames to have arrived, and the others to have arrived or not.
func judge(t *testing.T, list []frames.Frame, got map[string]bool, cheatsArrive bool) {
	t.Helper()
	for _, f := range list {
		if want := f.Honest || cheatsArrive; got[f.Name] != want {
			t.Errorf("%s: arrives %v, want %v", f.Name, got[f.Name], want)
		}
	}
}

// unique makes frames end with a name that is no other's end.
func unique(list []frames.Frame) []frames.Frame {
	out := slices.Clone(list)
	for i, f := range out {
		out[i].Bytes = append(slices.Clone(f.Bytes), "/"+f.Name...)
		out[i].Name = "/" + f.Name
	}
	return out
}

// A container of a bridge tries all it can with raw frames. With antiSpoof only the honest ones arrive; without it all
// do, so the test would notice if it did not try.
func TestForgeryOnBridge(t *testing.T) {
	for name, antiSpoof := range map[string]bool{"antiSpoof": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.BridgeCallsNetfilter(false)
			conf := network("podnet", 0, bridge("br0"), object{"antiSpoof": antiSpoof})
			cheat, victim, receiver := m.pod(conf), m.pod(conf), m.pod(conf)
			m.must(m.Do(func() error { return noSnooping("br0") }))
			in, out := tap(t, receiver.Namespace), tap(t, cheat.Namespace)
			list := unique(append(frames.OnBridge(cheat.face(), victim.face(), receiver.face()),
				frames.Frame{Name: "the last", Honest: true, Bytes: frames.Ethernet(receiver.face().MAC, cheat.face().MAC, 0x88b5)}))
			judge(t, list, arrive(t, out, in, list), !antiSpoof)
			m.must(cheat.check())
			for _, p := range []*pod{victim, receiver} {
				if got := cheat.reaches(p.addresses()); slices.Contains(got, false) {
					t.Errorf("an honest ping is answered: %v", got)
				}
			}
			if got := cheat.reaches([]netip.Addr{world4, world6}); slices.Contains(got, false) {
				t.Errorf("the world answers: %v", got)
			}
		})
	}
}

// macspoofchk alone holds a container to its MAC, and to nothing else.
func TestForgedMACOnLockedPort(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.BridgeCallsNetfilter(false)
	conf := network("podnet", 0, bridge("br0"), object{"macspoofchk": true})
	cheat, victim, receiver := m.pod(conf), m.pod(conf), m.pod(conf)
	m.must(m.Do(func() error { return noSnooping("br0") }))
	in, out := tap(t, receiver.Namespace), tap(t, cheat.Namespace)
	list := unique(append(frames.OnBridge(cheat.face(), victim.face(), receiver.face()),
		frames.Frame{Name: "the last", Honest: true, Bytes: frames.Ethernet(receiver.face().MAC, cheat.face().MAC, 0x88b5)}))
	for name, arrives := range arrive(t, out, in, list) {
		forgedSource := strings.HasPrefix(name, "/forged MAC") || strings.HasPrefix(name, "/last byte of the MAC")
		if arrives == forgedSource {
			t.Errorf("%s: arrives %v", name, arrives)
		}
	}
}

// A container in routed mode forges sources. Neither the global reverse path filter nor its own matters, only antiSpoof.
func TestForgeryRouted(t *testing.T) {
	for _, c := range []struct {
		name      string
		changes   object
		all       string // net.ipv4.conf.all.rp_filter
		antiSpoof bool
	}{
		{"by default", nil, "0", true},
		{"with a loose reverse path filter", nil, "2", true},
		{"ptp", object{"type": "ptp"}, "2", true},
		{"trusted", object{"antiSpoof": false}, "0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.set("net/ipv4/conf/all/rp_filter", c.all)
			conf := network("podnet", 0, c.changes)
			cheat, victim, receiver := m.pod(conf), m.pod(conf), m.pod(conf)
			in, out := tap(t, receiver.Namespace), tap(t, cheat.Namespace)
			cheat.awaits(receiver) // with type ptp neighbours are resolved, which takes its time
			list := routedFrames(cheat, victim, receiver)
			judge(t, list, arrive(t, out, in, list), !c.antiSpoof)
			m.must(cheat.check())
			if c.changes["type"] == "ptp" {
				return // leads to no world by itself
			}
			for _, to := range [][]netip.Addr{{host4, host6}, {world4, world6}} {
				if got := cheat.reaches(to); slices.Contains(got, false) {
					t.Errorf("an honest ping to %v is answered: %v", to, got)
				}
			}
		})
	}
}

// routedFrames are what a container sends to another through its host end, with its own addresses and with others.
func routedFrames(cheat, victim, receiver *pod) []frames.Frame {
	me, other, to := cheat.face(), victim.face(), receiver.face()
	var list []frames.Frame
	add := func(name string, honest bool, source netip.Addr) {
		name = "/" + name + " " + source.String()
		packet, kind := frames.IPv4(source, to.IPv4, unix.IPPROTO_UDP, frames.UDP(name)), uint16(unix.ETH_P_IP)
		if source.Is6() {
			packet, kind = frames.IPv6(through(source, to.IPv6), frames.UDP(name)), unix.ETH_P_IPV6
		}
		list = append(list, frames.Frame{Name: name, Honest: honest, Bytes: frames.Ethernet(cheat.hostMAC(), me.MAC, kind, packet)})
	}
	add("another container", false, other.IPv4)
	add("another container", false, other.IPv6)
	add("nobody of the subnet", false, to.IPv4.Next().Next())
	add("nobody of the subnet", false, to.IPv6.Next().Next())
	add("the world", false, world4)
	add("the world", false, world6)
	add("itself", true, me.IPv6)
	add("itself", true, me.IPv4)
	return list
}

// through is the header of a datagram that goes through routers.
func through(source, destination netip.Addr) frames.Header6 {
	return frames.Header6{Source: source, Destination: destination, HopLimit: 64, Next: unix.IPPROTO_UDP}
}

// The host itself is no easier to lie to: forged packets do not reach a socket of its own.
func TestForgeryTowardsTheHost(t *testing.T) {
	for name, mode := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		for _, antiSpoof := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := newMachine(t)
				conf := network("podnet", 0, mode, object{"antiSpoof": antiSpoof})
				cheat, victim := m.pod(conf), m.pod(conf)
				to := cheat.hostMAC()
				if mode != nil {
					m.must(m.Do(func() error { return byName("br0", &to) }))
				}
				out, inbox := tap(t, cheat.Namespace), listenUDP(t, m.Namespace)
				me, other := cheat.face(), victim.face()
				for _, source := range []netip.Addr{other.IPv4, other.IPv6, me.IPv4, me.IPv6} {
					if source.Is4() {
						out.send(frames.Ethernet(to, me.MAC, unix.ETH_P_IP, frames.IPv4(source, host4, unix.IPPROTO_UDP, frames.UDP(source.String()))))
						continue
					}
					out.send(frames.Ethernet(to, me.MAC, unix.ETH_P_IPV6, frames.IPv6(through(source, host6),
						frames.WithChecksum(frames.UDP(source.String()), source, host6))))
				}
				got := inbox(me.IPv6.String())
				want := map[string]bool{me.IPv4.String(): true, me.IPv6.String(): true}
				if !antiSpoof {
					want[other.IPv4.String()], want[other.IPv6.String()] = true, true
				}
				if !maps.Equal(got, want) {
					t.Errorf("the host hears from %v, want %v", got, want)
				}
			})
		}
	}
}
