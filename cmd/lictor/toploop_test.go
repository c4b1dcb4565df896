package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

// topTerminal is a person at a pseudo terminal, on which a command runs.
type topTerminal struct {
	t      *testing.T
	person *os.File // our side
	tty    *os.File // the side of the command
	before unix.Termios
	cmd    *exec.Cmd

	mu      sync.Mutex
	written bytes.Buffer
}

// startOnTerminal runs a command as the leader of a session with a controlling terminal of 80 × 24, on a store with runs.
func startOnTerminal(t *testing.T, command []string, env ...string) *topTerminal {
	t.Helper()
	state := t.TempDir()
	storeFixture(t, filepath.Join(state, "lictor.db"), "testdata/fixture/box.json")
	fixture, err := filepath.Abs("testdata/fixture")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "LICTOR_STATE_DIR="+state, "HOME="+state, "LICTOR_HOST=none", "TEST_NOW=2026-11-23T15:10:00Z",
		"TEST_CLOCK=runs", "TZ=UTC", "LANG=C.UTF-8", "TERM=xterm", "NO_COLOR=1", "WORK="+state, "TEST_LIVE="+fixture+"/box-live.json",
		"TEST_BOX="+fixture+"/box-host.json", "TEST_PROCESSES="+fixture+"/box-processes.json")
	cmd.Env = append(cmd.Env, env...)
	return onTerminal(t, cmd)
}

// onTerminal runs a command as the leader of a session with a controlling terminal of 80 × 24.
func onTerminal(t *testing.T, cmd *exec.Cmd) *topTerminal {
	t.Helper()
	h := &topTerminal{t: t, cmd: cmd}
	h.person, h.tty = terminalPair(t, 80)
	if err := getTermios(h.tty, &h.before); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = h.tty, h.tty, h.tty
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := h.person.Read(buf)
			h.mu.Lock()
			h.written.Write(buf[:n])
			h.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return h
}

func storeFixture(t *testing.T, path, file string) {
	t.Helper()
	s, err := events.OpenSQLite(t.Context(), path, migrations.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := readFixture(file)
	for _, r := range f.Runs {
		err = errors.Join(err, storeRun(t.Context(), s, r))
	}
	if err := errors.Join(err, s.Append(t.Context(), f.Events...)); err != nil {
		t.Fatal(err)
	}
}

func getTermios(f *os.File, into *unix.Termios) error {
	now, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err == nil {
		*into = *now
	}
	return err
}

func (h *topTerminal) seen() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.written.String()
}

// expect waits until a text has come that was not there at the last expect.
func (h *topTerminal) expect(text string) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		if i := strings.Index(h.written.String(), text); i >= 0 {
			h.written.Next(i + len(text))
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		if time.Now().After(deadline) {
			h.t.Fatalf("%q never came; on the terminal is %q", text, h.seen())
		}
	}
}

func (h *topTerminal) press(keys string) {
	h.t.Helper()
	if _, err := h.person.WriteString(keys); err != nil {
		h.t.Fatal(err)
	}
}

func (h *topTerminal) resize(columns, lines uint16) {
	h.t.Helper()
	if err := unix.IoctlSetWinsize(int(h.person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		h.t.Fatal(err)
	}
}

// restored asserts that the terminal is as it was.
func (h *topTerminal) restored() {
	h.t.Helper()
	var now unix.Termios
	if err := getTermios(h.tty, &now); err != nil || now != h.before {
		h.t.Errorf("the terminal is not as it was (%v):\n%+v\nwas\n%+v", err, now, h.before)
	}
}

// left waits for the end, and asserts that it ends like that, with the terminal given back.
func (h *topTerminal) left(status int) {
	h.t.Helper()
	h.expect(leaveScreen)
	ended := make(chan error, 1) // the end is awaited with a deadline
	go func() { ended <- h.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		h.t.Fatal("it does not end")
	}
	if got := h.cmd.ProcessState.ExitCode(); got != status {
		h.t.Errorf("exit status %d, want %d: %q", got, status, h.seen())
	}
	h.restored()
	if rest := h.seen(); strings.Contains(rest, enterScreen) {
		h.t.Errorf("after the end: %q", rest)
	}
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// A person looks around: the list, an explanation, a tree, a question that is answered with no, a smaller window.
func TestTopTerminal(t *testing.T) {
	h := startOnTerminal(t, []string{"lictor", "top", "-d", "200ms"})
	h.expect(enterScreen)
	h.expect(">● 7f3k9q2a churn-07 running")
	h.press("j")
	h.expect(">◐ 7f3k8zzt umap-3")
	h.press("\x1b[A")
	h.expect(">● 7f3k9q2a")
	h.press("\r")
	h.expect("churn-07 (7f3k9q2a) is running")
	h.press("t")
	h.expect("48950 python -m worker")
	h.press("\x1b") // by itself
	h.expect("? help  q quit")
	h.press("s")
	h.expect("stop 7f3k9q2a? y/N")
	h.press("n")
	h.expect("7f3k9q2a goes on")
	h.resize(120, 30)
	h.expect("\x1b[H\x1b[2J")
	h.expect("PEAK")
	h.expect("\x1b[30;1H")
	h.press("?")
	h.expect("Ctrl-C       quit")
	h.press("qq")
	h.left(0)
}

// However it ends, the terminal is given back.
func TestTopEnds(t *testing.T) {
	tests := []struct {
		name   string
		end    func(*topTerminal)
		status int
	}{
		{"ctrl-c", func(h *topTerminal) { h.press("\x03") }, 0},
		{"escape", func(h *topTerminal) { h.press("\x1b") }, 0},
		{"SIGTERM", func(h *topTerminal) { h.cmd.Process.Signal(unix.SIGTERM) }, 143},
		{"SIGHUP", func(h *topTerminal) { h.cmd.Process.Signal(unix.SIGHUP) }, 129},
		{"SIGINT", func(h *topTerminal) { h.cmd.Process.Signal(unix.SIGINT) }, 130},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := startOnTerminal(t, []string{"lictor", "top"})
			h.expect(">● 7f3k9q2a")
			tt.end(h)
			h.left(tt.status)
		})
	}
}

