//go:build integration

package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// wild is a process of the user that nobody confines. It is ended, with its group, when the test is over.
func (b *bed) wild(name string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := b.command(name, args...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd
}

// wildPython is wild with a Python program that tells when it is ready by making the file "ready".
func (b *bed) wildPython(program string) *exec.Cmd {
	b.Helper()
	cmd := b.wild("python3", "-c", program)
	b.eventually("the program is ready", func() bool { _, err := os.Stat(filepath.Join(b.dir, "ready")); return err == nil })
	return cmd
}

const saysReady = "open('ready', 'w').close()\n"

// grown is a process with a child, and a grandchild that has left session and parent.
const grown = "import os, time\nif os.fork() == 0:\n if os.fork() == 0:\n  os.setsid()\n " + "time.sleep(600)\n" +
	"time.sleep(0.5)\n" + saysReady + "time.sleep(600)\n"

func (b *bed) adopt(cmd *exec.Cmd, flags ...string) scope.RunID {
	b.Helper()
	r := b.lictor(append(append([]string{"adopt"}, flags...), strconv.Itoa(cmd.Process.Pid))...)
	id := scope.RunID(strings.TrimSpace(r.stdout))
	if r.code != 0 || !id.Valid() || r.stderr != "" {
		b.Fatalf("adopt: %+v", r)
	}
	return id
}

func (b *bed) run(id scope.RunID) *events.Run {
	b.Helper()
	run, err := b.open().Run(context.Background(), events.RunID(id))
	if err != nil {
		b.Fatal(err)
	}
	return run
}

// kernelSays reads a file of the scope's cgroup.
func (b *bed) kernelSays(id scope.RunID, file string) string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.scopeDir(id), file))
	if err != nil {
		b.Error(err)
	}
	return strings.TrimSpace(string(text))
}

// over waits until nobody of a run is left, lets a listing come by and returns the record.
func (b *bed) over(id scope.RunID) *events.Run {
	b.Helper()
	b.eventually("the scope is gone", func() bool { _, err := os.Stat(b.scopeDir(id)); return err != nil })
	if r := b.lictor("ps"); r.code != 0 || r.stderr != "" {
		b.Errorf("ps: %+v", r)
	}
	return b.run(id)
}

