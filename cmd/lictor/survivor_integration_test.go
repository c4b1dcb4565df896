//go:build integration

package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// icebox is a file system that is frozen: whoever writes to it sleeps in the kernel, beyond the reach of SIGKILL.
func (b *bed) icebox() (dir string, thaw func()) {
	b.Helper()
	dir = filepath.Join(b.dir, "icebox")
	image := dir + ".img"
	b.must("truncate", "-s", "16M", image)
	b.must("mkfs.ext4", "-q", image)
	b.must("mkdir", dir)
	b.must("modprobe", "loop") // nobody loads it for losetup where udev does not coldplug
	b.must("mount", "-o", "loop", image, dir)
	b.Cleanup(func() { b.must("umount", dir) })
	b.must("fsfreeze", "-f", dir)
	frozen := true
	thaw = func() {
		if frozen {
			frozen = false
			b.must("fsfreeze", "-u", dir)
		}
	}
	b.Cleanup(thaw)
	return dir, thaw
}

func (b *bed) must(name string, args ...string) string {
	b.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// hangs waits until the main process of a run hangs in the kernel.
func (b *bed) hangs(id scope.RunID) (pid int) {
	b.Helper()
	b.eventually("the run hangs", func() bool {
		for _, p := range b.members(id) {
			if st, err := cgroup.ReadStat(p); err == nil && st.State == 'D' {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}

// TestK14: processes that SIGKILL does not reach, of a run with a launcher and of one that the daemon keeps. They are named
// once, the runs do not end before they do, and nobody spins.
func TestK14(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		dir, thaw := b.icebox()
		kept := b.left("kept", "--grace", "1", "--", "dd", "if=/dev/zero", "of="+dir+"/a", "count=1")
		p := b.start("run", "-t", "2", "--grace", "1", "--analysis-id", "timed", "--", "dd", "if=/dev/zero", "of="+dir+"/b", "count=1")
		var timed scope.RunID
		b.eventually("both runs are alive", func() bool {
			for _, id := range b.ledgers() {
				if id != kept && len(b.members(id)) > 0 {
					timed = id
				}
			}
			return timed != ""
		})
		pids := map[scope.RunID]int{kept: b.hangs(kept), timed: b.hangs(timed)}
		if r := b.lictor("stop", string(kept)); r.code == 0 || !strings.Contains(r.stderr, "hang in the kernel: pid ") {
			b.Errorf("stop: %+v, want the survivor named", r)
		}
		for id, pid := range pids {
			b.eventually("the survivor of "+string(id)+" is on record", func() bool {
				return len(b.events(events.RunID(id), events.KindSurvived)) > 0
			})
			b.stuck(id, pid)
		}
		b.idle(p.Process.Pid, d.Process.Pid)
		if n := len(b.runs()); n != 2 || b.record(kept).State.Final() || b.record(timed).State.Final() {
			b.Errorf("%d runs, want two that have not ended", n)
		}
		thaw()
		b.outlived(b.want(b.finishCommand(p), 124, events.StateKilled, events.ReasonTimeout, "systemd"), pids[timed])
		run := b.ended(kept)
		b.wantRun(run, events.StateKilled, events.ReasonStop, "uid 0")
		b.outlived(run, pids[kept])
	})
}

// stuck asserts how a run looks of which a process outlives SIGKILL.
func (b *bed) stuck(id scope.RunID, pid int) {
	b.Helper()
	var status struct {
		Run events.Run `json:"run"`
	}
	r := b.lictor("status", "--json", string(id))
	if err := json.Unmarshal([]byte(r.stdout), &status); err != nil {
		b.Fatalf("status: %v: %+v", err, r)
	}
	if run := status.Run; run.State != events.StateGrace || !names(run.Survivors, pid) {
		b.Errorf("state %q, survivors %+v, want grace and pid %d", run.State, run.Survivors, pid)
	}
	if r := b.lictor("ps"); !strings.Contains(r.stdout, string(id)[:8]) || !strings.Contains(r.stdout, "grace") {
		b.Errorf("ps: %+v, want the run in it", r)
	}
	if r := b.lictor("why", string(id)); !strings.Contains(r.stdout, "outlived SIGKILL so far") || !strings.Contains(r.stdout, "(D state") {
		b.Errorf("why: %+v, want the survivor in it", r)
	}
	b.eventually("the journal has it as an error", func() bool {
		out, _ := exec.Command("journalctl", "-q", "-o", "json", "LICTOR_RUN="+string(id), "LICTOR_KIND=survived").Output()
		return strings.Contains(string(out), `"PRIORITY":"3"`)
	})
}

func names(list []events.Process, pid int) bool {
	return slices.ContainsFunc(list, func(p events.Process) bool {
		return p.PID == pid && p.Comm == "dd" && p.State == "D" && p.WChan != ""
	})
}

// outlived asserts the record of a run of which a process outlived SIGKILL.
func (b *bed) outlived(run *events.Run, pid int) {
	b.Helper()
	if !names(run.Survivors, pid) {
		b.Errorf("survivors %+v, want pid %d", run.Survivors, pid)
	}
	has := func(step string) bool {
		return slices.ContainsFunc(run.Escalation, func(s events.Step) bool { return s.Step == step })
	}
	if !has("kill") || !has("survived") || !has("empty") {
		b.Errorf("escalation %+v, want kill, survived and empty", run.Escalation)
	}
	if n := len(b.events(run.Run, events.KindSurvived)); n != 1 {
		b.Errorf("%d survived events, want 1", n)
	}
}

// idle asserts that processes use next to no processor time for a while.
func (b *bed) idle(pids ...int) {
	b.Helper()
	ticks := func() (all uint64) {
		for _, pid := range pids {
			st, err := cgroup.ReadStat(pid)
			if err != nil {
				b.Fatal(err)
			}
			all += st.UserTicks + st.SysTicks
		}
		return all
	}
	const while = 2 * time.Second
	before, start := ticks(), time.Now()
	b.eventually("some time has passed", func() bool { return time.Since(start) > while })
	if used := ticks() - before; used > 50 { // of 200 each; the daemon sweeps in between, and emulation is slow
		b.Errorf("processes %v used %d0 ms of processor time within %v", pids, used, while)
	}
}
