package events

import (
	"strconv"
	"strings"
	"time"
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

// dialect is what the databases write differently in a query. A ? stands for an argument in both.
type dialect struct {
	live    string // a run has no end record
	started string // the column of its start, in nanoseconds
	command string // it has this command line
	kill    string // an event is a kill
	uid     string // an event is of a run of this user
	host    string // … on this host
	// at restricts the time of an event.
	at func(c *conditions, since, until time.Time)
}

var sqliteDialect = dialect{
	live:    "ended = 0",
	started: "started_at",
	command: "command = ?",
	kill:    "is_kill = 1",
	uid:     "EXISTS (SELECT 1 FROM watchdog_processes p WHERE p.run = watchdog_events.run AND p.uid = ?)",
	host:    "EXISTS (SELECT 1 FROM watchdog_processes p WHERE p.run = watchdog_events.run AND p.host = ?)",
	at:      func(c *conditions, since, until time.Time) { c.within("at", since, until) },
}

// PostgreSQL's column for people has microseconds, and the index; the one with nanoseconds is exact.
var postgresDialect = dialect{
	live:    "NOT ended",
	started: "started_ns",
	command: "command = ?::text::jsonb",
	kill:    "is_kill",
	uid:     "uid = ?",
	host:    "host = ?",
	at: func(c *conditions, since, until time.Time) {
		if !since.IsZero() {
			c.add("at >= ?", atNanos(nanos(since)))
		}
		if !until.IsZero() {
			c.add("at <= ?", atNanos(nanos(until)))
		}
		c.within("at_ns", since, until)
	},
}

// within adds that a time in nanoseconds is at or after since and before until; a zero bound does not restrict.
func (c *conditions) within(column string, since, until time.Time) {
	if !since.IsZero() {
		c.add(column+" >= ?", nanos(since))
	}
	if !until.IsZero() {
		c.add(column+" < ?", nanos(until))
	}
}

// conditions are those that select the runs.
func (q RunQuery) conditions(d dialect) (c conditions, err error) {
	if q.Live {
		c.add(d.live)
	}
	in(&c, "state", q.States)
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	if q.Command != nil {
		command, err := marshal(q.Command)
		if err != nil {
			return c, err
		}
		c.add(d.command, string(command))
	}
	c.within(d.started, q.Since, q.Until)
	if q.UID != nil {
		c.add("uid = ?", int64(*q.UID))
	}
	if q.Host != "" {
		c.add("host = ?", Clean(q.Host))
	}
	if q.After.Run != "" {
		c.add("("+d.started+", run) < (?, ?)", nanos(q.After.StartedAt), Clean(string(q.After.Run)))
	}
	if q.Name != "" {
		c.add("name = ? AND name <> ''", Clean(q.Name))
	}
	if q.Prefix != "" {
		prefix := Clean(string(q.Prefix))
		c.add("run >= ? AND run < ?", prefix, prefix+beyond)
	}
	return c, nil
}

// stmt returns what follows FROM watchdog_processes.
func (q RunQuery) stmt(d dialect) (string, []any, error) {
	c, err := q.conditions(d)
	if err != nil {
		return "", nil, err
	}
	order := " ORDER BY " + d.started + " DESC, run DESC"
	if q.Prefix != "" {
		order = " ORDER BY run"
	}
	if q.Limit > 0 {
		order += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	return c.where() + order, c.args, nil
}

// count returns the query for how many there are.
func (q RunQuery) count(d dialect) (string, []any, error) {
	c, err := q.conditions(d)
	return "SELECT count(*) FROM watchdog_processes " + c.where(), c.args, err
}

// conditions are those that select the events.
func (q EventQuery) conditions(d dialect) (c conditions) {
	if q.Run != "" {
		c.add("run = ?", Clean(string(q.Run)))
	}
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	in(&c, "kind", q.Kinds)
	if q.KillsOnly {
		c.add(d.kill)
	}
	if q.Live {
		c.add("run IN (SELECT run FROM watchdog_processes WHERE " + d.live + ")")
	}
	d.at(&c, q.Since, q.Until)
	if q.After > 0 {
		c.add("position > ?", q.After)
	}
	if q.UID != nil {
		c.add(d.uid, int64(*q.UID))
	}
	if q.Host != "" {
		c.add(d.host, Clean(q.Host))
	}
	return c
}

// at notes the position of one more event for who asked.
func (q EventQuery) at(position int64) {
	if q.Positions != nil {
		*q.Positions = append(*q.Positions, position)
	}
}

// stmt returns the query for position, ordinal and event. order is the position, or something that has its order.
func (q EventQuery) stmt(d dialect, order string) (string, []any) {
	c := q.conditions(d)
	stmt := "SELECT position, ordinal, event FROM watchdog_events " + c.where() + " ORDER BY " + order
	if q.Limit > 0 {
		stmt += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	if q.Last <= 0 {
		return stmt, c.args
	}
	c.args = append(c.args, q.Last)
	return "SELECT * FROM (" + stmt + " DESC LIMIT ?) AS last ORDER BY position", c.args
}

// sqlite is the query as SQLite is asked.
func (q EventQuery) sqlite() (string, []any) {
	if !q.Since.IsZero() && q.Limit == 0 {
		return q.stmt(sqliteDialect, "+position") // else SQLite reads the whole table to have it in order, instead of the index by time
	}
	return q.stmt(sqliteDialect, "position")
}

// postgres is the query as PostgreSQL is asked.
func (q EventQuery) postgres() (string, []any) { return q.stmt(postgresDialect, "position") }

// numbered writes the arguments of a statement as PostgreSQL has them: $1 for the first ?.
func numbered(stmt string) string {
	parts := strings.Split(stmt, "?")
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}
