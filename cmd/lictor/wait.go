package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

const waitLong = `Wait until runs have ended and are on record. For each that something forced to end one line on stderr says so, as of
"lictor run"; the exit status is that of "lictor run" for the last of them. Runs of other terminals can be waited for, too.`

func newWaitCommand(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait RUN…",
		Short: "Wait for the end of runs, and pass on the exit status",
		Long:  waitLong,
		Example: `  run=$(lictor run -d -- make -j8)
  lictor wait $run || lictor why $run`,
		Args:              atLeast(1, "a run"),
		ValidArgsFunction: app.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.wait(cmd.Context(), args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the records as JSON, one object per line")
	return cmd
}

func (a *App) wait(ctx context.Context, names []string, asJSON bool) error {
	runs, err := a.resolveAll(ctx, names)
	if err != nil {
		return err
	}
	for i, run := range runs {
		ended, err := a.waitEnd(ctx, run)
		if err != nil {
			return err
		}
		runs[i] = ended
		if asJSON {
			if err := writeJSONLine(a.Stdout, ended); err != nil {
				return err
			}
		} else if ended.Reason != events.ReasonNone {
			a.talk("%s. lictor why %s tells more", ended.Summary(), shortID(ended.Run))
		}
	}
	return exitStatus(runs[len(runs)-1])
}

// resolveAll finds the runs that a person means, or says of which there is none.
func (a *App) resolveAll(ctx context.Context, names []string) (runs []*events.Run, err error) {
	err = a.read(ctx, func(ctx context.Context, s events.Reader) error {
		for _, name := range names {
			run, err := a.resolve(ctx, s, name)
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			runs = append(runs, run)
		}
		return nil
	})
	return runs, err
}

// standing is how a run stands for somebody who waits for its end.
type standing struct {
	recorded  bool // its end is on record
	kept      bool // its keeper lives, and will record it in a moment
	populated bool // some of its processes live
	settled   bool // we have tried to record its end
}

// waitStep is what to do next.
type waitStep int

const (
	waitOver   waitStep = iota // the end is on record
	waitEmpty                  // until the processes of the run have ended
	waitRecord                 // a moment: its keeper is about to record the end
	waitSettle                 // record the end
	waitGiveUp                 // nobody can
)

func (s standing) next() waitStep {
	switch {
	case s.recorded:
		return waitOver
	case s.populated:
		return waitEmpty
	case s.kept:
		return waitRecord
	case s.settled:
		return waitGiveUp
	}
	return waitSettle
}

// waiter waits for the end of one run. While it does it holds a pidfd and nothing else: no store, no connection.
type waiter struct {
	app     *App
	l       *scope.Launcher
	daemon  *client.Client // of a run that the daemon keeps for an ordinary user; nil: its records are read here
	run     *events.Run
	store   string // its keeper's
	keeper  scope.ProcessID
	emptied time.Time // when it was found empty
	told    bool      // that the run has no keeper
}

// waitEnd returns the record of a run that has ended.
func (a *App) waitEnd(ctx context.Context, run *events.Run) (*events.Run, error) {
	if run.State.Final() {
		return run, nil
	}
	if c := a.elsewhere(); c != nil {
		return c.Wait(ctx, run.Run)
	}
	w := &waiter{app: a, run: run}
	var err error
	if run.Manager == string(ModeSystem) {
		w.daemon = a.remote(ctx)
	}
	if w.daemon == nil {
		w.l, err = a.actor()
	} else {
		w.l, err = scope.NewLauncher(scope.System)
	}
	if err != nil {
		return nil, err
	}
	defer w.l.Disconnect()
	for settled := false; ; {
		s, err := w.look(ctx)
		if err != nil {
			return nil, err
		}
		s.settled = settled
		switch s.next() {
		case waitOver:
			return w.run, nil
		case waitEmpty:
			if err = w.empty(ctx, s.kept); err == nil {
				err = sleep(ctx, recordPause) // its parent has yet to take note
			}
		case waitRecord:
			err = sleep(ctx, recordPause)
		case waitSettle:
			settled, err = true, w.settle(ctx)
		case waitGiveUp:
			err = withHint(fmt.Errorf("%s has ended, but its end could not be recorded", shortID(run.Run)), "lictor watch --once")
		}
		if err != nil {
			return nil, err
		}
	}
}

// look reads ledger and store. The order matters: a keeper records the end before it releases the ledger and ends.
func (w *waiter) look(ctx context.Context) (s standing, err error) {
	w.keeper = scope.ProcessID{PID: w.run.Keeper.PID, StartTicks: w.run.Keeper.StartTicks}
	led, err := w.l.Ledger(scope.RunID(w.run.Run))
	switch {
	case err == nil:
		defer led.Group.Close()
		if led.HasFacts {
			w.keeper, w.store = led.Keeper, led.Facts.Store
		}
		if s.populated, err = led.Group.Populated(); err != nil && !errors.Is(err, cgroup.ErrGone) {
			return s, err
		}
	case !errors.Is(err, cgroup.ErrGone):
		return s, err
	}
	if s.populated || w.emptied.IsZero() {
		w.emptied = w.app.Now()
	}
	s.kept = w.keeper.Alive() && w.app.Now().Sub(w.emptied) < keeperPatience
	s.recorded, err = w.recorded(ctx)
	return s, err
}

// recorded looks into the store of the keeper, and into the own one: whoever settles uses that if the other is gone.
func (w *waiter) recorded(ctx context.Context) (bool, error) {
	if w.daemon != nil {
		run, err := w.daemon.Store().Run(ctx, w.run.Run)
		if err == nil && run.State.Final() {
			w.run = run
			return true, nil
		}
		if api.Absent(err) {
			err = nil // it comes back, or settle gives up
		}
		return false, err
	}
	own, err := w.app.StorePath()
	if err != nil {
		return false, err
	}
	for _, path := range []string{w.store, own} {
		if path == "" {
			continue
		}
		run, err := readRun(ctx, path, w.run.Run)
		if err != nil && !errors.Is(err, events.ErrNotFound) {
			return false, w.app.explainStore(err)
		}
		if err == nil && run.State.Final() {
			w.run = run
			return true, nil
		}
	}
	return false, nil
}

func readRun(ctx context.Context, path string, id events.RunID) (*events.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	store, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return store.Run(ctx, id)
}

// Between the end of a run's last process and its record a keeper looks at the evidence; one that waits for a hung store or
// kernel log takes longer than anybody should wait.
const (
	recordPause    = 50 * time.Millisecond
	keeperPatience = 30 * time.Second
)

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// empty waits for the end of one process of a run, the oldest one.
func (w *waiter) empty(ctx context.Context, kept bool) error {
	if !kept && !w.told {
		w.told = true
		w.app.talk("the keeper of %s is gone; its limits hold. lictor watch --once decides what becomes of it", shortID(w.run.Run))
	}
	led, err := w.l.Ledger(scope.RunID(w.run.Run))
	if errors.Is(err, cgroup.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	pids, err := led.Group.AllProcs()
	led.Group.Close()
	if err != nil || len(pids) == 0 {
		return ignoreGone(err)
	}
	ticks, err := cgroup.StartTicks(pids[0])
	if err != nil {
		return ignoreGone(err)
	}
	return watcher.WaitGone(ctx, pids[0], ticks)
}

func ignoreGone(err error) error {
	if errors.Is(err, cgroup.ErrGone) || errors.Is(err, cgroup.ErrNoProcess) {
		return nil
	}
	return err
}

// settle records the end of a run whose keeper has died: from its ledger or, if that is gone too, as lost.
func (w *waiter) settle(ctx context.Context) error {
	if w.daemon != nil {
		return sleep(ctx, endPatience) // only the daemon can
	}
	s := w.app.newSettler(w.l)
	defer s.close()
	if err := s.ledger(ctx, scope.RunID(w.run.Run)); err != nil && !errors.Is(err, cgroup.ErrGone) {
		return fmt.Errorf("run %s: %w", w.run.Run, err)
	}
	return s.lost(ctx)
}
