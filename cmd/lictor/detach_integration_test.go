//go:build integration

package main

import (
	"encoding/json"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
)

// detached starts a detached run and returns its id.
func (b *bed) detached(args ...string) string {
	b.Helper()
	r := b.lictor(append([]string{"run", "-d"}, args...)...)
	id := strings.TrimSpace(r.stdout)
	if r.code != 0 || len(id) != 12 {
		b.Fatalf("run -d: exit status %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	return id
}

// logs runs `lictor logs` as the user with the group that may read the journal where it is not on disk.
func (b *bed) logs(args ...string) result {
	b.Helper()
	p := b.prepare(append([]string{"logs"}, args...)...)
	if g, err := user.LookupGroup("systemd-journal"); err == nil && p.SysProcAttr != nil {
		gid, _ := strconv.Atoi(g.Gid)
		p.SysProcAttr.Credential.Groups = append(p.SysProcAttr.Credential.Groups, uint32(gid))
	}
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	return b.finishCommand(p)
}

// TestDetachedOutputAndStatus: wait has the exit status and logs the output, of a run that is over in no time, too.
func TestDetachedOutputAndStatus(t *testing.T) {
	eachWay(t, func(b *bed) {
		id := b.detached("-E", "SECRET=s3cret", "--", "sh", "-c", "echo out $SECRET; echo '<3>err' >&2; exit 7")
		if r := b.lictor("wait", id); r.code != 7 || r.stderr != "" {
			b.Errorf("wait: %+v, want 7 and silence", r)
		}
		if r := b.logs(id); r.stdout != "out s3cret\n<3>err\n" {
			b.Errorf("logs: %+v", r)
		}
		if run := b.runs()[0]; string(run.Run) != id || run.Service == "" {
			b.Errorf("record %+v, want run %s with a service", run, id)
		}
	})
}

// TestDetachedSecrets: neither the unit's properties nor its command line have the environment or the arguments.
func TestDetachedSecrets(t *testing.T) {
	eachManager(t, func(b *bed) {
		id := b.detached("-E", "SECRET=s3cret", "--", "sleep", "600")
		if out := b.systemctl("show", "lictor-launch-"+id+".service"); strings.Contains(out, "s3cret") || !strings.Contains(out, id) {
			b.Errorf("properties of the service:\n%s", out)
		}
		b.lictor("stop", id)
	})
}

// TestDetachedErrors: what cannot be launched is reported by the caller as in the foreground.
func TestDetachedErrors(t *testing.T) {
	eachWay(t, func(b *bed) {
		for _, args := range [][]string{{"--", "/nonexistent"}, {"--", "/etc/passwd"}, {"-m", "1x", "--", "true"}, {"-C", "/nodir", "--", "true"}} {
			front, back := b.lictor(append([]string{"run"}, args...)...), b.lictor(append([]string{"run", "-d"}, args...)...)
			if front.code != back.code || front.stderr != back.stderr || back.stdout != "" || back.code < 125 {
				b.Errorf("%q: %+v in the foreground, %+v detached", args, front, back)
			}
		}
	})
}

// TestDetachedStopOfTheService: to stop the launcher's unit is to stop the run, with its grace, even if it ignores SIGTERM.
func TestDetachedStopOfTheService(t *testing.T) {
	eachManager(t, func(b *bed) {
		id := b.detached("--grace", "2", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
		b.systemctl("stop", "lictor-launch-"+id+".service")
		b.wantRun(b.runs()[0], events.StateKilled, events.ReasonStop, "launcher")
	})
}

// TestLogsFollow: logs -f ends with the run and has all of its output.
func TestLogsFollow(t *testing.T) {
	eachWay(t, func(b *bed) {
		id := b.detached("--", "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 1; done")
		if r := b.logs("-f", id); r.code != 0 || r.stdout != "1\n2\n3\n4\n" {
			b.Errorf("logs -f: %+v", r)
		}
		if r := b.logs("-n", "1", id); r.stdout != "4\n" {
			b.Errorf("logs -n 1: %+v", r)
		}
	})
}

// TestWaitForeground: a run of another terminal is waited for, and its status passed on.
func TestWaitForeground(t *testing.T) {
	eachWay(t, func(b *bed) {
		p := b.start("run", "-t", "3", "--", "sleep", "600")
		id := string(b.live())
		r := b.lictor("wait", "--json", id)
		var run events.Run
		if err := json.Unmarshal([]byte(r.stdout), &run); err != nil || r.code != 124 || run.Reason != events.ReasonTimeout {
			b.Errorf("wait: %+v, %v", r, err)
		}
		b.finishCommand(p)
	})
}

// TestWaitKeeperKilled: the keeper dies while somebody waits; the analysis ends by itself and the waiter records it.
func TestWaitKeeperKilled(t *testing.T) {
	eachWay(t, func(b *bed) {
		p := b.start("run", "--", "sleep", "8")
		id := string(b.live())
		w := b.start("wait", id)
		_ = p.Process.Signal(syscall.SIGKILL)
		b.finishCommand(p)
		r := b.finishCommand(w)
		if run := b.runs()[0]; !run.State.Final() {
			b.Errorf("state %s after wait %+v", run.State, r)
		}
	})
}
