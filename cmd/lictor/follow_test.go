package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// lines is an output that hands over every line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l <- line
	}
	return len(p), nil
}

func TestFollow(t *testing.T) {
	var talk bytes.Buffer
	app := testApp(&talk)
	got := make(lines, 100)
	app.Stdout = newOutput(got)
	dir := t.TempDir()
	app.Getenv = func(name string) string { return map[string]string{"LICTOR_STATE_DIR": dir}[name] }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- app.listEvents(ctx, nil, eventOptions{follow: true, lines: -1, kinds: []string{"oom"}})
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case line := <-got:
			if !strings.Contains(line, want) {
				t.Fatalf("got %q, want %q", line, want)
			}
		case err := <-ended:
			t.Fatalf("follow ended: %v, %s", err, talk.String())
		}
	}
	expect("WHEN")

	// The store comes into being only now; events of other kinds are not shown.
	store, err := app.openStore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	run := sampleRun(func(*events.Run) {})
	for i, what := range []string{"first", "second"} {
		e := events.NewEvent(run, events.KindOOM, i, testNow)
		e.Reason = events.Reason(what)
		other := events.NewEvent(run, events.KindTerm, i, testNow)
		if err := store.Append(ctx, other, e); err != nil {
			t.Fatal(err)
		}
		expect(what)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("follow ended: %v", err)
	}
	if len(got) > 0 {
		t.Errorf("more than was stored: %q", <-got)
	}
}
