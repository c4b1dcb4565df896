package cgroup

import (
	"errors"
	"fmt"
	"io"
)

// PidsCurrent is the number of processes and threads in the cgroup and its descendants (pids.current).
func (g *Group) PidsCurrent() (uint64, error) { return g.readUint("pids.current") }

// PidsPeak is the most that PidsCurrent ever was (pids.peak); unset before Linux 6.1.
func (g *Group) PidsPeak() (Value, error) { return g.readValue("pids.peak") }

// PidsEvents is how often a fork failed (pids.events, key max). What it covers depends on the kernel. Linux 6.1 counts, in
// the cgroup of the process that forked and nowhere else, refusals by its own limit or an ancestor's. Linux 6.12 counts, in
// the cgroup whose limit refused and in its ancestors; the mount option pids_localevents brings the old way back. So on the old ones the
// count is lost with the cgroup.
func (g *Group) PidsEvents() (uint64, error) { return g.readPidsEvents("pids.events") }

// PidsEventsLocal is how often a fork failed because of the pids.max of this very cgroup (pids.events.local); not in
// Linux 6.1, where it is unset, and in 6.12.
func (g *Group) PidsEventsLocal() (Value, error) {
	n, err := g.readPidsEvents("pids.events.local")
	if errors.Is(err, ErrUnsupported) {
		return Unset, nil
	}
	if err != nil {
		return Unset, err
	}
	return Number(n), nil
}

func (g *Group) readPidsEvents(file string) (uint64, error) {
	var buf [64]byte
	b, err := g.read(file, buf[:])
	if err != nil {
		return 0, err
	}
	n, err := parsePidsEvents(b)
	if err != nil {
		return 0, fileError(g.path, file, err)
	}
	return n, nil
}

// ParsePidsEvents reads pids.events or pids.events.local:
//
//	max 4
//
// Unknown keys are ignored. A file without max is malformed.
func ParsePidsEvents(r io.Reader) (uint64, error) {
	b, err := readBounded(r)
	if err != nil {
		return 0, err
	}
	return parsePidsEvents(b)
}

func parsePidsEvents(b []byte) (uint64, error) {
	var n uint64
	seen := false
	line := keyed{rest: b}.next()
	for ; line.ok; line = line.next() {
		if string(line.key) == "max" {
			n, seen = line.n, true
		}
	}
	if line.bad {
		return 0, malformed(line.key)
	}
	if !seen {
		return 0, fmt.Errorf("max is missing in %q", string(b))
	}
	return n, nil
}
