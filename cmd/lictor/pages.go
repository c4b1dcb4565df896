package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/cmd/lictor/internal/dashboard"
	"github.com/scidex/lictor/cmd/lictor/internal/history"
	"github.com/scidex/lictor/events"
)

// pages fills the pages of the dashboard with the words of the commands.
type pages struct{ *backend }

// look is what a caller sees: the runs that it may see, in a store and alive.
func (p pages) look(ctx context.Context, who api.Peer) (*App, events.Reader, error) {
	store, err := p.Store(ctx)
	if err != nil {
		return nil, nil, err
	}
	if who.All() {
		return p.seenBy(nil), store, nil
	}
	return p.seenBy(&who.UID), events.ForUser(store, who.UID), nil
}

// eventsShown is how many events the overview has.
const eventsShown = 15

// Overview implements dashboard.Source.
func (p pages) Overview(ctx context.Context, who api.Peer) (*dashboard.Overview, error) {
	app, store, err := p.look(ctx, who)
	if err != nil {
		return nil, err
	}
	sum, err := app.summarise(ctx, store)
	o := &dashboard.Overview{Host: cmp.Or(sum.Box.Host, "this machine"), Live: total(sum.Live), Grace: sum.Live[string(events.StateGrace)], Kills: sum.Kills,
		Gauges: gauges(sum)}
	if err == nil {
		err = p.happened(ctx, app, store, o)
	}
	if err != nil {
		o.Degraded = "Not everything is known: " + inert(err.Error())
	}
	return o, nil
}

// happened fills in the kills of a day and the last events.
func (p pages) happened(ctx context.Context, app *App, store events.Reader, o *dashboard.Overview) error {
	now := app.Now()
	kills, err := store.Events(ctx, events.EventQuery{KillsOnly: true, Since: now.Add(-day)})
	if err != nil {
		return err
	}
	o.Hours, o.Reasons = hourly(kills, now), reasons(kills)
	last, err := store.Events(ctx, events.EventQuery{Last: eventsShown})
	if err != nil {
		return err
	}
	slices.Reverse(last)
	o.Events = eventLines(app, last)
	return nil
}

// hourly counts kills in each of the 24 hours that end with this one.
func hourly(kills []events.Event, now time.Time) []dashboard.Hour {
	hours := make([]dashboard.Hour, 24)
	first := now.Truncate(time.Hour).Add(-23 * time.Hour)
	for i := range hours {
		hours[i].Start = first.Add(time.Duration(i) * time.Hour).In(now.Location())
	}
	for _, k := range kills {
		if i := int(k.At.Sub(first) / time.Hour); i >= 0 && i < len(hours) && !k.At.Before(first) {
			hours[i].Kills++
		}
	}
	return hours
}

func reasons(kills []events.Event) (list []dashboard.Count) {
	counts := map[string]int{}
	for _, k := range kills {
		counts[cmp.Or(string(k.Reason), string(k.Kind))]++
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, dashboard.Count{What: what, N: counts[what]})
	}
	slices.SortStableFunc(list, func(a, b dashboard.Count) int { return b.N - a.N })
	return list
}

// gauges compare what runs hold with what they may, the slice with its limit, and the host with itself.
func gauges(sum summary) (list []dashboard.Gauge) {
	box := sum.Box
	add := func(label string, used *uint64, of *uint64, text string) {
		if used != nil {
			g := dashboard.Gauge{Label: label, Text: text, Used: float64(*used)}
			if of != nil {
				g.Of = float64(*of)
			}
			list = append(list, g)
		}
	}
	promised := events.FormatBytes(sum.Promised)
	if sum.Unlimited > 0 {
		promised += ", and " + count(sum.Unlimited, "run has", "runs have") + " no limit"
	}
	add("Runs", sum.Used, &sum.Promised, bytesOr(sum.Used, "")+" of their limits' "+promised)
	slice := bytesOr(box.SliceCurrent, "") + ", without a limit of its own"
	if box.SliceMax != nil {
		slice = bytesOr(box.SliceCurrent, "") + " of " + events.FormatBytes(*box.SliceMax)
	}
	add("lictor.slice", box.SliceCurrent, box.SliceMax, slice)
	if box.MemoryTotal != nil && box.MemoryAvailable != nil {
		used := *box.MemoryTotal - min(*box.MemoryTotal, *box.MemoryAvailable)
		add("Host", &used, box.MemoryTotal, events.FormatBytes(used)+" of "+events.FormatBytes(*box.MemoryTotal))
	}
	return list
}

