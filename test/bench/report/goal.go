package report

import "fmt"

// Goal is a ratio that has to be reached, or not to be exceeded.
type Goal struct {
	What    string
	Bound   float64
	AtMost  bool      // Bound is the most; otherwise the least
	Samples []float64 // the ratios measured, empty where nothing was
	Limit   []float64 // the same for what does nothing but what cannot be left out, empty where that is not measured
}

// Goals is the table of goals: what was wanted, what was measured, and whether the median meets it, beside what the limit
// of that name reaches.
func Goals(goals []Goal, limit string) Table {
	t := Table{Head: []string{"goal", "bound", "measured: median (p10 – p90)", "met", limit}}
	for _, g := range goals {
		t.Rows = append(t.Rows, g.row())
	}
	return t
}

func (g Goal) row() []string {
	bound := "at least "
	if g.AtMost {
		bound = "at most "
	}
	s, limit, met := Summarize(g.Samples), "", "no"
	if len(g.Limit) > 0 {
		limit = Factor(Summarize(g.Limit).Median)
	}
	switch {
	case s.N == 0:
		return []string{g.What, bound + Factor(g.Bound), "not measured", "?", limit}
	case g.AtMost == (s.Median <= g.Bound), s.Median == g.Bound:
		met = "yes"
	}
	return []string{g.What, bound + Factor(g.Bound), Factors(s), met, limit}
}

// Factor is a ratio: "1.35x", "11.9x", "231x".
func Factor(f float64) string { return Digits(f) + "x" }

// Factors is a spread of ratios.
func Factors(s Summary) string {
	return fmt.Sprintf("%s (%s – %s)", Factor(s.Median), Factor(s.Low), Factor(s.High))
}

// Spread is a spread of times or rates, to three digits.
func Spread(s Summary) string {
	return fmt.Sprintf("%s (%s – %s)", Digits(s.Median), Digits(s.Low), Digits(s.High))
}

// Digits writes a number with three digits, or all it has before the point.
func Digits(f float64) string {
	switch {
	case f >= 99.95:
		return fmt.Sprintf("%.0f", f)
	case f >= 9.995:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
