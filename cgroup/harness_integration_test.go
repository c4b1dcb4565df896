//go:build integration

package cgroup_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// These tests need root and a real hierarchy: they run in a guest of the test bed. Each works below a cgroup of its own.

// patience is how long a test waits for something that has to happen. Guests are emulated and busy.
const patience = 2 * time.Minute

// subtree is a cgroup of the test's own, with the memory and pids controllers on for what is made inside.
type subtree struct {
	t    *testing.T
	fs   cgroup.FS
	path string
}

func newSubtree(t *testing.T) *subtree {
	t.Helper()
	fs, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(t.Name(), "/", "-")
	s := &subtree{t: t, fs: fs, path: fmt.Sprintf("/lictortest-%d-%s", os.Getpid(), name)}
	s.must(os.Mkdir(s.dir(""), 0o755))
	t.Cleanup(s.remove)
	s.write("", "cgroup.subtree_control", "+memory +pids")
	return s
}

func (s *subtree) dir(name string) string { return filepath.Join(s.fs.Root(), s.path, name) }

func (s *subtree) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *subtree) write(name, file, content string) {
	s.t.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir(name), file), []byte(content), 0))
}

// make makes a cgroup inside and opens it.
func (s *subtree) make(name string) *cgroup.Group {
	s.t.Helper()
	s.must(os.Mkdir(s.dir(name), 0o755))
	return s.open(name)
}

func (s *subtree) open(name string) *cgroup.Group {
	s.t.Helper()
	g, err := s.fs.Open(filepath.Join(s.path, name))
	s.must(err)
	s.t.Cleanup(func() { g.Close() })
	return g
}

// rmdir removes a cgroup, as soon as the kernel lets it: the last process counts for a moment after it was reaped.
func (s *subtree) rmdir(name string) {
	s.t.Helper()
	eventually(s.t, "rmdir "+name, func() bool {
		err := os.Remove(s.dir(name))
		if err != nil && !errors.Is(err, unix.EBUSY) {
			s.t.Fatal(err)
		}
		return err == nil
	})
}

// remove kills and removes what the test left, with the kernel's files and none of the code under test.
func (s *subtree) remove() {
	s.write("", "cgroup.kill", "1")
	eventually(s.t, "empty", func() bool {
		b, err := os.ReadFile(filepath.Join(s.dir(""), "cgroup.events"))
		return err == nil && strings.Contains(string(b), "populated 0")
	})
	var dirs []string
	filepath.WalkDir(s.dir(""), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		eventually(s.t, "rmdir "+dirs[i], func() bool { return os.Remove(dirs[i]) == nil })
	}
}

// start starts a command inside the cgroup: it is a member before its first instruction.
func start(t *testing.T, g *cgroup.Group, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := prepare(g, name, args...)
	launch(t, cmd)
	return cmd
}

func prepare(g *cgroup.Group, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: g.FD()}
	return cmd
}

// launch starts a command that ends with the test.
func launch(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// startTree starts a shell with n children that sleep, and waits until they are there.
func startTree(t *testing.T, g *cgroup.Group, n int) *exec.Cmd {
	t.Helper()
	cmd := start(t, g, "sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 1000 & i=$((i+1)); done; wait", n))
	eventually(t, "the tree", func() bool {
		pids, err := g.AllProcs()
		return err == nil && len(pids) >= n+1
	})
	return cmd
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func isEmpty(g *cgroup.Group) func() bool {
	return func() bool {
		populated, err := g.Populated()
		return err == nil && !populated
	}
}

// kernelAtLeast tells what the running kernel should have, for assertions that depend on it.
func kernelAtLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}
