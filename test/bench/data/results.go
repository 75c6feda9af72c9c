package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/bench/chart"
	page "github.com/veth-cni/veth/test/bench/report"
	"github.com/veth-cni/veth/test/bench/upstream"
)

// report is what was measured.
type report struct {
	lines    []line
	networks []*network
	samples  samples
	took     time.Duration
}

// report prints the page, and writes it with its charts into the directory, if there is one.
func (o *options) report(r report) error {
	doc := page.Page{Title: "Between containers, measured", Sections: []page.Section{r.introduction(o), r.goals()}}
	var charts []file
	for i := range loads {
		l := &loads[i]
		if !slices.ContainsFunc(r.lines, func(x line) bool { return x.load == l }) {
			continue
		}
		drawn := file{"data-" + l.name + ".svg", r.chart(l).SVG()}
		charts = append(charts, drawn)
		doc.Sections = append(doc.Sections, page.Section{
			Title:  l.what,
			Images: []page.Image{{File: drawn.name, Text: l.what}},
			Table:  r.table(l),
			Notes:  fmt.Sprintf("%s. Medians of %d rounds (p10 – p90).", l.unit, o.rounds),
		})
	}
	fmt.Println(doc.Markdown())
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, f := range append(charts, file{"data.md", doc.Markdown()}) {
		if err := os.WriteFile(filepath.Join(o.out, f.name), []byte(f.content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

type file struct{ name, content string }

func (r report) of(l line, label string) []float64 { return r.samples[l.String()][label] }

// table has a row for each line and network, with its ratios to loopback and to the reference.
func (r report) table(l *load) page.Table {
	t := page.Table{Head: []string{"", "", l.unit, "of loopback", "of the " + referenced}}
	for _, x := range r.lines {
		if x.load != l {
			continue
		}
		where := strings.TrimPrefix(x.String(), l.name+", ")
		for _, n := range r.networks {
			own := r.of(x, n.label)
			row := []string{where, n.label, page.Spread(page.Summarize(own)), "", ""}
			for i, other := range []string{"loopback", r.counterpart(n)} {
				if ratios := page.Ratios(own, r.of(x, other)); n.label != other && len(ratios) > 0 {
					row[3+i] = page.Factors(page.Summarize(ratios))
				}
			}
			t.Rows = append(t.Rows, row)
			where = ""
		}
	}
	return t
}

// counterpart is the reference's network that does the same job.
func (r report) counterpart(n *network) string {
	if n.masked {
		return referenced + ", ipMasq"
	}
	return referenced
}

// chart has a panel for each line.
func (r report) chart(l *load) chart.Chart {
	c := chart.Chart{Title: l.what}
	for _, x := range r.lines {
		if x.load != l {
			continue
		}
		p := chart.Panel{Title: strings.TrimPrefix(x.String(), l.name+", ") + ", " + l.unit}
		for _, n := range r.networks {
			s := page.Summarize(r.of(x, n.label))
			text := page.Digits(s.Median)
			if ratios := page.Ratios(r.of(x, n.label), r.of(x, r.counterpart(n))); len(ratios) > 0 && n.kind == chart.Ours {
				text += " (" + page.Factor(page.Summarize(ratios).Median) + ")"
			}
			p.Bars = append(p.Bars, chart.Bar{
				Label: n.label, Kind: n.kind, Text: text,
				Value: chart.Value{Low: s.Low, Median: s.Median, High: s.High},
			})
		}
		c.Panels = append(c.Panels, p)
	}
	return c
}

// What is wanted, as ratios to the reference bridge.
var wanted = []struct {
	what, network string
	bound         float64
	loads         []string
	limit         string // the control: the network that shows what the kernel itself takes, or what noise makes of nothing
}{
	{"BIG TCP, routed: TCP streams", "veth routed, BIG TCP", 1.35, []string{"stream", "streams"}, ""},
	{"BIG TCP, bridge: TCP streams", "veth bridge, BIG TCP", 1.45, []string{"stream", "streams"}, ""},
	{"default settings, routed", "veth routed", .98, nil, byHandLabel},
	{"default settings, bridge", "veth bridge", .98, nil, againLabel},
	{"ipMasq, routed", "veth routed, ipMasq", .98, nil, ""},
	{"ipMasq, bridge", "veth bridge, ipMasq", .98, nil, ""},
}

// goals has a row for each load, over all families and places.
func (r report) goals() page.Section {
	var goals []page.Goal
	for _, w := range wanted {
		i := slices.IndexFunc(r.networks, func(n *network) bool { return n.label == w.network })
		if i < 0 {
			continue
		}
		for k := range loads {
			l := &loads[k]
			if w.loads != nil && !slices.Contains(w.loads, l.name) {
				continue
			}
			g := page.Goal{What: w.what + ", " + l.name, Bound: w.bound}
			for _, x := range r.lines {
				if x.load == l {
					theirs := r.of(x, r.counterpart(r.networks[i]))
					g.Samples = append(g.Samples, page.Ratios(r.of(x, w.network), theirs)...)
					g.Limit = append(g.Limit, page.Ratios(r.of(x, w.limit), theirs)...)
				}
			}
			if len(g.Samples) > 0 {
				goals = append(goals, g)
			}
		}
	}
	return page.Section{
		Title: "Goals", Text: "Ratios to the reference bridge, each measured in the same round, over both families and places. The control is\n" +
			"the network routed by hand for what is routed, and a second network of the reference bridge for the bridge.",
		Table: page.Goals(goals, "control"),
	}
}

func (r report) introduction(o *options) page.Section {
	theirs := "not there"
	if o.reference != "" {
		theirs = "bridge and host-local of containernetworking/plugins " + upstream.Version
	}
	var name unix.Utsname
	_ = unix.Uname(&name)
	return page.Section{
		Text: method,
		Table: page.Table{Head: []string{"", ""}, Rows: [][]string{
			{"date", time.Now().UTC().Format("2006-01-02")},
			{"reference", theirs},
			{"machine", fmt.Sprintf("%s, %d CPUs", processor(), runtime.NumCPU())},
			{"kernel", "Linux " + unix.ByteSliceToString(name.Release[:])},
			{"a sample", o.sample.String()},
			{"the run took", fmt.Sprintf("%.0f s", r.took.Seconds())},
		}},
	}
}

const method = "`make bench-data` has written this page. Two processes, each on one processor, in two containers of one node, or in one\n" +
	"container for loopback; every round measures every network, in an order of its own. BIG TCP has packets of 192K. Routed\n" +
	"by hand is what the kernel alone takes to route, with no packet checked; the reference bridge, again is a second network\n" +
	"of the same kind, and its ratio to the first is noise. br_netfilter is off. On one CPU a second is one that the two\n" +
	"processes had it; across CPUs it is one of the clock, and other work on the machine shows. Numbers belong to the machine\n" +
	"below; carry the ratios."

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(text); err == nil && m != nil {
		return string(m[1])
	}
	return runtime.GOARCH
}
