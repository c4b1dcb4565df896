package cgroup

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// Procs lists the processes of this cgroup, descendants excluded, sorted (cgroup.procs). Zombies are not in it.
//
// A process of a pid namespace that is not visible from here is written as 0 by the kernel. It is left out, and the error is
// [ErrHidden]; the list is valid nevertheless. The numbers are a snapshot: see [Group.Signal] before using one.
func (g *Group) Procs() ([]int, error) {
	var buf [1024]byte
	b, err := g.readProcs(buf[:])
	if err != nil {
		return nil, err
	}
	pids, hidden, err := parseProcs(b)
	if err != nil {
		return nil, fileError(g.path, "cgroup.procs", err)
	}
	if hidden > 0 {
		return pids, fileError(g.path, "cgroup.procs", fmt.Errorf("%d: %w", hidden, ErrHidden))
	}
	return pids, nil
}

// AllProcs lists the processes of this cgroup and its descendants, sorted; what [Group.Procs] says about hidden ones holds.
// Descendants that are removed meanwhile count as empty. A process that moves from one to another meanwhile can be missing: freeze
// first, or ask until nothing new turns up.
func (g *Group) AllProcs() ([]int, error) {
	pids, err := g.allProcs()
	slices.Sort(pids)
	return slices.Compact(pids), err
}

func (g *Group) allProcs() ([]int, error) {
	pids, err := g.Procs()
	if err != nil && !errors.Is(err, ErrHidden) {
		return nil, err
	}
	hidden := err
	children, err := g.Children()
	if err != nil {
		return nil, err
	}
	for _, name := range children {
		below, err := g.childProcs(name)
		switch {
		case errors.Is(err, ErrGone):
			continue
		case errors.Is(err, ErrUnsupported): // threaded: its processes are those of the domain above
			continue
		case errors.Is(err, ErrHidden):
			hidden = err
		case err != nil:
			return nil, err
		}
		pids = append(pids, below...)
	}
	return pids, hidden
}

func (g *Group) childProcs(name string) ([]int, error) {
	child, err := g.Child(name)
	if err != nil {
		return nil, err
	}
	defer child.Close()
	return child.allProcs()
}

// readProcs returns cgroup.procs, in buf if it fits. The kernel writes this one line by line: only a read of nothing is the end.
func (g *Group) readProcs(buf []byte) ([]byte, error) {
	fd, err := g.open("cgroup.procs", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for n := 0; ; {
		m, err := readFD(fd, buf[n:])
		if err != nil {
			return nil, fileError(g.path, "cgroup.procs", meaning(err))
		}
		if m == 0 {
			return buf[:n], nil
		}
		if n += m; n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// ParseProcs reads cgroup.procs:
//
//	4711
//	0
//	4712
//
// hidden counts the zeros. The pids are returned sorted and once each: the kernel promises neither.
func ParseProcs(r io.Reader) (pids []int, hidden int, err error) {
	b, err := readBounded(r)
	if err != nil {
		return nil, 0, err
	}
	return parseProcs(b)
}

func parseProcs(b []byte) (pids []int, hidden int, err error) {
	for rest := b; len(rest) > 0; {
		var line []byte
		line, rest = nextLine(rest)
		n, err := parseUint(line)
		if err != nil || n > math.MaxInt32 {
			return nil, 0, malformed(line)
		}
		if n == 0 {
			hidden++
			continue
		}
		pids = append(pids, int(n))
	}
	slices.Sort(pids)
	return slices.Compact(pids), hidden, nil
}
