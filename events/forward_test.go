package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// fillStore puts runs into a store that were killed, and one that goes on; two events each.
func fillStore(tb testing.TB, s events.Store, prefix string, n int) {
	tb.Helper()
	for i := range n {
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("%s%06d", prefix, i)))
		r.AnalysisID = fmt.Sprintf("%s-%d", prefix, i%7)
		must(tb, s.Begin(tb.Context(), r))
		must(tb, s.Append(tb.Context(), events.NewEvent(r, events.KindStarted, 0, r.StartedAt)))
		ended, e := eventstest.Ended(r)
		must(tb, s.End(tb.Context(), ended, e))
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// wantSame checks that two stores have the same runs and events, in the same order.
func wantSame(t *testing.T, local, remote events.Store) {
	t.Helper()
	want, err := local.Events(t.Context(), events.EventQuery{})
	must(t, err)
	got, err := remote.Events(t.Context(), events.EventQuery{})
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-local +remote):\n%s", diff)
	}
	wantRuns, err := local.Runs(t.Context(), events.RunQuery{})
	must(t, err)
	gotRuns, err := remote.Runs(t.Context(), events.RunQuery{})
	must(t, err)
	if diff := cmp.Diff(wantRuns, gotRuns); diff != "" {
		t.Errorf("runs (-local +remote):\n%s", diff)
	}
}

func forwarder(t *testing.T, spool *events.SQLite, to *events.Postgres) *events.Forwarder {
	t.Helper()
	return events.NewForwarder(spool, to, quiet)
}

// inTime is how long a database may take to be back in these tests.
const inTime = 2 * time.Minute

// background forwards until the test ends, or the returned function is called, which says how long that took.
func background(t *testing.T, f *events.Forwarder) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	stop = func() time.Duration {
		start := time.Now()
		cancel()
		wg.Wait()
		return time.Since(start)
	}
	t.Cleanup(func() { stop() })
	return stop
}

// wantForwarded waits until a database has as many events as the store.
func wantForwarded(t *testing.T, spool *events.SQLite) {
	t.Helper()
	for deadline := time.Now().Add(inTime); ; time.Sleep(20 * time.Millisecond) {
		list, err := spool.Spools(t.Context())
		must(t, err)
		if len(list) > 0 && list[0].Pending == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not forwarded: %+v", list)
		}
	}
}

// S6: whatever happens to PostgreSQL, the spool keeps the order, and the database has everything exactly once when it is back.
func TestS6(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(t *testing.T, server *eventstest.Postgres, name string)
		mend  func(t *testing.T, server *eventstest.Postgres, name string)
	}{
		{"down at the start",
			func(t *testing.T, server *eventstest.Postgres, _ string) { server.Stop(t) },
			func(t *testing.T, server *eventstest.Postgres, _ string) { server.Start(t) }},
		{"killed",
			func(t *testing.T, server *eventstest.Postgres, _ string) { server.Kill(t) },
			func(t *testing.T, server *eventstest.Postgres, _ string) { server.Start(t) }},
		{"hung",
			func(_ *testing.T, server *eventstest.Postgres, _ string) { server.Hang() },
			func(_ *testing.T, server *eventstest.Postgres, _ string) { server.Resume() }},
		{"read-only",
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, "postgres", "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
				server.SQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'")
			},
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, "postgres", "ALTER DATABASE "+name+" RESET default_transaction_read_only")
				server.SQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'")
			}},
		{"with a broken schema",
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, name, "ALTER TABLE watchdog_events RENAME COLUMN event TO evnet")
			},
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, name, "ALTER TABLE watchdog_events RENAME COLUMN evnet TO event")
			}},
		{"without permission",
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, name, "REVOKE INSERT ON watchdog_events FROM host")
			},
			func(t *testing.T, server *eventstest.Postgres, name string) {
				server.SQL(t, name, "GRANT INSERT ON watchdog_events TO host")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t)
			name := server.Database(t)
			server.SQL(t, name, "CREATE ROLE host LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO host")
			url := strings.Replace(server.URL(name), "lictor@", "host@", 1)
			spool := openTemp(t)
			fillStore(t, spool, "before", 20)
			c.fault(t, server, name)
			f := forwarder(t, spool, openPostgres(t, url))
			stop := background(t, f)
			start := time.Now()
			fillStore(t, spool, "during", 20)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("the store took %v while the database was away", took)
			}
			for deadline := time.Now().Add(inTime); c.name != "hung"; time.Sleep(20 * time.Millisecond) { // at least one try
				if f.Failing() != nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("nothing fails")
				}
			}
			if took := stop(); took > 15*time.Second {
				t.Errorf("it took %v to stop while the database was away", took)
			}
			stop = background(t, f)
			c.mend(t, server, name)
			fillStore(t, spool, "after", 20)
			wantForwarded(t, spool)
			stop()
			wantSame(t, spool, openPostgres(t, url))
			dead, err := spool.DeadLetters(t.Context())
			must(t, err)
			if len(dead) > 0 {
				t.Errorf("%d dead letters, such as %s", len(dead), dead[0].Error)
			}
		})
	}
}

