package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newStopCommand(app *App) *cobra.Command {
	var grace string
	cmd := &cobra.Command{
		Use:   "stop RUN…",
		Short: "End runs: SIGTERM, then SIGKILL after the grace",
		Long: `End runs. Every process of a run gets SIGTERM and, if it is still there after the run's grace, SIGKILL. The record says
who asked. It returns when nobody is left.`,
		Args:              atLeast(1, "a run"),
		ValidArgsFunction: app.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			override, err := parseGrace(grace)
			if err != nil {
				return err
			}
			return app.eachRun(cmd.Context(), args, func(ctx context.Context, r *reach) error { return r.stop(ctx, override) })
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "", "time between SIGTERM and SIGKILL, instead of the run's own")
	return cmd
}

func newKillCommand(app *App) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:               "kill [-s SIGNAL] RUN…",
		Short:             "Send one signal to every process of runs",
		Long:              `Send one signal to every process of runs, SIGKILL by default. The record says who sent it if a run ends by it.`,
		Args:              atLeast(1, "a run"),
		ValidArgsFunction: app.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return err
			}
			return app.eachRun(cmd.Context(), args, func(ctx context.Context, r *reach) error { return r.kill(ctx, sig) })
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "SIGKILL", "the signal, by name or number")
	return cmd
}

func parseGrace(text string) (*time.Duration, error) {
	if text == "" {
		return nil, nil
	}
	d, infinite, err := ParseTimespanOrZero("grace", text)
	if err != nil || infinite {
		return nil, errors.Join(err, withHint(usageError("grace %q: must be a time", text), "write it like 30s"))
	}
	return &d, nil
}

// parseSignal reads TERM, SIGTERM, sigterm or 15.
func parseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, withHint(usageError("signal %q: no such signal", text), "write it like TERM, SIGINT or 9; kill -l lists them")
}

// reach is a live run that a command acts on.
type reach struct {
	app *App
	led *scope.Ledger
	s   *settler
	k   *keeping
	rec *recorder
}

// eachRun resolves runs and does something to each that lives. One that has ended already is no error, but is said.
func (a *App) eachRun(ctx context.Context, texts []string, do func(context.Context, *reach) error) error {
	l, err := a.actor()
	if err != nil {
		return err
	}
	defer l.Disconnect()
	s := a.newSettler(l)
	defer s.close()
	var errs []error
	for _, text := range texts {
		errs = append(errs, a.oneRun(ctx, s, text, do))
	}
	return errors.Join(errs...)
}

// actor returns the launcher for commands that act on runs, or refuses those who may not.
func (a *App) actor() (*scope.Launcher, error) {
	if a.Mode() == ModeSystem && a.UID != 0 {
		return nil, withHint(errors.New("the runs of the system manager are root's"), "sudo lictor …, or lictor --user … for your own")
	}
	l, err := scope.NewLauncher(scope.Manager(a.Mode()))
	if err != nil {
		return nil, explainLaunch(a.Mode(), err)
	}
	return l, nil
}

func (a *App) oneRun(ctx context.Context, s *settler, text string, do func(context.Context, *reach) error) error {
	rec, err := s.recorder("")
	if err != nil {
		return err
	}
	run, err := a.resolve(ctx, rec.store, text)
	if err != nil {
		return a.explainStore(fmt.Errorf("%q: %w", text, err))
	}
	err = a.reachRun(ctx, s, run, do)
	if errors.Is(err, cgroup.ErrGone) { // before or while something was done to it
		a.talk("%s has ended already", shortID(run.Run))
		return nil
	}
	return err
}

func (a *App) reachRun(ctx context.Context, s *settler, run *events.Run, do func(context.Context, *reach) error) error {
	led, err := s.launcher.Ledger(scope.RunID(run.Run))
	if err != nil {
		return err
	}
	defer led.Group.Close()
	k, rec, err := s.keeping(ctx, led)
	if err != nil {
		return err
	}
	defer k.closeKernel()
	return do(ctx, &reach{app: a, led: led, s: s, k: k, rec: rec})
}

func (r *reach) enforcer() *watcher.Enforcer {
	return &watcher.Enforcer{Run: r.k.run, Ledger: r.led.Group, Recorder: r.rec, Processes: watcher.NewProcessTable(),
		Clock: watcher.SystemClock, Log: r.k.log}
}

// me is the caller as the record names it.
func me() (by string, uid *uint32) {
	n := uint32(os.Getuid())
	return "uid " + strconv.FormatUint(uint64(n), 10), &n
}

func (r *reach) stop(ctx context.Context, grace *time.Duration) error {
	g := r.led.Facts.Grace
	if grace != nil {
		g = *grace
	}
	by, uid := me()
	if phase := r.enforcer().End(ctx, watcher.NewIntent(watcher.SystemClock, events.ReasonStop, by, uid, unix.SIGTERM), g); phase == watcher.PhaseSurvived {
		return fmt.Errorf("%s: some of its processes survive SIGKILL; they hang in the kernel", r.led.Run)
	}
	return r.recorded(ctx)
}

func (r *reach) kill(ctx context.Context, sig unix.Signal) error {
	by, uid := me()
	if pids := r.enforcer().Signal(ctx, events.ReasonStop, by, uid, sig); len(pids) == 0 {
		r.app.talk("%s: nobody was there to get the signal", r.led.Run)
	}
	return nil
}

// recordPatience is how long stop waits for the keeper of a run to write its end.
const recordPatience = 10 * time.Second

// recorded waits until the end of the run is on record, and writes it if its keeper is gone.
func (r *reach) recorded(ctx context.Context) error {
	if !r.led.Keeper.Alive() {
		err := r.s.ledger(ctx, r.led.Run)
		if errors.Is(err, cgroup.ErrGone) { // the keeper recorded and released it before it went
			return nil
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		run, err := r.rec.store.Run(ctx, r.k.run.Run)
		if err == nil && run.State.Final() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s has ended, but its keeper (pid %d) has not recorded it yet", r.led.Run, r.led.Keeper.PID)
		}
	}
}
