package scope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// AdoptSpec says which running process to put into what box. Of Spec, what describes a start (Dir, Env, the streams, Owner,
// OnOwnerExit) plays no part; RuntimeMax counts from the adoption.
type AdoptSpec struct {
	Spec
	PID   int
	Asker Asker
}

// Asker is on whose word processes are adopted: an ordinary user's own only. The zero value is this process.
type Asker struct {
	PID int
	UID uint32
}

// adopted is what a Scope knows of processes that ran before.
type adopted struct {
	family family // as it was found, with the cgroups that it came from
}

// Adopt puts a running process and all its descendants into a scope of its own inside a new ledger, and returns when
// membership and limits are verified and the facts are on the ledger. Nobody keeps the run from then on: the kernel and
// systemd enforce its limits, and whoever looks next finishes its record.
//
// Memory that the processes hold stays charged to where they came from; MemoryMax counts what they allocate from now on.
//
// Errors: *AdoptError and *SpecError (nothing was done), ErrNoManager, ErrNotConfined and whatever systemd says. After every
// one of them the processes live on outside of the scope, unharmed, and no unit of the run is left.
func (l *Launcher) Adopt(ctx context.Context, spec AdoptSpec) (*Scope, error) {
	spec.Spec = spec.withDefaults()
	spec.Owner, spec.OnOwnerExit = ProcessID{}, OwnerKeep
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	if spec.Asker.PID == 0 {
		spec.Asker = Asker{os.Getpid(), uint32(os.Getuid())}
	}
	who := newAdopter(l.manager, spec.Run, spec.Asker)
	leader, err := l.adoptable(spec.PID, who)
	if err != nil {
		return nil, err
	}
	s := &Scope{Spec: spec.Spec, Leader: leader.id(), l: l, uid: leader.UID, adopted: &adopted{family: family{leader.PID: leader}}}
	if err := l.takeIn(ctx, s, who); err != nil {
		return nil, oneLine(err, s.GiveBack(ctx))
	}
	return s, nil
}

// adoptable looks at the process that somebody named.
func (l *Launcher) adoptable(pid int, who adopter) (relative, error) {
	gone := &AdoptError{PID: pid, Why: "no such process", Hint: "pgrep -af NAME finds it"}
	if pid <= 0 {
		return relative{}, gone
	}
	st, err := cgroup.ReadStat(pid)
	if err != nil {
		return relative{}, gone
	}
	r, err := readRelative(l.fs, st)
	switch {
	case errors.Is(err, cgroup.ErrNoProcess):
		return r, gone
	case err != nil:
		return r, err
	}
	return r, who.refuses(r)
}

// takeIn makes the units with the processes in them, goes after those that were forked meanwhile, verifies and writes the
// facts.
func (l *Launcher) takeIn(ctx context.Context, s *Scope, who adopter) error {
	if err := s.adopted.family.look(l.fs, who); err != nil { // who may not be adopted is found before anything is done
		return err
	}
	if err := l.makeUnitsAround(ctx, s); err != nil {
		return err
	}
	if err := l.verify(ctx, s); err != nil {
		return err
	}
	if err := l.collect(ctx, s, who); err != nil {
		return err
	}
	return s.writeFacts()
}

// makeUnitsAround asks systemd for the scope with the main process in it; collect brings the others. With a member that ends before its
// turn systemd would refuse all of them, or fail the scope with some of them in it.
func (l *Launcher) makeUnitsAround(ctx context.Context, s *Scope) error {
	s.StartedAt, s.Started = time.Now(), cgroup.Boottime()
	err := l.makeUnits(ctx, s)
	if errors.Is(err, cgroup.ErrNoProcess) || errors.Is(err, errJobFailed) && gone(s.Leader.PID) {
		return &AdoptError{PID: s.Leader.PID, Why: "it has ended"}
	}
	return err
}

// maxPasses bounds the moving of processes that fork meanwhile. Two are the rule: what a process in the scope forks is in the
// scope.
const maxPasses = 100

// collect moves those in that were forked by a member before it was moved, until a look that was taken when all known ones
// were inside finds nobody outside. One whose parent has ended in between looks like anybody's and is missed.
func (l *Launcher) collect(ctx context.Context, s *Scope, who adopter) error {
	for range maxPasses {
		if err := s.adopted.family.look(l.fs, who); err != nil {
			return err
		}
		outside, err := s.outside()
		if err != nil || len(outside) == 0 {
			return err
		}
		if err := l.attach(ctx, s.Group, outside); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: its processes fork faster than they can be moved", ErrNotConfined)
}

// outside are the members of the family that live and are not in the scope. A stranger in the scope, who was given the number of
// a member between the look and the move, is an error.
func (s *Scope) outside() (pids []int, err error) {
	for pid, r := range s.adopted.family {
		where, err := s.l.fs.PathOf(pid)
		if err != nil {
			continue // it has ended
		}
		in := where == s.Group.Path()
		switch alive := r.id().Alive(); {
		case alive && !in:
			pids = append(pids, pid)
		case !alive && in && !gone(pid):
			return nil, fmt.Errorf("%w: process %d took the place of one that ended", ErrNotConfined, pid)
		}
	}
	return pids, nil
}

// gone reports whether nobody alive has this number.
func gone(pid int) bool {
	st, err := cgroup.ReadStat(pid)
	return err != nil || st.State == 'Z' || st.State == 'X'
}

// attach moves processes into a cgroup of the manager. An ordinary user may not take a process out of a login session:
// there PID 1 does it, as it does for the user manager.
func (l *Launcher) attach(ctx context.Context, g *cgroup.Group, pids []int) error {
	var left []int
	var errs []error
	for _, pid := range pids {
		if err := g.Attach(pid); err != nil && !gone(pid) {
			left, errs = append(left, pid), append(errs, err)
		}
	}
	if len(left) == 0 {
		return nil
	}
	if l.manager == System {
		return oneLine(errs...)
	}
	b, err := dial(ctx, System.busEndpoint())
	if err != nil {
		return err
	}
	defer b.close()
	return b.attach(ctx, g.Path(), left)
}

// attach asks PID 1 to move processes of ours into a cgroup below our user manager (since systemd 238).
func (b *bus) attach(ctx context.Context, cgroupPath string, pids []int) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	slice, below, ok := strings.Cut(cgroupPath, ".service/")
	if !ok {
		return fmt.Errorf("cgroup %q: not below a user manager", cgroupPath)
	}
	unit := slice[strings.LastIndexByte(slice, '/')+1:] + ".service"
	manager := b.raw.Object(systemdName, managerPath)
	for _, pid := range pids { // one by one: a single one that has ended would have all of them refused
		err := manager.CallWithContext(ctx, systemdName+".Manager.AttachProcessesToUnit", 0, unit, "/"+below, numbers([]int{pid})).Err
		if err = b.failure(err); err != nil && !errors.Is(err, cgroup.ErrNoProcess) {
			return fmt.Errorf("attach to %q: %w", unit, err)
		}
	}
	return nil
}

