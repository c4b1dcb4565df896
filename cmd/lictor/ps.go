package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const psLong = `List the runs that are alive; with -a also those that have ended.

MEM is memory.current without inactive_file, the page cache that the kernel takes back first. PEAK is memory.peak, page
cache included. CPU% is the share of one processor since the start. AGE is the time since the start, or how long an
ended run lasted. LEFT is the time until the time limit.`

// psOptions are the flags of `lictor ps`.
type psOptions struct {
	all, quiet bool
	limit      int
	analysis   string
	list       listFlags
}

func newPsCommand(app *App) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the runs",
		Long:  psLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, s events.Reader) error { return app.ps(ctx, s, o) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "ended runs too")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "run ids only, in full")
	f.IntVarP(&o.limit, "lines", "n", 0, "at most this `number` of runs")
	f.StringVar(&o.analysis, "analysis", "", "only runs with this analysis `id`")
	o.list.add(f)
	cmd.RegisterFlagCompletionFunc("analysis", app.completeAnalysis)
	return cmd
}

func (a *App) ps(ctx context.Context, s events.Reader, o psOptions) error {
	runs, err := a.listRuns(ctx, s, events.RunQuery{Live: !o.all, AnalysisID: o.analysis})
	if err != nil {
		return err
	}
	if o.limit > 0 {
		runs = runs[:min(len(runs), o.limit)]
	}
	switch {
	case o.quiet:
		for _, r := range runs {
			fmt.Fprintln(a.Stdout, inert(string(r.Run.Run)))
		}
	case o.list.json:
		return writeJSON(a.Stdout, append([]listed{}, runs...))
	default:
		a.psTable(runs).print(a, !o.list.noLegend)
	}
	return nil
}

// listRuns returns the runs that q selects, joined with what is alive.
func (a *App) listRuns(ctx context.Context, s events.Reader, q events.RunQuery) ([]listed, error) {
	live := a.live(ctx)
	runs, err := s.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := dropUnlisted(ctx, s, q, live, runs); err != nil {
		return nil, err
	}
	intents, err := liveIntents(ctx, s, runs)
	if err != nil {
		return nil, err
	}
	return list(runs, live, intents), nil
}

// dropUnlisted removes from live what the store knows and q did not select, such as a run whose record is complete and
// whose ledger is about to be released. What stays is in runs, or known to the kernel alone.
func dropUnlisted(ctx context.Context, s events.Reader, q events.RunQuery, live map[events.RunID]*Live, runs []*events.Run) error {
	selected := map[events.RunID]bool{}
	for _, r := range runs {
		selected[r.Run] = true
	}
	for id, l := range live {
		if selected[id] {
			continue
		}
		_, err := s.Run(ctx, id)
		if err != nil && !errors.Is(err, events.ErrNotFound) {
			return err
		}
		otherAnalysis := q.AnalysisID != "" && (l.Record == nil || l.Record.AnalysisID != q.AnalysisID)
		if err == nil || otherAnalysis {
			delete(live, id)
		}
	}
	return nil
}

// liveIntents returns the intents to end runs that are still alive.
func liveIntents(ctx context.Context, s events.Reader, runs []*events.Run) ([]events.Event, error) {
	var since time.Time
	for _, r := range runs {
		if !r.State.Final() && (since.IsZero() || r.StartedAt.Before(since)) {
			since = r.StartedAt
		}
	}
	if since.IsZero() {
		return nil, nil
	}
	return s.Events(ctx, events.EventQuery{Kinds: []events.Kind{events.KindIntent, events.KindTerm}, Since: since})
}

func psColumns() []column {
	return []column{{title: "  RUN"}, {title: "ANALYSIS"}, {title: "STATE"}, {title: "REASON"}, {title: "MEM"},
		{title: "PEAK"}, {title: "LIMIT"}, {title: "CPU%", right: true}, {title: "AGE"}, {title: "LEFT"}, {title: "COMMAND"}}
}

func (a *App) psTable(runs []listed) *table {
	t := &table{columns: psColumns()}
	var names []events.RunID
	for _, r := range runs {
		names = append(names, r.Run.Run)
	}
	ids, now := shortIDs(names), a.Now()
	for _, r := range runs {
		t.add(a.psRow(r, ids[r.Run.Run], now, percentOr(r.cpuPercent(now)))...)
	}
	return t
}

// percentOr writes a share of one processor, or the dash of what is not known.
func percentOr(percent float64, known bool) string {
	if !known {
		return "-"
	}
	return fmt.Sprintf("%.0f", percent)
}

// psRow is the row of a run as it stood at now, with a cell for each of psColumns.
func (a *App) psRow(r listed, id string, now time.Time, cpu string) []cell {
	left := "-"
	if !r.State.Final() {
		left = "none"
		if d, ok := r.left(now); ok {
			left = shortAge(d)
		}
	}
	row := texts(a.glyph(r.State)+" "+inert(id), orDash(r.AnalysisID), inert(string(r.State)), orDash(r.Reason),
		bytesOr(r.memory(), "-"), bytesOr(r.peak(), "-"), bytesOr(r.Limits.MemoryMaxBytes, "none"),
		cpu, shortAge(r.age(now)), left, quoteCommand(r.Command))
	row[0].colour, row[2].colour = stateColour(r.State), stateColour(r.State)
	return row
}
