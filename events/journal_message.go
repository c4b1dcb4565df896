package events

import (
	"encoding/json"
	"strconv"
	"strings"
)

// MessageIDs are journald's MESSAGE_ID of each kind. They are fixed for ever: deploy/lictor.catalog explains them, and
// people's log filters name them.
var MessageIDs = map[Kind]string{
	KindStarted:       "80e472d6a0e74c17a37e8495e810b04b",
	KindAdopted:       "b962b648ab794c79ad1cfbe0ebed69c0",
	KindOOM:           "0ddcbbb419c64152ad89883558ec7bd6",
	KindTasksLimit:    "6758212525ef4c6091a1468670ca8424",
	KindLimitChanged:  "cf5eed76e72f4be2a936aa6477dcba89",
	KindEscaped:       "307656be856e43909e9a5f9530539369",
	KindIntent:        "833842f08260422e8336a54b810bafb2",
	KindTerm:          "4b4dc7cdcac3467bbcf9230719698818",
	KindKill:          "4f98e24b59c24259a03a374652fa16db",
	KindSurvived:      "fd515185df3c41ba95e51cc86fd4005a",
	KindOrphans:       "7cdcb61743824c37ba7c3fb3f935db3d",
	KindKeeperChanged: "254ac20ba1d64175abd4d037caa064de",
	KindEnded:         "01dc14040c0c47929b120a1a9c974170",
	KindStoreReplaced: "5a0d1b7f4d5b4c0fa1c4c2f7d1f7a9be",
}

// message is the sentence of a journal entry, without a full stop. It holds no command line: those are long, and not for
// everybody who may read the journal.
func message(e *Event, r *Run) string {
	if e.Kind == KindEnded {
		return r.Summary()
	}
	return printable(sentence(e, r, e.Run.Short()), maxSummary)
}

func sentence(e *Event, r *Run, id string) string {
	switch e.Kind {
	case KindStarted, KindAdopted:
		return id + " " + string(e.Kind) + " (" + limitsText(&r.Limits) + ")"
	case KindOOM:
		return id + " " + oomText(e)
	case KindTasksLimit:
		return id + " was refused a fork or thread: it reached TasksMax"
	case KindLimitChanged:
		return id + " no longer has the limits it was started with"
	case KindEscaped:
		return "a process of " + id + " was found outside its scope"
	case KindIntent:
		return id + " " + intentText(e)
	case KindTerm, KindKill:
		return id + " " + stepText(e)
	case KindSurvived:
		return survivedText(e, id)
	case KindOrphans:
		return orphansText(e, id)
	case KindStoreReplaced:
		d := detail[ReplacedDetail](e)
		return "the records were damaged and are now in " + d.Aside + "; new ones begin in " + d.Path
	case KindKeeperChanged:
		return id + " is watched by another process now"
	default:
		return id + " " + string(e.Kind)
	}
}

func limitsText(l *Limits) string {
	memory, runtime := "none", "none"
	if l.MemoryMaxBytes != nil {
		memory = FormatBytes(*l.MemoryMaxBytes)
	}
	if l.RuntimeMaxSeconds != nil {
		runtime = FormatDuration(seconds(*l.RuntimeMaxSeconds))
	}
	return "memory limit " + memory + ", time limit " + runtime
}

func oomText(e *Event) string {
	d := detail[OOMDetail](e)
	n := max(int(d.Kills), 1)
	if d.GroupKills > 0 {
		n = max(len(d.Victims), 1) // oom_kill is no process count with memory.oom.group
	}
	text := "lost " + plural(n, "process", "processes") + " to the kernel's out-of-memory killer"
	switch d.WhoseLimit {
	case "own":
		return text + ": its own memory limit"
	case "ancestor":
		return text + ": a limit above it"
	case "host":
		return text + ": the host ran out of memory"
	default:
		return text
	}
}

func intentText(e *Event) string {
	d := detail[IntentDetail](e)
	return "is about to be ended" + parenthesis(string(e.Reason), d.Signal, by(d.By))
}

func stepText(e *Event) string {
	d := detail[StepDetail](e)
	name := "SIGTERM"
	if e.Kind == KindKill {
		name = "SIGKILL"
	}
	if d.Signal != "" {
		name = d.Signal
	}
	return "was sent " + name + parenthesis(string(e.Reason), by(d.By))
}

func survivedText(e *Event, id string) string {
	list := detail[SurvivedDetail](e).Processes
	if len(list) == 0 {
		return "processes of " + id + " outlive SIGKILL: they hang in the kernel"
	}
	p := list[0]
	text := "process " + strconv.Itoa(p.PID) + parenthesis(p.Comm, p.WChan) + " of " + id
	if more := len(list) - 1; more > 0 {
		return text + " and " + strconv.Itoa(more) + " more outlive SIGKILL: they hang in the kernel"
	}
	return text + " outlives SIGKILL: it hangs in the kernel"
}

func orphansText(e *Event, id string) string {
	switch n := len(detail[OrphansDetail](e).Processes); n {
	case 0:
		return "left-over processes of " + id + " were ended"
	case 1:
		return "1 left-over process of " + id + " was ended"
	default:
		return strconv.Itoa(n) + " left-over processes of " + id + " were ended"
	}
}

// detail decodes what an event says beyond its fields, as far as it is readable.
func detail[T any](e *Event) (d T) {
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		var zero T
		return zero
	}
	return d
}

func parenthesis(parts ...string) string {
	if parts = some(parts...); len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
