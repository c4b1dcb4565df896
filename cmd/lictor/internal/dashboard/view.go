package dashboard

import (
	"context"
	"time"

	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
)

// Source is where the pages get what they show: to each caller what it may see. All text is plain and inert: it may hold what strangers
// wrote, but no control characters. A run that the caller may not see is events.ErrNotFound.
type Source interface {
	Overview(ctx context.Context, who api.Peer) (*Overview, error)
	Runs(ctx context.Context, who api.Peer, q RunsQuery) (*Runs, error)
	Run(ctx context.Context, who api.Peer, id events.RunID) (*Run, error)
	Kills(ctx context.Context, who api.Peer, q events.EventQuery, reason events.Reason) ([]Kill, error)
	// Stop begins to end a run, and does not wait for its end.
	Stop(ctx context.Context, who api.Peer, id events.RunID) error
}

// Overview is the machine.
type Overview struct {
	Host     string
	Live     int
	Grace    int
	Kills    int     // within 24 h
	Reasons  []Count // of those, most first
	Gauges   []Gauge
	Hours    []Hour // the last 24, oldest first
	Events   []EventLine
	Degraded string // what could not be found out
}

// Count is a number of something.
type Count struct {
	What string
	N    int
}

// Gauge is an amount against another.
type Gauge struct {
	Label, Text string
	Used, Of    float64 // Of is 0 if there is nothing to compare it with
}

// Hour is what was killed in one.
type Hour struct {
	Start time.Time
	Kills int
}

// EventLine is an event in a line.
type EventLine struct {
	At     time.Time
	Clock  string // At, for people
	Run    string // id
	Short  string
	Name   string // of the analysis
	Kind   string
	Reason string
	Text   string
	Kill   bool
}

// RunsQuery is what the page of runs shows.
type RunsQuery struct {
	All      bool // ended ones too
	Analysis string
	Page     int // from 0
}

// Runs is a page of runs.
type Runs struct {
	Rows  []Row
	Total int // on all pages
	More  bool
}

// Row is a run in a table.
type Row struct {
	ID, Short, Analysis, State, Reason, Glyph    string
	Memory, Peak, Limit, CPU, Age, Left, Command string
	Used, Of                                     float64 // bytes; Of is 0 without a limit
	Live                                         bool
}

// Run is everything about one.
type Run struct {
	Row
	Headline  string
	Why       []Labelled
	Facts     []Labelled
	Processes string // a tree, in lines
	Steps     []Step
	Evidence  []Evidence
	Events    []EventLine
	Chart     Chart
	Own       bool // the caller may stop it
}

// Labelled is a fact with its name.
type Labelled struct{ Label, Text string }

// Step is one of an escalation.
type Step struct{ At, Step, By string }

// Evidence is a source that was consulted.
type Evidence struct {
	Source string
	Read   bool
	Text   string // what it said, or why it was not read
}

// Kill is a row of the history.
type Kill struct {
	At                                                                     time.Time
	Clock, Run, Short, Analysis, Kind, Reason, Peak, Limit, After, Command string
	MemoryBytes, LimitBytes                                                *uint64
	Seconds                                                                *float64
}
