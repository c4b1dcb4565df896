package watcher

import (
	"testing"
	"time"
)

func TestTouched(t *testing.T) {
	was := Counters{MemoryMax: 5, OOM: 1, OOMKill: 1, PidsMax: 2}
	for _, tt := range []struct {
		name string
		now  Counters
		want bool
	}{
		{"nothing", was, true},
		{"the memory limit", Counters{MemoryMax: 900, OOM: 1, OOMKill: 1, PidsMax: 2}, true},
		{"the tasks limit", Counters{MemoryMax: 5, OOM: 1, OOMKill: 1, PidsMax: 70}, true},
		{"reclaim failed", Counters{MemoryMax: 6, OOM: 2, OOMKill: 1, PidsMax: 2}, false},
		{"a kill", Counters{MemoryMax: 6, OOM: 1, OOMKill: 2, PidsMax: 2}, false},
		{"a group kill", Counters{MemoryMax: 5, OOM: 1, OOMKill: 1, OOMGroupKill: 1, PidsMax: 2}, false},
	} {
		if got := touched(was, tt.now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestNoticeInput(t *testing.T) {
	for _, tt := range []struct {
		notice Notice
		want   input
	}{
		{Notice{Name: "memory.events"}, input{memory: true}},
		{Notice{Name: "pids.events"}, input{tasks: true}},
		{Notice{Name: "cgroup.events"}, input{look: true}},
		{Notice{Name: "memory.max"}, input{look: true}},
		{Notice{Name: "memory.events", Kind: NoticeGone}, input{look: true}},
	} {
		if got := tt.notice.input(); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.notice, got, tt.want)
		}
	}
	both := input{memory: true}.and(input{tasks: true})
	if !both.countersOnly() || both.empty() {
		t.Errorf("%+v: counters only %v, empty %v", both, both.countersOnly(), both.empty())
	}
	for _, more := range []input{{look: true}, {unit: true}, {ownerless: true}, {end: &leaderEnd{}}} {
		if both.and(more).countersOnly() {
			t.Errorf("%+v: counters only", both.and(more))
		}
	}
}

func TestOnGrid(t *testing.T) {
	born := time.Now()
	for _, tt := range []struct{ at, want time.Duration }{
		{0, 0}, {rearmGrid, rearmGrid}, {rearmGrid + rearmGrid/3, rearmGrid}, {2*rearmGrid - 1, 2 * rearmGrid}, {rearmMost, rearmMost},
	} {
		if got := onGrid(born, born.Add(tt.at)).Sub(born); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.at, got, tt.want)
		}
	}
}
