//go:build integration

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// limitChanges are the details of a run's limit-changed events.
func (b *bed) limitChanges(id scope.RunID) (list []events.LimitDetail) {
	b.Helper()
	for _, e := range b.events(events.RunID(id), events.KindLimitChanged) {
		var d events.LimitDetail
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			b.Error(err)
		}
		list = append(list, d)
	}
	return list
}

func (b *bed) me() string { return "uid " + b.user.Uid }

// TestSet: new limits are in the kernel, in the listing, in an event each and in the record of the end.
func TestSet(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "-m", "100M", "--tasks-max", "50", "--", "sleep", "600")
		id := b.live()
		if r := b.lictor("set", string(id), "MemoryMax=200M", "TasksMax=77", "MemoryHigh=150M", "CPUWeight=50"); r.code != 0 || r.stdout+r.stderr != "" {
			b.Errorf("set: %+v", r)
		}
		for file, want := range map[string]int{"memory.max": 200 << 20, "memory.high": 150 << 20, "pids.max": 77} {
			if got := b.kernelSays(id, file); got != strconv.Itoa(want) {
				b.Errorf("%s: %s, want %d", file, got, want)
			}
		}
		changes := b.limitChanges(id)
		if len(changes) != 4 || changes[0].Limit != "MemoryMax" || *changes[0].Old != 100<<20 || *changes[0].New != 200<<20 ||
			changes[0].By != b.me() || int(*changes[0].UID) != b.uid() || changes[3].Value != "50" {
			b.Errorf("events %+v", changes)
		}
		if r := b.lictor("show", string(id), "-p", "MemoryMax", "--value"); strings.TrimSpace(r.stdout) != strconv.Itoa(200<<20) {
			b.Errorf("show: %+v", r)
		}
		if r := b.lictor("set", string(id), "MemoryHigh=infinity"); r.code != 0 || b.kernelSays(id, "memory.high") != "max" {
			b.Errorf("set infinity: %+v", r)
		}
		for words, args := range map[string][]string{
			"systemd cannot change it": {"RuntimeMaxSec=2h"},
			"not on the list":          {"Slice=system.slice"},
			"must be NAME=VALUE":       {"MemoryMax"},
			"each name once":           {"MemoryMax=1G", "MemoryMax=2G"},
			"at least 1M":              {"MemoryMax=4K"},
			"not a size":               {"MemoryMax=much"},
		} {
			if r := b.lictor(append([]string{"set", string(id)}, args...)...); r.code == 0 || !strings.Contains(r.stderr, words) {
				b.Errorf("set %v: %+v, want %q", args, r, words)
			}
		}
		time.Sleep(time.Second) // for a keeper that takes it for somebody else's doing
		b.lictor("stop", string(id))
		run := b.finishCommand(p).run
		b.wantRun(run, events.StateKilled, events.ReasonStop, b.me())
		if l := run.Limits; *l.MemoryMaxBytes != 200<<20 || *l.TasksMax != 77 || l.MemoryHighBytes != nil {
			b.Errorf("limits of the record: %+v", l)
		}
		if n := len(b.limitChanges(id)); n != 5 {
			b.Errorf("%d limit-changed events, want 5: %+v", n, b.limitChanges(id))
		}
		if r := b.lictor("set", string(id), "MemoryMax=1G"); r.code != 0 || !strings.Contains(r.stderr, "has ended already") {
			b.Errorf("set after the end: %+v", r)
		}
	})
}

// TestSetCeiling: what the administrator allows at most is the most for a live run, too.
func TestSetCeiling(t *testing.T) {
	asRoot(t, func(b *bed) {
		const path = "/etc/lictor/lictor.toml.d/zz-test.toml"
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte("[ceiling]\nmemory_max = \"1G\"\n"), 0o644))
		defer os.Remove(path)
		p := b.start("run", "-m", "100M", "--", "sleep", "600")
		id := b.live()
		for _, value := range []string{"2G", "infinity"} {
			if r := b.lictor("set", string(id), "MemoryMax="+value); r.code == 0 || !strings.Contains(r.stderr, "ceiling") ||
				b.kernelSays(id, "memory.max") != strconv.Itoa(100<<20) || len(b.limitChanges(id)) != 0 {
				b.Errorf("set %s: %+v", value, r)
			}
		}
		if r := b.lictor("set", string(id), "MemoryMax=1G"); r.code != 0 {
			b.Errorf("set 1G: %+v", r)
		}
		b.lictor("stop", string(id))
		b.finishCommand(p)
	})
}

