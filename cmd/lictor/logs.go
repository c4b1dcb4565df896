package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

const logsLong = `Print what a detached run has written to its standard output and error, from the journal. With -f it goes on until the run
has ended. What lictor itself said there goes to stderr. On a terminal control characters are shown as escapes; a file or a
pipe gets the bytes as they were. journald keeps no empty lines.

A run in the foreground has no such output: it went to where the run was started.`

// logOptions are the flags of `lictor logs`.
type logOptions struct {
	follow bool
	lines  int // -1: all
}

func newLogsCommand(app *App) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:               "logs [-f] [-n N] RUN",
		Short:             "Print the output of a detached run",
		Long:              logsLong,
		Args:              exactlyOne("one run"),
		ValidArgsFunction: app.completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.logs(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on until the run has ended")
	cmd.Flags().IntVarP(&o.lines, "lines", "n", -1, "begin with the last `number` of its lines")
	return cmd
}

func (a *App) logs(ctx context.Context, name string, o logOptions) error {
	runs, err := a.resolveAll(ctx, []string{name})
	if err != nil {
		return err
	}
	run := runs[0]
	if run.Service == "" {
		return withHint(fmt.Errorf("%s ran in the foreground: its output went to the terminal that started it", shortID(run.Run)),
			"lictor run -d keeps the output for lictor logs")
	}
	j := &journalReader{app: a, run: run}
	if err := j.open(ctx); err != nil {
		return err
	}
	err = j.printStored(ctx, o.lines)
	if err == nil && !j.complete && (o.follow || run.State.Final()) {
		err = a.followLogs(ctx, j)
	}
	if failed := a.Stdout.Err(); failed != nil {
		return failed
	}
	return err
}

// journalLag is how long journald may take to show what it was sent.
const journalLag = 5 * time.Second

// followLogs prints what comes until the last line of the launcher has come, or cannot come any more: it was killed.
func (a *App) followLogs(ctx context.Context, j *journalReader) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1) // one value, from the goroutine below
	go func() {
		_, err := a.waitEnd(reading, j.run)
		ended <- err
		if err == nil {
			pause(reading, journalLag)
		}
		stop()
	}()
	err := j.follow(reading)
	stop()
	if waited := <-ended; waited != nil && !errors.Is(waited, context.Canceled) {
		return waited
	}
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil // we ended it
	}
	return err
}

// pause waits for a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
