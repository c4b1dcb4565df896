package events

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Forwarder copies a store, the spool, to a PostgreSQL database: in order, in batches, each event once. What the database refuses is
// set aside as a dead letter; for everything else it tries again until it works. Several processes may forward one store.
type Forwarder struct {
	spool *SQLite
	to    *Postgres
	log   *slog.Logger

	mu      sync.Mutex
	failing error // what the last try failed with
	since   time.Time
}

// The Forwarder's delays.
const (
	// forwardPoll is how often it looks whether another process has written to the store. See SQLite.Stamp for what that costs.
	forwardPoll = 5 * time.Second
	// The pause after a failure doubles from the first to the last, and is up to a quarter shorter or longer: the hosts that share
	// a database shall not all come back to it at once.
	firstRetry, lastRetry = time.Second, time.Minute
)

// NewForwarder returns a Forwarder that does nothing yet.
func NewForwarder(spool *SQLite, to *Postgres, log *slog.Logger) *Forwarder {
	return &Forwarder{spool: spool, to: to, log: log}
}

// Run forwards until ctx is done.
func (f *Forwarder) Run(ctx context.Context) {
	for failures := 0; ; {
		seen := f.spool.Stamp(ctx)
		n, err := f.Drain(ctx, false)
		if ctx.Err() != nil {
			return
		}
		f.tell(n, err)
		if err == nil {
			failures = 0
			if !f.await(ctx, seen) {
				return
			}
			continue
		}
		failures++
		if pause(ctx, backoff(failures)) != nil {
			return
		}
	}
}

// await waits until there may be something new.
func (f *Forwarder) await(ctx context.Context, seen string) bool {
	for {
		if pause(ctx, forwardPoll) != nil {
			return false
		}
		if now := f.spool.Stamp(ctx); now != seen || now == "" {
			return true
		}
	}
}

// tell logs when the database goes and when it is back.
func (f *Forwarder) tell(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.failing == nil:
		f.since = time.Now()
		f.log.Warn("records wait for the database", "error", err)
	case err == nil && f.failing != nil:
		f.log.Info("the database takes records again", "forwarded", n, "away", time.Since(f.since).Round(time.Millisecond))
	}
	f.failing = err
}

// backoff is the pause after the n-th failure in a row.
func backoff(n int) time.Duration {
	d := min(firstRetry<<min(n-1, 10), lastRetry)
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}

// Drain forwards what the store holds at this moment and the database has not got, or all of it, and returns how many events the
// database took or refused.
func (f *Forwarder) Drain(ctx context.Context, all bool) (n int, err error) {
	target, err := f.to.Identity(ctx)
	if err != nil {
		return 0, err
	}
	after := int64(0)
	if !all {
		if after, err = f.spool.forwardedTo(ctx, target); err != nil {
			return 0, err
		}
	}
	next := f.read(ctx, after)
	for {
		got := <-next
		if got.err != nil || got.batch == nil {
			return n, got.err
		}
		next = f.read(ctx, got.batch.last()) // while this one is sent
		dead, err := f.send(ctx, got.batch)
		if err == nil {
			err = f.spool.markForwarded(ctx, target, got.batch.last(), dead)
		}
		if err != nil {
			<-next
			return n, err
		}
		for _, d := range dead {
			f.log.Error("the database refuses a record", "position", d.Position, "error", d.Error, "hint", "lictor db dead")
		}
		n += len(got.batch.events)
	}
}

type readBatch struct {
	batch *batch
	err   error
}

// read reads the next batch in the background; the channel has room for it.
func (f *Forwarder) read(ctx context.Context, after int64) <-chan readBatch {
	c := make(chan readBatch, 1)
	go func() {
		b, err := f.spool.spooled(ctx, after, math.MaxInt64)
		c <- readBatch{b, err}
	}()
	return c
}

// send hands a batch to the database. Of one that is refused, halves are tried, down to the single events whose fault it is.
func (f *Forwarder) send(ctx context.Context, b *batch) (dead []DeadLetter, err error) {
	err = f.to.insert(ctx, "forward", b.runs, b.events)
	if !Refused(err) {
		return nil, err
	}
	if len(b.events) == 1 {
		return []DeadLetter{{Position: b.positions[0], Error: err.Error()}}, nil
	}
	half := len(b.events) / 2
	for _, part := range []*batch{b.part(0, half), b.part(half, len(b.events))} {
		more, err := f.send(ctx, part)
		if err != nil {
			return nil, err
		}
		dead = append(dead, more...)
	}
	return dead, nil
}

// Retry sends dead letters once more, and returns how many the database took this time. Those of other databases are left alone.
func (f *Forwarder) Retry(ctx context.Context, list ...DeadLetter) (n int, err error) {
	target, err := f.to.Identity(ctx)
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		if d.Target != target {
			continue
		}
		b, err := f.spool.spooled(ctx, d.Position-1, d.Position)
		if err != nil {
			return n, err
		}
		var dead []DeadLetter
		if b != nil {
			if dead, err = f.send(ctx, b); err != nil {
				return n, err
			}
		}
		if len(dead) > 0 {
			err = f.spool.markForwarded(ctx, target, d.Position, dead)
		} else {
			n++
			err = f.spool.DropDead(ctx, d)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
