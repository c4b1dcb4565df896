// Package cgrouptest fakes a cgroup2 hierarchy in a temporary directory, so that code above package cgroup can be tested with
// real *cgroup.Group values, without privileges and on any machine.
//
// What is real: descriptors, inode numbers, extended attributes (where the temporary directory's file system has them),
// inotify, the reading and parsing, pidfds. What is played: the contents of the files. Nothing is computed; a test that
// wants an OOM kill to show in an ancestor writes it there as well. Cgroups come with the files that Linux 6.12 gives them with
// the memory, pids, cpu and io controllers on; [Tree.Omit] makes the kernel older.
//
// Where the fake differs from the kernel, and tests have to know it:
//
//   - Removal is not one step: for a moment some files can still be read. An inotify watch on the removed directory reports the
//     files that go, and ends with IN_DELETE_SELF and IN_IGNORED. The kernel's stays silent (until about Linux 7.1).
//   - A write that does not change the length of a file happens in place: watches of the file and of the directory report
//     IN_MODIFY, as the kernel does, and a reader finds each number old or new. [Tree.SetEvents], [Tree.SetMemoryEvents] and
//     [Tree.SetPidsEvents] are always of this kind: their numbers have leading zeros. Any other write puts a new file
//     in the place of the old one, so that no reader sees half of it; a watch of the file itself ends there.
//   - A write to cgroup.kill or cgroup.freeze does nothing but stay there: see [Tree.Read].
//   - The inode number of a removed directory may be used again once nobody has it open.
package cgrouptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scidex/lictor/cgroup"
)

// Tree is a fake hierarchy. Its methods end the test on any error, so they are for the test's own goroutine; paths are relative to the mount ("/lictor.slice").
type Tree struct {
	tb    testing.TB
	root  string // the "mount point"
	proc  string // the "/proc"
	spare string // same file system, outside both
}

// New makes a hierarchy that consists of the root. It goes with the test.
func New(tb testing.TB) *Tree {
	tb.Helper()
	dir := tb.TempDir()
	t := &Tree{
		tb:    tb,
		root:  filepath.Join(dir, "cgroup"),
		proc:  filepath.Join(dir, "proc"),
		spare: filepath.Join(dir, "spare"),
	}
	for _, d := range []string{t.root, t.proc, t.spare} {
		t.must(os.Mkdir(d, 0o755))
	}
	for file, content := range rootFiles {
		t.must(os.WriteFile(filepath.Join(t.root, file), []byte(content), 0o644))
	}
	return t
}

// FS is the hierarchy as code under test sees it.
func (t *Tree) FS() cgroup.FS { return cgroup.At(t.root).WithProc(t.proc) }

// Dir is the directory of a cgroup, whether it exists or not.
func (t *Tree) Dir(path string) string { return filepath.Join(t.root, path) }

// Make makes a cgroup, and those above it that are missing. One that exists is left alone.
func (t *Tree) Make(path string) {
	t.tb.Helper()
	name := ""
	for element := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		name += "/" + element
		if _, err := os.Stat(t.Dir(name)); err == nil {
			continue
		}
		// Built aside and moved into place: the kernel, too, shows a cgroup with all its files.
		aside := filepath.Join(t.spare, "new")
		t.must(os.Mkdir(aside, 0o755))
		for file, content := range files {
			t.must(os.WriteFile(filepath.Join(aside, file), []byte(content), 0o644))
		}
		t.must(os.Rename(aside, t.Dir(name)))
	}
}

// Open makes a cgroup as [Tree.Make] does and opens it. It is closed when the test ends.
func (t *Tree) Open(path string) *cgroup.Group {
	t.tb.Helper()
	t.Make(path)
	g, err := t.FS().Open(path)
	t.must(err)
	t.tb.Cleanup(func() { g.Close() })
	return g
}

// Remove removes a cgroup and what is below it. Groups that are open turn into cgroup.ErrGone.
func (t *Tree) Remove(path string) {
	t.tb.Helper()
	dir := t.Dir(path)
	entries, err := os.ReadDir(dir)
	t.must(err)
	for _, e := range entries {
		if e.IsDir() {
			t.Remove(filepath.Join(path, e.Name()))
		}
	}
	// cgroup.procs first: without it no group passes for a cgroup that lacks a file or two.
	t.must(os.Remove(filepath.Join(dir, "cgroup.procs")))
	t.must(os.RemoveAll(dir))
}

func (t *Tree) must(err error) {
	t.tb.Helper()
	if err != nil {
		t.tb.Fatal(fmt.Errorf("cgrouptest: %w", err))
	}
}
