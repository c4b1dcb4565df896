package main

import (
	"testing"

	"github.com/scidex/lictor/events"
)

func TestExitStatus(t *testing.T) {
	exited := func(code int) *events.Exit { return &events.Exit{Kind: events.ExitExited, Code: &code} }
	for _, c := range []struct {
		name   string
		reason events.Reason
		exit   *events.Exit
		want   int
	}{
		{"done", events.ReasonNone, exited(0), 0},
		{"failed", events.ReasonNone, exited(3), 3},
		{"crashed", events.ReasonNone, signaled("SIGSEGV"), 139},
		{"time limit, obeyed", events.ReasonTimeout, exited(0), exitTimeout},
		{"time limit, SIGKILL", events.ReasonTimeout, signaled("SIGKILL"), exitTimeout},
		{"killed for memory", events.ReasonOOM, signaled("SIGKILL"), exitKilled},
		{"killed for memory, systemd was first", events.ReasonOOM, signaled("SIGTERM"), exitKilled},
		{"killed for the host's memory, systemd was first", events.ReasonOOMHost, signaled("SIGTERM"), exitKilled},
		{"oomd", events.ReasonOomd, signaled("SIGKILL"), exitKilled},
		{"stopped", events.ReasonStop, signaled("SIGTERM"), 143},
		{"not known", events.ReasonOOM, &events.Exit{Kind: events.ExitUnknown}, exitFailure},
		{"nothing known", events.ReasonNone, nil, exitFailure},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := exitStatus(&events.Run{Run: "7f3k7m1d2c5h", Reason: c.reason, Exit: c.exit})
			code := 0
			if err != nil {
				code = codeOf(err)
			}
			if code != c.want {
				t.Errorf("exit status %d (%v), want %d", code, err, c.want)
			}
		})
	}
}
