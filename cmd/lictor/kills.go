package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const killsLong = `List what was killed, oldest first: runs that somebody or some limit ended (KIND ended), left-over processes
(orphans), and out-of-memory kills in runs that went on (oom). lictor why RUN tells more.`

func newKillsCommand(app *App) *cobra.Command {
	o := eventOptions{}
	cmd := &cobra.Command{
		Use:   "kills",
		Short: "List what was killed",
		Long:  killsLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := o.query(app.Now())
			if err != nil {
				return err
			}
			q.KillsOnly = true
			return app.readFrom(cmd.Context(), &q, o, func(ctx context.Context, s events.Reader) error { return app.kills(ctx, s, q, o) })
		},
	}
	o.add(cmd.Flags())
	cmd.RegisterFlagCompletionFunc("analysis", app.completeAnalysis)
	return cmd
}

func (a *App) kills(ctx context.Context, s events.Reader, q events.EventQuery, o eventOptions) error {
	es, err := s.Events(ctx, q)
	if err != nil {
		return err
	}
	if o.lines == 0 {
		es = nil
	}
	// The end of a run may be on record before an earlier kill that somebody else found.
	slices.SortStableFunc(es, func(a, b events.Event) int { return a.At.Compare(b.At) })
	if o.list.json {
		return a.printEventLines(es)
	}
	t := &table{columns: []column{{title: "WHEN"}, {title: "RUN"}, {title: "ANALYSIS"}, {title: "KIND"}, {title: "REASON"},
		{title: "PEAK"}, {title: "LIMIT"}, {title: "AFTER"}, {title: "COMMAND"}}}
	if o.all {
		t.columns = append([]column{{title: "HOST"}}, t.columns...)
	}
	ids := shortIDs(runsOf(es))
	runs := map[events.RunID]*events.Run{}
	for _, e := range es {
		run, err := runOf(ctx, s, runs, e.Run)
		if err != nil {
			return err
		}
		row := a.killRow(e, ids[e.Run], run)
		if o.all {
			row = append(texts(hostOf(run)), row...)
		}
		t.add(row...)
	}
	t.print(a, !o.list.noLegend)
	return nil
}

func hostOf(run *events.Run) string {
	if run == nil {
		return "-"
	}
	return orDash(run.Host)
}

// runOf returns the record of a run, nil if there is none: an event may be all that is left.
func runOf(ctx context.Context, s events.Reader, known map[events.RunID]*events.Run, id events.RunID) (*events.Run, error) {
	if run, ok := known[id]; ok {
		return run, nil
	}
	run, err := s.Run(ctx, id)
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return nil, err
	}
	known[id] = run
	return run, nil
}

func (a *App) killRow(e events.Event, id string, run *events.Run) []cell {
	limit, after, command := "-", "-", "-"
	if run != nil {
		limit, after = bytesOr(run.Limits.MemoryMaxBytes, "none"), shortAge(e.At.Sub(run.StartedAt))
		command = quoteCommand(run.Command)
	}
	if e.DurationSeconds != nil {
		after = shortAge(seconds(*e.DurationSeconds))
	}
	row := texts(a.clock(e.At), inert(id), orDash(e.AnalysisID), inert(string(e.Kind)), orDash(e.Reason),
		bytesOr(e.MemoryBytes, "-"), limit, after, command)
	row[4].colour = red
	return row
}
