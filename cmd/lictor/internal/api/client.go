package api

import (
	"bytes"
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

// Client talks to the daemon on a socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client. Nothing is dialled yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", c.path)
}

// Present reports whether somebody listens at the socket, or will be started by systemd to.
func (c *Client) Present(ctx context.Context) bool {
	conn, err := c.dial(ctx)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Connect opens a connection on which nothing has been said yet. Absent(err) says that there is no daemon.
func (c *Client) Connect(ctx context.Context) (*Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(conn, conn), nil
}

// Begin says the first message and returns when the daemon listens. An error may be a *Problem.
func (c *Conn) Begin(ctx context.Context, first FromLauncher) error {
	text, err := json.Marshal(first)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	const head = "POST /api/v1/keep HTTP/1.1\r\nHost: lictor\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\nContent-Length: 0\r\n\r\n"
	if _, err := c.conn.Write(append([]byte(head), append(text, '\n')...)); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return readProblem(answer)
	}
	return nil
}

func readProblem(answer *http.Response) error {
	p := NewProblem(answer.StatusCode, answer.Status, "")
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
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
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	target := "http://lictor" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, send)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return unwrapURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return readProblem(answer)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	return nil
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
