//go:build integration

package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// longer reports whether tests are to take the counts that need minutes: make test-long.
func longer() bool { return os.Getenv("LICTOR_TEST_LONG") != "" }

// launches are runs to be started, by analysis id: the arguments of `lictor run`.
type launches map[string][]string

// launch starts runs, some at once, and waits until each has been seen: alive, or ended since the last look.
func (b *bed) launch(all launches) (map[string]*process, map[string]scope.RunID) {
	b.Helper()
	started, ids := map[string]*process{}, map[string]scope.RunID{}
	seen := func() bool {
		for id, run := range b.alive() {
			if started[id] != nil && len(b.members(run)) > 0 {
				ids[id] = run
			}
		}
		for _, run := range b.soFar(events.RunQuery{Limit: 200}) {
			if started[run.AnalysisID] != nil && run.State.Final() {
				ids[run.AnalysisID] = scope.RunID(run.Run)
			}
		}
		return len(ids) == len(started)
	}
	for id, args := range all {
		started[id] = b.start(append([]string{"run", "--analysis-id", id}, args...)...)
		if len(started)%8 == 0 {
			b.eventually("the runs are alive", seen)
		}
	}
	b.eventually("all runs are alive", seen)
	return started, ids
}

// leave starts runs and kills their launchers.
func (b *bed) leave(all launches) map[string]scope.RunID {
	b.Helper()
	started, ids := b.launch(all)
	for _, p := range started {
		_ = p.Process.Kill()
	}
	for _, p := range started {
		b.finishCommand(p)
	}
	return ids
}

// alive are the runs on record as alive, by analysis id.
func (b *bed) alive() map[string]scope.RunID {
	ids := map[string]scope.RunID{}
	for _, run := range b.soFar(events.RunQuery{Live: true}) {
		ids[run.AnalysisID] = scope.RunID(run.Run)
	}
	return ids
}

// soFar are the runs on record; none while the store is being made.
func (b *bed) soFar(q events.RunQuery) []*events.Run {
	file := filepath.Join(b.store, "lictor.db")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	s, err := events.OpenSQLiteReadOnly(file)
	if err != nil {
		return nil
	}
	defer s.Close()
	runs, err := s.Runs(context.Background(), q)
	if err != nil {
		return nil
	}
	return runs
}

// gate holds analyses back: each waits in the opening of a pipe until somebody opens it for writing.
type gate struct{ path string }

func (b *bed) gate() gate {
	b.Helper()
	g := gate{filepath.Join(b.dir, "gate")}
	must(syscall.Mkfifo(g.path, 0o600))
	must(os.Chown(g.path, b.uid(), b.gid()))
	return g
}

// then is an analysis that does something when the gate is opened.
func (g gate) then(command string) []string {
	return []string{"sh", "-c", "read x < " + g.path + "; " + command}
}

func (g gate) open() {
	f, err := os.OpenFile(g.path, os.O_WRONLY, 0)
	must(err)
	must(f.Close())
}

// ends are what the ends of runs must be.
type ends map[string]events.Reason

// wantEnds waits for the ends of runs and compares their reasons.
func (b *bed) wantEnds(ids map[string]scope.RunID, want ends) {
	b.Helper()
	for id, reason := range want {
		run := b.ended(ids[id])
		if run.State != events.StateKilled || run.Reason != reason {
			b.Errorf("run %s (%s): %s %q by %q, want killed %q: %s", run.Run, id, run.State, run.Reason, run.By, reason, evidence(run))
		}
	}
}

// has reports whether an analysis has made a file in its directory; touch makes one for it.
func (b *bed) has(file string) bool {
	_, err := os.Stat(filepath.Join(b.dir, file))
	return err == nil
}

func (b *bed) touch(file string) { must(os.WriteFile(filepath.Join(b.dir, file), nil, 0o644)) }

func (b *bed) signal(p *process, sig syscall.Signal) {
	b.Helper()
	if err := p.Process.Signal(sig); err != nil {
		b.Fatal(err)
	}
}
