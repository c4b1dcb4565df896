package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// topRun is a live run of a test: memory in MiB, processor time in seconds, age in minutes.
func topRun(id string, memory, cpu, age int) listed {
	r := &events.Run{Run: events.RunID(id), State: events.StateRunning, StartedAt: testNow.Add(-time.Duration(age) * time.Minute),
		AnalysisID: "fit-" + id[:2], Command: []string{"python", "fit.py", id},
		Limits: events.Limits{MemoryMaxBytes: new(uint64(gib)), RuntimeMaxSeconds: new(3600.0), GraceSeconds: 10}}
	live := &Live{Run: r.Run, State: r.State, MemoryCurrent: new(uint64(memory) << 20), CPUSeconds: new(float64(cpu)),
		MemoryPeak: new(uint64(memory+100) << 20)}
	return listed{Run: r, live: live}
}

// endedRun is how a live run of a test ended.
func endedRun(r listed, state events.State, reason events.Reason, at time.Time) *events.Run {
	run := *r.Run
	run.State, run.Reason, run.EndedAt = state, reason, &at
	return &run
}

// sampleAt is a look at some runs, so many seconds after testNow.
func sampleAt(after int, live ...listed) *topSample {
	s := &topSample{at: testNow.Add(time.Duration(after) * time.Second), live: live}
	s.sum = summary{Used: new(uint64), Live: map[string]int{}, Kills: 3, Box: readJSON[box]("testdata/fixture/box-host.json")}
	for _, r := range live {
		s.sum.addLive(r)
	}
	return s
}

var (
	topA = topRun("aaaa1111", 300, 60, 10)
	topB = topRun("bbbb2222", 900, 30, 50)
	topC = topRun("cccc3333", 600, 90, 1)
)

// topAfter is the model after messages, and the effects of the last one.
func topAfter(messages ...topMessage) (m topModel, effects []topEffect) {
	m = newTopModel(topOptions{delay: time.Second, order: byMemory})
	for _, message := range append([]topMessage{topSize{80, 24}, topStart{}}, messages...) {
		m, effects = m.update(message)
	}
	return m, effects
}

// topKeys are keys as messages.
func topKeys(keys ...topKey) (messages []topMessage) {
	for _, k := range keys {
		messages = append(messages, k)
	}
	return messages
}

func rowIDs(m topModel) string {
	var ids []string
	for _, r := range m.rows {
		ids = append(ids, string(r.Run.Run[:1]))
	}
	return strings.Join(ids, "")
}

func TestTopOrder(t *testing.T) {
	unknown := topRun("dddd4444", 0, 0, 20)
	unknown.live = nil
	unknown.Limits.RuntimeMaxSeconds = nil
	gone := endedRun(topRun("eeee5555", 0, 0, 5), events.StateDone, "", testNow.Add(-20*time.Second))
	last := endedRun(topRun("ffff6666", 0, 0, 5), events.StateKilled, events.ReasonOOM, testNow.Add(-10*time.Second))
	s := sampleAt(0, topA, topB, topC, unknown)
	s.ended = []*events.Run{gone, last}
	tests := []struct {
		keys []topKey
		want string // live runs first, the one of which nothing is known last of them
	}{
		{nil, "bcadfe"}, {[]topKey{"m"}, "bcadfe"}, {[]topKey{"m", "r"}, "acbdfe"}, {[]topKey{"c"}, "cabdfe"},
		{[]topKey{"a"}, "bdacfe"}, {[]topKey{"l"}, "bacdfe"}, {[]topKey{"l", "r"}, "cabdfe"}, {[]topKey{"p"}, "bcadfe"},
		{[]topKey{"r", "r"}, "bcadfe"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.keys), func(t *testing.T) {
			m, _ := topAfter(append([]topMessage{s}, topKeys(tt.keys...)...)...)
			if got := rowIDs(m); got != tt.want {
				t.Errorf("rows %s, want %s", got, tt.want)
			}
		})
	}
}

// The processor's share is that since the last look that succeeded, and since the start for what is new.
func TestTopCPU(t *testing.T) {
	used := func(seconds float64) listed {
		r := topRun("aaaa1111", 300, 0, 10)
		r.live.CPUSeconds = &seconds
		return r
	}
	failed := &topSample{err: errors.New("disk I/O error")}
	tests := []struct {
		name    string
		samples []topMessage
		want    string
	}{
		{"first", []topMessage{sampleAt(0, used(60))}, "10"},
		{"second", []topMessage{sampleAt(0, used(60)), sampleAt(2, used(63))}, "150"},
		{"idle", []topMessage{sampleAt(0, used(60)), sampleAt(2, used(60))}, "0"},
		{"after a failure", []topMessage{sampleAt(0, used(60)), failed, sampleAt(4, used(63))}, "75"},
		{"the counter went back", []topMessage{sampleAt(0, used(60)), sampleAt(2, used(3))}, "0"},
		{"the clock stands", []topMessage{sampleAt(0, used(60)), sampleAt(0, used(63))}, "-"},
		{"not known", []topMessage{sampleAt(0, listed{Run: topA.Run})}, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := topAfter(tt.samples...)
			if got := percentOr(m.rows[0].cpu, m.rows[0].cpuKnown); got != tt.want {
				t.Errorf("CPU%% %s, want %s", got, tt.want)
			}
		})
	}
}

