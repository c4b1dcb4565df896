package scope

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// UnitState is what systemd says about a scope.
type UnitState struct {
	ActiveState string // active, deactivating, inactive, failed
	SubState    string // running, stop-sigterm, stop-sigkill, failed, …
	Result      string // success, timeout, oom-kill, resources
	StopJob     bool   // a job for it is queued or running, or has ended; a live scope gets no other job than stop
}

// UnitState asks systemd about the scope of a run. ErrNoUnit says that systemd does not know it (any more).
func (l *Launcher) UnitState(ctx context.Context, run RunID) (UnitState, error) {
	if b := l.monitor(run); b != nil {
		return b.unitState(ctx, run.Scope())
	}
	b, err := l.connection(ctx)
	if err != nil {
		return UnitState{}, err
	}
	return b.unitState(ctx, run.Scope())
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// StopUnit asks systemd to stop a unit and does not wait. A unit that is not there is no error.
func (l *Launcher) StopUnit(ctx context.Context, unit string) error {
	b, err := l.connection(ctx)
	if err != nil {
		return err
	}
	return b.stop(ctx, unit)
}

// Release makes systemd forget the units of a run.
func (l *Launcher) Release(ctx context.Context, run RunID) error {
	b, err := l.connection(ctx)
	if err != nil {
		return err
	}
	// Both calls at once: one round trip.
	reset := make(chan error, 1)
	go func() { reset <- b.resetFailed(ctx, run.Scope()) }()
	return errors.Join(b.stop(ctx, run.Ledger()), <-reset)
}

// unitState reads what systemd knows of a scope.
func (b *bus) unitState(ctx context.Context, name string) (UnitState, error) {
	unit, err := b.properties(ctx, name, "Unit")
	if err != nil {
		return UnitState{}, fmt.Errorf("unit %q: %w", name, err)
	}
	// The object path of a unit that is not loaded answers with the properties of a unit that never ran.
	if text(unit["LoadState"]) == "not-found" {
		return UnitState{}, fmt.Errorf("unit %q: %w", name, ErrNoUnit)
	}
	scope, err := b.properties(ctx, name, "Scope")
	if err != nil {
		return UnitState{}, fmt.Errorf("unit %q: %w", name, err)
	}
	return UnitState{ActiveState: text(unit["ActiveState"]), SubState: text(unit["SubState"]), Result: text(scope["Result"]),
		StopJob: hasJob(unit["Job"])}, nil
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
func (l *Launcher) Version(ctx context.Context) (string, error) {
	b, err := l.connection(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v dbus.Variant
	err = b.raw.Object(systemdName, managerPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
		systemdName+".Manager", "Version").Store(&v)
	if err != nil {
		return "", fmt.Errorf("version of systemd: %w", busError(err))
	}
	return text(v.Value()), nil
}