// GiveBack takes an adoption back: the processes go to where they came from, or where that cannot be, into a scope without
// limits of its own; then the units are removed. Nobody is signalled.
func (s *Scope) GiveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	defer s.Close()
	if s.unmade() {
		return nil
	}
	led, err := s.l.fs.Open(s.l.manager.FleetPath() + "/" + s.Spec.Run.Ledger())
	if errors.Is(err, cgroup.ErrGone) {
		return s.l.Release(ctx, s.Spec.Run, true)
	}
	if err != nil {
		return err
	}
	defer led.Close()
	if err := s.l.abandon(ctx, s.Spec.Run); err != nil { // from here on no limit of time ends anybody
		return err
	}
	s.home(led)
	return s.l.dismiss(ctx, s.Spec.Run, led)
}

// home moves who is left in the ledger to where it was found, a new one to where the main process was.
func (s *Scope) home(led *cgroup.Group) {
	pids, _ := led.AllProcs() // who stays is looked after by dismiss
	for _, pid := range pids {
		from := s.adopted.family[pid].Cgroup
		if from == "" {
			from = s.adopted.family[s.Leader.PID].Cgroup
		}
		if g, err := s.l.fs.Open(from); err == nil {
			_ = g.Attach(pid)
			_ = g.Close()
		}
	}
}

// dismissed is the unit that holds processes which could not go back to where they came from. It has no limits, it is not below
// lictor.slice, and systemd forgets it when it is empty.
func (id RunID) dismissed() string { return "released-" + string(id) + ".scope" }

// dismiss empties the ledger of a run and removes its units.
func (l *Launcher) dismiss(ctx context.Context, run RunID, led *cgroup.Group) error {
	if err := l.moveOut(ctx, run, led); err != nil {
		return err
	}
	return l.Release(ctx, run, true)
}

// abandon has systemd let go of a scope: its time limit is off, and a stop of it would signal nobody.
func (l *Launcher) abandon(ctx context.Context, run RunID) error {
	return l.use(ctx, func(b *bus) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := b.raw.Object(systemdName, unitPath(run.Scope())).CallWithContext(ctx, systemdName+".Scope.Abandon", 0).Err
		if err = ignoreNoUnit(b.failure(err)); err != nil {
			return fmt.Errorf("abandon %q: %w", run.Scope(), err)
		}
		return nil
	})
}

// moveOut empties a ledger into the scope named by dismissed.
func (l *Launcher) moveOut(ctx context.Context, run RunID, led *cgroup.Group) error {
	var to *cgroup.Group
	defer func() {
		if to != nil {
			_ = to.Close()
		}
	}()
	for range maxPasses {
		pids, err := led.AllProcs()
		if errors.Is(err, cgroup.ErrGone) || err == nil && len(pids) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if to != nil {
			if err := l.attach(ctx, to, pids); err != nil {
				return err
			}
			continue
		}
		if to, err = l.makeDismissed(ctx, run, pids[len(pids)-1]); err != nil && !errors.Is(err, cgroup.ErrNoProcess) {
			return err
		}
	}
	return fmt.Errorf("run %s: its processes fork faster than they can be moved", run)
}

// makeDismissed makes the scope without limits with one process in it, and returns its cgroup. ErrNoProcess says that the process had ended
// by then.
func (l *Launcher) makeDismissed(ctx context.Context, run RunID, pid int) (*cgroup.Group, error) {
	err := l.use(ctx, func(b *bus) error {
		err := b.start(ctx, run.dismissed(), []Property{
			property("Description", "released by lictor: run "+string(run)),
			property("PIDs", numbers([]int{pid})),
			property("TasksMax", uint64(NoLimit)),
		})
		if errors.Is(err, errJobFailed) && gone(pid) {
			err = oneLine(cgroup.ErrNoProcess, b.resetFailed(ctx, run.dismissed()))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if where, err := l.fs.PathOf(pid); err == nil && strings.HasSuffix(where, "/"+run.dismissed()) {
		return l.fs.Open(where)
	}
	return nil, fmt.Errorf("unit %q: %w", run.dismissed(), cgroup.ErrNoProcess)
}

// LetGo ends the confinement of a run: its processes go into a scope without limits, and its units are removed. Nobody is
// signalled. Its end must be on record before.
func (l *Launcher) LetGo(ctx context.Context, led *Ledger) error {
	if err := l.abandon(ctx, led.Run); err != nil {
		return err
	}
	return l.dismiss(ctx, led.Run, led.Group)
}
