package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
	"golang.org/x/sys/unix"
)

// passed are the signals that a launcher hands on to the main process. The stop signals of job control (SIGTSTP, …) are not
// among them: launcher and analysis are one process group, so the terminal stops and continues both.
var passed = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}

// signals are the caught signals of this process.
type signals struct {
	ch    chan os.Signal
	stops bool // SIGTERM ends the run, with its grace, instead of being passed on: systemd stops the service of a detached run
}

// catchSignals begins to catch. What arrives before the analysis runs waits for it; a terminal reaches its process directly,
// at the barrier too.
func catchSignals() *signals {
	s := &signals{ch: make(chan os.Signal, 16)} // os/signal drops what does not fit; nobody sends that many in a launch
	signal.Notify(s.ch, passed...)
	return s
}

func (s *signals) release() { signal.Stop(s.ch) }

// pass hands signals on to the main process until the returned function is called. Each is announced as ours before.
func (s *signals) pass(ctx context.Context, sc *scope.Scope, e *watcher.Enforcer) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-s.ch:
				s.passOne(ctx, sc, e, sig.(syscall.Signal))
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (s *signals) passOne(ctx context.Context, sc *scope.Scope, e *watcher.Enforcer, sig syscall.Signal) {
	if s.stops && sig == syscall.SIGTERM {
		e.Begin(ctx, watcher.NewIntent(watcher.SystemClock, events.ReasonStop, "launcher", nil, unix.SIGTERM), sc.Spec.Grace)
		e.End(ctx)
		return
	}
	if fromTerminal(sig) {
		e.Announce(ctx, events.ReasonSignal, "terminal", nil, sig, func() bool { return true })
		return
	}
	e.Announce(ctx, events.ReasonSignal, "launcher", nil, sig, func() bool { return sc.Signal(sig) == nil })
}

// fromTerminal reports whether a keyboard signal has most likely reached the analysis already: a terminal sends it to the
// whole foreground process group, of which launcher and analysis are members. Sending it again would interrupt the
// analysis in its own handling of it.
func fromTerminal(sig syscall.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == syscall.Getpgrp()
}

func signalNumber(name string) int { return int(unix.SignalNum(name)) }

// umask reads the file mode creation mask, which can only be read by setting it.
func umask() os.FileMode {
	m := syscall.Umask(0o077)
	syscall.Umask(m)
	return os.FileMode(m)
}
