package dashboard

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
)

// fake is a source of what a test says.
type fake struct {
	looks  int
	kills  []Kill
	query  events.EventQuery
	runs   RunsQuery
	fail   error
	stop   []events.RunID
	live   int
	reason events.Reason
}

func (f *fake) Overview(context.Context, api.Peer) (*Overview, error) {
	f.looks++
	return &Overview{Host: "box <1>", Live: f.live, Events: []EventLine{{Kind: "ended", Text: "<script>"}}}, f.fail
}

func (f *fake) Runs(_ context.Context, _ api.Peer, q RunsQuery) (*Runs, error) {
	f.runs = q
	return &Runs{Rows: []Row{{ID: "aaaaaaaaaaaa", Short: "aaaaaaaa", Used: 1, Of: 2, Live: true}}, Total: 205, More: q.Page < 2}, f.fail
}

func (f *fake) Run(_ context.Context, _ api.Peer, id events.RunID) (*Run, error) {
	if id != "aaaaaaaaaaaa" {
		return nil, fmt.Errorf("run %q: %w", id, events.ErrNotFound)
	}
	return &Run{Row: Row{ID: string(id), Short: "aaaaaaaa", State: "running", Live: true}, Headline: "aaaaaaaa is running", Own: true}, f.fail
}

func (f *fake) Kills(_ context.Context, _ api.Peer, q events.EventQuery, reason events.Reason) ([]Kill, error) {
	f.query, f.reason = q, reason
	return f.kills, f.fail
}

func (f *fake) Stop(_ context.Context, _ api.Peer, id events.RunID) error {
	f.stop = append(f.stop, id)
	return f.fail
}

func serve(t *testing.T) (*fake, *httptest.Server, *Dashboard) {
	t.Helper()
	f := &fake{}
	d := New(f, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	for pattern, h := range d.Routes() {
		mux.Handle(pattern, h)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return f, s, d
}

func get(t *testing.T, target string) (status int, header http.Header, body string) {
	t.Helper()
	answer, err := http.Get(target) //nolint:gosec,noctx // of this test
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func TestPages(t *testing.T) {
	f, s, _ := serve(t)
	f.kills = []Kill{{Run: "aaaaaaaaaaaa", Short: "aaaaaaaa", Command: "sh -c '<b>'"}}
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/", 200, "box &lt;1&gt;"},
		{"/", 200, "&lt;script&gt;"},
		{"/runs", 200, `id="r-aaaaaaaaaaaa"`},
		{"/runs?show=all&page=1", 200, `href="/runs?page=2&amp;show=all"`},
		{"/runs?page=x", 400, "not the number of a page"},
		{"/runs?page=-1", 400, "not the number of a page"},
		{"/runs/aaaaaaaaaaaa", 200, `action="/runs/aaaaaaaaaaaa/stop"`},
		{"/runs/bbbbbbbbbbbb", 404, "no such run"},
		{"/runs/%2e%2e%2fx", 404, "no such run"},
		{"/kills", 200, "&lt;b&gt;"},
		{"/kills?since=yesterday", 400, "not a day"},
		{"/static/app.js", 200, "EventSource"},
		{"/static/../view.go", 404, ""},
		{"/static/nothing", 404, ""},
	} {
		status, header, body := get(t, s.URL+c.path)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d, want %d and %q in\n%s", c.path, status, c.status, c.want, body)
		}
		if policy := header.Get("Content-Security-Policy"); strings.HasPrefix(header.Get("Content-Type"), "text/html") &&
			(!strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: headers %v", c.path, header)
		}
	}
	f.fail = errors.New("the disk is gone")
	if status, _, body := get(t, s.URL+"/kills"); status != 500 || !strings.Contains(body, "the disk is gone") {
		t.Errorf("%d %s", status, body)
	}
}

func TestKillsFilters(t *testing.T) {
	f, s, _ := serve(t)
	size, long := uint64(7), 1.5
	f.kills = []Kill{{At: time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC), Run: "aaaaaaaaaaaa", Analysis: "=HYPERLINK(1)", Kind: "ended", Reason: "oom",
		MemoryBytes: &size, Seconds: &long, Command: "a,\"b\"\nc"}}
	_, header, body := get(t, s.URL+"/kills.csv?reason=oom&analysis=x&since=2026-11-23&until=2026-11-24")
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(rows) != 2 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Fatalf("%v, %q", err, body)
	}
	if got := strings.Join(rows[1], "|"); got != "2026-11-23T01:02:03.000000004Z|aaaaaaaaaaaa|'=HYPERLINK(1)|ended|oom|7||1.5|a,\"b\"\nc" {
		t.Errorf("%s", got)
	}
	since := time.Date(2026, 11, 23, 0, 0, 0, 0, time.Local)
	if !f.query.Since.Equal(since) || !f.query.Until.Equal(since.AddDate(0, 0, 2)) || f.query.AnalysisID != "x" || !f.query.KillsOnly || f.reason != "oom" || f.query.Last != 0 {
		t.Errorf("asked for %+v %s", f.query, f.reason)
	}
	if get(t, s.URL+"/kills"); f.query.Last != killsShown {
		t.Errorf("the page asks for %d", f.query.Last)
	}
}

func TestStop(t *testing.T) {
	f, s, _ := serve(t)
	hc := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := hc.Post(s.URL+"/runs/aaaaaaaaaaaa/stop", "", nil) //nolint:noctx // of this test
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/runs/aaaaaaaaaaaa" || len(f.stop) != 1 {
		t.Errorf("%d %v %v", answer.StatusCode, answer.Header, f.stop)
	}
}

