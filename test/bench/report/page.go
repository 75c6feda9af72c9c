package report

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Page is a document.
type Page struct {
	Title    string
	Sections []Section
}

// Section is a part of a page. What is empty is left out.
type Section struct {
	Title  string
	Text   string
	Images []Image
	Table  Table
	Notes  string // below the table
}

// Image is a file beside the page.
type Image struct{ File, Text string }

// Table has a head and rows of as many cells.
type Table struct {
	Head []string
	Rows [][]string
}

// Markdown is the page as GitHub shows it.
func (p Page) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", p.Title)
	for _, s := range p.Sections {
		b.WriteString("\n" + s.Markdown())
	}
	return b.String()
}

// Markdown is the section with its heading, ending with a line end.
func (s Section) Markdown() string {
	var parts []string
	if s.Title != "" {
		parts = append(parts, "## "+s.Title)
	}
	if s.Text != "" {
		parts = append(parts, s.Text)
	}
	for _, i := range s.Images {
		parts = append(parts, fmt.Sprintf("![%s](%s)", i.Text, i.File))
	}
	if len(s.Table.Rows) > 0 {
		parts = append(parts, s.Table.Markdown())
	}
	if s.Notes != "" {
		parts = append(parts, s.Notes)
	}
	return strings.Join(parts, "\n\n") + "\n"
}

// Markdown is the table with its columns aligned, so that it can be read as it stands, too. It does not end with a line
// end.
func (t Table) Markdown() string {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	rule := make([]string, len(t.Head))
	for i, w := range widths {
		rule[i] = strings.Repeat("-", w)
	}
	lines := make([]string, 0, len(t.Rows)+2)
	for _, row := range append([][]string{t.Head, rule}, t.Rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		}
		lines = append(lines, "| "+strings.Join(cells, " | ")+" |")
	}
	return strings.Join(lines, "\n")
}
