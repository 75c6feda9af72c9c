// Package report turns samples into tables, and tables into a page. It is pure.
package report

import (
	"math"
	"slices"
)

// Summary is how samples are spread: a tenth of them is below Low, a tenth above High.
type Summary struct {
	Low, Median, High float64
	N                 int
}

// Summarize is the zero Summary without samples.
func Summarize(samples []float64) Summary {
	if len(samples) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	return Summary{quantile(sorted, .1), quantile(sorted, .5), quantile(sorted, .9), len(sorted)}
}

// quantile interpolates between the two samples that q lies between.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

// Ratios divides samples that were taken side by side, the first by the first and so on, so that what slows the machine
// for a moment slows both. What is beyond the shorter list is left out.
func Ratios(num, den []float64) []float64 {
	ratios := make([]float64, min(len(num), len(den)))
	for i := range ratios {
		ratios[i] = num[i] / den[i]
	}
	return ratios
}
