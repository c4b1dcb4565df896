package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

const (
	// importBatch is how many lines go in one transaction.
	importBatch = 1000
	// importLine is how long a line may be: a record with the longest command line that Linux executes, escaped.
	importLine = 64 << 20
)

func newImportCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "import [FILE]",
		Short: "Add records that lictor export wrote",
		Long: `Add the records of a file that lictor export has written (jsonl), or of stdin, to the store. What is there already stays as it is, so a
file may be imported twice. A line that makes no sense ends it; the lines before are imported.`,
		Args: atMost(1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, name := app.Stdin, "stdin"
			if len(args) == 1 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in, name = f, args[0]
			}
			return app.importRecords(cmd.Context(), in, name)
		},
	}
}

// imported is what waits for the next transaction.
type imported struct {
	runs   []*events.Run
	events []events.Event
}

func (a *App) importRecords(ctx context.Context, in io.Reader, name string) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	var batch imported
	runs, es := 0, 0
	flush := func() error {
		err := s.Import(ctx, batch.runs, batch.events)
		if err == nil {
			runs, es = runs+len(batch.runs), es+len(batch.events)
		}
		batch = imported{}
		return a.explainStore(err)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, importLine)
	n := 0
	for lines.Scan() {
		n++
		if err = batch.add(lines.Bytes()); err != nil {
			err = withHint(fmt.Errorf("%s:%d: %w", name, n, err), "lictor export writes what can be imported")
			break
		}
		if n%importBatch == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if scan := lines.Err(); scan != nil && err == nil {
		err = fmt.Errorf("%s:%d: %w", name, n+1, scan)
	}
	err = errors.Join(err, flush())
	fmt.Fprintf(a.Stdout, "%s and %s read\n", count(runs, "run", "runs"), count(es, "event", "events"))
	return err
}

// add reads one line: an event has a kind, a run has none.
func (b *imported) add(line []byte) error {
	var what struct {
		API     string       `json:"api"`
		Run     string       `json:"run"`
		Kind    *events.Kind `json:"kind"`
		Ordinal *int         `json:"ordinal"`
	}
	if err := json.Unmarshal(line, &what); err != nil {
		return fmt.Errorf("no record: %w", err)
	}
	if what.API != events.API {
		return fmt.Errorf("no record of %s", events.API)
	}
	if ofNone := what.Kind != nil && *what.Kind == events.KindStoreReplaced; !ofNone && !scope.RunID(what.Run).Valid() {
		return fmt.Errorf("run %q: not the id of a run", what.Run)
	}
	if what.Kind == nil {
		run, err := events.DecodeRun(line)
		if err != nil {
			return err
		}
		if !run.State.Final() {
			return fmt.Errorf("run %s: state %q is not that of a run that has ended", run.Run, run.State)
		}
		b.runs = append(b.runs, run)
		return nil
	}
	if !slices.Contains(events.Kinds, *what.Kind) {
		return fmt.Errorf("event of run %s: kind %q is unknown", what.Run, *what.Kind)
	}
	if what.Ordinal == nil {
		return fmt.Errorf("event of run %s: no ordinal", what.Run)
	}
	e, err := events.DecodeEvent(line, *what.Ordinal)
	if err != nil {
		return err
	}
	if want := events.EventID(e.Run, e.Kind, e.Ordinal); e.ID != want {
		return fmt.Errorf("event of run %s: its id is not that of %s number %d", e.Run, e.Kind, e.Ordinal)
	}
	b.events = append(b.events, e)
	return nil
}