// TestAdopt: a tree with a process that left it is confined whole, is left alone by those who look, and ends with a record.
func TestAdopt(t *testing.T) {
	eachManager(t, func(b *bed) {
		cmd := b.wildPython(grown)
		id := b.adopt(cmd, "-m", "100M", "-t", "10min", "--tasks-max", "50", "--analysis-id", "SDA-117", "--name", "old", "-l", "k=v")
		if pids := b.members(id); len(pids) != 3 {
			b.Errorf("members %v, want 3", pids)
		}
		if limit := b.kernelSays(id, "memory.max"); limit != strconv.Itoa(100<<20) {
			b.Errorf("memory.max %s", limit)
		}
		run := b.run(id)
		if run.State != events.StateRunning || !run.Adopted || run.UID != uint32(b.uid()) || *run.LeaderPID != cmd.Process.Pid ||
			run.AnalysisID != "SDA-117" || run.Name != "old" || run.Labels["k"] != "v" || run.Cwd != b.dir || run.Command[0] != "python3" {
			b.Errorf("record %+v", run)
		}
		if es := b.events(run.Run); len(es) != 1 || es[0].Kind != events.KindAdopted || *es[0].PID != cmd.Process.Pid {
			b.Errorf("events %+v, want one adopted", es)
		}
		for range 2 {
			if r := b.lictor("watch", "--once"); r.code != 0 || r.stdout != "" || len(b.members(id)) != 3 {
				b.Fatalf("watch --once: %+v, members %v", r, b.members(id))
			}
		}
		if r := b.lictor("ps", "-q"); r.stdout != string(id)+"\n" {
			b.Errorf("ps -q: %+v", r)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if r := b.lictor("watch", "--once"); r.code != exitActed {
			b.Errorf("watch --once with left-overs: %+v", r)
		}
		run = b.run(id)
		b.wantRun(run, events.StateEnded, events.ReasonNone, "")
		if run.Exit.Kind != events.ExitUnknown || run.EndedAt == nil {
			b.Errorf("exit %+v, ended %v", run.Exit, run.EndedAt)
		}
		if n := len(b.events(run.Run, events.KindOrphans)); n != 1 {
			b.Errorf("%d orphans events, want 1", n)
		}
		if n := len(b.events(run.Run, events.KindAdopted)) + 10*len(b.events(run.Run, events.KindStarted)); n != 1 {
			b.Errorf("adopted and started events: %d, want 1 and none", n)
		}
	})
}

// TestAdoptEnds: however an adopted run ends, with nobody keeping it, the next look says what can be known.
func TestAdoptEnds(t *testing.T) {
	const idle = saysReady + "import time\ntime.sleep(600)"
	for _, tt := range []struct {
		name, program string
		flags         []string
		end           func(*bed, *exec.Cmd, scope.RunID)
		state         events.State
		reason        events.Reason
		by            string
	}{
		{"by itself", idle, nil, func(_ *bed, cmd *exec.Cmd, _ scope.RunID) { _ = cmd.Process.Signal(syscall.SIGTERM) },
			events.StateEnded, events.ReasonNone, ""},
		{"memory", saysReady + "import os, time\nwhile not os.path.exists('go'): time.sleep(0.1)\n" + hog(200), []string{"-m", "60M"},
			func(b *bed, _ *exec.Cmd, _ scope.RunID) { must(os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o644)) },
			events.StateKilled, events.ReasonOOM, "kernel"},
		{"time", idle, []string{"-t", "4", "--grace", "2"}, func(*bed, *exec.Cmd, scope.RunID) {}, events.StateKilled, events.ReasonTimeout, "systemd"},
		{"stop", idle, nil, func(b *bed, _ *exec.Cmd, id scope.RunID) {
			if r := b.lictor("stop", string(id)); r.code != 0 {
				b.Errorf("stop: %+v", r)
			}
		}, events.StateKilled, events.ReasonStop, "uid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachManager(t, func(b *bed) {
				cmd := b.wildPython(tt.program)
				id := b.adopt(cmd, tt.flags...)
				tt.end(b, cmd, id)
				_ = cmd.Wait()
				by := tt.by
				if by == "uid" {
					by = "uid " + b.user.Uid
				}
				b.wantRun(b.over(id), tt.state, tt.reason, by)
			})
		})
	}
}

