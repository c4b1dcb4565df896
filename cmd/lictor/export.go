package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const exportLong = `Write the records to stdout, oldest first: every event, and before the event of its end the record of a run. jsonl is one JSON
object per line, as lictor show and lictor events print them, events with the member "ordinal"; lictor import reads it. csv has the
events only, in columns that stay where they are.`

// exportPage is how many events are in memory at a time.
const exportPage = 1000

// exportColumns are those of the CSV. New ones come at the end.
var exportColumns = []string{"at", "id", "run", "analysis_id", "kind", "ordinal", "state", "reason", "pid", "memory_bytes",
	"duration_seconds", "detail"}

// exportedEvent is an event with all that its identity consists of.
type exportedEvent struct {
	events.Event
	ordinal int
}

// MarshalJSON writes the event of lictor/v1 with one more member, "ordinal".
func (e exportedEvent) MarshalJSON() ([]byte, error) {
	b, err := e.Event.MarshalJSON()
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], `,"ordinal":`...)
	return append(strconv.AppendInt(b, int64(e.ordinal), 10), '}'), nil
}

func newExportCommand(app *App) *cobra.Command {
	var format, since, until string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the records as JSON lines or CSV",
		Long:  exportLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "jsonl" && format != "csv" {
				return withHint(usageError("format %q: unknown", format), "one of jsonl, csv")
			}
			q, err := eventOptions{since: since, until: until, lines: -1}.query(app.Now())
			if err != nil {
				return err
			}
			return app.export(cmd.Context(), q, format == "csv")
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "jsonl", "jsonl or csv")
	f.StringVarP(&since, "since", "S", "", "events not before this `time`, such as -1h, today or \"2026-11-23 15:04\"")
	f.StringVarP(&until, "until", "U", "", "events before this `time`")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"jsonl", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *App) export(ctx context.Context, q events.EventQuery, asCSV bool) error {
	a.settle(ctx)
	s, err := a.openReaders(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	w := bufio.NewWriterSize(a.Stdout, 64<<10)
	write := func(es []events.Event) error { return exportLines(ctx, w, s, es) }
	if asCSV {
		c := csv.NewWriter(w)
		if err := c.Write(exportColumns); err != nil {
			return err
		}
		write = func(es []events.Event) error { return exportRows(c, es) }
	}
	cursor := int64(0)
	q.Cursor, q.Limit = &cursor, exportPage
	for {
		es, err := s.Events(ctx, q)
		if err != nil {
			return a.explainStore(err)
		}
		if err := write(es); err != nil {
			return err
		}
		if len(es) < q.Limit || a.Stdout.Err() != nil {
			return w.Flush()
		}
		q.After = cursor
	}
}

func exportLines(ctx context.Context, w io.Writer, s events.Reader, es []events.Event) error {
	for _, e := range es {
		if e.Kind == events.KindEnded {
			run, err := s.Run(ctx, e.Run)
			if err != nil && !errors.Is(err, events.ErrNotFound) {
				return err
			}
			if err == nil && run.State.Final() {
				if err := writeJSONLine(w, run); err != nil {
					return err
				}
			}
		}
		if err := writeJSONLine(w, exportedEvent{e, e.Ordinal}); err != nil {
			return err
		}
	}
	return nil
}

func exportRows(c *csv.Writer, es []events.Event) error {
	for _, e := range es {
		row := []string{e.At.Format(time.RFC3339Nano), e.ID, string(e.Run), e.AnalysisID, string(e.Kind), strconv.Itoa(e.Ordinal),
			string(e.State), string(e.Reason), "", "", "", string(e.Detail)}
		if e.PID != nil {
			row[8] = strconv.Itoa(*e.PID)
		}
		if e.MemoryBytes != nil {
			row[9] = strconv.FormatUint(*e.MemoryBytes, 10)
		}
		if e.DurationSeconds != nil {
			row[10] = strconv.FormatFloat(*e.DurationSeconds, 'f', -1, 64)
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
