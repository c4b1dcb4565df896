package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/scidex/lictor/events"
)

// topScene is what the golden files show: live runs, one that is ending, one that was killed.
func topScene() *topSample {
	grace := topRun("7f3k8zzt", 804, 2, 30)
	grace.State, grace.Reason, grace.AnalysisID = events.StateGrace, events.ReasonTimeout, "umap-of-all-the-samples-of-this-year-and-the-last"
	full := topRun("7f3k9q2a", 1010, 242, 4)
	full.Command = []string{"python", "churn.py", "--input", "分析/データ.csv", "--fold", "7", "--seed", "4711", "--verbose"}
	unlimited := topRun("7f3kbb2c", 90, 1, 59)
	unlimited.Limits, unlimited.AnalysisID = events.Limits{GraceSeconds: 10}, ""
	s := sampleAt(0, full, grace, topRun("7f3k0a1b", 300, 10, 1), unlimited)
	s.ended = []*events.Run{endedRun(topRun("7f3k7m1d", 0, 0, 5), events.StateKilled, events.ReasonOOM, testNow)}
	return s
}

func TestTopView(t *testing.T) {
	text := topText{actWhy, "7f3k9q2a", []string{
		"● fit-7f (7f3k9q2a) is running: 4min so far, 56min left.",
		"  Limit       MemoryMax 1.0G     Peak 1.1G     RuntimeMaxSec 1h",
		"  Meanwhile   the kernel killed pid 48950 worker (anonymous memory 900M) after 1min 12s (its own memory limit)"}}
	tree := topText{actTree, "7f3k9q2a", []string{"● fit-7f (7f3k9q2a)  python churn.py", "└─48901 python churn.py " + strings.Repeat("x", 90)}}
	hint := topStopped{"7f3k9q2a", "stop 7f3k9q2a: the runs of the system manager are root's (hint: sudo lictor …, or lictor --user … for your own)"}
	tests := []struct {
		name           string
		lang           string
		messages       []topMessage
		columns, lines int
	}{
		{"200", "C.UTF-8", []topMessage{topScene()}, 200, 18},
		{"80", "C.UTF-8", []topMessage{topScene()}, 80, 18},
		{"40", "C.UTF-8", []topMessage{topScene()}, 40, 18},
		{"ascii", "C", []topMessage{topScene()}, 80, 18},
		{"sorted", "C.UTF-8", append([]topMessage{topScene()}, topKeys("l", "r", "j")...), 100, 18},
		{"scrolled", "C.UTF-8", []topMessage{topScene(), keyEnd}, 80, 6},
		{"no-rows", "C.UTF-8", []topMessage{sampleAt(0)}, 80, 14},
		{"before-the-first-look", "C.UTF-8", nil, 80, 6},
		{"question", "C.UTF-8", append([]topMessage{topScene()}, topKeys("s")...), 80, 14},
		{"not-stopped", "C.UTF-8", append([]topMessage{topScene()}, append(topKeys("s", "y"), hint)...), 80, 18},
		{"trouble", "C.UTF-8", []topMessage{topScene(), &topSample{err: fmt.Errorf("store %q: database is locked", "x.db")}}, 80, 14},
		{"nothing-seen", "C.UTF-8", []topMessage{topScene(), topTick{testNow.Add(65e9)}}, 80, 14},
		{"why", "C.UTF-8", append([]topMessage{topScene()}, topKey("w"), text), 60, 10},
		{"tree", "C.UTF-8", append([]topMessage{topScene()}, topKey("t"), tree), 60, 6},
		{"help", "C.UTF-8", append([]topMessage{topScene()}, topKey("?")), 80, 30},
		{"help-end", "C.UTF-8", append([]topMessage{topScene()}, topKey("?"), keyEnd), 80, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := testApp(&bytes.Buffer{})
			app.Getenv = func(name string) string { return map[string]string{"LANG": tt.lang}[name] }
			m, _ := topAfter(append([]topMessage{topSize{tt.columns, tt.lines}}, tt.messages...)...)
			lines := app.topLines(m)
			checkScreen(t, m, lines)
			golden(t, "top/"+tt.name+".golden", strings.Join(lines, "\n")+"\n")
		})
	}
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// checkScreen asserts what holds for every screen: it is full, no line is wider, and there is nothing in it that a terminal
// acts on but our colours.
func checkScreen(t *testing.T, m topModel, lines []string) {
	t.Helper()
	if len(lines) != m.height() {
		t.Errorf("%d columns, %d lines: %d lines", m.columns, m.lines, len(lines))
	}
	for i, line := range lines {
		plain := sgr.ReplaceAllString(line, "")
		if textWidth(plain) > m.width() {
			t.Errorf("%d columns, %d lines: line %d takes %d: %q", m.columns, m.lines, i, textWidth(plain), plain)
		}
		if strings.ContainsFunc(plain, dangerous) {
			t.Errorf("line %d is not inert: %q", i, line)
		}
	}
}

