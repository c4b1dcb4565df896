package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// A stream comes back after every break, says where it was, and gives up only where the daemon says no.
func TestStream(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID")+" "+r.URL.RawQuery)
		switch len(asked) {
		case 2:
			w.WriteHeader(http.StatusBadGateway) // it is being started anew
			return
		case 4:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"status":401,"detail":"who calls?"}`)
			return
		}
		fmt.Fprintf(w, "retry: 1000\n\n: still here\n\nid: %d\nevent: ended\ndata: {\"id\":\"e%d\",\"kind\":\"ended\"}\n\nid: 99\nda", len(asked), len(asked))
	}))
	defer server.Close()
	c, err := New(server.URL, "secret")
	if err != nil {
		t.Fatal(err)
	}
	s := c.Stream(events.EventQuery{Run: "r", Kinds: []events.Kind{events.KindEnded}})
	defer s.Close()
	for _, want := range []string{"e1", "e3"} {
		if e, err := s.Next(t.Context()); err != nil || e.ID != want {
			t.Fatalf("%+v, %v, want %s", e, err, want)
		}
	}
	var p *Problem
	if _, err := s.Next(t.Context()); !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
		t.Errorf("%v", err)
	}
	if got := fmt.Sprint(asked); got != "[ kind=ended&run=r 1 kind=ended&run=r 1 kind=ended&run=r 3 kind=ended&run=r]" {
		t.Errorf("asked %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	asked = nil
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing happens: %v", err)
	}
}
