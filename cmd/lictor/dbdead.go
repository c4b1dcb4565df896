package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

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
