package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

// dbStatus is what `lictor db status` says.
type dbStatus struct {
	Path            string         `json:"path"`
	Store           events.Size    `json:"store"`
	MaxBytes        *int64         `json:"max_bytes"` // null: no cap
	Retention       string         `json:"retention"`
	RetentionKills  string         `json:"retention_kills"`
	Database        *string        `json:"database"` // null: none is configured
	DatabaseError   string         `json:"database_error,omitempty"`
	DatabaseVersion *int           `json:"database_schema,omitempty"`
	Spools          []events.Spool `json:"spools"` // of every database that was ever forwarded to, the last one first
	target          string         // of the database
}

func newDBStatusCommand(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what is where",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := app.dbStatus(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(app.Stdout, st)
			}
			app.printDBStatus(st)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON")
	return cmd
}

// databasePatience is how long a status waits for the database.
const databasePatience = 10 * time.Second

func (a *App) dbStatus(ctx context.Context) (st dbStatus, err error) {
	if st.Path, err = a.StorePath(); err != nil {
		return st, err
	}
	rules, err := a.pruneRules()
	if err != nil {
		return st, err
	}
	c, err := a.LoadConfig()
	if err != nil {
		return st, err
	}
	st.Retention, st.RetentionKills = c.Settings[keyRetention].Text, c.Settings[keyRetentionKills].Text
	if rules.MaxBytes > 0 {
		st.MaxBytes = &rules.MaxBytes
	}
	s, err := a.openStore(ctx)
	if err != nil {
		return st, err
	}
	defer s.Close()
	if st.Store, err = s.Size(ctx); err != nil {
		return st, err
	}
	if st.Spools, err = s.Spools(ctx); err != nil {
		return st, err
	}
	if url := c.Settings[keyDatabase].Text; url != "" {
		a.askDatabase(ctx, url, &st)
	}
	return st, nil
}

// askDatabase fills in what the database says of itself.
func (a *App) askDatabase(ctx context.Context, url string, st *dbStatus) {
	ctx, cancel := context.WithTimeout(ctx, databasePatience)
	defer cancel()
	fail := func(err error) { st.DatabaseError = err.Error() }
	db, name, err := events.PostgresDB(url)
	st.Database = &name
	if err != nil {
		fail(err)
		return
	}
	defer db.Close()
	version, err := migrations.PostgresHas(ctx, db)
	if err != nil {
		fail(err)
		return
	}
	st.DatabaseVersion = &version
	pg, err := events.OpenPostgres(ctx, url)
	if err != nil {
		fail(err)
		return
	}
	defer pg.Close()
	if st.target, err = pg.Identity(ctx); err != nil {
		fail(err)
	}
}

func (a *App) printDBStatus(st dbStatus) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.Stdout, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	size := events.FormatBytes(uint64(st.Store.Bytes))
	if st.MaxBytes != nil {
		size += " of at most " + events.FormatBytes(uint64(*st.MaxBytes))
	}
	line("Store", "%s", inert(st.Path))
	line("  Holds", "%s, %s, %s; %s", count(st.Store.Runs, "run", "runs"), count(st.Store.Events, "event", "events"),
		count(st.Store.Kills, "kill", "kills"), size)
	if st.Store.Oldest != nil {
		line("  Since", "%s", a.clock(*st.Store.Oldest))
	}
	line("  Keeps", "events %s, kills %s", inert(st.Retention), inert(st.RetentionKills))
	line("  Schema", "%d", st.Store.Schema)
	if st.Database == nil {
		line("Database", "none is configured")
		return
	}
	line("Database", "%s", inert(*st.Database))
	if st.DatabaseVersion != nil {
		line("  Schema", "%d", *st.DatabaseVersion)
	}
	if st.DatabaseError != "" {
		line("  State", "%s", inert(st.DatabaseError))
	} else {
		line("  State", "takes records")
	}
	pending, dead := st.Store.Events, 0
	for _, s := range st.Spools {
		if s.Target == st.target || st.target == "" {
			pending, dead = s.Pending, s.Dead
			break
		}
	}
	line("  Waiting", "%s", count(pending, "event", "events"))
	if dead > 0 {
		line("  Refused", "%s (lictor db dead)", count(dead, "event", "events"))
	}
}
