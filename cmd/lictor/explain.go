package main

import (
	"cmp"
	"time"

	"github.com/scidex/lictor/events"
)

// story is all that an explanation is made from.
type story struct {
	listed
	history []*events.Run  // earlier runs of the same command, oldest first
	events  []events.Event // of this run, oldest first
	now     time.Time      // its location is the one that times are shown in
}

// Explanation says why a run ended, or how far it has come. All text is plain; it may hold what strangers wrote.
type Explanation struct {
	State    events.State   `json:"state"` // chooses the glyph
	Headline string         `json:"headline"`
	Rows     []Row          `json:"rows"`
	Advice   *events.Advice `json:"advice,omitempty"`
}

// Row is one labelled line below the headline.
type Row struct {
	Label string `json:"label"`
	Text  string `json:"text"`
}

// explain turns a record into words. It says only what the record holds: what is not known is said to be unknown, or
// left out.
func explain(s story) Explanation {
	x := Explanation{State: s.State, Headline: s.subject() + " " + s.headline(), Advice: cmp.Or(s.advise(), s.Advice)}
	for _, r := range []Row{
		{"Limit", s.limits()},
		{"Killed", s.killed()},
		{"Ended", s.ended()},
		{"When", s.when()},
		{"Not own", s.notOwn()},
		{"Whose", s.whose()},
		{"Not others", s.notOthers()},
		{"Meanwhile", s.incidents()},
		{"Left over", s.leftOver()},
		{"Survived", s.survived()},
		{"Consulted", s.consulted()},
		{"Before", s.before()},
		{"Next", s.next(x.Advice)},
	} {
		if r.Text != "" {
			x.Rows = append(x.Rows, r)
		}
	}
	return x
}

// subject is what a person knows the run by, and its id.
func (s story) subject() string {
	id := s.Run.Run.Short()
	if name := cmp.Or(s.AnalysisID, s.Name); name != "" {
		return name + " (" + id + ")"
	}
	return id
}

// next is the command of an advice, or what it says where no command helps.
func (s story) next(a *events.Advice) string {
	switch {
	case a == nil:
		return ""
	case len(a.Command) > 0:
		return quoteCommand(a.Command)
	}
	return a.Text
}
