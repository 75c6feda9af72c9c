package plan_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// shaping is what a plan says of bandwidth: the shapers towards and from the container, and the policer.
type shaping struct {
	in, out *plan.Shaper
	policer *plan.Policer
}

func shape(cfg *netconf.Config) shaping {
	cfg.Network, cfg.Type, cfg.Attachment.IfName = "podnet", netconf.TypeVeth, "eth0"
	var s shaping
	addrs := plan.Addresses{List: []plan.Assigned{{Prefix: netip.MustParsePrefix("10.88.0.5/24")}}}
	for _, o := range plan.Build(cfg, addrs).Objects() {
		switch o := o.(type) {
		case plan.Shaper:
			if o.Place == plan.Host {
				s.in = &o
			} else {
				s.out = &o
			}
		case plan.Policer:
			s.policer = &o
		}
	}
	return s
}

func TestBandwidthObjects(t *testing.T) {
	const latency = 25 * time.Millisecond
	for _, tt := range []struct {
		name      string
		bandwidth netconf.Bandwidth
		mtu       int
		in, out   plan.Shaper
		policer   plan.Policer
	}{
		{name: "none"},
		{
			"100 Mbit/s both ways, bursts from the kubelet",
			netconf.Bandwidth{
				Ingress: netconf.Limit{Rate: 1e8, Burst: 1<<31 - 1}, Egress: netconf.Limit{Rate: 1e8, Burst: 1<<31 - 1},
				Latency: latency,
			},
			0,
			plan.Shaper{Rate: 12_500_000, Burst: 312_500, Queue: 312_500},
			plan.Shaper{Rate: 12_500_000, Burst: 312_500, Queue: 312_500},
			plan.Policer{Rate: 12_500_000, Burst: 937_500},
		},
		{
			"10 Mbit/s from the container, no burst",
			netconf.Bandwidth{Egress: netconf.Limit{Rate: 1e7}, Latency: latency},
			0,
			plan.Shaper{},
			plan.Shaper{Rate: 1_250_000, Burst: 31_250, Queue: 31_250, GSO: 7812},
			plan.Policer{Rate: 1_250_000, Burst: 93_750},
		},
		{
			"a small burst",
			netconf.Bandwidth{Egress: netconf.Limit{Rate: 1e8, Burst: 8 * 20_000}, Latency: latency},
			0,
			plan.Shaper{},
			plan.Shaper{Rate: 12_500_000, Burst: 20_000, Queue: 312_500},
			plan.Policer{Rate: 12_500_000, Burst: 645_000},
		},
		{
			"a burst too small for the rate",
			netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1e9, Burst: 8}, Latency: latency},
			0,
			plan.Shaper{Rate: 125_000_000, Burst: 125_000, Queue: 3_125_000},
			plan.Shaper{},
			plan.Policer{},
		},
		{
			"a latency below the burst's",
			netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1e9, Burst: 1 << 31}, Latency: 2 * time.Millisecond},
			0,
			plan.Shaper{Rate: 125_000_000, Burst: 250_000, Queue: 250_000},
			plan.Shaper{},
			plan.Policer{},
		},
		{
			"a long latency",
			netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1e9, Burst: 1 << 31}, Latency: time.Second},
			0,
			plan.Shaper{Rate: 125_000_000, Burst: 6_250_000, Queue: 125_000_000},
			plan.Shaper{},
			plan.Policer{},
		},
		{
			"the slowest, a frame and ten",
			netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1000}, Egress: netconf.Limit{Rate: 1000}, Latency: latency},
			0,
			plan.Shaper{Rate: 125, Burst: 1518, Queue: 15_180},
			plan.Shaper{Rate: 125, Burst: 1518, Queue: 15_180, GSO: 3795},
			plan.Policer{Rate: 125, Burst: 1524},
		},
		{
			"jumbo frames",
			netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1000}, Latency: latency},
			9000,
			plan.Shaper{Rate: 125, Burst: 9018, Queue: 90_180},
			plan.Shaper{},
			plan.Policer{},
		},
		{
			"the fastest",
			netconf.Bandwidth{Egress: netconf.Limit{Rate: 1e15, Burst: math.MaxUint64}, Latency: time.Second},
			0,
			plan.Shaper{},
			plan.Shaper{Rate: 125e12, Burst: math.MaxUint32, Queue: math.MaxUint32},
			plan.Policer{Rate: 125e12, Burst: math.MaxUint32 + 6_250_000_000_000},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shape(&netconf.Config{Bandwidth: tt.bandwidth, MTU: tt.mtu})
			hostEnd := plan.Owner(&netconf.Config{Network: "podnet", Attachment: netconf.Attachment{IfName: "eth0"}}).HostName()
			tt.in.Link, tt.out.Link, tt.out.Place, tt.policer.Link = hostEnd, "eth0", plan.Container, hostEnd
			for _, x := range []struct{ got, want string }{
				{show(got.in), show(present(tt.in, tt.in.Rate))},
				{show(got.out), show(present(tt.out, tt.out.Rate))},
				{show(got.policer), show(present(tt.policer, tt.policer.Rate))},
			} {
				if x.got != x.want {
					t.Errorf("got  %s\nwant %s", x.got, x.want)
				}
			}
		})
	}
}

