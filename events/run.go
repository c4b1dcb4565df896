package events

import (
	"encoding/json"
	"time"
)

// State is where a run stands.
type State string

// The states of a run. Starting, running and grace are states of a live run; the others are final.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	StateGrace    State = "grace"  // SIGTERM was sent, waiting
	StateDone     State = "done"   // the main process exited 0 and nobody forced it
	StateFailed   State = "failed" // it exited non-zero, died by a signal of its own making, or could not start
	StateKilled   State = "killed" // somebody or some limit ended it
	StateLost     State = "lost"   // the host went down or the evidence is gone
	// StateEnded is the end of an adopted run that no limit and nobody known forced: the evidence is whole, but how a process
	// exits is told to its parent only, and that was never lictor.
	StateEnded State = "ended"
)

// Final reports whether s is a state that a run does not leave.
func (s State) Final() bool {
	return s == StateDone || s == StateFailed || s == StateKilled || s == StateLost || s == StateEnded
}

// Reason is why a run ended. It is set only when something forced the end.
type Reason string

// The reasons.
const (
	ReasonNone        Reason = ""
	ReasonOOM         Reason = "oom"
	ReasonOOMAncestor Reason = "oom-ancestor"
	ReasonOOMHost     Reason = "oom-host"
	ReasonOOMUnknown  Reason = "oom-unknown"
	ReasonOomd        Reason = "oomd"
	ReasonTimeout     Reason = "timeout"
	ReasonStop        Reason = "stop"
	ReasonAbandoned   Reason = "abandoned"
	ReasonOrphan      Reason = "orphan"
	ReasonSignal      Reason = "signal"
	ReasonStartFailed Reason = "start-failed"
)

// Reasons lists every reason.
var Reasons = []Reason{ReasonOOM, ReasonOOMAncestor, ReasonOOMHost, ReasonOOMUnknown, ReasonOomd, ReasonTimeout,
	ReasonStop, ReasonAbandoned, ReasonOrphan, ReasonSignal, ReasonStartFailed}

// OutOfMemory reports whether the kernel's OOM killer ended the run.
func (r Reason) OutOfMemory() bool {
	switch r {
	case ReasonOOM, ReasonOOMAncestor, ReasonOOMHost, ReasonOOMUnknown:
		return true
	}
	return false
}

// Run is the record of one run: what was started under which limits and, once it has ended, why and with what proof.
// Pointers are nil when the value is not known (JSON null).
type Run struct {
	API        string            `json:"api"`
	Run        RunID             `json:"run"`
	AnalysisID string            `json:"analysis_id"`
	Name       string            `json:"name,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Unit       string            `json:"unit"`
	Service    string            `json:"service,omitempty"` // of the launcher of a detached run; journald has its output
	// ServiceManager is the manager of Service, if that is another one than the run's.
	ServiceManager string   `json:"service_manager,omitempty"`
	Host           string   `json:"host"`
	BootID         string   `json:"boot_id"`
	Manager        string   `json:"manager"` // system or user
	UID            uint32   `json:"uid"`
	Adopted        bool     `json:"adopted,omitempty"`  // it ran before lictor put it into a scope
	Released       bool     `json:"released,omitempty"` // it lives on without limits, on somebody's word
	Command        []string `json:"command"`
	Cwd            string   `json:"cwd"`
	LeaderPID      *int     `json:"leader_pid"`

	State  State  `json:"state"`
	Reason Reason `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // kernel, systemd, lictor, launcher, uid 1000, unknown

	Exit       *Exit      `json:"exit"`
	OOM        OOM        `json:"oom"`
	Victims    []Victim   `json:"victims"`
	Survivors  []Process  `json:"survivors"`
	Limits     Limits     `json:"limits"`
	Usage      Usage      `json:"usage"`
	Escalation []Step     `json:"escalation"`
	Evidence   []Evidence `json:"evidence"`
	Degraded   []string   `json:"degraded"`
	StartedAt  time.Time  `json:"started_at"`
	EndedAt    *time.Time `json:"ended_at"`
	Advice     *Advice    `json:"advice,omitempty"`

	Keeper Keeper `json:"keeper"`
	// Launcher is the parent of the main process, if that is not the keeper.
	Launcher *Keeper `json:"launcher,omitempty"`
}

// Keeper identifies the process that watches the run: a pid means a process only together with its start time and the
// boot it was seen in.
type Keeper struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // field 22 of /proc/PID/stat
}

// Exit is how the main process ended.
type Exit struct {
	Kind   string  `json:"kind"` // exited, signaled or unknown
	Code   *int    `json:"code"`
	Signal *string `json:"signal"`
}

// The kinds of Exit.
const (
	ExitExited   = "exited"
	ExitSignaled = "signaled"
	ExitUnknown  = "unknown"
)

// OOM sums the out-of-memory kills inside the run.
type OOM struct {
	Kills      uint64 `json:"kills"`                 // memory.events oom_kill
	GroupKills uint64 `json:"group_kills"`           // memory.events oom_group_kill
	WhoseLimit string `json:"whose_limit,omitempty"` // own, ancestor, host, unknown; empty without a kill
}

// Victim is a process that the kernel (or a named killer) ended.
type Victim struct {
	PID          int      `json:"pid"`
	Comm         string   `json:"comm,omitempty"`
	Cmdline      []string `json:"cmdline,omitempty"`
	UID          *uint32  `json:"uid,omitempty"`
	RSSAnonBytes *uint64  `json:"rss_anon_bytes"`
	Source       string   `json:"source"` // kernel-log, wait-status, pidfd
}

// Limits are what the scope was started with. Nil is no limit.
type Limits struct {
	MemoryMaxBytes     *uint64  `json:"memory_max_bytes"`
	MemoryHighBytes    *uint64  `json:"memory_high_bytes,omitempty"`
	MemorySwapMaxBytes *uint64  `json:"memory_swap_max_bytes"`
	TasksMax           *uint64  `json:"tasks_max"`
	CPUQuotaPercent    *float64 `json:"cpu_quota_percent,omitempty"`
	RuntimeMaxSeconds  *float64 `json:"runtime_max_seconds"`
	GraceSeconds       float64  `json:"grace_seconds"`
	OOMPolicy          string   `json:"oom_policy"`        // kill or continue
	Default            []string `json:"default,omitempty"` // names of the limits that nobody asked for, e.g. MemoryMax
}

// Usage is what the run used, read from its ledger.
type Usage struct {
	MemoryPeakBytes *uint64  `json:"memory_peak_bytes"`
	CPUSeconds      *float64 `json:"cpu_seconds"`
	WallSeconds     *float64 `json:"wall_seconds"`
	TasksPeak       *uint64  `json:"tasks_peak"`
}

// Step is one step of an escalation.
type Step struct {
	Step string    `json:"step"` // term, kill, empty, survived
	At   time.Time `json:"at"`
	By   string    `json:"by,omitempty"`
}

// Evidence is one source that was consulted for the verdict, whether it could be read, and what it said.
type Evidence struct {
	Source string          `json:"source"` // ledger, wait-status, pidfd, intent, unit, kernel-log, lictor.slice, systemd
	Read   bool            `json:"read"`
	Why    string          `json:"why,omitempty"` // why it was not read
	Values json.RawMessage `json:"values,omitempty"`
}

// Advice is a next step for a person, with the command that does it.
type Advice struct {
	Code    string   `json:"code"` // raise-memory, raise-runtime, …
	Text    string   `json:"text"`
	Command []string `json:"command,omitempty"`
}
