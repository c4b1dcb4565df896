package watcher

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/scidex/lictor/cgroup"
)

// WaitExit tells how a process ended where the kernel does, and else that only its parent knows.
func TestWaitExit(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read x; exit 7")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	ticks, err := cgroup.StartTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cgroup.OpenProcess(pid, ticks)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = p.ExitStatus()
	tells := errors.Is(err, cgroup.ErrNotReaped)
	type end struct {
		exit Exit
		err  error
	}
	ended := make(chan end)
	go func() {
		x, err := WaitExit(t.Context(), pid, ticks)
		ended <- end{x, err}
	}()
	in.Close()
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // some time after its end
	e := <-ended
	switch {
	case e.err == nil && tells && e.exit == (Exit{Code: 7, Via: "pidfd"}):
	case errors.Is(e.err, ErrNotParent) && !tells:
	case errors.Is(e.err, ErrNotParent): // it was gone before it was opened
		t.Logf("too late: %v", e.err)
	default:
		t.Errorf("%+v, %v; the kernel tells: %t", e.exit, e.err, tells)
	}
	if _, err := WaitExit(t.Context(), pid, ticks); !errors.Is(err, ErrNotParent) {
		t.Errorf("of one that has been reaped: %v, want ErrNotParent", err)
	}
}
