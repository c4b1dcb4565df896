package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestX16Claims: whatever a request says of who sends it, in headers, query, address or body, it is who the kernel says.
func TestX16Claims(t *testing.T) {
	f, _, path := start(t, 1000)
	mine, other := begin(t, f, "aaaaaaaaaaaa", 1000), begin(t, f, "bbbbbbbbbbbb", 1001)
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	ask := func(method, target, name, value, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, claim := range []struct{ name, value string }{
		{"X-Uid", "1001"}, {"X-User", "root"}, {"X-Remote-User", "root"}, {"Remote-User", "root"}, {"X-Forwarded-User", "root"}, {"X-Real-Ip", "127.0.0.1"},
		{"X-Forwarded-For", "127.0.0.1"}, {"Forwarded", "for=127.0.0.1;by=root"}, {"Authorization", "Basic cm9vdDo="}, {"Authorization", "Bearer 0"},
		{"Cookie", "uid=0; user=root"}, {"From", "root@localhost"}, {"Host", "root"}, {"X-Original-Url", "/api/v1/runs/bbbbbbbbbbbb"}, {"X-Http-Method-Override", "POST"},
	} {
		f.asked = nil
		what := claim.name + ": " + claim.value
		for _, target := range []string{"/api/v1/runs?uid=1001", "/api/v1/runs?user=root&uid=0", "/api/v1/events?uid=1001&run=", "/api/quests/status?uid=1001"} {
			status, text := ask(http.MethodGet, "http://root:x@lictor"+target, claim.name, claim.value, "")
			if status != http.StatusOK || !strings.Contains(text, string(mine.Run)) || strings.Contains(text, string(other.Run)) {
				t.Errorf("%s: %s: %d %s", what, target, status, text)
			}
		}
		for _, act := range []string{"stop", "kill", "release"} {
			if status, text := ask(http.MethodPost, "http://lictor/api/v1/runs/"+string(other.Run)+"/"+act, claim.name, claim.value, ""); status != http.StatusNotFound {
				t.Errorf("%s: %s: %d %s", what, act, status, text)
			}
		}
		if status, text := ask(http.MethodPost, "http://lictor/api/v1/runs/adopt", claim.name, claim.value, `{"pid":7,"run":{"run":"cccccccccccc","uid":0}}`); status != http.StatusOK {
			t.Errorf("%s: adopt: %d %s", what, status, text)
		}
		if got := strings.Join(f.asked, ", "); got != "adopt 7 for 1000" {
			t.Errorf("%s: done: %s", what, got)
		}
	}
}
