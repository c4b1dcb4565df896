package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// On TCP everything is refused that a browser could be talked into: another Host than a name of this machine (DNS rebinding), a
// request that changes something from another origin, and whatever comes without a token or the cookie of a log-in.

const (
	sessionCookie = "lictor_session"
	connsOnTCP    = 512 // of all callers together: nobody knows who they are before they have said it
)

// ServeTCP serves on an address of the loopback interface until Close. It closes a listener at another one.
func (s *Server) ServeTCP(l net.Listener, tokens *Tokens) error {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = l.Close()
		return fmt.Errorf("%s: not an address of the loopback interface; a tunnel (ssh -L) or a proxy with TLS makes it reachable from elsewhere", l.Addr())
	}
	s.mu.Lock()
	if s.tokens == nil { // the first address is not served yet: nobody reads it
		s.tokens = tokens
	}
	s.addresses = append(s.addresses, l.Addr().String())
	s.mu.Unlock()
	err := s.tcp.Serve(&capped{Listener: l, room: s.tcpRoom, refused: s.Refuse})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// capped accepts connections while there is room.
type capped struct {
	net.Listener
	room    chan struct{} // holds a value for each connection
	refused func()
}

func (c *capped) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case c.room <- struct{}{}:
			return &cappedConn{Conn: conn, leave: sync.OnceFunc(func() { <-c.room })}, nil
		default:
			c.refused()
			_ = conn.Close()
		}
	}
}

type cappedConn struct {
	net.Conn
	leave func()
}

func (c *cappedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// guard is what stands between TCP and the routes.
func (s *Server) guard(next http.Handler) http.Handler {
	return refuseHosts(refuseOrigins(s.authenticate(next)))
}

// refuseHosts refuses requests to a name that is not this machine's: a page of a stranger's whose name was made to mean 127.0.0.1.
func refuseHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
			writeProblem(w, NewProblem(http.StatusForbidden, fmt.Sprintf("host %q: not this machine", r.Host), "http://127.0.0.1 or http://localhost"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuseOrigins refuses what other sites make a browser send.
func refuseOrigins(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, NewProblem(http.StatusForbidden, "a request from another origin", "programs send no Origin and no Sec-Fetch-Site"))
	}))
	return protection.Handler(next)
}

// authenticate finds out who calls. Without an answer there is only what is the same for everybody.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, ok := s.caller(r); ok {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, p)))
			return
		}
		if r.URL.Path == "/login" || r.URL.Path == "/healthz" || strings.HasPrefix(r.URL.Path, "/static/") {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, Peer{UID: nobody, TCP: true})))
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		if wantsHTML(r) && s.pages != nil {
			s.pages.Unknown(w, r)
			return
		}
		writeProblem(w, NewProblem(http.StatusUnauthorized, "who calls?", "Authorization: Bearer TOKEN; lictor token create makes one, lictor dashboard logs a browser in"))
	})
}

// nobody is the uid that is no user's (chown(2) and setresuid(2) take it for "leave it").
const nobody = ^uint32(0)

func wantsHTML(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// caller is whose token it is.
func (s *Server) caller(r *http.Request) (Peer, bool) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	kind := client.TokenProgram
	if !ok {
		cookie, err := r.Cookie(sessionCookie)
		if err != nil {
			return Peer{}, false
		}
		secret, kind = cookie.Value, client.TokenSession
	}
	t, ok := s.tokens.Check(secret)
	if !ok || t.Kind != kind {
		return Peer{}, false
	}
	a, ok := s.accounts.of(t.UID)
	return Peer{UID: t.UID, GID: a.gid, Admin: a.admin, TCP: true, token: t.ID}, ok
}

// accounts are what the system knows of users, for accountAge: a member of AdminGroup may be removed from it, an account be deleted.
type accounts struct {
	mu    sync.Mutex
	known map[uint32]account
}

type account struct {
	gid   uint32
	admin bool
	ok    bool // it exists
	at    time.Time
}

