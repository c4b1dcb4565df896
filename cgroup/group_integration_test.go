//go:build integration

package cgroup_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

func TestRealDetect(t *testing.T) {
	fs, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	controllers, err := fs.Controllers()
	if err != nil || !slices.Contains(controllers, "memory") || !slices.Contains(controllers, "pids") {
		t.Errorf("controllers %q, %v", controllers, err)
	}
	if fs.MemoryLocalEvents() {
		t.Error("systemd does not mount with memory_localevents")
	}
	path, err := fs.PathOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	g, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if pids, err := g.Procs(); !slices.Contains(pids, os.Getpid()) || err != nil {
		t.Errorf("%s: %v, %v; want %d among them", path, pids, err, os.Getpid())
	}
}

func TestRealRoot(t *testing.T) {
	fs, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	root, err := fs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if l, err := root.Limits(); err != nil || l != (cgroup.Limits{}) {
		t.Errorf("Limits: got %+v, %v; want all unset", l, err)
	}
	if _, err := root.Events(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("Events: got %v, want ErrUnsupported", err)
	}
	if s, err := root.MemoryStat(); err != nil || s.Anon == 0 {
		t.Errorf("MemoryStat: %+v, %v", s, err)
	}
	if root.Gone() {
		t.Error("the root is gone")
	}
}

func TestRealIdentity(t *testing.T) {
	s := newSubtree(t)
	old := s.make("run.scope")
	s.rmdir("run.scope")
	young := s.make("run.scope")
	victim := start(t, young, "sleep", "1000")

	if old.ID() == young.ID() {
		t.Errorf("both have id %d", old.ID())
	}
	if !old.Gone() || young.Gone() {
		t.Errorf("old gone: %t, young gone: %t", old.Gone(), young.Gone())
	}
	for name, err := range everyCall(old) {
		if !errors.Is(err, cgroup.ErrGone) {
			t.Errorf("%s of the removed one: got %v, want ErrGone", name, err)
		}
	}
	if !isAlive(victim.Process.Pid) {
		t.Error("a process of the new cgroup was killed through the old one")
	}
	if frozen, err := young.Frozen(); frozen || err != nil {
		t.Errorf("the new one: frozen %t, %v", frozen, err)
	}
}

// A cgroup is removed while it is read: every answer is whole or ErrGone, and no file passes for one that the kernel lacks.
func TestRealRemovalRace(t *testing.T) {
	s := newSubtree(t)
	const limit = 64 << 20
	for range 50 {
		g := s.make("racing")
		s.write("racing", "memory.max", "67108864")
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for range 100_000 {
					if !readWhole(t, g, limit) {
						return
					}
				}
				t.Error("still there")
			})
		}
		s.rmdir("racing")
		readers.Wait()
		g.Close()
	}
}

// readWhole reads what must be there as long as the cgroup is, and returns false once it is gone.
func readWhole(t *testing.T, g *cgroup.Group, limit uint64) bool {
	check := func(name string, set bool, err error) bool {
		switch {
		case errors.Is(err, cgroup.ErrGone):
			return false
		case err != nil:
			t.Errorf("%s: %v", name, err)
			return false
		case !set:
			t.Errorf("%s: unset or zero", name)
			return false
		}
		return true
	}
	peak, peakErr := g.MemoryPeak()
	limitValue, limitErr := g.MemoryMax()
	pidsMax, pidsErr := g.PidsMax()
	_, eventsErr := g.MemoryEvents()
	_, populatedErr := g.Events()
	u, usageErr := g.Usage()
	return check("MemoryPeak", peak.IsSet(), peakErr) &&
		check("MemoryMax", limitValue == cgroup.Bytes(limit), limitErr) &&
		check("PidsMax", pidsMax.IsMax(), pidsErr) &&
		check("MemoryEvents", true, eventsErr) &&
		check("Events", true, populatedErr) &&
		check("Usage", u.MemoryCurrent.IsSet() && u.MemoryPeak.IsSet(), usageErr)
}

func TestRealChildren(t *testing.T) {
	s := newSubtree(t)
	s.make("b")
	s.make("a")
	s.make("a/below")
	g := s.open("")
	if names, err := g.Children(); !slices.Equal(names, []string{"a", "b"}) || err != nil {
		t.Errorf("got %q, %v", names, err)
	}
}

