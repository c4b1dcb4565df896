package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Signalled is a process that a signal was meant for.
type Signalled struct {
	PID int
	Err error // nil: the kernel took the signal; EPERM and the like: it did not
}

// Signal sends sig to every process of the cgroup and its descendants. It never signals a number: each process is pinned by a
// pidfd, then found to be still a member, then signalled through the pidfd.
//
// Processes that ended or left meanwhile are not in the result. Ones that were forked meanwhile can be missed: that is what
// [Group.Kill] is for. The error is about the listing; with [ErrHidden] the processes that can be seen were signalled.
func (g *Group) Signal(sig unix.Signal) ([]Signalled, error) {
	pids, err := g.AllProcs()
	if err != nil && !errors.Is(err, ErrHidden) {
		return nil, err
	}
	var result []Signalled
	for _, pid := range pids {
		sendErr := g.signalMember(pid, sig)
		switch {
		case errors.Is(sendErr, ErrNoProcess):
			continue
		case errors.Is(sendErr, ErrGone): // the whole cgroup, and with it everybody who was meant
			return result, sendErr
		}
		result = append(result, Signalled{pid, sendErr})
	}
	return result, err
}

// signalMember sends sig to a process that is a member of g at a moment when its pidfd is already open.
func (g *Group) signalMember(pid int, sig unix.Signal) error {
	return signalPinned(pid, sig, func() error {
		member, err := g.contains(pid)
		if err == nil && !member {
			err = ErrNoProcess
		}
		return err
	})
}

// contains reports whether a process is a member of g or a descendant. /proc gives a path; it means this cgroup and not a
// later one of the same name because g is still there after the path was read.
func (g *Group) contains(pid int) (bool, error) {
	name, err := g.fs.PathOf(pid)
	if errors.Is(err, ErrGone) { // a zombie
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := g.exists(lifeSign); err != nil {
		return false, fmt.Errorf("cgroup %q: %w", g.path, err)
	}
	return isBelow(name, g.path), nil
}

// isBelow reports whether the cgroup at name is the one at root or inside it.
func isBelow(name, root string) bool {
	return root == "/" || name == root || strings.HasPrefix(name, root+"/")
}

// SignalPID sends sig to the process that has this pid and started at startTicks (see [StartTicks]). It returns
// [ErrNoProcess] if that one has ended, whoever has the number now.
func SignalPID(pid int, startTicks uint64, sig unix.Signal) error {
	return signalPinned(pid, sig, func() error {
		ticks, err := StartTicks(pid)
		if err == nil && ticks != startTicks {
			err = procError(pid, ErrNoProcess)
		}
		return err
	})
}

// signalPinned opens a pidfd, calls check, and signals through the pidfd if check finds nothing wrong. What check learns about
// the number is about the pinned process: if that one had ended and the number had been given out again between the two,
// the signal goes nowhere.
func signalPinned(pid int, sig unix.Signal, check func() error) error {
	fd, err := ignoringEINTR(func() (int, error) { return unix.PidfdOpen(pid, 0) })
	if err != nil {
		return procError(pid, err)
	}
	defer unix.Close(fd)
	if err := check(); err != nil {
		return err
	}
	return procError(pid, unix.PidfdSendSignal(fd, sig, nil, 0))
}

// procError names the process, and turns the ways in which the kernel says "ended" into ErrNoProcess.
func procError(pid int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT):
		err = ErrNoProcess
	}
	return fmt.Errorf("process %d: %w", pid, err)
}
