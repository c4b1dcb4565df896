package main

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// terminalPair returns both sides of a pseudo terminal of so many columns.
func terminalPair(t *testing.T, columns uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals:", err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: 24}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// openTerminal returns a pseudo terminal of so many columns, and what is written to it until it is closed.
func openTerminal(t *testing.T, columns uint16) (*os.File, func() string) {
	t.Helper()
	ours, theirs := terminalPair(t, columns)
	written := make(chan string)
	go func() {
		b, _ := io.ReadAll(ours) // ends with EIO when the other side is closed
		written <- string(b)
	}()
	return theirs, func() string { theirs.Close(); return strings.ReplaceAll(<-written, "\r\n", "\n") }
}

// On a terminal the command is cut to its width, and the mark and the state have a colour; what is read by programs is
// whole and plain.
func TestTerminal(t *testing.T) {
	long := sampleRun(func(r *events.Run) {
		r.Reason = events.ReasonOOM
		r.Command = []string{"python", strings.Repeat("x", 200)}
	})
	tests := []struct {
		name    string
		env     map[string]string
		columns uint16 // 0: no terminal
		want    string
	}{
		{"terminal", nil, 100,
			"\x1b[1m  RUN\x1b[0m       \x1b[1mANALYSIS\x1b[0m"},
		{"terminal, row", nil, 100,
			"\x1b[31m✗ 7f3k7m1d\x1b[0m  embed-all  \x1b[31mkilled\x1b[0m  oom     -    1.2G  2.0G      -  1m37s  -     python xxxxxxxxxxxxxxxx…\n"},
		{"NO_COLOR", map[string]string{"NO_COLOR": "1"}, 100,
			"✗ 7f3k7m1d  embed-all  killed  oom     -    1.2G  2.0G      -  1m37s  -     python xxxxxxxxxxxxxxxx…\n"},
		{"dumb terminal", map[string]string{"TERM": "dumb"}, 100,
			"✗ 7f3k7m1d  embed-all  killed  oom     -    1.2G  2.0G      -  1m37s  -     python xxxxxxxxxxxxxxxx…\n"},
		{"narrow", map[string]string{"NO_COLOR": "1"}, 20,
			"✗ 7f3k7m1d  embed-all  killed  oom     -    1.2G  2.0G      -  1m37s  -     …\n"},
		{"pipe", nil, 0,
			"✗ 7f3k7m1d  embed-all  killed  oom     -    1.2G  2.0G      -  1m37s  -     python " + strings.Repeat("x", 200) + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var pipe bytes.Buffer
			app := testApp(&pipe)
			app.Getenv = func(name string) string {
				return map[string]string{"LANG": "C.UTF-8", "NO_COLOR": tt.env["NO_COLOR"], "TERM": tt.env["TERM"]}[name]
			}
			written := pipe.String
			if tt.columns > 0 {
				var tty *os.File
				tty, written = openTerminal(t, tt.columns)
				app.Stdout = newOutput(tty)
			}
			app.psTable([]listed{{Run: long}}).print(app, true)
			if got := written(); !strings.Contains(got, tt.want) {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
		})
	}
}

// A full disk, or a reader that has gone, is no success.
func TestOutputError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var talk bytes.Buffer
	app := testApp(&talk)
	app.Stdout = newOutput(full)
	app.Now = time.Now
	if code := run(app, []string{"version"}); code != exitFailure || !strings.Contains(talk.String(), "no space left") {
		t.Errorf("exit status %d, %q", code, talk.String())
	}
}

// The version is a command with --json, and a flag because people try that first.
func TestVersion(t *testing.T) {
	said := func(args ...string) string {
		var out bytes.Buffer
		if code := run(testApp(&out), args); code != 0 {
			t.Errorf("%q: exit status %d", args, code)
		}
		return out.String()
	}
	command, flag := said("version"), said("--version")
	if !strings.HasPrefix(command, "lictor ") || !strings.HasSuffix(command, "\n") {
		t.Errorf("%q", command)
	}
	if flag != command {
		t.Errorf("--version: %q, want %q", flag, command)
	}
}
