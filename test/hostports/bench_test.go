package hostports

import (
	"fmt"
	"testing"
)

// An ADD with one port, beside a container with so many; the first line is one without ports at all. Compare the lines:
// what is mapped already must not matter.
func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct {
		name   string
		ports  []string
		others int
	}{
		{"without a port", nil, 0},
		{"a port, the first", []string{"tcp 8080 80"}, 0},
		{"a port beside 1", []string{"tcp 8080 80"}, 1},
		{"a port beside 1000", []string{"tcp 8080 80"}, 1000},
		{"a UDP port beside 1000", []string{"udp 8080 80"}, 1000},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := newMachine(b)
			var others []string
			for i := range c.others {
				others = append(others, fmt.Sprintf("tcp %d 80", 10000+i))
			}
			m.pod("others", ports(others...))
			p := m.pod("next", ports(c.ports...))
			m.must(p.del())
			for b.Loop() {
				m.must(p.add())
				b.StopTimer()
				m.must(p.del())
				b.StartTimer()
			}
		})
	}
}
