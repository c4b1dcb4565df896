package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
)

// Path is where the daemon of the system listens.
const Path = "/run/lictor/api.sock"

// Client talks to a daemon. It is safe for concurrent use.
type Client struct {
	base  *url.URL // of a daemon that is reached by TCP, nil on a unix socket
	path  string   // of the socket
	token string
	http  *http.Client
}

// New returns a client of the daemon at host: the path of a unix socket, or a URL, http only to this machine. Without a host it is the
// daemon of this system. The token says who calls over TCP; the socket does not need it. Nothing is dialled yet.
func New(host, token string) (*Client, error) {
	c := &Client{path: cmp.Or(strings.TrimPrefix(host, "unix:"), Path), token: token}
	if strings.HasPrefix(host, "http://") || strings.HasPrefix(host, "https://") {
		base, err := url.Parse(host)
		if err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		if base.Scheme == "http" && !loopback(base.Hostname()) {
			return nil, fmt.Errorf("host %q: http to another machine would send the token in the clear; use https, or an ssh tunnel (ssh -L)", host)
		}
		if base.Host == "" || strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.User != nil {
			return nil, fmt.Errorf("host %q: want http://HOST:PORT", host)
		}
		c.base, c.path = base, ""
	} else if host != "" && !strings.Contains(host, "/") {
		return nil, fmt.Errorf("host %q: neither the path of a socket nor a URL", host)
	}
	transport := &http.Transport{DisableKeepAlives: true} // one that calls seldom leaves nothing open
	if c.base == nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) }
	}
	c.http = &http.Client{Transport: transport}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Remote reports whether the daemon is reached by TCP, and so may be another machine's.
func (c *Client) Remote() bool { return c.base != nil }

// Dial connects, without a word.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if c.base == nil {
		return d.DialContext(ctx, "unix", c.path)
	}
	port := cmp.Or(c.base.Port(), map[string]string{"http": "80", "https": "443"}[c.base.Scheme])
	return d.DialContext(ctx, "tcp", net.JoinHostPort(c.base.Hostname(), port))
}

// Present reports whether somebody listens, or will be started by systemd to.
func (c *Client) Present(ctx context.Context) bool {
	conn, err := c.Dial(ctx)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// maxProblem is how long what went wrong may be.
const maxProblem = 64 << 10

// ReadProblem returns what an answer says went wrong.
func ReadProblem(answer *http.Response) error {
	p := NewProblem(answer.StatusCode, answer.Status, "")
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxProblem))
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") {
		_ = json.Unmarshal(text, p)
	}
	for _, known := range []error{events.ErrNotFound, events.ErrAmbiguous} {
		if rest, ok := strings.CutPrefix(p.Detail, known.Error()); ok {
			return fmt.Errorf("%w%s", known, rest)
		}
	}
	return p
}

// call sends a request and reads the answer, or the *Problem.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	return c.callOnce(ctx, "", method, path, query, body, into)
}

// callOnce is call with an Idempotency-Key.
func (c *Client) callOnce(ctx context.Context, key, method, path string, query url.Values, body, into any) error {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	req, err := c.request(ctx, method, path, query, send)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return unwrapURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated {
		return ReadProblem(answer)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	target := "http://lictor" + path
	if c.base != nil {
		target = c.base.Scheme + "://" + c.base.Host + path
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err == nil && c.token != "" && c.base != nil {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, err
}

// unwrapURL drops the made-up address from an error.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (c *Client) act(ctx context.Context, run events.RunID, what string, body any) error {
	return c.call(ctx, http.MethodPost, "/api/v1/runs/"+url.PathEscape(string(run))+"/"+what, nil, body, &struct{}{})
}

// Stop ends a run; it returns when nobody is left. A nil grace is the run's own.
func (c *Client) Stop(ctx context.Context, run events.RunID, grace *time.Duration) error {
	body := map[string]any{}
	if grace != nil {
		body["grace_seconds"] = grace.Seconds()
	}
	return c.act(ctx, run, "stop", body)
}

// Kill sends one signal, by name, to every process of a run.
func (c *Client) Kill(ctx context.Context, run events.RunID, signal string) error {
	return c.act(ctx, run, "kill", map[string]any{"signal": signal})
}

// Release lets a run live on without limits.
func (c *Client) Release(ctx context.Context, run events.RunID) error {
	return c.act(ctx, run, "release", nil)
}

// Set changes limits of a run.
func (c *Client) Set(ctx context.Context, run events.RunID, assignments []string) error {
	return c.call(ctx, http.MethodPatch, "/api/v1/runs/"+url.PathEscape(string(run)), nil, map[string]any{"set": assignments}, &struct{}{})
}

// Adopt puts a running process tree into a scope.
func (c *Client) Adopt(ctx context.Context, a *Adoption) (*events.Run, error) {
	var run events.Run
	return &run, c.call(ctx, http.MethodPost, "/api/v1/runs/adopt", nil, a, &run)
}

// Launch starts a command as the caller. It runs when this returns. With a Key it is safe to ask again.
func (c *Client) Launch(ctx context.Context, l *Launch) (*events.Run, error) {
	var run events.Run
	return found(&run, c.callOnce(ctx, l.Key, http.MethodPost, "/api/v1/runs", nil, l, &run))
}

// Wait returns the record of a run once it has ended.
func (c *Client) Wait(ctx context.Context, run events.RunID) (*events.Run, error) {
	for s := c.Stream(events.EventQuery{Run: run, Kinds: []events.Kind{events.KindEnded}}); ; {
		if err := s.connect(ctx); err != nil { // first, so that no end falls between the look and the listening
			return nil, err
		}
		r, err := c.Store().Run(ctx, run)
		if err != nil || r.State.Final() {
			s.Close()
			return r, err
		}
		if _, err := s.Next(ctx); err != nil {
			return nil, err
		}
	}
}

// Status is the section of the old watchdog.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var st Status
	return &st, c.call(ctx, http.MethodGet, "/api/quests/status", nil, nil, &st)
}

// Status is what GET /api/quests/status answers: the section that the old watchdog had in the status of the platform, field for field.
type Status struct {
	Watchdog WatchdogStatus `json:"watchdog"`
	// Degraded says what could not be found out; then there are zeros above.
	Degraded []string `json:"degraded,omitempty"`
}

// WatchdogStatus are the numbers of Status.
type WatchdogStatus struct {
	MonitoredCount int            `json:"monitored_count"`
	GraceCount     int            `json:"grace_count"`
	KillsLast24h   int            `json:"kills_last_24h"`
	RecentEvents   []events.Event `json:"recent_events"` // the last first
}
