package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTestFuncs(t *testing.T) {
	dir := t.TempDir()
	for name, source := range map[string]string{
		"unit_test.go":        "package p\nfunc TestUnit() {}\nfunc TestMain() {}\nfunc FuzzOne() {}\n",
		"integration_test.go": "//go:build integration\n\npackage p\nfunc TestGuest() {}\nfunc helper() {}\ntype T int\nfunc (T) TestMethod() {}\n",
		"both_test.go":        "//go:build linux && integration\n\npackage p\nfunc TestBoth() {}\n",
		"other_test.go":       "//go:build !integration || linux\n\npackage p\nfunc TestOther() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &testPackage{Dir: dir, TestGoFiles: []string{"unit_test.go", "integration_test.go"}, XTestGoFiles: []string{"both_test.go", "other_test.go"}}
	for _, test := range []struct {
		prefix          string
		onlyIntegration bool
		want            []string
	}{
		{"Test", true, []string{"TestGuest", "TestBoth"}},
		{"Test", false, []string{"TestUnit", "TestGuest", "TestBoth", "TestOther"}},
		{"Fuzz", false, []string{"FuzzOne"}},
	} {
		got, err := p.testFuncs(test.prefix, test.onlyIntegration)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("testFuncs(%q, %v): %v, %v, want %v", test.prefix, test.onlyIntegration, got, err, test.want)
		}
	}
}

func TestImageKeyFollowsTheRecipe(t *testing.T) {
	one, err := imageKey("trixie", "key")
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range [][2]string{{"sid", "key"}, {"trixie", "another key"}} {
		if key, err := imageKey(other[0], other[1]); err != nil || key == one {
			t.Errorf("imageKey(%q): %q, %v, want another than %q", other, key, err, one)
		}
	}
}

func TestRecipePackages(t *testing.T) {
	packages, err := recipePackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"systemd", "python3", "linux-image-cloud-amd64"} {
		if !slices.Contains(packages, want) {
			t.Errorf("packages %v: no %s", packages, want)
		}
	}
	if slices.Contains(packages, "") || slices.ContainsFunc(packages, func(p string) bool { return p[0] == '#' }) {
		t.Errorf("packages %q: something is none", packages)
	}
}

func TestPackagesComeAfterWhatTheyAreMadeOf(t *testing.T) {
	const module = "github.com/scidex/lictor/"
	packages, err := listPackages(t.Context(), module+"cmd/lictor", module+"watcher", module+"cgroup", module+"scope")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range packages {
		got = append(got, strings.TrimPrefix(p.ImportPath, module))
	}
	if want := []string{"cgroup", "scope", "watcher", "cmd/lictor"}; !slices.Equal(got, want) {
		t.Errorf("order: got %v, want %v", got, want)
	}
}