const accountAge = 10 * time.Second

func (c *accounts) of(uid uint32) (account, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := c.known[uid]
	if !known || time.Since(a.at) > accountAge {
		a = lookUp(uid)
		if len(c.known) >= connsPerUser {
			clear(c.known)
		}
		c.known[uid] = a
	}
	return a, a.ok
}

func lookUp(uid uint32) account {
	a := account{at: time.Now()}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return a
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return a
	}
	a.gid, a.ok = uint32(gid), true
	if g, err := user.LookupGroup(AdminGroup); err == nil {
		ids, err := u.GroupIds()
		a.admin = err == nil && slices.Contains(ids, g.Gid)
	}
	return a
}

// login answers with an address at which a browser is logged in as the caller.
func (s *Server) login(_ *http.Request, p Peer) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.addresses) == 0 {
		return nil, NewProblem(http.StatusServiceUnavailable, "the daemon does not listen on TCP",
			"systemctl stop lictor; systemctl enable --now lictor-http.socket lictor")
	}
	return client.Login{URL: "http://" + s.addresses[0] + "/login?code=" + s.tokens.Invite(p.UID), Expires: s.tokens.now().Add(codeTime).UTC()}, nil
}

// redeem logs a browser in.
func (s *Server) redeem(w http.ResponseWriter, r *http.Request) {
	if !peerFrom(r.Context()).TCP {
		writeProblem(w, NewProblem(http.StatusNotFound, "nobody logs in on a unix socket", "the kernel says who calls"))
		return
	}
	secret, t, err := s.tokens.Redeem(r.URL.Query().Get("code"))
	if err != nil {
		if s.pages != nil && wantsHTML(r) {
			s.pages.Unknown(w, r)
			return
		}
		writeProblem(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: secret, Path: "/", Expires: t.Expires, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout ends the session of a browser.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if p := peerFrom(r.Context()); p.TCP && p.token != "" {
		_ = s.tokens.Revoke(p.token, &p.UID)
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) tokenStore() (*Tokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		return nil, NewProblem(http.StatusServiceUnavailable, "the daemon does not listen on TCP: tokens are of no use",
			"systemctl stop lictor; systemctl enable --now lictor-http.socket lictor")
	}
	return s.tokens, nil
}

func (s *Server) createToken(r *http.Request, p Peer) (any, error) {
	body := struct {
		Name         string  `json:"name"`
		ValidSeconds float64 `json:"valid_seconds"`
	}{ValidSeconds: (90 * 24 * time.Hour).Seconds()}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	valid := time.Duration(body.ValidSeconds * float64(time.Second))
	if !(body.ValidSeconds > 0 && body.ValidSeconds <= longestToken.Seconds()) || len(body.Name) > 256 {
		return nil, NewProblem(http.StatusBadRequest, fmt.Sprintf("valid_seconds %v: must be more than 0 and at most %v (400 days)", body.ValidSeconds, longestToken.Seconds()),
			"and the name at most 256 bytes")
	}
	tokens, err := s.tokenStore()
	if err != nil {
		return nil, err
	}
	secret, t, err := tokens.Issue(p.UID, client.TokenProgram, body.Name, valid)
	return located{http.StatusCreated, "/api/v1/tokens/" + t.ID, client.NewToken{Token: t, Secret: secret}}, err
}

func (s *Server) listTokens(_ *http.Request, p Peer) (any, error) {
	tokens, err := s.tokenStore()
	if err != nil {
		return nil, err
	}
	return tokens.List(p.own()), nil
}

func (s *Server) revokeToken(r *http.Request, p Peer) (any, error) {
	tokens, err := s.tokenStore()
	if err != nil {
		return nil, err
	}
	return struct{}{}, tokens.Revoke(r.PathValue("id"), p.own())
}

// own is whose tokens the peer may see and revoke: the admins' group is about runs.
func (p Peer) own() *uint32 {
	if p.UID == 0 {
		return nil
	}
	return &p.UID
}
