//go:build integration

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
)

// TestD10: systemd takes the scope for over while its process runs: the process left it for a moment. That is noticed, and our own
// deadline ends the run in time.
func TestD10(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "-t", "6", "--grace", "2", "--", "sleep", "600")
		id := b.live()
		pid := b.members(id)[0]
		elsewhere := filepath.Join(b.fleet(), "elsewhere")
		must(os.Mkdir(elsewhere, 0o755))
		move := func(to string) {
			must(os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
		}
		move(elsewhere)
		b.eventually("systemd has removed the scope", func() bool { _, err := os.Stat(b.scopeDir(id)); return err != nil })
		must(os.Mkdir(b.scopeDir(id), 0o755))
		move(b.scopeDir(id))
		must(os.Remove(elsewhere))
		run := b.want(b.finishCommand(p), 124, events.StateKilled, events.ReasonTimeout, "lictor")
		if !strings.Contains(strings.Join(run.Degraded, "\n"), "scope: over for systemd") {
			b.Errorf("degraded: %q", run.Degraded)
		}
		if w := run.Usage.WallSeconds; w == nil || *w < 6 || *w > 13 {
			b.Errorf("it lasted %v seconds, want a little more than 6", w)
		}
	})
}

// TestD16: there is no user manager, and then it ends while runs live. What nobody can know is not made up.
func TestD16(t *testing.T) {
	t.Run("absent", func(t *testing.T) {
		b := newBed(t, ModeUser)
		b.withoutManager(func() {
			r := b.lictor("run", "--", "touch", "ran")
			if r.code != exitRefused || !strings.Contains(r.stderr, "no user manager answers") || !strings.Contains(r.stderr, "hint: loginctl enable-linger") {
				b.Errorf("%+v: want 125 and what helps", r)
			}
			if b.has("ran") {
				b.Error("it ran unconfined")
			}
			for _, command := range []string{"ps", "kills"} {
				if r := b.lictor(command); r.code != 0 {
					b.Errorf("%s: %+v", command, r)
				}
			}
		})
	})
	t.Run("ends", func(t *testing.T) {
		b := newBed(t, ModeUser)
		d := b.daemonUnder("1s")
		defer b.end(d, syscall.SIGTERM)
		started, ids := b.launch(launches{"own": {"--", "sleep", "600"}, "left": {"--on-owner-exit", "keep", "--", "sleep", "600"}})
		b.signal(started["left"], syscall.SIGKILL)
		b.finishCommand(started["left"])
		b.eventually("the daemon keeps it", func() bool { return strings.Contains(d.said(), "analysis=left") })
		b.withoutManager(func() {
			r := b.finishCommand(started["own"])
			if r.code != 143 || r.run == nil {
				b.Errorf("%+v, want 143", r)
			}
			b.ended(ids["own"])
			b.ended(ids["left"])
		})
		for id, run := range ids {
			switch run := b.record(run); {
			case run.State == events.StateLost && run.By == "unknown" && id == "left":
			case run.State == events.StateKilled && run.Reason == events.ReasonStop && run.By == "systemd":
			case run.State == events.StateKilled && run.Reason == events.ReasonSignal && run.By == "unknown" && id == "own":
			default:
				b.wantRun(run, events.StateKilled, events.ReasonStop, "systemd")
			}
		}
		// A manager that is back has made the slice anew, and the daemon is told of new runs as before.
		b.eventually("the daemon is told of new runs", func() bool {
			told := strings.Count(d.said(), "no notice had told of")
			left := b.leave(launches{"again": {"--on-owner-exit", "keep", "--", "sleep", "600"}})["again"]
			b.eventually("the daemon keeps it", func() bool { return strings.Contains(d.said(), "keeping run="+string(left)) })
			if r := b.lictor("stop", string(left)); r.code != 0 {
				b.Errorf("stop: %+v", r)
			}
			return strings.Count(d.said(), "no notice had told of") == told
		})
	})
}

// withoutManager stops the user's manager, and starts it again when fn returns.
func (b *bed) withoutManager(fn func()) {
	b.Helper()
	unit := "user@" + b.user.Uid + ".service"
	root := func(args ...string) {
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			b.Errorf("systemctl %v: %v: %s", args, err, out)
		}
	}
	root("stop", unit)
	defer func() {
		root("start", unit)
		bus := "/run/user/" + b.user.Uid + "/bus"
		b.eventually("the bus is back", func() bool { _, err := os.Stat(bus); return err == nil })
	}()
	fn()
}
