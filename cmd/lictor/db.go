package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

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
	var follow, all bool
	cmd := &cobra.Command{
		Use:   "forward",
		Short: "Copy the records to the database",
		Long: `Copy the records that the PostgreSQL database has not got yet, in order, each once. Several may do that at once. What the
database refuses for ever is set aside (lictor db dead). With --follow it goes on until it is told to end, as lictor-forward.service
does, and tries again for as long as the database is away. With --all it begins with the oldest record, for a database that was
restored from a backup; what that has is not doubled.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.forward(cmd.Context(), follow, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "begin with the oldest record")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written later")
	return cmd
}

func (a *App) forward(ctx context.Context, follow, all bool) error {
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
	if follow && all {
		return withHint(usageError("--follow and --all: choose one"), "lictor db forward --all, then the service goes on")
	}
	f := events.NewForwarder(spool, to, slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: a.logLevel(slog.LevelInfo)})))
	if follow {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		f.Run(ctx)
		return nil
	}
	n, err := f.Drain(ctx, all)
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