// TestAdoptForks: a process that forks all the time is adopted with everybody it forked.
func TestAdoptForks(t *testing.T) {
	eachManager(t, func(b *bed) {
		cmd := b.wildPython(saysReady + "import os, time, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n if os.fork() == 0:\n" +
			"  time.sleep(3)\n  os._exit(0)\n time.sleep(0.01)\n")
		id := b.adopt(cmd)
		out, err := exec.Command("pgrep", "-P", strconv.Itoa(cmd.Process.Pid)).Output()
		if err != nil || len(strings.Fields(string(out))) < 5 {
			b.Fatalf("children %q: %v", out, err)
		}
		for _, pid := range strings.Fields(string(out)) {
			where, err := os.ReadFile("/proc/" + pid + "/cgroup")
			if err == nil && !strings.Contains(string(where), id.Scope()) {
				b.Errorf("process %s is in %s", pid, where)
			}
		}
		if r := b.lictor("stop", string(id)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
	})
}

// TestAdoptRefuses: what must not be adopted is refused with words that help, and nothing happens to it.
func TestAdoptRefuses(t *testing.T) {
	eachManager(t, func(b *bed) {
		refused := func(r result, words string) {
			b.Helper()
			if r.code == 0 || !strings.Contains(r.stderr, words) || r.stdout != "" {
				b.Errorf("%+v, want %q", r, words)
			}
		}
		refused(b.lictor("adopt", "1"), "init")
		refused(b.lictor("adopt", "2"), "kernel")
		refused(b.lictor("adopt", "4000000"), "no such process")
		refused(b.lictor("adopt", "x"), "not a process id")
		refused(b.lictor("adopt", "-m", "1", strconv.Itoa(b.canary.Process.Pid)), "MemoryMax")
		if b.mode == ModeUser {
			roots := exec.Command("sleep", "600")
			must(roots.Start())
			refused(b.lictor("adopt", strconv.Itoa(roots.Process.Pid)), "uid 0")
			if err := roots.Process.Kill(); err != nil {
				b.Errorf("root's process: %v", err)
			}
			_ = roots.Wait()
		}
		sh := b.command("sh", "-c", `"$1" adopt $$; exit $?`, "sh", installed())
		var errs bytes.Buffer
		sh.Stdout, sh.Stderr = &errs, &errs
		if err := sh.Run(); err == nil || !strings.Contains(errs.String(), "lictor runs below it") {
			b.Errorf("adopt $$: %v: %s", err, errs.String())
		}
		zombie := b.wild("true")
		b.eventually("a zombie", func() bool {
			st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", zombie.Process.Pid))
			return err == nil && strings.Contains(string(st), ") Z ")
		})
		refused(b.lictor("adopt", strconv.Itoa(zombie.Process.Pid)), "has ended")
		cmd := b.wild("sleep", "600")
		id := b.adopt(cmd)
		refused(b.lictor("adopt", strconv.Itoa(cmd.Process.Pid)), "in run "+string(id)+" already")
		if r := b.lictor("stop", string(id)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
	})
}

// TestAdoptThread: the number of a thread is not taken for its process.
func TestAdoptThread(t *testing.T) {
	asRoot(t, func(b *bed) {
		cmd := b.wildPython("import threading, time\nthreading.Thread(target=lambda: time.sleep(600), daemon=True).start()\n" + saysReady + "time.sleep(600)\n")
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
		if err != nil || len(tasks) != 2 {
			b.Fatal(tasks, err)
		}
		r := b.lictor("adopt", tasks[1].Name())
		if r.code != 1 || !strings.Contains(r.stderr, "it is a thread of process "+strconv.Itoa(cmd.Process.Pid)) {
			b.Errorf("%+v", r)
		}
	})
}

// TestAdoptGivesBack: the record cannot be written when everything else is done. The processes are where they were, without
// limits, and no unit is left (bed.finish looks).
func TestAdoptGivesBack(t *testing.T) {
	eachManager(t, func(b *bed) {
		if r := b.lictor("run", "--", "true"); r.code != 0 {
			b.Fatalf("%+v", r)
		}
		db, err := sql.Open("sqlite", filepath.Join(b.store, "lictor.db"))
		must(err)
		_, err = db.Exec(`CREATE TRIGGER no BEFORE INSERT ON watchdog_processes BEGIN SELECT RAISE(ABORT, 'the test says no'); END`)
		must(err)
		must(db.Close())
		cmd := b.wildPython(grown)
		before := whereIs(cmd.Process.Pid)
		r := b.lictor("adopt", "-t", "3", strconv.Itoa(cmd.Process.Pid))
		if r.code == 0 || !strings.Contains(r.stderr, "the test says no") || r.stdout != "" {
			b.Errorf("%+v", r)
		}
		time.Sleep(6 * time.Second) // beyond the limit that it would have had
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			b.Fatalf("the process was harmed: %v", err)
		}
		after := whereIs(cmd.Process.Pid)
		if b.mode == ModeSystem && after != before {
			b.Errorf("it is in %s, was in %s", after, before)
		}
		if strings.Contains(after, "lictor.slice") {
			b.Errorf("it is in %s", after)
		}
	})
}

func whereIs(pid int) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return strings.TrimSpace(string(text))
}

// TestAdoptJSON: programs get the record.
func TestAdoptJSON(t *testing.T) {
	asRoot(t, func(b *bed) {
		cmd := b.wild("sleep", "600")
		r := b.lictor("adopt", "--json", strconv.Itoa(cmd.Process.Pid))
		var run events.Run
		if err := json.Unmarshal([]byte(r.stdout), &run); err != nil || !run.Adopted || run.State != events.StateRunning {
			b.Errorf("%v: %+v", err, r)
		}
		if r := b.lictor("stop", string(run.Run)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
	})
}