// Whatever the size, the number of runs and what strangers have written, a screen is a screen, and the cursor is on it.
func TestTopAnySize(t *testing.T) {
	hostile := topRun("\x1b[2J\u202e", 100, 1, 1)
	hostile.AnalysisID, hostile.Command = "\x1b]0;owned\x07分析分析分析分析分析分析", []string{"\u009b31m", "分析\n", strings.Repeat("é", 500)}
	hostile.Reason = "\x1b[5m"
	many := []listed{hostile}
	for i := range 1000 {
		many = append(many, topRun(fmt.Sprintf("%04dabcd", i), i, i, i%50))
	}
	hostileBox := sampleAt(0, hostile)
	hostileBox.sum.Box.Host, hostileBox.notes = "\x1b[2J", []string{"live scopes: \x1b[2J"}
	tty, _ := openTerminal(t, 80)
	app := testApp(&bytes.Buffer{})
	app.Stdout = newOutput(tty) // so that there are colours
	scenes := map[string][]topMessage{
		"nothing": nil, "no runs": {sampleAt(0)}, "hostile": {hostileBox}, "many": {sampleAt(0, many...)},
		"end":      {sampleAt(0, many...), keyEnd},
		"question": {hostileBox, topKey("s")},
		"message":  {hostileBox, topStopped{"x", "\x1b[2J" + strings.Repeat("分析 ", 90)}},
		"page":     {hostileBox, topKey("w"), topText{actWhy, hostile.Run.Run, []string{strings.Repeat("分析", 300), "  Killed      x"}}},
		"help":     {sampleAt(0), topKey("?"), keyEnd},
	}
	for name, messages := range scenes {
		t.Run(name, func(t *testing.T) {
			m, _ := topAfter(messages...)
			for _, size := range []topSize{{1, 1}, {1, 5}, {2, 2}, {5, 3}, {10, 24}, {20, 4}, {40, 11}, {40, 12}, {80, 1}, {80, 24}, {99, 2}, {100, 50}, {200, 60}} {
				m, _ := m.update(size)
				lines := app.topLines(m)
				checkScreen(t, m, lines)
				if at := m.index(); m.page == nil && len(m.rows) > 0 && m.room() > 0 && (at < m.offset || at >= m.offset+m.room()) {
					t.Errorf("%v: the cursor is at %d, and %d rows from %d on are shown", size, at, m.room(), m.offset)
				}
			}
		})
	}
}

// Without colours the row of the cursor has a mark, and states have words and glyphs: the test above has them. With colours
// the same text is there.
func TestTopColours(t *testing.T) {
	tty, _ := openTerminal(t, 80)
	coloured, plain := testApp(&bytes.Buffer{}), testApp(&bytes.Buffer{})
	coloured.Stdout = newOutput(tty)
	m, _ := topAfter(topScene())
	got := strings.Join(coloured.topLines(m), "\n")
	if !strings.Contains(got, "\x1b[7m>") || !strings.Contains(got, "\x1b[31m") {
		t.Errorf("no colours: %q", got)
	}
	trimmed := regexp.MustCompile(` +\n`).ReplaceAllString(sgr.ReplaceAllString(got, "")+"\n", "\n")
	if want := strings.Join(plain.topLines(m), "\n") + "\n"; regexp.MustCompile(` +\n`).ReplaceAllString(want, "\n") != trimmed {
		t.Errorf("got\n%s\nwant\n%s", trimmed, want)
	}
	coloured.Getenv = func(name string) string { return map[string]string{"LANG": "C.UTF-8", "NO_COLOR": "1"}[name] }
	if got := strings.Join(coloured.topLines(m), "\n"); strings.Contains(got, "\x1b") || !strings.Contains(got, "\n>● 7f3k9q2a") {
		t.Errorf("with NO_COLOR: %q", got)
	}
}

func TestTopBar(t *testing.T) {
	tests := []struct {
		used, limit *uint64
		want        string
	}{
		{new(uint64(0)), new(uint64(100)), "....."}, {new(uint64(50)), new(uint64(100)), "###.."}, {new(uint64(100)), new(uint64(100)), "#####"},
		{new(uint64(300)), new(uint64(100)), "#####"}, {nil, new(uint64(100)), "     "}, {new(uint64(1)), nil, "     "},
		{new(uint64(1)), new(uint64(0)), "     "},
	}
	app := testApp(&bytes.Buffer{})
	app.Getenv = func(string) string { return "" }
	for _, tt := range tests {
		if got := app.bar(tt.used, tt.limit, 5).text; got != tt.want {
			t.Errorf("bar of %v of %v: %q, want %q", bytesOr(tt.used, "nil"), bytesOr(tt.limit, "nil"), got, tt.want)
		}
	}
}

func TestFold(t *testing.T) {
	tests := []struct {
		name, line string
		width      int
		want       []string
	}{
		{"short", "one line", 20, []string{"one line"}},
		{"at spaces", "one two three four five", 10, []string{"one two", "  three", "  four", "  five"}},
		{"without spaces", "abcdefghijklmno", 10, []string{"abcdefghij", "  klmno"}},
		{"a row", "  Limit       MemoryMax 2.0G", 24, []string{"  Limit       MemoryMax", "      2.0G"}},
		{"wide", "分析分析分析", 5, []string{"分析", " 分析", " 分析"}},
		{"no room", "ab", 1, []string{"a", "b"}},
		{"nothing fits", "分析", 0, []string{"分", "析"}},
		{"empty", "", 10, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fold(tt.line, tt.width); strings.Join(got, "|") != strings.Join(tt.want, "|") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
