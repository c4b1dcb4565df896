package events

import (
	"strings"
)

// conditions collects the parts of a WHERE clause and their arguments.
type conditions struct {
	terms []string
	args  []any
}

func (c *conditions) add(term string, args ...any) {
	c.terms = append(c.terms, term)
	c.args = append(c.args, args...)
}

// in adds that column is one of values; no values do not restrict.
func in[T ~string](c *conditions, column string, values []T) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = Clean(string(v))
	}
	c.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

func (c *conditions) where() string {
	if len(c.terms) == 0 {
		return ""
	}
	return "WHERE " + strings.Join(c.terms, " AND ")
}

// beyond sorts after every character of an id.
const beyond = "\U0010ffff"

// sqlite returns what follows FROM watchdog_processes.
func (q RunQuery) sqlite() (string, []any, error) {
	var c conditions
	if q.Live {
		c.add("ended = 0")
	}
	in(&c, "state", q.States)
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	if q.Command != nil {
		command, err := marshal(q.Command)
		if err != nil {
			return "", nil, err
		}
		c.add("command = ?", string(command))
	}
	if !q.Since.IsZero() {
		c.add("started_at >= ?", nanos(q.Since))
	}
	if !q.Until.IsZero() {
		c.add("started_at < ?", nanos(q.Until))
	}
	if q.UID != nil {
		c.add("uid = ?", *q.UID)
	}
	if q.Host != "" {
		c.add("host = ?", Clean(q.Host))
	}
	if q.Name != "" {
		c.add("name = ? AND name <> ''", Clean(q.Name))
	}
	order := " ORDER BY started_at DESC, run DESC"
	if q.Prefix != "" {
		prefix := Clean(string(q.Prefix))
		c.add("run >= ? AND run < ?", prefix, prefix+beyond)
		order = " ORDER BY run"
	}
	if q.Limit > 0 {
		order += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	return c.where() + order, c.args, nil
}

// conditions are those that select the events.
func (q EventQuery) conditions() (c conditions) {
	if q.Run != "" {
		c.add("run = ?", Clean(string(q.Run)))
	}
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	in(&c, "kind", q.Kinds)
	if q.KillsOnly {
		c.add("is_kill = 1")
	}
	if !q.Since.IsZero() {
		c.add("at >= ?", nanos(q.Since))
	}
	if !q.Until.IsZero() {
		c.add("at < ?", nanos(q.Until))
	}
	if q.After > 0 {
		c.add("position > ?", q.After)
	}
	if q.UID != nil {
		c.add("EXISTS (SELECT 1 FROM watchdog_processes p WHERE p.run = watchdog_events.run AND p.uid = ?)", *q.UID)
	}
	if q.Host != "" {
		c.add("EXISTS (SELECT 1 FROM watchdog_processes p WHERE p.run = watchdog_events.run AND p.host = ?)", Clean(q.Host))
	}
	return c
}

// sqlite returns the query for position, ordinal and event.
func (q EventQuery) sqlite() (string, []any) {
	c := q.conditions()
	order := "position"
	if !q.Since.IsZero() && q.Limit == 0 {
		order = "+position" // else SQLite reads the whole table to have it in order, instead of the index by time
	}
	stmt := "SELECT position, ordinal, event FROM watchdog_events " + c.where() + " ORDER BY " + order
	if q.Limit > 0 {
		stmt += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	if q.Last <= 0 {
		return stmt, c.args
	}
	c.args = append(c.args, q.Last)
	return "SELECT * FROM (" + stmt + " DESC LIMIT ?) ORDER BY position", c.args
}