// An end stays for half a minute: from when it happened, or from when it was watched if that is on record late.
func TestTopEnded(t *testing.T) {
	late := sampleAt(60)
	late.ended = []*events.Run{endedRun(topA, events.StateKilled, events.ReasonOOM, testNow.Add(-time.Minute))}
	fresh := sampleAt(0)
	fresh.ended = []*events.Run{endedRun(topB, events.StateDone, "", testNow.Add(-20*time.Second))}
	tests := []struct {
		name     string
		messages []topMessage
		want     string
	}{
		{"watched", []topMessage{sampleAt(0, topA), late}, "a"},
		{"watched, 29 s later", []topMessage{sampleAt(0, topA), late, sampleAt(89)}, "a"},
		{"watched, 30 s later", []topMessage{sampleAt(0, topA), late, sampleAt(90)}, ""},
		{"before the start", []topMessage{fresh}, "b"},
		{"before the start, told again", []topMessage{fresh, fresh}, "b"},
		{"before the start, 10 s later", []topMessage{fresh, sampleAt(10)}, ""},
		{"long before the start", []topMessage{late}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if m, _ := topAfter(tt.messages...); rowIDs(m) != tt.want {
				t.Errorf("rows %q, want %q", rowIDs(m), tt.want)
			}
		})
	}
}

// The cursor follows its run; where that has gone, it stays at its place.
func TestTopCursor(t *testing.T) {
	all := sampleAt(0, topA, topB, topC) // b c a
	tests := []struct {
		name     string
		messages []topMessage
		want     events.RunID
	}{
		{"at first", nil, "bbbb2222"},
		{"down", topKeys("j", keyDown), "aaaa1111"},
		{"not beyond", topKeys(keyEnd, "j", "j"), "aaaa1111"},
		{"up", topKeys("G", "k"), "cccc3333"},
		{"home", topKeys("G", "g", keyUp), "bbbb2222"},
		{"page", topKeys(keyPageDown), "aaaa1111"},
		{"page up", topKeys("G", keyPageUp), "bbbb2222"},
		{"sorted", topKeys("j", "c"), "cccc3333"},
		{"its run has gone", append(topKeys("j"), sampleAt(1, topA, topB)), "aaaa1111"},
		{"all have gone", append(topKeys("j"), sampleAt(1), sampleAt(2, topA)), "aaaa1111"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if m, _ := topAfter(append([]topMessage{all}, tt.messages...)...); m.cursor != tt.want {
				t.Errorf("cursor at %s, want %s", m.cursor, tt.want)
			}
		})
	}
}

