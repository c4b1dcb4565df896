//go:build integration

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/scope"
)

// forwarded waits until a database has the end of every run that the store has, and compares them.
func (b *bed) forwarded(server *eventstest.Postgres, name string) {
	b.Helper()
	var ended int
	for _, run := range b.runs() {
		if run.State.Final() {
			ended++
		}
	}
	b.eventually("the database has all ends", func() bool {
		out, err := server.Query(name, "SELECT count(*) FROM watchdog_processes WHERE ended")
		return err == nil && out == fmt.Sprint(ended)
	})
	remote, err := events.OpenPostgres(b.Context(), server.URL(name))
	must(err)
	defer remote.Close()
	for _, run := range b.runs() {
		there, err := remote.Run(b.Context(), run.Run)
		if err != nil || there.State != run.State || there.Reason != run.Reason || there.Host != run.Host {
			b.Errorf("%s is %s %s here, and there %+v, %v", run.Run, run.State, run.Reason, there, err)
		}
		local, err := remote.Events(b.Context(), events.EventQuery{Run: run.Run, Kinds: []events.Kind{events.KindEnded}})
		if err != nil || len(local) != 1 {
			b.Errorf("%s has %d ends in the database, %v", run.Run, len(local), err)
		}
	}
}

// killLatency has a run die of its memory limit through the daemon and returns how long its launcher took to know.
func (b *bed) killLatency(id string) time.Duration {
	b.Helper()
	start := time.Now()
	b.want(b.lictor("run", "-m", "12M", "--analysis-id", id, "--", "tail", "/dev/zero"), 137, events.StateKilled, events.ReasonOOM, "kernel")
	return time.Since(start)
}

// TestS6Daemon: the units as they are shipped, with a database that comes, hangs, dies and comes back. The records of ordinary users' runs
// are in it exactly once, and who launches does not notice.
func TestS6Daemon(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.Setenv("TMPDIR", "/run") // /tmp is another one for the forwarder
		server := eventstest.StartPostgres(b, nil)
		name := server.Empty(b)
		b.dropIn(noQuota)
		b.install()
		config := "/etc/lictor/lictor.toml"
		was, err := os.ReadFile(config)
		must(err)
		b.Cleanup(func() { must(os.WriteFile(config, was, 0o644)) })
		must(os.WriteFile(config, []byte("database = \""+server.URL(name)+"\"\n"), 0o644))
		b.serve()
		user := newUserBed(b.T, ModeSystem, "alice")
		user.host, user.store = "", b.store

		quiet := user.killLatency("unmigrated")
		b.eventually("the forwarder says what to do", func() bool {
			out, _ := exec.Command("journalctl", "-q", "-b", "-u", "lictor-forward", "-o", "cat").Output()
			return strings.Contains(string(out), "it has no tables of lictor")
		})
		b.asInstalled("db", "migrate")
		b.forwarded(server, name)

		server.Hang()
		hung := user.killLatency("hung")
		server.Resume()
		b.forwarded(server, name)
		server.Kill(b)
		down := user.killLatency("down")
		left := b.left("left", "-t", "2", "--", "sleep", "600")
		b.ended(left)
		server.Start(b)
		b.forwarded(server, name)
		b.Logf("a launch and a kill took %v, with the database hung %v, with none %v", quiet, hung, down)
		if most := 3*quiet + 2*time.Second; hung > most || down > most {
			b.Errorf("a launch and a kill took %v, with the database hung %v, with none %v", quiet, hung, down)
		}
		server.Hang()
		start := time.Now()
		b.systemctl("stop", "lictor")
		if took := time.Since(start); took > 20*time.Second {
			b.Errorf("it took %v to stop while the database hung", took)
		}
		server.Resume()
		b.systemctl("start", "lictor")
		for _, args := range [][]string{{"events", "--remote", "--no-legend", "--kind", "ended"}, {"kills", "--all-hosts", "--no-legend"}} {
			if out := b.asInstalled(args...); strings.Count(out, "\n") != 4 {
				b.Errorf("lictor %v: %s", args, out)
			}
		}
		if out := b.asInstalled("db", "status"); !strings.Contains(out, "takes records") || !strings.Contains(out, "Waiting   0 events") {
			b.Errorf("db status: %s", out)
		}
		b.systemctl("stop", "lictor")
	})
}

