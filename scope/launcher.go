package scope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// launchTimeout bounds everything between the fork and the opening of the barrier. A job can wait in systemd's queue
// behind a daemon-reload; nobody waits longer than this for a program to start.
const launchTimeout = 60 * time.Second

// childThreads is more threads than the child at the barrier starts. A scope with room for fewer is made only when the
// child has them all: pids.max refuses forks, not processes that are moved in.
const childThreads = 16

// cleanupTimeout bounds taking a failed launch back.
const cleanupTimeout = 10 * time.Second

// Launcher puts processes into scopes of one manager. It is safe for concurrent use.
type Launcher struct {
	manager Manager
	fs      cgroup.FS

	// Prepared, if not nil, is called when the process of a run exists (Scope.Leader is set) and waits at the barrier, while
	// systemd makes its units. The analysis is let go only after Prepared has returned nil: this is where a keeper writes
	// that the run is about to start. Of the Scope, only Spec, Leader, Keeper, StartedAt and Started are set by then.
	Prepared func(context.Context, *Scope) error

	dialling chan struct{} // holds one value while somebody makes the connection

	mu       sync.Mutex
	bus      *bus
	monitors map[RunID]*bus
}

// Strangers counts the signals on the current connection to the bus that were not believed: they were malformed, or somebody else
// than systemd sent them.
func (l *Launcher) Strangers() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bus == nil {
		return 0
	}
	l.bus.signals.mu.Lock()
	defer l.bus.signals.mu.Unlock()
	return l.bus.signals.dropped
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
func NewLauncherAt(m Manager, fs cgroup.FS) *Launcher {
	return &Launcher{manager: m, fs: fs, dialling: make(chan struct{}, 1)}
}

// Manager says which manager holds the scopes.
func (l *Launcher) Manager() Manager { return l.manager }

// FS is the cgroup hierarchy that the scopes are in.
func (l *Launcher) FS() cgroup.FS { return l.fs }

// Launch starts spec.Args in a scope of its own and returns when it runs there. Until its limits are verified nothing of
// it has run. Errors: *SpecError (nothing was done), *ExecError (it cannot be executed), ErrNoManager, ErrNotConfined,
// ErrDied and whatever systemd says; after every one of them there is no process and no unit left.
func (l *Launcher) Launch(ctx context.Context, spec Spec) (*Scope, error) {
	spec, program, err := spec.launchable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	connected := make(chan error, 1) // one value, from the goroutine below
	go func() { connected <- l.Connect(ctx) }()

	c, err := forkChild(spec, program)
	if err != nil {
		cancel()
		<-connected //nolint:errcheck // it was called off
		return nil, err
	}
	s := &Scope{Spec: spec, l: l, child: c, uid: uint32(os.Getuid()), prepared: l.Prepared}
	if err := <-connected; err != nil {
		l.takeBack(ctx, s)
		return nil, err
	}
	err = c.settle(ctx, spec)
	if err == nil {
		err = l.confine(ctx, s)
	}
	if err == nil {
		err = c.open(ctx, spec)
	}
	if err != nil {
		l.takeBack(ctx, s)
		return nil, err
	}
	return s, nil
}

// launchable is s with its defaults and the program that it starts, if it can be launched.
func (s Spec) launchable() (spec Spec, program string, err error) {
	s = s.withDefaults()
	if err := s.Validate(); err != nil {
		return s, "", err
	}
	if err := s.ownerLives(); err != nil {
		return s, "", err
	}
	program, err = lookPath(s)
	return s, program, err
}

func (s Spec) ownerLives() error {
	if s.Owner != (ProcessID{}) && !s.Owner.Alive() {
		return &SpecError{"owner", strconv.Itoa(s.Owner.PID), "no such process (any more)"}
	}
	return nil
}

// confine makes the units, verifies them and writes the facts on the ledger, while Prepared does its part.
func (l *Launcher) confine(ctx context.Context, s *Scope) error {
	var err error
	if s.child != nil {
		if s.Leader, err = identify(s.child.cmd.Process.Pid); err != nil {
			return ErrDied
		}
	}
	s.Keeper, err = Self()
	if err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	if s.Launcher == (ProcessID{}) {
		s.Launcher = s.Keeper
	}
	if s.Owner = s.Spec.Owner; s.Owner == (ProcessID{}) {
		s.Owner = s.Launcher
	}
	s.StartedAt, s.Started = time.Now(), cgroup.Boottime()
	prepared := make(chan error, 1) // one value, from the goroutine below
	go func() {
		if s.prepared == nil {
			prepared <- nil
			return
		}
		prepared <- s.prepared(ctx, s)
	}()
	err = l.makeUnits(ctx, s)
	if err == nil {
		err = l.verify(ctx, s)
	}
	if err == nil {
		err = s.writeFacts()
	}
	if err != nil && !s.Leader.Alive() {
		err = fmt.Errorf("%w: %w", ErrDied, err)
	}
	return oneLine(err, <-prepared)
}

// makeUnits asks systemd for the scope inside its ledger slice. Properties that this systemd does not know are left out
// one by one, newest first, if the run is still confined by what matters.
func (l *Launcher) makeUnits(ctx context.Context, s *Scope) error {
	return l.use(ctx, func(b *bus) error { return b.makeUnits(ctx, s) })
}

func (b *bus) makeUnits(ctx context.Context, s *Scope) error {
	ps := properties(s.Spec, s.Leader.PID)
	err := b.start(ctx, s.Unit(), ps)
	for _, o := range optional {
		if !errors.Is(err, ErrUnknownProperty) {
			break
		}
		var dropped bool
		if ps, dropped = without(ps, o.name); dropped {
			s.Degraded = append(s.Degraded, o.name+": unknown to this systemd; needs "+o.since)
			err = b.start(ctx, s.Unit(), ps)
		}
	}
	s.foreign = errors.Is(err, ErrUnitExists)
	return err
}

// unmade reports whether there are no units of ours to be taken back: systemd was not asked for any yet, or the name was taken
// by somebody else's.
func (s *Scope) unmade() bool { return s.StartedAt.IsZero() || s.foreign }

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
	var state string
	err = l.use(ctx, func(b *bus) error {
		state, err = b.activeState(ctx, s.Unit())
		return err
	})
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	defer s.Close()
	if s.child != nil {
		s.child.discard(ctx)
	}
	if s.unmade() {
		return
	}
	_ = l.use(ctx, func(b *bus) error { // whoever finds what cannot be removed now settles it later
		return oneLine(b.stop(ctx, s.Unit()), b.resetFailed(ctx, s.Unit()), b.stop(ctx, s.Spec.Run.Ledger()))
	})
}
