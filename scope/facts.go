package scope

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// The extended attributes on a ledger: what a process that comes later must know of a run, kept by the kernel. One JSON
// object holds what never changes; the keeper is apart, because it does.
const (
	xattrFacts  = "user.lictor.facts"
	xattrKeeper = "user.lictor.keeper"
)

// ProcessID identifies a process beyond the reuse of its number, within one boot.
type ProcessID struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // field 22 of /proc/PID/stat
}

// Alive reports whether the process still exists (a zombie counts as gone). It says no only when that is known: a process
// that cannot be looked at for want of descriptors is not dead, and what it keeps or owns must not be ended for it.
func (p ProcessID) Alive() bool {
	st, err := cgroup.ReadStat(p.PID)
	if err != nil {
		return !errors.Is(err, cgroup.ErrNoProcess)
	}
	return st.StartTicks == p.StartTicks && st.State != 'Z' && st.State != 'X'
}

// Facts is what is written on a ledger.
type Facts struct {
	Run        RunID             `json:"run"`
	AnalysisID string            `json:"analysis_id,omitempty"`
	UID        uint32            `json:"uid"`
	BootID     string            `json:"boot_id"`
	Leader     ProcessID         `json:"leader"`
	Launcher   ProcessID         `json:"launcher,omitzero"` // the parent of the leader; zero if it was adopted
	StartedAt  time.Time         `json:"started_at"`
	Started    time.Duration     `json:"started_boottime_ns"`            // CLOCK_BOOTTIME
	Deadline   *time.Duration    `json:"deadline_boottime_ns,omitempty"` // CLOCK_BOOTTIME; nil is none
	MemoryMax  uint64            `json:"memory_max"`                     // bytes; NoLimit is none
	SwapMax    uint64            `json:"memory_swap_max"`
	TasksMax   uint64            `json:"tasks_max,omitempty"`
	MemoryHigh uint64            `json:"memory_high,omitempty"` // bytes; 0 is none
	CPUQuota   float64           `json:"cpu_quota,omitempty"`   // in CPUs; 0 is none
	Setter     ProcessID         `json:"setter,omitzero"`       // who is changing the limits right now
	Grace      time.Duration     `json:"grace_ns"`
	OOMPolicy  OOMPolicy         `json:"oom_policy"`
	Owner      ProcessID         `json:"owner"`             // what became of it decides, with the next, what becomes of the run
	OwnerExit  OwnerPolicy       `json:"on_owner_exit"`     // kill or keep
	Adopted    bool              `json:"adopted,omitempty"` // it ran before; lictor is not its parent and nobody keeps it
	Degraded   []string          `json:"degraded,omitempty"`
	Ancestors  map[string]uint64 `json:"ancestors,omitempty"` // cgroup path → memory.events.local oom when the run started
	Store      string            `json:"store,omitempty"`     // where its keeper writes, for whoever comes next
	Nonce      string            `json:"nonce,omitempty"`     // of what is killed when it leaves the scope; "" is nothing
	Command    []string          `json:"command,omitempty"`   // absent if it is longer than maxFactCommand
}

// maxFactCommand caps the command line on the ledger, in bytes; the store has the whole of it.
const maxFactCommand = 2048

func writeFacts(g *cgroup.Group, f Facts) error {
	n := 0
	for _, a := range f.Command {
		n += len(a)
	}
	if n > maxFactCommand {
		f.Command = nil
	}
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("ledger facts: %w", err)
	}
	return g.SetXattr(xattrFacts, string(text))
}

// WriteKeeper says on the ledger who watches the run from now on.
func WriteKeeper(g *cgroup.Group, keeper ProcessID) error {
	text, err := json.Marshal(keeper)
	if err != nil {
		return fmt.Errorf("ledger keeper: %w", err)
	}
	return g.SetXattr(xattrKeeper, string(text))
}

// ReadFacts reads what is written on a ledger. ok is false if nothing is: its launcher has not come that far, or died.
func ReadFacts(g *cgroup.Group) (f Facts, keeper ProcessID, ok bool, err error) {
	text, found, err := g.Xattr(xattrFacts)
	if err != nil || !found {
		return f, keeper, false, err
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return f, keeper, false, fmt.Errorf("ledger facts of %q: %w", g.Path(), err)
	}
	text, found, err = g.Xattr(xattrKeeper)
	if err != nil || !found {
		return f, keeper, found, err
	}
	if err := json.Unmarshal([]byte(text), &keeper); err != nil {
		return f, keeper, false, fmt.Errorf("ledger keeper of %q: %w", g.Path(), err)
	}
	return f, keeper, true, nil
}

// Self is the identity of this process.
func Self() (ProcessID, error) { return identify(os.Getpid()) }

func identify(pid int) (ProcessID, error) {
	ticks, err := cgroup.StartTicks(pid)
	return ProcessID{PID: pid, StartTicks: ticks}, err
}
