package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each clause of the specification that docs/conformance.md lists must name a test, and each test it names must exist.
func TestConformanceTableNamesRealTests(t *testing.T) {
	tests := testsByName(t)
	clauses := conformance(t)
	if len(clauses) < 30 {
		t.Errorf("docs/conformance.md: found %d clauses: is the table still one?", len(clauses))
	}
	for _, c := range clauses {
		if len(c.tests) == 0 {
			t.Errorf("docs/conformance.md: no test holds the clause %q", c.text)
		}
		for _, name := range c.tests {
			if !tests[name] {
				t.Errorf("docs/conformance.md: %q names %s, which does not exist", c.text, name)
			}
		}
	}
}

type clause struct {
	text  string
	tests []string
}

// conformance reads the tables, whose first column is the clause and whose last is a test. A row without a clause adds a
// test to the one above.
func conformance(t *testing.T) []clause {
	t.Helper()
	named := regexp.MustCompile("`([a-z]+\\.Test[A-Za-z0-9]+)`")
	var clauses []clause
	for line := range strings.Lines(readDoc(t, "docs/conformance.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.Trim(cells[3], " -") == "" || strings.TrimSpace(cells[1]) == "clause" {
			continue
		}
		if text := strings.TrimSpace(cells[1]); text != "" {
			clauses = append(clauses, clause{text: text})
		}
		last := &clauses[len(clauses)-1]
		for _, match := range named.FindAllStringSubmatch(cells[3], -1) {
			last.tests = append(last.tests, match[1])
		}
	}
	return clauses
}

// testsByName lists the repository's tests as package.Test.
func testsByName(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	for _, pattern := range []string{"pkg/*/*_test.go", "plugins/*/*_test.go", "test/*/*_test.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					tests[filepath.Base(filepath.Dir(file))+"."+f.Name.Name] = true
				}
			}
		}
	}
	return tests
}

// Links between the pages must lead somewhere: to a file that is there, and to a heading in it.
func TestLinksBetweenDocumentsWork(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	measured, err := filepath.Glob(filepath.Join(root, "docs", "bench", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(append(pages, measured...), filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		name, _ := filepath.Rel(root, page)
		for _, m := range link.FindAllStringSubmatch(readDoc(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := name
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(name), m[1])
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if m[2] != "" && !headings(readDoc(t, target))[strings.TrimPrefix(m[2], "#")] {
				t.Errorf("%s links to %s%s: there is no such heading", name, m[1], m[2])
			}
		}
	}
}

// headings lists the anchors of a page: each heading in lower case, with hyphens for spaces and without punctuation.
func headings(text string) map[string]bool {
	punctuation := regexp.MustCompile(`[^a-z0-9 _-]`)
	anchors := map[string]bool{}
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			plain := punctuation.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			anchors[strings.ReplaceAll(plain, " ", "-")] = true
		}
	}
	return anchors
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
