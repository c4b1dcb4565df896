package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/cmd/lictor/internal/dashboard"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// noSocket is the path of a socket that is not wanted.
const noSocket = "none"

// backend is the daemon as its callers reach it.
type backend struct {
	*daemon
	ctx context.Context //nolint:containedctx // of the daemon: conversations end with it
}

// serve answers on the socket, and on TCP where that is wanted, until the daemon ends. Nobody listens for a user's own daemon: its
// launchers keep their runs themselves.
func (d *daemon) serve(ctx context.Context, at listening) error {
	if d.app.Mode() != ModeSystem {
		return nil
	}
	unix, tcp, err := at.listen()
	if err != nil {
		return err
	}
	b := &backend{d, ctx}
	server := api.NewServer(b, dashboard.New(pages{b}, d.log), d.log)
	d.refused = server.Refused
	context.AfterFunc(ctx, server.Close)
	answer := func(address net.Addr, serve func() error) {
		d.log.Info("listening", "at", address.String())
		d.workers.Go(func() {
			if err := serve(); err != nil {
				d.log.Error("nobody can be answered any more", "at", address.String(), "error", err)
			}
		})
	}
	d.serveTCP(server, tcp, answer)
	if unix != nil {
		answer(unix.Addr(), func() error { return server.Serve(unix) })
	}
	return nil
}

// serveTCP answers there, too. A dashboard that cannot be had is no reason to keep no runs: what is wrong is said, and the daemon does
// without.
func (d *daemon) serveTCP(server *api.Server, listeners []net.Listener, answer func(net.Addr, func() error)) {
	if len(listeners) == 0 {
		return
	}
	tokens, err := d.app.openTokens()
	for _, l := range listeners {
		if err != nil {
			d.log.Error("no dashboard", "at", l.Addr().String(), "error", err)
			_ = l.Close()
			continue
		}
		answer(l.Addr(), func() error { return server.ServeTCP(l, tokens) })
	}
}

func (a *App) openTokens() (*api.Tokens, error) {
	dir, err := a.StateDir()
	if err != nil {
		return nil, err
	}
	return api.OpenTokens(filepath.Join(dir, "tokens.json"))
}

// listening is where the daemon answers: besides what systemd passes.
type listening struct {
	socket string // path, or noSocket
	tcp    string // address of the loopback interface, or none
}

// listen takes the sockets that systemd has passed (sd_listen_fds(3)), else makes them.
func (at listening) listen() (unix *net.UnixListener, tcp []net.Listener, err error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	for _, l := range passed {
		switch l := l.(type) {
		case *net.UnixListener:
			l.SetUnlinkOnClose(false) // it is systemd's
			unix = l
		case *net.TCPListener:
			tcp = append(tcp, l)
		}
	}
	if unix == nil && at.socket != noSocket {
		if unix, err = listen(at.socket); err != nil {
			return nil, nil, err
		}
	}
	if at.tcp != "" {
		l, err := net.Listen("tcp", at.tcp)
		if err != nil {
			return nil, nil, withHint(fmt.Errorf("listen: %w", err), "lictor watch --listen 127.0.0.1:7717")
		}
		if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			l.Close()
			return nil, nil, withHint(fmt.Errorf("listen %s: not an address of the loopback interface", at.tcp),
				"127.0.0.1 or ::1; a tunnel (ssh -L) or a proxy with TLS makes it reachable from elsewhere")
		}
		tcp = append(tcp, l)
	}
	return unix, tcp, nil
}

// listen makes a socket. That of a dead daemon gives way, that of one that lives (for another state directory) does not.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, withHint(fmt.Errorf("socket: somebody listens on %s already", path), "lictor watch --socket none, or another path")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // who may do what is decided by uid
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// Store implements api.Backend.
func (b *backend) Store(context.Context) (events.Reader, error) {
	rec, err := b.settler.recorder("")
	if err != nil {
		return nil, err
	}
	return rec.store, nil
}

// Ready implements api.Backend.
func (b *backend) Ready(ctx context.Context) error {
	if !b.room() {
		return errors.New("no descriptors are left for one more run")
	}
	store, err := b.Store(ctx)
	if err != nil {
		return err
	}
	_, err = store.Count(ctx, events.RunQuery{Live: true})
	return err
}

// Stamp implements api.Backend.
func (b *backend) Stamp(ctx context.Context) string {
	rec, err := b.settler.recorder("")
	if err != nil {
		return ""
	}
	if s, ok := rec.store.(*events.SQLite); ok {
		return s.Stamp(ctx)
	}
	return ""
}

// Kept implements api.Backend.
func (b *backend) Kept(uid *uint32) (kept, ending int) { return b.kept(uid) }

// reach is a live run that a caller acts on.
func (b *backend) reach(ctx context.Context, peer api.Peer, run *events.Run, do func(context.Context, *reach) error) error {
	err := b.app.reachRun(ctx, b.settler, run, peer.UID, do)
	return problem(err)
}

