package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// fake is a backend that notes what it is asked for.
type fake struct {
	store events.Store
	asked []string
	fail  error
	keep  func(Peer, *Conn)
}

func (f *fake) Keep(p Peer, c *Conn)                         { f.keep(p, c) }
func (f *fake) Store(context.Context) (events.Reader, error) { return f.store, nil }
func (f *fake) Stamp(ctx context.Context) string {
	if s, ok := f.store.(*events.SQLite); ok {
		return s.Stamp(ctx)
	}
	return ""
}
func (f *fake) Kept(*uint32) (kept, ending int)                      { return 2, 1 }
func (f *fake) Live(context.Context, *uint32) ([]client.Live, error) { return nil, f.fail }
func (f *fake) Current(run *events.Run) *events.Run {
	now := *run
	now.State = events.StateRunning
	if run.AnalysisID == "ending" {
		now.State = events.StateGrace
	}
	return &now
}
func (f *fake) Summary(context.Context, events.Reader, *uint32) (any, error) {
	return map[string]int{"kills_24h": 1}, f.fail
}
func (f *fake) Processes(_ context.Context, r *events.Run) ([]events.Process, error) {
	return []events.Process{{PID: 4}}, f.note("processes %s", r.Run)
}
func (f *fake) Metrics() http.Handler       { return nil }
func (f *fake) Ready(context.Context) error { return f.fail }
func (f *fake) Launch(_ context.Context, p Peer, l *client.Launch, fds []int) (*events.Run, bool, error) {
	run := eventstest.NewRun("aaaaaaaaaaaa")
	run.Command = l.Command
	if l.Attached {
		_, _ = unix.Write(fds[client.Descriptors-1], []byte(l.Command[0]))
	}
	return run, l.Key != "again", f.note("launch %v %v %q for %d", l.Command, l.Limits, l.Key, p.UID)
}
func (f *fake) note(format string, args ...any) error {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return f.fail
}
func (f *fake) Stop(_ context.Context, _ Peer, r *events.Run, g *float64) error {
	if g == nil {
		return f.note("stop %s", r.Run)
	}
	return f.note("stop %s after %g", r.Run, *g)
}
func (f *fake) Kill(_ context.Context, _ Peer, r *events.Run, s string) error {
	return f.note("kill %s %s", r.Run, s)
}
func (f *fake) Set(_ context.Context, _ Peer, r *events.Run, a []string) error {
	return f.note("set %s %v", r.Run, a)
}
func (f *fake) Release(_ context.Context, _ Peer, r *events.Run) error {
	return f.note("release %s", r.Run)
}
func (f *fake) Adopt(_ context.Context, p Peer, a *client.Adoption) (*events.Run, error) {
	return a.Run, f.note("adopt %d for %d", a.PID, p.UID)
}

// start serves a fake backend on a socket, for a caller with the given uid.
func start(t *testing.T, uid uint32) (*fake, *client.Client, string) {
	t.Helper()
	f := &fake{store: &eventstest.Memory{}}
	path := serveFake(t, f, &uid)
	return f, clientAt(path), path
}

// serveFake serves a backend on a socket, for whoever connects, or as if that were the user uid.
func serveFake(tb testing.TB, f *fake, uid *uint32) (path string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	s := NewServer(f, nil, slog.New(slog.DiscardHandler))
	s.http.Handler = afterIO(s.http.Handler)
	if uid != nil {
		known := s.http.ConnContext
		s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			c.(*peerConn).peer.UID = *uid
			return known(ctx, c)
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	tb.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return path
}

func begin(t *testing.T, f *fake, id events.RunID, uid uint32) *events.Run {
	t.Helper()
	run := eventstest.NewRun(id)
	run.UID = uid
	if err := f.store.Begin(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Append(t.Context(), events.NewEvent(run, events.KindStarted, 0, run.StartedAt)); err != nil {
		t.Fatal(err)
	}
	return run
}

func clientAt(path string) *client.Client {
	c, err := client.New(path, "")
	if err != nil {
		panic(err)
	}
	return c
}

// afterIO tells the race detector that a request comes after what its caller did before: it knows that of read(2), and nothing of
// recvmsg(2).
func afterIO(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = os.ReadFile(os.DevNull)
		h.ServeHTTP(w, r)
	})
}
