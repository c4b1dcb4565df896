package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kill sends SIGKILL to every process of the cgroup and its descendants, in one step against which a fork bomb does not help
// (cgroup.kill, Linux 5.14). It works on frozen cgroups. It returns when the signals are sent, not when the processes
// are gone: wait for [Group.Events]; a process in uninterruptible sleep can take for ever.
//
// On older kernels the cgroup is frozen, its processes are killed one by one until no new one turns up, and it is thawed.
func (g *Group) Kill() error {
	err := g.write("cgroup.kill", "1")
	// In a threaded cgroup the file is there and refuses.
	if errors.Is(err, ErrUnsupported) && errors.Is(g.exists("cgroup.kill"), ErrGone) {
		return g.killOneByOne()
	}
	return err
}

// maxKillPasses bounds the fallback. Two are the rule: freezing takes a moment, during which a fork bomb goes on, and every
// pass finds fewer that still run.
const maxKillPasses = 1000

// killOneByOne kills until a pass meets nobody new. A process with a pending SIGKILL cannot fork, so the members that such a
// pass found are all there are.
func (g *Group) killOneByOne() (err error) {
	if err := g.Freeze(true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Freeze(false)) }()
	killed := make(map[int]bool)
	for range maxKillPasses {
		before := len(killed)
		if err := g.killPass(killed); err != nil {
			return err
		}
		if len(killed) == before {
			return nil
		}
	}
	return fmt.Errorf("cgroup %q: new processes after %d passes", g.path, maxKillPasses)
}

func (g *Group) killPass(killed map[int]bool) error {
	sent, err := g.Signal(unix.SIGKILL)
	if err != nil {
		return err
	}
	for _, s := range sent {
		if s.Err != nil {
			return fmt.Errorf("cgroup %q: %w", g.path, s.Err)
		}
		killed[s.PID] = true
	}
	return nil
}

// Freeze stops the cgroup and its descendants, or lets them run again (cgroup.freeze). It returns before they have stopped:
// wait for [Group.Events].
//
// A frozen process dies of SIGKILL, and of SIGTERM and the like if it does not handle them. A handler runs when the cgroup is
// thawed, and not before: who freezes cannot expect a process to obey.
func (g *Group) Freeze(frozen bool) error {
	if frozen {
		return g.write("cgroup.freeze", "1")
	}
	return g.write("cgroup.freeze", "0")
}
