package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scidex/lictor/events"
)

// pollEvery is how often `events -f` looks for new events.
const pollEvery = time.Second

// eventOptions are the flags of `lictor events` and `lictor kills`.
type eventOptions struct {
	since, until string
	kinds        []string
	analysis     string
	lines        int // -1: all, or the last few with follow
	follow       bool
	remote, all  bool
	list         listFlags
}

func (o *eventOptions) add(f *pflag.FlagSet) {
	f.StringVarP(&o.since, "since", "S", "", `not before this `+"`time`"+`, such as -1h, today or "2026-11-23 15:04"`)
	f.StringVarP(&o.until, "until", "U", "", "before this `time`")
	f.StringVar(&o.analysis, "analysis", "", "only of this analysis `id`")
	f.IntVarP(&o.lines, "lines", "n", -1, "the last `number` of them")
	f.BoolVar(&o.remote, "remote", false, "from the PostgreSQL database, of this host")
	f.BoolVar(&o.all, "all-hosts", false, "from the PostgreSQL database, of all hosts")
	f.BoolVar(&o.list.json, "json", false, "JSON, one object per line")
	f.BoolVar(&o.list.noLegend, "no-legend", false, "no header")
}

func newEventsCommand(app *App) *cobra.Command {
	o := eventOptions{}
	cmd := &cobra.Command{
		Use:   "events [RUN]",
		Short: "List what happened, oldest first",
		Args:  atMost(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.listEvents(cmd.Context(), args, o)
		},
		ValidArgsFunction: app.completeRun,
	}
	o.add(cmd.Flags())
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "wait for more, after the last 10")
	cmd.Flags().StringSliceVar(&o.kinds, "kind", nil, "only this `kind`, such as oom, ended, orphans (repeatable)")
	cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("analysis", app.completeAnalysis)
	return cmd
}

func (a *App) listEvents(ctx context.Context, args []string, o eventOptions) error {
	q, err := o.query(a.Now())
	if err != nil {
		return err
	}
	cursor := int64(0)
	q.Cursor = &cursor
	t := eventTable(o.follow)
	err = a.readFrom(ctx, &q, o, func(ctx context.Context, s events.Reader) error {
		if len(args) == 1 {
			run, err := a.resolve(ctx, s, args[0])
			if err != nil {
				return err
			}
			q.Run = run.Run
		}
		if raw, ok := s.(rawEvents); ok && o.list.json && o.lines != 0 {
			return a.printRaw(ctx, raw, q)
		}
		es, err := s.Events(ctx, q)
		if o.lines == 0 {
			es = nil
		}
		if err != nil {
			return err
		}
		return a.printEvents(t, es, o, !o.list.noLegend)
	})
	if err != nil || !o.follow {
		return err
	}
	return a.follow(ctx, q, t, o)
}

// openSource opens what the events are to come from.
func (a *App) openSource(ctx context.Context, o eventOptions) (events.Reader, error) {
	if o.remote || o.all {
		return a.openDatabase(ctx)
	}
	return a.openReaders(ctx)
}

// readFrom is read for a query of events, which may be about those in the database.
func (a *App) readFrom(ctx context.Context, q *events.EventQuery, o eventOptions, fn func(context.Context, events.Reader) error) error {
	if !o.remote && !o.all {
		return a.read(ctx, fn)
	}
	ctx, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	store, err := a.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if !o.all {
		q.Host = a.hostname()
	}
	return a.explainStore(fn(ctx, store))
}

// query turns flags into a query.
func (o eventOptions) query(now time.Time) (q events.EventQuery, err error) {
	q.AnalysisID, q.Last = o.analysis, o.lines
	if o.lines < 0 {
		q.Last = 0
		if o.follow && o.since == "" {
			q.Last = 10
		}
	} else if o.lines == 0 {
		q.Last = 1 // for the cursor; not shown
	}
	for _, k := range o.kinds {
		if !slices.Contains(events.Kinds, events.Kind(k)) {
			return q, withHint(usageError("kind %q: unknown", k), "one of "+strings.Join(kindNames(), ", "))
		}
		q.Kinds = append(q.Kinds, events.Kind(k))
	}
	if o.since != "" {
		if q.Since, err = parseWhen("since", o.since, now); err != nil {
			return q, withCode(exitUsage, err)
		}
	}
	if o.until != "" {
		if q.Until, err = parseWhen("until", o.until, now); err != nil {
			return q, withCode(exitUsage, err)
		}
	}
	return q, nil
}

// follow prints what is stored later, until ctx ends or stdout is closed.
func (a *App) follow(ctx context.Context, q events.EventQuery, t *table, o eventOptions) error {
	store, err := a.openSource(ctx, o)
	if err != nil {
		return err
	}
	defer store.Close()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	q.Last = 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		q.After = *q.Cursor
		es, err := store.Events(ctx, q)
		if err != nil {
			return err
		}
		if err := a.printEvents(t, es, o, false); err != nil || a.Stdout.Err() != nil {
			return err
		}
	}
}

func (a *App) printEvents(t *table, es []events.Event, o eventOptions, legend bool) error {
	if o.list.json {
		return a.printEventLines(es)
	}
	t.rows = nil
	ids := shortIDs(runsOf(es))
	for _, e := range es {
		t.add(texts(a.clock(e.At), inert(ids[e.Run]), orDash(e.AnalysisID), inert(string(e.Kind)), orDash(e.Reason), inert(describe(e)))...)
	}
	t.print(a, legend)
	return nil
}

// rawEvents is a store that has the JSON of its events at hand.
type rawEvents interface {
	EventsJSON(ctx context.Context, q events.EventQuery, fn func(lines string) error) error
}

// printRaw prints events without reading them, which takes most of the time of a long listing.
func (a *App) printRaw(ctx context.Context, s rawEvents, q events.EventQuery) error {
	return s.EventsJSON(ctx, q, func(lines string) error {
		if !ascii(lines) && strings.ContainsFunc(lines, needsEscape) {
			lines = escapeJSON(lines)
		}
		_, err := io.WriteString(a.Stdout, lines)
		return err
	})
}

// ascii reports whether there is nothing but ASCII in a text, in which nothing is dangerous if it is JSON.
func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x7f {
			return false
		}
	}
	return true
}

func (a *App) printEventLines(es []events.Event) error {
	for _, e := range es {
		if err := writeJSONLine(a.Stdout, e); err != nil {
			return err
		}
	}
	return nil
}

// eventTable has, with -f, columns wide enough for most values: what comes later should still stand below its title.
func eventTable(follow bool) *table {
	t := &table{columns: []column{{title: "WHEN"}, {title: "RUN"}, {title: "ANALYSIS"}, {title: "KIND"}, {title: "REASON"}, {title: "WHAT"}}}
	if follow {
		for i, width := range []int{19, 8, 12, 14, 12} {
			t.columns[i].width = width
		}
	}
	return t
}

// clock writes a point in time in a table.
func (a *App) clock(t time.Time) string {
	return t.In(a.Now().Location()).Format("2006-01-02 15:04:05")
}

func runsOf(es []events.Event) []events.RunID {
	ids := make([]events.RunID, len(es))
	for i, e := range es {
		ids[i] = e.Run
	}
	return ids
}

func kindNames() []string {
	names := make([]string, len(events.Kinds))
	for i, k := range events.Kinds {
		names[i] = string(k)
	}
	return names
}
