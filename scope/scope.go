package scope

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// Scope is a launched or adopted analysis: its process, its units and its two cgroups.
type Scope struct {
	Spec      Spec          // with every default filled in
	Leader    ProcessID     // the main process
	Keeper    ProcessID     // we
	Launcher  ProcessID     // the parent of the main process, which alone is told how that ends
	Owner     ProcessID     // without whom it does not live on, unless Spec.OnOwnerExit says so
	StartedAt time.Time     // wall clock
	Started   time.Duration // CLOCK_BOOTTIME
	Degraded  []string      // what this host could not give

	Group     *cgroup.Group     // the scope's cgroup; gone as soon as it is empty
	Ledger    *cgroup.Group     // the slice around it; there until Release
	Ancestors map[string]uint64 // cgroup path → memory.events.local oom when the run started

	l        *Launcher
	child    *child   // nil if it is not our child
	adopted  *adopted // nil if it was launched
	uid      uint32   // whose it is
	prepared func(context.Context, *Scope) error
	foreign  bool // there is a unit of that name, which is not ours

	waitOnce sync.Once
	waited   chan struct{}
	exit     Exit
	waitErr  error
}

// Exit is how the main process ended: by a signal if Signal is not 0, else with Code.
type Exit struct {
	Code   int
	Signal syscall.Signal
	Core   bool
	// CPU is the processor time of the main process and the children that it waited for.
	CPU time.Duration
}

// Unit is the name of the scope unit.
func (s *Scope) Unit() string { return s.Spec.Run.Scope() }

// UID is whose run it is.
func (s *Scope) UID() uint32 { return s.uid }

// Wait waits for the main process to end and returns how it did. Processes that it left behind may live on in the scope.
// It can be called several times and from several goroutines. If the main process is not our child it returns
// ErrNotChild at once.
func (s *Scope) Wait(ctx context.Context) (Exit, error) {
	if s.child == nil {
		return Exit{}, ErrNotChild
	}
	s.waitOnce.Do(func() {
		s.waited = make(chan struct{})
		go s.reap()
	})
	select {
	case <-s.waited:
		return s.exit, s.waitErr
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

func (s *Scope) reap() {
	defer close(s.waited)
	st, err := s.child.cmd.Process.Wait()
	if err != nil {
		s.waitErr = fmt.Errorf("wait for process %d: %w", s.Leader.PID, err)
		return
	}
	ws := st.Sys().(syscall.WaitStatus)
	s.exit = Exit{Code: ws.ExitStatus(), CPU: st.UserTime() + st.SystemTime()}
	if ws.Signaled() {
		s.exit = Exit{Signal: ws.Signal(), Core: ws.CoreDump(), CPU: s.exit.CPU}
	}
}

// Signal sends sig to the main process. os.ErrProcessDone says that it has ended, ErrNotChild that it is not ours.
func (s *Scope) Signal(sig os.Signal) error {
	if s.child == nil {
		return ErrNotChild
	}
	return s.child.cmd.Process.Signal(sig)
}

// Stop asks systemd to stop the scope: SIGTERM to every process, SIGKILL to what is left after the grace. It does not wait.
// The end is recorded as a stop by systemd; a keeper that wants its own name there escalates itself.
func (s *Scope) Stop(ctx context.Context) error { return s.l.StopUnit(ctx, s.Unit()) }

// UnitState asks systemd about the scope. ErrNoUnit says that it has ended successfully and is forgotten.
func (s *Scope) UnitState(ctx context.Context) (UnitState, error) {
	return s.l.UnitState(ctx, s.Spec.Run)
}

// Release makes systemd forget the run: call it only when its end is on record, since the ledger and the counters of the
// kernel go with it.
func (s *Scope) Release(ctx context.Context) error { return s.l.Release(ctx, s.Spec.Run, true) }

// Close closes the descriptors. It ends nothing.
func (s *Scope) Close() {
	for _, g := range []*cgroup.Group{s.Group, s.Ledger} {
		if g != nil {
			g.Close()
		}
	}
}

// verifyLimits compares what the kernel enforces with what was asked for.
func (s *Scope) verifyLimits() error {
	got, err := s.Group.MemoryMax()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	if !got.IsSet() {
		return fmt.Errorf("%w: the memory controller is not available in %q", ErrNotConfined, s.Group.Path())
	}
	if !sameLimit(got, s.Spec.MemoryMax) {
		return fmt.Errorf("%w: memory.max is %v, not %d", ErrNotConfined, got, s.Spec.MemoryMax)
	}
	swap, err := s.Group.MemorySwapMax()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	case !swap.IsSet():
		s.Degraded = append(s.Degraded, "MemorySwapMax: this kernel does not account swap")
	case !sameLimit(swap, s.Spec.MemorySwapMax):
		return fmt.Errorf("%w: memory.swap.max is %v, not %d", ErrNotConfined, swap, s.Spec.MemorySwapMax)
	}
	return s.verifyOthers()
}

// pidsMax is the largest number of tasks that the kernel can count; it takes no larger limit (PID_MAX_LIMIT).
const pidsMax = 4 << 20

// verifyOthers looks after the limits that a manager leaves out without a word where it has not got their controllers.
func (s *Scope) verifyOthers() error {
	if s.Spec.CPUQuota != 0 {
		have, err := s.Group.Controllers()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotConfined, err)
		}
		if !slices.Contains(have, "cpu") {
			s.Degraded = append(s.Degraded, "CPUQuota: this manager has not got the cpu controller")
		}
	}
	if s.Spec.TasksMax == 0 || s.Spec.TasksMax > pidsMax {
		return nil
	}
	switch got, err := s.Group.PidsMax(); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	case !got.IsSet():
		s.Degraded = append(s.Degraded, "TasksMax: this manager has not got the pids controller")
	case got.String() != strconv.FormatUint(s.Spec.TasksMax, 10):
		return fmt.Errorf("%w: pids.max is %v, not %d", ErrNotConfined, got, s.Spec.TasksMax)
	}
	return nil
}

