package events

import (
	"encoding/json"
	"time"
)

// API is the version of the JSON that this package reads and writes. Changes to it are additive.
const API = "lictor/v1"

// RunID names one run: a short lower-case token that also names its units.
type RunID string

// Kind is what an event says happened.
type Kind string

// The kinds of events.
const (
	KindStarted       Kind = "started"        // the analysis was let go
	KindAdopted       Kind = "adopted"        // a running process tree was put into a scope
	KindOOM           Kind = "oom"            // the kernel killed for memory inside the run, terminal or not
	KindTasksLimit    Kind = "tasks-limit"    // a fork was refused at TasksMax
	KindLimitChanged  Kind = "limit-changed"  // a limit of the live scope is not the one it was started with
	KindEscaped       Kind = "escaped"        // a process of the run was found outside its scope
	KindIntent        Kind = "intent"         // written before a signal is sent or a stop is asked for
	KindTerm          Kind = "term"           // SIGTERM was sent, to whom
	KindKill          Kind = "kill"           // SIGKILL was sent, to whom
	KindSurvived      Kind = "survived"       // processes outlive SIGKILL: they hang in the kernel. SIGKILL is sent now and then
	KindOrphans       Kind = "orphans"        // left-over processes were ended after the main process had gone
	KindKeeperChanged Kind = "keeper-changed" // another process took over the watching
	KindEnded         Kind = "ended"          // the run ended; its record is complete

	// KindStoreReplaced is of no run: the database file was damaged, was set aside, and a new one began.
	KindStoreReplaced Kind = "store-replaced"
)

// Kinds lists every kind, in the order of a run's life.
var Kinds = []Kind{KindStarted, KindAdopted, KindOOM, KindTasksLimit, KindLimitChanged, KindEscaped, KindIntent,
	KindTerm, KindKill, KindSurvived, KindOrphans, KindKeeperChanged, KindEnded, KindStoreReplaced}

// Event is one fact about a run. Optional fields are nil when they do not apply or are not known.
type Event struct {
	API             string          `json:"api"`
	ID              string          `json:"id"` // deterministic: EventID(Run, Kind, Ordinal)
	Run             RunID           `json:"run"`
	AnalysisID      string          `json:"analysis_id,omitempty"`
	Kind            Kind            `json:"kind"`
	At              time.Time       `json:"at"`
	State           State           `json:"state,omitempty"`  // ended only
	Reason          Reason          `json:"reason,omitempty"` // why something was or will be forced to end
	PID             *int            `json:"pid,omitempty"`
	MemoryBytes     *uint64         `json:"memory_bytes,omitempty"` // peak for ended and oom
	DurationSeconds *float64        `json:"duration_seconds,omitempty"`
	Detail          json.RawMessage `json:"detail,omitempty"` // a JSON object whose shape depends on Kind

	Ordinal int `json:"-"` // counts events of one kind in one run, from 0
}

// NewEvent returns an event of run r with its identity filled in. The n-th event of a kind in a run is always the same
// event, whoever observed it. An ended event has the state and the reason of r.
func NewEvent(r *Run, kind Kind, ordinal int, at time.Time) Event {
	e := Event{API: API, ID: EventID(r.Run, kind, ordinal), Run: r.Run, AnalysisID: r.AnalysisID, Kind: kind,
		Ordinal: ordinal, At: at.UTC()}
	if kind == KindEnded {
		e.State, e.Reason = r.State, r.Reason
	}
	return e
}

// IsKill reports whether e counts as a kill: what `lictor kills` lists and kills_last_24h counts. That is the end of a
// killed run, left-overs that were ended, or an out-of-memory kill in a run that lives on (an oom event whose detail
// says that the run ended with it is counted once, by its ended event).
func (e *Event) IsKill() bool {
	switch e.Kind {
	case KindEnded:
		return e.State == StateKilled
	case KindOrphans:
		return true
	case KindOOM:
		var d OOMDetail
		return json.Unmarshal(e.Detail, &d) == nil && !d.Terminal
	default:
		return false
	}
}

