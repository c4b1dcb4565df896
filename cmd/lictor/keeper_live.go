package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// scopes is the liveSource that reads the kernel's cgroup tree. It needs no systemd and no privileges.
type scopes struct{}

func (scopes) Live(_ context.Context, mode Mode) ([]Live, error) {
	l, err := scope.NewLauncher(scope.Manager(mode))
	if errors.Is(err, cgroup.ErrNotUnified) {
		return nil, nil // nothing of ours can be alive here
	}
	if err != nil {
		return nil, err
	}
	runs, err := l.Ledgers()
	if err != nil {
		return nil, err
	}
	var list []Live
	for _, id := range runs {
		live, err := liveRun(l, id, string(mode))
		if errors.Is(err, cgroup.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if mine(live) {
			list = append(list, live)
		}
	}
	return list, nil
}

// mine reports whether the caller may see a run: users see their own, root sees all. The kernel hides nothing here.
func mine(live Live) bool {
	uid := os.Getuid()
	return uid == 0 || live.Record != nil && int(live.Record.UID) == uid
}

func liveRun(l *scope.Launcher, id scope.RunID, manager string) (Live, error) {
	led, err := l.Ledger(id)
	if err != nil {
		return Live{}, err
	}
	defer led.Group.Close()
	live := Live{Run: events.RunID(id), State: events.StateStarting}
	if led.HasFacts {
		intents, _ := watcher.ReadIntents(led.Group)
		live.State, live.Record = liveState(led, intents), runOfFacts(led, manager)
		live.Survivors = stillThere(led.Group, watcher.Survivors(intents))
		live.Limits = func(l events.Limits) events.Limits { return limitsOf(led.Facts, l) }
	}
	if d, err := led.Group.CPUUsage(); err == nil {
		s := d.Seconds()
		live.CPUSeconds = &s
	}
	if v, err := led.Group.MemoryPeak(); err == nil {
		if n, ok := v.Uint64(); ok {
			live.MemoryPeak = &n
		}
	}
	g, err := led.Scope()
	if err != nil {
		return live, nil // it is ending; the ledger alone speaks
	}
	defer g.Close()
	live.Cgroup = g.Path()
	live.read(g)
	return live, nil
}

// liveState: systemd or a keeper has told the processes to go, or not.
func liveState(led *scope.Ledger, intents []watcher.Intent) events.State {
	if d := led.Facts.Deadline; d != nil && cgroup.Boottime() > *d {
		return events.StateGrace
	}
	if slices.ContainsFunc(intents, func(i watcher.Intent) bool { return i.Action == watcher.ActStop }) {
		return events.StateGrace
	}
	return events.StateRunning
}

// stillThere are those of a list who are still members.
func stillThere(g *cgroup.Group, list []events.Process) []events.Process {
	if len(list) == 0 {
		return nil
	}
	pids, err := g.AllProcs()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(p events.Process) bool { return !slices.Contains(pids, p.PID) })
}

func (live *Live) read(g *cgroup.Group) {
	if n, err := g.MemoryCurrent(); err == nil {
		live.MemoryCurrent = &n
	}
	if st, err := g.MemoryStat(); err == nil {
		live.InactiveFile = &st.InactiveFile
	}
	if n, err := g.PidsCurrent(); err == nil {
		live.Tasks = &n
	}
	if pids, err := g.AllProcs(); err == nil {
		live.PIDs = pids
	}
}

// systemdVersion asks the manager of a mode. It does not need cgroups, since doctor asks on machines that have none.
func systemdVersion(ctx context.Context, mode Mode) (string, error) {
	l := scope.NewLauncherAt(scope.Manager(mode), cgroup.FS{})
	defer l.Disconnect()
	return l.Version(ctx)
}
