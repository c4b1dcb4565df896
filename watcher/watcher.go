package watcher

import (
	"context"
	"log/slog"
	"strconv"
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

	// TakenOver says that another process kept the run before: what that one saw is on the ledger and in the store.
	TakenOver  bool
	LeaderGone bool // the main process had ended by then
	// Exit is how the main process ended, if its parent has told a keeper that only finishes the run.
	Exit *Exit
	// LookEvery is the longest pause between two looks at the living run, for what nothing tells of. 0: somebody else sees to
	// that (Fleet.LookAtAll).
	LookEvery time.Duration
	// Ending is what the run is to be ended for at once; nil: nothing.
	Ending *Intent

	Kernel    KernelKills // nil if it cannot be read; KernelErr says why
	KernelErr error
	Killers   Killers                          // nil: nobody else is asked
	Advise    func(*events.Run) *events.Advice // may be nil

	kills []KernelKill // what the kernel log has said of this run so far
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
	// waitRetry is the pause until a process is waited for again that could not be.
	waitRetry = 2 * time.Second
	// takeUpEvery is how often it is looked for endings that somebody has left unfinished, at most.
	takeUpEvery = 10 * time.Second
	// pollEvery is the least pause between looks where there are no notifications. Of many runs each is looked at less often, so that
	// all of them are looked at pollsPerSecond times together: thousands would take more than the daemon may have.
	pollEvery      = time.Second
	pollsPerSecond = 100
	// deadlineSlack is how long after RuntimeMaxSec the keeper looks whether systemd has done its part.
	deadlineSlack = 2 * time.Second
)

// Keep watches the run: a fleet of one. It returns the finished record, even if it could not be stored; then the error says
// so and the ledger is kept for whoever comes next. When ctx ends first, the run lives on and the error is ctx's.
func (k *Keeper) Keep(ctx context.Context) (*events.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := NewFleet(k.Log)
	defer f.Close()
	type end struct {
		run *events.Run
		err error
	}
	ended := make(chan end, 1)
	f.Keep(ctx, k, func(run *events.Run, err error) {
		ended <- end{run, err}
		cancel()
	})
	f.Run(ctx)
	select {
	case e := <-ended:
		return e.run, e.err
	default:
		return k.Run, context.Cause(ctx)
	}
}

// pollPause is the pause between two looks at one of so many runs that are polled.
func pollPause(polled int) time.Duration {
	return max(pollEvery, time.Duration(polled)*time.Second/pollsPerSecond)
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
