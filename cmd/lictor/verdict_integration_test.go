//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// hog allocates the given number of MiB and touches every page.
func hog(mib int) string {
	return fmt.Sprintf("x = bytearray(%d << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n", mib)
}

// TestK1: one process allocates twice its MemoryMax.
func TestK1(t *testing.T) {
	eachWay(t, func(b *bed) {
		r := b.python([]string{"-m", "40M"}, hog(80))
		run := b.want(r, 137, events.StateKilled, events.ReasonOOM, "kernel")
		b.ownOOM(run)
		if p := run.Usage.MemoryPeakBytes; p == nil || *p < 38<<20 || *p > 42<<20 {
			b.Errorf("peak %v, want about 40M", p)
		}
		if want := "killed: oom (peak 40M of 40M"; !strings.Contains(r.stderr, want) {
			b.Errorf("stderr %q, want %q in it", r.stderr, want)
		}
		if len(b.events(run.Run, events.KindOOM)) != 1 {
			b.Errorf("oom events: %v, want one", b.events(run.Run, events.KindOOM))
		}
	})
}

// ownOOM asserts an out-of-memory kill at the run's own limit with its main process as a victim.
func (b *bed) ownOOM(run *events.Run) {
	b.Helper()
	if run.OOM.WhoseLimit != "own" || run.OOM.Kills == 0 {
		b.Errorf("oom %+v, want one at the own limit", run.OOM)
	}
	i := slices.IndexFunc(run.Victims, func(v events.Victim) bool { return run.LeaderPID != nil && v.PID == *run.LeaderPID })
	if i < 0 {
		b.Errorf("victims %+v, want the main process %v", run.Victims, run.LeaderPID)
		return
	}
	if v := run.Victims[i]; v.Comm == "" || b.mode == ModeSystem && v.RSSAnonBytes == nil && v.Source == "kernel-log" {
		b.Errorf("victim %+v has no name or no memory", v)
	}
}

// TestK3: the main process sleeps, a child allocates; with oom-policy kill all die of it.
func TestK3(t *testing.T) {
	eachWay(t, func(b *bed) {
		r := b.python([]string{"-m", "60M"}, "import subprocess, sys, time\n"+
			"subprocess.Popen([sys.executable, '-c', "+quoted(hog(120))+"])\ntime.sleep(600)")
		run := b.want(r, 137, events.StateKilled, events.ReasonOOM, "kernel")
		b.ownOOM(run)
		if n := len(b.events(run.Run, events.KindOOM)); n != 1 {
			b.Errorf("%d oom events, want 1", n)
		}
		if run.OOM.GroupKills != 1 {
			b.Errorf("group kills %d, want 1", run.OOM.GroupKills)
		}
	})
}

func quoted(s string) string { text, _ := json.Marshal(s); return string(text) }

// TestK5: the same with oom-policy continue; the main process lives on and exits 0.
func TestK5(t *testing.T) {
	for _, pause := range []string{"0", "4"} { // at once, and long after the kill was confirmed as survived
		t.Run("pause-"+pause, func(t *testing.T) {
			eachWay(t, func(b *bed) {
				r := b.python([]string{"-m", "60M", "--oom-policy", "continue"}, "import subprocess, sys, time\n"+
					"p = subprocess.run([sys.executable, '-c', "+quoted(hog(120))+"])\n"+
					"assert p.returncode == -9, p\ntime.sleep("+pause+")")
				run := b.want(r, 0, events.StateDone, events.ReasonNone, "")
				if run.OOM.Kills != 1 || run.OOM.WhoseLimit != "own" {
					b.Errorf("oom %+v, want one kill at the own limit", run.OOM)
				}
				list := b.events(run.Run, events.KindOOM)
				if len(list) != 1 || !list[0].IsKill() {
					b.Errorf("oom events %+v, want one that counts as a kill", list)
				}
				if r.stderr != "" {
					b.Errorf("stderr %q, want nothing", r.stderr)
				}
			})
		})
	}
}