func eventLines(app *App, es []events.Event) (lines []dashboard.EventLine) {
	ids := shortIDs(runsOf(es))
	for _, e := range es {
		lines = append(lines, dashboard.EventLine{At: e.At, Clock: app.clock(e.At), Run: string(e.Run), Short: inert(ids[e.Run]), Name: inert(e.AnalysisID),
			Kind: inert(string(e.Kind)), Reason: inert(string(e.Reason)), Text: inert(describe(e)), Kill: e.IsKill()})
	}
	return lines
}

// runsShown is how many runs are on a page.
const runsShown = 100

// Runs implements dashboard.Source.
func (p pages) Runs(ctx context.Context, who api.Peer, q dashboard.RunsQuery) (*dashboard.Runs, error) {
	app, store, err := p.look(ctx, who)
	if err != nil {
		return nil, err
	}
	end := (q.Page + 1) * runsShown
	query := events.RunQuery{Live: !q.All, AnalysisID: q.Analysis}
	all, err := store.Count(ctx, query)
	if err != nil {
		return nil, err
	}
	if q.All {
		query.Limit = end
	}
	list, err := app.listRuns(ctx, store, query)
	if err != nil {
		return nil, err
	}
	runs := &dashboard.Runs{Total: max(all, len(list)), More: max(all, len(list)) > end}
	list = list[min(q.Page*runsShown, len(list)):min(end, len(list))]
	ids := make([]events.RunID, len(list))
	for i, r := range list {
		ids[i] = r.Run.Run
	}
	short := shortIDs(ids)
	for _, r := range list {
		runs.Rows = append(runs.Rows, runRow(app, r, short[r.Run.Run]))
	}
	return runs, nil
}

// runRow is a row of lictor ps.
func runRow(app *App, r listed, short string) dashboard.Row {
	now := app.Now()
	cells := app.psRow(r, short, now, percentOr(r.cpuPercent(now)))
	mark, _ := glyphs(r.State)
	row := dashboard.Row{ID: string(r.Run.Run), Short: inert(short), Glyph: mark, Analysis: inert(r.AnalysisID), State: cells[2].text,
		Reason: inert(string(r.Reason)), Memory: cells[4].text, Peak: cells[5].text, Limit: bytesOr(r.Limits.MemoryMaxBytes, "no limit"), CPU: cells[7].text, Age: cells[8].text,
		Left: cells[9].text, Command: cells[10].text, Live: !r.State.Final()}
	if row.CPU != "-" {
		row.CPU += "%"
	}
	used := r.memory()
	if !row.Live {
		used = r.peak()
	}
	if used != nil && r.Limits.MemoryMaxBytes != nil {
		row.Used, row.Of = float64(*used), float64(*r.Limits.MemoryMaxBytes)
	}
	return row
}

// Run implements dashboard.Source.
func (p pages) Run(ctx context.Context, who api.Peer, id events.RunID) (*dashboard.Run, error) {
	app, store, err := p.look(ctx, who)
	if err != nil {
		return nil, err
	}
	record, err := store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := app.tellStory(ctx, store, record)
	if err != nil {
		return nil, err
	}
	x := explain(s)
	run := &dashboard.Run{Row: runRow(app, s.listed, id.Short()), Headline: inert(x.Headline), Own: true, Events: eventLines(app, s.events),
		Chart: p.chart(s)}
	for _, r := range x.Rows {
		run.Why = append(run.Why, dashboard.Labelled{Label: r.Label, Text: inert(r.Text)})
	}
	for _, r := range s.statusRows() {
		if r.Text != "" && r.Label != "Ended" {
			run.Facts = append(run.Facts, dashboard.Labelled{Label: r.Label, Text: inert(r.Text)})
		}
	}
	for _, step := range s.Escalation {
		run.Steps = append(run.Steps, dashboard.Step{Step: stepWord(step.Step), By: inert(step.By), At: app.clock(step.At) + ", after " + between(s.StartedAt, step.At)})
	}
	for _, e := range s.Evidence {
		text := cmp.Or(e.Why, string(e.Values))
		run.Evidence = append(run.Evidence, dashboard.Evidence{Source: inert(e.Source), Read: e.Read, Text: inert(text)})
	}
	var tree bytes.Buffer
	app.drawTree(&tree, "", app.processesOf(ctx, s.listed))
	run.Processes = tree.String()
	return run, nil
}

// stepWord is a step of an escalation in words.
func stepWord(step string) string {
	if word, ok := map[string]string{"term": "SIGTERM", "kill": "SIGKILL", "empty": "nobody left", "survived": "survived"}[step]; ok {
		return word
	}
	return inert(step)
}

