package eventstest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

func resolve(t *testing.T, s events.Store) {
	old, young, other := NewRun("7f3k7m1d2c5h"), NewRun("7f3k9q2a0000"), NewRun("8aaaaaaaaaaa")
	old.AnalysisID, young.AnalysisID, other.Name = "churn", "churn", "nightly build"
	young.StartedAt = epoch.Add(time.Hour)
	beginAll(t, s, young, old, other)
	ended, e := Ended(old)
	must(t, s.End(t.Context(), ended, e))
	for _, c := range []struct {
		text string
		want events.RunID
		err  error
	}{
		{text: "7f3k7m1d2c5h", want: old.Run},
		{text: "7f3k7m1d", want: old.Run},
		{text: "7f3k9", want: young.Run},
		{text: "8", want: other.Run},
		{text: "churn", want: young.Run},
		{text: "nightly build", want: other.Run},
		{text: "7f3k", err: events.ErrAmbiguous},
		{text: "7", err: events.ErrAmbiguous},
		{text: "chur", err: events.ErrNotFound},
		{text: "9", err: events.ErrNotFound},
		{text: "7f3k7m1d2c5hx", err: events.ErrNotFound},
		{text: "", err: events.ErrNotFound},
		{text: "%", err: events.ErrNotFound},
		{text: "_f3k7m1d", err: events.ErrNotFound},
		{text: "7f3k7m1d\x00", err: events.ErrNotFound},
		{text: "' OR 1=1 --", err: events.ErrNotFound},
	} {
		got, err := s.Resolve(t.Context(), c.text)
		switch {
		case !errors.Is(err, c.err) || (err != nil) != (c.err != nil):
			t.Errorf("Resolve(%q): error %v, want %v", c.text, err, c.err)
		case err == nil && got.Run != c.want:
			t.Errorf("Resolve(%q) = %s, want %s", c.text, got.Run, c.want)
		}
	}
}

func resolveAmbiguous(t *testing.T, s events.Store) {
	victim, stranger, short := NewRun("7f3k7m1d2c5h"), NewRun("bbbbbbbbbbbb"), NewRun("cccccccccccc")
	stranger.AnalysisID = "7f3k7m1d" // another run's id as people are shown it
	short.Name = "7f"
	own := NewRun("dddddddddddd")
	own.AnalysisID = "dddddddd"
	shadow := NewRun("eeeeeeeeeeee")
	shadow.Name = string(victim.Run)
	beginAll(t, s, victim, stranger, short, own, shadow)

	_, err := s.Resolve(t.Context(), "7f3k7m1d")
	if !errors.Is(err, events.ErrAmbiguous) {
		t.Fatalf("a label that is another run's id: %v, want ErrAmbiguous", err)
	}
	for _, id := range []string{"7f3k7m1d2c5h", "bbbbbbbbbbbb"} {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("error %q does not name %s", err, id)
		}
	}
	for text, want := range map[string]events.RunID{
		"7f":               short.Run,  // a name wins over a short prefix
		"dddddddd":         own.Run,    // label and prefix of the same run
		string(victim.Run): victim.Run, // an exact id wins over everything
	} {
		got, err := s.Resolve(t.Context(), text)
		must(t, err)
		if got.Run != want {
			t.Errorf("Resolve(%q) = %s, want %s", text, got.Run, want)
		}
	}
}
