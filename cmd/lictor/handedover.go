package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// The launcher's half of a run that the daemon keeps: see api.Conn. This process is the parent of the main process and
// nothing more. If the daemon goes away the limits hold, and it is waited for.

// The launcher's delays.
const (
	// reconnectPause is between two attempts to find the daemon again.
	reconnectPause = 500 * time.Millisecond
	// reconnectTime bounds one attempt.
	reconnectTime = 10 * time.Second
	// endPoll is how often it is looked whether the last process has ended, once the main one has.
	endPoll = time.Second
)

// endPatience is how long, after the last process of the run has ended, its record is waited for.
const endPatience = 45 * time.Second

// errNoDaemon says that nobody listens, before anything was done.
var errNoDaemon = errors.New("no daemon listens")

// handingOver is a run in the daemon's hands.
type handingOver struct {
	app    *App
	client *client.Client
	conn   *api.Conn // nil while the daemon is away
	scope  *scope.Scope
	run    *events.Run

	exit   *api.Exit
	passed []api.Pass
}

// handOverRun starts a run in the daemon's hands and returns when its end is on record, or when the daemon is away for too
// long; then the record is what this process can prove, and the error says so. errNoDaemon: nothing was done.
func (a *App) handOverRun(ctx context.Context, c *client.Client, o *runOptions, args []string) (*events.Run, error) {
	conn, err := api.Connect(ctx, c)
	if api.Absent(err) {
		return nil, errNoDaemon
	}
	if err != nil {
		return nil, fmt.Errorf("the daemon: %w", err)
	}
	spec, run, err := a.spec(&o.launchOptions, args)
	if err != nil {
		conn.Close()
		return nil, err
	}
	h := &handingOver{app: a, client: c, conn: conn, run: run}
	defer h.close()
	signals := catchSignals()
	signals.stops = a.handed != nil
	defer signals.release()
	if err := h.start(ctx, spec, o.properties); err != nil {
		return nil, err
	}
	a.handed.answer(nil)
	calm := time.AfterFunc(calmAfter, shrink)
	defer calm.Stop()
	return h.keep(ctx, signals)
}

func (h *handingOver) close() {
	if h.conn != nil {
		h.conn.Close()
	}
}

// start forks the analysis, has the daemon put it into its scope, and lets it go.
func (h *handingOver) start(ctx context.Context, spec scope.Spec, properties []string) error {
	w, err := scope.Fork(ctx, spec)
	if err != nil {
		return explainLaunch(ModeSystem, err)
	}
	err = h.offer(ctx, w, properties)
	if err == nil {
		err = h.conn.Say(api.FromLauncher{Opening: true})
	}
	if err != nil {
		w.Discard(ctx)
		return err
	}
	if h.scope, err = w.Open(ctx); err != nil {
		failed := &api.Failure{Error: err.Error()}
		if exec, ok := errors.AsType[*scope.ExecError](err); ok {
			failed.Code = exec.Code()
		}
		_ = h.conn.Say(api.FromLauncher{Failed: failed})
		return explainLaunch(ModeSystem, err)
	}
	h.say(api.FromLauncher{Opened: true}) // if it is gone by now the run goes on, and is found by the next one
	return nil
}

// offerTime bounds the daemon's part of a launch. Its own bound is shorter.
const offerTime = 90 * time.Second

// offer has the waiting process put into its scope.
func (h *handingOver) offer(ctx context.Context, w *scope.Waiting, properties []string) error {
	ctx, cancel := context.WithTimeout(ctx, offerTime)
	defer cancel()
	err := h.conn.Begin(ctx, api.FromLauncher{Offer: &api.Offer{Run: h.run, Properties: properties,
		OnOwnerExit: string(w.Spec.OnOwnerExit), Owner: api.Process(w.Spec.Owner), Child: api.Process(w.Leader), Nonce: w.Spec.Nonce}})
	var m api.ToLauncher
	if err == nil {
		h.conn.SetReadDeadline(time.Now().Add(offerTime))
		m, err = h.conn.Hear()
		h.conn.SetReadDeadline(time.Time{})
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
		fallthrough
	case err != nil:
		if p, ok := errors.AsType[*client.Problem](err); ok {
			return explainProblem(p)
		}
		return withHint(fmt.Errorf("the daemon did not put the run into its scope: %w", err), "systemctl status lictor, or lictor --user run for your own manager")
	case m.Refused != nil:
		return explainProblem(m.Refused)
	case m.Confined == nil:
		return errors.New("the daemon answered something else than was asked; is it of another version?")
	}
	fs, err := cgroup.Detect()
	if err == nil {
		err = w.Confined(fs, scope.System)
	}
	h.run.Degraded = m.Confined.Degraded
	return err
}

// heard is what the daemon said, or that it is gone.
type heard struct {
	conn *api.Conn
	m    api.ToLauncher
	err  error
}

