package firewall

import (
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Firewall is the plugin's nftables table in one network namespace. It belongs to one goroutine.
type Firewall struct {
	// Survey looks for other networks when one is retired; nil: there are none.
	Survey Survey

	conn conn
}

// Open returns the table of the calling thread's network namespace. It costs nothing: the socket is opened at the first
// use, in the namespace the thread is in then, and stays open until Close.
func Open() *Firewall { return &Firewall{} }

// Close releases the sockets. The last copy of a netfilter socket, anybody's, that is closed in a network namespace waits
// until the kernel has freed what was deleted from nftables there, some 10 ms (nft_rcv_nl_event in
// net/netfilter/nf_tables_api.c, Linux 5.17).
func (f *Firewall) Close() { f.conn.close() }

// Descriptors are those of the open sockets: a process that inherits them makes Close return at once.
func (f *Firewall) Descriptors() []int {
	var list []int
	if s, open := f.conn.socket.(*socket); open {
		list = append(list, s.fd)
	}
	for _, s := range f.conn.unread {
		list = append(list, s.fd)
	}
	return list
}

// Probe reports whether the kernel can do what Apply asks of it, by rehearsing whatever of the table is missing: the
// kernel reads all the messages and throws them away (from Linux 5.12 it validates them too, as for nft --check).
// It fails with FeatureMissing, naming the kernel option, or with KernelRefused.
func (f *Firewall) Probe() error { return f.probe(masquerading()) }

func (f *Firewall) probe(p part) error {
	return f.transact(query{part: p}, f.conn.rehearse, func(s *state) ([]message, error) {
		if len(s.defects()) == 0 {
			return nil, nil
		}
		return s.rehearsal(), nil
	})
}

// observe looks at a part of the table.
func (f *Firewall) observe(q query) (s *state, err error) {
	err = retry(func() error {
		s, err = f.conn.examine(q)
		return err
	})
	return s, err
}

// transact observes and lets decide say what to change, then sends that for the generation that was observed. When
// anyone has changed the ruleset meanwhile it starts over, so decide may run several times. No messages, no change.
func (f *Firewall) transact(q query, send sender, decide func(*state) ([]message, error)) error {
	q.change = true
	return retry(func() error {
		s, err := f.conn.look(q)
		if err != nil {
			return err
		}
		msgs, err := decide(s)
		if err != nil || len(msgs) == 0 {
			return err
		}
		return send(s.generation, q.addressed(msgs))
	})
}

// settle is transact for whoever makes a part whole. A dormant table is woken first, in a transaction of its own: the
// kernel takes no new base chain in the one that wakes it (EINVAL, __NFT_TABLE_F_UPDATE in net/netfilter/nf_tables_api.c,
// Linux 6.9 and the stable kernels of that time). What was decided on the old, as sweep explains, the kernel refuses because
// what it changes has gone, or what it adds is there: then it is decided anew.
func (f *Firewall) settle(q query, decide func(*state) ([]message, error)) error {
	var err error
	for range 3 {
		err = f.transact(q, f.conn.commit, func(s *state) ([]message, error) {
			if s.table == nil || !s.table.dormant {
				return decide(s)
			}
			if err := f.conn.commit(s.generation, q.addressed([]message{wakeTable(q.part)})); err != nil {
				return nil, err
			}
			return nil, unix.ERESTART // the ruleset has another generation now
		})
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

// retire lets decide say what of somebody's is to go, and then removes the part if nothing keeps it: also if there was
// nothing to go, because whoever removed that may have been killed before the rest.
func (f *Firewall) retire(p part, q query, decide func(*state) ([]message, error)) error {
	there := false
	err := f.transact(q, f.conn.commit, func(s *state) ([]message, error) {
		if there = s.table != nil; !there {
			return nil, nil
		}
		return decide(s)
	})
	if err != nil || !there {
		return err
	}
	return f.sweep(p)
}

// sweep removes a part that nobody needs any more, and the table with it if there is nothing else in it. Both it looks for
// after the caller's commit, or its own. Commits follow one another, so of several that take the last away at the same time,
// the very last finds nothing left.
//
// What is there by then keeps the part: not a look decides but the kernel. No look could. The generation is counted up a
// moment before what is new is shown (nf_tables_commit in net/netfilter/nf_tables_api.c), so one in between finds the old,
// and a commit for that generation is accepted.
func (f *Firewall) sweep(p part) error {
	for range 3 { // what has come into the table meanwhile is seen the next time
		if kept, err := f.kept(p); err != nil || kept {
			return err
		}
		others, err := f.drop(p)
		if err == nil && others {
			_, err = f.drop(part{bridges: p.bridges})
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) { // somebody came, or removed it at the same time
			return err
		}
	}
	return nil
}

// kept reports whether there is an element that keeps a part.
func (f *Firewall) kept(p part) (bool, error) {
	for _, s := range p.allSets() {
		if !s.keeps {
			continue
		}
		if list, err := f.conn.some(s.name); err != nil || len(list) > 0 {
			return true, err
		}
	}
	return false, nil
}

// drop removes a part, and the table too unless there is something else in it: others says that the table was left for that.
func (f *Firewall) drop(p part) (others bool, err error) {
	err = f.transact(query{part: p, brief: true, whole: true}, f.conn.commit, func(s *state) ([]message, error) {
		if others = false; s.table == nil {
			return nil, nil
		}
		msgs := s.remove()
		others = len(msgs) > 0 && s.others()
		return msgs, nil
	})
	return others, err
}

type sender func(generation uint32, msgs []message) error

// patience is how often something is tried that others interrupt by changing the ruleset. Each interruption means that
// somebody got something done: calls of this plugin wait for one another only while there are any to wait for.
const patience = 200

// retry calls try until it is neither refused for an outdated generation (ERESTART) nor a dump was interrupted (EINTR).
func retry(try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, unix.ERESTART) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n == patience {
			return cnierr.Wrap(cnierr.KernelRefused, err,
				"nftables: the ruleset was changed by others during each of %d attempts; try again", patience)
		}
		time.Sleep(rand.N(time.Duration(min(n, 20)) * 100 * time.Microsecond))
	}
}
