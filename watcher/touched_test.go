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

func TestNextPause(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name        string
		last, after time.Duration
		others      int
		want        time.Duration
	}{
		{"the first change", 0, time.Hour, 0, 0},
		{"at once again", 0, s / 100, 0, rearmAfter},
		{"and again", rearmAfter, s / 100, 0, 2 * rearmAfter},
		{"for ever", rearmMost, s / 100, rearmCrowd - 1, rearmMost},
		{"slower, but without end", rearmMost, s, 0, rearmMost},
		{"quiet for once", rearmMost, rearmMost, 0, 0},
		{"one of 64", rearmMost, s / 100, 63, 2 * rearmMost},
		{"fewer than before", 3 * rearmMost, s / 100, 0, rearmMost},
		{"one of thousands", rearmCap, s / 100, 5000, rearmCap},
	} {
		if got := nextPause(tt.last, tt.after, tt.others); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestOnGrid(t *testing.T) {
	born := time.Now()
	const s = time.Second
	for _, tt := range []struct{ at, pause, want time.Duration }{
		{0, s, 0}, {s, s, s}, {s + s/3, s, s}, {2*s - 1, s, 2 * s}, {7*s + s/2, rearmAfter, 7*s + s/2}, {7 * s, rearmMost, 8 * s},
	} {
		if got := onGrid(born, born.Add(tt.at), tt.pause).Sub(born); got != tt.want {
			t.Errorf("%v in steps of %v: %v, want %v", tt.at, tt.pause, got, tt.want)
		}
	}
}
