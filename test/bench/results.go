package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veth-cni/veth/test/bench/chart"
	"github.com/veth-cni/veth/test/bench/report"
)

// results collects what was measured.
type results struct {
	options  options
	took     time.Duration
	load     string             // before
	samples  map[string]samples // by the experiment's name
	rates    map[string]*rates  // of bursts, by label
	cost     []*cost
	sections []report.Section
	charts   []file
}

type file struct{ name, content string }

// experiment runs one and makes its section.
func (r *results) experiment(e *experiment) (report.Section, error) {
	e.contenders = choose(e.contenders)
	rounds := r.options.times(e.rounds)
	all, err := e.run(rounds)
	if err != nil {
		return report.Section{}, err
	}
	r.samples[e.name] = all
	t := report.Table{Head: []string{"", "ADD, ms", "of veth's", "DEL, ms", "of veth's"}}
	for _, c := range e.contenders {
		s, ours := all[c.label], all[c.beside]
		row := []string{c.label, spread(s.add), "", spread(s.del), ""}
		if c.label != c.beside && ours != nil {
			row[2], row[4] = ratio(s.add, ours.add), ratio(s.del, ours.del)
		}
		t.Rows = append(t.Rows, row)
	}
	drawn := barChart(e, all)
	if e.lines {
		drawn = lineChart(e, all)
	}
	return report.Section{
		Title: e.title, Text: e.text, Images: r.image(e.name, drawn), Table: t,
		Notes: fmt.Sprintf("Medians of %d rounds (p10 – p90).", rounds),
	}, nil
}

func (r *results) image(name string, c chart.Chart) []report.Image {
	f := file{"control-" + name + ".svg", c.SVG()}
	r.charts = append(r.charts, f)
	return []report.Image{{File: f.name, Text: c.Title}}
}

func kindOf(label string) chart.Kind {
	switch {
	case strings.Contains(label, otherBuild):
		return chart.Other
	case strings.HasPrefix(label, "veth"):
		return chart.Ours
	case strings.HasPrefix(label, "reference"):
		return chart.Theirs
	}
	return chart.Least
}

func value(samples []float64) chart.Value {
	s := report.Summarize(samples)
	return chart.Value{Low: s.Low, Median: s.Median, High: s.High}
}

// bar is a contender's, with its ratio to the one it is beside.
func bar(c *contender, samples, ratios []float64) chart.Bar {
	v := value(samples)
	text := report.Digits(v.Median)
	if c.beside != c.label {
		text += " (" + report.Factor(report.Summarize(ratios).Median) + ")"
	}
	return chart.Bar{Label: c.label, Kind: kindOf(c.label), Value: v, Text: text}
}

func barChart(e *experiment, all samples) chart.Chart {
	add, del := chart.Panel{Title: "ADD, ms"}, chart.Panel{Title: "DEL, ms"}
	for _, c := range e.contenders {
		s, ours := all[c.label], all[c.beside]
		add.Bars = append(add.Bars, bar(c, s.add, report.Ratios(s.add, ours.add)))
		del.Bars = append(del.Bars, bar(c, s.del, report.Ratios(s.del, ours.del)))
	}
	return chart.Chart{Title: e.title, Panels: []chart.Panel{add, del}}
}

// lineChart has the containers present as its ticks.
func lineChart(e *experiment, all samples) chart.Chart {
	add, del := chart.Panel{Title: "ADD, ms, by containers present"}, chart.Panel{Title: "DEL, ms, by containers present"}
	var order []string
	lines := map[string][2]chart.Line{}
	for _, c := range e.contenders {
		tick := thousands(c.present)
		if !slices.Contains(add.Ticks, tick) {
			add.Ticks, del.Ticks = append(add.Ticks, tick), append(del.Ticks, tick)
		}
		name := strings.Replace(c.label, amongLabel("", c.present), "", 1)
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		l := lines[name]
		for i, samples := range [][]float64{all[c.label].add, all[c.label].del} {
			l[i].Label, l[i].Kind = name, kindOf(name)
			l[i].Values = append(l[i].Values, value(samples))
		}
		lines[name] = l
	}
	for _, name := range order {
		add.Lines, del.Lines = append(add.Lines, lines[name][0]), append(del.Lines, lines[name][1])
	}
	return chart.Chart{Title: e.title, Panels: []chart.Panel{add, del}}
}

func (r *results) starts() (report.Section, error) {
	rounds := r.options.times(2)
	labels, all, err := starts(rounds)
	if err != nil {
		return report.Section{}, err
	}
	t := report.Table{Head: []string{"", "VERSION, ms", "of veth's"}}
	for _, label := range labels {
		t.Rows = append(t.Rows, []string{label, spread(all[label].add), ratio(all[label].add, all["veth"].add)})
	}
	return report.Section{
		Title: "Starting a process",
		Text:  "Each program answers VERSION, for which it has nothing to do but start.",
		Table: t,
		Notes: fmt.Sprintf("Medians of %d rounds (p10 – p90).", rounds),
	}, nil
}

func (r *results) bursts(b *bursts) (report.Section, error) {
	b.contenders = choose(b.contenders)
	rounds := r.options.times(.075)
	var err error
	if r.rates, err = b.run(rounds); err != nil {
		return report.Section{}, err
	}
	title := fmt.Sprintf("Bursts of %d", b.size)
	return report.Section{
		Title: title,
		Text: "So many ADDs on an empty node, by so many callers at a time, then as many DELs; with masquerading. A DEL may\n" +
			"return before the kernel has tidied up behind it, hence the last column.",
		Images: r.image("bursts", chart.Chart{Title: title, Panels: b.panels(r.rates)}),
		Table:  b.table(r.rates),
		Notes:  fmt.Sprintf("Medians of %d rounds.", rounds),
	}, nil
}

func (r *results) costs() (report.Section, error) {
	tries := r.options.times(.25)
	var err error
	if r.cost, err = costs(tries); err != nil {
		return report.Section{}, err
	}
	return report.Section{
		Title: "What else an ADD takes",
		Table: costTable(r.cost),
		Notes: fmt.Sprintf("Memory: medians of %d; less than the 2 MB of the program that launches it cannot be seen. Size: each program\n"+
			"once, without libraries; Go programs stripped.", tries),
	}, nil
}

// write puts the page and its charts into the directory.
func (r *results) write(goals report.Section) error {
	if err := os.MkdirAll(r.options.out, 0o755); err != nil {
		return err
	}
	page := report.Page{Title: "ADD and DEL, measured", Sections: append([]report.Section{r.introduction(), goals}, r.sections...)}
	for _, f := range append(r.charts, file{"control.md", page.Markdown()}) {
		if err := os.WriteFile(filepath.Join(r.options.out, f.name), []byte(f.content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
