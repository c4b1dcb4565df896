//go:build integration

package watcher

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

func openKernelLog(t *testing.T) *KernelLog {
	t.Helper()
	k, err := OpenKernelLog()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// openFreshKernelLog opens the log at a time when the kernel has all its dump lines left.
func openFreshKernelLog(t *testing.T) *KernelLog {
	t.Helper()
	past, err := OpenKernelLogSince(0)
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	wait(t, "the kernel's rate limit", func() bool {
		_, _, err := past.Kills()
		dates := past.join.dumps.dates
		return err != nil || len(dates) == 0 || monotonic()-dates[len(dates)-1] > oomDumpInterval
	})
	return openKernelLog(t)
}

// killsOf returns the kills with one of the pids, by pid; twice the same is an error.
func killsOf(t *testing.T, kills []KernelKill, cmds ...*exec.Cmd) map[int]KernelKill {
	t.Helper()
	byPID := map[int]KernelKill{}
	for _, k := range kills {
		if slices.ContainsFunc(cmds, func(c *exec.Cmd) bool { return c.Process.Pid == k.PID }) {
			if _, twice := byPID[k.PID]; twice {
				t.Errorf("two kills of %d: %+v", k.PID, kills)
			}
			byPID[k.PID] = k
		}
	}
	return byPID
}

func mustKills(t *testing.T, k *KernelLog) []KernelKill {
	t.Helper()
	kills, lost, err := k.Kills()
	if err != nil || lost {
		t.Fatalf("Kills: lost %v, error %v", lost, err)
	}
	return kills
}

var small = map[string]string{"memory.max": "8M"}

func TestKernelLogOwnLimit(t *testing.T) {
	log := openFreshKernelLog(t)
	before := monotonic()
	g := newTestGroup(t, "/lictor-test-own", small)
	victim := g.glutton(t)
	_ = victim.Wait()
	k, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]
	if !ok {
		t.Fatal("the victim is not in the log")
	}
	if k.Comm != "tail" || k.UID == nil || *k.UID != 0 || k.Constraint != "CONSTRAINT_MEMCG" || k.OOMMemcg != g.path ||
		k.TaskMemcg != g.path || k.Global || k.Group != "" {
		t.Errorf("%+v, want tail of uid 0 at the limit of %s", k, g.path)
	}
	if k.AnonRSS == nil || *k.AnonRSS < 4<<20 || *k.AnonRSS > 8<<20 || k.FileRSS == nil || k.ShmemRSS == nil {
		t.Errorf("%+v, want an anonymous size of 4 to 8 MiB, and the other sizes", k)
	}
	if skew := (k.At - before).Abs(); skew > 2*eventually {
		t.Errorf("killed at %v, started at %v on CLOCK_MONOTONIC", k.At, before)
	}
	if again := mustKills(t, log); len(again) != 0 {
		t.Errorf("%+v for the second time", again)
	}
}

func TestKernelLogNames(t *testing.T) {
	log := openFreshKernelLog(t)
	above := newTestGroup(t, "/lictor-test,task_memcg=", small)
	g := newTestGroup(t, above.path+"/x,task=y z", nil)
	tail, err := exec.LookPath("tail")
	if err != nil {
		t.Fatal(err)
	}
	for _, comm := range []string{") total-vm:1kB", ",pid=1,uid=0", "a) (b", "a\nb\\x41\xff", "Tasks in ", "a b"} {
		path := filepath.Join(t.TempDir(), comm)
		if err := os.Symlink(tail, path); err != nil {
			t.Fatal(err)
		}
		victim := g.start(t, exec.Command(path, "/dev/zero"))
		_ = victim.Wait()
		k, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]
		if !ok || k.Comm != comm || k.OOMMemcg != above.path || k.TaskMemcg != g.path {
			t.Errorf("comm %q: %v, %+v, want it in %q at the limit of %q", comm, ok, k, g.path, above.path)
		}
	}
}

