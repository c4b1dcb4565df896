package watcher

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// Intent is what somebody was about to do to a run, on whose word. It is in the store and on the ledger before the
// signal is sent, so that our own kill can never look like a stranger's; the outcome is added after it.
type Intent struct {
	At time.Time `json:"at"`
	// Boottime is At on CLOCK_BOOTTIME, by which causes are put in order.
	Boottime time.Duration `json:"boottime_ns"`
	Reason   events.Reason `json:"reason"` // stop, timeout, abandoned, orphan, signal
	By       string        `json:"by"`     // lictor, launcher, terminal, uid 1000
	UID      *uint32       `json:"uid,omitempty"`
	// Action is "stop", which goes on until nobody is left, or "signal": one signal, which may be caught or ignored and
	// explains the end only if the main process died of it.
	Action string `json:"action"`
	Signal string `json:"signal,omitempty"` // the first one
	// Grace is the time between SIGTERM and SIGKILL of a stop.
	Grace  time.Duration `json:"grace_ns,omitempty"`
	Author int           `json:"author"` // pid of the process that acts
	// Processes are the left-overs that an orphan intent is about, the first few of them.
	Processes []events.Process `json:"processes,omitempty"`
	// Owner is who was gone, of an abandoned intent.
	Owner *events.Process `json:"owner,omitempty"`
	// Steps are the signals so far, on the ledger for whoever writes the record: it may do so before the author can say.
	Steps []events.Step `json:"steps,omitempty"`
	// Left says that the author does not go on with it although somebody is left.
	Left bool `json:"left,omitempty"`
	// Survivors are those who were still there after many a SIGKILL.
	Survivors []events.Process `json:"survivors,omitempty"`
	// Outcome is empty until the signal was sent, then "sent", or "void" if nobody was there to get it.
	Outcome string `json:"outcome,omitempty"`
}

// The actions of an intent.
const (
	ActStop   = "stop"
	ActSignal = "signal"
)

// The outcomes.
const (
	OutcomeSent = "sent"
	OutcomeVoid = "void"
)

const xattrIntent = "user.lictor.intent."

// maxIntentProcesses caps the list on the ledger: the kernel holds at most 128 KiB of attributes for one cgroup.
const maxIntentProcesses = 64

// mark writes an intent onto the ledger under a name of its own; two processes that act at once do not meet.
func (i Intent) mark(ledger *cgroup.Group, name string) error {
	text, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	return ledger.SetXattr(name, string(text))
}

// name is where the intent stands on the ledger.
func (i Intent) name() string {
	return xattrIntent + strconv.FormatInt(int64(i.Boottime), 36) + "." + strconv.Itoa(i.Author)
}

// ReadIntents reads the intents on a ledger, oldest first. One that cannot be parsed is not ours and is left out.
func ReadIntents(ledger *cgroup.Group) ([]Intent, error) {
	attrs, err := ledger.Xattrs(xattrIntent)
	if err != nil {
		return nil, err
	}
	var out []Intent
	for name, text := range attrs {
		var i Intent
		if strings.HasPrefix(name, xattrIntent) && json.Unmarshal([]byte(text), &i) == nil {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Intent) int { return cmp.Compare(a.Boottime, b.Boottime) })
	return out, nil
}

func (i Intent) event(r *events.Run, ordinal int, grace time.Duration) events.Event {
	e := events.NewEvent(r, events.KindIntent, ordinal, i.At)
	e.Reason = i.Reason
	d := events.IntentDetail{Action: i.Action, Signal: i.Signal, By: i.By, UID: i.UID}
	if i.Action == ActStop {
		g := seconds(grace)
		d.GraceSeconds = &g
	}
	e.Detail = detail(d)
	return e
}

// detail marshals a detail struct of package events; those always can be.
func detail(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}
