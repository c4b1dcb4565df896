package main

import (
	"fmt"
	"time"

	"github.com/scidex/lictor/events"
)

// escalation tells how signals were sent and obeyed: "SIGTERM by lictor, ignored for 10s; then SIGKILL, gone 20ms later".
func (s story) escalation() string {
	steps := map[string]events.Step{}
	for _, step := range s.Escalation {
		if _, ok := steps[step.Step]; !ok { // SIGKILL may be sent again and again; the first one counts
			steps[step.Step] = step
		}
	}
	term, termed := steps["term"]
	kill, killed := steps["kill"]
	empty, emptied := steps["empty"]
	_, survived := steps["survived"]
	text, since := "", time.Time{}
	if termed {
		text, since = "SIGTERM"+sender(term), term.At
	}
	switch {
	case termed && killed:
		text += fmt.Sprintf(", not obeyed for %s; then SIGKILL%s", between(term.At, kill.At), sender(kill))
		since = kill.At
	case killed:
		text, since = "SIGKILL"+sender(kill), kill.At
	}
	switch {
	case text == "":
		return ""
	case survived && emptied:
		return text + ", which took effect " + between(since, empty.At) + " later, when the kernel let go"
	case survived:
		return text + ", and even that did not end everything"
	case emptied:
		return text + ", gone " + between(since, empty.At) + " later"
	}
	return text
}

func sender(step events.Step) string {
	if step.By == "" {
		return ""
	}
	return " by " + step.By
}

func between(a, b time.Time) string { return events.FormatDuration(b.Sub(a)) }
