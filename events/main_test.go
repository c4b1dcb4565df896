package events_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// These variables make the test binary one of several processes that use the same store.
const (
	childStore = "LICTOR_TEST_STORE" // path of the database
	childName  = "LICTOR_TEST_NAME"  // part of the run ids, or which test the child belongs to

	childForever = "LICTOR_TEST_FOREVER" // the child writes until it cannot
	childList    = "LICTOR_TEST_LIST"    // before that, it says what is there
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childStore); path != "" {
		name := os.Getenv(childName)
		if os.Getenv(childList) != "" {
			if err := list(context.Background(), path); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		for i := 0; ; i++ {
			if err := launch(context.Background(), path, name, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			if os.Getenv(childForever) == "" {
				os.Exit(0)
			}
			name = fmt.Sprintf("%s-%d", os.Getenv(childName), i)
		}
	}
	goleak.VerifyTestMain(m)
}

// list checks the whole store, and names the runs that have ended.
func list(ctx context.Context, path string) error {
	s, err := events.OpenSQLite(ctx, path, migrations.SQLite)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Check(ctx); err != nil {
		return err
	}
	runs, err := s.Runs(ctx, events.RunQuery{States: []events.State{events.StateKilled}})
	if err != nil {
		return err
	}
	for _, r := range runs {
		fmt.Println("has", r.Run)
	}
	fmt.Println("sound")
	return nil
}

// childRuns is how many runs a child begins and ends.
const childRuns = 5

// launch does what a few `lictor run` do: each opens the store, begins, appends and ends.
func launch(ctx context.Context, path, name string, acknowledge io.Writer) error {
	for i := range childRuns {
		s, err := events.OpenSQLite(ctx, path, migrations.SQLite)
		if err != nil {
			return err
		}
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("%s-%d", name, i)))
		if err := s.Begin(ctx, r); err != nil {
			return err
		}
		if err := s.Append(ctx, events.NewEvent(r, events.KindStarted, 0, time.Now())); err != nil {
			return err
		}
		ended, e := eventstest.Ended(r)
		if err := s.End(ctx, ended, e); err != nil {
			return err
		}
		fmt.Fprintln(acknowledge, r.Run)
		if i%2 == 0 || acknowledge == io.Discard { // a process of its own may exit without
			if err := s.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}
