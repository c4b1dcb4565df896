package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// detachTimeout bounds `run -d`: systemd starts the service, and the launch in it has its own deadline of a minute.
const detachTimeout = 100 * time.Second

// stopMargin is what a launcher service may need to record an end after the grace of its run, before systemd kills it.
const stopMargin = 90 * time.Second

// detached is what `run -d --json` prints.
type detached struct {
	API     string       `json:"api"`
	Run     events.RunID `json:"run"`
	Unit    string       `json:"unit"`
	Service string       `json:"service"`
}

// detach has systemd launch the run that spec describes, and returns when it runs. What can be refused without systemd has
// been refused: spec is valid.
func (a *App) detach(ctx context.Context, o *runOptions, spec scope.Spec) error {
	l, err := scope.NewLauncher(scope.Manager(a.Mode()))
	if err != nil {
		return explainLaunch(a.Mode(), err)
	}
	defer l.Disconnect()
	h, err := newHandover(spec.Run, a.args)
	if err != nil {
		return err
	}
	if err := a.handOver(ctx, l, spec, h); err != nil {
		return err
	}
	if !o.quiet {
		a.mentionLinger(spec.Run)
	}
	if o.json {
		return writeJSON(a.Stdout, detached{events.API, events.RunID(spec.Run), spec.Run.Scope(), spec.Run.Service()})
	}
	fmt.Fprintln(a.Stdout, spec.Run)
	return nil
}

func (a *App) handOver(ctx context.Context, l *scope.Launcher, spec scope.Spec, h handover) error {
	service, err := launcherService(spec)
	if err == nil {
		err = inherit(&service)
	}
	if err != nil {
		return err
	}
	return a.handOverTo(ctx, l, service, h)
}

func (a *App) handOverTo(ctx context.Context, l *scope.Launcher, service scope.ServiceSpec, h handover) error {
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	service.Stdin = theirs
	err = l.StartService(ctx, service)
	theirs.Close() // systemd has a copy
	if err != nil {
		return explainLaunch(a.Mode(), err)
	}
	err = converse(ctx, ours, h)
	if errors.Is(err, context.DeadlineExceeded) { // nothing may start later that was reported as failed now
		_ = l.StopUnit(context.WithoutCancel(ctx), service.Run.Service())
		return withHint(fmt.Errorf("the launcher service did not start the run within %v", detachTimeout), journalHint(a.Mode(), service.Run))
	}
	if errors.Is(err, errNoAnswer) {
		return withHint(err, journalHint(a.Mode(), service.Run))
	}
	return err
}

func journalHint(mode Mode, run scope.RunID) string {
	if mode == ModeUser {
		return "journalctl --user -u " + run.Service()
	}
	return "journalctl -u " + run.Service()
}

// launcherService is the service that launches a run: this program, in a process like this one.
func launcherService(spec scope.Spec) (scope.ServiceSpec, error) {
	program, err := os.Executable()
	if err != nil {
		return scope.ServiceSpec{}, fmt.Errorf("own program: %w", err)
	}
	return scope.ServiceSpec{Run: spec.Run, Program: program, Args: []string{os.Args[0], launchCommand, string(spec.Run)},
		Description: "lictor: launcher of " + string(spec.Run) + " (" + spec.Args[0] + ")",
		StopTimeout: spec.Grace + stopMargin}, nil
}

// lingerDir is where systemd-logind notes whose manager goes on without a session.
const lingerDir = "/var/lib/systemd/linger"

// mentionLinger warns of a user manager that ends, with all it runs, at the last logout.
func (a *App) mentionLinger(run scope.RunID) {
	if a.Mode() != ModeUser {
		return
	}
	u, err := user.Current()
	if err != nil {
		return
	}
	if _, err := os.Stat(filepath.Join(lingerDir, u.Username)); errors.Is(err, os.ErrNotExist) {
		a.talk("%s will end when you log out: lingering is off", shortID(events.RunID(run)))
		fmt.Fprintln(a.Stderr, "hint: loginctl enable-linger")
	}
}
