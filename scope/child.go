package scope

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/scidex/lictor/scope/internal/barrier"
	"golang.org/x/sys/unix"
)

// child is a process that waits at the barrier (see package barrier) and then is the analysis.
type child struct {
	cmd     *exec.Cmd
	path    string
	gate    *os.File // our end of the socket pair; nil once the barrier is open
	arrived bool     // it said so
}

// forkChild starts the process that will become the analysis. It runs nothing of it yet, and dies if we do.
func forkChild(s Spec, path string) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	_ = unix.SetNonblock(fds[0], true) // so that open can give up; it cannot fail
	ours, theirs := os.NewFile(uintptr(fds[0]), "barrier"), os.NewFile(uintptr(fds[1]), "barrier")
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{barrier.Argv0, path},
		Env:  barrier.Environment(),
		Dir:  s.Dir,
		// *os.File only: os/exec then copies nothing and needs no goroutine.
		ExtraFiles: []*os.File{theirs},
	}
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, forkError(s, err)
	}
	return &child{cmd: cmd, path: path, gate: ours}, nil
}

func forkError(s Spec, err error) error {
	var p *os.PathError
	if !errors.As(err, &p) {
		return fmt.Errorf("fork: %w", err)
	}
	if p.Op == "chdir" {
		return &SpecError{"directory", s.Dir, "cannot be entered: " + p.Err.Error()}
	}
	return fmt.Errorf("fork: %w", p.Err)
}

// settle waits, where the scope has room for few tasks, until the child has started all of its threads.
func (c *child) settle(ctx context.Context, s Spec) error {
	if s.TasksMax == 0 || s.TasksMax > childThreads {
		return nil
	}
	return c.arrive(ctx)
}

// arrive waits until the child is at the barrier, or until ctx ends.
func (c *child) arrive(ctx context.Context) error {
	if c.arrived {
		return nil
	}
	var b [1]byte
	err := c.withGate(ctx, func(gate *os.File) error {
		_, err := io.ReadFull(gate, b[:])
		return err
	})
	if err != nil {
		return gateError(ctx, err)
	}
	if b[0] != barrier.Arrived {
		return ErrDied
	}
	c.arrived = true
	return nil
}

// gateError says why the child cannot be talked to: there was no time, or there is no child.
func gateError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%w)", ErrDied, err)
}

// open lets the child go and waits until it has become the analysis of s, or until ctx ends: a program on a file system that
// hangs can keep execve for ever. The caller then discards the child.
func (c *child) open(ctx context.Context, s Spec) error {
	defer c.closeGate()
	if err := c.arrive(ctx); err != nil {
		return err
	}
	message := barrier.Message(s.Args, s.Environment())
	var answer []byte
	err := c.withGate(ctx, func(gate *os.File) (err error) {
		if _, err = gate.Write(message); err != nil {
			return err
		}
		answer, err = io.ReadAll(gate)
		return err
	})
	switch {
	case err != nil:
		return gateError(ctx, err)
	case len(answer) == 1:
		return nil
	case len(answer) == 5:
		return &ExecError{Path: c.path, Err: syscall.Errno(binary.BigEndian.Uint32(answer[1:]))}
	}
	return ErrDied
}

// withGate calls fn with the gate, on which everything fails once ctx has ended.
func (c *child) withGate(ctx context.Context, fn func(*os.File) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	gate := c.gate
	defer context.AfterFunc(ctx, func() { _ = gate.SetDeadline(time.Unix(1, 0)) })()
	return fn(gate)
}

func (c *child) closeGate() {
	c.gate.Close()
	c.gate = nil
}

// discard ends a child that must not become the analysis, and reaps it. One that hangs in the kernel is not waited for
// beyond ctx.
func (c *child) discard(ctx context.Context) {
	_ = c.cmd.Process.Kill()
	if c.gate != nil {
		c.closeGate()
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = c.cmd.Wait()
	}()
	select {
	case <-reaped:
	case <-ctx.Done():
	}
}