// chart is what was read of a live run, or what the black box of an ended one has.
func (p pages) chart(s story) dashboard.Chart {
	c := dashboard.Chart{Live: !s.State.Final()}
	if n := s.Limits.MemoryMaxBytes; n != nil {
		c.Limit = float64(*n)
	}
	if n := s.peak(); n != nil {
		c.Peak = float64(*n)
	}
	end := s.now
	if c.Live {
		c.Points = points(p.history.Samples(s.Run.Run), cgroup.Boottime())
	} else {
		if s.EndedAt != nil {
			end = *s.EndedAt
		}
		for _, e := range s.events {
			if e.Kind == events.KindEnded {
				c.Points = blackBoxPoints(e.Detail)
			}
		}
	}
	if len(c.Points) == 0 {
		return c
	}
	for _, e := range s.events {
		if text := markOf(e); text != "" {
			if x := e.At.Sub(end).Seconds(); x >= c.Points[0].X {
				c.Marks = append(c.Marks, dashboard.Mark{X: min(x, 0), Text: text})
			}
		}
	}
	return c
}

func points(samples []history.Sample, now time.Duration) (list []dashboard.Point) {
	for _, s := range samples {
		list = append(list, dashboard.Point{X: min((s.At - now).Seconds(), 0), Y: float64(s.Bytes)})
	}
	return list
}

func blackBoxPoints(detail json.RawMessage) (list []dashboard.Point) {
	box := readAs[events.EndedDetail](detail).BlackBox
	if box == nil {
		return nil
	}
	for i := range min(len(box.Seconds), len(box.MemoryBytes)) {
		list = append(list, dashboard.Point{X: min(box.Seconds[i], 0), Y: float64(box.MemoryBytes[i])})
	}
	return list
}

// markOf is what a chart says of an event.
func markOf(e events.Event) string {
	switch {
	case e.Kind == events.KindOOM:
		return "oom kill"
	case e.Kind == events.KindTerm:
		return "SIGTERM"
	case e.Kind == events.KindKill:
		return "SIGKILL"
	case e.Kind == events.KindEnded && e.Reason != "":
		return "killed: " + inert(string(e.Reason))
	}
	return ""
}

// Kills implements dashboard.Source.
func (p pages) Kills(ctx context.Context, who api.Peer, q events.EventQuery, reason events.Reason) ([]dashboard.Kill, error) {
	app, store, err := p.look(ctx, who)
	if err != nil {
		return nil, err
	}
	last := q.Last
	if reason != "" {
		q.Last = 0 // the filter comes first
	}
	es, err := store.Events(ctx, q)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		es = slices.DeleteFunc(es, func(e events.Event) bool { return e.Reason != reason })
	}
	slices.SortStableFunc(es, func(a, b events.Event) int { return b.At.Compare(a.At) })
	if last > 0 {
		es = es[:min(last, len(es))]
	}
	ids, runs := shortIDs(runsOf(es)), map[events.RunID]*events.Run{}
	list := make([]dashboard.Kill, 0, len(es))
	for _, e := range es {
		run, err := runOf(ctx, store, runs, e.Run)
		if err != nil {
			return nil, err
		}
		list = append(list, killOf(app, e, ids[e.Run], run))
	}
	return list, nil
}

// killOf is a row of lictor kills.
func killOf(app *App, e events.Event, short string, run *events.Run) dashboard.Kill {
	cells := app.killRow(e, short, run)
	k := dashboard.Kill{At: e.At, Clock: cells[0].text, Run: string(e.Run), Short: cells[1].text, Analysis: inert(e.AnalysisID), Kind: cells[3].text,
		Reason: inert(string(e.Reason)), Peak: cells[5].text, Limit: cells[6].text, After: cells[7].text, Command: cells[8].text,
		MemoryBytes: e.MemoryBytes, Seconds: e.DurationSeconds}
	if run != nil {
		k.LimitBytes = run.Limits.MemoryMaxBytes
	}
	return k
}

// Stop implements dashboard.Source. It returns when the end has been begun: a page does not wait for a grace.
func (p pages) Stop(ctx context.Context, who api.Peer, id events.RunID) error {
	_, store, err := p.look(ctx, who)
	if err != nil {
		return err
	}
	run, err := store.Run(ctx, id)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	p.workers.Go(func() { done <- p.backend.Stop(p.ctx, who, run, nil) })
	select {
	case err := <-done:
		return err
	case <-time.After(stopPatience):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop: %w", ctx.Err())
	}
}

// stopPatience is how long the page of a run that is being stopped waits for its end.
const stopPatience = time.Second

var _ dashboard.Source = pages{}
