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
	"testing"

	"github.com/scidex/lictor/events"
)

// inspect prints what a process has got from its launcher.
const inspect = `
import json, os, resource, signal, sys
status = dict(l.split(":\t", 1) for l in open("/proc/self/status").read().splitlines() if ":\t" in l)
json.dump({
  "env": dict(os.environ),
  "fds": sorted(int(f) for f in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + f)),
  "uids": status["Uid"], "gids": status["Gid"], "groups": sorted(status["Groups"].split()),
  "umask": status["Umask"], "blocked": status["SigBlk"], "caps": status["CapEff"],
  "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
  "nice": os.nice(0), "oom_score_adj": open("/proc/self/oom_score_adj").read().strip(),
  "no_new_privs": status.get("NoNewPrivs"), "cwd": os.getcwd(), "pgrp_is_parents": os.getpgrp() == os.getpgid(os.getppid()),
}, sys.stdout)
`

type inside struct {
	Env           map[string]string `json:"env"`
	FDs           []int             `json:"fds"`
	UIDs          string            `json:"uids"`
	GIDs          string            `json:"gids"`
	Groups        []string          `json:"groups"`
	Umask         string            `json:"umask"`
	Blocked       string            `json:"blocked"`
	Caps          string            `json:"caps"`
	NoFile        []int64           `json:"nofile"`
	Core          []int64           `json:"core"`
	Nice          int               `json:"nice"`
	OOMScoreAdj   string            `json:"oom_score_adj"`
	NoNewPrivs    string            `json:"no_new_privs"`
	Cwd           string            `json:"cwd"`
	PgrpIsParents bool              `json:"pgrp_is_parents"`
}

// peculiar runs a command in a shell with unusual attributes: umask, limits, priority, blocked signals, open descriptors.
func (b *bed) peculiar(command string) inside {
	b.Helper()
	script := "umask 027; ulimit -Sn 333; ulimit -Hn 4000; ulimit -c 0; exec 7</dev/null 9</etc/passwd; " +
		"export NOTIFY_SOCKET=/run/x LISTEN_FDS=3 LISTEN_PID=1 WATCHDOG_USEC=5 LICTOR_SECRET=s LICTOR_RUN=forged PGHOST=db MINE='a b'; " +
		"echo 123 > /proc/self/oom_score_adj; exec nice -n 5 " + command
	cmd := b.command("sh", "-c", script)
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s: %v %s", command, err, out)
	}
	var got inside
	if err := json.Unmarshal(out, &got); err != nil {
		b.Fatalf("%v in %q", err, out)
	}
	return got
}

// TestX6: neither our environment nor our descriptors are inside the analysis.
func TestX6(t *testing.T) {
	eachWay(t, func(b *bed) {
		file := filepath.Join(b.dir, "inspect.py")
		if err := os.WriteFile(file, []byte(inspect), 0o644); err != nil {
			b.Fatal(err)
		}
		got := b.peculiar(installed() + " run --analysis-id 'my id' -E EXTRA=1 -- python3 " + file)
		if !slices.Equal(got.FDs, []int{0, 1, 2}) {
			b.Errorf("descriptors %v, want 0, 1 and 2", got.FDs)
		}
		for key := range got.Env {
			if strings.HasPrefix(key, "LISTEN_") || strings.HasPrefix(key, "WATCHDOG_") || key == "NOTIFY_SOCKET" ||
				strings.HasPrefix(key, "LICTOR_") && key != "LICTOR_RUN" && key != "LICTOR_ANALYSIS_ID" {
				b.Errorf("the analysis sees %s", key)
			}
		}
		run := b.runs()[0]
		for key, want := range map[string]string{"LICTOR_RUN": string(run.Run), "LICTOR_ANALYSIS_ID": "my id", "MINE": "a b",
			"EXTRA": "1", "PGHOST": "db"} { // the caller's own variables are the analysis's, its database's among them
			if got.Env[key] != want {
				b.Errorf("%s is %q inside, want %q", key, got.Env[key], want)
			}
		}
	})
}

// TestX9: groups, umask, limits, priority, oom_score_adj and signal mask inside equal the caller's own.
func TestX9(t *testing.T) {
	eachWay(t, func(b *bed) {
		file := filepath.Join(b.dir, "inspect.py")
		if err := os.WriteFile(file, []byte(inspect), 0o644); err != nil {
			b.Fatal(err)
		}
		bare := b.peculiar("python3 " + file)
		boxed := b.peculiar(installed() + " run -- python3 " + file)
		if !boxed.PgrpIsParents {
			b.Error("the analysis is in another process group than its launcher: a terminal would not reach it")
		}
		for _, p := range []*inside{&bare, &boxed} {
			p.Env, p.FDs, p.PgrpIsParents = nil, nil, false
		}
		want, got := fmt.Sprintf("%+v", bare), fmt.Sprintf("%+v", boxed)
		if got != want {
			b.Errorf("inside\n%s\noutside\n%s", got, want)
		}
	})
}

