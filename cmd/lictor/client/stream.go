package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
)

// Stream is what happens, as it is put on record, in order. It comes back after every break and misses nothing in between.
type Stream struct {
	c      *Client
	query  events.EventQuery
	last   string // id of the last event
	body   io.Closer
	lines  *bufio.Scanner
	failed int // connections in a row that brought nothing
}

// Stream returns the events that a query selects, from its After on, or from now on. Close it in the end.
func (c *Client) Stream(q events.EventQuery) *Stream { return &Stream{c: c, query: q} }

// streamRetry is the longest pause before another try to connect.
const streamRetry = 10 * time.Second

// maxEventLine is how long an event may be.
const maxEventLine = 16 << 20

// Next returns the next event. Errors: the one of ctx, or a *Problem that says why the daemon will not tell.
func (s *Stream) Next(ctx context.Context) (*events.Event, error) {
	for {
		if s.body == nil {
			if err := s.connect(ctx); err != nil {
				var p *Problem
				if errors.As(err, &p) && p.Status < http.StatusInternalServerError || ctx.Err() != nil {
					return nil, err
				}
				if err := s.pause(ctx); err != nil {
					return nil, err
				}
				continue
			}
		}
		stop := context.AfterFunc(ctx, func() { s.body.Close() })
		e, err := s.read()
		stop()
		if err == nil {
			s.failed = 0
			return e, nil
		}
		s.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// Close ends the stream. Next would begin it anew, where it was.
func (s *Stream) Close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

func (s *Stream) pause(ctx context.Context) error {
	d := min(100*time.Millisecond<<min(s.failed, 10), streamRetry)
	s.failed++
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connect returns when the daemon has taken note that somebody listens.
func (s *Stream) connect(ctx context.Context) error {
	if s.body != nil {
		return nil
	}
	req, err := s.c.request(context.WithoutCancel(ctx), http.MethodGet, "/api/v1/events", EncodeEventQuery(s.query), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.last != "" {
		req.Header.Set("Last-Event-ID", s.last)
	}
	reqCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // for as long as it connects
	answer, err := s.c.http.Do(req.WithContext(reqCtx))
	stop()
	if err != nil {
		cancel()
		return unwrapURL(err)
	}
	if answer.StatusCode != http.StatusOK {
		defer cancel()
		defer answer.Body.Close()
		return ReadProblem(answer)
	}
	s.body = closer{answer.Body, cancel}
	s.lines = bufio.NewScanner(answer.Body)
	s.lines.Buffer(nil, maxEventLine)
	return nil
}

// closer ends a request whose answer is never complete.
type closer struct {
	body   io.Closer
	cancel context.CancelFunc
}

func (c closer) Close() error {
	c.cancel()
	return c.body.Close()
}

// read returns the next event of this connection (WHATWG HTML, 9.2.6).
func (s *Stream) read() (*events.Event, error) {
	var id, data string
	for s.lines.Scan() {
		line := s.lines.Text()
		switch key, value, _ := strings.Cut(line, ": "); {
		case line == "" && data != "":
			var e events.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return nil, fmt.Errorf("the daemon's event: %w", err)
			}
			s.last = id
			return &e, nil
		case key == "id":
			id = value
		case key == "data":
			data += value
		}
	}
	if err := s.lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}
