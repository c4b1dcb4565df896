//go:build integration

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
)

// inotify sets a limit of the kernel's until the returned function is called.
func (b *bed) inotify(name, value string) (restore func()) {
	b.Helper()
	path := "/proc/sys/fs/inotify/" + name
	was, err := os.ReadFile(path)
	must(err)
	restore = func() { must(os.WriteFile(path, was, 0o644)) }
	b.Cleanup(restore)
	must(os.WriteFile(path, []byte(value), 0o644))
	return restore
}

// TestW6Overflow: the queue of notices overflows while the daemon does not read it. Everything is looked at; nothing is lost.
func TestW6Overflow(t *testing.T) {
	asRoot(t, func(b *bed) {
		restore := b.inotify("max_queued_events", "16") // it counts for instances made from now on
		d := b.daemon()
		restore()
		defer b.end(d, syscall.SIGTERM)
		g := b.gate()
		all, want := launches{}, ends{}
		for i := range 8 {
			id := fmt.Sprintf("w6-%d", i)
			all[id], want[id] = append([]string{"--on-owner-exit", "keep", "-m", "12M", "--"}, g.then("exec tail /dev/zero")...), events.ReasonOOM
		}
		ids := b.leave(all)
		b.eventually("the daemon keeps them all", func() bool { return strings.Count(d.said(), "msg=keeping") == len(all) })
		b.signal(d, syscall.SIGSTOP)
		g.open()
		for _, id := range ids {
			b.eventually("it has ended", func() bool { return len(b.members(id)) == 0 })
		}
		b.signal(d, syscall.SIGCONT)
		b.wantEnds(ids, want)
		if !strings.Contains(d.said(), "notices were lost") {
			b.Error("the queue has not overflowed, or nobody said so")
		}
		b.eventually("the ledgers are released", b.released)
	})
}

// TestW6NoNotices: the user has no inotify instance (EMFILE) or no watch (ENOSPC) left, and systemd neither. Keepers poll.
func TestW6NoNotices(t *testing.T) {
	t.Run("EMFILE", func(t *testing.T) { noNotices(newBed(t, ModeUser), "max_user_instances") })
	t.Run("ENOSPC", func(t *testing.T) { noNotices(newBed(t, ModeSystem), "max_user_watches") })
}

func noNotices(b *bed, limit string) {
	g := b.gate()
	defer b.inotify(limit, "1")()
	d := b.daemonUnder("1s")
	defer b.end(d, syscall.SIGTERM)
	keep := func(args ...string) []string {
		return append([]string{"--on-owner-exit", "keep", "--grace", "2"}, args...)
	}
	ids := b.leave(launches{
		"oom":     append(keep("-m", "24M", "--"), g.then("exec tail /dev/zero")...),
		"timeout": keep("-t", "6", "--", "sleep", "600"),
	})
	// An incident that the run survives is seen only by looking while it lives.
	p := b.start("run", "-m", "24M", "--oom-policy", "continue", "--", "sh", "-c",
		"tail /dev/zero; touch survived; read x < "+g.path+"; exit 7")
	b.eventually("the main process lives on", func() bool { return b.has("survived") })
	own := events.RunID(b.alive()[""])
	b.eventually("the incident is on record", func() bool { return len(b.events(own, events.KindOOM)) == 1 })
	b.eventually("the daemon keeps both", func() bool { return strings.Count(d.said(), "msg=keeping") == 2 })
	g.open()
	r := b.finishCommand(p)
	run := b.want(r, 7, events.StateFailed, events.ReasonNone, "")
	if strings.Contains(r.stderr, "msg=") {
		b.Errorf("what a command says is not for lictor's log to add to: %s", r.stderr)
	}
	if run.OOM.Kills == 0 {
		b.Error("the incident is not in the record")
	}
	b.wantEnds(ids, ends{"oom": events.ReasonOOM, "timeout": events.ReasonTimeout})
	if n := strings.Count(d.said(), "no notifications: "); n != 1 {
		b.Errorf("it was said %d times that there are no notifications:\n%s", n, d.said())
	}
	// systemd finds a scope empty only when its patience is over, and it fails after it was released: that is forgotten, too.
	b.eventually("nothing is left", b.released)
}