// TestK5Later: an out-of-memory kill long ago does not relabel somebody's SIGKILL.
func TestK5Later(t *testing.T) {
	eachWay(t, func(b *bed) {
		r := b.python([]string{"-m", "60M", "--oom-policy", "continue"}, "import subprocess, sys, time, os\n"+
			"subprocess.run([sys.executable, '-c', "+quoted(hog(120))+"])\ntime.sleep(5)\nos.kill(os.getpid(), 9)")
		run := b.want(r, 137, events.StateKilled, events.ReasonSignal, "unknown")
		if run.OOM.Kills != 1 {
			b.Errorf("oom %+v, want one kill", run.OOM)
		}
	})
}

// TestK6: the limit of lictor.slice is hit while the run is below its own; the neighbour that stayed small lives.
func TestK6(t *testing.T) {
	asRootAndDaemon(t, func(b *bed) {
		b.systemctl("set-property", "--runtime", "lictor.slice", "MemoryMax=150M")
		defer b.systemctl("set-property", "--runtime", "lictor.slice", "MemoryMax=infinity")
		neighbour := b.start(b.pythonArgs([]string{"--analysis-id", "small"}, "import time\ntime.sleep(600)")...)
		b.live()
		r := b.python([]string{"-m", "1G"}, hog(300))
		run := b.want(r, 137, events.StateKilled, events.ReasonOOMAncestor, "kernel")
		if run.OOM.WhoseLimit != "ancestor" {
			b.Errorf("whose limit %q, want ancestor", run.OOM.WhoseLimit)
		}
		if got := b.lictor("stop", "small"); got.code != 0 {
			b.Errorf("stop: %+v", got)
		}
		b.want(b.finishCommand(neighbour), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}

// TestK7: the host runs out of memory. By default Linux 6.1 thrashes for minutes before it admits that (older ways of reclaim
// than its multi-generational LRU, which kills rather than take away what was used within min_ttl_ms).
func TestK7(t *testing.T) {
	asRootAndDaemon(t, func(b *bed) {
		b.set("/sys/kernel/mm/lru_gen/enabled", "y")
		b.set("/sys/kernel/mm/lru_gen/min_ttl_ms", "10000")
		// In pieces: one allocation of more than the host has would be refused at once.
		r := b.python([]string{"-m", "infinity"}, "x = []\nwhile True: x.append(b'x' * (16 << 20))")
		run := b.want(r, 137, events.StateKilled, events.ReasonOOMHost, "kernel")
		if run.OOM.WhoseLimit != "host" {
			b.Errorf("whose limit %q, want host", run.OOM.WhoseLimit)
		}
	})
}

// set writes to a kernel parameter for the time of the test.
func (b *bed) set(path, value string) {
	b.Helper()
	before, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.WriteFile(path, before, 0); err != nil {
			b.Error(err)
		}
	})
}

// TestK8: RuntimeMaxSec, obeyed, ignored, and with the run frozen. It counts from before the barrier, which a loaded machine opens
// seconds later.
func TestK8(t *testing.T) {
	eachWay(t, func(b *bed) {
		run := b.want(b.python([]string{"-t", "6"}, "import time\ntime.sleep(600)"), 124, events.StateKilled, events.ReasonTimeout, "systemd")
		b.steps(run, "term", "empty")
		if w := *run.Usage.WallSeconds; w < 6 || w > 60 {
			b.Errorf("wall %v s, want 6 and a little", w)
		}
	})
	eachWay(t, func(b *bed) {
		start := time.Now()
		run := b.want(b.python([]string{"-t", "6", "--grace", "2"},
			"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"),
			124, events.StateKilled, events.ReasonTimeout, "systemd")
		b.steps(run, "term", "kill", "empty")
		if d := time.Since(start); d < 8*time.Second {
			b.Errorf("it took %v, want at least limit and grace", d)
		}
		if run.Exit.Signal == nil || *run.Exit.Signal != "SIGKILL" {
			b.Errorf("exit %+v, want SIGKILL", run.Exit)
		}
	})
	eachWay(t, func(b *bed) { // obeyed with an exit status of its own
		b.want(b.python([]string{"-t", "6"}, "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\ntime.sleep(600)"),
			124, events.StateKilled, events.ReasonTimeout, "systemd")
	})
	asRoot(t, func(b *bed) {
		p := b.start("run", "-t", "6", "--grace", "2", "--", "sleep", "600")
		id := b.live()
		if err := os.WriteFile(filepath.Join(b.scopeDir(id), "cgroup.freeze"), []byte("1"), 0); err != nil {
			b.Fatal(err)
		}
		b.want(b.finishCommand(p), 124, events.StateKilled, events.ReasonTimeout, "systemd")
	})
}

func (b *bed) steps(run *events.Run, want ...string) {
	b.Helper()
	var got []string
	for _, s := range run.Escalation {
		got = append(got, s.Step)
	}
	if !slices.Equal(got, want) {
		b.Errorf("escalation %v, want %v", got, want)
	}
}

// TestK9: a person stops a run that obeys, and one that does not.
func TestK9(t *testing.T) {
	for _, tt := range []struct {
		name, program string
		code          int
		steps         []string
	}{
		{"obeyed", "import time\ntime.sleep(600)", 143, []string{"term", "empty"}},
		{"ignored", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)", 137, []string{"term", "kill", "empty"}},
		{"graceful", "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\nprint('ready', flush=True)\ntime.sleep(600)", 0, []string{"term", "empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWay(t, func(b *bed) {
				p := b.start(b.pythonArgs([]string{"--analysis-id", "an analysis", "--grace", "1"}, tt.program)...)
				b.live()
				if tt.name != "obeyed" {
					b.eventually("the handler is set", func() bool { return strings.Contains(p.out.String(), "ready") })
				}
				if r := b.lictor("stop", "an analysis"); r.code != 0 {
					b.Errorf("stop: %+v", r)
				}
				run := b.want(b.finishCommand(p), tt.code, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
				b.steps(run, tt.steps...)
				if n := len(b.events(run.Run, events.KindIntent)); n != 1 {
					b.Errorf("%d intents, want 1", n)
				}
			})
		})
	}
}

