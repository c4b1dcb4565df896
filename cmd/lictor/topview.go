package main

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/scidex/lictor/events"
)

// reverse shows the row under the cursor, which has a mark, too.
const reverse colour = "7"

// Where a window says nothing of its size, or nonsense, it is taken for this.
const (
	usualColumns = 80
	usualLines   = 24
)

func (m topModel) width() int  { return cmp.Or(m.columns, usualColumns) }
func (m topModel) height() int { return cmp.Or(m.lines, usualLines) }

// wide is a screen with room for the totals of memory, and the columns farther apart.
func (m topModel) wide() bool { return m.width() >= 100 }

// topLines is the screen: at most as many lines as it has, none wider than it is.
func (a *App) topLines(m topModel) []string {
	if m.page != nil {
		return append(a.pageLines(m), a.footer(m)...)
	}
	return append(append(a.topHeader(m), a.topList(m)...), a.footer(m)...)
}

// headerHeight is the number of lines above the list: the first one, and with them the totals and a gap if half of the screen
// stays for the list.
func (m topModel) headerHeight() int {
	switch {
	case m.height() < 3:
		return 0
	case m.height() < 12 || m.sample == nil:
		return 1
	}
	return 1 + len(m.sample.sum.bars()) + 1
}

// room is the number of rows that have a place.
func (m topModel) room() int {
	if m.page != nil {
		return max(m.height()-len(m.said()), 0)
	}
	return max(m.height()-m.headerHeight()-1-len(m.said()), 0) // titles
}

// scrolled moves what is shown so far that the cursor is among it and no space is wasted below.
func (m topModel) scrolled() topModel {
	if m.page != nil {
		page := *m.page
		page.offset = min(max(page.offset, 0), max(len(m.folded())-m.room(), 0))
		m.page = &page
	}
	list := m
	list.page = nil
	at, room := m.index(), max(list.room(), 1)
	m.offset = min(m.offset, at, max(len(m.rows)-room, 0))
	m.offset = max(m.offset, at-room+1, 0)
	return m
}

// topHeader tells of the box, and when that was.
func (a *App) topHeader(m topModel) []string {
	height := m.headerHeight()
	if height == 0 {
		return nil
	}
	if m.sample == nil {
		return []string{a.fit("looking ...", m.width())}
	}
	lines := []string{a.firstLine(m)}
	if height == 1 {
		return lines
	}
	for _, t := range m.sample.sum.bars() {
		bar := a.bar(t.used, t.limit, 10)
		text := a.fit(inert(t.text), m.width()-textWidth(bar.text)-1)
		if m.width() < 40 {
			lines = append(lines, a.fit(inert(t.text), m.width()))
			continue
		}
		lines = append(lines, a.paint(bar.colour, bar.text)+" "+text)
	}
	return append(lines, "")
}

// firstLine has the counts on the left and, if there is room, the clock and the order on the right.
func (a *App) firstLine(m topModel) string {
	left := a.fit(inert(m.sample.sum.headline()), m.width())
	right := "by " + string(m.order)
	if m.reverse {
		right += ", reversed"
	}
	right += "  " + m.sample.at.Format("15:04:05")
	space := m.width() - textWidth(left) - textWidth(right)
	if space < 2 {
		return a.paint(bold, left)
	}
	return a.paint(bold, left) + strings.Repeat(" ", space) + right
}

// headline counts the runs of a box.
func (sum summary) headline() string {
	text := cmp.Or(sum.Box.Host, "this machine") + ": " + count(total(sum.Live), "live run", "live runs")
	if n := sum.Live[string(events.StateGrace)]; n > 0 {
		text += ", " + count(n, "in grace", "in grace")
	}
	return text + ", " + sum.kills()
}

// memoryBar is one of the totals: what is used of how much.
type memoryBar struct {
	text        string
	used, limit *uint64
}

// bars are the totals of memory that are known: of the runs, of the slice that holds them, of the host.
func (sum summary) bars() []memoryBar {
	b := sum.Box
	var promised, taken *uint64
	if sum.Unlimited == 0 {
		promised = &sum.Promised
	}
	if b.MemoryTotal != nil && b.MemoryAvailable != nil {
		taken = new(*b.MemoryTotal - min(*b.MemoryTotal, *b.MemoryAvailable))
	}
	list := []memoryBar{{sum.held(), sum.Used, promised}, {sum.slice(), b.SliceCurrent, b.SliceMax}, {sum.free(), taken, b.MemoryTotal}}
	return slices.DeleteFunc(list, func(t memoryBar) bool { return t.text == "" })
}

