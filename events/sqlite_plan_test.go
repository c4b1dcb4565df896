package events

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/migrations"
)

// The questions that people and the dashboard ask all the time do not read the whole history.
func TestSQLitePlans(t *testing.T) {
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "lictor.db"), migrations.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	runs := func(q RunQuery) (string, []any) {
		where, args, err := q.stmt(sqliteDialect)
		if err != nil {
			t.Fatal(err)
		}
		return "SELECT record FROM watchdog_processes " + where, args
	}
	type query struct {
		stmt string
		args []any
	}
	ask := func(stmt string, args []any) query { return query{stmt, args} }
	for name, q := range map[string]query{
		"live runs":            ask(runs(RunQuery{Live: true})),
		"ids of live runs":     {liveIDsSQL, nil},
		"latest runs":          ask(runs(RunQuery{Limit: 20})),
		"runs since":           ask(runs(RunQuery{Since: now})),
		"runs of an analysis":  ask(runs(RunQuery{AnalysisID: "x"})),
		"events of a run":      ask(EventQuery{Run: "x"}.sqlite()),
		"intents of live runs": ask(EventQuery{Live: true, Kinds: []Kind{KindIntent}}.sqlite()),
		"last events":          ask(EventQuery{Last: 20}.sqlite()),
		"new events":           ask(EventQuery{After: 7}.sqlite()),
		"events since":         ask(EventQuery{Since: now}.sqlite()),
		"kills since":          ask(EventQuery{Since: now, KillsOnly: true}.sqlite()),
		"kills counted":        {killsSinceSQL, []any{nanos(now)}},
		"by prefix":            {"SELECT record FROM watchdog_processes " + byPrefixSQL, []any{"a", "b", 5}},
		"by label":             {"SELECT record FROM watchdog_processes " + byLabelSQL, []any{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range plan(t, s.writer, q.stmt, q.args) {
				if strings.Contains(step, "SCAN watchdog_") && !strings.Contains(step, "INDEX") && !strings.Contains(q.stmt, "LIMIT") {
					t.Errorf("%s\nreads everything: %s", q.stmt, step)
				}
			}
		})
	}
}

func plan(t *testing.T, db *sql.DB, stmt string, args []any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+stmt, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var (
			id, parent, unused int
			step               string
		)
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	t.Log(strings.Join(steps, "; "))
	return steps
}
