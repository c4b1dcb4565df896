package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// Backend does what callers ask for. An error that is a *Problem is told as it is.
type Backend interface {
	// Keep converses with a launcher until the connection ends. It runs in a goroutine of its own and closes c.
	Keep(peer Peer, c *Conn)
	// Store is where the records are.
	Store(ctx context.Context) (events.Reader, error)
	// Stamp changes when something was committed there, and before its colon when another store has taken its place. It is empty if
	// that cannot be told.
	Stamp(ctx context.Context) string

	// Kept is how many runs of a user, nil for all, the daemon keeps, and of how many of them the end has been begun.
	Kept(uid *uint32) (kept, ending int)

	// Launch starts a run as the caller. It is not fresh if an earlier request with the same key has started it. An attached one is given
	// the client.Descriptors; they are open until this returns.
	Launch(ctx context.Context, peer Peer, l *client.Launch, fds []int) (run *events.Run, fresh bool, err error)
	// Ready says why no more runs can be kept and recorded, nil if they can.
	Ready(ctx context.Context) error
	// Metrics answers GET /metrics; nil is 404.
	Metrics() http.Handler

	// Live is what is alive of a user, nil for all.
	Live(ctx context.Context, uid *uint32) ([]client.Live, error)
	// Current is the record of a live run with what has changed since it began.
	Current(run *events.Run) *events.Run
	// Summary is the machine, and the runs of a user, nil for all, in numbers.
	Summary(ctx context.Context, store events.Reader, uid *uint32) (any, error)

	// The methods below are called for runs that the caller may see.

	Stop(ctx context.Context, peer Peer, run *events.Run, grace *float64) error
	Kill(ctx context.Context, peer Peer, run *events.Run, signal string) error
	Set(ctx context.Context, peer Peer, run *events.Run, assignments []string) error
	Release(ctx context.Context, peer Peer, run *events.Run) error
	Processes(ctx context.Context, run *events.Run) ([]events.Process, error)
	Adopt(ctx context.Context, peer Peer, a *client.Adoption) (*events.Run, error)
}

// Pages are what a person sees in a browser.
type Pages interface {
	// Routes returns the pages by pattern of http.ServeMux. Who calls is in the context of a request: PeerOf.
	Routes() map[string]http.Handler
	// Unknown answers a browser that is not logged in.
	Unknown(w http.ResponseWriter, r *http.Request)
}

// Server serves the API on a socket, and on TCP.
type Server struct {
	backend  Backend
	pages    Pages // nil: none
	http     *http.Server
	tcp      *http.Server
	tcpRoom  chan struct{}
	refused  atomic.Uint64
	tell     *slog.Logger
	answers  answers
	streams  streams
	accounts accounts
	closing  chan struct{} // closed by Close

	mu        sync.Mutex
	tokens    *Tokens  // nil: nobody listens on TCP
	addresses []string // of TCP
}

// The limits of what callers can cost.
const (
	maxHeader    = 32 << 10
	maxBody      = 16 << 20
	headerTime   = 5 * time.Second
	bodyTime     = 15 * time.Second
	idleTime     = 30 * time.Second
	answerTime   = 30 * time.Second
	connsPerUser = 1024 // one for each live run among them
)

// NewServer returns a server. Without pages there are none.
func NewServer(b Backend, pages Pages, log *slog.Logger) *Server {
	s := &Server{backend: b, pages: pages, tell: log, tcpRoom: make(chan struct{}, connsOnTCP), accounts: accounts{known: map[uint32]account{}},
		answers: answers{last: map[string]agedAnswer{}},
		streams: streams{views: map[string]*view{}}, closing: make(chan struct{})}
	routes := s.routes()
	s.http, s.tcp = newHTTP(routes, log), newHTTP(s.guard(routes), log)
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		conn := c.(*peerConn)
		return context.WithValue(context.WithValue(ctx, connKey{}, conn), peerKey{}, conn.peer)
	}
	return s
}

func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime,
		IdleTimeout: idleTime, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// PeerOf is who calls.
func PeerOf(r *http.Request) Peer { return peerFrom(r.Context()) }

// Refuse counts a connection that was closed unheard.
func (s *Server) Refuse() { s.refused.Add(1) }

