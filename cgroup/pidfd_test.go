package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

func TestExitInfo(t *testing.T) {
	for name, c := range map[string]struct {
		mask uint64
		code int32
		err  error
		want error
	}{
		"reaped":                       {unix.PIDFD_INFO_PID | unix.PIDFD_INFO_EXIT, 7 << 8, nil, nil},
		"alive, or a zombie":           {unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS, 0, nil, ErrNotReaped},
		"before Linux 6.13":            {0, 0, unix.ENOTTY, ErrNoExitInfo},
		"before Linux 6.15, reaped":    {0, 0, unix.ESRCH, ErrNoExitInfo},
		"a kernel that wants no such":  {0, 0, unix.EINVAL, ErrNoExitInfo},
		"something that is not normal": {0, 0, unix.EBADF, unix.EBADF},
	} {
		status, err := exitInfo(&unix.PidfdInfo{Mask: c.mask, Exit_code: c.code}, c.err)
		if !errors.Is(err, c.want) || err == nil && status.ExitStatus() != 7 {
			t.Errorf("%s: %v, %v, want %v", name, status, err, c.want)
		}
	}
}

// What this kernel really does: since Linux 6.15 it tells, before that it says that it does not.
func TestExitStatus(t *testing.T) {
	for _, signal := range []unix.Signal{0, unix.SIGKILL, unix.SIGTERM} {
		cmd := exec.Command("sh", "-c", "read x; exit 7")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ticks, err := StartTicks(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		p, err := OpenProcess(cmd.Process.Pid, ticks)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		_, err = p.ExitStatus()
		tells := errors.Is(err, ErrNotReaped)
		if !tells && !errors.Is(err, ErrNoExitInfo) {
			t.Errorf("of a living process: %v", err)
		}
		if signal == 0 {
			in.Close()
		} else if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		status, err := p.ExitStatus()
		switch {
		case kernelAtLeast(t, 6, 15):
			if err != nil || status.Signaled() != (signal != 0) || signal != 0 && status.Signal() != signal || signal == 0 && status.ExitStatus() != 7 {
				t.Errorf("ended by %v: %v, %v", signal, status, err)
			}
		case !errors.Is(err, ErrNoExitInfo):
			t.Errorf("an older kernel: %v, %v", status, err)
		}
	}
}

func kernelAtLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}
