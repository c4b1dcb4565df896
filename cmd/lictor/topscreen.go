package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// screen is the terminal of `lictor top`: the alternate screen (xterm's private modes 1049, 25 and 7: no cursor, and no line
// is ever wrapped by the terminal, whose characters may be wider than we think) and a keyboard in raw mode. Between enter and
// leave nobody else may write to it.
type screen struct {
	in, out *os.File
	saved   *term.State // of the keyboard, while it is raw
	shown   []string    // the lines that stand there
}

func newScreen(in, out *os.File) *screen { return &screen{in: in, out: out} }

// enter takes the terminal. Again after an enter, it makes sure of what somebody else may have changed: a shell does when it
// stops and continues us.
func (s *screen) enter() error {
	saved, err := term.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: raw mode: %w", err)
	}
	if s.saved == nil {
		s.saved = saved
	}
	s.shown = nil
	_, err = s.out.WriteString("\x1b[?1049h\x1b[?25l\x1b[?7l")
	return err
}

// leave gives the terminal back as it was. It does nothing if that has been done.
func (s *screen) leave() error {
	if s.saved == nil {
		return nil
	}
	_, err := s.out.WriteString("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l")
	err = errors.Join(err, term.Restore(int(s.in.Fd()), s.saved))
	s.saved = nil
	return err
}

// size is that of the window, or nothing if the terminal does not know.
func (s *screen) size() topSize {
	columns, lines, err := term.GetSize(int(s.out.Fd()))
	if err != nil || columns <= 0 || lines <= 0 {
		return topSize{}
	}
	return topSize{columns, lines}
}

// draw shows lines, in one write, and touches only those that have changed.
func (s *screen) draw(lines []string) error {
	var b strings.Builder
	if s.shown == nil {
		b.WriteString("\x1b[H\x1b[2J")
	}
	for i, line := range lines {
		if i < len(s.shown) && s.shown[i] == line {
			continue
		}
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[2K%s", i+1, line)
	}
	if len(s.shown) > len(lines) {
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[J", len(lines)+1)
	}
	s.shown = append([]string{}, lines...)
	if b.Len() == 0 {
		return nil
	}
	_, err := s.out.WriteString(b.String())
	return err
}

// redraw makes the next draw show everything.
func (s *screen) redraw() { s.shown = nil }

// listen reads the keyboard until stop is called, which waits for that. The channel is closed when the terminal is gone.
// A reader that blocked would live on, and take a key that is meant for the shell.
func (s *screen) listen() (keys <-chan []byte, stop func(), err error) {
	wake, stopper, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	ch := make(chan []byte) // unbuffered: what is not taken yet is not read
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer wake.Close()
		defer close(ch)
		for s.ready(wake) {
			buf := make([]byte, 256)
			n, err := unix.Read(int(s.in.Fd()), buf)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			select {
			case ch <- buf[:n]:
			case <-done:
				return
			}
		}
	}()
	return ch, func() { close(done); stopper.Close(); <-ended }, nil
}

// ready waits for input. It reports false when wake is closed on the other side.
func (s *screen) ready(wake *os.File) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(s.in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || fds[1].Revents != 0:
			return false
		case fds[0].Revents != 0:
			return true
		}
	}
}

// suspend leaves the terminal and stops this process until it is continued. Where there is nobody who could do that (no shell
// with job control has made a process group for us) nothing is stopped, as the kernel does with SIGTSTP. That signal itself
// cannot stop us: once it was caught, os/signal does not give it its default action back.
func (s *screen) suspend() error {
	if sid, err := unix.Getsid(0); err != nil || sid == unix.Getpgrp() {
		return err
	}
	if err := s.leave(); err != nil {
		return err
	}
	continued := make(chan os.Signal, 1) // one is enough to know
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	if err := unix.Kill(unix.Getpid(), unix.SIGSTOP); err != nil {
		return err
	}
	<-continued
	return s.enter()
}

// transcript is an App.Stderr that nobody reads at once: what is said would spoil the screen.
type transcript struct {
	mu   sync.Mutex // a settler may say things at the same time
	text strings.Builder
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// lines are what was said, without the name of the program.
func (t *transcript) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(t.text.String()) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "lictor: "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
