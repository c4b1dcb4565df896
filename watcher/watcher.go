package watcher

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/scidex/lictor/events"
)

// Keeper watches one run until its end is on record. All fields but the last group must be set.
type Keeper struct {
	Run       *events.Run // as it was begun
	Target    Target
	Box       Box
	Recorder  Recorder
	Processes ProcessTable
	Clock     Clock
	Log       *slog.Logger

	Started    time.Duration // CLOCK_BOOTTIME
	RuntimeMax time.Duration // 0 is none
	Grace      time.Duration
	LeaderPID  int
	Comm       string // of the main process
	Owner      *Owner // nil: the run lives on without it

	Kernel    *KernelLog // nil if it cannot be read; KernelErr says why
	KernelErr error
	Advise    func(*events.Run) *events.Advice // may be nil

	kills []KernelKill // what the kernel log has said so far
	told  int          // how many of this run's kills are on record
}

// Delays of a keeper. Each is a compromise that a reader may want to know.
const (
	// startAfter is the age at which the start of a run gets an event of its own. A shorter run has it written with its end;
	// that it began is on record before its first instruction in any case.
	startAfter = 500 * time.Millisecond
	// settle is how long processes that outlive the main process may take to go by themselves: the helpers of Python's
	// multiprocessing do, once they read end of file.
	settle = 250 * time.Millisecond
	// dying is how long the rest of a group that the kernel is killing may take.
	dying = 5 * time.Second
	// confirmAfter is how long the main process must live on after an out-of-memory kill before that counts as an incident
	// that it survived: the kernel counts first and kills later.
	confirmAfter = time.Second
	// monitorRetry is the pause until the unit is monitored again after the bus has ended the connection, the first time; it
	// doubles up to monitorRetryMax.
	monitorRetry    = time.Second
	monitorRetryMax = time.Minute
	// deadlineSlack is how long after RuntimeMaxSec the keeper looks whether systemd has done its part.
	deadlineSlack = 2 * time.Second
)

// Keep watches the run. It returns the finished record, even if it could not be stored; then the error says so and the
// ledger is kept for whoever comes next.
func (k *Keeper) Keep(ctx context.Context) (*events.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &session{Keeper: k,
		left: make(chan leaderEnd, 1), notices: make(chan []Notice), due: make(chan struct{}, 1), unit: make(chan struct{}, 1),
		ownerless: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.left <- waitLeader(ctx, k.Target) })
	wg.Go(func() { s.monitor(ctx) })
	wg.Go(func() { s.recordStart(ctx) })
	wg.Go(func() { s.watchOwner(ctx) })
	closeNotifier := s.notify(ctx, &wg)
	defer closeNotifier()
	closeDeadline := s.deadline(ctx, &wg)
	defer closeDeadline()
	s.loop(ctx)
	return k.conclude(ctx, s.evidence(), s)
}

func waitLeader(ctx context.Context, t Target) leaderEnd {
	x, err := t.Wait(ctx)
	return leaderEnd{x, err}
}

// notify starts the notifier. Without one (no instances or watches left for this user) the keeper polls.
func (s *session) notify(ctx context.Context, wg *sync.WaitGroup) func() {
	n, err := NewNotifier()
	if err == nil {
		_, err = n.Add(fdPath(s.Box.Ledger.FD()), "memory.events", "cgroup.events", "pids.events")
		if err == nil && s.Box.Scope != nil {
			// Before Linux 6.12 the ledger does not count pids.events. The limits change when somebody writes them.
			_, _ = n.Add(fdPath(s.Box.Scope.FD()), "pids.events", "memory.max", "pids.max")
		}
	}
	if err != nil {
		s.Log.Warn("no notifications; polling", logRun, s.Run.Run, logError, err)
		s.poll = time.Second
		if n != nil {
			_ = n.Close()
		}
		return func() {}
	}
	wg.Go(func() { _ = n.Run(ctx, s.notices) })
	return func() { _ = n.Close() }
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// deadline starts the second line behind RuntimeMaxSec.
func (s *session) deadline(ctx context.Context, wg *sync.WaitGroup) func() {
	if s.RuntimeMax <= 0 {
		return func() {}
	}
	d, err := NewDeadline(s.Started + s.RuntimeMax + deadlineSlack)
	if err != nil {
		s.Log.Warn("no deadline of our own; RuntimeMaxSec stands alone", logRun, s.Run.Run, logError, err)
		return func() {}
	}
	wg.Go(func() {
		if d.Wait(ctx) == nil {
			s.due <- struct{}{}
		}
	})
	return func() { _ = d.Close() }
}

// monitor follows the unit. A manager that cannot be listened to is no error: then a stop by somebody else cannot always be
// told from a stranger's kill, and the record says which sources were read.
func (s *session) monitor(ctx context.Context) {
	for wait := monitorRetry; ; wait = min(2*wait, monitorRetryMax) {
		err := s.Target.Monitor(ctx, s.unitChanged)
		if ctx.Err() != nil {
			return
		}
		s.Log.Debug("unit not monitored", logRun, s.Run.Run, logError, err)
		pause(ctx, wait)
	}
}

// recordStart writes that the run was let go.
func (s *session) recordStart(ctx context.Context) {
	t := time.NewTimer(startAfter)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if err := s.Recorder.Append(ctx, startedEvent(s.Run)); err != nil && ctx.Err() == nil {
		s.Log.Warn("event not recorded", logRun, s.Run.Run, logKind, events.KindStarted, logError, err)
	}
}