// bar draws what is used of a limit. It is empty where there is none, or where it is not known.
func (a *App) bar(used, limit *uint64, width int) cell {
	if used == nil || limit == nil || *limit == 0 {
		return cell{text: strings.Repeat(" ", width)}
	}
	share := min(float64(*used)/float64(*limit), 1)
	full := int(share*float64(width) + 0.5)
	c := green
	switch {
	case share >= 0.9:
		c = red
	case share >= 0.75:
		c = yellow
	}
	on, off := "#", "."
	if a.unicode() {
		on, off = "█", "░"
	}
	return cell{strings.Repeat(on, full) + strings.Repeat(off, width-full), c}
}

// notice is what the last lines have to say: a question, what just happened, or what is wrong. It is plain text.
func (m topModel) notice() (text string, c colour) {
	switch stale := m.stale(); {
	case m.confirm != "":
		return "stop " + inert(m.name(m.confirm)) + "? y/N", bold
	case m.message != "":
		return inert(m.message), plain
	case m.trouble != "":
		return "! " + inert(m.trouble), red
	case stale > 0:
		return "! nothing seen for " + shortAge(stale), yellow
	}
	return "", plain
}

// said is the notice, folded: an error with its hint is longer than a line. Without a notice one line is for the keys.
func (m topModel) said() []string {
	const most = 3
	text, _ := m.notice()
	lines := fold(text, m.width())
	if n := min(most, max(m.height()/4, 1)); len(lines) > n {
		lines = append(lines[:n-1], lines[n-1]+" "+strings.TrimSpace(lines[n])) // too long for a line, so that it is marked
	}
	return lines
}

// footer is the last lines: the notice or, if there is none, keys.
func (a *App) footer(m topModel) []string {
	text, c := m.notice()
	if text == "" {
		return []string{a.keyLine(m)}
	}
	lines := m.said()
	for i, line := range lines {
		lines[i] = a.paint(c, a.fit(line, m.width()))
	}
	return lines
}

// keyLine lists keys, the most useful first, as many as there is room for.
func (a *App) keyLine(m topModel) string {
	keys := []string{"? help", "q quit", "w why", "t tree", "s stop", "sort: m memory", "c cpu", "a age", "l left", "p peak", "r reverse"}
	if m.page != nil {
		keys = []string{"q back", "w why", "t tree", "s stop", "j k scroll"}
		if m.page.what == actHelp {
			keys = []string{"q back", "j k scroll"}
		}
	}
	line := keys[0]
	for _, k := range keys[1:] {
		if textWidth(line)+len(gap)+len(k) > m.width() {
			break
		}
		line += gap + k
	}
	return a.fit(line, m.width())
}

// pageLines is the part of a page that is shown.
func (a *App) pageLines(m topModel) []string {
	lines := m.folded()
	room := m.room()
	lines = lines[min(m.page.offset, len(lines)):]
	lines = lines[:min(len(lines), room)]
	out := make([]string, room)
	for i, line := range lines {
		out[i] = a.fit(line, m.width())
		if i == 0 && m.page.offset == 0 {
			out[i] = a.paint(bold, out[i])
		}
	}
	return out
}

// folded are the lines of a page. An explanation is folded at the width of the screen, below its text; trees are cut.
func (m topModel) folded() []string {
	if m.page.lines == nil {
		return []string{"looking ..."}
	}
	if m.page.what == actTree {
		return m.page.lines
	}
	var out []string
	for _, line := range m.page.lines {
		out = append(out, fold(line, m.width())...)
	}
	return out
}

// foldIndent is where the text of a row begins; see printExplanation.
const foldIndent = 14

// fold breaks a line that is too long at spaces, or anywhere if there are none. What follows is indented.
func fold(line string, width int) (out []string) {
	indent := min(2, width/4)
	if strings.HasPrefix(line, "  ") { // a row
		indent = min(foldIndent, width/4)
	}
	lead := ""
	for textWidth(lead)+textWidth(line) > width {
		n := breakAt(line, width-textWidth(lead))
		out = append(out, lead+strings.TrimRight(line[:n], " "))
		line, lead = strings.TrimLeft(line[n:], " "), strings.Repeat(" ", indent)
		if line == "" {
			return out
		}
	}
	return append(out, lead+line)
}

// breakAt returns how much of a text goes on a line with so much room: to the last space after a word, else as much as there is
// room for, and one character at least.
func breakAt(text string, room int) int {
	_, end := utf8.DecodeRuneInString(text)
	space, word := 0, false
	for i, r := range text {
		if r == ' ' && word {
			space = i
		}
		if room -= runeWidth(r); room < 0 {
			break
		}
		word = word || r != ' '
		end = i + utf8.RuneLen(r)
	}
	if space > 0 {
		return space
	}
	return end
}

// fit is cut that keeps to a width too small for the mark, and to none.
func (a *App) fit(text string, width int) string {
	text = a.cut(text, max(width, 0))
	for textWidth(text) > max(width, 0) {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return text
}