// What each key makes happen outside. A run is stopped after a y, the one that was asked about, and after nothing else.
func TestTopEffects(t *testing.T) {
	two := sampleAt(0, topA, topB) // b a
	ended := sampleAt(1, topA)
	ended.ended = []*events.Run{endedRun(topB, events.StateDone, "", testNow.Add(time.Second))}
	b := events.RunID("bbbb2222")
	tests := []struct {
		name     string
		messages []topMessage
		want     []topEffect // of the last message
		message  string
	}{
		{"start", nil, []topEffect{{act: actSample}}, ""},
		{"tick", []topMessage{two, topTick{testNow}}, []topEffect{{act: actSample}}, ""},
		{"tick while looking", []topMessage{two, topTick{testNow}, topTick{testNow}}, nil, ""},
		{"space", append([]topMessage{two}, topKeys(" ")...), []topEffect{{act: actSample}}, ""},
		{"resize", []topMessage{two, topSize{40, 10}}, []topEffect{{act: actRedraw}}, ""},
		{"why", append([]topMessage{two}, topKeys(keyEnter)...), []topEffect{{actWhy, b}}, ""},
		{"tree", append([]topMessage{two}, topKeys("t")...), []topEffect{{actTree, b}}, ""},
		{"from why to tree", append([]topMessage{two}, topKeys("w", "t")...), []topEffect{{actTree, b}}, ""},
		{"a page is kept up to date", []topMessage{two, topKey("w"), sampleAt(1, topA, topB)}, []topEffect{{actWhy, b}}, ""},
		{"help needs nobody", []topMessage{two, topKey("?"), sampleAt(1, topA, topB)}, nil, ""},
		{"quit", topKeys("q"), []topEffect{{act: actQuit}}, ""},
		{"escape", topKeys(keyEscape), []topEffect{{act: actQuit}}, ""},
		{"from a page one goes back", append([]topMessage{two}, topKeys("w", "q")...), nil, ""},
		{"and then quits", append([]topMessage{two}, topKeys("w", "q", "q")...), []topEffect{{act: actQuit}}, ""},
		{"ctrl-c from a page", append([]topMessage{two}, topKeys("w", keyCtrlC)...), []topEffect{{act: actQuit}}, ""},
		{"ctrl-z", topKeys(keyCtrlZ), []topEffect{{act: actSuspend}}, ""},
		{"stop asks", append([]topMessage{two}, topKeys("s")...), nil, ""},
		{"stop, no", append([]topMessage{two}, topKeys("s", "n")...), nil, "bbbb2222 goes on"},
		{"stop, enter", append([]topMessage{two}, topKeys("x", keyEnter)...), nil, "bbbb2222 goes on"},
		{"stop, q is a no", append([]topMessage{two}, topKeys("s", "q")...), nil, "bbbb2222 goes on"},
		{"stop, ctrl-c quits", append([]topMessage{two}, topKeys("s", keyCtrlC)...), []topEffect{{act: actQuit}}, ""},
		{"stop, yes", append([]topMessage{two}, topKeys("s", "y")...), []topEffect{{actStop, b}},
			"bbbb2222 is being stopped: SIGTERM, and SIGKILL after its grace"},
		{"rows move before the yes", []topMessage{two, topKey("s"), sampleAt(1, topRun("aaaa1111", 999, 0, 9), topB), topKey("y")},
			[]topEffect{{actStop, b}}, "bbbb2222 is being stopped: SIGTERM, and SIGKILL after its grace"},
		{"from its page", append([]topMessage{two}, topKeys("t", "s", "y")...), []topEffect{{actStop, b}},
			"bbbb2222 is being stopped: SIGTERM, and SIGKILL after its grace"},
		{"stop twice", append([]topMessage{two}, topKeys("s", "y", "s")...), nil, "bbbb2222 is being stopped already"},
		{"stopped", append([]topMessage{two}, append(topKeys("s", "y"), topStopped{run: b})...), []topEffect{{act: actSample}},
			"bbbb2222 has ended"},
		{"not stopped", append([]topMessage{two}, append(topKeys("s", "y"), topStopped{b, "not yours"})...),
			[]topEffect{{act: actSample}}, "not yours"},
		{"stop what has ended", []topMessage{two, ended, keyEnd, topKey("s"), topKey("y")}, nil, ""},
		{"nothing to stop", []topMessage{sampleAt(0), topKey("s"), topKey("y")}, nil, ""},
		{"unknown", topKeys("z"), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, effects := topAfter(tt.messages...)
			if !reflect.DeepEqual(effects, tt.want) || m.message != tt.message {
				t.Errorf("effects %v, %q, want %v, %q", effects, m.message, tt.want, tt.message)
			}
		})
	}
}

// With a bound the last refresh stays for one delay.
func TestTopBound(t *testing.T) {
	m := newTopModel(topOptions{delay: time.Second, order: byMemory, limit: 2})
	var acts []topAct
	for _, message := range []topMessage{topStart{}, sampleAt(0), topTick{testNow}, sampleAt(1), topTick{testNow}} {
		var effects []topEffect
		m, effects = m.update(message)
		for _, e := range effects {
			acts = append(acts, e.act)
		}
	}
	if want := []topAct{actSample, actSample, actQuit}; !slices.Equal(acts, want) {
		t.Errorf("effects %v, want %v", acts, want)
	}
}

// An answer for a page that was closed, or is about another run by now, changes nothing.
func TestTopLateText(t *testing.T) {
	text := topText{actWhy, "bbbb2222", []string{"it ended"}}
	m, _ := topAfter(sampleAt(0, topA, topB), topKey("w"), text)
	if m.page == nil || !slices.Equal(m.page.lines, text.lines) {
		t.Errorf("page %v", m.page)
	}
	for name, keys := range map[string][]topKey{"closed": {"w", "q"}, "another page": {"w", "t"}, "another run": {"j", "w"}} {
		m, _ := topAfter(append(append([]topMessage{sampleAt(0, topA, topB)}, topKeys(keys...)...), text)...)
		if m.page != nil && m.page.lines != nil {
			t.Errorf("%s: page %v", name, m.page)
		}
	}
}
