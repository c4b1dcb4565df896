package api

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/scidex/lictor/events/eventstest"
)

// Who has hung up gets no answer, and is no error of the daemon's in its log: anybody could fill it that way.
func TestGone(t *testing.T) {
	var log bytes.Buffer
	s := NewServer(&fake{store: &eventstest.Memory{}}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	ask := func(ctx context.Context) (aborted any, status int) {
		w := httptest.NewRecorder()
		func() {
			defer func() { aborted = recover() }()
			s.routes().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/runs", nil))
		}()
		return aborted, w.Code
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if aborted, _ := ask(gone); aborted != http.ErrAbortHandler || log.Len() > 0 { //nolint:errorlint // what net/http compares it with
		t.Errorf("aborted with %v, log %s", aborted, &log)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0)) // its own deadline is the daemon's business
	defer cancel()
	if aborted, status := ask(late); aborted != nil || status != http.StatusInternalServerError || log.Len() == 0 {
		t.Errorf("%v, %d, log %s", aborted, status, &log)
	}
}
