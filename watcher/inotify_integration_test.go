//go:build integration

package watcher

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNotifierCgroup: a cgroup's own files, named through a held descriptor.
func TestNotifierCgroup(t *testing.T) {
	n := runNotifier(t)
	g := newTestGroup(t, "/lictor-test-inotify", map[string]string{"memory.max": "8M", "pids.max": "3"})
	dir, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	id := n.mustAdd(t, "/proc/self/fd/"+strconv.Itoa(int(dir.Fd())), "cgroup.events", "memory.events", "pids.events")
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}

	sleeper := g.sleeper(t)
	n.until(t, Notice{ID: id, Name: "cgroup.events"})
	if got := g.count(t, "cgroup.events", "populated"); got != 1 {
		t.Errorf("populated %d, want 1", got)
	}
	victim := g.glutton(t)
	for g.count(t, "memory.events", "oom_kill") == 0 {
		n.until(t, Notice{ID: id, Name: "memory.events"})
	}
	_ = victim.Wait()
	shell := g.start(t, exec.Command("sh", "-c", "for i in 1 2 3; do sleep 1 & done; wait"))
	n.until(t, Notice{ID: id, Name: "pids.events"})
	_ = shell.Wait()
	if g.count(t, "pids.events", "max") == 0 {
		t.Error("a notice of pids.events and no refused fork")
	}
	g.write(t, "cgroup.kill", "1")
	_ = sleeper.Wait()
	for g.count(t, "cgroup.events", "populated") == 1 {
		n.until(t, Notice{ID: id, Name: "cgroup.events"})
	}
}

// TestNotifierDropCaches: the kernel reports changes of files whose inodes are cached, and only those.
func TestNotifierDropCaches(t *testing.T) {
	n := runNotifier(t)
	g := newTestGroup(t, "/lictor-test-drop", small)
	id := n.mustAdd(t, g.dir, "cgroup.events", "memory.events")
	for range 2 {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			t.Fatal(err)
		}
		victim := g.glutton(t)
		n.until(t, Notice{ID: id, Name: "cgroup.events"})
		n.until(t, Notice{ID: id, Name: "memory.events"})
		_ = victim.Wait()
		for g.count(t, "cgroup.events", "populated") == 1 {
			n.until(t, Notice{ID: id, Name: "cgroup.events"})
		}
		n.quiet(2 * rearmAfter)
	}
}

// TestNotifierHierarchy: what happens in a scope is told by its ledger's files.
func TestNotifierHierarchy(t *testing.T) {
	n := runNotifier(t)
	ledger := newTestGroup(t, "/lictor-test-ledger", nil)
	parent, err := n.AddChildren(ledger.dir)
	if err != nil {
		t.Fatal(err)
	}
	id := n.mustAdd(t, ledger.dir, "cgroup.events", "memory.events")
	scope := newTestGroup(t, ledger.path+"/scope", map[string]string{"memory.max": "8M"})
	n.until(t, Notice{ID: parent, Kind: NoticeCreated, Name: "scope"})
	victim := scope.glutton(t)
	_ = victim.Wait()
	for ledger.count(t, "memory.events", "oom_kill") == 0 {
		n.until(t, Notice{ID: id, Name: "memory.events"})
	}
	wait(t, "an empty ledger", func() bool { return ledger.count(t, "cgroup.events", "populated") == 0 })
	scope.remove(t)
	n.until(t, Notice{ID: parent, Kind: NoticeRemoved, Name: "scope"})
}

// TestNotifierRemovedCgroup: whether or not this kernel tells that a cgroup has gone, its watches go with Remove.
func TestNotifierRemovedCgroup(t *testing.T) {
	n := runNotifier(t)
	files := openFiles(t)
	for round := range 20 {
		g := newTestGroup(t, "/lictor-test-removed-"+strconv.Itoa(round), small)
		id := n.mustAdd(t, g.dir, "cgroup.events", "memory.events", "pids.events")
		children, err := n.AddChildren(g.dir)
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			victim := g.glutton(t)
			n.until(t, Notice{ID: id, Name: "memory.events"})
			_ = victim.Wait()
		}
		g.remove(t)
		if round == 0 {
			t.Logf("notices of a removed cgroup: %+v, watches: %d", n.quiet(2*rearmAfter), watches(t, n.Notifier))
		}
		n.Remove(id)
		n.Remove(children)
	}
	if w := watches(t, n.Notifier); w != 0 {
		t.Errorf("%d watches, want none", w)
	}
	if after := openFiles(t); after != files {
		t.Errorf("%d descriptors, %d before", after, files)
	}
	n.quiet(batchGap) // a batch may have been on its way
	if got := n.quiet(2 * rearmAfter); len(got) > 0 {
		t.Errorf("notices after Remove: %+v", got)
	}
}

