package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/watcher"
)

func TestKillerEntry(t *testing.T) {
	const oomd = "Killed /lictor.slice/lictor-abc.slice/lictor-abc.scope due to memory pressure for /lictor.slice being 60.02% > 1.00% for > 1s with reclaim activity"
	none := watcher.KillerEntry{}
	tests := []struct {
		name, unit, id, text string
		want                 watcher.KillerEntry // without its message
		ok                   bool
	}{
		{"systemd found oomd's mark", "lictor-abc.scope", oomdKill, "systemd-oomd killed 3 process(es) in this unit.",
			watcher.KillerEntry{By: "systemd-oomd", Signal: syscall.SIGKILL}, true},
		{"systemd found oomd's mark elsewhere", "lictor-abd.scope", oomdKill, "systemd-oomd killed 3 process(es) in this unit.", none, false},
		{"oomd itself", oomdUnit, "", oomd, watcher.KillerEntry{By: "systemd-oomd", Signal: syscall.SIGKILL}, true},
		{"oomd itself, in a user manager", oomdUnit, "", "Killed /user.slice/user-7.slice/user@7.service" + oomd[len("Killed "):],
			watcher.KillerEntry{By: "systemd-oomd", Signal: syscall.SIGKILL}, true},
		{"oomd killed another", oomdUnit, "", "Killed /lictor.slice/lictor-abd.slice/lictor-abd.scope due to memory pressure", none, false},
		{"oomd says something else", oomdUnit, "", "Memory pressure relief", none, false},
		{"earlyoom", earlyoomUnit, "", `sending SIGTERM to process 1234 uid 1000 "python3": badness 812, VmRSS 1514 MiB`,
			watcher.KillerEntry{By: "earlyoom", PID: 1234, Signal: syscall.SIGTERM}, true},
		{"earlyoom, later", earlyoomUnit, "", `sending SIGKILL to process 1234 uid 0 "a": oom_score 1, VmRSS 1 MiB, cmdline "sending SIGTERM to process 7 "`,
			watcher.KillerEntry{By: "earlyoom", PID: 1234, Signal: syscall.SIGKILL}, true},
		{"earlyoom reports", earlyoomUnit, "", `mem avail: 21790 of 23909 MiB (91.14%), swap free: 0 of 0 MiB ( 0.00%)`, none, false},
		{"a process whose name is such a line", earlyoomUnit, "", `process "sending SIGTERM to process 7 " is gone`, none, false},
		{"earlyoom makes no sense", earlyoomUnit, "", `sending SIGFOO to process 99999999999999999999 uid 0`, none, false},
		{"a stranger", "forger.service", "", "sending SIGTERM to process 1234 uid 1000", none, false},
	}
	for _, tt := range tests {
		got, ok := killerJournal{run: "abc"}.entry(journalEntry{Unit: tt.unit, About: tt.unit, MessageID: tt.id}, tt.text)
		got.Message = ""
		if !ok {
			got = none
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: %v (-want +got)\n%s", tt.name, ok, diff)
		}
	}
}

func TestKillerMatches(t *testing.T) {
	for manager, want := range map[Mode]string{ModeSystem: "_PID=1", ModeUser: "_UID=1000"} {
		args := killerMatches(manager, 1000, "a-b")
		last := args[slices.Index(args, "MESSAGE_ID="+oomdKill)+1:]
		if diff := cmp.Diff([]string{"_BOOT_ID=ab", want}, last); diff != "" {
			t.Errorf("%s: only what journald vouches for (-want +got)\n%s", manager, diff)
		}
	}
}

// However many ask at once, the journal is read twice: for the first, and for all who came meanwhile. Nobody gets what was read before it
// asked.
func TestKillerReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readings := 0
		r := &killerReader{read: func(context.Context) ([]journalEntry, error) {
			readings++
			began := time.Now()
			time.Sleep(time.Second)
			return []journalEntry{{Cursor: began.Format(time.RFC3339Nano)}}, nil
		}}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				asked := time.Now()
				es, err := r.entries(t.Context())
				if err != nil || len(es) != 1 {
					t.Errorf("%d: %v, %v", i, es, err)
					return
				}
				if began, _ := time.Parse(time.RFC3339Nano, es[0].Cursor); began.Before(asked) {
					t.Errorf("%d asked at %v and got what was read from %v on", i, asked, began)
				}
			})
		}
		all.Wait()
		if readings != 2 {
			t.Errorf("%d readings for 100 at once, want 2", readings)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.entries(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that nobody waits for longer than they want to", err)
		}
		if _, err := r.entries(t.Context()); err != nil || readings != 4 {
			t.Errorf("%v, %d readings", err, readings)
		}
	})
}

func TestJournalEntryTime(t *testing.T) {
	var e journalEntry
	if err := json.Unmarshal([]byte(`{"__MONOTONIC_TIMESTAMP":"1500000","MESSAGE":"x"}`), &e); err != nil || e.monotonic().Seconds() != 1.5 {
		t.Errorf("%v, %v, want 1.5 s", e.monotonic(), err)
	}
}