// Refused says how many connections were closed unheard.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Serve serves until Close.
func (s *Server) Serve(l *net.UnixListener) error {
	err := s.http.Serve(&listener{UnixListener: l, perUser: connsPerUser, refused: &s.refused, open: map[uint32]int{}})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends the serving. Conversations with launchers go on.
func (s *Server) Close() {
	close(s.closing)
	_ = s.http.Close()
	_ = s.tcp.Close()
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table() {
		mux.Handle(r.method+" "+r.path, r.handler)
	}
	if s.pages != nil {
		for pattern, h := range s.pages.Routes() {
			mux.Handle(pattern, h)
		}
	}
	mux.HandleFunc("GET /login", s.redeem)
	mux.HandleFunc("POST /logout", s.logout)
	mux.Handle("/", s.answer(func(r *http.Request, _ Peer) (any, error) {
		return nil, NewProblem(http.StatusNotFound, "no such resource: "+r.Method+" "+r.URL.Path, "GET /openapi.json lists them")
	}))
	return mux
}

// table is everything that there is: the server and its description are made of it.
func (s *Server) table() []route {
	list, stream := s.answer(s.events), http.HandlerFunc(s.stream)
	routes := []route{
		{"POST", "/api/v1/keep", "A launcher hands its run over; the connection becomes another protocol", nil, "", http.HandlerFunc(s.keep)},
		{"GET", "/api/quests/status", "The section of the old watchdog: counts, and the last events", nil, "", s.recent("quests", s.quests)},
		{"GET", "/api/v1/runs", "Run records, newest first", runParameters, "", http.HandlerFunc(s.runs)},
		{"POST", "/api/v1/runs", "Start a command as the caller, inside limits; a header Idempotency-Key makes it safe to ask again", nil,
			"command: list; env: object; cwd; limits: memory_max, runtime_max, …; analysis_id; name; labels: object; properties: list of NAME=VALUE; " +
				"attached: true; on_owner_exit: kill or keep",
			s.answer(s.launch)},
		{"GET", "/api/v1/runs/{run}", "One run record", nil, "", s.answer(s.run)},
		{"PATCH", "/api/v1/runs/{run}", "Change limits", nil, "set: list of NAME=VALUE", s.answer(s.act(s.set))},
		{"POST", "/api/v1/runs/{run}/stop", "SIGTERM, grace, SIGKILL", nil, "grace_seconds: number", s.answer(s.act(s.stop))},
		{"POST", "/api/v1/runs/{run}/kill", "One signal", nil, "signal: SIGTERM, …", s.answer(s.act(s.kill))},
		{"POST", "/api/v1/runs/{run}/release", "Let it live on without limits", nil, "", s.answer(s.act(func(r *http.Request, p Peer, run *events.Run) error {
			return s.backend.Release(r.Context(), p, run)
		}))},
		{"POST", "/api/v1/runs/adopt", "Put a running process tree into a scope", nil, "pid: number; run: its limits and names; properties: list of NAME=VALUE", s.answer(s.adopt)},
		{"GET", "/api/v1/runs/{run}/processes", "The processes of a live run", nil, "", s.answer(s.processes)},
		{"GET", "/api/v1/live", "What the kernel says of live runs at this moment", nil, "", s.recent("live", s.live)},
		{"GET", "/api/v1/summary", "The machine, what is alive, and what ended within a day", nil, "", s.recent("summary", s.summary)},
		{"GET", "/api/v1/resolve", "The run that a person means", []parameter{{"name", "an id, a prefix of one, an analysis id or a name"}}, "", s.answer(s.resolve)},
		{"GET", "/api/v1/events", "Events, oldest first; with Accept: text/event-stream as they happen, from Last-Event-ID on", eventParameters, "",
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
					stream(w, r)
					return
				}
				list.ServeHTTP(w, r)
			})},
		{"GET", "/api/v1/kills", "How many kills there were", []parameter{{"since", "RFC 3339; a day ago without it"}}, "", s.answer(s.kills)},
		{"POST", "/api/v1/login", "An address at which a browser is logged in as the caller, once", nil, "", s.answer(s.login)},
		{"GET", "/api/v1/tokens", "The caller's tokens, without their secrets", nil, "", s.answer(s.listTokens)},
		{"POST", "/api/v1/tokens", "Make a token, which says over TCP who calls", nil, "name; valid_seconds: number", s.answer(s.createToken)},
		{"DELETE", "/api/v1/tokens/{id}", "Revoke a token", nil, "", s.answer(s.revokeToken)},
		{"GET", "/healthz", "The daemon answers", nil, "", s.answer(func(*http.Request, Peer) (any, error) { return map[string]string{"status": "ok"}, nil })},
		{"GET", "/readyz", "The daemon can keep and record one more run", nil, "", s.answer(s.ready)},
		{"GET", "/openapi.json", "This", nil, "", s.answer(func(*http.Request, Peer) (any, error) { return s.describe(), nil })},
	}
	if m := s.backend.Metrics(); m != nil {
		routes = append(routes, route{"GET", "/metrics", "For Prometheus: numbers of all users together", nil, "", m})
	}
	return routes
}

