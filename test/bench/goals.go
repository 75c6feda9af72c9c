package main

import (
	"math"
	"slices"

	"github.com/veth-cni/veth/test/bench/report"
)

// add and del are the samples of a contender in an experiment, nil where nothing was measured.
func (r *results) add(experiment, label string) []float64 {
	if s := r.samples[experiment][label]; s != nil {
		return s.add
	}
	return nil
}

func (r *results) del(experiment, label string) []float64 {
	if s := r.samples[experiment][label]; s != nil {
		return s.del
	}
	return nil
}

// goals are what the plugin has to reach.
func (r *results) goals() report.Section {
	between := report.Ratios
	var list []report.Goal
	least := func(what string, bound float64, samples, limit []float64) {
		list = append(list, report.Goal{What: what, Bound: bound, Samples: samples, Limit: limit})
	}
	most := func(what string, bound float64, samples []float64) {
		list = append(list, report.Goal{What: what, Bound: bound, AtMost: true, Samples: samples})
	}
	// Of two ways to configure the reference the one counts that is faster.
	fullAdd := faster(r.add("full", refFullIptables), r.add("full", refFullNftables))
	fullDel := faster(r.del("full", refFullIptables), r.del("full", refFullNftables))

	least("ADD, reference bridge with masquerading (nftables) / veth", 12,
		between(r.add("masquerade", refNftables), r.add("masquerade", vethBridge)),
		between(r.add("masquerade", refNftables), r.add("masquerade", leastBridge)))
	least("ADD, the reference's full chain / veth, the same job", 25,
		between(fullAdd, r.add("full", vethFull)), between(fullAdd, r.add("full", leastBridge)))
	least("DEL, reference bridge with masquerading (nftables) / veth", 20,
		between(r.del("masquerade", refNftables), r.del("masquerade", vethBridge)),
		between(r.del("masquerade", refNftables), r.del("masquerade", leastBridge)))
	least("DEL, the reference's full chain / veth, the same job", 50,
		between(fullDel, r.del("full", vethFull)), between(fullDel, r.del("full", leastBridge)))
	most("ADD, veth / floor, routed", 1.35, between(r.add("plain", vethRouted), r.add("plain", leastRouted)))
	most("ADD, veth / floor, bridge", 1.35, between(r.add("plain", vethBridge), r.add("plain", leastBridge)))
	most("ADD, veth, the full job / a plain one", 2, between(r.add("full", vethFull), r.add("full", vethBridge)))
	for _, size := range []struct {
		present int
		bound   float64
	}{{1000, 1.25}, {4000, 1.5}} {
		many, none := amongLabel(vethRouted, size.present), amongLabel(vethRouted, 0)
		most("ADD, routed, "+thousands(size.present)+" present / none", size.bound,
			between(r.add("present", many), r.add("present", none)))
		most("DEL, routed, "+thousands(size.present)+" present / none", size.bound,
			between(r.del("present", many), r.del("present", none)))
	}
	most("ADD, veth / floor, bridge, 900 present each", 1.35, between(
		r.add("bridge-present", amongLabel(vethBridge, 900)), r.add("bridge-present", amongLabel(leastBridge, 900))))
	least("200 ADDs by 8 callers, rate, veth / reference bridge with masquerading (nftables)", 12,
		r.burstRatio(vethBridge), r.burstRatio(leastBridge))
	list = append(list, report.Goal{
		What: "peak RSS of an ADD, veth / the reference's largest process, the full job", Bound: .5, AtMost: true,
		Samples: r.peakRatio(vethFull), Limit: r.peakRatio(leastRouted),
	})
	if r.options.short || len(r.options.only) < len(parts) {
		list = slices.DeleteFunc(list, func(g report.Goal) bool { return len(g.Samples) == 0 })
	}
	return report.Section{Title: "Our goals", Table: report.Goals(list, "the floor's")}
}

func faster(a, b []float64) []float64 {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = math.Min(a[i], b[i])
	}
	return out
}

func (r *results) burstRatio(label string) []float64 {
	ours, theirs := r.rates[burstLabel(label, 8)], r.rates[burstLabel(refNftables, 8)]
	if ours == nil || theirs == nil || r.options.short {
		return nil
	}
	return report.Ratios(ours.add, theirs.add)
}

func (r *results) peakRatio(label string) []float64 {
	peaks := map[string][]float64{}
	for _, k := range r.cost {
		peaks[k.label] = k.peaks
	}
	return report.Ratios(peaks[label], peaks[refFullIptables])
}
