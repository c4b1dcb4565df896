package eventstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/events"
)

// Memory is an events.Store in memory. The zero value is an empty store.
type Memory struct {
	// Fail, if not nil, is asked before every write ("begin", "append", "end"); its error is returned and nothing written.
	// Set it before the store is used.
	Fail func(op string) error

	mu     sync.Mutex
	closed bool
	runs   map[events.RunID]*entry
	log    []events.Event // position is the index + 1
	ids    map[string]bool
}

type entry struct {
	run   *events.Run
	ended bool
}

var _ events.Store = (*Memory)(nil)

var errClosed = errors.New("the store is closed")

// begin locks m for a call, or says why there can be none.
func (m *Memory) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Fail != nil && op != "" {
		if err := m.Fail(op); err != nil {
			return err
		}
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return errClosed
	}
	if m.runs == nil {
		m.runs, m.ids = make(map[events.RunID]*entry), make(map[string]bool)
	}
	return nil
}

// Begin implements events.Store.
func (m *Memory) Begin(ctx context.Context, r *events.Run) error {
	if err := m.begin(ctx, "begin"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.runs[r.Run] == nil {
		m.runs[r.Run] = &entry{run: copyRun(r)}
	}
	return nil
}

// Append implements events.Store.
func (m *Memory) Append(ctx context.Context, es ...events.Event) error {
	if err := m.begin(ctx, "append"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.append(es)
	return nil
}

// End implements events.Store.
func (m *Memory) End(ctx context.Context, r *events.Run, es ...events.Event) error {
	if err := m.begin(ctx, "end"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if !r.State.Final() {
		return fmt.Errorf("end run %q: state %q is not final", r.Run, r.State)
	}
	if e := m.runs[r.Run]; e != nil && e.ended {
		return fmt.Errorf("end run %q: %w", r.Run, events.ErrAlreadyEnded)
	}
	m.runs[r.Run] = &entry{run: copyRun(r), ended: true}
	m.append(es)
	return nil
}

func (m *Memory) append(es []events.Event) {
	for _, e := range es {
		if e.ID == "" {
			e.ID = events.EventID(e.Run, e.Kind, e.Ordinal)
		}
		if !m.ids[e.ID] {
			m.ids[e.ID] = true
			m.log = append(m.log, copyEvent(e))
		}
	}
}

// Run implements events.Store.
func (m *Memory) Run(ctx context.Context, id events.RunID) (*events.Run, error) {
	if err := m.begin(ctx, ""); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if e := m.runs[id]; e != nil {
		return copyRun(e.run), nil
	}
	return nil, fmt.Errorf("%w: %q", events.ErrNotFound, id)
}

// Resolve implements events.Store.
func (m *Memory) Resolve(ctx context.Context, text string) (*events.Run, error) {
	return events.Resolve(ctx, text,
		func(ctx context.Context, prefix string, limit int) ([]*events.Run, error) {
			runs, err := m.filter(ctx, func(e *entry) bool { return strings.HasPrefix(string(e.run.Run), prefix) })
			slices.SortFunc(runs, func(a, b *events.Run) int { return cmp.Compare(a.Run, b.Run) })
			return runs[:min(limit, len(runs))], err
		},
		func(ctx context.Context, text string) (*events.Run, error) {
			runs, err := m.filter(ctx, func(e *entry) bool { return e.run.AnalysisID == text || e.run.Name == text })
			if err != nil || len(runs) == 0 {
				return nil, err
			}
			return runs[0], nil
		})
}

// Runs implements events.Store.
func (m *Memory) Runs(ctx context.Context, q events.RunQuery) ([]*events.Run, error) {
	command := cleanAll(q.Command)
	runs, err := m.filter(ctx, func(e *entry) bool {
		r := e.run
		return (!q.Live || !e.ended) &&
			(len(q.States) == 0 || slices.Contains(q.States, r.State)) &&
			(q.AnalysisID == "" || events.Clean(q.AnalysisID) == r.AnalysisID) &&
			(q.Command == nil || slices.Equal(command, r.Command)) &&
			(q.UID == nil || *q.UID == r.UID) &&
			(q.Host == "" || events.Clean(q.Host) == r.Host) &&
			(q.Name == "" || events.Clean(q.Name) == r.Name) &&
			strings.HasPrefix(string(r.Run), string(q.Prefix)) &&
			(q.After.Run == "" || follows(r, q.After)) &&
			within(r.StartedAt, q.Since, q.Until)
	})
	if q.Prefix != "" {
		slices.SortFunc(runs, func(a, b *events.Run) int { return cmp.Compare(a.Run, b.Run) })
	}
	if q.Limit > 0 {
		runs = runs[:min(q.Limit, len(runs))]
	}
	return runs, err
}

func follows(r *events.Run, k events.RunKey) bool {
	return r.StartedAt.Before(k.StartedAt) || r.StartedAt.Equal(k.StartedAt) && r.Run < k.Run
}

// Count implements events.Store.
func (m *Memory) Count(ctx context.Context, q events.RunQuery) (int, error) {
	q.Limit = 0
	runs, err := m.Runs(ctx, q)
	return len(runs), err
}

// filter returns copies of those runs that keep wants, newest first.
func (m *Memory) filter(ctx context.Context, keep func(*entry) bool) ([]*events.Run, error) {
	if err := m.begin(ctx, ""); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var runs []*events.Run
	for _, e := range m.runs {
		if keep(e) {
			runs = append(runs, copyRun(e.run))
		}
	}
	slices.SortFunc(runs, func(a, b *events.Run) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.Run, a.Run))
	})
	return runs, nil
}

