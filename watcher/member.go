package watcher

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// member is a run in a fleet.
type member struct {
	session

	fleet  *Fleet
	ctx    context.Context //nolint:containedctx // of the run: it ends with the run or with the fleet
	cancel context.CancelFunc
	done   func(*events.Run, error)

	// Guarded by Fleet.mu.
	in      input
	busy    bool // somebody takes its turns
	blind   bool // it is polled
	ending  bool // its end has been begun
	watches []WatchID
	wake    wake
}

// awaitLeader waits for the end of the main process. To be unable to wait (no descriptor is left for its pidfd) is not its end:
// that is tried again.
func (m *member) awaitLeader(ctx context.Context) {
	if t, ok := m.Target.(Stranger); ok && m.fleet.Deaths != nil {
		m.awaitStranger(ctx, t)
		return
	}
	for {
		x, err := m.Target.Wait(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, ErrNotParent) {
			m.post(input{end: &leaderEnd{x, err}})
			return
		}
		m.Log.Warn("main process not waited for", logRun, m.Run.Run, logError, err)
		pause(ctx, waitRetry)
	}
}

func (m *member) awaitStranger(ctx context.Context, t Stranger) {
	pid, startTicks := t.Leader()
	for {
		err := m.awaitGone(ctx, pid, startTicks, func(p *cgroup.Process) {
			if x, err := t.Ended(ctx, p); ctx.Err() == nil {
				m.post(input{end: &leaderEnd{x, err}})
			}
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		m.Log.Warn("main process not waited for", logRun, m.Run.Run, logError, err)
		pause(ctx, waitRetry)
	}
}

// goOn has a goroutine work for the run, if it is kept still.
func (m *member) goOn(work func()) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if m.ctx.Err() == nil {
		m.fleet.work.Go(work)
	}
}

// monitor follows the unit. A manager that cannot be listened to is no error: then a stop by somebody else cannot always be
// told from a stranger's kill, and the record says which sources were read.
func (m *member) monitor(ctx context.Context) {
	m.monitorFrom(ctx, monitorRetry)
}

func (m *member) monitorFrom(ctx context.Context, wait time.Duration) {
	again := func() time.Duration { return min(2*wait, monitorRetryMax) }
	failed := func(err error) {
		m.Log.Debug("unit not monitored", logRun, m.Run.Run, logError, err)
		pause(ctx, wait)
	}
	for ; ; wait = again() {
		var err error
		if t, ok := m.Target.(Follower); ok {
			var stop func()
			stop, err = t.Follow(ctx, m.unitChanged, func(err error) {
				m.goOn(func() {
					failed(err)
					m.monitorFrom(ctx, again())
				})
			})
			if err == nil {
				context.AfterFunc(ctx, stop)
				return
			}
		} else {
			err = m.Target.Monitor(ctx, m.unitChanged)
		}
		if ctx.Err() != nil {
			return
		}
		failed(err)
	}
}

func (m *member) post(in input) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.postLocked(in)
}

func (m *member) postLocked(in input) {
	if m.take(in) {
		m.fleet.work.Go(m.turns)
	}
}

// look takes the turn of a look itself, unless somebody is at work for the run: that one looks then.
func (m *member) look() {
	m.fleet.mu.Lock()
	mine := m.take(input{look: true})
	m.fleet.mu.Unlock()
	if mine {
		m.turns()
	}
}

// take leaves an input for the next turn, and reports whether the caller has to see to its being taken. Fleet.mu is held.
func (m *member) take(in input) (mine bool) {
	if m.ctx.Err() != nil {
		return false
	}
	m.in = m.in.and(in)
	mine = !m.busy
	m.busy = true
	return mine
}

// turns takes turns until nothing has happened since the last one.
func (m *member) turns() {
	f := m.fleet
	for {
		f.mu.Lock()
		in := m.in
		m.in = input{}
		if m.busy = !in.empty() && m.ctx.Err() == nil; !m.busy {
			f.mu.Unlock()
			return
		}
		if m.blind {
			m.poll = pollPause(f.blind)
		}
		f.mu.Unlock()
		wake, over := m.tryTurn(in)
		ending := m.isEnding()
		f.mu.Lock()
		m.ending = ending
		f.mu.Unlock()
		if over {
			f.work.Go(m.finish) // which can wait for systemd, and whoever is here may have others to look at
			return
		}
		f.schedule(m, wake)
	}
}

// tryTurn is turn. A panic costs the run a pause, and nobody else anything.
func (m *member) tryTurn(in input) (wake time.Duration, over bool) {
	defer func() {
		if r := recover(); r != nil {
			m.Log.Error("panic", logRun, m.Run.Run, logError, r, "stack", string(debug.Stack()))
			wake, over = m.Clock.Boottime()+panicPause, false
		}
	}()
	return m.turn(m.ctx, in)
}

// panicPause is how long a run is left alone after a panic in its turn.
const panicPause = 10 * time.Second

// finish ends the keeping of a run: what watched it is freed, then its end is put on record.
func (m *member) finish() {
	f := m.fleet
	f.mu.Lock()
	if m.blind {
		f.blind--
	}
	f.wakes.remove(&m.wake)
	for _, id := range m.watches {
		delete(f.watches, id)
	}
	f.mu.Unlock()
	for _, id := range m.watches {
		f.notifier.Remove(id)
	}
	select {
	case f.finishing <- struct{}{}:
		defer func() { <-f.finishing }()
	case <-m.ctx.Done(): // nothing can be recorded any more: the next keeper does it
	}
	run, err := m.conclude(m.ctx, m.evidence(), &m.session)
	m.cancel()
	f.mu.Lock()
	delete(f.members, m.Run.Run)
	f.mu.Unlock()
	m.done(run, err)
}
