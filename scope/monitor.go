package scope

import (
	"context"
	"fmt"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Monitor tells fn what systemd says about the scope of a run, first as it is and then whenever it changes, until ctx ends
// or the connection does (the error then wraps ErrDisconnected). fn gets only the fields that changed; the others are
// empty. It uses the bus and a match for this one unit: on the private socket systemd would wake us for every unit of the
// machine.
//
// This is how a stop by somebody else is told from a kill by nobody knows whom: the scope is deactivating while its Result
// is success.
func (l *Launcher) Monitor(ctx context.Context, run RunID, fn func(UnitState)) error {
	b, err := dial(ctx, l.manager.busEndpoint())
	if err != nil {
		return err
	}
	defer b.close()
	unit := dbus.ObjectPath("/org/freedesktop/systemd1/unit/" + sd.PathBusEscape(run.Scope()))
	// Room for the few changes of one scope's life; one that does not fit is made up for by the next.
	changes := make(chan map[string]dbus.Variant, 16)
	b.signals.watch(unit, changes)
	match := "type='signal',sender='" + systemdName + "',path='" + string(unit) +
		"',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'"
	if err := b.raw.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.AddMatch", 0, match).Err; err != nil {
		return fmt.Errorf("monitor %q: %w", run.Scope(), busError(err))
	}
	if st, err := b.unitState(ctx, run.Scope()); err == nil {
		fn(st)
	}
	for {
		select {
		case c := <-changes:
			fn(changedState(c))
		case <-b.gone():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("monitor %q: %w", run.Scope(), ErrDisconnected)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func changedState(c map[string]dbus.Variant) UnitState {
	return UnitState{ActiveState: text(c["ActiveState"].Value()), SubState: text(c["SubState"].Value()),
		Result: text(c["Result"].Value()), Job: hasJob(c["Job"].Value())}
}
