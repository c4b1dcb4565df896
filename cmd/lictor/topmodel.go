package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/scidex/lictor/events"
)

// topModel is all that `lictor top` knows. It is a value: a message makes a new one of it, and nothing here reads a clock,
// a file or a key. What is to be done outside comes back as effects.
type topModel struct {
	columns, lines int // of the screen
	delay          time.Duration
	order          topOrder
	reverse        bool
	left           int // refreshes until the end, if bounded
	bounded        bool

	sample   *topSample // the last that succeeded, nil before the first
	trouble  string     // of the last look
	sampling bool
	now      time.Time // of the last tick

	rows  []topRow
	ids   map[events.RunID]string
	ended map[events.RunID]topEnded

	cursor events.RunID // the run that keys are about; it is followed when rows move
	offset int          // of the first row on the screen

	page     *topPage       // what is shown instead of the list
	confirm  events.RunID   // whose end waits for a y
	stopping []events.RunID // that have not answered yet
	message  string         // until the next key
}

// topPage is text about one run, or the help.
type topPage struct {
	what   topAct // actWhy, actTree; actHelp
	run    events.RunID
	lines  []string
	offset int
}

// topAct is something to do outside of the model.
type topAct int

const (
	actSample  topAct = iota // look at everything, answer with a *topSample
	actWhy                   // explain a run, answer with a topText
	actTree                  // its processes, the same
	actStop                  // end a run, answer with a topStopped
	actRedraw                // the screen may show something else
	actSuspend               // job control
	actQuit
	actHelp // is no effect: the page is at hand
)

type topEffect struct {
	act topAct
	run events.RunID
}

// topMessage is anything that happens: a topKey, topTick, topSize, *topSample, topText or topStopped.
type topMessage interface {
	apply(topModel) (topModel, []topEffect)
}

// update is what a message makes of a model, with the cursor where it can be seen.
func (m topModel) update(message topMessage) (topModel, []topEffect) {
	m, effects := message.apply(m)
	return m.scrolled(), effects
}

// topTick comes each delay.
type topTick struct{ now time.Time }

// topSize is the size of the screen.
type topSize struct{ columns, lines int }

// topText answers actWhy and actTree.
type topText struct {
	what  topAct
	run   events.RunID
	lines []string
}

// topStopped answers actStop: the run has ended, or why not.
type topStopped struct {
	run     events.RunID
	problem string
}

func newTopModel(o topOptions) topModel {
	return topModel{delay: o.delay, order: o.order, reverse: o.reverse, left: o.limit, bounded: o.limit > 0}
}

// start is what to do first.
func (m topModel) start() (topModel, []topEffect) {
	m.sampling = true
	return m, []topEffect{{act: actSample}}
}

// apply looks again, if the last look is over. The last of a bounded number of refreshes is shown for one delay.
func (t topTick) apply(m topModel) (topModel, []topEffect) {
	m.now = t.now
	if m.bounded && m.left == 0 {
		return m, []topEffect{{act: actQuit}}
	}
	if m.sampling {
		return m, nil
	}
	return m.start()
}

func (s topSize) apply(m topModel) (topModel, []topEffect) {
	m.columns, m.lines = s.columns, s.lines
	return m, []topEffect{{act: actRedraw}}
}

// apply takes over what was seen. A look that failed changes nothing but the message: what was seen last stays, with its time.
func (s *topSample) apply(m topModel) (topModel, []topEffect) {
	m.sampling = false
	if m.bounded {
		m.left = max(m.left-1, 0)
	}
	m.trouble = ""
	if len(s.notes) > 0 {
		m.trouble = s.notes[0]
	}
	if s.err != nil {
		m.trouble = oneLine(s.err)
		return m, nil
	}
	previous := m.sample
	m.sample, m.now = s, s.at
	at, before := m.index(), previous.byID()
	m.ended = stillShown(m.ended, s, before)
	m.rows = nil
	for _, r := range s.live {
		m.rows = append(m.rows, measured(r, s.at, before, previous))
	}
	for _, e := range m.ended {
		m.rows = append(m.rows, topRow{listed: listed{Run: e.run}})
	}
	names := make([]events.RunID, len(m.rows))
	for i, r := range m.rows {
		names[i] = r.Run.Run
	}
	m.ids = shortIDs(names)
	m = m.sorted()
	if len(m.rows) > 0 && !m.has(m.cursor) { // its row has gone: stay where it was
		m.cursor = m.rows[min(at, len(m.rows)-1)].Run.Run
	}
	if m.page != nil && m.page.what != actHelp {
		return m, []topEffect{{m.page.what, m.page.run}}
	}
	return m, nil
}

func (t topText) apply(m topModel) (topModel, []topEffect) {
	if m.page != nil && m.page.what == t.what && m.page.run == t.run { // else it was closed meanwhile
		page := *m.page
		page.lines = t.lines
		m.page = &page
	}
	return m, nil
}

func (t topStopped) apply(m topModel) (topModel, []topEffect) {
	m.stopping = slices.DeleteFunc(slices.Clone(m.stopping), func(id events.RunID) bool { return id == t.run })
	m.message = cmp.Or(t.problem, m.name(t.run)+" has ended")
	if m.sampling {
		return m, nil
	}
	return m.start()
}

// name is what the list calls a run.
func (m topModel) name(id events.RunID) string { return cmp.Or(m.ids[id], shortID(id)) }

func (m topModel) has(id events.RunID) bool {
	return slices.ContainsFunc(m.rows, func(r topRow) bool { return r.Run.Run == id })
}

// index is the position of the cursor, 0 if it is nowhere.
func (m topModel) index() int {
	return max(slices.IndexFunc(m.rows, func(r topRow) bool { return r.Run.Run == m.cursor }), 0)
}

// selected is the run under the cursor.
func (m topModel) selected() (topRow, bool) {
	if len(m.rows) == 0 {
		return topRow{}, false
	}
	return m.rows[m.index()], true
}

// stale is how long nothing was seen, 0 while looks succeed in time.
func (m topModel) stale() time.Duration {
	const patience = 3 * time.Second
	if m.sample == nil || m.now.Sub(m.sample.at) < m.delay+patience {
		return 0
	}
	return m.now.Sub(m.sample.at)
}

// oneLine is an error with its hint, for a place that has one line.
func oneLine(err error) string {
	text := err.Error()
	if hint := hintOf(err); hint != "" {
		text = fmt.Sprintf("%s (hint: %s)", text, hint)
	}
	return text
}
