package main

import (
	"slices"
	"unicode/utf8"

	"github.com/scidex/lictor/events"
)

// topKey is one key: the character, or the name of one that has none.
type topKey string

const (
	keyUp       topKey = "up"
	keyDown     topKey = "down"
	keyPageUp   topKey = "page up"
	keyPageDown topKey = "page down"
	keyHome     topKey = "home"
	keyEnd      topKey = "end"
	keyEnter    topKey = "enter"
	keyEscape   topKey = "esc"
	keyCtrlC    topKey = "ctrl-c"
	keyCtrlL    topKey = "ctrl-l"
	keyCtrlZ    topKey = "ctrl-z"
)

// decodeKeys reads what a terminal sends for keys (ECMA-48 and what xterm makes of it). What may be the beginning of a
// longer sequence is returned as rest, to be given again with what follows, or with final when nothing did for a moment: an
// escape by itself is the key Esc, and an arrow key that arrives in two pieces is not. What is not known is left out.
func decodeKeys(input []byte, final bool) (keys []topKey, rest []byte) {
	for len(input) > 0 {
		key, n := decodeKey(input, final)
		if n == 0 {
			return keys, input
		}
		if key != "" {
			keys = append(keys, key)
		}
		input = input[n:]
	}
	return keys, nil
}

// decodeKey returns the first key and its length; 0 asks for more input.
func decodeKey(input []byte, final bool) (topKey, int) {
	switch c := input[0]; {
	case c == 0x1b:
		return decodeEscape(input, final)
	case c == '\r' || c == '\n':
		return keyEnter, 1
	case c == 0x03:
		return keyCtrlC, 1
	case c == 0x0c:
		return keyCtrlL, 1
	case c == 0x1a:
		return keyCtrlZ, 1
	case c < ' ' || c == 0x7f:
		return "", 1
	}
	if !utf8.FullRune(input) && !final {
		return "", 0
	}
	r, n := utf8.DecodeRune(input)
	if r == utf8.RuneError {
		return "", n
	}
	return topKey(r), n
}

func decodeEscape(input []byte, final bool) (topKey, int) {
	if len(input) == 1 {
		if final {
			return keyEscape, 1
		}
		return "", 0
	}
	switch input[1] {
	case 0x1b: // Esc twice
		return keyEscape, 1
	case '[', 'O': // CSI, SS3
	default: // Alt and a character
		return "", 2
	}
	end := 2
	for end < len(input) && input[end] >= 0x20 && input[end] < 0x40 {
		end++
	}
	if end == len(input) {
		if final {
			return "", end
		}
		return "", 0
	}
	return namedKey(string(input[2 : end+1])), end + 1
}

// namedKey is the key of a sequence without its introducer.
func namedKey(sequence string) topKey {
	switch sequence {
	case "A":
		return keyUp
	case "B":
		return keyDown
	case "H", "1~", "7~":
		return keyHome
	case "F", "4~", "8~":
		return keyEnd
	case "5~":
		return keyPageUp
	case "6~":
		return keyPageDown
	case "M": // the keypad
		return keyEnter
	}
	return ""
}

// apply is what a key does. A question takes every key; only y is a yes.
func (k topKey) apply(m topModel) (topModel, []topEffect) {
	m.message = ""
	switch k {
	case keyCtrlC:
		return m, []topEffect{{act: actQuit}}
	case keyCtrlL:
		return m, []topEffect{{act: actRedraw}}
	case keyCtrlZ:
		return m, []topEffect{{act: actSuspend}}
	}
	switch {
	case m.confirm != "":
		return m.answered(k)
	case m.page != nil:
		return m.pageKey(k)
	}
	return m.listKey(k)
}

// answered ends a question.
func (m topModel) answered(k topKey) (topModel, []topEffect) {
	run := m.confirm
	m.confirm = ""
	if k != "y" && k != "Y" {
		m.message = m.name(run) + " goes on"
		return m, nil
	}
	m.stopping = append(slices.Clone(m.stopping), run)
	m.message = m.name(run) + " is being stopped: SIGTERM, and SIGKILL after its grace"
	return m, []topEffect{{actStop, run}}
}

