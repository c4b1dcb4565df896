package scope

import (
	"context"
	"errors"
	"path"
	"path/filepath"

	"github.com/scidex/lictor/cgroup"
)

// Ledger is what the kernel still holds of a run: its ledger cgroup and the facts written on it.
type Ledger struct {
	Run    RunID
	Group  *cgroup.Group
	Facts  Facts     // zero if HasFacts is false
	Keeper ProcessID // who watches the run, as far as is written
	// HasFacts is false while a launch has not come so far, and for ever if its launcher died before.
	HasFacts bool
}

// Ledgers lists the runs that the kernel knows of, ended ones that nobody has released among them.
func (l *Launcher) Ledgers() ([]RunID, error) {
	fleet, err := l.fs.Open(l.manager.FleetPath())
	if errors.Is(err, cgroup.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer fleet.Close()
	names, err := fleet.Children()
	if err != nil {
		return nil, err
	}
	var runs []RunID
	for _, n := range names {
		if run, ok := RunOfLedger(n); ok {
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// StartFleet makes sure that the slice of all runs exists, and stays: systemd keeps a slice that was started until it is
// stopped.
func (l *Launcher) StartFleet(ctx context.Context) error {
	return l.use(ctx, func(b *bus) error { return b.startUnit(ctx, FleetSlice) })
}

// FleetDir is the directory of the slice of all runs.
func (l *Launcher) FleetDir() string { return filepath.Join(l.fs.Root(), l.manager.FleetPath()) }

// FleetPath is the path of that slice below the root of the cgroup file system.
func (l *Launcher) FleetPath() string { return l.manager.FleetPath() }

// Ledger opens the ledger of a run. The error wraps cgroup.ErrGone if it has been released. Close its Group after use.
func (l *Launcher) Ledger(run RunID) (*Ledger, error) {
	g, err := l.fs.Open(path.Join(l.manager.FleetPath(), run.Ledger()))
	if err != nil {
		return nil, err
	}
	led := &Ledger{Run: run, Group: g}
	led.Facts, led.Keeper, led.HasFacts, err = ReadFacts(g)
	if err != nil {
		g.Close()
		return nil, err
	}
	return led, nil
}

// Scope opens the cgroup of the analysis inside the ledger. The error wraps cgroup.ErrGone when it has ended.
func (led *Ledger) Scope() (*cgroup.Group, error) { return led.Group.Child(led.Run.Scope()) }
