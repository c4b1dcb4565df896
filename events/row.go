package events

import (
	"math"
	"time"
)

// runRow is a run as the databases keep it: the record, and beside it what is searched by. Its strings are clean.
type runRow struct {
	run, label, name, unit, host, bootID string
	uid                                  int64
	leaderPID                            *int64
	command                              string // a JSON array
	memoryMax                            *int64
	runtimeMax                           *float64
	memoryPeak                           *int64
	state, reason                        string
	started                              int64 // nanoseconds since 1970, as all times
	endedAt                              *int64
	ended                                bool // the end record is there
	record                               string
}

func newRunRow(r *Run, ended bool) (row runRow, err error) {
	record, err := EncodeRun(r)
	if err != nil {
		return row, err
	}
	command, err := marshal(list(r.Command))
	if err != nil {
		return row, err
	}
	row = runRow{
		run: Clean(string(r.Run)), label: Clean(r.AnalysisID), name: Clean(r.Name), unit: Clean(r.Unit), host: Clean(r.Host),
		bootID: Clean(r.BootID), uid: int64(r.UID), command: string(command), memoryMax: integer(r.Limits.MemoryMaxBytes),
		runtimeMax: r.Limits.RuntimeMaxSeconds, memoryPeak: integer(r.Usage.MemoryPeakBytes), state: Clean(string(r.State)),
		reason: Clean(string(r.Reason)), started: nanos(r.StartedAt), ended: ended, record: string(record),
	}
	if r.LeaderPID != nil {
		row.leaderPID = new(int64(*r.LeaderPID))
	}
	if r.EndedAt != nil {
		row.endedAt = new(nanos(*r.EndedAt))
	}
	return row, nil
}

// eventRow is an event as the databases keep it.
type eventRow struct {
	id, run, label, kind string
	ordinal              int
	at                   int64
	state, reason        string
	isKill               bool
	event                string
}

func newEventRow(e *Event) (row eventRow, err error) {
	event, err := EncodeEvent(e)
	if err != nil {
		return row, err
	}
	return eventRow{id: Clean(eventID(e)), run: Clean(string(e.Run)), label: Clean(e.AnalysisID), kind: Clean(string(e.Kind)),
		ordinal: e.Ordinal, at: nanos(e.At), state: Clean(string(e.State)), reason: Clean(string(e.Reason)), isKill: e.IsKill(),
		event: string(event)}, nil
}

// integer is n for a column: SQL has no unsigned numbers. Nil is NULL.
func integer(n *uint64) *int64 {
	if n == nil {
		return nil
	}
	return new(int64(min(*n, math.MaxInt64)))
}

// atNanos is the time of a column. PostgreSQL's timestamptz keeps its microseconds, rounded down.
func atNanos(n int64) time.Time { return time.Unix(0, n).UTC() }
