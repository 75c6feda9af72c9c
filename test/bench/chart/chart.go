// Package chart draws bars and lines as SVG. It is pure: the same numbers give the same bytes. The drawings need no
// script and no font of their own, and follow the reader's choice of a light or a dark page.
package chart

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Kind is who a bar or a line belongs to, which decides its colour.
type Kind int

// The kinds.
const (
	Ours Kind = iota
	Theirs
	Least
	Other
)

// Chart is one or more panels under each other.
type Chart struct {
	Title  string
	Panels []Panel
}

// Panel has bars, or lines above common ticks.
type Panel struct {
	Title string // with the unit
	Bars  []Bar
	Ticks []string // of lines, at even distances
	Lines []Line
}

// Value is a median and what a tenth of the samples is below and above.
type Value struct{ Low, Median, High float64 }

// Bar is one bar. Its label stands before it, its text behind.
type Bar struct {
	Label, Text string
	Kind        Kind
	Value       Value
}

// Line has a value for each tick, or for the first of them.
type Line struct {
	Label  string
	Kind   Kind
	Values []Value
}

const (
	width      = 860
	left       = 250 // where bars begin
	right      = 130 // kept free for texts behind bars
	rowHeight  = 24
	lineHeight = 230
	margin     = 16
)

const style = `<style>
text { font: 13px sans-serif; fill: #24292f; }
.title { font-size: 16px; font-weight: bold; }
.panel { font-weight: bold; }
.small { font-size: 12px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.spread { stroke: #24292f; stroke-width: 1.5; }
.k0 { fill: #0969da; stroke: #0969da; }
.k1 { fill: #bf8700; stroke: #bf8700; }
.k2 { fill: #8c959f; stroke: #8c959f; }
.k3 { fill: #8250df; stroke: #8250df; }
.line { fill: none; stroke-width: 2; }
.whisker { stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.grid { stroke: #484f58; }
.spread { stroke: #e6edf3; }
.k0 { fill: #4493f8; stroke: #4493f8; }
.k1 { fill: #d29922; stroke: #d29922; }
.k2 { fill: #7d8590; stroke: #7d8590; }
.k3 { fill: #ab7df8; stroke: #ab7df8; }
.line { fill: none; }
}
</style>
`

// drawing is an SVG document that grows downwards.
type drawing struct {
	strings.Builder
	y float64
}

// SVG is the chart as a document.
func (c Chart) SVG() string {
	d := &drawing{y: margin}
	d.text(d.at(margin, 12), "title", c.Title)
	d.y += 28
	for _, p := range c.Panels {
		d.panel(p)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" role="img">`, width, d.y) +
		"\n<title>" + html.EscapeString(c.Title) + "</title>\n" + style + d.String() + "</svg>\n"
}

func (d *drawing) panel(p Panel) {
	d.text(d.at(margin, 14), "panel", p.Title)
	d.y += 24
	if len(p.Bars) > 0 {
		d.bars(p.Bars)
	}
	if len(p.Lines) > 0 {
		d.lines(p)
	}
	d.y += margin
}

// point is a place on the paper.
type point struct{ x, y float64 }

// at is so far from the left edge and below the pen.
func (d *drawing) at(x, below float64) point { return point{x, d.y + below} }

// text writes a line. Its class says how it looks and which end of it is at p.
func (d *drawing) text(p point, class, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", p.x, p.y, class, html.EscapeString(text))
}

// bars draws from zero to the longest, each with its spread as a thin line across its end.
func (d *drawing) bars(bars []Bar) {
	most := 0.0
	for _, b := range bars {
		most = max(most, b.Value.Median, b.Value.High)
	}
	scale := (width - left - right) / positive(most)
	for _, b := range bars {
		end := left + b.Value.Median*scale
		d.text(d.at(left-8, 16), "small end", b.Label)
		fmt.Fprintf(d, `<rect x="%d" y="%.1f" width="%.1f" height="%d" class="k%d"/>`+"\n",
			left, d.y+4, max(end-left, 1), rowHeight-8, b.Kind)
		d.rule("spread", d.at(left+b.Value.Low*scale, rowHeight/2), d.at(left+b.Value.High*scale, rowHeight/2))
		d.text(d.at(max(end, left+b.Value.High*scale)+6, 16), "small", b.Text)
		d.y += rowHeight
	}
}

func (d *drawing) rule(class string, from, to point) {
	fmt.Fprintf(d, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, from.x, from.y, to.x, to.y)
}

// lines draws from zero up, with a grid of round numbers, and a legend below.
func (d *drawing) lines(p Panel) {
	const from, to = 60, width - margin
	most := 0.0
	for _, l := range p.Lines {
		for _, v := range l.Values {
			most = max(most, v.Median, v.High)
		}
	}
	step := roundStep(positive(most) / 4)
	top := step * math.Ceil(positive(most)/step)
	bottom := d.y + lineHeight
	at := func(tick int, value float64) point {
		gap := float64(to-from) / float64(len(p.Ticks))
		return point{from + gap*(float64(tick)+.5), bottom - value/top*(lineHeight-10)}
	}
	for n := 0; float64(n)*step <= top*1.001; n++ {
		y := at(0, float64(n)*step).y
		d.rule("grid", point{from, y}, point{to, y})
		d.text(point{from - 8, y + 4}, "small end", fmt.Sprintf("%.4g", float64(n)*step))
	}
	for i, tick := range p.Ticks {
		d.text(point{at(i, 0).x, bottom + 18}, "small middle", tick)
	}
	for i, l := range p.Lines {
		// Side by side, so that the spreads of lines that lie on each other can be told apart.
		beside := 6 * (float64(i) - float64(len(p.Lines)-1)/2)
		d.line(l, func(tick int, value float64) point {
			p := at(tick, value)
			return point{p.x + beside, p.y}
		})
	}
	d.y = bottom + 30
	d.legend(p.Lines)
}

func (d *drawing) line(l Line, at func(int, float64) point) {
	var points []string
	for i, v := range l.Values {
		p := at(i, v.Median)
		d.rule(fmt.Sprintf("k%d whisker", l.Kind), at(i, v.Low), at(i, v.High))
		fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="3.5" class="k%d"/>`+"\n", p.x, p.y, l.Kind)
		points = append(points, fmt.Sprintf("%.1f,%.1f", p.x, p.y))
	}
	fmt.Fprintf(d, `<polyline class="k%d line" points="%s"/>`+"\n", l.Kind, strings.Join(points, " "))
}

func (d *drawing) legend(lines []Line) {
	const column = 260
	for i, l := range lines {
		x := float64(60 + i%3*column)
		if i > 0 && i%3 == 0 {
			d.y += rowHeight
		}
		fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="14" height="10" class="k%d"/>`+"\n", x, d.y+4, l.Kind)
		d.text(d.at(x+20, 13), "small", l.Label)
	}
	d.y += rowHeight
}

// positive keeps a scale of nothing but zeros from dividing by it.
func positive(f float64) float64 {
	if f > 0 {
		return f
	}
	return 1
}

// roundStep is the next of 1, 2, 5, 10 and so on in every power of ten.
func roundStep(f float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(f)))
	for _, n := range []float64{1, 2, 5} {
		if f <= n*power {
			return n * power
		}
	}
	return 10 * power
}