// asInstalled runs lictor as root on the records of the system.
func (b *bed) asInstalled(args ...string) string {
	b.Helper()
	cmd := exec.Command(installed(), args...)
	cmd.Env = append(os.Environ(), "LICTOR_STATE_DIR="+b.store, "LICTOR_HOST="+noHost)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Errorf("lictor %v: %v: %s", args, err, out)
	}
	return string(out)
}

// smallStore puts the records on a file system of their own and returns its mount point.
func (b *bed) smallStore() string {
	b.Helper()
	image := b.dir + "/store.ext4"
	b.must("truncate", "-s", "4M", image)
	b.must("mkfs.ext4", "-q", "-m", "0", "-e", "remount-ro", image)
	must(os.MkdirAll(b.store, 0o700))
	b.must("modprobe", "loop")
	b.must("mount", "-o", "loop", image, b.store)
	b.Cleanup(func() { b.must("umount", "-l", b.store) })
	return b.store
}

// TestS1: the disk of the records is full, or fails and is read-only. Limits are enforced and runs are ended all the same, a launch that could not be
// recorded is refused, journald hears of every end, and the records are complete when there is room again.
func TestS1(t *testing.T) {
	asRoot(t, func(b *bed) {
		dir := b.smallStore()
		d := b.daemon()
		g := b.gate()
		ids := b.leave(launches{
			"oom":     append([]string{"--on-owner-exit", "keep", "-m", "24M", "--"}, g.then("exec tail /dev/zero")...),
			"timeout": {"--on-owner-exit", "keep", "-t", "6", "--", "sleep", "600"},
			"stop":    {"--on-owner-exit", "keep", "--", "sleep", "600"},
		})
		_ = exec.Command("dd", "if=/dev/zero", "of="+dir+"/fill", "bs=1k").Run() // until it is full
		g.open()
		b.lictor("stop", "stop")
		for id, run := range ids {
			b.eventually(id+" has ended", func() bool { return len(b.members(run)) == 0 })
			b.eventually("journald has the end of "+id, func() bool { return b.saidEnded(run) })
		}
		if r := b.lictor("run", "--", "true"); r.code != exitRefused || !strings.Contains(r.stderr, "full") {
			b.Errorf("a launch: %d %s, want 125 and that it is full", r.code, r.stderr)
		}
		must(os.Remove(dir + "/fill"))
		for id, reason := range map[string]events.Reason{"oom": events.ReasonOOM, "timeout": events.ReasonTimeout, "stop": events.ReasonStop} {
			if run := b.ended(ids[id]); run.Reason != reason {
				b.Errorf("%s ended as %s %s", id, run.State, run.Reason)
			}
		}
		b.want(b.lictor("run", "--", "true"), 0, events.StateDone, events.ReasonNone, "")
		b.eventually("all is released", b.released)

		// What a disk that fails does to a file system: nobody can write any more, and it says so.
		left := b.left("failing", "-t", "4", "--", "sleep", "600")
		b.must("sh", "-c", "echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE "+dir+"))/trigger_fs_error")
		b.eventually("it is read-only", func() bool { return exec.Command("touch", dir+"/x").Run() != nil })
		b.eventually("it has ended", func() bool { return len(b.members(left)) == 0 })
		b.eventually("journald has the end", func() bool { return b.saidEnded(left) })
		b.end(d, syscall.SIGKILL) // what an administrator has to do then
		b.must("umount", dir)
		_ = exec.Command("e2fsck", "-fy", b.dir+"/store.ext4").Run()
		b.must("mount", "-o", "loop", b.dir+"/store.ext4", dir)
		d = b.daemon()
		b.wantRun(b.ended(left), events.StateKilled, events.ReasonTimeout, "systemd")
		b.eventually("that one is released, too", b.released)
		b.end(d, syscall.SIGTERM)
	})
}

func (b *bed) saidEnded(id scope.RunID) bool {
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "journalctl", "-q", "-o", "cat", "LICTOR_RUN="+string(id), "LICTOR_KIND=ended").Output()
	return err == nil && len(out) > 0
}
