package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// X4, X16: what a caller sees and may do depends on the uid that the kernel says, and on nothing that it says itself.
func TestX4OwnRunsOnly(t *testing.T) {
	f, c, _ := start(t, 1000)
	mine, other := begin(t, f, "aaaaaaaaaaaa", 1000), begin(t, f, "bbbbbbbbbbbb", 1001)
	ctx := t.Context()
	s := c.Store()
	if run, err := s.Run(ctx, mine.Run); err != nil || run.Run != mine.Run {
		t.Errorf("own run: %v, %v", run, err)
	}
	for name, err := range map[string]error{
		"run":     second(s.Run(ctx, other.Run)),
		"resolve": second(s.Resolve(ctx, "bbbb")),
		"stop":    c.Stop(ctx, other.Run, nil),
		"kill":    c.Kill(ctx, other.Run, "SIGKILL"),
		"set":     c.Set(ctx, other.Run, []string{"MemoryMax=1G"}),
		"release": c.Release(ctx, other.Run),
	} {
		if !errors.Is(err, events.ErrNotFound) {
			t.Errorf("%s of another user's run: %v, want not found", name, err)
		}
	}
	runs, err := s.Runs(ctx, events.RunQuery{})
	if err != nil || len(runs) != 1 || runs[0].Run != mine.Run {
		t.Errorf("runs: %v, %v", runs, err)
	}
	cursor := int64(0)
	es, err := s.Events(ctx, events.EventQuery{Cursor: &cursor})
	if err != nil || len(es) != 1 || es[0].Run != mine.Run || cursor == 0 {
		t.Errorf("events: %v, %v, cursor %d", es, err, cursor)
	}
	if len(f.asked) != 0 {
		t.Errorf("done: %v", f.asked)
	}
	grace := 3 * time.Second
	for _, err := range []error{c.Stop(ctx, mine.Run, nil), c.Stop(ctx, mine.Run, &grace), c.Kill(ctx, mine.Run, "SIGINT"),
		c.Set(ctx, mine.Run, []string{"TasksMax=4"}), c.Release(ctx, mine.Run), second(c.Adopt(ctx, &client.Adoption{PID: 7, Run: mine}))} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{"stop aaaaaaaaaaaa", "stop aaaaaaaaaaaa after 3", "kill aaaaaaaaaaaa SIGINT", "set aaaaaaaaaaaa [TasksMax=4]",
		"release aaaaaaaaaaaa", "adopt 7 for 1000"}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Error(diff)
	}
}