func TestRealWithoutControllers(t *testing.T) {
	s := newSubtree(t)
	s.make("plain")
	g := s.make("plain/bare") // nothing is enabled for what is inside plain
	if v, err := g.MemoryPeak(); v.IsSet() || err != nil {
		t.Errorf("MemoryPeak: %v, %v; want unset", v, err)
	}
	if l, err := g.Limits(); l != (cgroup.Limits{}) || err != nil {
		t.Errorf("Limits: %+v, %v; want all unset", l, err)
	}
	if _, err := g.MemoryEvents(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("MemoryEvents: %v, want ErrUnsupported", err)
	}
	if u, err := g.Usage(); err != nil || u.MemoryCurrent.IsSet() {
		t.Errorf("Usage: %+v, %v", u, err)
	}
	if _, err := g.CPUUsage(); err != nil {
		t.Errorf("CPUUsage: %v; cpu.stat needs no controller", err)
	}
}

func TestRealXattrs(t *testing.T) {
	s := newSubtree(t)
	g := s.make("ledger.slice")
	testXattrs(t, g)
	again := s.open("ledger.slice") // what a newcomer does
	if v, ok, err := again.Xattr("user.lictor.long"); len(v) != 3000 || !ok || err != nil {
		t.Errorf("through another descriptor: %d bytes, %t, %v", len(v), ok, err)
	}
}

// A zombie's cgroup can be removed; then it has a path that means nothing.
func TestRealPathOfZombie(t *testing.T) {
	s := newSubtree(t)
	g := s.make("a")
	zombie := start(t, g, "true")
	eventually(t, "the zombie", func() bool {
		st, err := cgroup.ReadStat(zombie.Process.Pid)
		return err == nil && st.State == 'Z'
	})
	if pids, err := g.Procs(); len(pids) != 0 || err != nil {
		t.Errorf("Procs: got %v, %v; want no zombie", pids, err)
	}
	s.rmdir("a")
	path, err := s.fs.PathOf(zombie.Process.Pid)
	if !errors.Is(err, cgroup.ErrGone) || path != g.Path() {
		t.Errorf("got %q, %v; want %q and ErrGone", path, err, g.Path())
	}
}

// Seen from inside a pid namespace, a process outside is a 0 in cgroup.procs.
func TestRealHiddenProcs(t *testing.T) {
	if path := os.Getenv("LICTOR_TEST_HIDDEN"); path != "" {
		fs, err := cgroup.Detect()
		if err != nil {
			t.Fatal(err)
		}
		g, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if pids, err := g.AllProcs(); len(pids) != 0 || !errors.Is(err, cgroup.ErrHidden) {
			t.Fatalf("got %v, %v; want none and ErrHidden", pids, err)
		}
		return
	}
	s := newSubtree(t)
	g := s.make("a")
	start(t, g, "sleep", "1000")
	inside := exec.Command("/proc/self/exe", "-test.run=^TestRealHiddenProcs$", "-test.v")
	inside.Env = append(os.Environ(), "LICTOR_TEST_HIDDEN="+g.Path())
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if out, err := inside.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The processes of a threaded cgroup belong to the domain above it.
func TestRealThreaded(t *testing.T) {
	s := newSubtree(t)
	s.make("domain")
	threaded := s.make("domain/threaded")
	s.write("domain/threaded", "cgroup.type", "threaded")
	domain := s.open("domain")
	member := start(t, domain, "sleep", "1000")
	s.write("domain/threaded", "cgroup.threads", itoa(member.Process.Pid))

	if _, err := threaded.Procs(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("Procs of the threaded one: %v, want ErrUnsupported", err)
	}
	if err := threaded.Kill(); !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("Kill of the threaded one: %v, want ErrUnsupported", err)
	}
	if pids, err := domain.AllProcs(); !slices.Equal(pids, []int{member.Process.Pid}) || err != nil {
		t.Errorf("AllProcs: got %v, %v", pids, err)
	}
	if err := domain.Kill(); err != nil {
		t.Error(err)
	}
	if sig := endedBy(member); sig != unix.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
}
