package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

const dbLong = `Look after the records: the store, an SQLite file, and the PostgreSQL database that is to have every record, too, if one
is configured (database in /etc/lictor/lictor.toml, or LICTOR_DATABASE_URL). Every record is in the store first; lictor-forward.service
copies them to the database, in order, each once, however long that was away.`

func newDBCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{Use: "db", Short: "Look after the records", Long: dbLong, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDBStatusCommand(app), newDBMigrateCommand(app), newDBForwardCommand(app), newDBPruneCommand(app),
		newDBDeadCommand(app), newDBCheckCommand(app))
	return cmd
}

func newDBMigrateCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the tables of the database up to date",
		Long: `Bring the tables of the PostgreSQL database up to date, or make them; several hosts may do it at once. The store is brought up
to date by whatever writes to it. /usr/share/doc/lictor/examples/postgres-roles.sql makes a role for the hosts, which need not own the tables, and
one for readers.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.migrate(cmd.Context()) },
	}
}

func (a *App) migrate(ctx context.Context) error {
	url, err := a.databaseURL()
	if err != nil {
		return err
	}
	db, name, err := events.PostgresDB(url)
	if err != nil {
		return err
	}
	defer db.Close()
	before, err := migrations.PostgresHas(ctx, db)
	if err == nil {
		err = migrations.Postgres(ctx, db)
	}
	if err != nil {
		return a.explainStore(fmt.Errorf("database %s: %w", name, err))
	}
	if before == migrations.PostgresVersion {
		fmt.Fprintf(a.Stdout, "database %s: schema version %d, nothing to do\n", inert(name), before)
		return nil
	}
	fmt.Fprintf(a.Stdout, "database %s: schema version %d, was %d\n", inert(name), migrations.PostgresVersion, before)
	return nil
}

func newDBForwardCommand(app *App) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "forward",
		Short: "Copy the records to the database",
		Long: `Copy the records that the PostgreSQL database has not got yet, in order, each once. Several may do that at once. What the
database refuses for ever is set aside (lictor db dead). With --follow it goes on until it is told to end, as lictor-forward.service
does, and tries again for as long as the database is away.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.forward(cmd.Context(), follow) },
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written later")
	return cmd
}

func (a *App) forward(ctx context.Context, follow bool) error {
	if c, err := a.LoadConfig(); err == nil && follow && c.Settings[keyDatabase].Text == "" {
		a.talk("no database is configured: nothing to do")
		return nil
	}
	to, err := a.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer to.Close()
	spool, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer spool.Close()
	f := events.NewForwarder(spool, to, slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: a.logLevel(slog.LevelInfo)})))
	if follow {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		f.Run(ctx)
		return nil
	}
	n, err := f.Drain(ctx)
	fmt.Fprintf(a.Stdout, "%s forwarded to %s\n", count(n, "event", "events"), inert(to.Name()))
	return a.explainStore(err)
}

func newDBPruneCommand(app *App) *cobra.Command {
	var before, kills string
	var remote, all bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Forget what is too old",
		Long: `Forget events and ended runs that are older than the configuration keeps them (retention, retention_kills, store_max), or than
the flags say. The daemon does that every hour. With --remote or --all-hosts it is done in the PostgreSQL database, which nobody
else does; that takes its owner.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.pruneNow(cmd.Context(), before, kills, remote, all)
		},
	}
	cmd.Flags().StringVar(&before, "retention", "", "keep events for this `time`, such as 30d")
	cmd.Flags().StringVar(&kills, "retention-kills", "", "keep kills, and their runs, for this `time`")
	cmd.Flags().BoolVar(&remote, "remote", false, "in the PostgreSQL database, of this host")
	cmd.Flags().BoolVar(&all, "all-hosts", false, "in the PostgreSQL database, of all hosts")
	return cmd
}

func (a *App) pruneNow(ctx context.Context, before, kills string, remote, all bool) error {
	rules, err := a.pruneRules()
	if err == nil && before != "" {
		rules.Before, err = a.ago("retention", before)
	}
	if err == nil && kills != "" {
		rules.KillsBefore, err = a.ago("retention-kills", kills)
	}
	if err != nil {
		return err
	}
	var sum events.Pruned
	if remote || all {
		sum, err = a.pruneDatabase(ctx, rules, all)
	} else {
		var s *events.SQLite
		if s, err = a.openStore(ctx); err != nil {
			return err
		}
		defer s.Close()
		sum, err = s.Prune(ctx, rules)
	}
	text := fmt.Sprintf("%s and %s forgotten", count(sum.Events, "event", "events"), count(sum.Runs, "run", "runs"))
	if sum.Lost > 0 {
		text += fmt.Sprintf(", %d of them before their time: the store is at its cap (store_max)", sum.Lost)
	}
	fmt.Fprintln(a.Stdout, text)
	return err
}

func (a *App) pruneDatabase(ctx context.Context, rules events.PruneRules, all bool) (events.Pruned, error) {
	db, err := a.openDatabase(ctx)
	if err != nil {
		return events.Pruned{}, err
	}
	defer db.Close()
	host := ""
	if !all {
		host = a.hostname()
	}
	sum, err := db.Prune(ctx, rules, host)
	return sum, a.explainStore(err)
}

func newDBDeadCommand(app *App) *cobra.Command {
	var retry, drop, asJSON bool
	cmd := &cobra.Command{
		Use:   "dead [POSITION…]",
		Short: "List what the database refused",
		Long: `List the records that the PostgreSQL database refused for ever, with its error. They are in the store all the same. With --retry they
are sent once more; with --drop it is forgotten that they were refused. Without positions, all are meant.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if retry && drop {
				return withHint(usageError("--retry and --drop: choose one"), cmd.CommandPath()+" --help")
			}
			return app.deadLetters(cmd.Context(), args, retry, drop, asJSON)
		},
	}
	cmd.Flags().BoolVar(&retry, "retry", false, "send them once more")
	cmd.Flags().BoolVar(&drop, "drop", false, "forget that they were refused")
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON, one object per line")
	return cmd
}

