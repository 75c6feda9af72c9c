package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/lease"
)

// outdated is the socket of a process whose nth transaction was decided on what was there before somebody else's, and is
// accepted nevertheless. So it goes to whoever looks while the kernel has counted up the generation and does not show yet
// what is new. No test can wait for that moment; here the generation is set right.
type outdated struct {
	transport
	nth       int
	meanwhile func()
	current   func() uint32
}

func (o *outdated) send(msgs []message) error {
	if msgs[0].kind == unix.NFNL_MSG_BATCH_BEGIN {
		if o.nth--; o.nth == 0 {
			o.meanwhile()
			data := msgs[0].data
			binary.BigEndian.PutUint32(data[len(data)-4:], o.current())
		}
	}
	return o.transport.send(msgs)
}

// Of two who are the last, each may see the other when it removes what is its own, or its part of the table. One of them
// finds nothing then, and takes what is left.
func TestTwoAreTheLast(t *testing.T) {
	for _, x := range features(web, 1) {
		neighbour := portsFeature("host ports of some in the same network",
			restricted(bridged(dns, "tcp 0.0.0.0:80 10.88.0.6:80"), "192.0.2.0/24"))
		for _, other := range append(features(lab, 2), neighbour) {
			if x.family() != other.family() || x.part.bridges {
				continue
			}
			t.Run(x.name+" and "+other.name, func(t *testing.T) {
				t.Parallel()
				late := func(nth int) bool {
					first := fresh(t)
					must(t, x.apply(first))
					must(t, other.apply(first))
					s, err := newSocket()
					must(t, err)
					o := &outdated{
						transport: s, nth: nth, current: func() uint32 { return generation(t, first) },
						meanwhile: func() { must(t, other.undo(first)) },
					}
					second := Firewall{conn: conn{socket: o}}
					defer second.Close()
					must(t, x.undo(&second))
					if o.nth > 0 {
						must(t, other.undo(first))
					}
					if got := nft(t, "list", "ruleset"); got != "" {
						t.Errorf("transaction %d decided on what was there before: there is still\n%s", nth, got)
					}
					return o.nth > 0
				}
				for nth := 1; !late(nth); nth++ {
					if nth == 10 {
						t.Fatal("it makes transactions without end")
					}
				}
			})
		}
	}
}

// An ADD that decided on what was there before somebody came, or went, decides anew.
func TestAddBesideAnother(t *testing.T) {
	for _, x := range features(web, 1) {
		for _, other := range features(lab, 2) {
			if x.family() != other.family() || !x.owned() || !other.owned() {
				continue
			}
			for name, comes := range map[string]bool{"who comes": true, "who goes": false} {
				t.Run(x.name+" beside "+other.name+", "+name, func(t *testing.T) {
					t.Parallel()
					f := fresh(t)
					meanwhile := func() { must(t, other.apply(f)) }
					if !comes {
						meanwhile()
						meanwhile = func() { must(t, other.undo(f)) }
					}
					s, err := newSocket()
					must(t, err)
					o := &outdated{transport: s, nth: 1, current: func() uint32 { return generation(t, f) }, meanwhile: meanwhile}
					second := Firewall{conn: conn{socket: o}}
					defer second.Close()
					if err := x.apply(&second); err != nil || o.nth != 0 {
						t.Errorf("ADD: %v", err)
					}
					if !whole(t, f, x) || comes && !whole(t, f, other) {
						t.Errorf("not all is there:\n%s", nft(t, "list", "ruleset"))
					}
					must(t, x.undo(f))
					must(t, other.undo(f))
					listed(t, "empty")
				})
			}
		}
	}
}

// Attachments come and go at the same time, each with something else of the table: each has what is its own right after it
// asked for it, and nothing is left.
func TestRaceToTheLast(t *testing.T) {
	fresh(t)
	parallel(t, 8, func(i int, f *Firewall) {
		owner := lease.Owner{Network: fmt.Sprint("net", i), ContainerID: "c", IfName: "eth0"}
		list := slices.DeleteFunc(features(owner, i+1), func(x feature) bool { return !x.owned() })
		for n := range 10 {
			x := list[(i+n)%len(list)]
			applied := x.apply(f)
			state, observed := x.observe(f)
			err := errors.Join(applied, observed, x.undo(f))
			if err != nil || state != "ok" && state != "" {
				t.Errorf("%s of %s: CHECK says %q: %v", x.name, owner.Network, state, err)
			}
		}
	})
	listed(t, "empty")
}

// torn is the socket of a process that lists rules while somebody makes them anew: once it sees a rule both as it was and as
// it is.
type torn struct {
	transport
	done bool
}

func (s *torn) receive(answers []answer, most int) ([]answer, error) {
	msgs, err := s.transport.receive(answers, most)
	if err == nil && !s.done && msgs[len(msgs)-1].kind&0xff == unix.NFT_MSG_NEWRULE {
		s.done, msgs = true, append(msgs, msgs[len(msgs)-1])
	}
	return msgs, err
}

// CHECK believes what is wrong only when it has seen it twice.
func TestTornList(t *testing.T) {
	for _, x := range features(web, 1) {
		f := fresh(t)
		must(t, x.apply(f))
		s, err := newSocket()
		must(t, err)
		check := Firewall{conn: conn{socket: &torn{transport: s}}}
		defer check.Close()
		if !whole(t, &check, x) || !check.conn.socket.(*torn).done {
			state, _ := x.observe(&check)
			t.Errorf("%s: CHECK sees what is not there, and then %q", x.name, state)
		}
	}
}
