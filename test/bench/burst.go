package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/veth-cni/veth/test/bench/chart"
	"github.com/veth-cni/veth/test/bench/report"
)

// bursts measures many containers that come and go at once.
type bursts struct {
	contenders []*contender
	size       int   // containers of a burst
	workers    []int // at a time
}

// rates are a contender's at one number of workers: calls in a second, one number for each round.
type rates struct {
	add, del []float64
	gone     []float64 // DELs in a second, counted until the kernel has tidied up behind the last
}

func newBursts(size int, workers []int) *bursts {
	nft, _ := backend("nftables")
	return &bursts{
		contenders: []*contender{
			ours(vethRouted, with(routed, masked)),
			ours(vethBridge, with(bridged, masked)),
			theirs(refNftables, vethBridge, with(refBridge, nft)),
			least(leastBridge, vethBridge, true, false),
		},
		size: size, workers: workers,
	}
}

func burstLabel(label string, workers int) string {
	return fmt.Sprintf("%s, %d at a time", label, workers)
}

// run takes turns among contenders within a round, for each number of workers.
func (b *bursts) run(rounds int) (map[string]*rates, error) {
	e := experiment{contenders: b.contenders}
	defer e.close()
	if err := e.open(); err != nil {
		return nil, err
	}
	out := map[string]*rates{}
	order := slices.Clone(b.contenders)
	for range rounds {
		for _, workers := range b.workers {
			for _, c := range order {
				label := burstLabel(c.label, workers)
				if out[label] == nil {
					out[label] = &rates{}
				}
				if err := b.once(c, workers, out[label]); err != nil {
					return nil, err
				}
			}
		}
		slices.Reverse(order)
	}
	return out, nil
}

// once attaches as many containers as a burst has, and then detaches them.
func (b *bursts) once(c *contender, workers int, r *rates) error {
	containers, err := create("burst", b.size)
	defer func() {
		closeAll(containers)
		settle()
	}()
	if err != nil {
		return err
	}
	list := c.attachments(containers)
	add, err := c.all((*contender).add, list, workers)
	if err != nil {
		return err
	}
	if err := reap(); err != nil {
		return err
	}
	start := time.Now()
	del, err := c.all((*contender).del, list, workers)
	if err != nil {
		return err
	}
	if err := reap(); err != nil {
		return err
	}
	gone := time.Since(start)
	perSecond := func(d time.Duration) float64 { return float64(b.size) / d.Seconds() }
	r.add, r.del = append(r.add, perSecond(add)), append(r.del, perSecond(del))
	r.gone = append(r.gone, perSecond(gone))
	return nil
}

// panels are the chart's, two for each number of workers.
func (b *bursts) panels(all map[string]*rates) []chart.Panel {
	var panels []chart.Panel
	for _, workers := range b.workers {
		add := chart.Panel{Title: fmt.Sprintf("ADDs in a second, %d at a time", workers)}
		del := chart.Panel{Title: fmt.Sprintf("DELs in a second, %d at a time", workers)}
		for _, c := range b.contenders {
			r, ours := all[burstLabel(c.label, workers)], all[burstLabel(c.beside, workers)]
			add.Bars = append(add.Bars, bar(c, r.add, report.Ratios(r.add, ours.add)))
			del.Bars = append(del.Bars, bar(c, r.del, report.Ratios(r.del, ours.del)))
		}
		panels = append(panels, add, del)
	}
	return panels
}

func (b *bursts) table(all map[string]*rates) report.Table {
	t := report.Table{Head: []string{
		"at a time", "", "ADD/s", "of veth's", "DEL/s", "of veth's", "DEL/s until the kernel is done",
	}}
	for _, workers := range b.workers {
		for _, c := range b.contenders {
			r, ours := all[burstLabel(c.label, workers)], all[burstLabel(c.beside, workers)]
			row := []string{fmt.Sprint(workers), c.label, spread(r.add), "", spread(r.del), "", spread(r.gone)}
			if c.beside != c.label {
				row[3], row[5] = ratio(r.add, ours.add), ratio(r.del, ours.del)
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

func spread(samples []float64) string { return report.Spread(report.Summarize(samples)) }

func ratio(num, den []float64) string {
	return report.Factor(report.Summarize(report.Ratios(num, den)).Median)
}
