package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// escapes finds processes that carry the marker of a run of this manager and live outside its ledger. Reading the processes of
// others needs privileges: an ordinary user finds the own ones.
func (s *settler) escapes(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if s.sweep == nil {
		s.sweep = &watcher.Sweep{Table: watcher.NewProcessTable(), PathOf: s.launcher.FS().PathOf,
			AtHome: func(run events.RunID, cgroup string) bool { return s.atHome(scope.RunID(run), cgroup) }}
	}
	before := s.sweep.Skipped()
	list, err := s.sweep.Marked(ctx)
	if n := s.sweep.Skipped() - before; n > 0 {
		s.app.logger().Warn("processes skipped: their files were not read in time", "count", n)
	}
	errs := []error{err}
	for run, marked := range s.strays(list) {
		errs = append(errs, ignoreGone(s.escaped(ctx, run, marked)))
	}
	return errors.Join(errs...)
}

// strays are the marked processes that are not where their run is, by run. Those that were looked into before are left out.
func (s *settler) strays(list []watcher.Marked) map[scope.RunID][]watcher.Marked {
	out := map[scope.RunID][]watcher.Marked{}
	for _, m := range list {
		run := scope.RunID(m.Run)
		if run.Valid() && (s.only == "" || run == s.only) && !s.atHome(run, m.Cgroup) && !s.judged[m.Identity()] {
			out[run] = append(out[run], m)
		}
	}
	return out
}

// atHome reports whether a cgroup is inside the ledger of a run.
func (s *settler) atHome(run scope.RunID, cgroup string) bool {
	return run.Valid() && strings.HasPrefix(cgroup, s.ledgerPath(run)+"/")
}

func (s *settler) ledgerPath(run scope.RunID) string {
	return path.Join(s.launcher.Manager().FleetPath(), run.Ledger())
}

// escaped looks into the strays of one run, if it is one of ours and alive.
func (s *settler) escaped(ctx context.Context, run scope.RunID, marked []watcher.Marked) error {
	led, err := s.launcher.Ledger(run)
	if err != nil || !led.HasFacts {
		return err
	}
	defer led.Group.Close()
	home := watcher.Home{Run: events.RunID(run), Ledger: led.Group.Path(), UID: led.Facts.UID, Leader: led.Facts.Leader.PID,
		StartTicks: led.Facts.Leader.StartTicks, Nonce: led.Facts.Nonce}
	var list []watcher.Escape
	for _, m := range marked {
		x, ok := home.Judge(m)
		if !ok {
			continue
		}
		list = append(list, x)
		s.remember(x)
	}
	if len(list) == 0 {
		return nil
	}
	k, rec, err := s.begun(ctx, led)
	if err != nil || k.run.State.Final() {
		return err
	}
	e := &watcher.Enforcer{Run: k.run, Ledger: led.Group, Recorder: rec, Processes: watcher.NewProcessTable(),
		Clock: watcher.SystemClock, Log: k.log}
	for _, x := range e.Escaped(ctx, home.Leader, list) {
		s.did("%s", describeStray(x))
	}
	return nil
}

func describeStray(x watcher.Escape) string {
	text := fmt.Sprintf("process %d has the marker of %s and is outside its scope, in %s", x.PID, x.Run, x.Cgroup)
	if x.MayKill {
		return text + "; killed"
	}
	return text
}

// maxJudged caps what is remembered of strays; the store knows which ones are on record.
const maxJudged = 4096

// remember spares a stray the next sweeps. One that is to be killed is looked at until it is gone.
func (s *settler) remember(x watcher.Escape) {
	if len(s.judged) >= maxJudged {
		clear(s.judged)
	}
	if !x.MayKill {
		s.judged[x.Identity()] = true
	}
}

// sweepEscapes looks for escaped processes of the own run now and then, until the returned function is called.
func (k *keeping) sweepEscapes(ctx context.Context, run scope.RunID) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s := k.app.newSettler(k.launcher)
		s.only = run
		defer s.close()
		for sleep(ctx, lookEvery) == nil {
			if err := s.escapes(ctx); err != nil && ctx.Err() == nil {
				k.log.Debug("no look for escaped processes", "error", err)
			}
		}
	}()
	return func() { cancel(); <-ended }
}