// sameLimit compares in pages: the kernel rounds limits down to them.
func sameLimit(got cgroup.Value, want uint64) bool {
	page := uint64(os.Getpagesize())
	n, ok := got.Uint64()
	if !ok {
		return got.IsMax() && want == NoLimit
	}
	return n/page == want/page
}

// writeFacts puts onto the ledger what a process that comes later must know.
func (s *Scope) writeFacts() error {
	boot, err := cgroup.BootID()
	if err != nil {
		return err
	}
	s.Ancestors = ancestorOOMs(s.l.fs, s.Ledger.Path())
	f := Facts{Run: s.Spec.Run, AnalysisID: s.Spec.AnalysisID, UID: s.UID(), Adopted: s.adopted != nil, BootID: boot, Leader: s.Leader, Launcher: s.Launcher,
		StartedAt: s.StartedAt.UTC(), Started: s.Started, MemoryMax: s.Spec.MemoryMax, SwapMax: s.Spec.MemorySwapMax,
		TasksMax: s.Spec.TasksMax, MemoryHigh: s.Spec.MemoryHigh, CPUQuota: s.Spec.CPUQuota, Grace: s.Spec.Grace, OOMPolicy: s.Spec.OOMPolicy, Owner: s.Owner, OwnerExit: s.Spec.OnOwnerExit, Degraded: s.Degraded,
		Ancestors: s.Ancestors, Store: s.Spec.Store, Nonce: s.Spec.Nonce, Command: s.Spec.Args}
	if s.Spec.RuntimeMax > 0 {
		d := s.Started + s.Spec.RuntimeMax
		f.Deadline = &d
	}
	if err := writeFacts(s.Ledger, f); err != nil {
		return err
	}
	return WriteKeeper(s.Ledger, s.Keeper)
}

// ancestorOOMs reads how often each cgroup above ledger has hit its own memory limit. What cannot be read is left out.
func ancestorOOMs(fs cgroup.FS, ledger string) map[string]uint64 {
	counts := map[string]uint64{}
	for p := path.Dir(ledger); p != "/" && p != "."; p = path.Dir(p) {
		if n, err := LocalOOMs(fs, p); err == nil {
			counts[p] = n
		}
	}
	return counts
}

// LocalOOMs reads how often the cgroup at p has hit its own memory limit (memory.events.local, oom).
func LocalOOMs(fs cgroup.FS, p string) (uint64, error) {
	g, err := fs.Open(p)
	if err != nil {
		return 0, err
	}
	defer g.Close()
	ev, err := g.MemoryEventsLocal()
	return ev.OOM, err
}

// FleetMemory reads memory.current and memory.max of the cgroup at p.
func FleetMemory(fs cgroup.FS, p string) (current uint64, limit cgroup.Value, err error) {
	g, err := fs.Open(p)
	if err != nil {
		return 0, limit, err
	}
	defer g.Close()
	if current, err = g.MemoryCurrent(); err != nil {
		return 0, limit, err
	}
	limit, err = g.MemoryMax()
	return current, limit, err
}