// OOMDetail is the detail of an oom event.
type OOMDetail struct {
	Kills      uint64   `json:"kills"`       // processes counted by memory.events oom_kill since the last event
	GroupKills uint64   `json:"group_kills"` // oom_group_kill since the last event
	WhoseLimit string   `json:"whose_limit"` // own, ancestor, host or unknown
	Victims    []Victim `json:"victims,omitempty"`
	Terminal   bool     `json:"terminal"` // the run ended with this kill
}

// EndedDetail is the detail of an ended event.
type EndedDetail struct {
	By   string `json:"by"`
	Exit *Exit  `json:"exit"`
	OOM  OOM    `json:"oom"`
	// BlackBox is what a killed run held before its end, where a daemon watched. Nil is not known.
	BlackBox *BlackBox `json:"black_box,omitempty"`
}

// BlackBox are readings of memory.current: in the last minute every second while it moved, before that ever fewer.
type BlackBox struct {
	Seconds     []float64 `json:"seconds"` // relative to the end: 0 or less
	MemoryBytes []uint64  `json:"memory_bytes"`
}

// IntentDetail is the detail of an intent event: who is about to do what, and on whose word.
type IntentDetail struct {
	Action string  `json:"action"`           // stop, kill, signal
	Signal string  `json:"signal,omitempty"` // SIGTERM, …
	By     string  `json:"by"`               // lictor, launcher, a user
	UID    *uint32 `json:"uid,omitempty"`    // who asked
	PIDs   []int   `json:"pids,omitempty"`   // to whom, if not the whole scope
	// GraceSeconds is the time between SIGTERM and SIGKILL.
	GraceSeconds *float64 `json:"grace_seconds,omitempty"`
}

// StepDetail is the detail of a term or kill event: what was done and to how many.
type StepDetail struct {
	By     string `json:"by"`
	Signal string `json:"signal,omitempty"`
	PIDs   []int  `json:"pids,omitempty"`
}

// EscapedDetail is the detail of an escaped event: a process outside the scope of the run whose LICTOR_RUN it has in its
// environment. Anybody can put it into that of an own process: SameUID and AfterStart say how likely that is.
type EscapedDetail struct {
	Process    Process `json:"process"`
	StartTicks uint64  `json:"start_ticks"`
	Cgroup     string  `json:"cgroup"`      // path
	SameUID    bool    `json:"same_uid"`    // the user of the run runs it
	AfterStart bool    `json:"after_start"` // it is younger than the run
	Kill       bool    `json:"kill"`        // it is killed for it (lictor run --kill-escaped)
}

// SurvivedDetail is the detail of a survived event: who was still there after how many SIGKILLs. They are named once; the run
// goes on, being ended, until the kernel lets go of them.
type SurvivedDetail struct {
	Processes []Process `json:"processes"`
	Kills     int       `json:"kills"`
}

// OrphansDetail is the detail of an orphans event.
type OrphansDetail struct {
	Processes []Process `json:"processes"`
}

// LimitDetail is the detail of a limit-changed event: one limit of a live run. Bytes, a number, or percent of a processor;
// nil is no limit.
type LimitDetail struct {
	Limit string   `json:"limit"` // MemoryMax, TasksMax, …
	Old   *float64 `json:"old"`
	New   *float64 `json:"new"`
	Value string   `json:"value,omitempty"` // of a property that is no limit; then Old and New say nothing
	By    string   `json:"by"`              // uid 1000, unknown
	UID   *uint32  `json:"uid,omitempty"`
}

// Process describes a process as the sweep saw it. Nil is not known.
type Process struct {
	PID        int      `json:"pid"`
	PPID       *int     `json:"ppid,omitempty"`
	Comm       string   `json:"comm,omitempty"`
	Cmdline    []string `json:"cmdline,omitempty"`
	UID        *uint32  `json:"uid,omitempty"`
	State      string   `json:"state,omitempty"`
	WChan      string   `json:"wchan,omitempty"` // where in the kernel it sleeps, of one in uninterruptible sleep
	RSSBytes   *uint64  `json:"rss_bytes,omitempty"`
	AgeSeconds *float64 `json:"age_seconds,omitempty"`
	Outcome    string   `json:"outcome,omitempty"` // term, kill, survived
}