func present[T any](o T, rate uint64) *T {
	if rate == 0 {
		return nil
	}
	return &o
}

func show[T any](o *T) string {
	if o == nil {
		return "nothing"
	}
	return fmt.Sprintf("%+v", *o)
}

// Whatever is asked for, no second has more than 110 % of the rate, unless a tenth of a second is less than a frame; the
// policer never drops what the shaper let pass; a packet that fits the bucket fits the queue.
func TestBandwidthIsBounded(t *testing.T) {
	const frame = 1518
	for rate := uint64(1000); rate <= 1e15; rate = rate*7/2 + 13 {
		for _, burst := range []uint64{0, 1, 12_000, 1 << 20, 1<<31 - 1, 256 << 23, math.MaxUint64} {
			for _, latency := range []time.Duration{1, 25, 50, 400, 1000} {
				limit := netconf.Limit{Rate: rate, Burst: burst}
				asked := netconf.Bandwidth{Ingress: limit, Egress: limit, Latency: latency * time.Millisecond}
				got := shape(&netconf.Config{Bandwidth: asked})
				second, in, out := float64(rate)/8, *got.in, *got.out
				most := max(second/10, frame)
				if float64(in.Burst) > most/2 && in.Burst != frame {
					t.Errorf("%+v in %v ms: shaper burst %d, want at most %f", limit, latency, in.Burst, most/2)
				}
				if float64(got.policer.Burst) > max(second/10, second/20+frame) {
					t.Errorf("%+v in %v ms: policer burst %d, want at most %f", limit, latency, got.policer.Burst, most)
				}
				if got.policer.Rate != out.Rate || got.policer.Burst < uint64(out.Burst) {
					t.Errorf("%+v in %v ms: the policer %+v drops what the shaper %+v lets pass", limit, latency, *got.policer, out)
				}
				if out.Burst < frame || out.Queue < out.Burst || out.Queue < 10*frame {
					t.Errorf("%+v in %v ms: %+v: want a frame to fit, and ten to wait", limit, latency, out)
				}
				waits := float64(out.Queue) / second * 1000
				if out.Queue != 10*frame && out.Burst != frame && waits > float64(latency) {
					t.Errorf("%+v: a packet waits %f ms, want at most %d", limit, waits, latency)
				}
				if out.GSO != 0 && (out.GSO < 2*frame || out.GSO > out.Queue/4) {
					t.Errorf("%+v in %v ms: %+v: the longest packet is no fraction of the queue", limit, latency, out)
				}
			}
		}
	}
}