// A stream sends a page when it has changed, once for all who see the same, and there are not too many of them.
func TestLive(t *testing.T) {
	f, s, d := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	listen := func() *json.Decoder {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		if answer.StatusCode != http.StatusOK {
			return nil
		}
		r, w := io.Pipe()
		go func() { // the data of events, one after the other
			buffer := make([]byte, 64<<10)
			rest := ""
			for {
				n, err := answer.Body.Read(buffer)
				rest += string(buffer[:n])
				for {
					before, after, ok := strings.Cut(rest, "\n\n")
					if !ok {
						break
					}
					rest = after
					if data, ok := strings.CutPrefix(before, "event: page\ndata: "); ok {
						_, _ = io.WriteString(w, data+"\n") // a decoder wants to see what follows a string
					}
				}
				if err != nil {
					w.CloseWithError(err)
					return
				}
			}
		}()
		return json.NewDecoder(r)
	}
	first, second := listen(), listen()
	var page string
	for _, d := range []*json.Decoder{first, second} {
		if err := d.Decode(&page); err != nil || !strings.Contains(page, `<dd><a href="/runs">0</a></dd>`) || strings.Contains(page, "<html") {
			t.Fatalf("%v: %s", err, page)
		}
	}
	d.cache.mu.Lock()
	f.live = 1
	looks, at := f.looks, time.Now()
	d.cache.mu.Unlock()
	for _, d := range []*json.Decoder{first, second} {
		if err := d.Decode(&page); err != nil || !strings.Contains(page, `<dd><a href="/runs">1</a></dd>`) {
			t.Fatalf("%v: %s", err, page)
		}
	}
	d.cache.mu.Lock()
	if n := f.looks - looks; n > 1+int(time.Since(at)/streamPause)*2 {
		t.Errorf("%d looks for two who see the same", n)
	}
	d.cache.mu.Unlock()
	for len(d.streams) < maxStreams {
		d.streams <- struct{}{}
	}
	if listen() != nil {
		t.Error("one stream too many was admitted")
	}
}

// What is looked at is rendered once a second while that is cheap, and takes a tenth of a processor where it is not.
func TestCache(t *testing.T) {
	for _, tt := range []struct {
		pages  int
		takes  time.Duration
		atMost time.Duration // for rendering, in a minute
		least  int           // of renderings
	}{
		{1, 5 * time.Millisecond, 60 * 5 * time.Millisecond, 55},
		{1, time.Second, 7 * time.Second, 5},
		{20, 5 * time.Millisecond, 7 * time.Second, 20 * 40},
		{20, time.Second, 140 * time.Second, 120}, // nothing is older than ten seconds
	} {
		synctest.Test(t, func(t *testing.T) {
			spent, made := time.Duration(0), 0
			c := cache{entries: map[string]cached{}, used: func() time.Duration { return spent }}
			for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(streamPause) {
				for page := range tt.pages {
					_, _ = c.get(strconv.Itoa(page), func() (string, error) {
						made++
						spent += tt.takes
						return "", nil
					})
				}
			}
			if spent > tt.atMost || made < tt.least {
				t.Errorf("%d pages of %v: rendered %d times, for %v", tt.pages, tt.takes, made, spent)
			}
			time.Sleep(time.Hour)
			_, _ = c.get("another", func() (string, error) { return "", nil })
			if len(c.entries) != 1 {
				t.Errorf("%d pages are kept that nobody looks at", len(c.entries)-1)
			}
		})
	}
}

// Whatever was read, the chart is well-formed, and everything is within it.
func TestChart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Chart{Limit: float64(rapid.Uint64Range(0, 1<<50).Draw(t, "limit")), Peak: float64(rapid.Uint64Range(0, 1<<50).Draw(t, "peak")), Live: rapid.Bool().Draw(t, "live")}
		x := -float64(rapid.IntRange(0, 1e7).Draw(t, "first"))
		for range rapid.IntRange(0, 150).Draw(t, "n") {
			c.Points = append(c.Points, Point{x, float64(rapid.Uint64Range(0, 1<<50).Draw(t, "y"))})
			x /= 1.1
		}
		c.Marks = []Mark{{x, rapid.String().Draw(t, "mark")}}
		svg := string(c.SVG())
		if len(c.Points) == 0 {
			if svg != "" {
				t.Fatal("a chart of nothing")
			}
			return
		}
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if strings.ContainsFunc(c.Marks[0].Text, func(r rune) bool { return r < ' ' || r > 0xd7ff }) {
					return // no text for XML; marks are inert text of ours
				}
				t.Fatalf("%v: %s", err, svg)
			}
			if e, ok := token.(xml.StartElement); ok {
				for _, a := range e.Attr {
					var v float64
					if _, err := fmt.Sscan(a.Value, &v); err == nil && len(a.Name.Local) == 2 && (v < -1 || v > chartWidth+1) {
						t.Fatalf("%s %s=%s: outside", e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		}
	})
}

func TestNiceBytes(t *testing.T) {
	for _, c := range []struct {
		n, top float64
		steps  int
	}{{0, 4096, 4}, {4097, 6144, 3}, {2.1 * (1 << 30), 3 << 30, 3}, {3.1 * (1 << 30), 4 << 30, 4}} {
		if top, steps := niceBytes(c.n); top != c.top || steps != c.steps {
			t.Errorf("%v: %v in %d, want %v in %d", c.n, top, steps, c.top, c.steps)
		}
	}
}

func TestRunsURL(t *testing.T) {
	for want, q := range map[string]RunsQuery{"/runs?": {}, "/runs?page=2": {Page: 1}, "/runs?analysis=a%26b&page=1&show=all": {All: true, Analysis: "a&b"}} {
		if want == "/runs?" {
			if got := runsURL(q, -1); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			continue
		}
		got := runsURL(q, 1)
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if _, err := url.Parse(got); err != nil {
			t.Error(err)
		}
	}
}
