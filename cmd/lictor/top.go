package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const topLong = `Show the runs that are alive, what they hold and what the box has, again every second. A run that has ended stays for half a
minute, with its reason.

The columns are those of "lictor ps", with a bar for memory against the limit; those that a narrow screen has no room for are
left out. CPU% is the share of one processor since the last refresh; in the first table, and for a new run, since its start.

Keys: ? lists them. Where stdin or stdout is no terminal one table is printed; with --batch one after the other, until -n.`

// topOptions are the flags of `lictor top`.
type topOptions struct {
	delay    time.Duration
	batch    bool
	limit    int // refreshes, 0 for no bound
	order    topOrder
	reverse  bool
	noLegend bool
}

func newTopCommand(app *App) *cobra.Command {
	var o topOptions
	var delay, order string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the runs in the terminal",
		Long:  topLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.delay, err = parseDelay(delay); err != nil {
				return err
			}
			if o.order, err = parseOrder(order); err != nil {
				return err
			}
			if o.limit < 0 {
				return withHint(usageError("lines %d: must not be negative", o.limit), "-n 1 shows one table")
			}
			return app.top(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&delay, "delay", "d", "1s", "`time` between refreshes")
	f.BoolVarP(&o.batch, "batch", "b", false, "print tables one after the other, as for a pipe")
	f.IntVarP(&o.limit, "refreshes", "n", 0, "end after this `number` of them")
	f.StringVar(&order, "sort", string(byMemory), "by `key`: "+strings.Join(orderNames(), ", "))
	f.BoolVarP(&o.reverse, "reverse", "r", false, "the other way round")
	f.BoolVar(&o.noLegend, "no-legend", false, "no totals and no header in printed tables")
	cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(orderNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// shortestDelay keeps a typing error from being a load.
const shortestDelay = 100 * time.Millisecond

func parseDelay(text string) (time.Duration, error) {
	d, infinite, err := ParseTimespan("delay", text)
	if err != nil {
		return 0, withCode(exitUsage, err)
	}
	if infinite || d < shortestDelay {
		return 0, withHint(usageError("delay %q: must be a time from %v on", text, shortestDelay), "write it like 2s")
	}
	return d, nil
}

func parseOrder(text string) (topOrder, error) {
	if !slices.Contains(orderNames(), text) {
		return "", withHint(usageError("sort %q: unknown", text), "one of "+strings.Join(orderNames(), ", "))
	}
	return topOrder(text), nil
}

// top needs a terminal on both sides, and one whose cursor can be moved; anything else gets tables.
func (a *App) top(ctx context.Context, o topOptions) error {
	in, out := terminal(a.Stdin), terminal(a.Stdout.w)
	if !o.batch && in != nil && out != nil && a.Getenv("TERM") != "dumb" {
		return a.topScreen(ctx, newScreen(in, out), o)
	}
	if o.limit == 0 && !o.batch {
		o.limit = 1
	}
	return a.topTables(ctx, o)
}

// topTables prints tables until the limit, or until nobody reads them.
func (a *App) topTables(ctx context.Context, o topOptions) error {
	m, sampler := newTopModel(o), topSampler{app: a}
	for n := 1; ; n++ {
		sample := sampler.sample(ctx)
		for _, note := range sample.notes {
			a.talk("%s", note)
		}
		if sample.err != nil {
			return sample.err
		}
		m, _ = m.update(sample)
		if n > 1 {
			fmt.Fprintln(a.Stdout)
		}
		a.printTop(m, !o.noLegend)
		if err := a.Stdout.Err(); n == o.limit || err != nil {
			return err
		}
		if err := sleep(ctx, o.delay); err != nil {
			return err
		}
	}
}

// printTop prints what programs read: the totals, and the columns of `lictor ps`.
func (a *App) printTop(m topModel, legend bool) {
	if legend {
		fmt.Fprintln(a.Stdout, inert(m.sample.sum.headline())+"; "+a.clock(m.sample.at))
		for _, total := range m.sample.sum.bars() {
			fmt.Fprintln(a.Stdout, inert(total.text))
		}
		fmt.Fprintln(a.Stdout)
	}
	t := &table{columns: psColumns()}
	for _, r := range m.rows {
		t.add(a.psRow(r.listed, m.ids[r.Run.Run], m.sample.at, percentOr(r.cpu, r.cpuKnown))...)
	}
	t.print(a, legend)
}

// topSample is one look at everything.
type topSample struct {
	at    time.Time
	sum   summary
	live  []listed
	ended []*events.Run // that may be news
	notes []string      // what would have been talk
	err   error
}

// topSampler looks, one time after the other.
type topSampler struct {
	app     *App
	settled time.Time
	alive   map[events.RunID]bool        // at the last look
	ended   map[events.RunID]*events.Run // records that need not be read again
}

// settleEvery is how often unfinished records are looked for: that is a second walk through all runs, and dead keepers are
// rare. At the first look it is done before the listing, as for any other.
const settleEvery = 10 * time.Second

// sample looks once. What it cannot know is said in the sample.
func (t *topSampler) sample(ctx context.Context) *topSample {
	var words transcript
	app := *t.app
	app.Stderr = &words
	if app.Now().Sub(t.settled) < settleEvery {
		app.Settle = nil
	} else {
		t.settled = app.Now()
	}
	app.Systemd = nil // its version is not shown, and to ask for it is a connection
	s := &topSample{}
	s.err = app.read(ctx, func(ctx context.Context, store events.Reader) (err error) {
		s.at = app.Now()
		if s.live, err = app.listRuns(ctx, store, events.RunQuery{Live: true}); err != nil {
			return err
		}
		if s.sum, err = app.totals(ctx, store, s.live); err != nil {
			return err
		}
		s.ended, err = t.lookBack(ctx, store, s)
		return err
	})
	s.notes = words.lines()
	return s
}

// endedStay is how long a run that has ended is shown.
const endedStay = 30 * time.Second

// lookBack returns the runs that have ended a short while ago, and those that were alive at the last look and are not now:
// an end may be recorded long after it happened.
func (t *topSampler) lookBack(ctx context.Context, store events.Reader, s *topSample) ([]*events.Run, error) {
	es, err := store.Events(ctx, events.EventQuery{Kinds: []events.Kind{events.KindEnded}, Since: s.at.Add(-endedStay)})
	if err != nil {
		return nil, err
	}
	alive, gone := map[events.RunID]bool{}, map[events.RunID]bool{}
	for _, r := range s.live {
		alive[r.Run.Run] = true
	}
	for _, id := range runsOf(es) {
		gone[id] = !alive[id]
	}
	for id := range t.alive {
		gone[id] = !alive[id]
	}
	known := map[events.RunID]*events.Run{}
	var ended []*events.Run
	for id, isGone := range gone {
		if !isGone {
			continue
		}
		if r := t.ended[id]; r != nil {
			known[id] = r
		}
		r, err := runOf(ctx, store, known, id)
		if err != nil {
			return nil, err
		}
		if r == nil || !r.State.Final() {
			delete(known, id)
			continue
		}
		ended = append(ended, r)
	}
	t.alive, t.ended = alive, known
	return ended, nil
}
