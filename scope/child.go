package scope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/scidex/lictor/scope/internal/barrier"
	"golang.org/x/sys/unix"
)

// child is a process that waits at the barrier (see package barrier) and then is the analysis.
type child struct {
	cmd  *exec.Cmd
	path string
	gate *os.File // our end of the socket pair; nil once the barrier is open
}

// forkChild starts the process that will become the analysis. It runs nothing of it yet, and dies if we do.
func forkChild(s Spec, path string) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "barrier"), os.NewFile(uintptr(fds[1]), "barrier")
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: append([]string{barrier.Argv0, path}, s.Args...),
		Env:  s.Environment(),
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
		return nil, forkError(s, path, err)
	}
	return &child{cmd: cmd, path: path, gate: ours}, nil
}

func forkError(s Spec, path string, err error) error {
	var p *os.PathError
	if !errors.As(err, &p) {
		return fmt.Errorf("fork: %w", err)
	}
	if p.Op == "chdir" {
		return &SpecError{"directory", s.Dir, "cannot be entered: " + p.Err.Error()}
	}
	if errors.Is(p.Err, syscall.E2BIG) {
		return &ExecError{Path: path, Err: syscall.E2BIG}
	}
	return fmt.Errorf("fork: %w", p.Err)
}

// open lets the child go and waits until it has become the analysis.
func (c *child) open() error {
	defer c.closeGate()
	if _, err := c.gate.Write([]byte{barrier.Go}); err != nil {
		return ErrDied
	}
	answer, err := io.ReadAll(c.gate)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	switch len(answer) {
	case 1:
		return nil
	case 5:
		return &ExecError{Path: c.path, Err: syscall.Errno(binary.BigEndian.Uint32(answer[1:]))}
	}
	return ErrDied
}

func (c *child) closeGate() {
	c.gate.Close()
	c.gate = nil
}

// discard ends a child that must not become the analysis, and reaps it.
func (c *child) discard() {
	_ = c.cmd.Process.Kill()
	if c.gate != nil {
		c.closeGate()
	}
	_ = c.cmd.Wait()
}
