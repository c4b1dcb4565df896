package scope

import (
	"sync"

	"github.com/godbus/dbus/v5"
)

// signalFilter receives the signals of one connection. It keeps what a waiter asked for and drops everything else, above all
// what does not come from systemd: on a bus anybody may send a signal that looks like one of systemd's.
type signalFilter struct {
	private bool

	mu      sync.Mutex
	owner   string                 // unique name of systemd on a bus
	joined  chan struct{}          // closed when systemd has got one
	jobs    map[string]chan string // by unit
	changes map[dbus.ObjectPath]func(map[string]dbus.Variant)
	stopped map[string]func() // by unit: a job of it was removed
	dropped uint64
	ended   bool
	feed    []chan<- *dbus.Signal // go-systemd's own channel: never fed, closed at the end so that its goroutine ends
}

func newSignalFilter(private bool) *signalFilter {
	return &signalFilter{private: private, joined: make(chan struct{}), jobs: map[string]chan string{},
		changes: map[dbus.ObjectPath]func(map[string]dbus.Variant){}, stopped: map[string]func(){}}
}

func (f *signalFilter) setOwner(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owns(name)
}

func (f *signalFilter) owns(name string) {
	if f.owner == "" && name != "" {
		select {
		case <-f.joined:
		default:
			close(f.joined)
		}
	}
	f.owner = name
}

// expect returns a channel that gets the result of the next job of unit to finish. Ask before the job is queued.
func (f *signalFilter) expect(unit string) <-chan string {
	ch := make(chan string, 1) // filled at most once, never closed: an abandoned one is garbage
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs[unit] = ch
	return ch
}

// watch calls changed for every change of the properties of a unit and job when a job of it is removed. Both are called in
// the order of the signals and before the reply to any later call is seen; they must not block.
func (f *signalFilter) watch(unit string, changed func(map[string]dbus.Variant), job func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes[unitPath(unit)] = changed
	f.stopped[unit] = job
}

// unwatch ends watch.
func (f *signalFilter) unwatch(unit string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.changes, unitPath(unit))
	delete(f.stopped, unit)
}

func (f *signalFilter) forget(unit string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.jobs, unit)
}

// DeliverSignal is called by godbus for every signal, in order.
func (f *signalFilter) DeliverSignal(_, _ string, s *dbus.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.private && s.Sender == "org.freedesktop.DBus" && s.Name == nameOwnerMoved {
		f.ownerMoved(s.Body)
		return
	}
	if !f.private && (f.owner == "" || s.Sender != f.owner) {
		f.dropped++
		return
	}
	switch s.Name {
	case jobRemoved:
		f.jobRemoved(s.Body)
	case propsChanged:
		f.propertiesChanged(s.Path, s.Body)
	}
}

func (f *signalFilter) ownerMoved(body []any) {
	var name, from, to string
	if dbus.Store(body, &name, &from, &to) == nil && name == systemdName {
		f.owns(to)
	}
}

func (f *signalFilter) jobRemoved(body []any) {
	var id uint32
	var job dbus.ObjectPath
	var unit, result string
	if dbus.Store(body, &id, &job, &unit, &result) != nil {
		f.dropped++
		return
	}
	if ch := f.jobs[unit]; ch != nil {
		delete(f.jobs, unit)
		ch <- result
	}
	if fn := f.stopped[unit]; fn != nil {
		fn()
	}
}

func (f *signalFilter) propertiesChanged(path dbus.ObjectPath, body []any) {
	fn := f.changes[path]
	if fn == nil {
		return
	}
	var iface string
	var changed map[string]dbus.Variant
	var invalidated []string
	if dbus.Store(body, &iface, &changed, &invalidated) != nil {
		f.dropped++
		return
	}
	fn(changed)
}

// AddSignal, RemoveSignal and Terminate make the filter acceptable to go-systemd.
func (f *signalFilter) AddSignal(ch chan<- *dbus.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended { // the connection broke while it was being made
		close(ch)
		return
	}
	f.feed = append(f.feed, ch)
}

// RemoveSignal is part of dbus.SignalRegistrar.
func (f *signalFilter) RemoveSignal(chan<- *dbus.Signal) {}

// Terminate is called by godbus when the connection ends.
func (f *signalFilter) Terminate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ch := range f.feed {
		close(ch)
	}
	f.feed, f.ended = nil, true
}