// S6: restarted in the middle of it, again and again.
func TestS6Restarts(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	spool := openTemp(t)
	f := forwarder(t, spool, openPostgres(t, server.URL(name)))
	stop := background(t, f)
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		for i := range 30 {
			fillStore(t, spool, fmt.Sprintf("r%02d", i), 20)
		}
	}()
	for i := range 4 {
		time.Sleep(200 * time.Millisecond)
		if i%2 == 0 {
			server.Kill(t)
		} else {
			server.Stop(t)
		}
		server.Start(t)
	}
	<-writing
	wantForwarded(t, spool)
	stop()
	wantSame(t, spool, openPostgres(t, server.URL(name)))
}

// S6: the answer to a COMMIT is lost, so that nobody knows whether it took place.
func TestS6Ambiguous(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	proxy := newDroppingProxy(t, server.Socket())
	spool := openTemp(t)
	fillStore(t, spool, "r", 300)
	url := fmt.Sprintf("postgres://lictor@127.0.0.1:%d/%s?sslmode=disable", proxy.port, name)
	f := forwarder(t, spool, openPostgres(t, url))
	background(t, f)
	wantForwarded(t, spool)
	if dropped := proxy.droppedAnswers(); dropped < 3 {
		t.Errorf("%d answers were dropped", dropped)
	}
	wantSame(t, spool, openPostgres(t, server.URL(name)))
}

// droppingProxy passes everything on, but breaks the first connections off when the server has committed an insertion, before the
// client hears of it.
type droppingProxy struct {
	port int
	mu   sync.Mutex
	left int
	lost int
}

func newDroppingProxy(t *testing.T, socket string) *droppingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &droppingProxy{port: l.Addr().(*net.TCPAddr).Port, left: 3}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client, socket) })
		}
	})
	return p
}

func (p *droppingProxy) serve(client net.Conn, socket string) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		// CommandComplete of the last statement comes with ReadyForQuery, after the implicit COMMIT.
		if strings.Contains(string(buf[:n]), "INSERT 0 ") && strings.Contains(string(buf[:n]), "Z\x00\x00\x00\x05I") && p.drop() {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *droppingProxy) drop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return false
	}
	p.left--
	p.lost++
	return true
}