// TestBadInput: each is a one-line error with a hint and exit status 125, and nothing is left behind.
func TestBadInput(t *testing.T) {
	eachManager(t, func(b *bed) {
		locked := filepath.Join(b.dir, "locked")
		if err := os.Mkdir(locked, 0); err != nil {
			b.Fatal(err)
		}
		tests := [][]string{
			{"-m", "0", "--", "true"},
			{"-m", "banana", "--", "true"},
			{"-m", "2G ", "-t", "x", "--", "true"},
			{"-m", "18446744073709551615", "--", "true"},
			{"-m", "1k", "--", "true"},
			{"-t", "-5", "--", "true"},
			{"-t", "0", "--", "true"},
			{"--grace", "infinity", "--", "true"},
			{"--tasks-max", "0", "--", "true"},
			{"--cpu-quota", "-1%", "--", "true"},
			{"--oom-policy", "stop", "--", "true"},
			{"--analysis-id", "two\nlines", "--", "true"},
			{"--analysis-id", strings.Repeat("x", 10<<10), "--", "true"},
			{"-p", "Delegate=yes", "--", "true"},
			{"-p", "NoSuchProperty=1", "--", "true"},
			{"-p", "Slice=system.slice", "--", "true"},
			{"--no-such-flag", "--", "true"},
			{"--system", "--user", "--", "true"},
			{"--"},
			{"-C", "/no/such/dir", "--", "true"},
			{"-E", "=x", "--", "true"},
		}
		if b.mode == ModeUser {
			tests = append(tests, []string{"-C", locked, "--", "true"})
		}
		for _, args := range tests {
			r := b.lictor(append([]string{"run"}, args...)...)
			lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
			if r.code != exitRefused || len(lines) != 2 || !strings.HasPrefix(lines[0], "lictor: ") || !strings.HasPrefix(lines[1], "hint: ") {
				b.Errorf("%.60q: exit status %d, want 125 with one line and a hint; stderr %q", args, r.code, r.stderr)
			}
			if len(r.stderr) > 2000 {
				b.Errorf("%.60q: an error of %d bytes", args, len(r.stderr))
			}
		}
		if entries, _ := filepath.Glob(filepath.Join(b.dir, ".lictor-result-*")); len(entries) > 0 {
			b.Errorf("left behind: %v", entries)
		}
	})
}

// TestNoManager: without systemd, and without a user manager, a run is refused in one line.
func TestNoManager(t *testing.T) {
	asRoot(t, func(b *bed) {
		for _, script := range []string{
			"mount -t tmpfs none /run && exec /tmp/lictor-real run -- touch " + b.dir + "/ran",
			"mount -t tmpfs none /run && exec /tmp/lictor-real --user run -- touch " + b.dir + "/ran",
		} {
			if out, err := exec.Command("cp", installed(), "/tmp/lictor-real").CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, out)
			}
			cmd := b.command("unshare", "--mount", "sh", "-c", script)
			out, _ := cmd.CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if cmd.ProcessState.ExitCode() != exitRefused || len(lines) != 2 {
				b.Errorf("%s: exit status %d: %s", script, cmd.ProcessState.ExitCode(), out)
			}
			if _, err := os.Stat(b.dir + "/ran"); err == nil {
				b.Error("it ran unconfined")
			}
		}
	})
}

// TestI8: a user sees and stops only the own runs.
func TestI8(t *testing.T) {
	asRoot(t, func(root *bed) {
		p := root.start("run", "--analysis-id", "roots", "--", "sleep", "600")
		id := root.live()
		t.Run("alice", func(t *testing.T) {
			alice := newBed(t, ModeUser)
			for _, args := range [][]string{{"stop", string(id)}, {"--system", "stop", string(id)}, {"--system", "kill", string(id)},
				{"why", string(id)}} {
				if r := alice.lictor(args...); r.code == 0 {
					t.Errorf("alice %q: %+v, want a refusal", args, r)
				}
			}
			if r := alice.lictor("ps", "-a", "--no-legend"); strings.Contains(r.stdout, string(id)[:8]) {
				t.Errorf("alice sees root's run: %s", r.stdout)
			}
			alice.lictor("watch", "--once")
			alice.lictor("--system", "watch", "--once")
		})
		if len(root.members(id)) == 0 {
			root.Error("root's run was ended by somebody else")
		}
		root.lictor("stop", "roots")
		root.want(root.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "uid 0")
	})
}
