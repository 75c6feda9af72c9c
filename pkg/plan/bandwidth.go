package plan

import (
	"cmp"
	"math"
	"strconv"
	"time"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Shaper holds back what an interface sends beyond a rate: a token bucket (tbf) as its root queueing discipline. It dies
// with the interface.
type Shaper struct {
	Place Place
	Link  string
	Rate  uint64 // bytes a second, of Ethernet frames
	Burst uint32 // bytes that may pass at once; longer GSO packets are taken apart
	Queue uint32 // bytes that wait; what comes after them is dropped
	// GSO is the longest packet, in bytes, that TCP on this side builds for the interface, 0: the kernel's choice. Many
	// packets to a queue let TCP feel the queue fill, where one that is longer than the queue loses its tail.
	GSO uint32
}

// ID implements Object.
func (s Shaper) ID() string { return s.Place.String() + " shaper " + s.Link }

// Fields implements Object.
func (s Shaper) Fields() []Field {
	return []Field{
		{"rate", bitsPerSecond(s.Rate)},
		{"burst", size(uint64(s.Burst))},
		{"queue", size(uint64(s.Queue))},
		{"gso_max_size", number(int(s.GSO))},
	}
}

// Policer drops what a host end receives from its container beyond a rate, before anything else of the host sees it. It
// dies with the interface. It is the law to the container's own Shaper: while that is in place there is nothing to drop.
type Policer struct {
	Link  string
	Rate  uint64 // bytes a second, of Ethernet frames
	Burst uint64 // bytes that may pass at once
}

// ID implements Object.
func (p Policer) ID() string { return "host policer " + p.Link }

// Fields implements Object.
func (p Policer) Fields() []Field {
	return []Field{{"rate", bitsPerSecond(p.Rate)}, {"burst", size(p.Burst)}}
}

func bitsPerSecond(bytes uint64) string {
	if bytes == 0 {
		return ""
	}
	return strconv.FormatUint(bytes*8, 10) + "bit/s"
}

func size(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10) + "B"
}

// The token buckets start full, so in its first second a container moves its rate and one burst. A burst is at most
// burstTime of the rate, and the policer's is policerSlack longer than the shaper's before it, because the packets that
// a busy processor has held up arrive together. The sum is a tenth of a second: a first second has never more than 110 %
// of the rate, even for a container that has removed its own shaper.
const (
	burstTime    = 50 * time.Millisecond
	policerSlack = 50 * time.Millisecond
	// leastBurst keeps a burst that was asked for from being so small that the rate cannot be reached.
	leastBurst = time.Millisecond
)

const (
	vethMTU = 1500 // the kernel's choice for a veth (ETH_DATA_LEN)
	// framing is what a frame has beyond the MTU: an Ethernet header (ETH_HLEN) and one VLAN tag (VLAN_HLEN).
	framing = 14 + 4
	// leastQueue is the packets that wait at least: TCP's initial window (RFC 6928), which arrives at once.
	leastQueue = 10
	// gsoPerQueue is how many of the longest packets of the container's own fill its queue.
	gsoPerQueue = 4
	longestGSO  = 1 << 16 // the kernel's choice (GSO_LEGACY_MAX_SIZE)
)

// bandwidth holds back both directions on the side that sends, where TCP feels it without losing a packet: towards the
// container on the host end, and from it inside. The container may lift what is inside, hence the policer on the host end.
// It comes before the container's end is up: to change the queue of an interface that is up, the kernel waits until no
// packet is on its way through it.
func (b *builder) bandwidth() {
	hostEnd, peer, w := b.plan.Pair.Host, b.plan.Pair.Peer, b.cfg.Bandwidth
	if w.Ingress.Rate != 0 {
		b.plan.Outside = append(b.plan.Outside, b.shaper(Host, hostEnd, w.Ingress))
	}
	if w.Egress.Rate != 0 {
		inside := b.shaper(Container, peer, w.Egress)
		if longest := inside.Queue / gsoPerQueue; longest < longestGSO {
			inside.GSO = longest
		}
		b.plan.Inside = append(b.plan.Inside, inside)
		b.plan.Guards = append(b.plan.Guards, Policer{
			Link: hostEnd, Rate: inside.Rate, Burst: uint64(inside.Burst) + during(inside.Rate, policerSlack),
		})
	}
}

// shaper turns bits into bytes and limits the burst to what the latency allows: no packet, however long, takes longer
// to leave than the whole queue may.
func (b *builder) shaper(place Place, link string, l netconf.Limit) Shaper {
	rate := l.Rate / 8
	frame := uint64(cmp.Or(b.cfg.Bandwidth.MTU, b.plan.Pair.MTU, vethMTU) + framing)
	burst := during(rate, min(burstTime, b.cfg.Bandwidth.Latency))
	if l.Burst != 0 {
		burst = min(burst, max(l.Burst/8, during(rate, leastBurst)))
	}
	burst = max(burst, frame)
	queue := max(burst, during(rate, b.cfg.Bandwidth.Latency), leastQueue*frame)
	return Shaper{Place: place, Link: link, Rate: rate, Burst: clamp(burst), Queue: clamp(queue)}
}

// during is what passes in a time at a rate. No rate that netconf accepts overflows.
func during(rate uint64, d time.Duration) uint64 {
	return rate * uint64(d/time.Millisecond) / 1000
}

// clamp fits bytes into the 32 bits the kernel has for them (struct tc_tbf_qopt).
func clamp(bytes uint64) uint32 {
	return uint32(min(bytes, math.MaxUint32))
}
