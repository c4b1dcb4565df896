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
	for kv, err := range flatKeyed(b) {
		if err != nil {
			return Events{}, err
		}
		switch string(kv.key) {
		case "populated":
			e.Populated, seenPopulated = kv.n == 1, kv.n <= 1
		case "frozen":
			e.Frozen, seenFrozen = kv.n == 1, kv.n <= 1
		}
	}
	if !seenPopulated || !seenFrozen {
		return Events{}, fmt.Errorf("populated or frozen is missing or not 0 or 1 in %q", b)
	}
	return e, nil
}
