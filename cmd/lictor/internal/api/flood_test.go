package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// pipes is a listener whose connections are net.Pipe, on which time can be that of synctest. A pipe holds nothing back: who does not
// read has whoever writes wait.
type pipes struct {
	dialled chan net.Conn // no capacity: a dial is an accept
	closed  chan struct{}
	once    sync.Once
}

type pipeConn struct {
	net.Conn
	uid uint32
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialled:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects as a user.
func (l *pipes) dial(uid uint32) net.Conn {
	ours, theirs := net.Pipe()
	l.dialled <- pipeConn{theirs, uid}
	return ours
}

// client is a client that connects as a user.
func (l *pipes) client(uid uint32) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return l.dial(uid), nil
	}}}
}

// servePipes serves a fake backend until the test ends. It is for synctest.
func servePipes(t *testing.T, b Backend) *pipes {
	t.Helper()
	l := &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})}
	s := NewServer(b, nil, slog.New(slog.DiscardHandler))
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, Peer{UID: c.(pipeConn).uid})
	}
	go func() { _ = s.http.Serve(l) }()
	t.Cleanup(s.Close)
	return l
}

// seen is how many runs a user sees, asked while others are slow; the answer must not take any time.
func seen(t *testing.T, hc *http.Client) int {
	t.Helper()
	begun := time.Now()
	resp, err := hc.Get("http://lictor/api/v1/runs")
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	var runs []events.Run
	if err := json.NewDecoder(resp.Body).Decode(&runs); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%d: %v", resp.StatusCode, err)
	}
	if took := time.Since(begun); took > 100*time.Millisecond {
		t.Errorf("somebody else was answered after %v", took)
	}
	return len(runs)
}

func baseline() (goroutines, files int) {
	list, _ := os.ReadDir("/proc/self/fd")
	return runtime.NumGoroutine(), len(list)
}

// TestF4HalfOpen: 500 connections of one user, on which nothing or half a request was said, take nothing from others; they are hung up
// on in time, and nothing is left of them.
func TestF4HalfOpen(t *testing.T) {
	f, c, path := start(t, 1000)
	begin(t, f, "aaaaaaaaaaaa", 1000)
	goroutines, files := baseline()
	const n = 500
	begun := time.Now()
	var all []net.Conn
	for i := range n {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, []string{"", "G", "GET /healthz HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n"}[i%4]); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	for range 20 {
		asked := time.Now()
		if runs, err := c.Store().Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 || time.Since(asked) > 2*time.Second {
			t.Errorf("somebody else: %d runs, %v, after %v", len(runs), err, time.Since(asked))
		}
	}
	for i, conn := range all {
		_ = conn.SetReadDeadline(begun.Add(headerTime + 10*time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is still open after %v", i, time.Since(begun))
		}
		_ = conn.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		nowGoroutines, nowFiles := baseline()
		if nowGoroutines <= goroutines+2 && nowFiles <= files+2 { // the accepting one may be about to
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, before that %d and %d", nowGoroutines, nowFiles, goroutines, files)
		}
	}
}

// TestF5SlowBodies: clients that send a byte of a body now and then are answered that this took too long; others are served meanwhile.
func TestF5SlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{store: &eventstest.Memory{}}
		begin(t, f, "aaaaaaaaaaaa", 1001)
		l := servePipes(t, f)
		const slow = 100
		begun := time.Now()
		ended := make(chan string, slow)
		var writers sync.WaitGroup
		defer writers.Wait()
		for i := range slow {
			conn := l.dial(1000)
			writers.Go(func() {
				for text := "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"; ; text = " " {
					if _, err := io.WriteString(conn, text); err != nil {
						return
					}
					time.Sleep(time.Duration(50+i) * time.Millisecond)
				}
			})
			go func() {
				said, _ := io.ReadAll(conn)
				_ = conn.Close()
				ended <- string(said)
			}()
		}
		other := l.client(1001)
		for time.Since(begun) < bodyTime-time.Second {
			if n := seen(t, other); n != 1 {
				t.Errorf("somebody else sees %d runs", n)
			}
			time.Sleep(time.Second)
		}
		for range slow {
			if said := <-ended; !strings.HasPrefix(said, "HTTP/1.1 408 ") {
				t.Errorf("a slow client hears %q", said)
			}
		}
		if took := time.Since(begun); took > bodyTime+time.Second {
			t.Errorf("the last one was hung up on after %v", took)
		}
		if len(f.asked) != 0 {
			t.Errorf("done: %v", f.asked)
		}
	})
}