// A record says how a live run is now, which the store does not know, and states can be asked for by that.
func TestCurrent(t *testing.T) {
	f, c, _ := start(t, 1000)
	ctx := t.Context()
	for i := range runsPage + 5 {
		run := eventstest.NewRun(events.RunID(fmt.Sprintf("run%09d", i)))
		run.UID = 1000
		run.StartedAt = run.StartedAt.Add(time.Duration(i) * time.Second)
		if i%2 == 1 {
			run.AnalysisID = "ending"
		}
		if err := f.store.Begin(ctx, run); err != nil {
			t.Fatal(err)
		}
	}
	run, err := c.Store().Run(ctx, "run000000000")
	if err != nil || run.State != events.StateRunning {
		t.Errorf("%+v, %v", run, err)
	}
	if run, err = c.Store().Resolve(ctx, "run000000001"); err != nil || run.State != events.StateGrace {
		t.Errorf("%+v, %v", run, err)
	}
	for _, want := range []struct {
		states []events.State
		limit  int
		n      int
	}{
		{nil, 0, 205}, {nil, 201, 201}, {[]events.State{events.StateRunning}, 0, 103}, {[]events.State{events.StateGrace}, 0, 102},
		{[]events.State{events.StateGrace}, 101, 101}, {[]events.State{events.StateStarting}, 0, 0}, {[]events.State{events.StateDone}, 0, 0},
		{[]events.State{events.StateGrace, events.StateRunning, events.StateDone}, 0, 205},
	} {
		q := events.RunQuery{States: want.states, Limit: want.limit}
		runs, err := c.Store().Runs(ctx, q)
		if err != nil || len(runs) != want.n {
			t.Errorf("%+v: %d records, %v, want %d", q, len(runs), err, want.n)
		}
		for i, run := range runs {
			if want.states != nil && !slices.Contains(want.states, run.State) || i > 0 && !run.StartedAt.Before(runs[i-1].StartedAt) {
				t.Errorf("%+v: number %d is %s %s", q, i, run.Run, run.State)
			}
		}
		if n, err := c.Store().Count(ctx, q); want.limit == 0 && (err != nil || n != want.n) {
			t.Errorf("%+v: counted %d, %v, want %d", q, n, err, want.n)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The kernel says which groups a peer is in.
func TestPeerGroups(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	got, err := peerGroups(uintptr(fds[0]))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("groups %v, want %v", got, want)
	}
	for i := range want {
		if int(got[i]) != want[i] {
			t.Errorf("groups %v, want %v", got, want)
		}
	}
}

// Who may see all, and who only the own, also where the uid is the same.
func TestViews(t *testing.T) {
	root, admin, alice, bob := Peer{UID: 0}, Peer{UID: 1000, Admin: true}, Peer{UID: 1000}, Peer{UID: 1001}
	if !root.All() || !admin.All() || alice.All() || viewOf(root) != viewOf(admin) || viewOf(alice) == viewOf(admin) || viewOf(alice) == viewOf(bob) {
		t.Errorf("views %q %q %q %q", viewOf(root), viewOf(admin), viewOf(alice), viewOf(bob))
	}
}

func TestRootSeesAll(t *testing.T) {
	f, c, _ := start(t, 0)
	begin(t, f, "aaaaaaaaaaaa", 1000)
	begin(t, f, "bbbbbbbbbbbb", 1001)
	if runs, err := c.Store().Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 2 {
		t.Errorf("%v, %v", runs, err)
	}
	if n, err := c.Store().KillsSince(t.Context(), time.Time{}.Add(1)); err != nil || n != 0 {
		t.Errorf("kills %d, %v", n, err)
	}
}

// A problem keeps its words, its hint and its exit status.
// The old watchdog's section, field for field: zeros and an empty list when nothing is monitored, and never an error.
func TestQuestsStatus(t *testing.T) {
	ask := func(path string) string {
		t.Helper()
		hc := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}, DisableKeepAlives: true}}
		resp, err := hc.Get("http://lictor/api/quests/status")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %v", resp.StatusCode, err)
		}
		return string(body)
	}
	f, _, path := start(t, 1000)
	if got, want := ask(path), `{"watchdog":{"monitored_count":0,"grace_count":1,"kills_last_24h":0,"recent_events":[]}}`+"\n"; got != want {
		t.Errorf("nothing is monitored: %s, want %s", got, want)
	}
	mine := begin(t, f, "aaaaaaaaaaaa", 1000)
	begin(t, f, "bbbbbbbbbbbb", 1001)
	ended, e := eventstest.Ended(mine)
	e.At = time.Now()
	if err := f.store.End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	begin(t, f, "cccccccccccc", 1000)
	time.Sleep(answerAge)
	got := ask(path)
	for _, want := range []string{`"monitored_count":1,`, `"kills_last_24h":1,`, `"recent_events":[{"api":"lictor/v1"`, `"run":"aaaaaaaaaaaa"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if strings.Contains(got, "bbbbbbbbbbbb") {
		t.Errorf("another user's run: %s", got)
	}
	if first := strings.Index(got, "cccccccccccc"); first < 0 || first > strings.Index(got, "aaaaaaaaaaaa") {
		t.Errorf("the last event does not come first: %s", got)
	}
	f.store.Close()
	time.Sleep(answerAge)
	if got := ask(path); !strings.Contains(got, `"monitored_count":2,`) || !strings.Contains(got, `"degraded":["the store is closed"]`) {
		t.Errorf("without a store: %s", got)
	}
}

// A long history is read page by page, and nothing of it is lost on the way.
func TestEventPages(t *testing.T) {
	f, c, _ := start(t, 0)
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	for i := range 25 {
		if err := f.store.Append(t.Context(), events.NewEvent(run, events.KindIntent, i, run.StartedAt)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := f.store.Events(t.Context(), events.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var got []events.Event
	cursor := int64(0)
	for {
		page, err := c.Store().Events(t.Context(), events.EventQuery{After: cursor, Limit: 10, Cursor: &cursor})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-stored +read):\n%s", diff)
	}
}

func TestProblems(t *testing.T) {
	f, c, path := start(t, 1000)
	run := begin(t, f, "aaaaaaaaaaaa", 1000)
	p := NewProblem(http.StatusTooManyRequests, "too many", "wait")
	p.ExitCode = 125
	f.fail = p
	var got *Problem
	if err := c.Release(t.Context(), run.Run); !errors.As(err, &got) || cmp.Diff(p, got) != "" {
		t.Errorf("got %v", err)
	}
	f.fail = errors.New("disk on fire")
	if err := c.Release(t.Context(), run.Run); !errors.As(err, &got) || got.Status != 500 || got.Detail != "disk on fire" {
		t.Errorf("got %v", err)
	}
	for request, want := range map[string]string{
		"GET /nothing":                     "404",
		"DELETE /api/v1/runs":              "404",
		"POST /api/v1/keep":                "426",
		"GET /api/v1/runs?since=yesterday": "400",
		"GET /api/v1/runs?limit=-1":        "400",
		"GET /api/v1/events?after=x":       "400",
		"GET /healthz":                     "200",
		"GET /api/v1/resolve?name=":        "404",
		"GET /api/v1/runs/..%2f..%2fetc":   "404",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if line, _, _ := strings.Cut(string(answer), "\r\n"); !strings.Contains(line, want) {
			t.Errorf("%s: %q, want %s", request, line, want)
		}
	}
}

// A user with too many connections gets no more; others do.
func TestF6ConnectionQuota(t *testing.T) {
	l := &listener{perUser: 2, open: map[uint32]int{}}
	for i, c := range []struct {
		uid  uint32
		want bool
	}{{1000, true}, {1000, true}, {1000, false}, {1001, true}, {0, true}, {0, true}, {0, true}} {
		if got := l.admit(c.uid); got != c.want {
			t.Errorf("%d: uid %d: %v", i, c.uid, got)
		}
	}
	l.leave(1000)
	if !l.admit(1000) {
		t.Error("a connection that was closed counts")
	}
}

// TestF3: clients that send a byte now and then, or nothing, are hung up on; others are answered meanwhile.
func TestF3SlowClients(t *testing.T) {
	f, c, path := start(t, 1000)
	begin(t, f, "aaaaaaaaaaaa", 1000)
	const slow = 50
	ended := make(chan time.Duration, 2*slow)
	begun := time.Now()
	for i := range 2 * slow {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		request := "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " // a header without an end
		if i%2 == 0 {
			request = "" // or nothing at all
		}
		go func() {
			for sent := 0; ; sent++ {
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
					ended <- time.Since(begun)
					return
				}
				if sent < len(request) {
					_, _ = conn.Write([]byte(request[sent : sent+1]))
				}
			}
		}()
	}
	for range 20 {
		asked := time.Now()
		if runs, err := c.Store().Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 || time.Since(asked) > 2*time.Second {
			t.Errorf("somebody else: %d runs, %v, after %v", len(runs), err, time.Since(asked))
		}
	}
	for range 2 * slow {
		select {
		case <-ended:
		case <-time.After(headerTime + 5*time.Second):
			t.Fatal("a slow client is still connected")
		}
	}
}

func TestQueriesInURLs(t *testing.T) {
	at := time.Date(2026, 11, 24, 1, 2, 3, 456789, time.UTC)
	runs := events.RunQuery{Live: true, States: []events.State{"done", "killed"}, AnalysisID: "a&b=c", Command: []string{"x", "y z"},
		Since: at, Until: at.Add(time.Hour), Limit: 7}
	if got, err := decodeRunQuery(client.EncodeRunQuery(runs)); err != nil || cmp.Diff(runs, got) != "" {
		t.Errorf("%v %s", err, cmp.Diff(runs, got))
	}
	es := events.EventQuery{Run: "r", AnalysisID: "a", Kinds: []events.Kind{"oom"}, KillsOnly: true, Since: at, Until: at.Add(1), After: 9, Limit: 8, Host: "h&h", Last: 3}
	if got, err := decodeEventQuery(client.EncodeEventQuery(es)); err != nil || cmp.Diff(es, got) != "" {
		t.Errorf("%v %s", err, cmp.Diff(es, got))
	}
}

// A long list is read and written in pages, and is whole.
func TestManyRuns(t *testing.T) {
	f, c, _ := start(t, 0)
	const n = 2*runsPage + 7
	for i := range n {
		run := eventstest.NewRun(events.RunID(fmt.Sprintf("r%011d", i)))
		run.StartedAt = run.StartedAt.Add(time.Duration(i/3) * time.Second) // several of the same time
		if err := f.store.Begin(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{0, 1, runsPage, runsPage + 1, n, n + 1} {
		list, err := c.Store().Runs(t.Context(), events.RunQuery{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		want := n
		if limit > 0 {
			want = min(limit, n)
		}
		seen := map[events.RunID]bool{}
		for i, r := range list {
			seen[r.Run] = true
			if i > 0 && r.StartedAt.After(list[i-1].StartedAt) {
				t.Fatalf("limit %d: run %d is not in order", limit, i)
			}
		}
		if len(list) != want || len(seen) != want {
			t.Errorf("limit %d: %d runs, %d different ones, want %d", limit, len(list), len(seen), want)
		}
	}
	if list, err := c.Store().Runs(t.Context(), events.RunQuery{AnalysisID: "none"}); err != nil || len(list) != 0 || list == nil {
		t.Errorf("none: %v, %v", list, err)
	}
}
