package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// caller is the launcher of a run that the daemon keeps. It is the parent of the main process, so it alone learns how that
// ends; it is there, or away for a moment, or dead.
type caller struct {
	process scope.ProcessID
	uid     uint32

	mu   sync.Mutex
	conn *api.Conn // nil while it is away
	exit watcher.Exit
	told chan struct{} // closed when exit is known
}

func newCaller(p scope.ProcessID, uid uint32) *caller {
	return &caller{process: p, uid: uid, told: make(chan struct{})}
}

// exited is told how the main process ended. The first word counts.
func (c *caller) exited(x api.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.told:
	default:
		c.exit = watcher.Exit{Code: x.Code, Signal: unix.Signal(x.Signal)}
		close(c.told)
	}
}

func (c *caller) attach(conn *api.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

func (c *caller) detach(conn *api.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == conn {
		c.conn = nil
	}
}

// ended tells the launcher of the end. If it is away it asks when it is back.
func (c *caller) ended(run *events.Run) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Tell(api.ToLauncher{Ended: run})
	}
}

// callerPatience is how long the exit status of a main process that has ended is waited for, if its parent lives: that one
// may have to find the daemon again first.
const callerPatience = 15 * time.Second

// wait waits for the exit status. ErrNotParent says that nobody can tell it.
func (c *caller) wait(ctx context.Context, leader scope.ProcessID) (watcher.Exit, error) {
	return c.exitOf(ctx, func(ctx context.Context) (watcher.Exit, error) {
		return watcher.WaitExit(ctx, leader.PID, leader.StartTicks)
	})
}

// exitOf asks the kernel for the exit status, and the caller if that does not tell.
func (c *caller) exitOf(ctx context.Context, kernel func(context.Context) (watcher.Exit, error)) (watcher.Exit, error) {
	type end struct {
		exit watcher.Exit
		err  error
	}
	gone := make(chan end, 1)
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		x, err := kernel(waiting)
		gone <- end{x, err}
	}()
	select {
	case <-c.told:
		return c.exit, nil
	case e := <-gone:
		if !errors.Is(e.err, watcher.ErrNotParent) {
			return e.exit, e.err
		}
	}
	patience, cancel := context.WithTimeout(waiting, callerPatience)
	defer cancel()
	mute := make(chan struct{}) // it is dead, or was waited for long enough
	go func() {
		defer close(mute)
		_ = watcher.WaitGone(patience, c.process.PID, c.process.StartTicks)
	}()
	select {
	case <-c.told:
	case <-mute:
		select { // its last word may have come before it ended
		case <-c.told:
		default:
			return watcher.Exit{}, watcher.ErrNotParent
		}
	}
	return c.exit, ctx.Err()
}

// handedOver is a run whose parent is a caller.
type handedOver struct {
	followed
	caller *caller
}

// Wait implements watcher.Target.
func (t handedOver) Wait(ctx context.Context) (watcher.Exit, error) {
	return t.caller.wait(ctx, t.leader)
}

// Ended implements watcher.Stranger.
func (t handedOver) Ended(ctx context.Context, p *cgroup.Process) (watcher.Exit, error) {
	return t.caller.exitOf(ctx, func(ctx context.Context) (watcher.Exit, error) { return watcher.ExitOf(ctx, p) })
}
