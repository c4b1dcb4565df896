package scope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// Monitor tells fn what systemd says about the scope of a run, first as it is and then whenever it changes, until ctx ends
// or the connection does (the error then wraps ErrDisconnected). fn gets only the fields that changed; the others are
// empty. It must not block, and can be called by two goroutines at once.
//
// A young run is listened to on the connection that launched it, which hears everything anyway. An older one gets a
// connection to the bus, with matches for this one unit: on the private socket systemd would wake us for every unit of the
// machine. UnitState asks over the connection that is listened to, so that fn has been told everything that systemd said before its
// answer.
//
// This is how a stop by somebody else is told from a kill by nobody knows whom: a job of the scope ends, or the scope is
// deactivating while its Result is success.
func (l *Launcher) Monitor(ctx context.Context, run RunID, fn func(UnitState)) error {
	unit := run.Scope()
	defer l.listen(unit, fn)()
	if err := wait(ctx, busAfter); err != nil {
		return err
	}
	b, err := dial(ctx, l.manager.busEndpoint())
	if err != nil {
		return err
	}
	defer b.close()
	b.watch(unit, fn)
	if err := b.match(ctx,
		"interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path='"+string(unitPath(unit))+"'",
		"interface='org.freedesktop.systemd1.Manager',member='JobRemoved',arg2='"+unit+"'",
	); err != nil {
		return fmt.Errorf("monitor %q: %w", unit, err)
	}
	if err := b.tellState(ctx, unit, fn); err != nil {
		return err
	}
	l.setMonitor(run, b)
	defer l.setMonitor(run, nil)
	select {
	case <-b.gone():
		if ctx.Err() == nil {
			return fmt.Errorf("monitor %q: %w", unit, ErrDisconnected)
		}
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Follow is Monitor for a process that follows many runs: all of them over the one connection on which the Launcher calls
// systemd, which hears everything that happens to any unit. It returns when fn has been told how the unit is, and costs no goroutine
// from then on: it ends with stop, or with the connection, of which lost is told.
//
// What systemd said before somebody listened may still be on its way, for half a minute where the machine is busy: the end of the job that
// started the scope, in which nothing says that it was no stop, or that the unit is inactive, before it was started. Nothing is believed
// before systemd has answered on the same connection, and after that it is asked how the unit is.
func (l *Launcher) Follow(ctx context.Context, run RunID, fn func(UnitState), lost func(error)) (stop func(), err error) {
	unit := run.Scope()
	b, err := l.acquire(ctx)
	if err != nil {
		return nil, err
	}
	end := sync.OnceFunc(func() {
		b.signals.unwatch(unit)
		l.release(b)
	})
	var answered atomic.Bool
	b.watch(unit, func(st UnitState) {
		if answered.Load() {
			fn(st)
		}
	})
	if _, err = b.activeState(ctx, unit); err == nil || errors.Is(err, ErrNoUnit) {
		answered.Store(true)
		err = b.tellState(ctx, unit, fn)
	}
	if err != nil {
		end()
		return nil, err
	}
	keep := context.AfterFunc(b.raw.Context(), func() {
		end()
		lost(fmt.Errorf("follow %q: %w", unit, ErrDisconnected))
	})
	return func() {
		if keep() {
			end()
		}
	}, nil
}

// busAfter is the age at which a run gets its own connection to the bus; short runs never need one. Launchers keep the
// connection of a launch at least as long.
const busAfter = 1500 * time.Millisecond

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen tells fn what the connection of the launch hears about a unit, for as long as it lasts.
func (l *Launcher) listen(unit string, fn func(UnitState)) (stop func()) {
	l.mu.Lock()
	b := l.bus
	l.mu.Unlock()
	if !b.connected() {
		return func() {}
	}
	b.watch(unit, fn)
	return func() { b.signals.unwatch(unit) }
}

func (b *bus) watch(unit string, fn func(UnitState)) {
	b.signals.watch(unit,
		func(c map[string]dbus.Variant) { fn(changedState(c)) },
		func() { fn(UnitState{StopJob: true}) })
}

// tellState tells fn how a unit is now. One that systemd does not know is over for it.
func (b *bus) tellState(ctx context.Context, unit string, fn func(UnitState)) error {
	st, err := b.unitState(ctx, unit)
	if errors.Is(err, ErrNoUnit) {
		st, err = UnitState{ActiveState: "inactive"}, nil
	}
	if err == nil {
		fn(st)
	}
	return err
}

// match asks the bus daemon for signals of systemd.
func (b *bus) match(ctx context.Context, rules ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, rule := range rules {
		rule = "type='signal',sender='" + systemdName + "'," + rule
		if err := b.raw.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.AddMatch", 0, rule).Err; err != nil {
			return b.failure(err)
		}
	}
	return nil
}

func (l *Launcher) setMonitor(run RunID, b *bus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b == nil {
		delete(l.monitors, run)
		return
	}
	if l.monitors == nil {
		l.monitors = map[RunID]*bus{}
	}
	l.monitors[run] = b
}

// monitor returns the connection that watches a run, or nil.
func (l *Launcher) monitor(run RunID) *bus {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.monitors[run]; b.connected() {
		return b
	}
	return nil
}

func changedState(c map[string]dbus.Variant) UnitState {
	return UnitState{ActiveState: text(c["ActiveState"].Value()), SubState: text(c["SubState"].Value()),
		Result: text(c["Result"].Value())}
}
