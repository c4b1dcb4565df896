package watcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// TestW9UnseenLength: a run lasted 60 s and is looked at 100 s after its start; the wall clock was set somewhere.
func TestW9UnseenLength(t *testing.T) {
	const lasted, age = 60 * time.Second, 100 * time.Second
	tests := []struct {
		name        string
		during      time.Duration // how far the clock was set while it ran
		after       time.Duration // and since
		want        time.Duration
		nobodyKnows bool
	}{
		{name: "never set", want: lasted},
		{name: "slewed", during: 900 * time.Millisecond, after: -300 * time.Millisecond, want: lasted + 900*time.Millisecond},
		{name: "an hour back while it ran", during: -time.Hour, want: lasted},
		{name: "a day forward while it ran", during: 24 * time.Hour, want: lasted},
		{name: "an hour back since", after: -time.Hour, want: lasted},
		{name: "a day forward since", after: 24 * time.Hour, want: lasted},
		{name: "both ways", during: time.Hour, after: -2 * time.Hour, nobodyKnows: true},
		{name: "by little while it ran", during: 20 * time.Second, nobodyKnows: true},
		{name: "by little since", after: -20 * time.Second, nobodyKnows: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := unseenLength(lasted+tt.during, age-lasted+tt.after, age)
			if ok == tt.nobodyKnows || ok && got != tt.want {
				t.Errorf("got %v, %v; want %v, %v", got, ok, tt.want, !tt.nobodyKnows)
			}
		})
	}
}

// deafTarget cannot wait for its process at first.
type deafTarget struct {
	Target
	fails int
}

func (d *deafTarget) Wait(context.Context) (Exit, error) {
	if d.fails--; d.fails >= 0 {
		return Exit{}, unix.EMFILE
	}
	return Exit{Code: 7}, nil
}

// TestW8LeaderNotWaitedFor: without a descriptor for the pidfd of the main process its end is not known, and no end is made up.
func TestW8LeaderNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &member{session: session{Keeper: &Keeper{Run: &events.Run{Run: "abc"}, Target: &deafTarget{fails: 2}, Log: slog.New(slog.DiscardHandler)}},
			fleet: &Fleet{}, ctx: t.Context(), busy: true}
		start := time.Now()
		m.awaitLeader(t.Context())
		if time.Since(start) != 2*waitRetry || m.in.end == nil || m.in.end.err != nil || m.in.end.exit.Code != 7 {
			t.Errorf("told %+v after %v", m.in.end, time.Since(start))
		}
	})
}

// busyTarget is one whose systemd does not answer in time.
type busyTarget struct {
	Target
	errs  []error
	asked int
}

func (b *busyTarget) UnitState(context.Context) (UnitState, error) {
	b.asked++
	if len(b.errs) == 0 {
		return UnitState{Known: true, Result: "timeout"}, nil
	}
	err := b.errs[0]
	b.errs = b.errs[1:]
	return UnitState{}, err
}

// A systemd that is busy is asked again, one that is gone is not, and nobody is asked for ever.
func TestAskUnit(t *testing.T) {
	late, gone := fmt.Errorf("call: %w", context.DeadlineExceeded), errors.New("connection refused")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		errs  []error
		asked int
		want  error
	}{
		"answers":         {t.Context(), nil, 1, nil},
		"busy for a time": {t.Context(), []error{late, late}, 3, nil},
		"busy":            {t.Context(), slices.Repeat([]error{late}, unitTries+1), unitTries, context.DeadlineExceeded},
		"gone":            {t.Context(), []error{gone, gone}, 1, gone},
		"we are to end":   {ended, []error{late, late}, 1, context.DeadlineExceeded},
	} {
		target := &busyTarget{errs: c.errs}
		st, err := askUnit(c.ctx, target)
		if !errors.Is(err, c.want) || (err == nil) != st.Known || target.asked != c.asked {
			t.Errorf("%s: %+v, %v after %d times, want %v after %d", name, st, err, target.asked, c.want, c.asked)
		}
	}
}