// A panic, here that of a look (the file of the box is not there), is told on a terminal that can be read.
func TestTopPanic(t *testing.T) {
	h := startOnTerminal(t, []string{"lictor", "top"}, "TEST_BOX=/nonexistent")
	h.expect(enterScreen)
	h.left(2)
	h.expect("panic: ")
	h.expect("/nonexistent")
}

func TestTopBounded(t *testing.T) {
	h := startOnTerminal(t, []string{"lictor", "top", "-n", "2", "-d", "200ms"})
	h.expect(">● 7f3k9q2a")
	h.left(0)
}

// Ctrl-Z gives the terminal to the shell, and fg takes it again; so does kill -TSTP. Without a shell that has job control
// nothing is stopped, because nobody would continue it.
func TestTopJobControl(t *testing.T) {
	stops := map[string]func(h *topTerminal){
		"ctrl-z": func(h *topTerminal) { h.press("\x1a") },
		"SIGTSTP": func(h *topTerminal) {
			group, err := unix.IoctlGetInt(int(h.person.Fd()), unix.TIOCGPGRP)
			if err == nil {
				err = unix.Kill(group, unix.SIGTSTP)
			}
			if err != nil {
				h.t.Error(err)
			}
		},
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startOnTerminal(t, []string{"sh", "-c", "set -m; lictor top; echo stopped with $?; read line; fg; echo went on; exit 7"})
			h.expect(">● 7f3k9q2a")
			stop(h)
			h.expect(leaveScreen)
			h.expect("stopped with " + strconv.Itoa(128+int(unix.SIGSTOP)))
			h.restored()
			h.press("\n")
			h.expect(enterScreen)
			h.expect(">● 7f3k9q2a")
			h.press("q")
			h.expect("went on")
			if err := h.cmd.Wait(); h.cmd.ProcessState.ExitCode() != 7 {
				t.Error(err)
			}
			h.restored()
		})
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		h := startOnTerminal(t, []string{"lictor", "top"})
		h.expect(">● 7f3k9q2a")
		h.press("\x1aj")
		h.expect(">◐ 7f3k8zzt")
		h.press("q")
		h.left(0)
	})
}

// Nothing is drawn that stands there already.
func TestScreenDraw(t *testing.T) {
	var f, err = os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newScreen(nil, f)
	for _, lines := range [][]string{{"a", "b", "c"}, {"a", "B", "c"}, {"a", "B", "c"}, {"a"}} {
		if err := s.draw(lines); err != nil {
			t.Fatal(err)
		}
		f.WriteString("|")
	}
	got, err := os.ReadFile(f.Name())
	want := "\x1b[H\x1b[2J\x1b[1;1H\x1b[2Ka\x1b[2;1H\x1b[2Kb\x1b[3;1H\x1b[2Kc|\x1b[2;1H\x1b[2KB||\x1b[2;1H\x1b[J|"
	if err != nil || string(got) != want {
		t.Errorf("%v, got %q, want %q", err, got, want)
	}
}

// Who quits while runs are being stopped waits for their end, and hears what went wrong.
func TestTopFinish(t *testing.T) {
	var talk bytes.Buffer
	s := &topSession{app: testApp(&talk), model: topModel{stopping: []events.RunID{"aaaa1111", "bbbb2222"}}, answers: make(chan topMessage)}
	go func() {
		s.answers <- sampleAt(0, topA)
		s.answers <- topStopped{run: "aaaa1111"}
		s.answers <- topStopped{"bbbb2222", "stop bbbb2222: it hangs"}
	}()
	err := s.finish()
	if err == nil || err.Error() != "stop bbbb2222: it hangs" {
		t.Errorf("error %v", err)
	}
	if want := "lictor: waiting for the end of aaaa1111, bbbb2222 (Ctrl-C leaves that to the keeper)\n"; talk.String() != want {
		t.Errorf("talk %q, want %q", talk.String(), want)
	}
}
