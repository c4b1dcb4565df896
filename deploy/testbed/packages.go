package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// integrationTag is the build tag of the tests that need a guest.
const integrationTag = "integration"

// A testPackage is a package with its tests, as "go list" tells it.
type testPackage struct {
	ImportPath   string
	Dir          string
	TestGoFiles  []string
	XTestGoFiles []string
	Deps         []string
}

// listPackages lists packages as they are with the integration tag, each after those that it is made of: what is broken
// there shows there, and the commands come last, whose tests treat a guest worst.
func listPackages(ctx context.Context, patterns ...string) ([]testPackage, error) {
	args := append([]string{"list", "-tags=" + integrationTag, "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles,Deps"}, patterns...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("packages: %s: %w", cmd, err)
	}
	var packages []testPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p testPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			slices.SortStableFunc(packages, func(a, b testPackage) int { return len(a.Deps) - len(b.Deps) })
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("packages: %w", err)
		}
		packages = append(packages, p)
	}
}

// testFuncs returns the names of the functions of a package's tests that begin with prefix; with onlyIntegration, of
// those in files with the integration tag.
func (p *testPackage) testFuncs(prefix string, onlyIntegration bool) ([]string, error) {
	var names []string
	for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.ImportPath, err)
		}
		if onlyIntegration && !needsIntegration(file) {
			continue
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, prefix) && f.Name.Name != "TestMain" {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names, nil
}

// needsIntegration reports whether a file is left out of a build for Linux without the integration tag.
func needsIntegration(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if comment.Pos() > file.Package || !constraint.IsGoBuild(comment.Text) {
				continue
			}
			expr, err := constraint.Parse(comment.Text)
			return err == nil && !expr.Eval(func(tag string) bool { return tag != integrationTag })
		}
	}
	return false
}
