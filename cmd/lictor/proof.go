package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/scidex/lictor/events"
)

// The rows that come from the evidence of a record. Values that are missing or of another shape say nothing.

// source returns what one source said.
func (s story) source(name string) (e events.Evidence, values map[string]json.RawMessage, ok bool) {
	for _, e := range s.Evidence {
		if e.Source == name {
			return e, readAs[map[string]json.RawMessage](e.Values), true
		}
	}
	return events.Evidence{}, nil, false
}

// readAs reads JSON; what is of another shape reads as nothing.
func readAs[T any](text json.RawMessage) T {
	var v, nothing T
	if json.Unmarshal(text, &v) != nil {
		return nothing
	}
	return v
}

// number reads one value as a number; "max" and other words are not.
func number(values map[string]json.RawMessage, key string) (n uint64, ok bool) {
	return n, values[key] != nil && json.Unmarshal(values[key], &n) == nil
}

// whyNot is why a source was not read, in parentheses.
func (s story) whyNot(name string) string {
	if e, _, ok := s.source(name); ok && !e.Read && e.Why != "" {
		return " (" + name + ": " + e.Why + ")"
	}
	return ""
}

// notOthers is the proof that the run's own limit was the one: what else there was to have.
func (s story) notOthers() string {
	if s.Reason != events.ReasonOOM {
		return ""
	}
	var parts []string
	if _, host, ok := s.source("host"); ok {
		free, known := number(host, "MemAvailable")
		total, alsoKnown := number(host, "MemTotal")
		if known && alsoKnown {
			parts = append(parts, fmt.Sprintf("the host had %s of %s free", preciseBytes(free), preciseBytes(total)))
		}
	}
	if _, slice, ok := s.source("lictor.slice"); ok {
		used, known := number(slice, "memory.current")
		most, limited := number(slice, "memory.max")
		if known && limited {
			parts = append(parts, fmt.Sprintf("lictor.slice was at %s of %s", preciseBytes(used), preciseBytes(most)))
		}
	}
	if len(parts) == 0 {
		return s.ledgerProof()
	}
	return strings.Join(parts, "; ")
}

// ledgerProof is the proof where nothing about others was recorded: a run's own counter rises only at its own limit.
func (s story) ledgerProof() string {
	oom, ok := s.ledgerCounter("oom")
	if !ok || oom == 0 {
		return ""
	}
	return fmt.Sprintf("the run's own memory.events counted it (oom %d), which only its own limit does", oom)
}

func (s story) ledgerCounter(key string) (uint64, bool) {
	_, ledger, _ := s.source("ledger")
	return number(readAs[map[string]json.RawMessage](ledger["memory.events"]), key)
}

// notOwn is the proof that it was not the run's own limit.
func (s story) notOwn() string {
	switch s.Reason {
	case events.ReasonOOMAncestor, events.ReasonOOMHost, events.ReasonOOMUnknown:
	default:
		return ""
	}
	text := "its own limit was not reached"
	if oom, ok := s.ledgerCounter("oom"); ok && oom == 0 {
		text += " (memory.events: oom 0)"
	}
	return text
}

// whose names the limits above the run that were reached while it lived.
func (s story) whose() string {
	if s.Reason != events.ReasonOOMAncestor {
		return ""
	}
	var names []string
	for path, times := range s.ancestors() {
		names = append(names, fmt.Sprintf("%s (%s)", path, count(int(times), "time", "times")))
	}
	if len(names) == 0 {
		return "which limit is not known" + s.whyNot("kernel-log")
	}
	slices.Sort(names)
	return "the limit of " + strings.Join(names, " and of ") + " was reached"
}

// ancestors returns how often each cgroup above hit its own limit while the run lived, without those that never did.
func (s story) ancestors() map[string]uint64 {
	_, values, _ := s.source("ancestors")
	times := readAs[map[string]uint64](values["oom"])
	maps.DeleteFunc(times, func(_ string, n uint64) bool { return n == 0 })
	return times
}

// consulted lists the sources, where the answer is that something is not known.
func (s story) consulted() string {
	unknown := s.Reason == events.ReasonOOMUnknown || s.State == events.StateLost ||
		s.Reason == events.ReasonSignal && (s.By == "" || s.By == "unknown")
	if !unknown || len(s.Evidence) == 0 {
		return ""
	}
	var read, not []string
	for _, e := range s.Evidence {
		switch {
		case !e.Read && e.Why != "":
			not = append(not, e.Source+" ("+e.Why+")")
		case !e.Read:
			not = append(not, e.Source)
		default:
			read = append(read, e.Source+s.saying(e))
		}
	}
	text := "nothing"
	if len(read) > 0 {
		text = strings.Join(read, ", ")
	}
	if len(not) > 0 {
		text += "; not read: " + strings.Join(not, ", ")
	}
	return text
}

// saying is the gist of a source in a word or two.
func (s story) saying(e events.Evidence) string {
	_, values, _ := s.source(e.Source)
	switch e.Source {
	case "unit":
		if word := readAs[string](values["Result"]); word != "" {
			return " (Result " + word + ")"
		}
	case "ledger":
		if n, ok := s.ledgerCounter("oom_kill"); ok {
			return fmt.Sprintf(" (oom_kill %d)", n)
		}
	}
	return ""
}