func TestKernelLogLongPath(t *testing.T) {
	log := openFreshKernelLog(t)
	g := newTestGroup(t, "/lictor-test-long", small)
	for range 5 {
		g = newTestGroup(t, g.path+"/"+strings.Repeat("x", 250), nil)
	}
	victim := g.glutton(t)
	_ = victim.Wait()
	k, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]
	if !ok || k.TaskMemcg != "" && k.TaskMemcg != g.path {
		t.Errorf("%v, %+v, want a kill, and its path or nothing", ok, k)
	}
}

func TestKernelLogGroup(t *testing.T) {
	log := openFreshKernelLog(t)
	above := newTestGroup(t, "/lictor-test-group", nil)
	g := newTestGroup(t, above.path+"/scope", map[string]string{"memory.max": "16M", "memory.oom.group": "1"})
	bystander := newTestGroup(t, above.path+"/bystander", nil)
	alive := bystander.sleeper(t)
	cmds := []*exec.Cmd{g.sleeper(t), g.sleeper(t), g.glutton(t)}
	for _, c := range cmds {
		_ = c.Wait()
	}
	all := mustKills(t, log)
	if k, killed := killsOf(t, all, alive)[alive.Process.Pid]; killed || bystander.count(t, "cgroup.events", "populated") != 1 {
		t.Errorf("the bystander: %v, %+v, want it alive", killed, k)
	}
	kills := killsOf(t, all, cmds...)
	for i, c := range cmds {
		k, ok := kills[c.Process.Pid]
		if !ok || k.Group != g.path || k.OOMMemcg != g.path || k.Constraint != "CONSTRAINT_MEMCG" {
			t.Errorf("process %d: %v, %+v, want it in group %s", i, ok, k, g.path)
		}
		if task := k.TaskMemcg; task != "" && (i != 2 || task != g.path) {
			t.Errorf("process %d: cgroup %q, want %q for the first victim only", i, task, g.path)
		}
	}
}

// TestKernelLogBurst: more kills than the kernel prints dump lines for, in two groups at once. All of them are reported,
// none twice, and none with somebody else's cgroup.
func TestKernelLogBurst(t *testing.T) {
	log := openKernelLog(t)
	const rounds = 25
	where, kills := map[int]string{}, []KernelKill{}
	for round := range rounds {
		var cmds []*exec.Cmd
		for i := range 2 {
			g := newTestGroup(t, fmt.Sprintf("/lictor-test-burst-%d-%d", round, i), map[string]string{"memory.max": "4M", "memory.oom.group": "1"})
			for _, c := range []*exec.Cmd{g.sleeper(t), g.glutton(t)} {
				where[c.Process.Pid] = g.path
				cmds = append(cmds, c)
			}
		}
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			for _, c := range cmds {
				_ = c.Wait()
			}
		}()
		for reading := true; reading; { // as fast as possible, so that the kernel is often in the middle of an incident
			select {
			case <-dead:
				reading = false
			default:
			}
			kills = append(kills, mustKills(t, log)...)
		}
	}
	seen, dumps, groups, placed := map[int]bool{}, 0, 0, 0
	for _, k := range kills {
		group, ours := where[k.PID]
		if !ours {
			continue
		}
		if seen[k.PID] {
			t.Errorf("%d is reported twice", k.PID)
		}
		seen[k.PID] = true
		for _, path := range []string{k.Group, k.OOMMemcg, k.TaskMemcg} {
			if path != "" && path != group {
				t.Errorf("%+v, want nothing but %s", k, group)
			}
		}
		if k.TaskMemcg != "" {
			dumps++
		}
		if k.Group != "" {
			groups++
		}
		if k.TaskMemcg != "" || k.Group != "" {
			placed++
		}
	}
	if len(seen) != len(where) {
		t.Errorf("%d of %d kills", len(seen), len(where))
	}
	if placed < 2*rounds {
		t.Errorf("%d kills with a cgroup or a group, want at least the first of each of the %d", placed, 2*rounds)
	}
	t.Logf("%d kills in %d groups: %d with a cgroup, %d with a group, %d with either", len(seen), 2*rounds, dumps, groups, placed)
}

