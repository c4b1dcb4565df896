package scope

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/cgroup"
)

// UnitState is what systemd says about a scope.
type UnitState struct {
	ActiveState string // active, deactivating, inactive, failed
	SubState    string // running, stop-sigterm, stop-sigkill, failed, …
	Result      string // success, timeout, oom-kill, resources
	StopJob     bool   // a job for it is queued or running, or has ended; a live scope gets no other job than stop
}

// UnitState asks systemd about the scope of a run. ErrNoUnit says that systemd does not know it (any more).
func (l *Launcher) UnitState(ctx context.Context, run RunID) (st UnitState, err error) {
	if b := l.monitor(run); b != nil {
		if st, err = b.unitState(ctx, run.Scope()); !errors.Is(err, ErrDisconnected) {
			return st, err
		}
	}
	err = l.use(ctx, func(b *bus) error {
		st, err = b.unitState(ctx, run.Scope())
		return err
	})
	return st, err
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// StopUnit asks systemd to stop a unit and does not wait. A unit that is not there is no error.
func (l *Launcher) StopUnit(ctx context.Context, unit string) error {
	return l.use(ctx, func(b *bus) error { return b.stop(ctx, unit) })
}

// releaseTimeout bounds a release that has begun, and before that the making of a connection: a daemon that is told to stop waits for it.
const releaseTimeout = 15 * time.Second

// Release makes systemd forget the units of a run. A scope that may have failed (a limit was hit) is waited for: it becomes
// failed only when systemd has noticed that it is empty, and stays until it is reset after that. So a release that has begun is
// carried through, within releaseTimeout, although ctx is cancelled: its ledger gone, nobody would come back to it soon.
func (l *Launcher) Release(ctx context.Context, run RunID, mayHaveFailed bool) error {
	release := func() error {
		connecting, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		return l.use(connecting, func(b *bus) error {
			return b.inTurn(ctx, b.releases, func() error { return b.release(ctx, run, mayHaveFailed) })
		})
	}
	err := release()
	if errors.Is(err, ErrDisconnected) { // systemd re-executed itself; stopping twice does no harm
		err = release()
	}
	return err
}

func (b *bus) release(ctx context.Context, run RunID, mayHaveFailed bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if !mayHaveFailed {
		return b.stop(ctx, run.Ledger())
	}
	if err := b.stopped(ctx, run.Ledger()); err != nil { // the stop of a slice stops what is in it first
		return err
	}
	return b.resetFailed(ctx, run.Scope())
}

// ForgetFailed makes systemd forget failed scopes of runs that have been released: whoever released one died before it came
// to that. It returns the runs.
func (l *Launcher) ForgetFailed(ctx context.Context) (runs []RunID, err error) {
	err = l.use(ctx, func(b *bus) error {
		names, err := b.failedScopes(ctx)
		for _, name := range names {
			run, ok := runOf(name, ".scope")
			if !ok || l.hasLedger(run) {
				continue
			}
			if err := b.resetFailed(ctx, name); err != nil {
				return err
			}
			runs = append(runs, run)
		}
		return err
	})
	return runs, err
}

func (l *Launcher) hasLedger(run RunID) bool {
	g, err := l.fs.Open(path.Join(l.manager.FleetPath(), run.Ledger()))
	if err == nil {
		g.Close()
	}
	return !errors.Is(err, cgroup.ErrGone)
}

// failedScopes lists the scopes with names like ours that have failed.
func (b *bus) failedScopes(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	units, err := b.conn.ListUnitsByPatternsContext(ctx, []string{"failed"}, []string{"lictor-*.scope"})
	for _, u := range units {
		names = append(names, u.Name)
	}
	return names, b.failure(err)
}

// unitState reads what systemd knows of a scope. LoadState comes last: the object path of a unit that is not loaded (any
// more) answers with the properties of a unit that never ran.
func (b *bus) unitState(ctx context.Context, name string) (UnitState, error) {
	v, err := b.get(ctx, name, "Scope.Result", "Unit.ActiveState", "Unit.SubState", "Unit.Job", "Unit.LoadState")
	if err != nil {
		return UnitState{}, fmt.Errorf("unit %q: %w", name, err)
	}
	if text(v[4]) == "not-found" {
		return UnitState{}, fmt.Errorf("unit %q: %w", name, ErrNoUnit)
	}
	return UnitState{Result: text(v[0]), ActiveState: text(v[1]), SubState: text(v[2]), StopJob: hasJob(v[3])}, nil
}

// hasJob reads the Job property of a unit: (id, path), with id 0 for none.
func hasJob(v any) bool {
	job, ok := v.([]any)
	if !ok || len(job) == 0 {
		return false
	}
	id, _ := job[0].(uint32)
	return id != 0
}

// Version asks the manager which systemd it is, such as "257.8-1~deb13u2".
func (l *Launcher) Version(ctx context.Context) (version string, err error) {
	err = l.use(ctx, func(b *bus) error {
		version, err = b.version(ctx)
		return err
	})
	return version, err
}

func (b *bus) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v dbus.Variant
	err := b.raw.Object(systemdName, managerPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
		systemdName+".Manager", "Version").Store(&v)
	if err != nil {
		return "", fmt.Errorf("version of systemd: %w", b.failure(err))
	}
	return text(v.Value()), nil
}
