package watcher

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// Fleet keeps many runs with one inotify instance and one timer. A run about which nothing happens costs memory and
// descriptors, and no processor time at all: a goroutine works for it only while it has a turn to take.
//
// Besides it only the process table starts goroutines, for files that may block.
type Fleet struct {
	log      *slog.Logger
	notifier *Notifier // nil: every run is polled
	timer    *Deadline // nil: the same

	// Changed, if not nil, is called with the notices of the directory that WatchChildren watches, and with an overflow. Set
	// it before Run; it must not block.
	Changed func(Notice)

	// Deaths, if not nil, waits for the ends of processes that are not children of this one, for a fleet of many; else a goroutine
	// waits for each. Set it before Run; it is closed with the fleet.
	Deaths *Deaths

	overflows atomic.Uint64
	work      sync.WaitGroup // turns and waits
	looks     crew[*member]  // LookAtAll
	finishing chan struct{}  // holds a value for each run whose end is being recorded

	mu       sync.Mutex
	members  map[events.RunID]*member
	watches  map[WatchID]*member
	children WatchID
	blind    int // members that are polled
	wakes    wakes
	armed    time.Duration // what timer is set to; 0 is not known
}

// finishers is how many ends are recorded at the same time. Each holds what it has read, and one that nothing explains waits for the journal.
const finishers = 64

// NewFleet returns a fleet without runs. Close it after use.
func NewFleet(log *slog.Logger) *Fleet {
	f := &Fleet{log: log, members: map[events.RunID]*member{}, watches: map[WatchID]*member{}, finishing: make(chan struct{}, finishers)}
	var err error
	if f.notifier, err = NewNotifier(); err != nil {
		log.Info("no notifications; polling", logError, err)
	}
	if f.timer, err = NewDeadline(never); err != nil {
		log.Info("no timer; polling", logError, err)
	}
	return f
}

// Close frees what a fleet has. The runs live on.
func (f *Fleet) Close() {
	if f.notifier != nil {
		_ = f.notifier.Close()
	}
	if f.timer != nil {
		_ = f.timer.Close()
	}
	if f.Deaths != nil {
		_ = f.Deaths.Close()
	}
}

// Overflows says how often the kernel's queue of notices overflowed.
func (f *Fleet) Overflows() uint64 { return f.overflows.Load() }

// Len says how many runs are kept.
func (f *Fleet) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.members)
}

