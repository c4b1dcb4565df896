package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/scidex/lictor/events"
)

// describe says in a few words what an event tells beyond its kind and reason.
func describe(e events.Event) string {
	switch e.Kind {
	case events.KindOOM:
		return describeOOM(readAs[events.OOMDetail](e.Detail))
	case events.KindIntent:
		return describeIntent(readAs[events.IntentDetail](e.Detail))
	case events.KindTerm, events.KindKill:
		return describeStep(readAs[events.StepDetail](e.Detail))
	case events.KindEscaped:
		return describeEscape(readAs[events.EscapedDetail](e.Detail))
	case events.KindSurvived:
		d := readAs[events.SurvivedDetail](e.Detail)
		return processes(d.Processes) + " still there after " + count(d.Kills, "SIGKILL", "SIGKILLs")
	case events.KindOrphans:
		d := readAs[events.OrphansDetail](e.Detail)
		return count(len(d.Processes), "process", "processes") + " ended: " + processes(d.Processes)
	case events.KindEnded:
		return describeEnd(e)
	case events.KindLimitChanged:
		return describeLimit(readAs[events.LimitDetail](e.Detail))
	case events.KindStoreReplaced:
		d := readAs[events.ReplacedDetail](e.Detail)
		return "the database was damaged: " + d.Why + "; it is " + d.Aside + " now"
	case events.KindStarted, events.KindAdopted:
		if e.PID != nil {
			return fmt.Sprintf("pid %d", *e.PID)
		}
	}
	if text := string(e.Detail); text != "{}" && text != "null" {
		return text
	}
	return ""
}

func describeOOM(d events.OOMDetail) string {
	text := "the kernel killed " + victims(d) + ": " + limitOf(d.WhoseLimit)
	if d.Terminal {
		return text + "; the run ended with it"
	}
	return text + "; the run goes on"
}

func describeIntent(d events.IntentDetail) string {
	text := "about to " + d.Action
	if d.Signal != "" {
		text += " with " + d.Signal
	}
	if d.By != "" {
		text += ", by " + d.By
	}
	if d.GraceSeconds != nil {
		text += ", grace " + duration(*d.GraceSeconds)
	}
	return text
}

func describeStep(d events.StepDetail) string {
	text := d.Signal
	if d.By != "" {
		text = strings.TrimSpace(text + " by " + d.By)
	}
	if len(d.PIDs) == 1 {
		return text + fmt.Sprintf(" to pid %d", d.PIDs[0])
	}
	if len(d.PIDs) > 1 {
		return text + fmt.Sprintf(" to %d processes", len(d.PIDs))
	}
	return text
}

// describeEscape is `pid 12 sleep in /user.slice, uid 1000`, with what speaks against its being of the run.
func describeEscape(d events.EscapedDetail) string {
	if d.Process.PID == 0 {
		return ""
	}
	text := processes([]events.Process{d.Process}) + " in " + d.Cgroup
	if d.Process.UID != nil {
		text += fmt.Sprintf(", uid %d", *d.Process.UID)
	}
	switch {
	case !d.SameUID:
		text += " (not the user of the run: the marker may be forged)"
	case !d.AfterStart:
		text += " (older than the run: the marker is forged)"
	case d.Kill:
		text += ", to be killed"
	}
	return text
}

// describeLimit is `MemoryMax 2.0G → 4.0G, by uid 0`.
func describeLimit(d events.LimitDetail) string {
	if d.Limit == "" {
		return ""
	}
	text := d.Limit + " " + limitValue(d.Limit, d.Old) + " → " + limitValue(d.Limit, d.New)
	if d.Value != "" {
		text = d.Limit + " " + d.Value
	}
	if d.By != "" {
		text += ", by " + d.By
	}
	return text
}

func limitValue(limit string, n *float64) string {
	switch {
	case n == nil:
		return "infinity"
	case limit == "CPUQuota":
		return strconv.FormatFloat(*n, 'f', -1, 64) + "%"
	case strings.HasPrefix(limit, "Memory") && *n >= 0 && *n < 1<<63:
		return events.FormatBytes(uint64(*n))
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

func describeEnd(e events.Event) string {
	text := string(e.State)
	if e.MemoryBytes != nil {
		text += ", peak " + events.FormatBytes(*e.MemoryBytes)
	}
	if e.DurationSeconds != nil {
		text += ", after " + duration(*e.DurationSeconds)
	}
	return text
}
