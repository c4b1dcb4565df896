package watcher

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEscalation(t *testing.T) {
	type step struct {
		at        float64
		populated bool
		phase     Phase
		action    Action
		wake      float64
	}
	tests := []struct {
		name  string
		grace time.Duration
		steps []step
	}{
		{"obeyed", 10 * time.Second, []step{
			{0, true, PhaseTerm, ActionTerm, 10}, {3, true, PhaseTerm, ActionNone, 10}, {5, false, PhaseEmpty, ActionNone, 0}}},
		{"ignored", 10 * time.Second, []step{
			{0, true, PhaseTerm, ActionTerm, 10}, {9.9, true, PhaseTerm, ActionNone, 10}, {10, true, PhaseKill, ActionKill, 11},
			{10.1, false, PhaseEmpty, ActionNone, 0}}},
		{"no grace", 0, []step{{0, true, PhaseTerm, ActionTerm, 0}, {0, true, PhaseKill, ActionKill, 1}}},
		{"nobody there", 10 * time.Second, []step{{0, false, PhaseEmpty, ActionNone, 0}, {1, false, PhaseEmpty, ActionNone, 0}}},
		{"hangs in the kernel", time.Second, []step{
			{0, true, PhaseTerm, ActionTerm, 1}, {1, true, PhaseKill, ActionKill, 2}, {2, true, PhaseKill, ActionKill, 4},
			{4, true, PhaseKill, ActionKill, 8}, {8, true, PhaseKill, ActionKill, 16}, {16, true, PhaseSurvived, ActionAlarm, 32},
			{32, true, PhaseSurvived, ActionKill, 64}, {64, true, PhaseSurvived, ActionKill, 124}, {100, true, PhaseSurvived, ActionNone, 124},
			{124, true, PhaseSurvived, ActionKill, 184}, {9000, true, PhaseSurvived, ActionKill, 9060}, {9001, false, PhaseEmpty, ActionNone, 0}}},
		{"a late timer", time.Second, []step{{0, true, PhaseTerm, ActionTerm, 1}, {600, true, PhaseKill, ActionKill, 601}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := Escalation{Grace: tt.grace}
			for _, s := range tt.steps {
				var action Action
				var wake time.Duration
				e, action, wake = e.Next(seconds2(s.at), s.populated)
				if e.Phase != s.phase || action != s.action || wake != seconds2(s.wake) {
					t.Fatalf("at %v: phase %d action %d wake %v, want %d %d %vs", s.at, e.Phase, action, wake, s.phase, s.action, s.wake)
				}
			}
		})
	}
}

func seconds2(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// TestEscalationProperties: whatever the times at which it is asked, SIGTERM is sent once and first, SIGKILL never before the
// grace has passed and ever less often, survivors are named once at most and only after killTries, and nothing is sent to an
// empty run.
func TestEscalationProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Escalation{Grace: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "grace"))}
		now, termAt := time.Duration(1), time.Duration(0)
		terms, kills, alarms, killAt := 0, 0, 0, time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause"))
			populated := rapid.IntRange(0, 9).Draw(t, "populated") > 0
			var action Action
			e, action, _ = e.Next(now, populated)
			switch {
			case action != ActionNone && !populated:
				t.Fatalf("action %d on an empty run", action)
			case action == ActionTerm:
				terms, termAt = terms+1, now
			case action == ActionKill, action == ActionAlarm:
				if terms == 0 || now < termAt+e.Grace || kills > 0 && now < killAt+min(killRetry<<min(kills-1, 9), killRetryMax) {
					t.Fatalf("SIGKILL %v after SIGTERM (grace %v), %v after SIGKILL number %d", now-termAt, e.Grace, now-killAt, kills)
				}
				if action == ActionAlarm {
					alarms++
				}
				kills, killAt = kills+1, now
			}
			if terms > 1 || alarms > 1 || alarms == 1 && kills <= killTries {
				t.Fatalf("%d SIGTERM, %d SIGKILL, %d alarms", terms, kills, alarms)
			}
		}
	})
}

func TestKillPending(t *testing.T) {
	tests := []struct {
		name, status string
		want         bool
	}{
		{"none", "Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", false},
		{"thread", "SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n", true},
		{"process", "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", true},
		{"another signal", "SigPnd:\t0000000000004000\nShdPnd:\t0000000000000080\n", false},
		{"a name like a field", "Name:\tShdPnd:\t0000000000000100\n", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		if got := killPending(tt.status); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCountersSince(t *testing.T) {
	c := Counters{MemoryMax: 5, OOM: 2, OOMKill: 3, OOMGroupKill: 1, PidsMax: 9}
	if got := c.Since(Counters{MemoryMax: 1, OOM: 2, OOMKill: 1}); got != (Counters{MemoryMax: 4, OOMKill: 2, OOMGroupKill: 1, PidsMax: 9}) {
		t.Errorf("got %+v", got)
	}
	if got := (Counters{}).Since(c); got != (Counters{}) {
		t.Errorf("a counter went back: %+v", got)
	}
}