// holds takes 80 MiB and keeps them.
const holds = "x = b'x' * (80 << 20)\n" + saysReady + "import time\ntime.sleep(600)\n"

// TestK18: MemoryMax is lowered below usage on a live run, kept or adopted.
func TestK18(t *testing.T) {
	check := func(b *bed, id scope.RunID, run *events.Run) {
		b.Helper()
		b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
		if run.OOM.WhoseLimit != "own" || *run.Limits.MemoryMaxBytes != 30<<20 {
			b.Errorf("whose limit %q, MemoryMax %d", run.OOM.WhoseLimit, *run.Limits.MemoryMaxBytes)
		}
		if c := b.limitChanges(id); len(c) != 1 || c[0].Limit != "MemoryMax" || *c[0].New != 30<<20 || c[0].By != b.me() {
			b.Errorf("limit-changed events %+v", c)
		}
	}
	lower := func(b *bed, id scope.RunID) {
		b.Helper()
		b.eventually("80M are in use", func() bool {
			n, _ := strconv.Atoi(b.kernelSays(id, "memory.current"))
			return n > 80<<20
		})
		if r := b.lictor("set", string(id), "MemoryMax=30M"); r.code != 0 {
			b.Errorf("set: %+v", r)
		}
	}
	t.Run("kept", func(t *testing.T) {
		eachManager(t, func(b *bed) {
			p := b.start(b.pythonArgs([]string{"-m", "200M"}, holds)...)
			id := b.live()
			lower(b, id)
			check(b, id, b.want(b.finishCommand(p), 137, events.StateKilled, events.ReasonOOM, "kernel"))
		})
	})
	t.Run("adopted", func(t *testing.T) {
		eachManager(t, func(b *bed) {
			cmd := b.wildPython("import os, time\n" + saysReady + "while not os.path.exists('go'): time.sleep(0.1)\n" + holds)
			id := b.adopt(cmd, "-m", "200M")
			must(os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o644))
			lower(b, id)
			_ = cmd.Wait()
			check(b, id, b.over(id))
		})
	})
}

// TestX14: somebody else raises limits, with systemctl or, in their own user manager, by writing the file. Each change is
// noticed once.
func TestX14(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "-m", "100M", "--tasks-max", "50", "--", "sleep", "600")
		id := b.live()
		want := func(n int, limit string, value float64) {
			b.Helper()
			b.eventually("the change is on record", func() bool { return len(b.limitChanges(id)) >= n })
			c := b.limitChanges(id)
			if last := c[len(c)-1]; len(c) != n || last.Limit != limit || last.New == nil || *last.New != value || last.By != "unknown" || last.UID != nil {
				b.Errorf("limit-changed events %+v, want %d, the last %s %v", c, n, limit, value)
			}
		}
		b.systemctl("set-property", "--runtime", id.Scope(), "MemoryMax=300M")
		want(1, "MemoryMax", 300<<20)
		write := b.command("sh", "-c", "echo 400M > "+filepath.Join(b.scopeDir(id), "memory.max"))
		if out, err := write.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		want(2, "MemoryMax", 400<<20)
		b.systemctl("set-property", "--runtime", id.Scope(), "TasksMax=60")
		b.eventually("both changes are on record", func() bool { return len(b.limitChanges(id)) >= 3 })
		time.Sleep(time.Second)
		b.lictor("stop", string(id))
		run := b.finishCommand(p).run
		b.wantRun(run, events.StateKilled, events.ReasonStop, b.me())
		if *run.Limits.TasksMax != 60 {
			b.Errorf("limits of the record: %+v", run.Limits)
		}
		t := b.limitChanges(id)
		for i, c := range t {
			if i > 0 && c == t[i-1] {
				b.Errorf("told twice: %+v", t)
			}
		}
	})
}

// TestX14Abandon: somebody has systemd abandon the scope, and its time limit with it. Our own deadline still ends it.
func TestX14Abandon(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "-t", "8", "--grace", "2", "--", "sleep", "600")
		id := b.live()
		args := []string{"call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1/unit/lictor_2d" + strings.Replace(id.Scope()[len("lictor-"):], ".", "_2e", 1),
			"org.freedesktop.systemd1.Scope", "Abandon"}
		if b.mode == ModeUser {
			args = append([]string{"--user"}, args...)
		}
		if out, err := b.command("busctl", args...).CombinedOutput(); err != nil {
			b.Fatalf("busctl %v: %v: %s", args, err, out)
		}
		b.want(b.finishCommand(p), 124, events.StateKilled, events.ReasonTimeout, "lictor")
	})
}