// Ending says how many runs of a user, nil for all, are kept, and of which of them the end has been begun by the fleet or by systemd.
func (f *Fleet) Ending(uid *uint32) (kept int, ending map[events.RunID]bool) {
	ending = map[events.RunID]bool{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, m := range f.members {
		if uid != nil && m.Run.UID != *uid {
			continue
		}
		kept++
		if m.ending {
			ending[id] = true
		}
	}
	return kept, ending
}

// Keeps reports whether a run is kept.
func (f *Fleet) Keeps(run events.RunID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[run] != nil
}

// WatchChildren has Changed told of cgroups that are made and removed in a directory, instead of in an earlier one.
func (f *Fleet) WatchChildren(dir string) error {
	if f.notifier == nil {
		return errors.New("no notifications")
	}
	f.mu.Lock()
	old := f.children
	f.children = 0
	f.mu.Unlock()
	f.notifier.Remove(old)
	id, err := f.notifier.AddChildren(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.children = id
	return err
}

// WatchesChildren reports whether the directory of WatchChildren is watched, and not gone since.
func (f *Fleet) WatchesChildren() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.children != 0
}

// Run takes the turns of the runs until ctx ends, and returns when nobody works any more. It is called once.
func (f *Fleet) Run(ctx context.Context) {
	notices, blind := make(chan []Notice), make(chan struct{})
	var own sync.WaitGroup
	if f.notifier != nil {
		own.Go(func() {
			if err := f.notifier.Run(ctx, notices); err != nil {
				f.log.Error("notifications ended; polling", logError, err)
				close(blind)
			}
		})
	}
	if f.Deaths != nil {
		own.Go(func() {
			if err := f.Deaths.Run(ctx); err != nil {
				f.log.Error("the ends of main processes are told by their cgroups only", logError, err)
			}
		})
	}
	var looks <-chan time.Time
	due := make(chan struct{})
	if f.timer != nil {
		own.Go(func() { f.waitTimer(ctx, due) })
	}
	poll := time.NewTicker(pollEvery)
	if f.timer != nil {
		poll.Stop()
	}
	defer poll.Stop()
	for ctx.Err() == nil {
		select {
		case batch := <-notices:
			f.route(batch)
		case <-due:
			f.expire()
		case <-poll.C:
			f.expire()
		case <-blind:
			looks, blind = time.After(pollEvery), nil
		case <-looks:
			f.LookAtAll()
			looks = time.After(pollPause(f.Len()))
		case <-ctx.Done():
		}
	}
	own.Wait()
	f.work.Wait()
}

func (f *Fleet) waitTimer(ctx context.Context, due chan<- struct{}) {
	for f.timer.Wait(ctx) == nil {
		select {
		case due <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// route gives notices to the runs that they are about.
func (f *Fleet) route(batch []Notice) {
	for _, n := range batch {
		f.mu.Lock()
		m, child := f.watches[n.ID], n.ID != 0 && n.ID == f.children
		if child && n.Kind == NoticeGone {
			f.children = 0
		}
		f.mu.Unlock()
		switch {
		case n.Kind == NoticeOverflow:
			f.log.Info("notices were lost; looking at everything", "overflows", f.overflows.Add(1))
			f.LookAtAll()
			child = true
		case m != nil:
			m.post(n.input())
		}
		if child && f.Changed != nil {
			f.Changed(n)
		}
	}
}

// input is what a notice means to the run that it is about.
func (n Notice) input() input {
	switch {
	case n.Kind == NoticeChanged && n.Name == "memory.events":
		return input{memory: true}
	case n.Kind == NoticeChanged && n.Name == "pids.events":
		return input{tasks: true}
	}
	return input{look: true}
}

// LookAtAll has every run looked at, a few at a time, and does not wait for it.
func (f *Fleet) LookAtAll() {
	f.looks.round(f.work.Go, func() []*member {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Collect(maps.Values(f.members))
	}, (*member).look)
}

// Keep watches one more run and returns at once; done is called with the finished record when its end is on record, or
// could not be recorded. It is not called if ctx ends before.
func (f *Fleet) Keep(ctx context.Context, k *Keeper, done func(*events.Run, error)) {
	ctx, cancel := context.WithCancel(ctx)
	m := &member{session: session{Keeper: k}, fleet: f, ctx: ctx, cancel: cancel, done: done}
	m.wake.member = m
	m.poke = m.post
	m.resume(ctx)
	var err error
	m.watches, err = f.watch(m)
	m.blind = err != nil || f.timer == nil
	f.mu.Lock()
	if m.blind {
		f.blind++
		m.poll = pollPause(f.blind)
	}
	alone := f.blind == 1
	f.members[k.Run.Run] = m
	for _, id := range m.watches {
		f.watches[id] = m
	}
	f.mu.Unlock()
	if err != nil && !errors.Is(err, errNoNotifier) {
		level := slog.LevelInfo
		if !alone { // thousands would say the same
			level = slog.LevelDebug
		}
		m.Log.Log(ctx, level, "no notifications; polling", logRun, m.Run.Run, logError, err)
	}
	f.work.Go(func() { m.awaitLeader(ctx) })
	f.work.Go(func() { m.monitor(ctx) })
	f.work.Go(func() { m.watchOwner(ctx) })
	m.post(input{look: true})
}

// errNoNotifier is said once, when the fleet is made.
var errNoNotifier = errors.New("no inotify instance")

// watch adds the watches of a run. One for which there are not enough is polled.
func (f *Fleet) watch(m *member) (ids []WatchID, err error) {
	if f.notifier == nil {
		return nil, errNoNotifier
	}
	add := func(g *cgroup.Group, files ...string) {
		if err == nil {
			var id WatchID
			if id, err = f.notifier.Add(fdPath(g.FD()), files...); err == nil {
				ids = append(ids, id)
			}
		}
	}
	add(m.Box.Ledger, "memory.events", "cgroup.events")
	if m.Box.Scope == nil {
		return ids, err
	}
	// Before Linux 6.12 the ledger does not count refused forks. The limits change when somebody writes them.
	if add(m.Box.Scope, "pids.events", "memory.max", "pids.max"); errors.Is(err, os.ErrNotExist) { // it is gone
		err = nil
	}
	return ids, err
}

// schedule has a run looked at when the time has come; 0 is never.
func (f *Fleet) schedule(m *member, at time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakes.set(&m.wake, at)
	f.setTimer()
}

// setTimer sets the timer to the soonest wake. That one is seldom another one after a turn, and to set it costs a system call.
func (f *Fleet) setTimer() {
	if next := f.wakes.next(); f.timer != nil && next != f.armed && f.timer.Reset(next) == nil {
		f.armed = next
	}
}

// expire gives a turn to every run whose time has come.
func (f *Fleet) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = 0
	now := cgroup.Boottime()
	for w := f.wakes.due(now); w != nil; w = f.wakes.due(now) {
		w.member.postLocked(input{look: true})
	}
	f.setTimer()
}
