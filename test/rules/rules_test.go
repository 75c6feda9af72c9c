// Package rules holds the repository's own rules: which package may know which, and how long a function may grow.
package rules

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/veth-cni/veth/"
)

// pure packages decide what shall be; they run anywhere and touch nothing.
var pure = []string{"pkg/cnierr", "pkg/netconf", "pkg/lease", "pkg/plan", "pkg/result", "pkg/convert"}

// impure are the packages that reach the kernel, other programs or other machines.
var impure = []string{
	"github.com/vishvananda/netlink",
	"github.com/vishvananda/netns",
	"github.com/google/nftables",
	"github.com/mdlayher/netlink",
	"github.com/containernetworking/plugins/pkg/ns",
	"github.com/containernetworking/cni/pkg/invoke",
	"golang.org/x/sys/unix",
	"os/exec",
	"net/http",
}

// unlinked are packages that nothing of the plugin may depend on, though its tests may. To link one is enough to pay
// for it: Go initialises it whenever the plugin starts. google/nftables with what it links is about 0.1 ms of each
// call, of the 5 ms that an ADD takes.
var unlinked = []string{
	"github.com/google/nftables",
	"github.com/mdlayher",
	"github.com/containernetworking/cni/pkg/invoke",
	"net/http",
}

// reserved maps what only some packages may import to those packages: one package speaks rtnetlink, one runs other
// programs.
var reserved = map[string][]string{
	"github.com/vishvananda/netlink":                {"pkg/kernel"},
	"github.com/vishvananda/netns":                  {"pkg/kernel"},
	"github.com/containernetworking/plugins/pkg/ns": {"pkg/kernel"},
	"os/exec": {"pkg/ipam"},
}

// listed is the part of `go list -json` that the rules look at.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// packages lists what is built into the binaries: pkg and plugins, without tests.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./pkg/...", "./plugins/...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("go list's answer: %v", err)
		}
		all = append(all, p)
	}
	return all
}

func TestPurePackagesKnowNoKernel(t *testing.T) {
	all := packages(t)
	for _, name := range pure {
		i := slices.IndexFunc(all, func(p listed) bool { return p.ImportPath == module+name })
		if i < 0 {
			t.Errorf("%s is not there: has it moved?", name)
			continue
		}
		for _, path := range forbidden(all[i]) {
			t.Errorf("%s is pure, it must not depend on %s", name, path)
		}
	}
}

// forbidden lists the impure packages that p depends on, transitively.
func forbidden(p listed) []string {
	return slices.DeleteFunc(slices.Clone(p.Deps), func(dep string) bool {
		return !slices.ContainsFunc(impure, func(path string) bool { return within(dep, path) })
	})
}

func within(path, tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }

func TestOnlyOnePackageKnowsEachLibrary(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			for path, allowed := range reserved {
				if within(imported, path) && !slices.Contains(allowed, name) {
					t.Errorf("%s imports %s, which only %v may", name, imported, allowed)
				}
			}
		}
	}
}

func TestThePluginDoesNotLink(t *testing.T) {
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			if slices.ContainsFunc(unlinked, func(path string) bool { return within(dep, path) }) {
				t.Errorf("%s links %s", strings.TrimPrefix(p.ImportPath, module), dep)
			}
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyHold(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}
	eachFile(t, root, func(path string, file *ast.File, _ *token.FileSet) {
		if slices.Contains(vague, file.Name.Name) || slices.Contains(vague, filepath.Base(filepath.Dir(path))) {
			t.Errorf("%s: package %s says nothing about what it holds", path, file.Name.Name)
		}
	})
}

func TestFunctionsFitAScreen(t *testing.T) {
	const maxLines, maxParams = 70, 4
	eachFile(t, root, func(path string, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxLines {
				t.Errorf("%s: %s has %d lines, at most %d fit a screen", path, fn.Name.Name, n, maxLines)
			}
			if n := fn.Type.Params.NumFields(); n > maxParams {
				t.Errorf("%s: %s has %d parameters; more than %d want a struct", path, fn.Name.Name, n, maxParams)
			}
		}
	})
}

func TestExportedNamesAreDocumented(t *testing.T) {
	eachFile(t, filepath.Join(root, "pkg"), func(path string, file *ast.File, _ *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, name := range undocumented(file) {
			t.Errorf("%s: %s has no doc comment", path, name)
		}
	})
	documented := map[string]bool{}
	eachFile(t, filepath.Join(root, "pkg"), func(path string, file *ast.File, _ *token.FileSet) {
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || file.Doc != nil
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// standard are the methods whose meaning the standard library has given.
var standard = []string{"String", "Error", "Unwrap"}

// undocumented lists the exported names of a file without a doc comment. A group of constants or variables may have
// one for all; what belongs to an unexported type is not part of the API.
func undocumented(file *ast.File) []string {
	var names []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc != nil || !d.Name.IsExported() {
				continue
			}
			if d.Recv == nil || ast.IsExported(receiver(d)) && !slices.Contains(standard, d.Name.Name) {
				names = append(names, fmt.Sprintf("func %s", d.Name.Name))
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				names = append(names, undocumentedSpec(d, spec)...)
			}
		}
	}
	return names
}

func undocumentedSpec(group *ast.GenDecl, spec ast.Spec) []string {
	var names []string
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && group.Doc == nil {
			names = append(names, "type "+s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, id := range s.Names {
			if id.IsExported() && s.Doc == nil && s.Comment == nil && group.Doc == nil {
				names = append(names, group.Tok.String()+" "+id.Name)
			}
		}
	}
	return names
}

// receiver is the name of a method's type.
func receiver(fn *ast.FuncDecl) string {
	expr := fn.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if index, ok := expr.(*ast.IndexExpr); ok {
		expr = index.X
	}
	if id, ok := expr.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func TestConfigurationsAreJSON(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "conf", "*.conf*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("conf/ holds no configuration")
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// eachFile parses every Go file below dir.
func eachFile(t *testing.T, dir string, visit func(path string, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && path != dir
		if entry.IsDir() && (hidden || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		found++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		visit(path, file, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Fatalf("no Go file below %s", dir)
	}
}
