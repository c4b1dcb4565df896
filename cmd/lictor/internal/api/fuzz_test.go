package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// secret is in the record of another user's run, and in the name of a token of that user, and nowhere else.
const secret = "secret-9c1f6d"

// suspicious is a backend that fails a test when it is to do something to a run of somebody else than the caller.
type suspicious struct {
	fake
	t *testing.T
}

func (s *suspicious) own(p Peer, r *events.Run) {
	if r.UID != p.UID {
		s.t.Errorf("uid %d acts on %s of uid %d", p.UID, r.Run, r.UID)
	}
}

func (s *suspicious) Stop(ctx context.Context, p Peer, r *events.Run, g *float64) error {
	s.own(p, r)
	return s.fake.Stop(ctx, p, r, g)
}

func (s *suspicious) Kill(ctx context.Context, p Peer, r *events.Run, sig string) error {
	s.own(p, r)
	return s.fake.Kill(ctx, p, r, sig)
}

func (s *suspicious) Set(ctx context.Context, p Peer, r *events.Run, a []string) error {
	s.own(p, r)
	return s.fake.Set(ctx, p, r, a)
}

func (s *suspicious) Processes(ctx context.Context, r *events.Run) ([]events.Process, error) {
	s.own(Peer{UID: 1000}, r)
	return s.fake.Processes(ctx, r)
}

func (s *suspicious) Release(ctx context.Context, p Peer, r *events.Run) error {
	s.own(p, r)
	return s.fake.Release(ctx, p, r)
}

// recorder is a ResponseRecorder whose request ends once a stream has written, and which can be hijacked.
type recorder struct {
	*httptest.ResponseRecorder
	stop     context.CancelFunc
	hijacked bool
}

func (r *recorder) Flush() {
	r.ResponseRecorder.Flush()
	r.stop()
}

// Hijack implements http.Hijacker: the launcher reads, and says nothing.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	return ours, bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(io.Discard)), nil
}

// patient reads although its caller has gone: a stream that is ended at once sees what it would have seen.
type patient struct{ events.Store }

func (p patient) Events(ctx context.Context, q events.EventQuery) ([]events.Event, error) {
	return p.Store.Events(context.WithoutCancel(ctx), q)
}

// twoUsers is a store with a run of uid 1000 and one of uid 1001.
func twoUsers(tb testing.TB) events.Store {
	tb.Helper()
	store, err := events.OpenSQLite(tb.Context(), filepath.Join(tb.TempDir(), "lictor.db"), migrations.SQLite)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	for id, uid := range map[events.RunID]uint32{"aaaaaaaaaaaa": 1000, "bbbbbbbbbbbb": 1001} {
		run := eventstest.NewRun(id)
		run.UID, run.AnalysisID, run.Name = uid, "of-both", "of-both"
		if uid == 1001 {
			run.Command, run.Cwd = []string{secret}, "/"+secret
		}
		e := events.NewEvent(run, events.KindStarted, 0, run.StartedAt)
		e.Detail = json.RawMessage(strconv.Quote(run.Command[0]))
		if err := store.Begin(tb.Context(), run); err != nil {
			tb.Fatal(err)
		}
		if err := store.Append(tb.Context(), e); err != nil {
			tb.Fatal(err)
		}
	}
	return store
}

