package scope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"github.com/scidex/lictor/cgroup/cgrouptest"
	"github.com/scidex/lictor/scope/scopetest"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// leaveNothing fails the test if goroutines or descriptors are left when it ends. Call it before anything is made that
// cleans up after itself.
func leaveNothing(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	openBefore := descriptors(t)
	t.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
		eventually(t, "descriptors closed", func() bool { return descriptors(t) <= openBefore })
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Errorf("not so after %v: %s", patience, what)
			return
		}
	}
}

// endpointsOf names the two ways to the fake.
func endpointsOf(fake *scopetest.Systemd) map[string]endpoint {
	return map[string]endpoint{
		"private": {fake.PrivateAddress(), true},
		"bus":     {fake.BusAddress(), false},
	}
}

// onBothWays runs a test with a connection over the private socket, and with one over the bus.
func onBothWays(t *testing.T, test func(*testing.T, *scopetest.Systemd, *bus)) {
	t.Helper()
	for _, way := range []string{"private", "bus"} {
		t.Run(way, func(t *testing.T) {
			leaveNothing(t)
			fake := scopetest.New(t)
			b, err := dial(t.Context(), endpointsOf(fake)[way])
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			test(t, fake, b)
		})
	}
}

// busOf returns a connection over the bus.
func busOf(t *testing.T, fake *scopetest.Systemd) *bus {
	t.Helper()
	b, err := dial(t.Context(), endpointsOf(fake)["bus"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// begin starts a unit and returns where the outcome of it will be, after the fake has seen the call.
func begin(ctx context.Context, t *testing.T, fake *scopetest.Systemd, b *bus, unit string) <-chan error {
	t.Helper()
	end := make(chan error, 1)
	go func() { end <- b.start(ctx, unit, []Property{property("Slice", "a.slice")}) }()
	eventually(t, "the call arrives", func() bool { return len(fake.Calls("StartTransientUnit")) > 0 })
	return end
}

// result waits for an outcome.
func result(t *testing.T, end <-chan error) error {
	t.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(patience):
		t.Fatal("the call does not end")
		return nil
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error: got %v, want %v", got, want)
	}
}

// host is a launcher with everything around it played: systemd, and a hierarchy in which it makes the cgroups.
type host struct {
	t    *testing.T
	fake *scopetest.Systemd
	tree *cgrouptest.Tree
	l    *Launcher
	// Makes changes what systemd makes: a path is a cgroup, and it is called when the cgroups are there.
	makes func(ledger string, pid int)
}

func newHost(t *testing.T) *host {
	t.Helper()
	leaveNothing(t)
	h := &host{t: t, fake: scopetest.New(t), tree: cgrouptest.New(t)}
	t.Setenv("XDG_RUNTIME_DIR", h.fake.RuntimeDir())
	h.l = NewLauncherAt(User, h.tree.FS())
	t.Cleanup(h.l.Disconnect)
	h.fake.OnUnit(h.makeCgroups)
	probe := h.tree.Open("/probe")
	if err := probe.SetXattr("user.lictor.probe", "1"); err != nil {
		t.Skipf("the temporary directory has no extended attributes: %v", err)
	}
	return h
}

// makeCgroups does what systemd and the kernel do for a scope in its ledger.
func (h *host) makeCgroups(unit string, ps map[string]dbus.Variant) {
	pids, _ := ps["PIDs"].Value().([]uint32)
	ledger := h.l.manager.FleetPath() + "/" + ps["Slice"].Value().(string)
	h.tree.Make(ledger + "/" + unit)
	for file, name := range map[string]string{"memory.max": "MemoryMax", "memory.swap.max": "MemorySwapMax",
		"memory.high": "MemoryHigh", "pids.max": "TasksMax"} {
		if n, ok := ps[name].Value().(uint64); ok && n != NoLimit {
			h.tree.Write(ledger+"/"+unit, file, fmt.Sprint(n))
		}
	}
	h.tree.Join(ledger+"/"+unit, int(pids[0]))
	if h.makes != nil {
		h.makes(ledger, int(pids[0]))
	}
}

// noChildren fails the test if this process has children.
func (h *host) noChildren() {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && len(b) > 0 {
		h.t.Errorf("children left: %s", b)
	}
}
