package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/internal/history"
	"github.com/scidex/lictor/cmd/lictor/internal/metrics"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// The daemon keeps every run that nobody else keeps: those whose launcher died, those that were adopted, and those that an
// earlier daemon kept. A run whose keeper lives costs it one pidfd.
//
// It holds nothing that is not also on a ledger or in the store, so it may be killed at any instant: its limits are the
// kernel's and systemd's, and the next one begins where it ended.
type daemon struct {
	app      *App
	launcher *scope.Launcher
	settler  *settler
	fleet    *watcher.Fleet
	kernel   *watcher.KernelLogs // nil if it cannot be read; kernelNo says why
	kernelNo error
	log      *slog.Logger
	sweeps   time.Duration // pause between two sweeps

	followed os.FileInfo // the directory of the slice of all runs that is watched
	blind    string      // why it is not, as was said

	look    chan scope.RunID // runs that somebody should look at
	rescan  chan struct{}    // room for one: look at everything
	workers sync.WaitGroup

	mu      sync.Mutex
	busy    map[scope.RunID]bool    // somebody waits for the end of its keeper, starts or finishes it, or will look again
	callers map[scope.RunID]*caller // launchers that have handed their runs over
	quota   quota
	started quota // of launches that systemd is asked for

	sweeping  atomic.Bool   // the part of a sweep that takes long is under way
	attending chan struct{} // holds a value for each run that somebody works for who is not yet kept, or is not any more
	narrow    chan struct{} // the same for those that are settled while descriptors are short
	short     atomic.Bool   // they are

	history    *history.Sampler // of what the runs hold
	metrics    *metrics.Metrics
	mismatches atomic.Uint64 // runs that a sweep found and no notice had told of

	refused func() uint64 // connections that were closed unheard; nil without a socket
	told    strangers     // of those who were not listened to
}

// attendants is how many runs are taken over or finished at the same time. Each has to be through before its patience with the store
// ends: where a hundred and fifty were begun at once, on a tenth of a processor, none was, and all were begun again.
const attendants = 16

// The daemon's delays.
const (
	minSweep = time.Second
	// launchPause is when to look again at a ledger on which nothing is written yet. The launch is under way, or was never
	// finished.
	launchPause = 2 * time.Second
	// finishRetry is when to try again what failed.
	finishRetry = 5 * time.Second
)

// watch runs the daemon until it is told to end.
func (a *App) watch(ctx context.Context, sweep time.Duration, at listening) error {
	stayLean()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	l, err := a.actor()
	if err != nil {
		return err
	}
	defer l.Disconnect()
	lock, err := a.lockWatch()
	if err != nil {
		return err
	}
	defer lock.Close()
	d := a.newDaemon(l, sweep)
	defer d.close()
	return d.run(ctx, at)
}

// memoryOf reads memory.current of a live run.
func (d *daemon) memoryOf(run events.RunID) (uint64, error) {
	g, err := d.launcher.FS().Open(scope.Manager(d.app.Mode()).FleetPath() + "/" + scope.RunID(run).Ledger())
	if err != nil {
		return 0, err
	}
	defer g.Close()
	return g.MemoryCurrent()
}

// lockWatch makes sure that one daemon at a time works on a state directory.
func (a *App) lockWatch() (*os.File, error) {
	dir, err := a.StateDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "watch.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, withHint(fmt.Errorf("another lictor watch works on %s", dir), "systemctl status lictor")
		}
		return nil, fmt.Errorf("%s: %w", lock.Name(), err)
	}
	return lock, nil
}

func (a *App) newDaemon(l *scope.Launcher, sweep time.Duration) *daemon {
	log := slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: a.logLevel(slog.LevelInfo)}))
	d := &daemon{app: a, launcher: l, settler: a.newSettler(l), log: log, sweeps: sweep,
		look: make(chan scope.RunID, 1024), rescan: make(chan struct{}, 1), busy: map[scope.RunID]bool{}, callers: map[scope.RunID]*caller{},
		quota:     quota{live: maxLivePerUser, perMinute: maxLaunchesPerUser, launched: map[uint32]*bucket{}},
		started:   quota{live: maxLivePerUser, perMinute: maxLaunchesPerUser, launched: map[uint32]*bucket{}},
		attending: make(chan struct{}, attendants), narrow: make(chan struct{}, settlers)}
	d.settler.act = true
	d.settler.wrote = d.wrote
	d.settler.report = func(line string) { d.log.Info("settled", "what", line) }
	d.history = history.NewSampler(d.memoryOf, cgroup.Boottime)
	d.fleet = watcher.NewFleet(d.log)
	d.fleet.Changed = d.changed
	var err error
	if d.fleet.Deaths, err = watcher.NewDeaths(); err != nil {
		d.log.Warn("a goroutine waits for each main process", "error", err)
	}
	d.metrics = d.newMetrics()
	d.kernel, d.kernelNo = watcher.OpenKernelLogs()
	return d
}

func (d *daemon) close() {
	d.fleet.Close()
	d.settler.close()
	if d.kernel != nil {
		_ = d.kernel.Close()
	}
}