func (p *droppingProxy) droppedAnswers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// S11: what the database refuses for ever is set aside, and what is behind it flows.
func TestS11(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	spool := openTemp(t)
	fillStore(t, spool, "a", 5)
	odd := eventstest.NewRun("odd000000000")
	number := events.NewEvent(odd, events.KindIntent, 0, odd.StartedAt)
	number.Detail = json.RawMessage(`{"n":1e999999}`)
	long := events.NewEvent(odd, events.KindIntent, 1, odd.StartedAt)
	long.AnalysisID = incompressible(20000) // no index takes it
	must(t, spool.Append(t.Context(), number, long))
	fillStore(t, spool, "b", 5)
	remote := openPostgres(t, server.URL(name))
	f := forwarder(t, spool, remote)
	n, err := f.Drain(t.Context(), false)
	must(t, err)
	if n != 22 {
		t.Errorf("%d events were forwarded, want 22", n)
	}
	dead, err := spool.DeadLetters(t.Context())
	must(t, err)
	if len(dead) != 2 || dead[0].Event.ID != number.ID || dead[1].Event.ID != long.ID || !strings.Contains(dead[0].Error, "numeric") {
		t.Fatalf("dead letters %+v", dead)
	}
	got, err := remote.Events(t.Context(), events.EventQuery{})
	must(t, err)
	if len(got) != 20 {
		t.Errorf("the database has %d events, want 20", len(got))
	}
	if n, err := f.Retry(t.Context(), dead...); n != 0 || err != nil {
		t.Errorf("tried again: %d, %v", n, err)
	}
	server.SQL(t, name, "DROP INDEX watchdog_events_label; ALTER TABLE watchdog_events DROP CONSTRAINT watchdog_events_analysis_id_fkey;"+
		"ALTER TABLE watchdog_processes DROP CONSTRAINT watchdog_processes_analysis_id_fkey; ALTER TABLE analyses DROP CONSTRAINT analyses_pkey;"+
		"CREATE UNIQUE INDEX ON analyses (md5(analysis_id))")
	if n, err := f.Retry(t.Context(), dead...); n != 1 || err != nil {
		t.Errorf("tried again after the repair: %d, %v", n, err)
	}
	dead, err = spool.DeadLetters(t.Context())
	must(t, err)
	if len(dead) != 1 || dead[0].Tries != 3 {
		t.Fatalf("dead letters %+v", dead)
	}
	must(t, spool.DropDead(t.Context(), dead...))
	if list, err := spool.Spools(t.Context()); err != nil || len(list) != 1 || list[0].Dead != 0 || list[0].Pending != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// incompressible is text that PostgreSQL cannot make shorter.
func incompressible(n int) string {
	var b strings.Builder
	x := uint64(1)
	for b.Len() < n {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()
}

// Another database gets everything; one that comes back under another address does not.
func TestForwardToAnother(t *testing.T) {
	server := startPostgres(t)
	spool := openTemp(t)
	fillStore(t, spool, "a", 5)
	first, second := server.Database(t), server.Empty(t)
	must(t, migratePostgres(server.URL(second)))
	for i, c := range []struct {
		name string
		want int
	}{{first, 10}, {first, 0}, {second, 10}, {first, 0}} {
		n, err := forwarder(t, spool, openPostgres(t, server.URL(c.name)+"&application_name=x")).Drain(t.Context(), false)
		must(t, err)
		if n != c.want {
			t.Errorf("step %d: %d events were forwarded to %s, want %d", i, n, c.name, c.want)
		}
	}
	wantSame(t, spool, openPostgres(t, server.URL(second)))
	server.SQL(t, second, "DELETE FROM watchdog_events WHERE position > 3") // restored from a backup
	if n, err := forwarder(t, spool, openPostgres(t, server.URL(second))).Drain(t.Context(), true); n != 10 || err != nil {
		t.Errorf("everything again: %d, %v", n, err)
	}
	wantSame(t, spool, openPostgres(t, server.URL(second)))
}

// Several hosts, and several processes of one, forward at once.
func TestForwarders(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	var wg sync.WaitGroup
	for h := range 4 {
		spool := openTemp(t)
		fillStore(t, spool, fmt.Sprintf("h%d", h), 150)
		for range 2 {
			wg.Go(func() {
				if _, err := forwarder(t, spool, openPostgres(t, server.URL(name))).Drain(t.Context(), false); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if got := server.SQL(t, name, "SELECT count(*), count(distinct id) FROM watchdog_events"); got != "1200|1200" {
		t.Errorf("events: %s, want 1200|1200", got)
	}
	if got := server.SQL(t, name, "SELECT count(*) FROM watchdog_processes WHERE ended"); got != "600" {
		t.Errorf("ended runs: %s, want 600", got)
	}
	got := server.SQL(t, name, `SELECT count(*) FROM watchdog_events a JOIN watchdog_events b ON a.run = b.run
		AND a.kind = 'started' AND b.kind = 'ended' AND a.position > b.position`)
	if got != "0" {
		t.Errorf("%s runs ended before they started", got)
	}
}
