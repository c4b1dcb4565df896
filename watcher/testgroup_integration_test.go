//go:build integration

package watcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests run as root on a host that they may shake: in the test bed.

const cgroupRoot = "/sys/fs/cgroup"

// A testGroup is a cgroup made by hand, out of systemd's sight.
type testGroup struct {
	path string // below the root, as the kernel writes it
	dir  string
}

func newTestGroup(t *testing.T, path string, files map[string]string) testGroup {
	t.Helper()
	g := testGroup{path: path, dir: cgroupRoot + path}
	for _, controllers := range []string{"+memory", "+pids"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.subtree_control"), []byte(controllers), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.remove(t) })
	for name, value := range files {
		g.write(t, name, value)
	}
	return g
}

func (g testGroup) write(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// count returns a number from a file of lines "key n".
func (g testGroup) count(t *testing.T, name, key string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			n, err := strconv.Atoi(v)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s of %s", key, name, g.path)
	return 0
}

func (g testGroup) remove(t *testing.T) {
	_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	wait(t, "the end of "+g.path, func() bool {
		err := os.Remove(g.dir)
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
}

// start starts a command inside the cgroup.
func (g testGroup) start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// glutton starts a process that eats all the memory it can get.
func (g testGroup) glutton(t *testing.T) *exec.Cmd {
	return g.start(t, exec.Command("tail", "/dev/zero"))
}

func (g testGroup) sleeper(t *testing.T) *exec.Cmd {
	return g.start(t, exec.Command("sleep", "1000"))
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * eventually); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
