package events

import (
	"context"
	"errors"
	"time"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that no run matches. Ask for another id, or list what there is.
	ErrNotFound = errors.New("no such run")
	// ErrAmbiguous says that several runs match a prefix. Give more characters.
	ErrAmbiguous = errors.New("several runs match")
	// ErrAlreadyEnded says that another process completed the record first. Nothing was written; go on as if it had been.
	ErrAlreadyEnded = errors.New("the run has its end record already")
)

// Store keeps runs and events. It is safe for concurrent use, by several processes too. All writes are durable when they
// return nil.
type Store interface {
	// Begin inserts the record of a run that is about to start. Inserting the same run again changes nothing.
	Begin(ctx context.Context, r *Run) error
	// Append writes events in order. An event that is there already is left as it is.
	Append(ctx context.Context, es ...Event) error
	// End completes the record of a run, together with its last events (the ended event among them), in one transaction.
	// A run that the store has never seen (its keeper died before Begin, or used another store) is inserted. If the run has
	// ended already End writes nothing and returns ErrAlreadyEnded. r.State must be final.
	End(ctx context.Context, r *Run, es ...Event) error

	Reader
}

// Reader is the reading half of a Store.
type Reader interface {
	// Run returns the record of one run by its exact id, or ErrNotFound.
	Run(ctx context.Context, id RunID) (*Run, error)
	// Resolve finds the run that a person means: an exact id, else the latest run of an analysis id or a name, else an
	// unambiguous prefix of an id. ErrNotFound, or ErrAmbiguous wrapped with the candidates. A label that is also another
	// run's id as people are shown it (its first 8 characters) is ambiguous.
	Resolve(ctx context.Context, text string) (*Run, error)
	// Runs returns runs, newest first. Those that live have the record they were begun with.
	Runs(ctx context.Context, q RunQuery) ([]*Run, error)
	// Count returns how many runs there are; a limit and an order are not looked at.
	Count(ctx context.Context, q RunQuery) (int, error)
	// Events returns events in the order in which they were stored, oldest first; with Last set, the last ones, still oldest
	// first. An event may be stored later than one that happened after it.
	Events(ctx context.Context, q EventQuery) ([]Event, error)
	// KillsSince counts kill events (Event.IsKill) at or after t.
	KillsSince(ctx context.Context, t time.Time) (int, error)

	Close() error
}

// RunQuery selects runs. Zero fields do not restrict.
type RunQuery struct {
	Live       bool    // only those without an end record
	States     []State // any of these
	AnalysisID string
	// Command asks for runs of exactly this command line (for "the same command peaked at …").
	Command []string
	Since   time.Time // started at or after
	Until   time.Time // started before
	UID     *uint32   // of this user
	Prefix  RunID     // whose id begins so; then in the order of the ids
	Name    string
	Host    string // on this host
	After   RunKey // only those that follow it in the order of the answer, which Prefix must not change
	Limit   int
}

// RunKey is the place of a run in the order of answers: those that started last come first, and of two the one with the higher id.
type RunKey struct {
	StartedAt time.Time
	Run       RunID
}

// EventQuery selects events. Zero fields do not restrict.
type EventQuery struct {
	Run        RunID
	AnalysisID string
	Kinds      []Kind
	KillsOnly  bool // Event.IsKill
	Live       bool // of runs without an end record
	Since      time.Time
	Until      time.Time
	After      int64   // position returned as Cursor by an earlier call; only events stored later
	Last       int     // the last n of those selected
	Limit      int     // the first n of those selected, to be gone on with from Cursor
	UID        *uint32 // of runs of this user
	Host       string  // of runs on this host
	// Cursor, if not nil, receives the position of the last event returned (or After when there is none).
	Cursor *int64
	// Positions, if not nil, receives the position of each event returned. A daemon's clients do not get them.
	Positions *[]int64
}