// Events implements events.Store.
func (m *Memory) Events(ctx context.Context, q events.EventQuery) ([]events.Event, error) {
	if err := m.begin(ctx, ""); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var (
		found     []events.Event
		positions []int64
	)
	for i, e := range m.log {
		if matches(&q, int64(i+1), &e) && ofRun(&q, m.runs[e.Run]) {
			found, positions = append(found, copyEvent(e)), append(positions, int64(i+1))
		}
	}
	if q.Limit > 0 {
		n := min(q.Limit, len(found))
		found, positions = found[:n], positions[:n]
	}
	if q.Last > 0 {
		n := max(len(found)-q.Last, 0)
		found, positions = found[n:], positions[n:]
	}
	if q.Positions != nil {
		*q.Positions = append(*q.Positions, positions...)
	}
	if q.Cursor != nil {
		*q.Cursor = q.After
		if len(positions) > 0 {
			*q.Cursor = positions[len(positions)-1]
		}
	}
	return found, nil
}

func matches(q *events.EventQuery, position int64, e *events.Event) bool {
	return position > q.After &&
		(q.Run == "" || q.Run == e.Run) &&
		(q.AnalysisID == "" || events.Clean(q.AnalysisID) == e.AnalysisID) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
		(!q.KillsOnly || e.IsKill()) &&
		within(e.At, q.Since, q.Until)
}

// ofRun reports whether an event of a run, which may be unknown, is asked for.
func ofRun(q *events.EventQuery, e *entry) bool {
	return q.UID == nil && q.Host == "" && !q.Live ||
		e != nil && (!q.Live || !e.ended) && (q.UID == nil || e.run.UID == *q.UID) && (q.Host == "" || e.run.Host == events.Clean(q.Host))
}

// within reports whether t is at or after since and before until; a zero bound does not restrict.
func within(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

// KillsSince implements events.Store.
func (m *Memory) KillsSince(ctx context.Context, t time.Time) (int, error) {
	es, err := m.Events(ctx, events.EventQuery{KillsOnly: true, Since: t})
	return len(es), err
}

// Close implements events.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// copyRun returns r as a reader gets it from a database.
func copyRun(r *events.Run) *events.Run {
	b, err := events.EncodeRun(r)
	if err != nil {
		panic(err)
	}
	c, err := events.DecodeRun(b)
	if err != nil {
		panic(err)
	}
	return c
}

func copyEvent(e events.Event) events.Event {
	b, err := events.EncodeEvent(&e)
	if err != nil {
		panic(err)
	}
	c, err := events.DecodeEvent(b, e.Ordinal)
	if err != nil {
		panic(err)
	}
	return c
}

func cleanAll(s []string) []string {
	c := make([]string, len(s))
	for i := range s {
		c[i] = events.Clean(s[i])
	}
	return c
}
