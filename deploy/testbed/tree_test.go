package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestReadTree(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		".gitignore": "ignored\n", "README.md": "hello", "a/a.go": "package a", "a/testdata/victim.go": "package main",
		"a/testdata/golden": "x", "ignored": "no", "gone": "soon",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "gone", "README.md"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	if err := os.Remove(filepath.Join(root, "gone")); err != nil {
		t.Fatal(err)
	}
	one, err := readTree(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".gitignore", "README.md", "a/testdata/golden", "a/testdata/victim.go"}
	if got := tarNames(t, one.tar); !slices.Equal(got, want) {
		t.Errorf("tree has %q, want %q", got, want)
	}
	again, err := treeAround(context.Background(), filepath.Join(root, "a"))
	if err != nil || again.hash != one.hash {
		t.Errorf("hash of the same tree: %q, %v, want %q", again.hash, err, one.hash)
	}
}

func tarNames(t *testing.T, b []byte) []string {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
