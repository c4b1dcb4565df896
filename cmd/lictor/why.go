package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const whyLong = `Say why a run ended, with the proof and a command that may help; by default of the last run that was killed.

The first line answers; the rows below it are facts from the record. A run that is still alive says how far it is.`

func newWhyCommand(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why [RUN]",
		Short: "Say why a run ended",
		Long:  whyLong,
		Args:  atMost(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, s events.Reader) error {
				return app.why(ctx, s, args, asJSON)
			})
		},
		ValidArgsFunction: app.completeRun,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the record and its explanation as JSON")
	return cmd
}

func (a *App) why(ctx context.Context, s events.Reader, args []string, asJSON bool) error {
	run, err := a.whichRun(ctx, s, args)
	if err != nil {
		return err
	}
	story, err := a.tellStory(ctx, s, run)
	if err != nil {
		return err
	}
	x := explain(story)
	if asJSON {
		return writeJSON(a.Stdout, struct {
			Run         listed      `json:"run"`
			Explanation Explanation `json:"explanation"`
		}{story.listed, x})
	}
	a.printExplanation(x)
	return nil
}

// whichRun returns the run that was named, or the one that was killed last.
func (a *App) whichRun(ctx context.Context, s events.Reader, args []string) (*events.Run, error) {
	if len(args) == 1 {
		return a.resolve(ctx, s, args[0])
	}
	ends, err := s.Events(ctx, events.EventQuery{Kinds: []events.Kind{events.KindEnded}, KillsOnly: true, Last: 1})
	if err != nil {
		return nil, err
	}
	if len(ends) == 0 {
		return nil, withHint(errors.New("no run was killed so far"), "lictor ps -a lists the runs, lictor why RUN explains one")
	}
	return s.Run(ctx, ends[0].Run)
}

// historyLength is how many earlier runs of a command are looked at.
const historyLength = 20

// tellStory collects what an explanation needs.
func (a *App) tellStory(ctx context.Context, s events.Reader, run *events.Run) (story, error) {
	happened, err := s.Events(ctx, events.EventQuery{Run: run.Run})
	if err != nil {
		return story{}, err
	}
	var earlier []*events.Run
	if len(run.Command) > 0 {
		q := events.RunQuery{Command: run.Command, Until: run.StartedAt, Limit: historyLength}
		if earlier, err = s.Runs(ctx, q); err != nil {
			return story{}, err
		}
	}
	slices.Reverse(earlier)
	live := a.live(ctx)
	return story{listed: join(run, live[run.Run], happened), history: earlier, events: happened, now: a.Now()}, nil
}

// printExplanation writes the layout that people know: the answer, then labelled rows.
func (a *App) printExplanation(x Explanation) {
	fmt.Fprintf(a.Stdout, "%s %s\n", a.paint(stateColour(x.State), a.glyph(x.State)), a.paint(bold, inert(x.Headline)))
	for _, r := range x.Rows {
		fmt.Fprintf(a.Stdout, "  %-10s  %s\n", r.Label, inert(r.Text))
	}
}