func (s *Server) set(r *http.Request, p Peer, run *events.Run) error {
	var body struct {
		Set []string `json:"set"`
	}
	if err := readBody(r, &body); err != nil {
		return err
	}
	return s.backend.Set(r.Context(), p, run, body.Set)
}

func (s *Server) stop(r *http.Request, p Peer, run *events.Run) error {
	var body struct {
		Grace *float64 `json:"grace_seconds"`
	}
	if err := readBody(r, &body); err != nil {
		return err
	}
	return s.backend.Stop(r.Context(), p, run, body.Grace)
}

func (s *Server) kill(r *http.Request, p Peer, run *events.Run) error {
	var body struct {
		Signal string `json:"signal"`
	}
	if err := readBody(r, &body); err != nil {
		return err
	}
	return s.backend.Kill(r.Context(), p, run, body.Signal)
}

func (s *Server) adopt(r *http.Request, p Peer) (any, error) {
	var a client.Adoption
	if err := readBody(r, &a); err != nil {
		return nil, err
	}
	return s.backend.Adopt(r.Context(), p, &a)
}

func (s *Server) ready(r *http.Request, _ Peer) (any, error) {
	if err := s.backend.Ready(r.Context()); err != nil {
		return nil, NewProblem(http.StatusServiceUnavailable, err.Error(), "journalctl -u lictor tells more")
	}
	return map[string]string{"status": "ready"}, nil
}

// readBody reads a JSON object, strictly. No body at all is an empty object.
func readBody(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("more than one JSON value")
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	status := http.StatusBadRequest
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		status = http.StatusRequestTimeout
	}
	return NewProblem(status, "body: "+err.Error(), "")
}

// located is an answer with a status and a place of its own.
type located struct {
	status int
	place  string
	body   any
}

// answer writes what h returns.
func (s *Server) answer(h func(*http.Request, Peer) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result, err := h(r, peerFrom(r.Context()))
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if l, ok := result.(located); ok {
			w.Header().Set("Location", l.place)
			w.WriteHeader(l.status)
			result = l.body
		}
		_ = json.NewEncoder(w).Encode(result)
	})
}

// fail says what went wrong: to the caller, and if it is not the caller's fault to the log.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // who asked has hung up: net/http ends the connection, and says nothing
	}
	if problemOf(err).Status >= http.StatusInternalServerError {
		s.tell.Warn("api", "path", r.URL.Path, "error", err)
	}
	writeProblem(w, err)
}

// act does something to the run in the path, if the caller may see it.
func (s *Server) act(do func(*http.Request, Peer, *events.Run) error) func(*http.Request, Peer) (any, error) {
	return func(r *http.Request, p Peer) (any, error) {
		run, err := s.find(r, p)
		if err != nil {
			return nil, err
		}
		return struct{}{}, do(r, p, run)
	}
}

// keep hands the connection of a launcher to the backend.
func (s *Server) keep(w http.ResponseWriter, r *http.Request) {
	if peerFrom(r.Context()).TCP {
		writeProblem(w, NewProblem(http.StatusForbidden, "a launcher hands its run over on the unix socket only", "POST /api/v1/runs"))
		return
	}
	if r.Header.Get("Upgrade") != upgrade {
		writeProblem(w, NewProblem(http.StatusUpgradeRequired, "keep: the connection must be upgraded to "+upgrade, "lictor run does it"))
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeProblem(w, err)
		return
	}
	early := make([]byte, rw.Reader.Buffered())
	_, _ = io.ReadFull(rw.Reader, early)
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	var in io.Reader = conn
	if len(early) > 0 {
		in = io.MultiReader(bytes.NewReader(early), conn)
	}
	peer := peerFrom(r.Context())
	go s.backend.Keep(peer, newConn(conn, in))
}

// upgrade is the name of what a Conn speaks.
const upgrade = "lictor-keep/1"
