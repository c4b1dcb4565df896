package cgrouptest_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

func TestJoinAndLeave(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/lictor.slice/lictor-a.slice/lictor-a.scope")
	ledger := tree.Open("/lictor.slice/lictor-a.slice")
	tree.Make("/other")

	tree.Join(g.Path(), 11, 12)
	check := func(want []int, populated bool) {
		t.Helper()
		pids, err := g.Procs()
		if !slices.Equal(pids, want) || err != nil {
			t.Errorf("Procs: got %v, %v; want %v", pids, err, want)
		}
		for _, group := range []*cgroup.Group{g, ledger} {
			if got, err := group.Populated(); got != populated || err != nil {
				t.Errorf("%s: populated %t, %v", group.Path(), got, err)
			}
		}
	}
	check([]int{11, 12}, true)
	if path, err := tree.FS().PathOf(11); path != g.Path() || err != nil {
		t.Errorf("PathOf: %q, %v", path, err)
	}
	tree.Join("/other", 12)
	check([]int{11}, true)
	tree.Leave(11, 99)
	check(nil, false)
	if _, err := tree.FS().PathOf(11); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("PathOf: %v, want ErrNoProcess", err)
	}
}

func TestCountersAreWritten(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	hierarchical := cgroup.MemoryEvents{Max: 9, OOM: 2, OOMKill: 1, OOMGroupKill: 1, HasGroupKill: true}
	local := cgroup.MemoryEvents{Max: 8}
	tree.SetMemoryEvents("/a", hierarchical)
	tree.SetMemoryEventsLocal("/a", local)
	if got, err := g.MemoryEvents(); got != hierarchical || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := g.MemoryEventsLocal(); got != local || err != nil {
		t.Errorf("local: got %+v, %v", got, err)
	}
}

func TestRemoveTakesChildrenAlong(t *testing.T) {
	tree := cgrouptest.New(t)
	child := tree.Open("/a/b/c")
	tree.Remove("/a")
	if !child.Gone() {
		t.Error("the child is still there")
	}
	if _, err := os.Stat(tree.Dir("/a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// A watch of the directory sees a write as the kernel reports it.
func TestWriteIsSeenByDirectoryWatch(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, tree.Dir("/a"), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	tree.SetMemoryEvents("/a", cgroup.MemoryEvents{OOM: 1})
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(buf[:n]), "memory.events\x00") {
		t.Errorf("got %q", buf[:n])
	}
	for _, other := range []string{"file", "spare"} {
		if strings.Contains(string(buf[:n]), other+"\x00") {
			t.Errorf("%q shows in %q", other, buf[:n])
		}
	}
}

// No reader sees half of a write.
func TestWriteIsAtomic(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			e, err := g.MemoryEvents()
			if err != nil || e.Max != e.OOM {
				done <- errors.Join(err, errors.New("torn read"))
				return
			}
		}
	}()
	for i := range uint64(500) {
		n := (i % 2) * 1_000_000
		tree.SetMemoryEvents("/a", cgroup.MemoryEvents{Max: n, OOM: n})
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