// readRequest is what net/http makes of a request on the wire, nil if that is none.
func readRequest(method, target, headers string, body []byte) *http.Request {
	var text bytes.Buffer
	text.WriteString(method + " " + target + " HTTP/1.1\r\nHost: lictor\r\n" + headers)
	if !strings.Contains(strings.ToLower(headers), "transfer-encoding") {
		text.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	text.WriteString("\r\n")
	text.Write(body)
	r, err := http.ReadRequest(bufio.NewReader(&text))
	if err != nil {
		return nil
	}
	return r
}

// FuzzAPI: whatever an ordinary user asks for, the answer is JSON or a problem document with the right status, it has nothing in it of
// another user's run, and nothing is done to that.
func FuzzAPI(f *testing.F) {
	for _, c := range []struct{ method, target, headers, body string }{
		{"GET", "/api/v1/runs?live=true&state=running&since=2026-11-24T01:02:03Z&limit=10&command=%5B%22x%22%5D", "", ""},
		{"GET", "/api/v1/runs?count=true", "", ""},
		{"GET", "/api/v1/runs?until=9999-12-31T23:59:59Z&limit=9223372036854775807&host=%00", "X-Uid: 1001\r\n", ""},
		{"GET", "/api/v1/runs/aaaaaaaaaaaa", "", ""},
		{"GET", "/api/v1/runs/bbbbbbbbbbbb", "X-Forwarded-User: root\r\n", ""},
		{"GET", "/api/v1/resolve?name=of-both", "", ""},
		{"GET", "/api/v1/resolve?name=b", "", ""},
		{"GET", "/api/v1/events?after=0&last=5&kind=started&kills=true&run=bbbbbbbbbbbb", "", ""},
		{"GET", "/api/v1/events", "Accept: text/event-stream\r\nLast-Event-ID: 1\r\n", ""},
		{"GET", "/api/v1/kills?since=2026-11-24T01:02:03.5%2B01:00", "", ""},
		{"GET", "/api/quests/status", "", ""},
		{"GET", "/api/v1/live", "", ""},
		{"GET", "/api/v1/summary", "", ""},
		{"GET", "/api/v1/runs/aaaaaaaaaaaa/processes", "", ""},
		{"GET", "/api/v1/runs/bbbbbbbbbbbb/processes", "", ""},
		{"GET", "/healthz", "", ""},
		{"HEAD", "/readyz", "", ""},
		{"GET", "/openapi.json", "", ""},
		{"POST", "/api/v1/runs", "Idempotency-Key: 4711\r\n", `{"command":["python3","embed.py"],"cwd":"/srv/a","limits":{"memory_max":"2G","runtime_max":1800},"analysis_id":"SDA-117"}`},
		{"POST", "/api/v1/runs", "Content-Type: application/json\r\n", `{"command":["a"]} {"command":["b"]}`},
		{"PATCH", "/api/v1/runs/aaaaaaaaaaaa", "", `{"set":["MemoryMax=4G"]}`},
		{"PATCH", "/api/v1/runs/bbbbbbbbbbbb", "", `{"set":["MemoryMax=4G"]}`},
		{"POST", "/api/v1/runs/aaaaaaaaaaaa/stop", "", `{"grace_seconds":1e308}`},
		{"POST", "/api/v1/runs/bbbbbbbbbbbb/stop", "", ""},
		{"POST", "/api/v1/runs/aaaaaaaaaaaa/kill", "Transfer-Encoding: chunked\r\n", "14\r\n{\"signal\":\"SIGTERM\"}\r\n0\r\n\r\n"},
		{"POST", "/api/v1/runs/aaaaaaaaaaaa/release", "", ""},
		{"POST", "/api/v1/runs/adopt", "", `{"pid":1,"run":{"run":"bbbbbbbbbbbb","uid":0,"labels":{"a":"b"}},"properties":["IOWeight=1"]}`},
		{"POST", "/api/v1/keep", "Connection: Upgrade\r\nUpgrade: lictor-keep/1\r\n", `{"resume":{"run":"bbbbbbbbbbbb"}}`},
		{"POST", "/api/v1/login", "", ""},
		{"GET", "/login?code=x", "Cookie: lictor_session=lictor_x_y\r\nAccept: text/html\r\n", ""},
		{"POST", "/logout", "", ""},
		{"GET", "/api/v1/tokens", "", ""},
		{"POST", "/api/v1/tokens", "", `{"name":"x","valid_seconds":1e9}`},
		{"DELETE", "/api/v1/tokens/x", "Authorization: Bearer lictor_x_y\r\n", ""},
		{"DELETE", "/api/v1/runs/aaaaaaaaaaaa", "", ""},
		{"GET", "/api/v1/../../etc//passwd", "", ""},
		{"GET", "/api/v1/runs/%2e%2e%2fbbbbbbbbbbbb", "", ""},
		{"GET", "http://elsewhere/api/v1/runs?since=%zz", "", ""},
		{"OPTIONS", "*", "", ""},
	} {
		f.Add(c.method, c.target, c.headers, []byte(c.body))
	}
	store := patient{twoUsers(f)}
	tokens, err := OpenTokens(filepath.Join(f.TempDir(), "tokens.json"))
	if err == nil {
		_, _, err = tokens.Issue(1001, client.TokenProgram, secret, time.Hour)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, headers string, body []byte) {
		r := readRequest(method, target, headers, body)
		if r == nil {
			return
		}
		peer := Peer{PID: 7, UID: 1000, GID: 1000}
		ctx, stop := context.WithCancel(context.WithValue(t.Context(), peerKey{}, peer))
		defer stop()
		backend := &suspicious{fake: fake{store: store, keep: func(_ Peer, c *Conn) { c.Close() }}, t: t}
		w := &recorder{httptest.NewRecorder(), stop, false}
		server := NewServer(backend, nil, slog.New(slog.DiscardHandler))
		server.tokens, server.addresses = tokens, []string{"127.0.0.1:7717"}
		server.routes().ServeHTTP(w, r.WithContext(ctx))
		if w.hijacked {
			return
		}
		answer := w.Result()
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		if !strings.Contains(method+target+headers+string(body), secret) && bytes.Contains(text, []byte(secret)) {
			t.Errorf("another user's run: %s", text)
		}
		checkAnswer(t, r, answer, text)
	})
}

// checkAnswer looks at the form of an answer.
func checkAnswer(t *testing.T, r *http.Request, answer *http.Response, text []byte) {
	t.Helper()
	kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	status := answer.StatusCode
	switch {
	case r.RequestURI == "*" && status == http.StatusBadRequest: // by net/http, which answers this one itself
		return
	case status/100 == 3: // by net/http, to the same resource under its clean name
		if to := answer.Header.Get("Location"); !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
			t.Errorf("%d to %q", status, to)
		}
		return
	case err != nil:
		t.Errorf("%d: content type: %v", status, err)
	case kind == "text/event-stream" && status == http.StatusOK:
		checkStream(t, text)
		return
	}
	if !json.Valid(text) {
		t.Fatalf("%d %s: no JSON: %q", status, kind, text)
	}
	switch {
	case slices.Contains([]int{http.StatusOK, http.StatusCreated}, status):
		var n struct{ Runs int }
		if kind != "application/json" || json.Unmarshal(text, &n) == nil && n.Runs > 1 {
			t.Errorf("%d %s: %s", status, kind, text)
		}
	case status/100 == 4:
		var p Problem
		if err := json.Unmarshal(text, &p); err != nil || kind != "application/problem+json" || p.Status != status || p.Title == "" || p.Detail == "" || p.Hint == "" {
			t.Errorf("%d %s: %s", status, kind, text)
		}
	default:
		t.Errorf("%d %s: %s", status, kind, text)
	}
}

// checkStream looks at the events of a stream that was cut off between two writes.
func checkStream(t *testing.T, text []byte) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n", name == "" && ok:
		case ok && (name == "retry" || name == "id" || name == "event"):
		case !ok || name != "data" || !json.Valid([]byte(value)):
			t.Errorf("stream: %q", line)
		}
	}
}
