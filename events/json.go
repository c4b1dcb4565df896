package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// MarshalJSON writes the record as lictor/v1 has it: lists are never null, times are in UTC.
func (r Run) MarshalJSON() ([]byte, error) {
	type plain Run // without this method
	p := plain(r)
	p.API = API
	p.Command = list(p.Command)
	p.Victims = list(p.Victims)
	p.Survivors = list(p.Survivors)
	p.Escalation = utcSteps(p.Escalation)
	p.Evidence = list(p.Evidence)
	p.Degraded = list(p.Degraded)
	p.StartedAt = p.StartedAt.UTC()
	if p.EndedAt != nil {
		t := p.EndedAt.UTC()
		p.EndedAt = &t
	}
	return json.Marshal(p)
}

// MarshalJSON writes the event as lictor/v1 has it. An event whose ID was not set gets the one that follows from its
// identity.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event
	p := plain(e)
	p.API = API
	p.ID = eventID(&e)
	p.At = p.At.UTC()
	return json.Marshal(p)
}

// list returns s, or an empty list for nil.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func utcSteps(s []Step) []Step {
	u := make([]Step, len(s))
	for i, step := range s {
		step.At = step.At.UTC()
		u[i] = step
	}
	return u
}

// EncodeRun is r as it is stored and handed out: the JSON of lictor/v1, in which every string is safe (Clean).
func EncodeRun(r *Run) ([]byte, error) { return marshal(*r) }

// EncodeEvent is e as it is stored and handed out.
func EncodeEvent(e *Event) ([]byte, error) { return marshal(*e) }

// DecodeRun reads a stored record.
func DecodeRun(b []byte) (*Run, error) {
	r := new(Run)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("stored run record: %w", err)
	}
	return r, nil
}

// DecodeEvent reads a stored event; its ordinal is not part of the JSON.
func DecodeEvent(b []byte, ordinal int) (Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("stored event: %w", err)
	}
	e.Ordinal = ordinal
	return e, nil
}

// nanos is t as the databases keep it: nanoseconds since 1970, which sort. Times that an int64 cannot hold (the zero
// Time) become the nearest that it can, so that they still sort; the JSON keeps what they were.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, minNanos)):
		return minNanos
	case t.After(time.Unix(0, maxNanos)):
		return maxNanos
	default:
		return t.UnixNano()
	}
}

const (
	minNanos = -1 << 63
	maxNanos = 1<<63 - 1
)
