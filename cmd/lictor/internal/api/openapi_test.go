package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/scidex/lictor/events/eventstest"
)

// The description names everything that is served, and the package comment too.
func TestDescription(t *testing.T) {
	s := NewServer(&fake{store: &eventstest.Memory{}}, nil, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name, In string }
			Responses  map[string]any
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI == "" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	n := 0
	for _, r := range s.table() {
		got, ok := doc.Paths[r.path][strings.ToLower(r.method)]
		if !ok || got.Summary == "" || len(got.Responses) < 2 {
			t.Errorf("%s %s is not described: %+v", r.method, r.path, got)
		}
		if strings.Contains(r.path, "{run}") && (len(got.Parameters) == 0 || got.Parameters[0].In != "path") {
			t.Errorf("%s %s: its run is not described", r.method, r.path)
		}
		n++
	}
	described := 0
	for _, methods := range doc.Paths {
		described += len(methods)
	}
	if described != n {
		t.Errorf("%d are described, %d are served", described, n)
	}
}

func TestReady(t *testing.T) {
	f := &fake{store: &eventstest.Memory{}}
	s := NewServer(f, nil, slog.New(slog.DiscardHandler))
	ask := func() int {
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code
	}
	if got := ask(); got != http.StatusOK {
		t.Errorf("ready: %d", got)
	}
	f.fail = http.ErrServerClosed
	if got := ask(); got != http.StatusServiceUnavailable {
		t.Errorf("not ready: %d", got)
	}
}
