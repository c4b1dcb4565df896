package watcher

import (
	"errors"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scidex/lictor/cgroup"
)

// TestDeaths: of many processes that end at once each is told of, once, and none of those that were forgotten.
func TestDeaths(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d, err := NewDeaths()
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- d.Run(t.Context()) }()
	const n = 100 // more than are read at a time
	told, wrong := make(chan int, 2*n), atomic.Int32{}
	var all []*exec.Cmd
	for i := range n {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
		p := held(t, cmd.Process.Pid)
		defer p.Close()
		if _, err := d.Add(p, func() { told <- i }); err != nil {
			t.Fatal(err)
		}
		forgotten := held(t, cmd.Process.Pid)
		id, err := d.Add(forgotten, func() { wrong.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		d.Forget(id)
		forgotten.Close()
	}
	if len(told) > 0 {
		t.Errorf("%d are told of that live", len(told))
	}
	late := held(t, all[0].Process.Pid)
	defer late.Close()
	for _, cmd := range all {
		_ = cmd.Process.Kill()
		defer cmd.Wait()
	}
	seen := map[int]bool{}
	for range n {
		select {
		case i := <-told:
			seen[i] = true
		case <-time.After(eventually):
			t.Fatalf("told of %d, want %d", len(seen), n)
		}
	}
	if len(seen) != n || wrong.Load() > 0 {
		t.Errorf("told of %d, and of %d that were forgotten; want %d and 0", len(seen), wrong.Load(), n)
	}
	if _, err := d.Add(late, func() { told <- n }); err != nil { // it has ended already
		t.Fatal(err)
	}
	select {
	case i := <-told:
		if i != n {
			t.Errorf("told of %d again", i)
		}
	case <-time.After(eventually):
		t.Error("not told of one that had ended before")
	}
	if err := errors.Join(d.Close(), <-ran); err != nil {
		t.Error(err)
	}
	if _, err := d.Add(late, func() {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v, want os.ErrClosed", err)
	}
}

func held(t *testing.T, pid int) *cgroup.Process {
	t.Helper()
	ticks, err := cgroup.StartTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cgroup.OpenProcess(pid, ticks)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