// problem is an error of a command as callers are told it.
func problem(err error) error {
	if err == nil {
		return nil
	}
	status := http.StatusInternalServerError
	var spec *scope.SpecError
	var limit *limitError
	var adopt *scope.AdoptError
	var offer *scope.OfferError
	var ended *endedError
	switch {
	case errors.As(err, new(*client.Problem)), errors.Is(err, events.ErrNotFound):
		return err
	case errors.As(err, &ended):
		status = http.StatusConflict
	case errors.As(err, &offer), errors.As(err, &adopt):
		status = http.StatusForbidden
	case errors.As(err, &spec), errors.As(err, &limit), codeOf(err) == exitUsage, hintOf(err) != "":
		status = http.StatusBadRequest
	}
	p := client.NewProblem(status, err.Error(), hintOf(err))
	p.ExitCode = codeOf(err)
	return p
}

// Stop implements api.Backend.
func (b *backend) Stop(ctx context.Context, peer api.Peer, run *events.Run, grace *float64) error {
	return b.reach(ctx, peer, run, func(ctx context.Context, r *reach) error {
		if grace == nil {
			return r.stop(ctx, nil)
		}
		d := span(max(0, *grace))
		return r.stop(ctx, &d)
	})
}

// Kill implements api.Backend.
func (b *backend) Kill(ctx context.Context, peer api.Peer, run *events.Run, signal string) error {
	sig, err := parseSignal(signal)
	if err != nil {
		return problem(err)
	}
	return b.reach(ctx, peer, run, func(ctx context.Context, r *reach) error { return r.kill(ctx, sig) })
}

// Set implements api.Backend.
func (b *backend) Set(ctx context.Context, peer api.Peer, run *events.Run, assignments []string) error {
	config, err := b.app.LoadConfig()
	if err != nil {
		return err
	}
	change, others, err := parseChange(config, assignments, physicalMemory())
	if err != nil {
		return problem(err)
	}
	return b.reach(ctx, peer, run, func(ctx context.Context, r *reach) error { return r.set(ctx, change, others) })
}

// Release implements api.Backend.
func (b *backend) Release(ctx context.Context, peer api.Peer, run *events.Run) error {
	return b.reach(ctx, peer, run, func(ctx context.Context, r *reach) error { return r.release(ctx) })
}

// Adopt implements api.Backend.
func (b *backend) Adopt(ctx context.Context, peer api.Peer, a *client.Adoption) (*events.Run, error) {
	run, err := b.adopt(ctx, peer, a)
	return run, problem(err)
}

// strangers counts what was not listened to.
type strangers struct{ signals, connections uint64 }

// tellStrangers says, after a sweep, how much there was that the daemon does not listen to.
func (d *daemon) tellStrangers() {
	now := strangers{signals: d.launcher.Strangers()}
	if d.refused != nil {
		now.connections = d.refused()
	}
	if now != d.told && now != (strangers{}) {
		d.log.Warn("not listened to", "forged_signals", now.signals, "refused_connections", now.connections)
	}
	d.told = now
}

// seenBy is the app as it looks at the runs of a user, nil for all.
func (b *backend) seenBy(uid *uint32) *App {
	app := *b.app
	app.host, app.Settle = noHost, nil
	app.Getenv = func(key string) string {
		if key == "LC_ALL" {
			return "C.UTF-8" // what is read is read in a browser
		}
		return b.app.Getenv(key)
	}
	app.Scopes = visible{b.app.Scopes, uid}
	return &app
}

// visible are the live runs of a user, nil for all.
type visible struct {
	liveSource
	uid *uint32
}

func (v visible) Live(ctx context.Context, mode Mode) ([]Live, error) {
	list, err := v.liveSource.Live(ctx, mode)
	if v.uid != nil {
		list = slices.DeleteFunc(list, func(l Live) bool { return l.Record == nil || l.Record.UID != *v.uid })
	}
	return list, err
}

// Live implements api.Backend.
func (b *backend) Live(ctx context.Context, uid *uint32) (list []client.Live, err error) {
	for _, l := range b.seenBy(uid).live(ctx) {
		list = append(list, liveHere(l))
	}
	return list, nil
}

// Current implements api.Backend.
func (b *backend) Current(run *events.Run) *events.Run {
	led, err := b.launcher.Ledger(scope.RunID(run.Run))
	if err != nil {
		return run // it ends at this moment
	}
	defer led.Group.Close()
	if !led.HasFacts {
		return run
	}
	intents, _ := watcher.ReadIntents(led.Group)
	now := *run
	now.State, now.Limits = liveState(led, intents), limitsOf(led.Facts, run.Limits)
	return &now
}

// Summary implements api.Backend.
func (b *backend) Summary(ctx context.Context, store events.Reader, uid *uint32) (any, error) {
	return b.seenBy(uid).summarise(ctx, store)
}

// Processes implements api.Backend.
func (b *backend) Processes(ctx context.Context, run *events.Run) ([]events.Process, error) {
	live, err := liveRun(b.launcher, scope.RunID(run.Run), run.Manager)
	if errors.Is(err, cgroup.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b.app.processesOf(ctx, listed{run, &live}), nil
}
