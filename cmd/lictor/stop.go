package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
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
			return app.stop(cmd.Context(), args, override)
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "", "time between SIGTERM and SIGKILL, instead of the run's own")
	return cmd
}

// stop ends runs, after the grace of each if none is given, and returns when nobody is left.
func (a *App) stop(ctx context.Context, runs []string, grace *time.Duration) error {
	return a.eachRun(ctx, runs, action{
		here:  func(ctx context.Context, r *reach) error { return r.stop(ctx, grace) },
		there: func(ctx context.Context, c *client.Client, run events.RunID) error { return c.Stop(ctx, run, grace) },
	})
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
			return app.eachRun(cmd.Context(), args, action{
				here: func(ctx context.Context, r *reach) error { return r.kill(ctx, sig) },
				there: func(ctx context.Context, c *client.Client, run events.RunID) error {
					return c.Kill(ctx, run, unix.SignalName(sig))
				},
			})
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
	uid uint32 // who asks
}

// action is something that is done to a live run: by this process, or by the daemon, whose run it is.
type action struct {
	here  func(context.Context, *reach) error
	there func(context.Context, *client.Client, events.RunID) error
}

// eachRun resolves runs and does something to each that lives. One that has ended already is no error, but is said.
func (a *App) eachRun(ctx context.Context, texts []string, act action) error {
	reader, err := a.openReaders(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	var s *settler
	defer func() {
		if s != nil {
			s.close()
			s.launcher.Disconnect()
		}
	}()
	var errs []error
	for _, text := range texts {
		run, err := a.resolve(ctx, reader, text)
		switch {
		case err != nil:
			errs = append(errs, a.explainStore(fmt.Errorf("%q: %w", text, err)))
			continue
		case (run.Manager == string(ModeSystem) || a.elsewhere() != nil) && a.remote(ctx) != nil:
			err = explainProblem(act.there(ctx, a.remote(ctx), run.Run))
		default:
			if s == nil {
				l, err := a.actor()
				if err != nil {
					return err
				}
				s = a.newSettler(l)
			}
			err = a.reachRun(ctx, s, run, uint32(os.Getuid()), act.here)
		}
		if hasEnded(err) {
			a.talk("%v", err)
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// explainProblem is what the daemon says as an error of a command.
func explainProblem(err error) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		return err
	}
	if p.Hint != "" {
		err = withHint(err, p.Hint)
	}
	if p.ExitCode > 1 {
		err = withCode(p.ExitCode, err)
	}
	return err
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

// hasEnded reports whether a run had ended before anything could be done to it, as this process or the daemon says.
func hasEnded(err error) bool {
	p, _ := errors.AsType[*client.Problem](err)
	_, ended := errors.AsType[*endedError](err)
	return ended || p != nil && p.Status == http.StatusConflict
}

// endedError says that a run has ended, before or while something was done to it.
type endedError struct{ run *events.Run }

func (e *endedError) Error() string {
	if !e.run.State.Final() { // it was read while the run lived
		return shortID(e.run.Run) + " has ended already"
	}
	return fmt.Sprintf("%s has ended already: %s", shortID(e.run.Run), e.run.State)
}

// reachRun does something to a run on somebody's word. The error is an *endedError if it has ended.
func (a *App) reachRun(ctx context.Context, s *settler, run *events.Run, uid uint32, do func(context.Context, *reach) error) error {
	err := a.reachLive(ctx, s, run, uid, do)
	if errors.Is(err, cgroup.ErrGone) {
		return &endedError{run}
	}
	return err
}

func (a *App) reachLive(ctx context.Context, s *settler, run *events.Run, uid uint32, do func(context.Context, *reach) error) error {
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
	return do(ctx, &reach{app: a, led: led, s: s, k: k, rec: rec, uid: uid})
}

func (r *reach) enforcer() *watcher.Enforcer {
	return &watcher.Enforcer{Run: r.k.run, Ledger: r.led.Group, Recorder: r.rec, Processes: watcher.NewProcessTable(),
		Clock: watcher.SystemClock, Log: r.k.log}
}

// who asks, as the record names them.
func (r *reach) who() (by string, uid *uint32) {
	return "uid " + strconv.FormatUint(uint64(r.uid), 10), &r.uid
}

func (r *reach) stop(ctx context.Context, grace *time.Duration) error {
	g := r.led.Facts.Grace
	if grace != nil {
		g = *grace
	}
	by, uid := r.who()
	e := r.enforcer()
	e.Begin(ctx, watcher.NewIntent(watcher.SystemClock, events.ReasonStop, by, uid, unix.SIGTERM), g)
	if e.End(ctx) == watcher.PhaseSurvived {
		return r.survived(e.Survivors())
	}
	return r.recorded(ctx)
}

// survived is said when there is nothing to wait for. The keeper of the run goes on with SIGKILL, now and then, and completes
// the record when they are gone.
func (r *reach) survived(list []events.Process) error {
	err := fmt.Errorf("%s: SIGKILL was sent, and these hang in the kernel: %s", r.led.Run, processes(list))
	if r.led.Keeper.Alive() {
		return withHint(err, "lictor status "+shortID(r.k.run.Run)+" tells when they are gone")
	}
	return withHint(err, "lictor watch --once completes the record when they are gone")
}

func (r *reach) kill(ctx context.Context, sig unix.Signal) error {
	by, uid := r.who()
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
