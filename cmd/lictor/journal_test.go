package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

func TestJournalctl(t *testing.T) {
	tests := []struct {
		name      string
		lines     int
		follow    bool
		after     string
		want, not []string
	}{
		{"all", -1, false, "", []string{"_STREAM_ID=s"}, []string{"--follow", "--lines=-1"}},
		{"last", 0, false, "", []string{"--lines=0"}, nil},
		{"follow", -1, true, "c;1", []string{"--follow", "--no-tail", "--after-cursor=c;1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := journalctl(tt.lines, tt.follow, tt.after, "_STREAM_ID=s")
			for _, w := range tt.want {
				if !slices.Contains(args, w) {
					t.Errorf("%q is not in %q", w, args)
				}
			}
			for _, n := range tt.not {
				if slices.Contains(args, n) {
					t.Errorf("%q is in %q", n, args)
				}
			}
		})
	}
}

// Only fields that journald sets itself decide whose output it is.
func TestOfServiceIsTrusted(t *testing.T) {
	for manager, want := range map[string][]string{
		"system": {"_TRANSPORT=stdout", "_SYSTEMD_UNIT=x.service"},
		"user":   {"_TRANSPORT=stdout", "_SYSTEMD_USER_UNIT=x.service", "_SYSTEMD_OWNER_UID=1000"},
	} {
		got := ofService(&events.Run{Manager: manager, Service: "x.service", UID: 1000})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", manager, diff)
		}
		for _, m := range got {
			if !strings.HasPrefix(m, "_") {
				t.Errorf("%s: anybody can write %q", manager, m)
			}
		}
	}
}

// What the analysis wrote goes to stdout as it was, what lictor said to stderr, and the last line ends it.
func TestTakeEntries(t *testing.T) {
	const entries = `{"__CURSOR":"1","_PID":"7","MESSAGE":"lictor: launching r"}
{"__CURSOR":"2","_PID":"8","MESSAGE":"lictor: ended r"}
{"__CURSOR":"3","_PID":"8","MESSAGE":[27,91,51,49,109,255]}
{"__CURSOR":"4","_PID":"8","MESSAGE":"half","_LINE_BREAK":"line-max"}
{"__CURSOR":"5","_PID":"9","MESSAGE":" and half","_LINE_BREAK":"pid-change"}
{"__CURSOR":"6","_PID":"9","MESSAGE":"<3>	last","_LINE_BREAK":"eof"}
{"__CURSOR":"7","_PID":"7","MESSAGE":"lictor: r killed: oom"}
`
	const end = `{"__CURSOR":"8","_PID":"7","MESSAGE":"lictor: ended r"}` + "\n"
	all := "lictor: ended r\n\x1b[31m\xff\nhalf and half<3>\tlast\n"
	tests := []struct {
		name, entries string
		lines         int
		want          string
		complete      bool
	}{
		{"all", entries + end, -1, all, true},
		{"not ended", entries, -1, all, false},
		{"last", entries + end, 1, "<3>\tlast\n", true},
		{"none", entries + end, 0, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			j := &journalReader{app: &App{Stdout: newOutput(&stdout), Stderr: &stderr}, run: &events.Run{Run: "r", Keeper: events.Keeper{PID: 7}}}
			last := lastLines{n: tt.lines, print: j.printLine}
			err := eachEntry(strings.NewReader(strings.ReplaceAll(tt.entries, "\t", `\t`)), func(e journalEntry) error { return j.take(e, last.add) })
			if err == nil {
				err = last.flush()
			}
			if err != nil || stdout.String() != tt.want || j.complete != tt.complete {
				t.Errorf("got %q, complete %v, %v; want %q, %v", stdout.String(), j.complete, err, tt.want, tt.complete)
			}
			if got, want := stderr.String(), "lictor: r killed: oom\n"; got != want {
				t.Errorf("stderr %q, want %q", got, want)
			}
		})
	}
}

func TestEntriesThatAreNone(t *testing.T) {
	for _, text := range []string{"{", "[]", "x"} {
		if err := eachEntry(strings.NewReader(text), func(journalEntry) error { return nil }); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	for _, message := range []string{"null x", `{"a":1}`, `["a"]`, `[300000]`, ""} {
		if b, err := (journalEntry{Message: []byte(message)}).text(); err == nil {
			t.Errorf("%q: got %q, want an error", message, b)
		}
	}
}

func TestInertLine(t *testing.T) {
	if got, want := inertLine("a\tb\x1b[31m\r"), "a\tb\\x1b[31m\\r"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
