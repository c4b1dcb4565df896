package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
)

// incidents tells what happened in the run that did not end it.
func (s story) incidents() string {
	var texts []string
	told := 0
	for _, e := range s.events {
		text := s.incident(e)
		if text == "" {
			continue
		}
		if told++; told <= 3 {
			texts = append(texts, text)
		}
	}
	if told > 3 {
		texts = append(texts, fmt.Sprintf("and %d more (lictor events)", told-3))
	}
	if told == 0 && s.OOM.Kills > 0 && !s.Reason.OutOfMemory() {
		texts = append(texts, "the kernel killed inside it for memory; when is not known")
	}
	return strings.Join(texts, "; ")
}

func (s story) incident(e events.Event) string {
	after := events.FormatDuration(e.At.Sub(s.StartedAt).Round(time.Second))
	switch e.Kind {
	case events.KindOOM:
		d := readAs[events.OOMDetail](e.Detail)
		if d.Terminal && s.Reason.OutOfMemory() {
			return ""
		}
		return "the kernel killed " + victims(d) + " after " + after + " (" + limitOf(d.WhoseLimit) + ")"
	case events.KindTasksLimit:
		return "a fork was refused at TasksMax" + s.tasksMax() + " after " + after
	case events.KindLimitChanged:
		if d := describeLimit(readAs[events.LimitDetail](e.Detail)); d != "" {
			return "a limit was changed after " + after + " (" + d + ")"
		}
		return "a limit was changed after " + after
	case events.KindEscaped:
		return "a process left the scope after " + after
	case events.KindKeeperChanged:
		return "another keeper took over after " + after
	}
	return ""
}

func victims(d events.OOMDetail) string {
	switch len(d.Victims) {
	case 0:
		return "inside it"
	case 1:
		return victim(d.Victims[0])
	}
	return victim(d.Victims[0]) + " and " + count(len(d.Victims)-1, "other process", "other processes")
}

func limitOf(whose string) string {
	switch whose {
	case "own":
		return "its own memory limit"
	case "ancestor":
		return "a memory limit above it"
	case "host":
		return "the host ran out of memory"
	}
	return "whose memory limit is not known"
}

func (s story) tasksMax() string {
	if s.Limits.TasksMax == nil {
		return ""
	}
	return fmt.Sprintf(" %d", *s.Limits.TasksMax)
}

// leftOver tells of processes that were ended after the main process had gone.
func (s story) leftOver() string {
	for _, e := range s.events {
		if e.Kind != events.KindOrphans {
			continue
		}
		d := readAs[events.OrphansDetail](e.Detail)
		if len(d.Processes) == 0 {
			return "processes were ended after the main process had gone"
		}
		return count(len(d.Processes), "process was", "processes were") + " ended after the main process had gone: " +
			processes(d.Processes)
	}
	return ""
}
