package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is an SVG element with its text.
type element struct {
	name string
	attr map[string]string
	text string
}

func (e element) number(t *testing.T, key string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(e.attr[key], 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		t.Fatalf("%s of %s is %q, want a number", key, e.name, e.attr[key])
	}
	return f
}

// parse fails where the document is not XML.
func parse(t *testing.T, svg string) []element {
	t.Helper()
	var all []element
	for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch x := token.(type) {
		case xml.StartElement:
			e := element{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all = append(all, e)
		case xml.CharData:
			if len(all) > 0 && all[len(all)-1].text == "" {
				all[len(all)-1].text = strings.TrimSpace(string(x))
			}
		}
	}
}

func named(all []element, name, class string) []element {
	var some []element
	for _, e := range all {
		if e.name == name && strings.Contains(e.attr["class"], class) {
			some = append(some, e)
		}
	}
	return some
}

func around(f float64) Value { return Value{f / 2, f, f * 2} }

func bars(values ...float64) Chart {
	c := Chart{Title: "a < b & c", Panels: []Panel{{Title: "ADD, ms"}}}
	for i, v := range values {
		c.Panels[0].Bars = append(c.Panels[0].Bars, Bar{
			Label: fmt.Sprintf("<%d>", i), Text: fmt.Sprint(v), Kind: Kind(i % 4), Value: around(v),
		})
	}
	return c
}

func TestBarsAreAsLongAsTheirValues(t *testing.T) {
	all := parse(t, bars(10, 40, 200).SVG())
	rects, spreads := named(all, "rect", "k"), named(all, "line", "spread")
	if len(rects) != 3 || len(spreads) != 3 {
		t.Fatalf("got %d bars and %d spreads, want 3 each", len(rects), len(spreads))
	}
	unit := rects[0].number(t, "width") / 10
	for i, v := range []float64{10, 40, 200} {
		for what, got := range map[string]float64{
			"the bar":          rects[i].number(t, "width"),
			"the spread's p10": 2 * (spreads[i].number(t, "x1") - left),
			"the spread's p90": (spreads[i].number(t, "x2") - left) / 2,
		} {
			if want := unit * v; math.Abs(got-want) > .01*want+.2 {
				t.Errorf("%s of %v: length %v, want %v", what, v, got, want)
			}
		}
	}
	if end := spreads[2].number(t, "x2"); end > width-right {
		t.Errorf("the longest ends at %v and leaves no room for its text", end)
	}
}

// A chart tells which bar is whose, and titles and labels are text, whatever is in them.
func TestBarsAreLabelled(t *testing.T) {
	svg := bars(1, 2, 3, 4).SVG()
	all := parse(t, svg)
	var texts []string
	for _, e := range named(all, "text", "") {
		texts = append(texts, e.text)
	}
	want := "a < b & c|ADD, ms|<0>|1|<1>|2|<2>|3|<3>|4"
	if got := strings.Join(texts, "|"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i, r := range named(all, "rect", "k") {
		if class := r.attr["class"]; class != fmt.Sprintf("k%d", i) || !strings.Contains(svg, "."+class+" {") {
			t.Errorf("bar %d has class %s, want one of its own that the style knows", i, class)
		}
	}
}

func TestNothingIsNotDividedBy(t *testing.T) {
	for name, c := range map[string]Chart{
		"bars":  bars(0, 0),
		"lines": lines([]float64{0, 0}),
		"empty": {Title: "empty", Panels: []Panel{{Title: "no bars"}}},
	} {
		if svg := c.SVG(); strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s:\n%s", name, svg)
		}
	}
}

func lines(series ...[]float64) Chart {
	p := Panel{Title: "ADD, ms, by containers present", Ticks: []string{"0", "100", "1,000"}}
	for i, values := range series {
		l := Line{Label: fmt.Sprint("line ", i), Kind: Kind(i)}
		for _, v := range values {
			l.Values = append(l.Values, around(v))
		}
		p.Lines = append(p.Lines, l)
	}
	return Chart{Title: "lines", Panels: []Panel{p}}
}

func TestLinesAreAsHighAsTheirValues(t *testing.T) {
	all := parse(t, lines([]float64{10, 20, 40}, []float64{30}).SVG())
	circles := named(all, "circle", "")
	if len(circles) != 4 {
		t.Fatalf("got %d points, want 4", len(circles))
	}
	grid, labels := named(all, "line", "grid"), named(all, "text", "small")
	bottom := grid[0].number(t, "y1")
	top, err := strconv.ParseFloat(labels[len(grid)-1].text, 64)
	if err != nil || top < 80 {
		t.Fatalf("the grid ends at %q, below the highest p90", labels[len(grid)-1].text)
	}
	unit := (bottom - grid[len(grid)-1].number(t, "y1")) / top
	for i, v := range []float64{10, 20, 40, 30} {
		if got, want := bottom-circles[i].number(t, "cy"), unit*v; math.Abs(got-want) > .2 {
			t.Errorf("point %d of %v is %v high, want %v", i, v, got, want)
		}
	}
	whiskers := named(all, "line", "whisker")
	if low, high := bottom-whiskers[0].number(t, "y1"), bottom-whiskers[0].number(t, "y2"); math.Abs(high-4*low) > .5 {
		t.Errorf("the spread of 10 is from %v to %v high, want 5 to 20", low, high)
	}
}

func TestGridIsRound(t *testing.T) {
	for f, want := range map[float64]float64{.7: 1, 1: 1, 1.1: 2, 2.3: 5, 5.1: 10, 40: 50, .03: .05, 700: 1000} {
		if got := roundStep(f); math.Abs(got-want) > 1e-9 {
			t.Errorf("roundStep(%v) = %v, want %v", f, got, want)
		}
	}
}

// What is drawn below the visible part is not seen.
func TestEverythingIsInView(t *testing.T) {
	four := lines([]float64{1, 2, 3}, []float64{2}, []float64{3}, []float64{4})
	for name, c := range map[string]Chart{
		"bars":  bars(1, 2, 3),
		"lines": four,
		"both":  {Title: "both", Panels: append(four.Panels, bars(1, 2, 3).Panels...)},
	} {
		all := parse(t, c.SVG())
		var height float64
		if _, err := fmt.Sscanf(all[0].attr["viewBox"], "0 0 860 %f", &height); err != nil {
			t.Fatalf("viewBox %q: %v", all[0].attr["viewBox"], err)
		}
		for _, e := range all {
			for _, key := range []string{"y", "y1", "y2", "cy"} {
				if e.attr[key] != "" && (e.number(t, key) < 0 || e.number(t, key) > height-8) {
					t.Errorf("%s: %s %q is at %s = %s, of %v", name, e.name, e.text, key, e.attr[key], height)
				}
			}
		}
	}
}

// A legend stands below the ticks, and each line has one.
func TestLegend(t *testing.T) {
	all := parse(t, lines([]float64{1}, []float64{2}, []float64{3}, []float64{4}).SVG())
	below := 0.0
	seen := map[string]bool{}
	for _, e := range named(all, "text", "small") {
		switch y := e.number(t, "y"); {
		case e.text == "1,000":
			below = y
		case strings.HasPrefix(e.text, "line ") && y > below:
			seen[e.text+" at "+e.attr["x"]+","+e.attr["y"]] = true
		}
	}
	if below == 0 || len(seen) != 4 {
		t.Errorf("got %v below the ticks at %v, want four in places of their own", seen, below)
	}
}
