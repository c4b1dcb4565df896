package cgrouptest_test

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// Watches see a counter change as the kernel reports it, again and again: of the directory, and of the file itself.
func TestSettersAreSeenByWatches(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const all = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE
	add := func(name string) int32 {
		wd, err := unix.InotifyAddWatch(fd, tree.Dir(name), all)
		if err != nil {
			t.Fatal(err)
		}
		return int32(wd)
	}
	dir, memory := add("/a"), add("/a/memory.events")
	populated, pids := add("/a/cgroup.events"), add("/a/pids.events")
	for i := range uint64(3) {
		tree.SetMemoryEvents("/a", cgroup.MemoryEvents{OOM: i * 1000, HasGroupKill: true})
		tree.SetEvents("/a", cgroup.Events{Populated: i%2 == 0})
		tree.SetPidsEvents("/a", i)
		got := readWatches(t, fd)
		want := []notice{
			{dir, unix.IN_MODIFY, "memory.events"}, {memory, unix.IN_MODIFY, ""},
			{dir, unix.IN_MODIFY, "cgroup.events"}, {populated, unix.IN_MODIFY, ""},
			{dir, unix.IN_MODIFY, "pids.events"}, {pids, unix.IN_MODIFY, ""},
		}
		if !slices.Equal(got, want) {
			t.Errorf("round %d: got %v, want %v", i, got, want)
		}
	}
}

// notice is an inotify event.
type notice struct {
	wd   int32
	mask uint32
	name string
}

func readWatches(t *testing.T, fd int) []notice {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	var notices []notice
	for b := buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint32(b[12:])
		notices = append(notices, notice{
			wd:   int32(binary.NativeEndian.Uint32(b)),
			mask: binary.NativeEndian.Uint32(b[4:]),
			name: strings.TrimRight(string(b[16:16+size]), "\x00"),
		})
		b = b[16+size:]
	}
	return notices
}

// A write of another length is seen by a watch of the directory, and nothing but the file is.
func TestWriteIsSeenByDirectoryWatch(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	wd, err := unix.InotifyAddWatch(fd, tree.Dir("/a"), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_DELETE)
	if err != nil {
		t.Fatal(err)
	}
	tree.Write("/a", "memory.current", "123456")
	if got, want := readWatches(t, fd), []notice{{int32(wd), unix.IN_MODIFY, "memory.current"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// No reader sees half of a write, whichever way it is done.
func TestWriteIsAtomic(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	const large = 1_000_000
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
			n, currentErr := g.MemoryCurrent()
			if err := errors.Join(err, currentErr); err != nil || e.Max%large != 0 || n%large != 0 {
				done <- fmt.Errorf("max %d, current %d: %w", e.Max, n, err)
				return
			}
		}
	}()
	for i := range uint64(500) {
		n := (i % 2) * large
		tree.SetMemoryEvents("/a", cgroup.MemoryEvents{Max: n, HasGroupKill: i%4 < 2})
		tree.Write("/a", "memory.current", fmt.Sprint(n))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
