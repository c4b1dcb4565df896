package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

func newReleaseCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "release RUN…",
		Short: "Let runs live on without limits",
		Long: `Let runs live on without limits of lictor's, in a scope of systemd's that has none: the reverse of adopt. Nobody is
signalled. The record of a run ends here, with who asked; what becomes of its processes afterwards is not recorded.

A run whose lictor run waits for it cannot be released: stop it, or change its limits with lictor set.`,
		Args:              atLeast(1, "a run"),
		ValidArgsFunction: app.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.eachRun(cmd.Context(), args, action{
				here:  func(ctx context.Context, r *reach) error { return r.release(ctx) },
				there: func(ctx context.Context, c *client.Client, run events.RunID) error { return c.Release(ctx, run) },
			})
		},
	}
}

// release ends the record, then the confinement.
func (r *reach) release(ctx context.Context) error {
	id := events.RunID(r.led.Run)
	if !r.led.HasFacts {
		return withHint(fmt.Errorf("%s is starting", id), "try again in a moment")
	}
	if l := r.led.Facts.Launcher; l.Alive() {
		return withHint(fmt.Errorf("%s: its launcher (pid %d) waits for its end", id, l.PID), "lictor set "+shortID(id)+" changes its limits")
	}
	if !r.k.run.State.Final() { // else an earlier release died in its middle
		run, ev := released(r.k.run, r.app.Now(), r.uid)
		if err := r.rec.End(ctx, run, ev); err != nil && !errors.Is(err, events.ErrAlreadyEnded) {
			return err
		}
	}
	return r.s.launcher.LetGo(ctx, r.led)
}

// released is the end of the record of a run that lives on without lictor.
func released(begun *events.Run, now time.Time, uid uint32) (*events.Run, events.Event) {
	run := *begun
	at := now.UTC()
	run.State, run.By, run.EndedAt, run.Released = events.StateEnded, fmt.Sprintf("uid %d", uid), &at, true
	run.Exit = &events.Exit{Kind: events.ExitUnknown}
	wall := at.Sub(run.StartedAt).Seconds()
	run.Usage.WallSeconds = &wall
	ev := events.NewEvent(&run, events.KindEnded, 0, at)
	ev.State, ev.DurationSeconds = run.State, run.Usage.WallSeconds
	ev.Detail, _ = json.Marshal(map[string]any{"by": run.By, "released": true}) // text and a bool
	return &run, ev
}
