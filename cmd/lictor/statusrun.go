package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/scidex/lictor/events"
)

// lastEvents is how many events `status RUN` shows.
const lastEvents = 10

// statusOf describes one run as systemctl status describes a unit.
func (a *App) statusOf(ctx context.Context, s events.Reader, name string, asJSON bool) error {
	run, err := a.resolve(ctx, s, name)
	if err != nil {
		return err
	}
	now, err := a.upToDate(ctx, s, run)
	if err != nil {
		return err
	}
	es, err := s.Events(ctx, events.EventQuery{Run: run.Run, Last: lastEvents})
	if err != nil {
		return err
	}
	procs := a.processesOf(ctx, now)
	if asJSON {
		return writeJSON(a.Stdout, struct {
			Run       listed           `json:"run"`
			Processes []events.Process `json:"processes"`
			Events    []events.Event   `json:"events"`
		}{now, procs, append([]events.Event{}, es...)})
	}
	a.printStatus(story{listed: now, events: es, now: a.Now()}, procs)
	return nil
}

func (a *App) printStatus(s story, procs []events.Process) {
	fmt.Fprintf(a.Stdout, "%s %s  %s\n", a.paint(stateColour(s.State), a.glyph(s.State)), a.paint(bold, inert(s.subject())),
		quoteCommand(s.Command))
	for _, r := range s.statusRows() {
		if r.Text != "" {
			fmt.Fprintf(a.Stdout, "%9s: %s\n", r.Label, inert(r.Text))
		}
	}
	const indent = "           "
	var tree bytes.Buffer
	a.drawTree(&tree, indent, procs)
	fmt.Fprint(a.Stdout, tree.String())
	if len(s.events) > 0 {
		fmt.Fprintln(a.Stdout)
	}
	for _, e := range s.events {
		line := strings.Join([]string{a.clock(e.At), inert(string(e.Kind)), inert(string(e.Reason)), inert(describe(e))}, " ")
		fmt.Fprintln(a.Stdout, strings.Join(strings.Fields(line), " "))
	}
}

// statusRows are the facts, in the order of systemctl status.
func (s story) statusRows() []Row {
	return []Row{
		{"Unit", s.Unit + " (" + s.Manager + " manager, uid " + fmt.Sprint(s.UID) + ")"},
		{"State", s.stateSince()},
		{"Ended", s.ended()},
		{"Exit", s.exitStatus()},
		{"Survived", s.survived()},
		{"Left", s.timeLeft()},
		{"Memory", s.memoryUse()},
		{"Tasks", s.tasks()},
		{"CPU", s.cpu()},
		{"Directory", s.Cwd},
		{"Degraded", strings.Join(s.Degraded, "; ")},
		{"CGroup", liveOf(s.listed).Cgroup},
	}
}

func (s story) stateSince() string {
	text := string(s.State)
	if s.Reason != "" {
		text += " (" + string(s.Reason) + ")"
	}
	at := &s.StartedAt
	if s.State.Final() {
		at = s.EndedAt
	}
	if at == nil {
		return text
	}
	return text + " since " + stamp(at.In(s.now.Location())) + "; " + shortSpan(s.now.Sub(*at)) + " ago"
}

func (s story) exitStatus() string {
	switch x := exitOf(s.listed); {
	case x.Code != nil:
		return fmt.Sprintf("status %d", *x.Code)
	case x.Signal != nil:
		return *x.Signal
	case x.Kind == events.ExitUnknown:
		return "not known"
	}
	return ""
}

func (s story) timeLeft() string {
	left, limited := s.left(s.now)
	switch {
	case s.State.Final():
		return ""
	case !limited:
		return "no time limit"
	}
	return shortSpan(left) + " of " + duration(*s.Limits.RuntimeMaxSeconds)
}

func (s story) memoryUse() string {
	text := "peak " + bytesOr(s.peak(), "not known")
	if n := s.memory(); n != nil {
		text = events.FormatBytes(*n) + " (" + text + ")"
	}
	return text + ", " + s.memoryLimit() + ", " + strings.ToLower(s.swapLimit())
}

func (s story) tasks() string {
	now := cmp.Or(liveOf(s.listed).Tasks, s.Usage.TasksPeak)
	if now == nil {
		return ""
	}
	text := fmt.Sprint(*now)
	if s.State.Final() {
		text = "at most " + text
	}
	if s.Limits.TasksMax != nil {
		text += fmt.Sprintf(" (limit: %d)", *s.Limits.TasksMax)
	}
	return text
}

func (s story) cpu() string {
	used := cmp.Or(liveOf(s.listed).CPUSeconds, s.Usage.CPUSeconds)
	if used == nil {
		return ""
	}
	return duration(*used)
}