func (m topModel) listKey(k topKey) (topModel, []topEffect) {
	switch k {
	case "q", keyEscape:
		return m, []topEffect{{act: actQuit}}
	case "m":
		return m.sortedBy(byMemory), nil
	case "c":
		return m.sortedBy(byCPU), nil
	case "a":
		return m.sortedBy(byAge), nil
	case "l":
		return m.sortedBy(byLeft), nil
	case "p":
		return m.sortedBy(byPeak), nil
	case "r":
		m.reverse = !m.reverse
		return m.sorted(), nil
	case " ":
		if m.sampling {
			return m, nil
		}
		return m.start()
	}
	if r, ok := m.selected(); ok {
		if next, effects, done := m.runKey(k, r.Run.Run); done {
			return next, effects
		}
	}
	if k == "?" || k == "h" {
		m.page = &topPage{what: actHelp, lines: topHelp()}
		return m, nil
	}
	return m.moved(m.step(k)), nil
}

func (m topModel) pageKey(k topKey) (topModel, []topEffect) {
	if m.page.what != actHelp {
		if next, effects, done := m.runKey(k, m.page.run); done {
			return next, effects
		}
	}
	switch k {
	case "q", "?", keyEscape, keyEnter:
		m.page = nil
		return m, nil
	}
	page := *m.page
	page.offset += m.step(k)
	m.page = &page
	return m, nil
}

// runKey is a key that is about one run, in the list as on its page.
func (m topModel) runKey(k topKey, run events.RunID) (next topModel, effects []topEffect, done bool) {
	what := actWhy
	switch k {
	case "s", "x":
		return m.asked(run), nil, true
	case "t":
		what = actTree
	case "w":
	case keyEnter:
		if m.page != nil {
			return m, nil, false
		}
	default:
		return m, nil, false
	}
	m.page = &topPage{what: what, run: run}
	return m, []topEffect{{what, run}}, true
}

// asked asks before a run is stopped, if that makes sense.
func (m topModel) asked(run events.RunID) topModel {
	i := slices.IndexFunc(m.rows, func(r topRow) bool { return r.Run.Run == run })
	switch {
	case i < 0 || m.rows[i].State.Final():
		m.message = m.name(run) + " has ended already"
	case slices.Contains(m.stopping, run):
		m.message = m.name(run) + " is being stopped already"
	default:
		m.confirm = run
	}
	return m
}

// step is how far a key moves, in lines.
func (m topModel) step(k topKey) int {
	const far = 1 << 30
	page := max(m.room()-1, 1)
	switch k {
	case keyUp, "k":
		return -1
	case keyDown, "j":
		return 1
	case keyPageUp:
		return -page
	case keyPageDown:
		return page
	case keyHome, "g":
		return -far
	case keyEnd, "G":
		return far
	}
	return 0
}

// moved moves the cursor.
func (m topModel) moved(by int) topModel {
	if len(m.rows) == 0 || by == 0 {
		return m
	}
	m.cursor = m.rows[min(max(m.index()+by, 0), len(m.rows)-1)].Run.Run
	return m
}

func (m topModel) sortedBy(o topOrder) topModel {
	m.order = o
	return m.sorted()
}

// topHelp is the page of the key ?.
func topHelp() []string {
	return []string{
		"Keys",
		"",
		"  up down j k  choose a run; also page up, page down, home, end, g, G",
		"  Enter w      why it ended, or how far it is",
		"  t            its processes",
		"  s x          stop it: SIGTERM, and SIGKILL after its grace; asks before",
		"  m c a l p    sort by memory, CPU, age, time left, peak",
		"  r            the other way round",
		"  space        look now",
		"  Ctrl-L       draw the screen again",
		"  q Esc        back, and from the list: quit",
		"  Ctrl-C       quit",
		"",
		"Columns",
		"",
		"  MEM          memory that the run holds: without page cache that goes first",
		"  USED         MEM as a part of LIMIT",
		"  PEAK         the most so far, page cache included",
		"  CPU%         of one processor, since the last refresh",
		"  AGE          since the start, or how long an ended run lasted",
		"  LEFT         until the time limit",
		"",
		"A run that has ended stays for half a minute.",
		"What a narrow screen has no room for is left out.",
	}
}
