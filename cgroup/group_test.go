package cgroup_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

func TestGroupIdentity(t *testing.T) {
	tree := cgrouptest.New(t)
	old := tree.Open("/a")
	tree.Write("/a", "memory.current", "4096")
	tree.Remove("/a")
	young := tree.Open("/a")
	tree.Write("/a", "memory.current", "8192")

	if old.ID() == young.ID() {
		t.Errorf("both have id %d", old.ID())
	}
	if !old.Gone() || young.Gone() {
		t.Errorf("old gone: %t, young gone: %t", old.Gone(), young.Gone())
	}
	if n, err := old.MemoryCurrent(); !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("old: got %d, %v; want ErrGone", n, err)
	}
	if n, err := young.MemoryCurrent(); n != 8192 || err != nil {
		t.Errorf("young: got %d, %v", n, err)
	}
}

// Every method of a removed cgroup must say so; none may return a zero.
func TestGoneEverywhere(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a/b")
	tree.Remove("/a/b")
	for name, err := range everyCall(g) {
		if !errors.Is(err, cgroup.ErrGone) {
			t.Errorf("%s: got %v, want ErrGone", name, err)
		}
	}
}

func TestClosedEverywhere(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if g.FD() != -1 || g.Gone() {
		t.Errorf("closed: FD %d, gone %t", g.FD(), g.Gone())
	}
	for name, err := range everyCall(g) {
		if !errors.Is(err, cgroup.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

// everyCall makes every call that reads or changes a group, and returns the errors by name.
func everyCall(g *cgroup.Group) map[string]error {
	errs := make(map[string]error)
	note := func(name string, err error) { errs[name] = err }
	_, err := g.Child("c")
	note("Child", err)
	_, err = g.Children()
	note("Children", err)
	_, err = g.Controllers()
	note("Controllers", err)
	_, err = g.MemoryEvents()
	note("MemoryEvents", err)
	_, err = g.MemoryEventsLocal()
	note("MemoryEventsLocal", err)
	_, err = g.MemoryCurrent()
	note("MemoryCurrent", err)
	_, err = g.MemoryPeak()
	note("MemoryPeak", err)
	_, err = g.MemoryMax()
	note("MemoryMax", err)
	_, err = g.MemoryHigh()
	note("MemoryHigh", err)
	_, err = g.MemorySwapMax()
	note("MemorySwapMax", err)
	_, err = g.MemorySwapCurrent()
	note("MemorySwapCurrent", err)
	_, err = g.MemoryStat()
	note("MemoryStat", err)
	_, err = g.MemoryOOMGroup()
	note("MemoryOOMGroup", err)
	_, err = g.MemoryPressure()
	note("MemoryPressure", err)
	_, err = g.Limits()
	note("Limits", err)
	_, err = g.PidsMax()
	note("PidsMax", err)
	_, err = g.PidsCurrent()
	note("PidsCurrent", err)
	_, err = g.PidsPeak()
	note("PidsPeak", err)
	_, err = g.PidsEvents()
	note("PidsEvents", err)
	_, err = g.PidsEventsLocal()
	note("PidsEventsLocal", err)
	_, err = g.Events()
	note("Events", err)
	_, err = g.Populated()
	note("Populated", err)
	_, err = g.Frozen()
	note("Frozen", err)
	_, err = g.Procs()
	note("Procs", err)
	_, err = g.AllProcs()
	note("AllProcs", err)
	_, err = g.Usage()
	note("Usage", err)
	_, err = g.CPUUsage()
	note("CPUUsage", err)
	_, _, err = g.Xattr("user.lictor.x")
	note("Xattr", err)
	_, err = g.Xattrs("user.")
	note("Xattrs", err)
	note("SetXattr", g.SetXattr("user.lictor.x", "1"))
	note("RemoveXattr", g.RemoveXattr("user.lictor.x"))
	note("Kill", g.Kill())
	note("KillOneByOne", g.KillOneByOne())
	note("Freeze", g.Freeze(true))
	_, err = g.Signal(0)
	note("Signal", err)
	return errs
}

func TestChildren(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	if got, err := g.Children(); len(got) != 0 || err != nil {
		t.Errorf("got %q, %v; want none", got, err)
	}
	for _, name := range []string{"/a/z", "/a/b", "/a/b/below"} {
		tree.Make(name)
	}
	got, err := g.Children()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "z"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b, err := g.Child("b")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Path() != "/a/b" {
		t.Errorf("path %q", b.Path())
	}
}

func TestChildRejects(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a/b")
	for _, name := range []string{"", ".", "..", "c/d", "/c", "c\x00"} {
		if c, err := g.Child(name); err == nil || errors.Is(err, cgroup.ErrGone) {
			t.Errorf("Child(%q) = %v, %v; want a refusal", name, c, err)
		}
	}
	if _, err := g.Child("cgroup.procs"); err == nil {
		t.Error("a file passed for a cgroup")
	}
}

// A missing file is unset, or unsupported where a number is asked for.
func TestAbsence(t *testing.T) {
	tree := cgrouptest.New(t)
	old := tree.Open("/old-kernel")
	tree.Omit("/old-kernel", "memory.peak", "pids.events.local")
	off := tree.Open("/no-memory")
	tree.WithoutController("/no-memory", "memory")

	for _, g := range []*cgroup.Group{old, off} {
		if v, err := g.MemoryPeak(); v.IsSet() || err != nil {
			t.Errorf("%s: MemoryPeak = %v, %v; want unset", g.Path(), v, err)
		}
	}
	if v, err := old.PidsEventsLocal(); v.IsSet() || err != nil {
		t.Errorf("PidsEventsLocal = %v, %v; want unset", v, err)
	}
	if _, err := off.MemoryCurrent(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("MemoryCurrent = %v, want ErrUnsupported", err)
	}
	if _, err := off.MemoryEvents(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("MemoryEvents = %v, want ErrUnsupported", err)
	}
}

func TestRootHasNoLimits(t *testing.T) {
	tree := cgrouptest.New(t)
	root, err := tree.FS().Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	l, err := root.Limits()
	if err != nil || l != (cgroup.Limits{}) {
		t.Errorf("got %+v, %v; want all unset", l, err)
	}
	if _, err := root.Events(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("Events: %v, want ErrUnsupported", err)
	}
	if root.Gone() {
		t.Error("the root is gone")
	}
}

// An unreadable file is neither unset nor gone. A directory in its place makes read fail even for root.
func TestUnreadable(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	for _, file := range []string{"memory.peak", "memory.events", "cgroup.events"} {
		tree.Omit("/a", file)
		if err := os.Mkdir(filepath.Join(tree.Dir("/a"), file), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, peakErr := g.MemoryPeak()
	_, memoryErr := g.MemoryEvents()
	_, eventsErr := g.Events()
	for _, err := range []error{peakErr, memoryErr, eventsErr} {
		if err == nil || errors.Is(err, cgroup.ErrGone) || errors.Is(err, cgroup.ErrUnsupported) {
			t.Errorf("got %v, want another error", err)
		}
	}
}

func TestModTime(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	got, err := g.ModTime()
	if err != nil || time.Since(got).Abs() > time.Hour {
		t.Errorf("got %v, %v", got, err)
	}
}

// Close while others read: they get their answer or ErrClosed, never somebody else's file.
func TestCloseIsSafe(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a")
	tree.Write("/a", "memory.current", "7")
	for range 50 {
		g, err := tree.FS().Open("/a")
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for {
					n, err := g.MemoryCurrent()
					if errors.Is(err, cgroup.ErrClosed) {
						return
					}
					if n != 7 || err != nil {
						t.Errorf("got %d, %v", n, err)
						return
					}
				}
			})
		}
		g.Close()
		readers.Wait()
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a/b/c")
	tree.Omit("/a", "memory.peak")
	exercise := func() {
		g, err := tree.FS().Open("/a")
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		everyCall(g)
		tree.FS().Open("/none")
	}
	exercise()
	before := openDescriptors(t)
	for range 20 {
		exercise()
	}
	if after := openDescriptors(t); after > before { // fewer: a finalizer of an earlier test
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
