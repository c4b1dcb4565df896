package events

import "time"

// PruneRules say what a store forgets. Zero fields forget nothing. Live runs and their events are never forgotten.
type PruneRules struct {
	Before      time.Time // events before it, but for kills, and runs of which nothing is left
	KillsBefore time.Time // kill events before it
	// MaxBytes is how large the database may be: what is the oldest goes first, but kills after everything else, and what a database
	// has not got yet after what it has.
	MaxBytes int64
	// Spooled says that a PostgreSQL database is to get everything: what it has not got yet is too young to be forgotten.
	Spooled bool
}

// Pruned is what was forgotten.
type Pruned struct {
	Events int `json:"events"`
	Runs   int `json:"runs"`
	// Lost counts, of the events, kills that were too young and events that a database should have got: the store was at its cap.
	Lost int `json:"lost"`
}

func (p *Pruned) add(q Pruned) {
	p.Events += q.Events
	p.Runs += q.Runs
	p.Lost += q.Lost
}

// pruneBatch is how many events go in one transaction, so that a keeper who has to write waits for milliseconds.
const pruneBatch = 500
