package watcher

import (
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

func TestUnfinished(t *testing.T) {
	const dead, alive = 1, 2
	exists := func(pid int) bool { return pid == alive }
	intent := func(change func(*Intent)) []Intent {
		i := Intent{Reason: events.ReasonStop, Action: ActStop, Author: dead, Outcome: OutcomeSent}
		change(&i)
		return []Intent{i}
	}
	tests := []struct {
		name string
		list []Intent
		want bool
	}{
		{"nothing", nil, false},
		{"its author is gone", intent(func(*Intent) {}), true},
		{"its author died before it could send anything", intent(func(i *Intent) { i.Outcome = "" }), true},
		{"its author is at it", intent(func(i *Intent) { i.Author = alive }), false},
		{"its author would not wait", intent(func(i *Intent) { i.Author, i.Left = alive, true }), true},
		{"a single signal", intent(func(i *Intent) { i.Action = ActSignal }), false},
		{"nobody felt it", intent(func(i *Intent) { i.Outcome = OutcomeVoid }), false},
	}
	for _, tt := range tests {
		if _, got := unfinished(tt.list, exists); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestIntentEscalation(t *testing.T) {
	at, grace := 100*time.Second, 5*time.Second
	tests := []struct {
		name   string
		intent Intent
		now    time.Duration
		want   Action
		wake   time.Duration
	}{
		{"nothing was sent", Intent{Boottime: at, Grace: grace}, 200 * time.Second, ActionTerm, 205 * time.Second},
		{"SIGTERM was sent, the grace runs", Intent{Boottime: at, Grace: grace, Outcome: OutcomeSent}, 103 * time.Second, ActionNone, 105 * time.Second},
		{"SIGTERM was sent, the grace is over", Intent{Boottime: at, Grace: grace, Outcome: OutcomeSent}, 200 * time.Second, ActionKill, 201 * time.Second},
		{"somebody was named", Intent{Boottime: at, Grace: grace, Outcome: OutcomeSent, Survivors: []events.Process{{PID: 7}}},
			200 * time.Second, ActionKill, 260 * time.Second},
	}
	for _, tt := range tests {
		_, action, wake := tt.intent.escalation().Next(tt.now, true)
		if action != tt.want || wake != tt.wake {
			t.Errorf("%s: action %d, wake %v, want %d, %v", tt.name, action, wake, tt.want, tt.wake)
		}
	}
}
