//go:build integration

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// TestW8: the daemon has descriptors for a few runs only. The others are ended and recorded all the same, it says so, and nobody
// is ended who should live.
func TestW8(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemonUnder("2s", "prlimit", "--nofile=75")
		defer b.end(d, syscall.SIGTERM)
		all := launches{}
		for i := range 8 {
			all[fmt.Sprintf("w8-%d", i)] = []string{"--grace", "2", "--", "sleep", "600"}
		}
		kept := b.leave(launches{"w8-keep": {"--on-owner-exit", "keep", "--", "sleep", "600"}})["w8-keep"]
		started, ids := b.launch(all)
		for id, p := range started {
			if id != "w8-0" {
				b.signal(p, syscall.SIGKILL)
				b.finishCommand(p)
				delete(all, id)
			}
		}
		for id := range started {
			if id != "w8-0" {
				b.wantEnds(ids, ends{id: events.ReasonAbandoned})
			}
		}
		if !strings.Contains(d.said(), "the limit of open files is reached") {
			b.Errorf("it did not say so:\n%s", d.said())
		}
		if len(b.members(kept)) != 1 || len(b.members(ids["w8-0"])) != 1 {
			b.Error("a run was ended that should live")
		}

		// Now there is not one. Nothing can be done, and nothing wrong is done either; then there are some again.
		was := b.openFileLimit(d, 3) // it is about the number of a new one: the lowest that is free
		b.signal(started["w8-0"], syscall.SIGKILL)
		b.finishCommand(started["w8-0"])
		b.eventually("it says that it has no descriptor", func() bool { return strings.Contains(d.said(), "too many open files") })
		if len(b.members(kept)) != 1 {
			b.Error("a run was ended that should live")
		}
		b.openFileLimit(d, was)
		b.wantEnds(ids, ends{"w8-0": events.ReasonAbandoned})
		b.lictor("stop", string(kept))
		b.wantRun(b.ended(kept), events.StateKilled, events.ReasonStop, "uid 0")
		b.eventually("the ledgers are released", b.released)
	})
}

// openFileLimit sets RLIMIT_NOFILE of a process and returns what it was.
func (b *bed) openFileLimit(p *process, n uint64) uint64 {
	b.Helper()
	var was unix.Rlimit
	must(unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, nil, &was))
	must(unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}, nil))
	return was.Cur
}
