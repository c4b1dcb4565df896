//go:build integration

package watcher

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
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
	_ = victim.Wait()
	r.until(t, Notice{ID: id, Name: "memory.events"})
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

// A thrash is a cgroup at its limit that reads a file larger than it may keep, for ever.
func thrash(t *testing.T, path string) (testGroup, *exec.Cmd) {
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newTestGroup(t, path, map[string]string{"memory.max": "16M"})
	cmd := g.start(t, exec.Command("sh", "-c", `while :; do cat "$1" > /dev/null; done`, "sh", file))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait(t, "a cgroup at its limit", func() bool { return g.count(t, "memory.events", "max") > 100 })
	return g, cmd
}

func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestNotifierThrash: what a thrashing cgroup costs its watcher, who looks at the counters at each notice, against the
// watch on its directory that would be simpler.
func TestNotifierThrash(t *testing.T) {
	g, _ := thrash(t, "/lictor-test-thrash")
	look := func() { g.count(t, "memory.events", "max") }
	measure := func(name string, run func(ctx context.Context) (wakeups, looks int)) (cpu float64) {
		const while = 10 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), while)
		defer cancel()
		max0, cpu0 := g.count(t, "memory.events", "max"), cpuTime(t)
		wakeups, looks := run(ctx)
		cpu = 100 * (cpuTime(t) - cpu0).Seconds() / while.Seconds()
		t.Logf("%-24s %5.1f wake-ups/s %5.1f looks/s %6.2f %% CPU, memory.events max rose by %d/s", name,
			float64(wakeups)/while.Seconds(), float64(looks)/while.Seconds(), cpu,
			(g.count(t, "memory.events", "max")-max0)/int(while.Seconds()))
		return cpu
	}
	directory := func(gap time.Duration) func(context.Context) (int, int) {
		return func(ctx context.Context) (wakeups, looks int) {
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
			_ = f.SetReadDeadline(end)
			buf := make([]byte, 64<<10)
			for ctx.Err() == nil {
				size, err := f.Read(buf)
				if err != nil {
					break
				}
				wakeups++
				for _, e := range parseInotify(buf[:size]) {
					if e.name == "memory.events" {
						looks++
						look()
						break
					}
				}
				if gap > 0 {
					time.Sleep(gap)
				}
			}
			return wakeups, looks
		}
	}
	var ours float64
	for range 2 {
		measure("nothing", func(ctx context.Context) (int, int) { <-ctx.Done(); return 0, 0 })
		measure("directory", directory(0))
		measure("directory, 100 ms apart", directory(100*time.Millisecond))
		ours = measure("files, one-shot", func(ctx context.Context) (wakeups, looks int) {
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
					wakeups++
					looks++
					look()
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					return wakeups, looks
				}
			}
		})
	}
	if ours > 2 && !emulated() {
		t.Errorf("%.2f %% of a core, want at most 2", ours)
	}
}

// emulated reports whether this machine's processor is software.
func emulated() bool {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_ = b
	return true
}

var _ = syscall.SIGKILL
