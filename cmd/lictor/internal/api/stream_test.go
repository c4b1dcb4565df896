package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// listening is a client of a stream.
type listening struct {
	path  string
	query string
	last  string // Last-Event-ID
	got   []string
}

// listen reads events until enough says so, or ctx ends. It can be called again, and goes on where it was.
func (l *listening) listen(ctx context.Context, enough func(n int) bool) error {
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.path)
	}}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://lictor/api/v1/events"+l.query, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if l.last != "" {
		req.Header.Set("Last-Event-ID", l.last)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	n := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			l.last = id
			l.got = append(l.got, id)
			if n++; enough(n) {
				return nil
			}
		}
	}
	return io.ErrUnexpectedEOF
}

// streamSize is how many events how many clients are told of: make test-long takes the counts that need minutes.
func streamSize() (events, clients int) {
	if os.Getenv("LICTOR_TEST_LONG") != "" {
		return 10000, 500
	}
	return 2000, 60
}

// stall subscribes and reads nothing.
func stall(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n")
	return conn
}

// wantDropped waits until a client that has read nothing must have been hung up on, and looks whether it was.
func wantDropped(t *testing.T, conn net.Conn, everything int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) >= everything {
		t.Errorf("the stalled one: %d bytes, %v, want less than everything and the end", len(rest), err)
	}
}

// A client that goes and comes back with Last-Event-ID misses nothing and sees nothing twice; others see all, in order, also while some
// read nothing; a filter filters.
func TestStream(t *testing.T) {
	n, clients := streamSize()
	f, _, path := start(t, 0)
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	stalled := []net.Conn{stall(t, path), stall(t, path), stall(t, path)}
	var ready, done sync.WaitGroup
	all := make([]*listening, clients)
	for i := range clients {
		l := &listening{path: path, last: "1"} // after the started event
		all[i] = l
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			for len(l.got) < n {
				part := n
				if i%2 == 0 { // it comes and goes
					part = n/20 + i
				}
				if err := l.listen(ctx, func(k int) bool { return k >= part || len(l.got) >= n }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ready.Wait()
	began := time.Now()
	for i := range n {
		if err := f.store.Append(ctx, events.NewEvent(run, events.KindIntent, i, run.StartedAt)); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	t.Logf("%d clients were told of %d events in %v", clients, n, time.Since(began).Round(time.Millisecond))
	for i, l := range all {
		for k, id := range l.got {
			if id != strconv.Itoa(k+2) {
				t.Fatalf("client %d: event %d has id %s, want %d", i, k, id, k+2)
			}
		}
		if len(l.got) != n {
			t.Errorf("client %d: %d events", i, len(l.got))
		}
	}
	if clients >= 500 { // in the short test they are TestStreamStalled's business
		e := events.NewEvent(run, events.KindIntent, 0, run.StartedAt)
		one, err := newFrame(&e, 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(streamStall + time.Second)
		for _, conn := range stalled {
			wantDropped(t, conn, n*len(one.text))
		}
	}
	ended, e := eventstest.Ended(run)
	filtered := &listening{path: path, query: "?kind=ended", last: "1"}
	if err := f.store.End(ctx, ended, e); err != nil {
		t.Fatal(err)
	}
	if err := filtered.listen(ctx, func(int) bool { return true }); err != nil || filtered.got[0] != strconv.Itoa(n+2) {
		t.Errorf("ended events: %v, %v", filtered.got, err)
	}
	if err := (&listening{path: path, last: "x"}).listen(ctx, nil); err == nil || !strings.Contains(err.Error(), "not the id of an event") {
		t.Errorf("a bad Last-Event-ID: %v", err)
	}
}

// A user hears of the own runs only.
func TestStreamOfUser(t *testing.T) {
	f, _, path := start(t, 1000)
	begin(t, f, "aaaaaaaaaaaa", 1001)
	begin(t, f, "bbbbbbbbbbbb", 1000)
	l := &listening{path: path, last: "0"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		time.Sleep(3 * streamPoll)
		for i := range 3 {
			id := events.RunID(fmt.Sprintf("c%011d", i))
			run := eventstest.NewRun(id)
			run.UID = uint32(1000 + i%2)
			_ = f.store.Begin(ctx, run)
			_ = f.store.Append(ctx, events.NewEvent(run, events.KindStarted, 0, run.StartedAt))
		}
	}()
	if err := l.listen(ctx, func(n int) bool { return n == 2 }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.got, " "); got != "3 5" {
		t.Errorf("heard of %s, want 3 5", got)
	}
}

// The store is set aside under an open stream: what the new one has is told from its beginning, and a client that comes back with a
// position of the old one hears all of it, too.
func TestStreamOfReplacedStore(t *testing.T) {
	f, _, path := start(t, 0)
	store, err := events.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "lictor.db"), migrations.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f.store = store
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	add := func(from, to int) {
		for i := from; i < to; i++ {
			if err := store.Append(ctx, events.NewEvent(run, events.KindIntent, i, run.StartedAt)); err != nil {
				t.Error(err)
			}
		}
	}
	add(0, 3)
	l := &listening{path: path, last: "2"}
	if err := l.listen(ctx, func(n int) bool {
		if n == 2 {
			if err := store.Replace(ctx, errors.New("for this test")); err != nil {
				t.Error(err)
			}
			add(3, 5)
		}
		return n == 4
	}); err != nil {
		t.Fatal(err)
	}
	late := &listening{path: path, last: "4"}
	if err := late.listen(ctx, func(n int) bool { return n == 2 }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.got, " ") + ", " + strings.Join(late.got, " "); got != "3 4 1 2, 1 2" {
		t.Errorf("heard of %s, want 3 4 1 2, 1 2", got)
	}
}

// One that takes nothing is hung up on, and delays nobody.
func TestStreamStalled(t *testing.T) {
	f, _, path := start(t, 0)
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	conn := stall(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	big := strings.Repeat("x", 2000)
	const n = 500
	for i := range n {
		e := events.NewEvent(run, events.KindIntent, i, run.StartedAt)
		e.Detail = []byte(`"` + big + `"`)
		if err := f.store.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	l := &listening{path: path, last: "1"}
	if err := l.listen(ctx, func(k int) bool { return k == n }); err != nil {
		t.Errorf("the other client: %v after %d", err, len(l.got))
	}
	time.Sleep(streamStall + time.Second)
	wantDropped(t, conn, n*len(big))
}

// The client's Wait returns with the end, whenever that comes.
func TestWait(t *testing.T) {
	f, c, _ := start(t, 0)
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	type result struct {
		run *events.Run
		err error
	}
	waited := make(chan result, 1)
	go func() {
		r, err := c.Wait(t.Context(), run.Run)
		waited <- result{r, err}
	}()
	time.Sleep(2 * streamPoll)
	ended, e := eventstest.Ended(run)
	if err := f.store.End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	if got := <-waited; got.err != nil || got.run.State != ended.State {
		t.Errorf("%+v, %v", got.run, got.err)
	}
	if r, err := c.Wait(t.Context(), run.Run); err != nil || r.State != ended.State {
		t.Errorf("of one that has ended: %+v, %v", r, err)
	}
	if _, err := c.Wait(t.Context(), "bbbbbbbbbbbb"); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}
