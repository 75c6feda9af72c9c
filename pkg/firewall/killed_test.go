package firewall

import "testing"

// mortal is the socket of a process that is killed when it sends once more than it may.
type mortal struct {
	transport
	left int
}

type death struct{}

func (m *mortal) send(msgs []message) error {
	if m.left == 0 {
		panic(death{})
	}
	m.left--
	return m.transport.send(msgs)
}

// killed runs a verb in a process that may send so often, and reports whether that was too little.
func killed(t *testing.T, after int, verb func(*Firewall) error) (dead bool) {
	t.Helper()
	s, err := newSocket()
	must(t, err)
	f := Firewall{conn: conn{socket: &mortal{s, after}}}
	defer f.Close()
	defer func() {
		x := recover()
		if _, dead = x.(death); !dead && x != nil {
			panic(x)
		}
	}()
	must(t, verb(&f))
	return false
}

// whole reports whether CHECK has nothing to say about a feature.
func whole(t *testing.T, f *Firewall, x feature) bool {
	t.Helper()
	got, err := x.observe(f)
	must(t, err)
	return got == "ok" || got == ""
}

// Wherever a DEL is killed, the same again, GC, or an ADD and DEL of another leave nothing, and others lose nothing.
func TestKilledUndo(t *testing.T) {
	others := features(lab, 2)
	for i, x := range features(web, 1) {
		other := others[i]
		for name, then := range map[string]func(t *testing.T, f *Firewall){
			"again":      func(t *testing.T, f *Firewall) { must(t, x.undo(f)) },
			"collected":  func(t *testing.T, f *Firewall) { must(t, x.collect(f)) },
			"by another": func(t *testing.T, f *Firewall) { must(t, other.apply(f)) },
		} {
			t.Run(x.name+", "+name, func(t *testing.T) {
				t.Parallel()
				survived := func(after int, beside bool) bool {
					f := fresh(t)
					must(t, x.apply(f))
					if beside {
						must(t, other.apply(f))
					}
					dead := killed(t, after, x.undo)
					early := name == "by another" && whole(t, f, x) // before anything was changed: nobody else removes it
					then(t, f)
					if (beside || name == "by another") && !whole(t, f, other) {
						t.Errorf("killed after %d messages, it has taken from others", after)
					}
					if early {
						must(t, x.undo(f))
					}
					must(t, other.undo(f))
					if got := nft(t, "list", "ruleset"); got != "" {
						t.Errorf("killed after %d messages, there is still\n%s", after, got)
					}
					return !dead
				}
				for _, beside := range []bool{false, true} {
					for after := 0; (x.owned() || !beside) && !survived(after, beside); after++ {
						if after == 100 {
							t.Fatal("it sends messages without end")
						}
					}
				}
			})
		}
	}
}

// A DEL asks no more than it has to. What it asks for a list's beginning, on a socket of its own, does not count here.
func TestQuestionsOfUndo(t *testing.T) {
	ports := bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80")
	none := func(*testing.T, *Firewall) {}
	one := func(t *testing.T, f *Firewall) { publish(t, f, ports) }
	two := func(t *testing.T, f *Firewall) { publish(t, f, ports, bridged(dns, "tcp 0.0.0.0:8081 10.88.0.6:80")) }
	unclaimed := func(f *Firewall) error { _, err := f.ReleaseHostPorts(lab, nil); return err }
	release := func(f *Firewall) error { _, err := f.ReleaseHostPorts(web, keys(ports)); return err }
	unmask := func(f *Firewall) error { return f.Unmask("podnet", web.HostName()) }
	for _, c := range []struct {
		name   string
		before func(*testing.T, *Firewall)
		verb   func(*Firewall) error
		want   int
	}{
		{"no table, no address", none, unmask, 1},
		{"no table, no ports", none, unclaimed, 1},
		{"no table, ports", none, release, 1},
		{"no ports beside others", two, unclaimed, 1},
		{"ports beside others", two, release, 3}, // the look, addresses that lead back to themselves, and the change
		{"the last ports", one, release, 5},      // and the look and the change of what they all share
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, enough := range []bool{false, true} {
				c.before(t, fresh(t))
				after := c.want
				if !enough {
					after--
				}
				if dead := killed(t, after, c.verb); dead == enough {
					t.Errorf("with %d messages: done %v, want %v", after, !dead, enough)
				}
			}
		})
	}
}