// TestNotifierQueueOverflow: a full queue is told, and the one-shot watches whose events were lost work again.
func TestNotifierQueueOverflow(t *testing.T) {
	const sysctl = "/proc/sys/fs/inotify/max_queued_events"
	before, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(sysctl, before, 0)
	if err := os.WriteFile(sysctl, []byte("16"), 0); err != nil {
		t.Fatal(err)
	}
	n, err := NewNotifier() // takes the limit over
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	g := newTestGroup(t, "/lictor-test-overflow", nil)
	parent, err := n.AddChildren(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	scope := newTestGroup(t, g.path+"/scope", small)
	id, err := n.Add(scope.dir, "memory.events")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		dir := filepath.Join(g.dir, strconv.Itoa(i))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Remove(dir)); err != nil {
			t.Fatal(err)
		}
	}
	victim := scope.glutton(t) // its event is lost, and the watch is gone
	_ = victim.Wait()

	ctx, cancel := context.WithCancel(t.Context())
	r := &runningNotifier{Notifier: n, out: make(chan []Notice), done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx, r.out) }()
	r.until(t, Notice{Kind: NoticeOverflow})
	r.until(t, Notice{ID: id, Name: "memory.events"})
	victim = scope.glutton(t)
	r.until(t, Notice{ID: id, Name: "memory.events"})
	_ = victim.Wait()
	if err := os.Mkdir(filepath.Join(g.dir, "last"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.until(t, Notice{ID: parent, Kind: NoticeCreated, Name: "last"})
	if err := os.Remove(filepath.Join(g.dir, "last")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// thrash returns a cgroup at its limit that reads a file larger than it may keep, for ever.
func thrash(t *testing.T, path string) testGroup {
	t.Setenv("TMPDIR", "/var/tmp") // on a disk: there is no reclaiming a tmpfs
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil { // or the pages stay charged to us
		t.Fatal(err)
	}
	g := newTestGroup(t, path, map[string]string{"memory.max": "16M"})
	cmd := g.start(t, exec.Command("sh", "-c", `while :; do cat "$1" > /dev/null; done`, "sh", file))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait(t, "a cgroup at its limit", func() bool { return g.count(t, "memory.events", "max") > 100 })
	return g
}

// TestNotifierThrash: what a thrashing cgroup costs its watcher, who looks at the counters at each notice, against the
// watch on its directory that would be simpler. Emulation makes both dear; the ratio is what counts.
func TestNotifierThrash(t *testing.T) {
	inTestBed(t)
	g := thrash(t, "/lictor-test-thrash")
	directory := measure(t, "directory", g, func(ctx context.Context, look func()) { watchDirectory(ctx, t, g, look) })
	files := measure(t, "files, one-shot", g, func(ctx context.Context, look func()) { watchFiles(ctx, t, g, look) })
	if files.looks > 2 {
		t.Errorf("%.1f looks a second, want fewer than one", files.looks)
	}
	if files.looks < 0.4 {
		t.Errorf("%.1f looks a second: the watch was lost", files.looks)
	}
	if files.cpu > directory.cpu/2 {
		t.Errorf("%.2f %% CPU, want less than half of the %.2f %% of a directory watch", files.cpu, directory.cpu)
	}
}

type cost struct{ looks, cpu float64 } // a second; percent of a core

func measure(t *testing.T, name string, g testGroup, run func(ctx context.Context, look func())) cost {
	const while = 10 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), while)
	defer cancel()
	looks, events, before := 0, g.count(t, "memory.events", "max"), cpuTime(t)
	run(ctx, func() {
		looks++
		g.count(t, "memory.events", "max")
	})
	c := cost{looks: float64(looks) / while.Seconds(), cpu: 100 * (cpuTime(t) - before).Seconds() / while.Seconds()}
	events = g.count(t, "memory.events", "max") - events
	t.Logf("%-16s %5.1f looks/s %6.2f %% CPU, limit hit %.0f times/s", name, c.looks, c.cpu, float64(events)/while.Seconds())
	return c
}

func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func watchDirectory(ctx context.Context, t *testing.T, g testGroup, look func()) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	if _, err := unix.InotifyAddWatch(fd, g.dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	end, _ := ctx.Deadline()
	if err := f.SetReadDeadline(end); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	for {
		size, err := f.Read(buf)
		if err != nil {
			return
		}
		if slices.ContainsFunc(parseInotify(buf[:size]), func(e inotifyEvent) bool { return e.name == "memory.events" }) {
			look()
		}
	}
}

func watchFiles(ctx context.Context, t *testing.T, g testGroup, look func()) {
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Add(g.dir, "cgroup.events", "memory.events", "pids.events"); err != nil {
		t.Fatal(err)
	}
	out, done := make(chan []Notice), make(chan error, 1)
	go func() { done <- n.Run(ctx, out) }()
	for {
		select {
		case <-out:
			look()
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}