// TestF5SlowReaders: clients that ask for much and read nothing, or a byte now and then, are hung up on; others are served meanwhile.
func TestF5SlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{store: &eventstest.Memory{}}
		for i := range 100 {
			begin(t, f, events.RunID(fmt.Sprintf("a%011d", i)), 1000)
		}
		begin(t, f, "bbbbbbbbbbbb", 1001)
		l := servePipes(t, f)
		const slow = 40
		begun := time.Now()
		ended := make(chan int, slow)
		for i := range slow {
			conn := l.dial(1000)
			if _, err := io.WriteString(conn, "GET /api/v1/runs HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			go func() {
				defer conn.Close()
				if i%2 == 0 {
					time.Sleep(answerTime + time.Second) // the pipe is full from the first byte on
				}
				for got := 0; ; got++ {
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						ended <- got
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
		}
		other := l.client(1001)
		for time.Since(begun) < answerTime-time.Second {
			if n := seen(t, other); n != 1 {
				t.Errorf("somebody else sees %d runs", n)
			}
			time.Sleep(time.Second)
		}
		for range slow {
			if got := <-ended; got > 1000 {
				t.Errorf("a slow client was sent %d bytes", got)
			}
		}
		if took := time.Since(begun); took > answerTime+2*time.Second {
			t.Errorf("the last one was hung up on after %v", took)
		}
	})
}

// TestF7LargeBodies: a body above the limit is refused, as soon as that is known, and nothing is done; the largest that is allowed is
// read. Many at once of one user do not take more from others than time.
func TestF7LargeBodies(t *testing.T) {
	f, _, path := start(t, 1000)
	begin(t, f, "aaaaaaaaaaaa", 1000)
	post := func(what string, length int64, body io.Reader) (int, string) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", what, length)
			_, _ = io.Copy(conn, body) // the server may hang up
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return 0, ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		_ = conn.Close()
		<-sent
		return resp.StatusCode, resp.Header.Get("Content-Type") + " " + string(text)
	}
	spaces := func(n int64) io.Reader { return bytes.NewReader(bytes.Repeat([]byte{' '}, int(n))) }
	const stop = "/api/v1/runs/aaaaaaaaaaaa/stop"
	if status, text := post("/api/v1/runs", maxBody+1, spaces(maxBody+1)); status != http.StatusRequestEntityTooLarge || !strings.HasPrefix(text, "application/problem+json") {
		t.Errorf("a byte too many: %d %.200s", status, text)
	}
	if status, text := post(stop, 1<<50, spaces(maxBody+1<<20)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a petabyte: %d %.200s", status, text)
	}
	if len(f.asked) != 0 {
		t.Errorf("done: %v", f.asked)
	}
	whole := `{"grace_seconds":1}`
	if status, text := post(stop, maxBody, io.MultiReader(spaces(maxBody-int64(len(whole))), strings.NewReader(whole))); status != http.StatusOK || len(f.asked) != 1 {
		t.Errorf("the largest: %d %.200s, done: %v", status, text, f.asked)
	}
	for _, body := range []string{`{"grace_seconds":1}{"grace_seconds":2}`, `{"grace_seconds":1} x`, `[]`, `"x"`, `{`, "\x00", `{"grace_seconds":"1"}`, `{"grace":1}`} {
		if status, text := post(stop, int64(len(body)), strings.NewReader(body)); status != http.StatusBadRequest || !strings.Contains(text, "body: ") {
			t.Errorf("%q: %d %.200s", body, status, text)
		}
	}
	if len(f.asked) != 1 {
		t.Errorf("done: %v", f.asked)
	}
}

// rationed is a backend that starts so many runs and refuses the others.
type rationed struct {
	fake
	left atomic.Int32
}

func (r *rationed) Launch(context.Context, Peer, *client.Launch, []int) (*events.Run, bool, error) {
	if r.left.Add(-1) < 0 {
		return nil, false, fmt.Errorf("wrapped: %w", NewProblem(http.StatusTooManyRequests, "more than enough launches in a minute", "try again in a moment"))
	}
	return eventstest.NewRun("aaaaaaaaaaaa"), true, nil
}

// TestF1LaunchFlood: what is above the quota of a user is answered with 429 and when to try again; others are served meanwhile.
func TestF1LaunchFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &rationed{fake: fake{store: &eventstest.Memory{}}}
		b.left.Store(20)
		begin(t, &b.fake, "bbbbbbbbbbbb", 1001)
		l := servePipes(t, b)
		var started, refused atomic.Int32
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				resp, err := l.client(1000).Post("http://lictor/api/v1/runs", "application/json", strings.NewReader(`{"command":["a"]}`))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusCreated:
					started.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
					var p Problem
					err := json.NewDecoder(resp.Body).Decode(&p)
					if after := resp.Header.Get("Retry-After"); err != nil || p.Hint == "" || after == "" || strings.Trim(after, "0123456789") != "" {
						t.Errorf("refused with %+v, Retry-After %q, %v", p, after, err)
					}
				default:
					t.Errorf("status %d", resp.StatusCode)
				}
			})
			if n := seen(t, l.client(1001)); n != 1 {
				t.Errorf("somebody else sees %d runs", n)
			}
		}
		all.Wait()
		if started.Load() != 20 || refused.Load() != 180 {
			t.Errorf("%d started, %d refused, want 20 and 180", started.Load(), refused.Load())
		}
	})
}
