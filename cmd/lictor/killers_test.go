package main

import (
	"encoding/json"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
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
		{"systemd found oomd's mark", "init.scope", oomdKill, "systemd-oomd killed 3 process(es) in this unit.",
			watcher.KillerEntry{By: "systemd-oomd", Signal: syscall.SIGKILL}, true},
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
		got, ok := killerJournal{run: "abc"}.entry(journalEntry{Unit: tt.unit, MessageID: tt.id}, tt.text)
		got.Message = ""
		if !ok {
			got = none
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: %v (-want +got)\n%s", tt.name, ok, diff)
		}
	}
}

func TestKillerJournalctl(t *testing.T) {
	for manager, want := range map[Mode][]string{ModeSystem: {"UNIT=lictor-abc.scope", "_PID=1"}, ModeUser: {"USER_UNIT=lictor-abc.scope", "_UID=1000"}} {
		args := killerJournal{run: "abc", rec: &events.Run{Manager: string(manager), UID: 1000, BootID: "a-b"}}.journalctl()
		last := args[slices.Index(args, "MESSAGE_ID="+oomdKill)+1:]
		if diff := cmp.Diff(append([]string{"_BOOT_ID=ab"}, want...), last); diff != "" {
			t.Errorf("%s: only what journald vouches for (-want +got)\n%s", manager, diff)
		}
	}
}

func TestJournalEntryTime(t *testing.T) {
	var e journalEntry
	if err := json.Unmarshal([]byte(`{"__MONOTONIC_TIMESTAMP":"1500000","MESSAGE":"x"}`), &e); err != nil || e.monotonic().Seconds() != 1.5 {
		t.Errorf("%v, %v, want 1.5 s", e.monotonic(), err)
	}
}
