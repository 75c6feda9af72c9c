package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []float64
		want    Summary
	}{
		{"none", nil, Summary{}},
		{"one", []float64{3}, Summary{3, 3, 3, 1}},
		{"two: between them", []float64{20, 10}, Summary{11, 15, 19, 2}},
		{"eleven, in disorder", []float64{10, 0, 9, 1, 8, 2, 7, 3, 6, 4, 5}, Summary{1, 5, 9, 11}},
		{"an outlier moves neither", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 99}, Summary{1, 1, 1, 11}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Summarize(tt.samples)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSummarizeLeavesItsSamplesInOrder(t *testing.T) {
	samples := []float64{3, 1, 2}
	Summarize(samples)
	if diff := cmp.Diff([]float64{3, 1, 2}, samples); diff != "" {
		t.Error(diff)
	}
}

func TestRatiosArePairwise(t *testing.T) {
	if diff := cmp.Diff([]float64{2, 4}, Ratios([]float64{2, 8, 9}, []float64{1, 2})); diff != "" {
		t.Error(diff)
	}
	if got := Ratios([]float64{1}, nil); len(got) != 0 {
		t.Errorf("got %v of nothing to divide by", got)
	}
}

func TestGoals(t *testing.T) {
	table := Goals([]Goal{
		{What: "faster", Bound: 12, Samples: []float64{11, 12, 13}, Limit: []float64{19, 20, 30}},
		{What: "not fast enough", Bound: 12, Samples: []float64{11.9, 11.9, 99}},
		{What: "near", Bound: 1.35, AtMost: true, Samples: []float64{1.35}},
		{What: "too far", Bound: 1.35, AtMost: true, Samples: []float64{1.1, 1.36, 1.4}},
		{What: "unknown", Bound: 2},
	}, "the floor's")
	want := [][]string{
		{"faster", "at least 12.0x", "12.0x (11.2x – 12.8x)", "yes", "20.0x"},
		{"not fast enough", "at least 12.0x", "11.9x (11.9x – 81.6x)", "no", ""},
		{"near", "at most 1.35x", "1.35x (1.35x – 1.35x)", "yes", ""},
		{"too far", "at most 1.35x", "1.36x (1.15x – 1.39x)", "no", ""},
		{"unknown", "at least 2.00x", "not measured", "?", ""},
	}
	if diff := cmp.Diff(want, table.Rows); diff != "" {
		t.Error(diff)
	}
}

func TestDigits(t *testing.T) {
	for f, want := range map[float64]string{0: "0.00", 1.234: "1.23", 9.994: "9.99", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 1234.4: "1234"} {
		if got := Digits(f); got != want {
			t.Errorf("Digits(%v) = %q, want %q", f, got, want)
		}
	}
}

func TestPage(t *testing.T) {
	page := Page{Title: "Measured", Sections: []Section{
		{Text: "An introduction."},
		{
			Title:  "Bars",
			Images: []Image{{"bars.svg", "bars"}},
			Table:  Table{Head: []string{"", "ms"}, Rows: [][]string{{"größer", "1"}, {"b", "1.5 – 2"}}},
			Notes:  "Medians.",
		},
	}}
	want := strings.TrimLeft(`
# Measured

An introduction.

## Bars

![bars](bars.svg)

|        | ms      |
| ------ | ------- |
| größer | 1       |
| b      | 1.5 – 2 |

Medians.
`, "\n")
	if diff := cmp.Diff(want, page.Markdown()); diff != "" {
		t.Error(diff)
	}
}
