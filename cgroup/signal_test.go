package cgroup_test

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

func TestSignal(t *testing.T) {
	defer goleak.VerifyNone(t)
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Make("/a/b")
	tree.Make("/ab") // the same prefix, and not a descendant
	own, below, other := startSleep(t), startSleep(t), startSleep(t)
	tree.Join("/a", own.Process.Pid)
	tree.Join("/a/b", below.Process.Pid)
	tree.Join("/ab", other.Process.Pid)

	sent, err := g.Signal(unix.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	want := []cgroup.Signalled{{PID: own.Process.Pid}, {PID: below.Process.Pid}}
	slices.SortFunc(want, func(a, b cgroup.Signalled) int { return a.PID - b.PID })
	if !slices.Equal(sent, want) {
		t.Errorf("got %v, want %v", sent, want)
	}
	if a, b := endedBy(own), endedBy(below); a != unix.SIGTERM || b != unix.SIGTERM {
		t.Errorf("ended by %v and %v", a, b)
	}
	if !isAlive(other.Process.Pid) {
		t.Error("the bystander is dead")
	}
}

// cgroup.procs is a snapshot: a process that left after it was taken is not signalled.
func TestSignalSparesThoseWhoLeft(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Make("/b")
	left, ended := startSleep(t), deadPID(t)
	tree.Join("/b", left.Process.Pid)
	tree.Write("/a", "cgroup.procs", itoa(left.Process.Pid)+"\n"+itoa(ended))

	sent, err := g.Signal(unix.SIGKILL)
	if len(sent) != 0 || err != nil {
		t.Errorf("got %v, %v; want nobody", sent, err)
	}
	if !isAlive(left.Process.Pid) {
		t.Error("the process that left is dead")
	}
}

// A process in a cgroup that took over the name is no member of the group that had it.
func TestSignalSparesReusedName(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Remove("/a")
	tree.Make("/a")
	bystander := startSleep(t)
	tree.Join("/a", bystander.Process.Pid)
	sent, err := g.Signal(unix.SIGKILL)
	if len(sent) != 0 || !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("got %v, %v; want ErrGone", sent, err)
	}
	if !isAlive(bystander.Process.Pid) {
		t.Error("the bystander is dead")
	}
}

func TestSignalReportsRefusal(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	child := startSleep(t)
	tree.Join("/a", child.Process.Pid)
	sent, err := g.Signal(unix.Signal(1000)) // no such signal
	if err != nil || len(sent) != 1 || !errors.Is(sent[0].Err, unix.EINVAL) {
		t.Errorf("got %v, %v; want one EINVAL", sent, err)
	}
}

func TestSignalNobody(t *testing.T) {
	tree := cgrouptest.New(t)
	sent, err := tree.Open("/a").Signal(unix.SIGTERM)
	if len(sent) != 0 || err != nil {
		t.Errorf("got %v, %v", sent, err)
	}
}

func TestSignalPID(t *testing.T) {
	child, bystander := startSleep(t), startSleep(t)
	ticks, err := cgroup.StartTicks(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := cgroup.SignalPID(bystander.Process.Pid, ticks+1000, unix.SIGKILL); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("wrong start: got %v, want ErrNoProcess", err)
	}
	if !isAlive(bystander.Process.Pid) {
		t.Error("the bystander is dead")
	}
	if err := cgroup.SignalPID(child.Process.Pid, ticks, unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	if sig := endedBy(child); sig != unix.SIGUSR1 {
		t.Errorf("ended by %v", sig)
	}
	if err := cgroup.SignalPID(child.Process.Pid, ticks, unix.SIGKILL); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("ended: got %v, want ErrNoProcess", err)
	}
}

// A process that ends between the pidfd and the signal is gone; whatever check saw was about somebody else.
func TestSignalPinnedToTheDead(t *testing.T) {
	child := startSleep(t)
	err := cgroup.SignalPinned(child.Process.Pid, unix.SIGTERM, func() error {
		child.Process.Kill()
		child.Wait()
		return nil
	})
	if !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("got %v, want ErrNoProcess", err)
	}
}

func TestKillWritesToTheGroup(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := tree.Read("/a", "cgroup.kill"); got != "1" {
		t.Errorf("cgroup.kill holds %q", got)
	}
}

// Before Linux 5.14 there is no cgroup.kill.
func TestKillOnOldKernel(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Omit("/a", "cgroup.kill")
	victim, bystander := startSleep(t), startSleep(t)
	tree.Join("/a", victim.Process.Pid)
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if sig := endedBy(victim); sig != unix.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
	if !isAlive(bystander.Process.Pid) {
		t.Error("the bystander is dead")
	}
	if got := tree.Read("/a", "cgroup.freeze"); got != "0" {
		t.Errorf("cgroup.freeze holds %q: not thawed", got)
	}
}

func TestFreeze(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	for frozen, want := range map[bool]string{true: "1", false: "0"} {
		if err := g.Freeze(frozen); err != nil {
			t.Fatal(err)
		}
		if got := tree.Read("/a", "cgroup.freeze"); got != want {
			t.Errorf("Freeze(%t): cgroup.freeze holds %q", frozen, got)
		}
	}
}

func TestIsBelow(t *testing.T) {
	for _, tt := range []struct {
		name, root string
		want       bool
	}{
		{"/a", "/a", true},
		{"/a/b", "/a", true},
		{"/ab", "/a", false},
		{"/", "/a", false},
		{"/a", "/a/b", false},
		{"/x", "/", true},
		{"/../x", "/a", false},
	} {
		if got := cgroup.IsBelow(tt.name, tt.root); got != tt.want {
			t.Errorf("IsBelow(%q, %q) = %t", tt.name, tt.root, got)
		}
	}
}
