package history

import (
	"context"
	"sync"
	"time"

	"github.com/scidex/lictor/events"
)

// Sampler reads what live runs hold.
type Sampler struct {
	// Read returns what a run holds. An error ends its reading until the next look at all.
	Read func(run events.RunID) (uint64, error)
	// Now is CLOCK_BOOTTIME.
	Now func() time.Duration

	mu     sync.Mutex
	rings  map[events.RunID]*Ring
	moving map[events.RunID]bool // are read once a second
	wake   chan struct{}         // room for one
}

// NewSampler returns a sampler of no runs.
func NewSampler(read func(events.RunID) (uint64, error), now func() time.Duration) *Sampler {
	return &Sampler{Read: read, Now: now, rings: map[events.RunID]*Ring{}, moving: map[events.RunID]bool{}, wake: make(chan struct{}, 1)}
}

// tick is the pause between two readings of a run that moves.
const tick = time.Second

// Run reads until ctx ends: the runs that move every second, the others after each pause.
func (s *Sampler) Run(ctx context.Context, pause time.Duration) {
	all := time.NewTicker(pause)
	defer all.Stop()
	second := time.NewTicker(tick)
	defer second.Stop()
	for {
		select {
		case <-second.C:
			if s.round() == 0 {
				second.Stop()
			}
		case <-s.wake:
			second.Reset(tick)
		case <-all.C:
			s.look()
		case <-ctx.Done():
			return
		}
	}
}

// round reads every run that moves, and returns how many there are.
func (s *Sampler) round() int {
	s.mu.Lock()
	runs := make([]events.RunID, 0, len(s.moving))
	for run := range s.moving {
		runs = append(runs, run)
	}
	s.mu.Unlock()
	for _, run := range runs {
		s.read(run)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.moving)
}

// read adds a sample. One that has moved is read again in a second.
func (s *Sampler) read(run events.RunID) {
	n, err := s.Read(run)
	at := s.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rings[run]
	if r == nil {
		return // it has ended since
	}
	if err == nil {
		r.Add(Sample{at, n})
	}
	if err != nil || r.Still() {
		delete(s.moving, run)
		return
	}
	if !s.moving[run] {
		s.moving[run] = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Add begins with a run.
func (s *Sampler) Add(run events.RunID) {
	s.mu.Lock()
	if s.rings[run] == nil {
		s.rings[run] = &Ring{}
	}
	s.mu.Unlock()
	s.read(run)
}

// look reads the runs that lie still: they may have moved.
func (s *Sampler) look() {
	s.mu.Lock()
	var runs []events.RunID
	for run := range s.rings {
		if !s.moving[run] {
			runs = append(runs, run)
		}
	}
	s.mu.Unlock()
	for _, run := range runs {
		s.read(run)
	}
}

// Take returns what is known of a run and forgets it.
func (s *Sampler) Take(run events.RunID) *Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rings[run]
	delete(s.rings, run)
	delete(s.moving, run)
	return r
}

// Samples returns what is known of a live run, oldest first.
func (s *Sampler) Samples(run events.RunID) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rings[run]; r != nil {
		return r.Samples()
	}
	return nil
}