// TestK9Limit: a stop whose SIGTERM is ignored until the time limit has passed is still a stop.
func TestK9Limit(t *testing.T) {
	asRoot(t, func(b *bed) {
		p := b.start(b.pythonArgs([]string{"-t", "8", "--grace", "3"},
			"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)")...)
		id := b.live()
		b.eventually("the handler is set", func() bool { return strings.Contains(p.out.String(), "ready") })
		if r := b.lictor("stop", "--grace", "20", string(id)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		run := b.finishCommand(p).run
		b.wantRun(run, events.StateKilled, events.ReasonStop, "uid 0")
	})
}

// TestK10: killed from outside, in three ways.
func TestK10(t *testing.T) {
	asRoot(t, func(b *bed) {
		p := b.start("run", "--", "sleep", "600")
		pid := b.members(b.live())[0]
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		b.want(b.finishCommand(p), 137, events.StateKilled, events.ReasonSignal, "unknown")
	})
	eachWay(t, func(b *bed) {
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		b.systemctl("kill", "--signal=TERM", id.Scope())
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonSignal, "unknown")
	})
	eachWay(t, func(b *bed) {
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		b.systemctl("stop", id.Scope())
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "systemd")
	})
	asRoot(t, func(b *bed) { // a stop by systemd that is not obeyed ends as Result=timeout, and is no timeout
		p := b.start(b.pythonArgs([]string{"--grace", "2"},
			"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)")...)
		id := b.live()
		b.eventually("the handler is set", func() bool { return strings.Contains(p.out.String(), "ready") })
		b.systemctl("stop", id.Scope())
		b.want(b.finishCommand(p), 137, events.StateKilled, events.ReasonStop, "systemd")
	})
	asRoot(t, func(b *bed) { // lictor kill
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		if r := b.lictor("kill", "-s", "INT", string(id)[:6]); r.code != 0 {
			b.Errorf("kill: %+v", r)
		}
		b.want(b.finishCommand(p), 130, events.StateKilled, events.ReasonStop, "uid 0")
	})
	asRootAndDaemon(t, func(b *bed) { // a signal to the launcher is passed on
		p := b.start("run", "--", "sleep", "600")
		b.live()
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonSignal, "launcher")
	})
}

