package scope

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// launchTimeout bounds everything between the fork and the opening of the barrier. A job can wait in systemd's queue
// behind a daemon-reload; nobody waits longer than this for a program to start.
const launchTimeout = 60 * time.Second

// cleanupTimeout bounds taking a failed launch back.
const cleanupTimeout = 10 * time.Second

// Launcher puts processes into scopes of one manager. It is safe for concurrent use.
type Launcher struct {
	manager Manager
	fs      cgroup.FS

	// Prepared, if not nil, is called when the process of a run exists (Scope.Leader is set) and waits at the barrier, while
	// systemd makes its units. The analysis is let go only after Prepared has returned nil: this is where a keeper writes
	// that the run is about to start.
	Prepared func(context.Context, *Scope) error

	mu       sync.Mutex
	bus      *bus
	monitors map[RunID]*bus
}

// NewLauncher returns a Launcher for the manager m, or an error that says what this machine lacks (cgroup.ErrNotUnified).
// It does not connect yet.
func NewLauncher(m Manager) (*Launcher, error) {
	fs, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return NewLauncherAt(m, fs), nil
}

// NewLauncherAt is NewLauncher for a hierarchy that is already known.
func NewLauncherAt(m Manager, fs cgroup.FS) *Launcher { return &Launcher{manager: m, fs: fs} }

// Manager says which manager holds the scopes.
func (l *Launcher) Manager() Manager { return l.manager }

// FS is the cgroup hierarchy that the scopes are in.
func (l *Launcher) FS() cgroup.FS { return l.fs }

// Disconnect closes the connection to systemd, if there is one; the next call that needs one makes it again. On its
// private socket systemd tells everything about every unit, so nobody should sit on an idle connection.
func (l *Launcher) Disconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bus != nil {
		l.bus.close()
		l.bus = nil
	}
}

// Connect makes sure that systemd answers. The error wraps ErrNoManager.
func (l *Launcher) Connect(ctx context.Context) error {
	_, err := l.connection(ctx)
	return err
}

func (l *Launcher) connection(ctx context.Context) (*bus, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bus.connected() {
		return l.bus, nil
	}
	if l.bus != nil {
		l.bus.close()
		l.bus = nil
	}
	b, err := dial(ctx, l.manager.endpoints()...)
	if err != nil {
		return nil, err
	}
	l.bus = b
	return b, nil
}

// Launch starts spec.Args in a scope of its own and returns when it runs there. Until its limits are verified nothing of
// it has run. Errors: *SpecError (nothing was done), *ExecError (it cannot be executed), ErrNoManager, ErrNotConfined,
// ErrDied and whatever systemd says; after every one of them there is no process and no unit left.
func (l *Launcher) Launch(ctx context.Context, spec Spec) (*Scope, error) {
	spec = spec.withDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	program, err := lookPath(spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	connected := make(chan error, 1) // one value, from the goroutine below
	go func() { connected <- l.Connect(ctx) }()

	c, err := forkChild(spec, program)
	if err != nil {
		<-connected
		return nil, err
	}
	s := &Scope{Spec: spec, l: l, child: c}
	if err := <-connected; err != nil {
		c.discard()
		return nil, err
	}
	if err := l.confine(ctx, s); err != nil {
		l.takeBack(ctx, s)
		return nil, err
	}
	if err := c.open(); err != nil {
		l.takeBack(ctx, s)
		return nil, err
	}
	return s, nil
}

// confine makes the units, verifies them and writes the facts on the ledger, while Prepared does its part.
func (l *Launcher) confine(ctx context.Context, s *Scope) error {
	var err error
	if s.Leader, err = identify(s.child.cmd.Process.Pid); err != nil {
		return ErrDied
	}
	s.Keeper, err = Self()
	if err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	s.StartedAt, s.Started = time.Now(), cgroup.Boottime()
	prepared := make(chan error, 1) // one value, from the goroutine below
	go func() {
		if l.Prepared == nil {
			prepared <- nil
			return
		}
		prepared <- l.Prepared(ctx, s)
	}()
	err = l.makeUnits(ctx, s)
	if err == nil {
		err = l.verify(ctx, s)
	}
	if err == nil {
		err = s.writeFacts()
	}
	return errors.Join(err, <-prepared)
}

// makeUnits asks systemd for the scope inside its ledger slice. Properties that this systemd does not know are left out
// one by one, newest first, if the run is still confined by what matters.
func (l *Launcher) makeUnits(ctx context.Context, s *Scope) error {
	b, err := l.connection(ctx)
	if err != nil {
		return err
	}
	ps := properties(s.Spec, s.Leader.PID)
	err = b.start(ctx, s.Unit(), ps)
	for _, o := range optional {
		if !errors.Is(err, ErrUnknownProperty) {
			return err
		}
		var dropped bool
		if ps, dropped = without(ps, o.name); dropped {
			s.Degraded = append(s.Degraded, o.name+": unknown to this systemd; needs "+o.since)
			err = b.start(ctx, s.Unit(), ps)
		}
	}
	return err
}

func without(ps []Property, name string) (rest []Property, dropped bool) {
	for _, p := range ps {
		if p.Name == name {
			dropped = true
			continue
		}
		rest = append(rest, p)
	}
	return rest, dropped
}

// verify believes the kernel, not the job: the process is in the scope, the scope is in its ledger, and the limits are the
// ones asked for. It also asks systemd whether the scope is active, since one that is not has no time limit (systemd#36781).
func (l *Launcher) verify(ctx context.Context, s *Scope) error {
	where, err := l.fs.PathOf(s.Leader.PID)
	if err != nil {
		return ErrDied
	}
	if !strings.HasSuffix(where, path.Join("/", FleetSlice, s.Spec.Run.Ledger(), s.Unit())) {
		return fmt.Errorf("%w: process %d is in %q", ErrNotConfined, s.Leader.PID, where)
	}
	if s.Group, err = l.fs.Open(where); err != nil {
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	if s.Ledger, err = l.fs.Open(path.Dir(where)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	if err := s.verifyLimits(); err != nil {
		return err
	}
	b, err := l.connection(ctx)
	if err != nil {
		return err
	}
	state, err := b.activeState(ctx, s.Unit())
	if err != nil {
		return err
	}
	if state != "active" {
		return fmt.Errorf("%w: %q is %s", ErrNotConfined, s.Unit(), state)
	}
	return nil
}

// takeBack leaves nothing of a failed launch.
func (l *Launcher) takeBack(ctx context.Context, s *Scope) {
	s.child.discard()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if b, err := l.connection(ctx); err == nil {
		_ = b.stop(ctx, s.Unit())
		_ = b.resetFailed(ctx, s.Unit())
		_ = b.stop(ctx, s.Spec.Run.Ledger())
	}
	s.Close()
}
