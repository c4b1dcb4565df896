package scope

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/scidex/lictor/cgroup"
)

// A launch by two processes: one is the caller's and forks the analysis (Fork, then Open), the other is privileged and puts it
// into its scope (Confine). What is executed, and as whom, is the first one's business alone; the box is the second one's.

// Waiting is a process that waits at the barrier to be put into a scope by somebody else.
type Waiting struct {
	Spec   Spec      // with every default filled in
	Leader ProcessID // the process

	child *child
}

// Fork starts a process that will become spec.Args, and returns when it can be put into its scope. Nothing of the analysis
// has run yet, and nothing ever will unless Open is called; the process ends when its parent does. Errors: *SpecError,
// *ExecError, ErrDied.
func Fork(ctx context.Context, spec Spec) (*Waiting, error) {
	spec, program, err := spec.launchable()
	if err != nil {
		return nil, err
	}
	c, err := forkChild(spec, program)
	if err != nil {
		return nil, err
	}
	w := &Waiting{Spec: spec, child: c}
	if w.Leader, err = identify(c.cmd.Process.Pid); err != nil {
		err = ErrDied
	} else {
		err = c.settle(ctx, spec)
	}
	if err != nil {
		w.Discard(ctx)
		return nil, err
	}
	return w, nil
}

// Confined checks that the process is in the scope of its run in the manager m. It believes the kernel only.
func (w *Waiting) Confined(fs cgroup.FS, m Manager) error {
	where, err := fs.PathOf(w.Leader.PID)
	if err != nil {
		return ErrDied
	}
	if want := m.FleetPath() + "/" + w.Spec.Run.Ledger() + "/" + w.Spec.Run.Scope(); where != want {
		return fmt.Errorf("%w: process %d is in %q", ErrNotConfined, w.Leader.PID, where)
	}
	return nil
}

// Open lets the process go and returns when it has become the analysis. Errors: *ExecError, ErrDied; then it has ended.
func (w *Waiting) Open(ctx context.Context) (*Scope, error) {
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	if err := w.child.open(ctx, w.Spec); err != nil {
		w.Discard(ctx)
		return nil, err
	}
	return &Scope{Spec: w.Spec, Leader: w.Leader, child: w.child, uid: uint32(os.Getuid())}, nil
}

// Discard ends the process before it has become anything.
func (w *Waiting) Discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	w.child.discard(ctx)
}

// Offer is a process of somebody else's that waits at the barrier, as its parent describes it.
type Offer struct {
	Spec     Spec      // Dir, Env and the streams play no part
	Leader   ProcessID // the process
	Launcher ProcessID // its parent
	UID      uint32    // whose both are
}

// OfferError is an offer of a process that the caller may not offer. Nothing was done.
type OfferError struct {
	PID int
	Why string
}

func (e *OfferError) Error() string { return fmt.Sprintf("process %d: %s", e.PID, e.Why) }

// Check reports, as an *OfferError, whether the process is not what the caller may offer: a living child of its own, with no
// other uid than its own. The caller's identity must come from the kernel.
func (o Offer) Check() error {
	refuse := func(why string) error { return &OfferError{o.Leader.PID, why} }
	if o.Leader.PID <= 1 || !o.Leader.Alive() {
		return refuse("no such process (any more)")
	}
	st, err := cgroup.ReadStat(o.Leader.PID)
	if err != nil || st.StartTicks != o.Leader.StartTicks {
		return refuse("no such process (any more)")
	}
	if st.PPID != o.Launcher.PID || !o.Launcher.Alive() {
		return refuse(fmt.Sprintf("not a child of process %d, which offers it", o.Launcher.PID))
	}
	uids, err := uidsOf(o.Leader.PID)
	if err != nil {
		return refuse("no such process (any more)")
	}
	for _, uid := range uids {
		if uid != o.UID {
			return refuse(fmt.Sprintf("it has uid %d, its parent %d", uid, o.UID))
		}
	}
	return nil
}

// Confine puts an offered process into a scope of its own, as Launch does with one that it has forked, and returns when its
// parent may let it go. Prepared is called as Launcher.Prepared is. After an error no unit is left, and the process, if it came
// into the scope at all, was ended.
func (l *Launcher) Confine(ctx context.Context, o Offer, prepared func(context.Context, *Scope) error) (*Scope, error) {
	o.Spec = o.Spec.withDefaults()
	if err := o.Spec.Validate(); err != nil {
		return nil, err
	}
	if err := o.Spec.ownerLives(); err != nil {
		return nil, err
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	s := &Scope{Spec: o.Spec, l: l, uid: o.UID, Leader: o.Leader, Launcher: o.Launcher, prepared: prepared}
	if err := l.confine(ctx, s); err != nil {
		l.takeBack(ctx, s)
		return nil, err
	}
	return s, nil
}

// TakeBack ends a confined process that its parent has not let go, and removes its units.
func (l *Launcher) TakeBack(ctx context.Context, s *Scope) { l.takeBack(ctx, s) }

// uidsOf reads the real, effective, saved and file system uid of a process, see proc_pid_status(5).
func uidsOf(pid int) (uids [4]uint32, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return uids, err
	}
	_, after, ok := strings.Cut(string(text), "\nUid:")
	if !ok {
		return uids, syscall.EINVAL
	}
	_, err = fmt.Sscan(after, &uids[0], &uids[1], &uids[2], &uids[3])
	return uids, err
}
