package scope

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/scidex/lictor/cgroup"
)

// Change says which limits of a live run to change, and to what. Nil leaves one as it is; NoLimit (for CPUQuota 0) lifts it.
// RuntimeMaxSec is not among them: systemd takes it for a new unit only (seen on 252, 257 and 262).
type Change struct {
	MemoryMax     *uint64 // bytes
	MemoryHigh    *uint64 // bytes
	MemorySwapMax *uint64 // bytes
	TasksMax      *uint64
	CPUQuota      *float64   // in CPUs
	Properties    []Property // from ParseProperty
}

// properties is what systemd is told.
func (c Change) properties() (ps []Property) {
	for _, p := range []struct {
		name  string
		value *uint64
	}{{"MemoryMax", c.MemoryMax}, {"MemoryHigh", c.MemoryHigh}, {"MemorySwapMax", c.MemorySwapMax}, {"TasksMax", c.TasksMax}} {
		if p.value != nil {
			ps = append(ps, property(p.name, *p.value))
		}
	}
	if q := c.CPUQuota; q != nil {
		usec := uint64(NoLimit)
		if *q != 0 {
			usec = uint64(math.Round(*q * 1e6))
		}
		ps = append(ps, property("CPUQuotaPerSecUSec", usec))
	}
	return append(ps, c.Properties...)
}

// validate holds a change against the rules of Spec.Validate.
func (c Change) validate() error {
	s := Spec{Args: []string{"-"}, Properties: c.Properties}
	if c.MemoryMax != nil {
		s.MemoryMax = max(*c.MemoryMax, 1) // 0 is not the default here
	}
	if c.MemoryHigh != nil {
		s.MemoryHigh = max(*c.MemoryHigh, 1)
	}
	if c.CPUQuota != nil {
		s.CPUQuota = *c.CPUQuota
	}
	return s.Validate()
}

// apply is what the ledger says after a change.
func (f Facts) apply(c Change) Facts {
	for _, v := range []struct{ to, from *uint64 }{{&f.MemoryMax, c.MemoryMax}, {&f.SwapMax, c.MemorySwapMax}} {
		if v.from != nil {
			*v.to = *v.from
		}
	}
	for _, v := range []struct{ to, from *uint64 }{{&f.MemoryHigh, c.MemoryHigh}, {&f.TasksMax, c.TasksMax}} {
		switch { // 0 is none in these
		case v.from != nil && *v.from == NoLimit:
			*v.to = 0
		case v.from != nil:
			*v.to = *v.from
		}
	}
	if c.CPUQuota != nil {
		f.CPUQuota = *c.CPUQuota
	}
	return f
}

// SetLimits changes limits of a live run, until it ends, and verifies them in the kernel. It is on the ledger before it is
// done, with who is at it, so that no keeper takes it for somebody else's doing; if it cannot be done the ledger gets
// its old words back. A memory limit below what the run uses is allowed: the kernel reclaims, and then kills.
//
// The error wraps cgroup.ErrGone or ErrNoUnit if the run has ended. A run that ends of the change is no error.
func (l *Launcher) SetLimits(ctx context.Context, led *Ledger, c Change) error {
	if err := c.validate(); err != nil {
		return err
	}
	g, err := led.Scope()
	if err != nil {
		return err
	}
	defer g.Close()
	before, after := led.Facts, led.Facts.apply(c)
	if after.Setter, err = Self(); err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	if err := writeFacts(led.Group, after); err != nil {
		return err
	}
	err = l.use(ctx, func(b *bus) error { return b.setProperties(ctx, led.Run.Scope(), c.properties()) })
	if err == nil {
		err = c.verify(g)
	}
	if err != nil {
		return oneLine(err, WriteFacts(led.Group, before))
	}
	after.Setter = ProcessID{}
	led.Facts = after
	if err := WriteFacts(led.Group, after); !errors.Is(err, cgroup.ErrGone) {
		return err
	}
	return nil
}

// WriteFacts replaces the facts on a ledger.
func WriteFacts(g *cgroup.Group, f Facts) error { return writeFacts(g, f) }

func (b *bus) setProperties(ctx context.Context, unit string, ps []Property) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := b.failure(b.conn.SetUnitPropertiesContext(ctx, unit, true, ps...)); err != nil {
		return fmt.Errorf("set properties of %q: %w", unit, err)
	}
	return nil
}

// verify compares what the kernel enforces with what was asked for. A scope that is gone by now has ended of it.
func (c Change) verify(g *cgroup.Group) error {
	got, err := g.Limits()
	if errors.Is(err, cgroup.ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	for _, v := range []struct {
		file string
		got  cgroup.Value
		want *uint64
	}{
		{"memory.max", got.MemoryMax, c.MemoryMax},
		{"memory.high", got.MemoryHigh, c.MemoryHigh},
		{"memory.swap.max", got.MemorySwapMax, c.MemorySwapMax},
	} {
		if v.want != nil && !sameLimit(v.got, *v.want) {
			return fmt.Errorf("%w: %s is %v, not %d", ErrNotConfined, v.file, v.got, *v.want)
		}
	}
	if c.TasksMax != nil && !sameTasks(got.PidsMax, *c.TasksMax) {
		return fmt.Errorf("%w: pids.max is %v, not %d", ErrNotConfined, got.PidsMax, *c.TasksMax)
	}
	return nil
}

func sameTasks(got cgroup.Value, want uint64) bool {
	n, ok := got.Uint64()
	if !ok || want > pidsMax {
		return got.IsMax() && want > pidsMax
	}
	return n == want
}

// Foreign compares what the kernel enforces on a scope with what its ledger says, and returns the facts as they are and
// whether they differ: somebody else has changed MemoryMax or TasksMax. While one of ours is at it nothing is foreign.
func (f Facts) Foreign(scope *cgroup.Group) (Facts, bool, error) {
	if f.Setter != (ProcessID{}) && f.Setter.Alive() {
		return f, false, nil
	}
	got, err := scope.Limits()
	if err != nil {
		return f, false, err
	}
	now := f.differing(got)
	return now, now.MemoryMax != f.MemoryMax || now.TasksMax != f.TasksMax, nil
}

// SameLimits reports whether both say the same of limits that can change, and of who is changing them.
func (f Facts) SameLimits(g Facts) bool {
	return f.MemoryMax == g.MemoryMax && f.MemoryHigh == g.MemoryHigh && f.SwapMax == g.SwapMax && f.TasksMax == g.TasksMax &&
		f.CPUQuota == g.CPUQuota && f.Setter == g.Setter
}

// differing is f with the limits that are not the ones in it.
func (f Facts) differing(got cgroup.Limits) Facts {
	if got.MemoryMax.IsSet() && !sameLimit(got.MemoryMax, f.MemoryMax) {
		f.MemoryMax = orNone(got.MemoryMax, NoLimit)
	}
	if got.PidsMax.IsSet() && f.TasksMax != 0 && !sameTasks(got.PidsMax, f.TasksMax) {
		f.TasksMax = orNone(got.PidsMax, NoLimit)
	}
	return f
}

func orNone(v cgroup.Value, none uint64) uint64 {
	if n, ok := v.Uint64(); ok {
		return n
	}
	return none
}
