package events

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// JournalSocket is where journald listens.
const JournalSocket = "/run/systemd/journal/socket"

// journalQueue is how many entries wait for journald: what a burst of a few dozen ending runs makes while journald
// restarts, at about half a KiB each.
const journalQueue = 256

// JournalOptions configure a Journal. The zero value is right outside of tests.
type JournalOptions struct {
	Socket string // JournalSocket when empty
	Queue  int    // entries that may wait; a default when 0
}

// Journal sends events to journald as structured fields. Send only queues; the sending is done by Run, in a goroutine that
// the caller provides, because journald may hang for as long as it likes and a keeper must not. What cannot be queued or
// delivered is counted (Dropped): the store has the record, journald is a copy.
type Journal struct {
	socket  *journalSocket
	queue   chan item
	stopped chan struct{} // closed by Close: nothing is queued any more
	sender  chan struct{} // holds one token while somebody writes to the socket
	pending *item         // taken from the queue but not sent; owned by whoever has the token

	mu     sync.Mutex // orders Send against Close
	closed bool

	dropped atomic.Uint64
}

// item is what waits in the queue: an entry, or a mark that closes a channel when all before it is sent or given up.
type item struct {
	entry   []byte
	reached chan struct{}
}

// NewJournal returns a Journal that is not connected yet.
func NewJournal(o JournalOptions) *Journal {
	if o.Socket == "" {
		o.Socket = JournalSocket
	}
	if o.Queue <= 0 {
		o.Queue = journalQueue
	}
	return &Journal{
		socket:  &journalSocket{path: o.Socket},
		queue:   make(chan item, o.Queue),
		stopped: make(chan struct{}),
		sender:  make(chan struct{}, 1),
	}
}

// Send queues an event. It never blocks. r is the run of the event as it stands, nil when it is not at hand; it is not
// kept.
func (j *Journal) Send(e Event, r *Run) {
	entry := journalEntry(&e, r)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		j.dropped.Add(1)
		return
	}
	select {
	case j.queue <- item{entry: entry}:
	default:
		j.dropped.Add(1)
	}
}

// Flush waits until what was queued before is sent or given up, or until ctx is done. It needs a Run.
func (j *Journal) Flush(ctx context.Context) {
	mark := item{reached: make(chan struct{})}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return
	}
	select {
	case j.queue <- mark:
	default: // journald is far behind
		j.mu.Unlock()
		return
	}
	j.mu.Unlock()
	select {
	case <-mark.reached:
	case <-ctx.Done():
	}
}

// Dropped returns how many events did not get to journald, because it was too slow, not there, or refused them.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Run sends what is queued until ctx is done or Close is called. Events that are queued then are sent by Close.
func (j *Journal) Run(ctx context.Context) error {
	select {
	case j.sender <- struct{}{}:
		defer func() { <-j.sender }()
	case <-j.stopped:
		return nil
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil { // and nothing is pending
		select {
		case <-ctx.Done():
		case <-j.stopped:
			return nil
		case it := <-j.queue:
			j.pending = &it
			j.deliver(ctx)
		}
	}
	return nil
}

// Close sends what is still queued, with or without a Run, until ctx is done, and disconnects. The error says how many
// events were given up.
func (j *Journal) Close(ctx context.Context) error {
	if !j.stop() {
		return nil
	}
	select {
	case j.sender <- struct{}{}:
	case <-ctx.Done():
		j.socket.close() // ends the write that Run may be stuck in
		j.sender <- struct{}{}
	}
	defer j.socket.close()
	before := j.Dropped()
	for j.pending != nil || j.next() {
		if j.deliver(ctx); j.pending != nil { // ctx is done
			j.pending = nil
			j.dropped.Add(1)
		}
	}
	if n := j.Dropped() - before; n > 0 {
		return fmt.Errorf("journald %q: %s not delivered", j.socket.path, plural(int(n), "event", "events"))
	}
	return nil
}

// stop makes Send refuse and reports whether this call did.
func (j *Journal) stop() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.closed = true
	close(j.stopped)
	return true
}

// next takes an entry from the queue, if there is one.
func (j *Journal) next() bool {
	select {
	case it := <-j.queue:
		j.pending = &it
		return true
	default:
		return false
	}
}

// deliver sends the pending entry. It stays pending only if ctx ended first.
func (j *Journal) deliver(ctx context.Context) {
	if j.pending.reached != nil {
		close(j.pending.reached)
		j.pending = nil
		return
	}
	err := j.socket.send(ctx, j.pending.entry)
	if err != nil && ctx.Err() != nil {
		return
	}
	if err != nil {
		j.dropped.Add(1)
	}
	j.pending = nil
}