// TestKernelLogGlobal: the host has no memory left, or somebody says so by sysrq.
func TestKernelLogGlobal(t *testing.T) {
	inTestBed(t)
	log := openKernelLog(t)
	g := newTestGroup(t, "/lictor-test-global", nil)
	victim := g.sleeper(t)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", victim.Process.Pid), []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("f"), 0); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	k, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]
	if !ok || !k.Global || k.Constraint != "CONSTRAINT_NONE" && k.Constraint != "" || k.OOMMemcg != "" {
		t.Errorf("%v, %+v, want a global kill", ok, k)
	}
	if k.Constraint != "" && k.TaskMemcg != g.path {
		t.Errorf("%+v, want it in %s", k, g.path)
	}
}

func TestKernelLogSince(t *testing.T) {
	before := cgroup.Boottime()
	g := newTestGroup(t, "/lictor-test-since", small)
	victim := g.glutton(t)
	_ = victim.Wait()
	for _, tt := range []struct {
		since time.Duration
		want  bool
	}{{before, true}, {0, true}, {cgroup.Boottime() + time.Hour, false}} {
		log, err := OpenKernelLogSince(tt.since)
		if err != nil {
			t.Fatal(err)
		}
		kills, _, err := log.Kills()
		if err != nil {
			t.Fatal(err)
		}
		if _, got := killsOf(t, kills, victim)[victim.Process.Pid]; got != tt.want {
			t.Errorf("since %v: the kill is reported: %v, want %v", tt.since, got, tt.want)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := log.Kills(); err == nil {
			t.Error("Kills after Close: no error")
		}
	}
}

func TestKernelLogLost(t *testing.T) {
	log := openKernelLog(t)
	kmsg, err := os.OpenFile(kmsgPath, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer kmsg.Close()
	size, err := unix.Klogctl(10, nil) // SYSLOG_ACTION_SIZE_BUFFER
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("<13>" + strings.Repeat("x", 900))
	for range size/900 + 100 {
		if _, err := kmsg.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if _, lost, err := log.Kills(); err != nil || !lost {
		t.Errorf("Kills: lost %v, error %v, want lost", lost, err)
	}
	g := newTestGroup(t, "/lictor-test-lost", small)
	victim := g.glutton(t)
	_ = victim.Wait()
	if _, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]; !ok {
		t.Error("the victim after the gap is not in the log")
	}
}

func TestKernelLogForbidden(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, its privileges with it
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := make([]unix.CapUserData, 2)
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := OpenKernelLog()
		done <- err
	}()
	if err := <-done; !errors.Is(err, os.ErrPermission) {
		t.Errorf("OpenKernelLog without capabilities: %v, want os.ErrPermission", err)
	}
}

func TestKernelLogDescriptors(t *testing.T) {
	before := openFiles(t)
	for range 100 {
		if err := openKernelLog(t).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// TestKernelLogThread: when the main thread has exited, the kernel names another one.
func TestKernelLogThread(t *testing.T) {
	const program = `
import ctypes, threading, time
def eat():
    time.sleep(1)
    hoard = []
    while True: hoard.append(bytearray(b'x' * (1 << 20)))
threading.Thread(target=eat).start()
ctypes.CDLL(None).pthread_exit(None)
`
	log := openFreshKernelLog(t)
	g := newTestGroup(t, "/lictor-test-thread", map[string]string{"memory.max": "32M"})
	var victim *exec.Cmd
	for range 5 { // what glibc makes of a main thread of Python's that exits is an abort now and then, and nobody's kill
		victim = g.start(t, exec.Command("python3", "-c", program))
		_ = victim.Wait()
		if status, ok := victim.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			break
		}
		t.Logf("it was not killed: %v", victim.ProcessState)
	}
	k, ok := killsOf(t, mustKills(t, log), victim)[victim.Process.Pid]
	if !ok || k.TaskMemcg != g.path {
		t.Errorf("%v, %+v, want process %d in %s", ok, k, victim.Process.Pid, g.path)
	}
}
