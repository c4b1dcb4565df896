//go:build integration

package cgroup_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// A watch of the directory, added through FD, hears of changes of pinned files even if the kernel has dropped its caches.
func TestRealPin(t *testing.T) {
	s := newSubtree(t)
	g := s.make("a")
	events := watch(t, g)
	if err := g.Pin("cgroup.events", "memory.events"); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	s.must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0))

	start(t, g, "true").Wait() // populated turns 1, then 0
	heard := ""
	eventually(t, "a change of cgroup.events", func() bool {
		heard += events()
		return strings.Contains(heard, "cgroup.events\x00")
	})
	s.write("a", "memory.max", "8M")
	s.write("a", "memory.swap.max", "0")
	start(t, g, "tail", "/dev/zero").Wait()
	eventually(t, "a change of memory.events", func() bool {
		heard += events()
		return strings.Contains(heard, "memory.events\x00")
	})
}

// watch watches the directory; the function it returns gives what was heard since, and waits for it a little.
func watch(t *testing.T, g *cgroup.Group) func() string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, "/proc/self/fd/"+itoa(g.FD()), unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	return func() string {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 100); n != 1 || err != nil {
			return ""
		}
		var buf [4096]byte
		n, err := unix.Read(fd, buf[:])
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}