// TestK11: the analysis ends by itself.
func TestK11(t *testing.T) {
	for _, tt := range []struct {
		name, program string
		code          int
		state         events.State
	}{
		{"exit-0", "exit 0", 0, events.StateDone},
		{"exit-3", "exit 3", 3, events.StateFailed},
		{"exit-137", "exit 137", 137, events.StateFailed},
		{"segv", "kill -SEGV $$", 139, events.StateFailed},
		{"abort", "kill -ABRT $$", 134, events.StateFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWay(t, func(b *bed) {
				r := b.lictor("run", "--", "sh", "-c", "echo out; echo err >&2; "+tt.program)
				b.want(r, tt.code, tt.state, events.ReasonNone, "")
				if r.stdout != "out\n" || r.stderr != "err\n" {
					b.Errorf("stdout %q, stderr %q: want the command's own and nothing else", r.stdout, r.stderr)
				}
			})
		})
	}
}

// TestK12: a fork bomb at TasksMax.
func TestK12(t *testing.T) {
	asRootAndDaemon(t, func(b *bed) {
		p := b.start(b.pythonArgs([]string{"--tasks-max", "60", "--grace", "1"},
			"import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n try: os.fork()\n except OSError: pass\n")...)
		id := b.live()
		b.eventually("a tasks-limit event", func() bool { return len(b.events(events.RunID(id), events.KindTasksLimit)) == 1 })
		if r := b.lictor("stop", string(id)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		run := b.want(b.finishCommand(p), 137, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
		var kill, empty time.Time
		for _, s := range run.Escalation {
			switch s.Step {
			case "kill":
				kill = s.At
			case "empty":
				empty = s.At
			}
		}
		if d := empty.Sub(kill); kill.IsZero() || d > 10*time.Second { // 2 s on real hardware
			b.Errorf("empty %v after the kill: %+v", d, run.Escalation)
		}
		b.Logf("empty %v after SIGKILL", empty.Sub(kill))
	})
}

// TestK13: double fork, setsid, closed descriptors; the main process exits 0.
func TestK13(t *testing.T) {
	const daemonize = "import os, sys, time, signal\n" +
		"if os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  %s\n  os.closerange(0, 256)\n  time.sleep(600)\n os._exit(0)\n" +
		"os.wait()\ntime.sleep(1)\n"
	for name, extra := range map[string]string{"term": "pass", "kill": "signal.signal(signal.SIGTERM, signal.SIG_IGN)"} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(b *bed) {
				r := b.python([]string{"--grace", "1"}, fmt.Sprintf(daemonize, extra))
				run := b.want(r, 0, events.StateDone, events.ReasonNone, "")
				list := b.events(run.Run, events.KindOrphans)
				if len(list) != 1 {
					b.Fatalf("orphans events %+v, want one", list)
				}
				var d events.OrphansDetail
				if err := json.Unmarshal(list[0].Detail, &d); err != nil {
					b.Fatal(err)
				}
				if len(d.Processes) != 1 || d.Processes[0].Outcome != name || d.Processes[0].RSSBytes == nil ||
					len(d.Processes[0].Cmdline) != 3 || d.Processes[0].PPID == nil || d.Processes[0].AgeSeconds == nil {
					b.Errorf("left-overs %s, want one python3 with its context and outcome %s", list[0].Detail, name)
				}
				if !gone(d.Processes[0].PID) { // its reaper may be slow
					b.Errorf("the left-over process is still there")
				}
			})
		})
	}
}

// TestK17: swap is there and does not help.
func TestK17(t *testing.T) {
	asRootAndDaemon(t, func(b *bed) {
		swap := filepath.Join("/var/tmp", "lictor-test-swap")
		for _, args := range [][]string{{"dd", "if=/dev/zero", "of=" + swap, "bs=1M", "count=256"}, {"chmod", "600", swap},
			{"mkswap", swap}, {"swapon", swap}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				b.Fatalf("%v: %v: %s", args, err, out)
			}
		}
		defer func() {
			_ = exec.Command("swapoff", swap).Run()
			_ = os.Remove(swap)
		}()
		run := b.want(b.python([]string{"-m", "40M"}, hog(80)), 137, events.StateKilled, events.ReasonOOM, "kernel")
		b.ownOOM(run)
	})
}
