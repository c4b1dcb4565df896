package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func startSleep(t *testing.T) (*exec.Cmd, *Process) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ticks, err := StartTicks(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenProcess(cmd.Process.Pid, ticks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return cmd, p
}

func TestProcessWait(t *testing.T) {
	cmd, p := startSleep(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it lives: got %v", err)
	}
	_ = cmd.Process.Kill()
	// It is a zombie now, or soon: nobody has waited for it.
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("after its end: got %v", err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("again: got %v", err)
	}
}

func TestProcessWaitClosed(t *testing.T) {
	_, p := startSleep(t)
	end := make(chan error)
	go func() { end <- p.Wait(t.Context()) }()
	time.Sleep(10 * time.Millisecond)
	p.Close()
	if err := <-end; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want os.ErrClosed", err)
	}
}

func TestOpenProcessOfAnotherTime(t *testing.T) {
	cmd, _ := startSleep(t)
	pid := cmd.Process.Pid
	ticks, err := StartTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenProcess(pid, ticks+1); !errors.Is(err, ErrNoProcess) {
		t.Errorf("another start: got %v, want ErrNoProcess", err)
	}
	_ = cmd.Process.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err = OpenProcess(pid, ticks) // it becomes a zombie in a moment
		if errors.Is(err, ErrNoProcess) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after its end: got %v, want ErrNoProcess", err)
		}
		time.Sleep(time.Millisecond)
	}
}
