package scopetest

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName = "org.freedesktop.systemd1"
	daemonName  = "org.freedesktop.DBus"
	managerPath = dbus.ObjectPath("/org/freedesktop/systemd1")
)

// FirstOwner is the unique name of systemd on the bus until [Systemd.Reexec].
const FirstOwner = ":1.1"

// Call is a method call as it arrived.
type Call struct {
	Interface, Member string
	Path              dbus.ObjectPath
	Body              []any
}

// Unit returns the first argument of the methods that take the name of a unit.
func (c Call) Unit() string { return c.text(0) }

// text returns argument i, or "" if that is no string.
func (c Call) text(i int) string {
	if i >= len(c.Body) {
		return ""
	}
	s, _ := c.Body[i].(string)
	return s
}

// Reply answers a Call.
type Reply struct {
	Body   []any
	Error  string // the name of a D-Bus error; Body is then its message
	Silent bool   // no answer, ever
}

// Fail returns the reply that is the error of that name.
func Fail(name, message string) Reply { return Reply{Error: name, Body: []any{message}} }

// Handler answers calls of one method. It runs on the goroutine of the connection that called.
type Handler func(Call) Reply

// Systemd is a fake manager. Its methods can be called from any goroutine.
type Systemd struct {
	dir       string
	listeners []net.Listener
	serving   sync.WaitGroup

	mu       sync.Mutex
	conns    map[*conn]bool
	accepted int
	handlers map[string]Handler
	onUnit   func(unit string, properties map[string]dbus.Variant)
	result   string
	owner    string
	units    map[string]map[string]dbus.Variant
	jobs     uint32
	calls    []Call
}

// New starts a fake. It ends with the test.
func New(tb testing.TB) *Systemd {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sd") // short: the path of a socket has 107 bytes at most
	must(tb, err)
	s := &Systemd{dir: dir, conns: map[*conn]bool{}, handlers: map[string]Handler{}, result: "done", owner: FirstOwner,
		units: map[string]map[string]dbus.Variant{}}
	must(tb, os.Mkdir(filepath.Join(dir, "systemd"), 0o700))
	for _, name := range []string{"systemd/private", "bus"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		must(tb, err)
		s.listeners = append(s.listeners, l)
		s.serving.Add(1)
		go s.accept(l)
	}
	tb.Cleanup(func() {
		s.Die()
		s.serving.Wait()
		_ = os.RemoveAll(dir)
	})
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(fmt.Errorf("scopetest: %w", err))
	}
}

// RuntimeDir is what XDG_RUNTIME_DIR has to be for a launcher of the user manager to find the fake.
func (s *Systemd) RuntimeDir() string { return s.dir }

// PrivateAddress is the D-Bus address of the private socket.
func (s *Systemd) PrivateAddress() string {
	return "unix:path=" + filepath.Join(s.dir, "systemd/private")
}

// BusAddress is the D-Bus address of the bus.
func (s *Systemd) BusAddress() string { return "unix:path=" + filepath.Join(s.dir, "bus") }

// Handle answers a method ("StartTransientUnit") with fn from now on, and as by default if fn is nil.
func (s *Systemd) Handle(member string, fn Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fn == nil {
		delete(s.handlers, member)
		return
	}
	s.handlers[member] = fn
}

// JobsEnd sets the result that start jobs end with: "done" at first; "" is a job that never ends.
func (s *Systemd) JobsEnd(result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = result
}

// OnUnit has fn called for every transient unit before its job is done.
func (s *Systemd) OnUnit(fn func(unit string, properties map[string]dbus.Variant)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onUnit = fn
}

// Units lists the units that were started and not stopped, sorted.
func (s *Systemd) Units() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.units))
}

// Set sets properties of a unit, which is made if need be.
func (s *Systemd) Set(unit string, properties map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[unit] == nil {
		s.units[unit] = map[string]dbus.Variant{}
	}
	for name, v := range properties {
		s.units[unit][name] = dbus.MakeVariant(v)
	}
}

// Calls lists the calls of a method that have arrived.
func (s *Systemd) Calls(member string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []Call
	for _, c := range s.calls {
		if c.Member == member {
			calls = append(calls, c)
		}
	}
	return calls
}

// Connections tells how many connections are open, and how many there ever were.
func (s *Systemd) Connections() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.accepted
}

// Drop breaks every connection; new ones are accepted. This is what a restart of the bus looks like.
func (s *Systemd) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Die breaks every connection and accepts no more.
func (s *Systemd) Die() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.Drop()
}

func (s *Systemd) accept(l net.Listener) {
	defer s.serving.Done()
	for {
		sock, err := l.Accept()
		if err != nil {
			return
		}
		c := &conn{Conn: sock, s: s}
		s.mu.Lock()
		s.conns[c] = true
		s.accepted++
		s.mu.Unlock()
		s.serving.Add(1)
		go c.serve()
	}
}