// run is the daemon's loop. It never waits for anything but the next thing to do.
func (d *daemon) run(ctx context.Context, at listening) error {
	if _, err := d.settler.recorder(""); err != nil { // a store that cannot be opened is said now, not at the first end
		return err
	}
	supervisor := newSupervisor(d.app)
	d.workers.Go(func() { d.fleet.Run(ctx) })
	d.workers.Go(func() { d.housekeeping(ctx) })
	d.workers.Go(func() { d.history.Run(ctx, d.sweeps) })
	defer d.workers.Wait()
	d.followFleet(ctx)
	d.sweep(ctx, true)
	if err := d.serve(ctx, at); err != nil {
		return err
	}
	d.log.Info("watching", "manager", d.app.Mode(), "runs", d.fleet.Len())
	supervisor.ready()
	defer supervisor.stopping()
	ticker := time.NewTicker(d.sweeps)
	defer ticker.Stop()
	for {
		select {
		case id := <-d.look:
			d.take(ctx, id)
		case <-d.rescan:
			d.sweep(ctx, true)
		case <-ticker.C:
			d.followFleet(ctx)
			d.fleet.LookAtAll()
			d.sweep(ctx, false)
			d.tellStrangers()
		case <-supervisor.due:
			supervisor.alive()
		case <-ctx.Done():
			return nil
		}
	}
}

// changed is told of the ledgers that appear. It is called by the fleet and must not block.
func (d *daemon) changed(n watcher.Notice) {
	id, ok := scope.RunOfLedger(n.Name)
	switch {
	case n.Kind == watcher.NoticeCreated && ok:
		select {
		case d.look <- id:
			return
		default: // more at once than there is room for
		}
	case n.Kind != watcher.NoticeOverflow && n.Kind != watcher.NoticeGone:
		return
	}
	select {
	case d.rescan <- struct{}{}:
	default:
	}
}

// followFleet watches the slice of all runs for new ones. The slice may have been stopped since, or its whole manager, and
// another one made: the watch is then on a directory that is no more, and before Linux 7.1 or so nobody says so.
func (d *daemon) followFleet(ctx context.Context) {
	dir := d.launcher.FleetDir()
	if now, err := os.Stat(dir); err == nil && d.fleet.WatchesChildren() && os.SameFile(now, d.followed) {
		return
	}
	err := d.launcher.StartFleet(ctx)
	if err == nil {
		d.followed, err = awaitDir(ctx, dir)
	}
	if err == nil {
		err = d.fleet.WatchChildren(dir)
	}
	switch {
	case err == nil:
		d.blind = ""
	case ctx.Err() == nil && err.Error() != d.blind: // it is tried at every sweep
		d.blind = err.Error()
		d.log.Warn("no notifications: new runs are found by the sweep only", "error", err)
	}
}

// awaitDir waits a moment for the cgroup of a slice that was just started.
func awaitDir(ctx context.Context, dir string) (fi os.FileInfo, err error) {
	for range 20 {
		if fi, err = os.Stat(dir); err == nil || sleep(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	return fi, err
}

// sweep looks at everything there is. What it finds although a notice should have told is counted.
func (d *daemon) sweep(ctx context.Context, expected bool) {
	began := time.Now()
	runs, err := d.launcher.Ledgers()
	if err != nil {
		d.log.Warn("sweep", "error", err)
		return
	}
	for _, id := range runs {
		if d.take(ctx, id) && !expected && !d.justMade(id) {
			d.mismatches.Add(1)
			d.log.Warn("a run that no notice had told of", "run", id)
		}
	}
	if !d.sweeping.CompareAndSwap(false, true) {
		return // among thousands a sweep can take longer than the pause between two
	}
	d.workers.Go(func() {
		defer d.sweeping.Store(false)
		if err := errors.Join(d.settler.lost(ctx), d.settler.forgetFailed(ctx), d.settler.escapes(ctx)); err != nil && ctx.Err() == nil {
			d.log.Warn("sweep", "error", err)
		}
		d.log.Debug("swept", "runs", len(runs), "took", time.Since(began))
		giveBack()
	})
}

// justMade reports whether the notice of a run may be on its way still.
func (d *daemon) justMade(id scope.RunID) bool {
	fi, err := os.Stat(filepath.Join(d.launcher.FleetDir(), id.Ledger()))
	return err != nil || time.Since(fi.ModTime()) < launchPause
}

// take looks at a run that the daemon does not know, and reports whether it was one.
func (d *daemon) take(ctx context.Context, id scope.RunID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[id] || d.fleet.Keeps(events.RunID(id)) {
		return false
	}
	d.busy[id] = true
	d.workers.Go(func() {
		again, pause := d.attend(ctx, id)
		if again {
			d.lookAgain(ctx, id, pause)
			return
		}
		d.mu.Lock()
		delete(d.busy, id)
		d.mu.Unlock()
	})
	return true
}

// lookAgain has a run that was busy looked at again after a pause.
func (d *daemon) lookAgain(ctx context.Context, id scope.RunID, pause time.Duration) {
	if sleep(ctx, pause) != nil {
		return
	}
	d.mu.Lock()
	delete(d.busy, id)
	d.mu.Unlock()
	select {
	case d.look <- id:
	case <-ctx.Done():
	}
}
