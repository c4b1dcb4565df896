//go:build integration

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// escaped are the details of the escaped events of a run.
func (b *bed) escaped(id scope.RunID) (list []events.EscapedDetail) {
	b.Helper()
	for _, ev := range b.events(events.RunID(id), events.KindEscaped) {
		var d events.EscapedDetail
		if err := json.Unmarshal(ev.Detail, &d); err != nil {
			b.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

// forge starts a process of somebody that says it is of a run.
func (b *bed) forge(name string, id scope.RunID, env ...string) *exec.Cmd {
	b.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		b.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	cmd := exec.Command("sleep", "1000")
	cmd.Env = append([]string{"LICTOR_RUN=" + string(id)}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// TestX2: forged markers on processes of others, on root's and on one's own outside the scope are reported as far as they can
// be read, and nobody is killed, not even by a run whose escaped processes are to be killed.
func TestX2(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "--kill-escaped", "--", "sleep", "600")
		id := b.live()
		const guess = "LICTOR_NONCE=ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		forged := map[int]string{}
		for _, name := range []string{"root", "alice", "bob"} {
			forged[b.forge(name, id).Process.Pid] = name
			forged[b.forge(name, id, guess).Process.Pid] = name
		}
		if r := b.lictor("watch", "--once"); r.code != exitActed || strings.Contains(r.stdout, "killed") {
			b.Errorf("watch --once: %+v, want the strays reported", r)
		}
		if r := b.lictor("watch", "--once"); r.code != 0 || r.stdout != "" {
			b.Errorf("a second watch --once: %+v, want nothing new", r)
		}
		seen := map[int]bool{}
		for _, d := range b.escaped(id) {
			name := forged[d.Process.PID]
			seen[d.Process.PID] = true
			if d.Kill || d.SameUID != (name == b.user.Username) || !d.AfterStart || d.Process.Comm != "sleep" || d.Process.UID == nil ||
				d.Process.PPID == nil || d.Cgroup == "" || d.StartTicks == 0 {
				b.Errorf("%s's process: %+v", name, d)
			}
		}
		for pid, name := range forged {
			if want := b.mode == ModeSystem || name == b.user.Username; seen[pid] != want {
				b.Errorf("%s's process %d reported: %t, want %t", name, pid, seen[pid], want)
			}
			if gone(pid) {
				b.Errorf("%s's process %d was killed", name, pid)
			}
		}
		b.lictor("stop", string(id))
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}

// TestX12: a run has systemd start a process in a scope of its own. That is reported; it is killed only if the run was started
// so. At, cron and other services do the same with other cgroups.
func TestX12(t *testing.T) {
	eachManager(t, func(b *bed) {
		leave := "systemd-run --scope -q sleep 1000"
		if b.mode == ModeUser {
			leave = "systemd-run --user --scope -q sleep 1000"
		}
		free := b.start("run", "--analysis-id", "free", "--", "sh", "-c", leave+" & sleep 600")
		id := b.live()
		stray := b.stray(id)
		held := b.start("run", "--kill-escaped", "--", "sh", "-c", leave+" & sleep 600")
		var other scope.RunID
		b.eventually("the other run is alive", func() bool {
			for _, run := range b.ledgers() {
				if run != id && len(b.members(run)) > 0 {
					other = run
				}
			}
			return other != ""
		})
		killed := b.stray(other)
		if b.mode == ModeSystem {
			d := b.daemon()
			defer b.end(d, syscall.SIGTERM)
		} else if r := b.lictor("watch", "--once"); r.code != exitActed || !strings.Contains(r.stdout, "; killed") {
			b.Errorf("watch --once: %+v, want two escapes, one of them killed", r)
		}
		b.eventually("both escapes are on record", func() bool { return len(b.escaped(id)) == 1 && len(b.escaped(other)) == 1 })
		if d := b.escaped(id)[0]; d.Process.PID != stray || !d.SameUID || !d.AfterStart || d.Kill || !strings.Contains(d.Cgroup, ".scope") {
			b.Errorf("escape %+v, want process %d, which lives on", d, stray)
		}
		if d := b.escaped(other)[0]; d.Process.PID != killed || !d.Kill {
			b.Errorf("escape %+v, want process %d, killed", d, killed)
		}
		b.eventually("the one is gone", func() bool { return gone(killed) && len(b.events(events.RunID(other), events.KindKill)) == 1 })
		if gone(stray) {
			b.Error("the other one was killed, too")
		}
		if r := b.lictor("events", "--kind", "escaped"); !strings.Contains(r.stdout, "sleep in /") {
			b.Errorf("events: %+v", r)
		}
		_ = syscall.Kill(stray, syscall.SIGKILL)
		b.lictor("stop", string(id))
		b.lictor("stop", string(other))
		b.want(b.finishCommand(free), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
		b.want(b.finishCommand(held), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}

// stray waits for the process of a run that leaves its scope.
func (b *bed) stray(id scope.RunID) (pid int) {
	b.Helper()
	b.eventually("a process leaves the scope", func() bool {
		out, _ := exec.Command("pgrep", "-x", "sleep").Output()
		for _, f := range strings.Fields(string(out)) {
			p, _ := strconv.Atoi(f)
			environ, _ := os.ReadFile("/proc/" + f + "/environ")
			where, _ := os.ReadFile("/proc/" + f + "/cgroup")
			if strings.Contains(string(environ), "LICTOR_RUN="+string(id)) && !strings.Contains(string(where), id.Scope()) {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}

// gone reports whether a process has ended; whether it has been reaped is its parent's affair.
func gone(pid int) bool {
	st, err := cgroup.ReadStat(pid)
	return err != nil || st.State == 'Z'
}
