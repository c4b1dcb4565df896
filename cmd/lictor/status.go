package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

const statusLong = `Describe the box: its manager, what is alive, what ended within 24 hours and why, and how much memory is promised.
With RUN describe one run: limits, usage, its processes while it lives, and what happened last.`

func newStatusCommand(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Describe the box, or one run",
		Long:  statusLong,
		Args:  atMost(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, s events.Reader) error {
				if len(args) == 1 {
					return app.statusOf(ctx, s, args[0], asJSON)
				}
				return app.status(ctx, s, asJSON)
			})
		},
		ValidArgsFunction: app.completeRun,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON: bytes and seconds as numbers")
	return cmd
}

// summary is what `lictor status` tells.
type summary struct {
	Manager   Mode           `json:"manager"`
	Box       box            `json:"box"`
	Store     string         `json:"store"`
	Live      map[string]int `json:"live"`      // runs by state
	Ended     map[string]int `json:"ended_24h"` // runs by state
	Reasons   map[string]int `json:"reasons_24h"`
	Kills     int            `json:"kills_24h"`    // left-overs and kills in runs that live on too
	Used      *uint64        `json:"memory_bytes"` // by live runs; nil is not known
	Promised  uint64         `json:"memory_max_sum_bytes"`
	Unlimited int            `json:"unlimited_runs"` // live, without MemoryMax
}

const day = 24 * time.Hour

func (a *App) status(ctx context.Context, s events.Reader, asJSON bool) error {
	sum, err := a.summarise(ctx, s)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.Stdout, sum)
	}
	a.printExplanation(sum.describe())
	return nil
}

func (a *App) summarise(ctx context.Context, s events.Reader) (summary, error) {
	if c := a.elsewhere(); c != nil {
		return summaryThere(ctx, c)
	}
	live, err := a.listRuns(ctx, s, events.RunQuery{Live: true})
	if err != nil {
		return summary{}, err
	}
	sum, err := a.totals(ctx, s, live)
	if err != nil {
		return sum, err
	}
	sum.Ended, sum.Reasons = map[string]int{}, map[string]int{}
	sum.Store, _ = a.StorePath()
	ends, err := s.Events(ctx, events.EventQuery{Kinds: []events.Kind{events.KindEnded}, Since: a.Now().Add(-day)})
	if err != nil {
		return sum, err
	}
	for _, e := range ends {
		sum.Ended[string(e.State)]++
		if e.Reason != "" {
			sum.Reasons[string(e.Reason)]++
		}
	}
	return sum, nil
}

// totals is the part of a summary that costs little enough to be told every second.
func (a *App) totals(ctx context.Context, s events.Reader, live []listed) (summary, error) {
	sum := summary{Manager: a.Mode(), Used: new(uint64), Live: map[string]int{}}
	if c := a.elsewhere(); c != nil {
		there, err := summaryThere(ctx, c)
		if err != nil {
			return sum, err
		}
		sum.Box = there.Box
	} else if a.Box != nil {
		sum.Box = a.Box(ctx, a)
	}
	for _, r := range live {
		sum.addLive(r)
	}
	var err error
	sum.Kills, err = s.KillsSince(ctx, a.Now().Add(-day))
	return sum, err
}

// summaryThere is the summary of another machine.
func summaryThere(ctx context.Context, c *client.Client) (sum summary, err error) {
	text, err := c.Summary(ctx)
	if err == nil {
		err = json.Unmarshal(text, &sum)
	}
	return sum, err
}

func (sum *summary) addLive(r listed) {
	sum.Live[string(r.State)]++
	if n := r.memory(); n == nil {
		sum.Used = nil
	} else if sum.Used != nil {
		*sum.Used += *n
	}
	if n := r.Limits.MemoryMaxBytes; n != nil {
		sum.Promised += *n
	} else {
		sum.Unlimited++
	}
}

// describe puts a summary into words.
func (sum summary) describe() Explanation {
	x := Explanation{State: events.StateRunning, Headline: cmp.Or(sum.Box.Host, "this machine") + ": " +
		count(total(sum.Live), "live run", "live runs") + ", " + sum.kills()}
	for _, r := range []Row{
		{"Manager", sum.manager()},
		{"Cgroup", cmp.Or(sum.Box.Cgroup, sum.Box.CgroupError)},
		{"Live", tally(sum.Live)},
		{"Memory", sum.memory()},
		{"Slice", sum.slice()},
		{"Ended", sum.ended()},
		{"Store", sum.Store},
	} {
		if r.Text != "" {
			x.Rows = append(x.Rows, r)
		}
	}
	return x
}

func (sum summary) manager() string {
	if sum.Box.Systemd == "" {
		return string(sum.Manager) + " (systemd, version not known)"
	}
	return string(sum.Manager) + " (systemd " + sum.Box.Systemd + ")"
}

func (sum summary) kills() string { return count(sum.Kills, "kill", "kills") + " in 24h" }

func (sum summary) memory() string {
	parts := slices.DeleteFunc([]string{sum.held(), sum.free()}, func(s string) bool { return s == "" })
	return strings.Join(parts, "; ")
}

// held is the memory of the runs against the sum of their limits.
func (sum summary) held() string {
	if total(sum.Live) == 0 {
		return ""
	}
	text := "runs hold " + bytesOr(sum.Used, "an unknown amount") + ", their limits add up to " + events.FormatBytes(sum.Promised)
	if sum.Unlimited > 0 {
		text += " and " + count(sum.Unlimited, "has", "have") + " none"
	}
	return text
}

// free is the memory of the host.
func (sum summary) free() string {
	b := sum.Box
	if b.MemoryTotal == nil || b.MemoryAvailable == nil {
		return ""
	}
	return "the host has " + preciseBytes(*b.MemoryAvailable) + " of " + preciseBytes(*b.MemoryTotal) + " free"
}

func (sum summary) slice() string {
	b := sum.Box
	switch {
	case b.Cgroup == "":
		return ""
	case !b.SliceExists:
		return b.Slice + " does not exist yet: no run has been started"
	case b.SliceMax == nil:
		return b.Slice + " holds " + bytesOr(b.SliceCurrent, "an unknown amount") + " and has no limit of its own"
	}
	return b.Slice + " holds " + bytesOr(b.SliceCurrent, "an unknown amount") + " of " + events.FormatBytes(*b.SliceMax)
}

// ended tells what ended within 24 hours, the reasons apart.
func (sum summary) ended() string {
	if total(sum.Ended) == 0 {
		return "none in 24h"
	}
	text := count(total(sum.Ended), "run", "runs") + " in 24h: " + tally(sum.Ended)
	if len(sum.Reasons) > 0 {
		text += " (" + tally(sum.Reasons) + ")"
	}
	return text
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// tally lists counts, the largest first: "3 done, 1 killed".
func tally(counts map[string]int) string {
	words := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	if len(words) == 0 {
		return "none"
	}
	for i, word := range words {
		words[i] = fmt.Sprintf("%d %s", counts[word], word)
	}
	return strings.Join(words, ", ")
}
