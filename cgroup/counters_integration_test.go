//go:build integration

package cgroup_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

func TestRealLimits(t *testing.T) {
	s := newSubtree(t)
	g := s.make("a")
	fresh := cgroup.Limits{MemoryMax: cgroup.Max, MemoryHigh: cgroup.Max, MemorySwapMax: cgroup.Max, PidsMax: cgroup.Max}
	if l, err := g.Limits(); l != fresh || err != nil {
		t.Errorf("fresh: got %+v, %v", l, err)
	}
	s.write("a", "memory.max", "2G")
	s.write("a", "memory.high", "1G")
	s.write("a", "memory.swap.max", "0")
	s.write("a", "pids.max", "512")
	want := cgroup.Limits{
		MemoryMax: cgroup.Bytes(2 << 30), MemoryHigh: cgroup.Bytes(1 << 30),
		MemorySwapMax: cgroup.Bytes(0), PidsMax: cgroup.Number(512),
	}
	if l, err := g.Limits(); l != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", l, err, want)
	}
}

// After an OOM kill the cgroup around says so, and still says so when the one with the limit is removed.
func TestRealOOMKill(t *testing.T) {
	const limit = 16 << 20
	s := newSubtree(t)
	ledger := s.make("ledger.slice")
	s.write("ledger.slice", "cgroup.subtree_control", "+memory +pids")
	g := s.make("ledger.slice/run.scope")
	s.write("ledger.slice/run.scope", "memory.max", "16M")
	s.write("ledger.slice/run.scope", "memory.swap.max", "0")
	s.write("ledger.slice/run.scope", "memory.oom.group", "1")
	if group, err := g.MemoryOOMGroup(); !group || err != nil {
		t.Errorf("MemoryOOMGroup: %t, %v", group, err)
	}

	eater := start(t, g, "tail", "/dev/zero") // tail keeps a line without end in memory
	if sig := endedBy(eater); sig != unix.SIGKILL {
		t.Fatalf("ended by %v", sig)
	}
	eventually(t, "empty", isEmpty(g))

	e, err := g.MemoryEvents()
	if err != nil || e.OOMKill == 0 || e.Max == 0 || e.OOM == 0 || !e.HasGroupKill || e.OOMGroupKill == 0 {
		t.Errorf("scope: %+v, %v", e, err)
	}
	if local, err := g.MemoryEventsLocal(); local != e || err != nil {
		t.Errorf("scope, local: %+v, %v; want %+v", local, err, e)
	}
	peak, err := g.MemoryPeak()
	if n, ok := peak.Uint64(); !ok || n < limit/2 || n > limit || err != nil {
		t.Errorf("peak %v, %v; want about %d", peak, err, limit)
	}

	s.rmdir("ledger.slice/run.scope")
	if after, err := ledger.MemoryEvents(); after != e || err != nil {
		t.Errorf("ledger: %+v, %v; want %+v", after, err, e)
	}
	if local, err := ledger.MemoryEventsLocal(); local.OOMKill != 0 || local.Max != 0 || err != nil {
		t.Errorf("ledger, local: %+v, %v; want none", local, err)
	}
	if p, err := ledger.MemoryPeak(); !p.IsSet() || err != nil {
		t.Errorf("ledger: peak %v, %v", p, err)
	}
	if cpu, err := ledger.CPUUsage(); cpu == 0 || err != nil {
		t.Errorf("ledger: CPU %v, %v", cpu, err)
	}
	if e, err := g.MemoryEvents(); !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("removed scope: %+v, %v; want ErrGone", e, err)
	}
}

// Which cgroup counts a refused fork is not the same on Linux 6.1 and 6.12.
func TestRealPidsEvents(t *testing.T) {
	s := newSubtree(t)
	ledger := s.make("ledger.slice")
	s.write("ledger.slice", "cgroup.subtree_control", "+memory +pids")
	g := s.make("ledger.slice/run.scope")
	s.write("ledger.slice/run.scope", "pids.max", "5")
	start(t, g, "sh", "-c", "while :; do sleep 1000 & done")

	eventually(t, "a refused fork", func() bool {
		n, err := g.PidsEvents()
		return err == nil && n > 0
	})
	if n, err := g.PidsCurrent(); n == 0 || n > 5 || err != nil {
		t.Errorf("PidsCurrent: %d, %v", n, err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "empty", isEmpty(g))

	hierarchical := kernelAtLeast(t, 6, 12)
	n, err := ledger.PidsEvents()
	if (n > 0) != hierarchical || err != nil {
		t.Errorf("ledger: PidsEvents %d, %v; want some: %t", n, err, hierarchical)
	}
	local, err := g.PidsEventsLocal()
	if local.IsSet() != hierarchical || err != nil {
		t.Errorf("scope: PidsEventsLocal %v, %v; want set: %t", local, err, hierarchical)
	}
	if peak, err := g.PidsPeak(); peak != cgroup.Number(5) || err != nil {
		t.Errorf("scope: PidsPeak %v, %v; want 5", peak, err)
	}
	t.Logf("ledger: PidsEvents %d; scope: PidsEventsLocal %v", n, local)
}

func TestRealUsage(t *testing.T) {
	s := newSubtree(t)
	g := s.make("a")
	busy := start(t, g, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	busy.Wait()
	eventually(t, "empty", isEmpty(g))
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	direct, err := g.CPUUsage()
	if u.CPU == 0 || u.CPU != direct || u.User+u.System > u.CPU+1000 || err != nil {
		t.Errorf("%+v; CPUUsage %v, %v", u, direct, err)
	}
	if n, ok := u.MemoryPeak.Uint64(); !ok || n == 0 {
		t.Errorf("peak %v", u.MemoryPeak)
	}
	st, err := g.MemoryStat()
	if u.MemoryStat != st || err != nil {
		t.Errorf("MemoryStat: %+v, %v; Usage has %+v", st, err, u.MemoryStat)
	}
}

func TestRealPressure(t *testing.T) {
	s := newSubtree(t)
	p, err := s.make("a").MemoryPressure()
	if err != nil && !errors.Is(err, cgroup.ErrUnsupported) {
		t.Errorf("got %+v, %v", p, err)
	}
	t.Logf("%+v, %v", p, err)
}
