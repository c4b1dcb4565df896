package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestLaunch(t *testing.T) {
	f, _, path := start(t, 1000)
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		body, key string
		status    int
		asked     string // of the backend
		says      string
	}{
		{`{"command":["a","b"],"limits":{"memory_max":"2G","runtime_max":90.5}}`, "k1", 201, `launch [a b] map[memory_max:2G runtime_max:90.5] "k1" for 1000`, `"run":"aaaaaaaaaaaa"`},
		{`{"command":["a"]}`, "again", 200, `launch [a] map[] "again" for 1000`, `"run":"aaaaaaaaaaaa"`},
		{`{"command":[]}`, "", 400, "", "command: empty"},
		{`{}`, "", 400, "", "command: empty"},
		{`{"command":["a"],"uid":0}`, "", 400, "", `unknown field`},
		{`{"command":["a"],"limits":{"memory_max":[1]}}`, "", 400, "", "a limit is a number"},
		{`{"command":"a"}`, "", 400, "", "body: "},
		{`{"command":["a"]}`, strings.Repeat("k", 300), 400, "", "Idempotency-Key"},
	} {
		f.asked = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://lictor/api/v1/runs", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", c.key)
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.body, resp.StatusCode, body, c.status, c.says)
		}
		if want := []string{c.asked}; c.asked != "" && !slices.Equal(f.asked, want) || c.asked == "" && f.asked != nil {
			t.Errorf("%s: the backend was asked %q, want %q", c.body, f.asked, c.asked)
		}
		if c.status < 300 && resp.Header.Get("Location") != "/api/v1/runs/aaaaaaaaaaaa" {
			t.Errorf("%s: location %q", c.body, resp.Header.Get("Location"))
		}
	}
}