func (a *App) deadLetters(ctx context.Context, args []string, retry, drop, asJSON bool) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	list, err := s.DeadLetters(ctx)
	if err != nil {
		return err
	}
	if list, err = chosen(list, args); err != nil {
		return err
	}
	switch {
	case drop:
		err = s.DropDead(ctx, list...)
		fmt.Fprintf(a.Stdout, "%s dropped\n", count(len(list), "dead letter", "dead letters"))
		return err
	case retry:
		return a.retryDead(ctx, s, list)
	case asJSON:
		for _, d := range list {
			if err := writeJSONLine(a.Stdout, d); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{columns: []column{{title: "POSITION", right: true}, {title: "WHEN"}, {title: "RUN"}, {title: "KIND"}, {title: "TRIES", right: true}, {title: "ERROR"}}}
	for _, d := range list {
		t.add(texts(strconv.FormatInt(d.Position, 10), a.clock(d.Event.At), inert(d.Event.Run.Short()), inert(string(d.Event.Kind)),
			strconv.Itoa(d.Tries), inert(d.Error))...)
	}
	t.print(a, true)
	return nil
}

// chosen are the dead letters at the positions that a person gave, all without any.
func chosen(list []events.DeadLetter, args []string) ([]events.DeadLetter, error) {
	if len(args) == 0 {
		return list, nil
	}
	var some []events.DeadLetter
	for _, arg := range args {
		n, err := strconv.ParseInt(arg, 10, 64)
		found := false
		for _, d := range list {
			if err == nil && d.Position == n {
				some, found = append(some, d), true
			}
		}
		if !found {
			return nil, withHint(fmt.Errorf("no dead letter at position %q", arg), "lictor db dead lists them")
		}
	}
	return some, nil
}

func (a *App) retryDead(ctx context.Context, s *events.SQLite, list []events.DeadLetter) error {
	to, err := a.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer to.Close()
	n, err := events.NewForwarder(s, to, a.logger()).Retry(ctx, list...)
	fmt.Fprintf(a.Stdout, "%d of %s forwarded\n", n, count(len(list), "dead letter", "dead letters"))
	if err == nil && n < len(list) {
		err = withHint(errors.New("the database refuses the others still"), "lictor db dead")
	}
	return a.explainStore(err)
}

func newDBCheckCommand(app *App) *cobra.Command {
	var aside bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read the whole store and say whether it is damaged",
		Long: `Read the whole store and say whether it is damaged; the daemon does so when it starts. With --set-aside a damaged file is renamed and a
new one begins: what can be read of the old one, "sqlite3 FILE .recover" gets out of it.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.checkStore(cmd.Context(), aside) },
	}
	cmd.Flags().BoolVar(&aside, "set-aside", false, "go on with a new file if this one is damaged")
	return cmd
}

func (a *App) checkStore(ctx context.Context, aside bool) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.Check(ctx)
	if errors.Is(err, events.ErrDamaged) && aside {
		a.talk("%v", err)
		err = s.Replace(ctx, err)
	}
	if err != nil {
		return a.explainStore(err)
	}
	for _, e := range s.Replaced() {
		fmt.Fprintln(a.Stdout, inert(describe(e)))
		return nil
	}
	fmt.Fprintln(a.Stdout, "the store is sound")
	return nil
}

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
