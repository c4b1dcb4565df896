package cgroup

import (
	"fmt"
	"io"
)

// Events is cgroup.events.
type Events struct {
	Populated bool // the cgroup or a descendant has a process that is not a zombie
	Frozen    bool // every process below is stopped by cgroup.freeze
}

// Events reads cgroup.events. The root has none: [ErrUnsupported].
func (g *Group) Events() (Events, error) {
	var buf [64]byte
	b, err := g.read("cgroup.events", buf[:])
	if err != nil {
		return Events{}, err
	}
	e, err := parseEvents(b)
	if err != nil {
		return Events{}, fileError(g.path, "cgroup.events", err)
	}
	return e, nil
}

// Populated is [Group.Events] for who wants nothing else.
func (g *Group) Populated() (bool, error) {
	e, err := g.Events()
	return e.Populated, err
}

// Frozen is [Group.Events] for who wants nothing else.
func (g *Group) Frozen() (bool, error) {
	e, err := g.Events()
	return e.Frozen, err
}

// ParseEvents reads cgroup.events:
//
//	populated 1
//	frozen 0
//
// Unknown keys are ignored. A file without both is malformed, and so is a value that is neither 0 nor 1.
func ParseEvents(r io.Reader) (Events, error) {
	b, err := readBounded(r)
	if err != nil {
		return Events{}, err
	}
	return parseEvents(b)
}

func parseEvents(b []byte) (Events, error) {
	var e Events
	var seenPopulated, seenFrozen bool
	line := keyed{rest: b}.next()
	for ; line.ok; line = line.next() {
		switch string(line.key) {
		case "populated":
			e.Populated, seenPopulated = line.n == 1, line.n <= 1
		case "frozen":
			e.Frozen, seenFrozen = line.n == 1, line.n <= 1
		}
	}
	if line.bad {
		return Events{}, malformed(line.key)
	}
	if !seenPopulated || !seenFrozen {
		return Events{}, fmt.Errorf("populated or frozen is missing or not 0 or 1 in %q", string(b))
	}
	return e, nil
}
