package main

import (
	"fmt"
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
	case events.KindOrphans:
		d := readAs[events.OrphansDetail](e.Detail)
		return count(len(d.Processes), "process", "processes") + " ended: " + processes(d.Processes)
	case events.KindEnded:
		return describeEnd(e)
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