// keep passes signals, exit status and verdict on until the end is on record. Everything happens in its one loop.
func (h *handingOver) keep(ctx context.Context, signals *signals) (*events.Run, error) {
	exited := make(chan scope.Exit, 1) // one value
	go func() {
		if x, err := h.scope.Wait(ctx); err == nil {
			exited <- x
		}
	}()
	said, found := make(chan heard), make(chan back)
	done := make(chan struct{})
	defer close(done)
	h.hear(said, done)
	var retry, poll <-chan time.Time
	var ended time.Time // when the last process was found to have ended
	for {
		select {
		case x := <-exited:
			h.exit = &api.Exit{Code: x.Code, Signal: int(x.Signal)}
			h.say(api.FromLauncher{Exit: h.exit})
			poll = time.After(endPoll)
		case sig := <-signals.ch:
			h.pass(sig.(syscall.Signal), signals.stops)
		case s := <-said:
			switch {
			case s.m.Ended != nil:
				return s.m.Ended, nil
			case s.err != nil && s.conn == h.conn:
				h.conn.Close()
				h.conn = nil
				retry = time.After(reconnectPause)
			}
		case <-retry:
			retry = nil
			go h.reconnect(ctx, api.Resume{Run: h.run.Run, Passed: h.passed, Exit: h.exit}, found, done)
		case b := <-found:
			if h.conn = b.conn; b.conn == nil {
				retry = time.After(reconnectPause)
				continue
			}
			h.passed = h.passed[b.passed:]
			h.hear(said, done)
			if h.exit != nil { // it may have come after the word of our return
				h.say(api.FromLauncher{Exit: h.exit})
			}
		case <-poll:
			poll = time.After(endPoll)
			if ended.IsZero() && !h.populated() {
				ended = time.Now()
			}
			if !ended.IsZero() && time.Since(ended) > h.app.patience {
				return h.provisional(ctx)
			}
		case <-ctx.Done():
			return h.run, ctx.Err()
		}
	}
}

// hear reads what the daemon says on the present connection.
func (h *handingOver) hear(said chan<- heard, done <-chan struct{}) {
	conn := h.conn
	go func() {
		for {
			m, err := conn.Hear()
			if err == nil && m.Refused != nil {
				err = m.Refused
			}
			select {
			case said <- heard{conn, m, err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// say tells the daemon, if it is there. What it misses is said again when it is back.
func (h *handingOver) say(m api.FromLauncher) {
	if h.conn != nil {
		_ = h.conn.Say(m)
	}
}

// back is a daemon that was found again, or not, and how many of the signals passed on meanwhile it was told of.
type back struct {
	conn   *api.Conn // nil: it was not
	passed int
}

// reconnect looks for the daemon once.
func (h *handingOver) reconnect(ctx context.Context, r api.Resume, found chan<- back, done <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, reconnectTime)
	defer cancel()
	conn, err := api.Connect(ctx, h.client)
	if err == nil {
		if err = conn.Begin(ctx, api.FromLauncher{Resume: &r}); err != nil {
			conn.Close()
			conn = nil
		}
	}
	if err != nil {
		conn = nil
	}
	select {
	case found <- back{conn, len(r.Passed)}:
	case <-done:
	}
}

// pass has the daemon give a signal to the main process, announced as ours. While it is away that is done here, and told later.
func (h *handingOver) pass(sig syscall.Signal, stops bool) {
	p := api.Pass{Signal: int(sig), FromTerminal: fromTerminal(sig)}
	switch {
	case h.conn != nil && stops && sig == syscall.SIGTERM:
		h.say(api.FromLauncher{Stop: true})
	case h.conn != nil:
		h.say(api.FromLauncher{Pass: &p})
	default:
		if !p.FromTerminal {
			_ = h.scope.Signal(sig)
		}
		h.passed = append(h.passed, p)
	}
}

// ledger opens what the kernel holds of the run. Everybody may read it.
func (h *handingOver) ledger() (*scope.Launcher, *scope.Ledger, error) {
	l, err := scope.NewLauncher(scope.System)
	if err != nil {
		return nil, nil, err
	}
	led, err := l.Ledger(scope.RunID(h.run.Run))
	return l, led, err
}

// populated reports whether a process of the run lives.
func (h *handingOver) populated() bool {
	_, led, err := h.ledger()
	if err != nil {
		return false
	}
	defer led.Group.Close()
	populated, err := led.Group.Populated()
	return err == nil && populated
}

// errUnrecorded says that the daemon has not recorded the end of a run.
var errUnrecorded = errors.New("the daemon is away: it records this end when it is back; until then this is what the kernel says")

// provisional is the record of an ended run as far as this process can prove it.
func (h *handingOver) provisional(ctx context.Context) (*events.Run, error) {
	run := *h.run
	run.State = events.StateLost
	var exit *watcher.Exit
	if h.exit != nil {
		exit = &watcher.Exit{Code: h.exit.Code, Signal: syscall.Signal(h.exit.Signal)}
	}
	run.Exit = exit.Record()
	l, led, err := h.ledger()
	if err != nil || !led.HasFacts {
		return &run, errUnrecorded
	}
	defer led.Group.Close()
	defer l.Disconnect()
	k := &keeping{app: h.app, launcher: l, run: h.run, log: h.app.logger(), kernelNo: errors.New("not consulted")}
	h.run.StartedAt = led.Facts.StartedAt
	h.run.LeaderPID = &led.Facts.Leader.PID
	w := k.keeper(nowhere{}, led.Run, watcher.Box{Ledger: led.Group, Ancestors: led.Facts.Ancestors})
	w.Target = untouched{w.Target}
	w.Started, w.Grace = led.Facts.Started, led.Facts.Grace
	if d := led.Facts.Deadline; d != nil {
		w.RuntimeMax = *d - led.Facts.Started
	}
	w.Exit = exit
	finished, err := w.Finish(ctx)
	if err != nil {
		return &run, errUnrecorded
	}
	return finished, errUnrecorded
}

// nowhere is the recorder of one who may not write.
type nowhere struct{}

func (nowhere) Append(context.Context, ...events.Event) error                     { return nil }
func (nowhere) End(context.Context, *events.Run, ...events.Event) error           { return nil }
func (nowhere) Events(context.Context, events.EventQuery) ([]events.Event, error) { return nil, nil }

// untouched is a target that is only looked at.
type untouched struct{ watcher.Target }

func (untouched) Release(context.Context, bool) error { return nil }
