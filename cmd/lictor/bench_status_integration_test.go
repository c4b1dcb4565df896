//go:build integration

package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// asks are requests over a socket, each on a connection of its own, as curl and scripts make them.
type asks struct {
	*testing.B
	http *http.Client
}

func newAsks(b *testing.B, socket string) asks {
	return asks{b, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}}
}

// get returns an answer and how long it took.
func (a asks) get(path string) ([]byte, time.Duration) {
	a.Helper()
	begun := time.Now()
	resp, err := a.http.Get("http://lictor" + path)
	must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(err)
	took := time.Since(begun)
	if resp.StatusCode != http.StatusOK {
		a.Fatalf("%s: %d %s", path, resp.StatusCode, body)
	}
	return body, took
}

// show keeps a page up to date, as a browser does, until the returned function is called.
func (a asks) show(path string) (closePage func()) {
	a.Helper()
	ctx, cancel := context.WithCancel(a.Context())
	seen := make(chan int64)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://lictor"+path, nil)
		must(err)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := a.http.Do(req)
		must(err)
		defer resp.Body.Close()
		n, _ := io.Copy(io.Discard, resp.Body)
		seen <- n
	}()
	return func() {
		cancel()
		if n := <-seen; n == 0 {
			a.Error("nothing was shown")
		}
	}
}

// compare asks for two things in turn and returns the medians.
func (a asks) compare(one, other string, times int, pause time.Duration) (time.Duration, time.Duration) {
	a.Helper()
	var first, second []time.Duration
	for range times {
		time.Sleep(pause)
		_, took := a.get(one)
		first = append(first, took)
		_, took = a.get(other)
		second = append(second, took)
	}
	return median(first), median(second)
}

// BenchmarkStatus reports what /api/quests/status takes while the daemon keeps 1,000 runs, and /healthz in turn with it: asked again and
// again, which is what it is for, and asked once in a while, when each answer is a new look. Then what the daemon's memory is before and
// after it has listed all runs. Last, what the dashboard costs in a minute: before anybody has opened it, while a page is kept up to date,
// and when nobody looks any more.
func BenchmarkStatus(b *testing.B) {
	const runs = 1000
	f := newBenchFleet(b, "1h")
	f.add(runs, []string{"-t", "infinity"}, "sleep", "36000")
	a := newAsks(b, f.socket)
	var status struct {
		Watchdog struct {
			Monitored int `json:"monitored_count"`
		}
	}
	text, _ := a.get("/api/quests/status")
	must(json.Unmarshal(text, &status))
	if status.Watchdog.Monitored != runs {
		b.Fatalf("%d runs are monitored, want %d", status.Watchdog.Monitored, runs)
	}
	for b.Loop() {
		health, often := a.compare("/healthz", "/api/quests/status", 300, 0)
		b.ReportMetric(ms(health), "ms/healthz")
		b.ReportMetric(ms(often), "ms/status")
		b.ReportMetric(float64(often)/float64(health), "ratio")
		health, fresh := a.compare("/healthz", "/api/quests/status", 20, time.Second)
		b.ReportMetric(ms(fresh), "ms/status-new")
		b.ReportMetric(float64(fresh)/float64(health), "ratio-new")

		b.ReportMetric(f.memory("VmRSS")/1024, "MiB-before")
		var list []events.Run
		var took []time.Duration
		for range 5 {
			text, d := a.get("/api/v1/runs")
			must(json.Unmarshal(text, &list))
			took = append(took, d)
			b.ReportMetric(float64(len(text))/(1<<20), "MiB-answer")
		}
		if len(list) != runs {
			b.Errorf("%d runs are listed, want %d", len(list), runs)
		}
		b.ReportMetric(ms(median(took)), "ms/runs")
		b.ReportMetric(f.memory("VmRSS")/1024, "MiB-after")

		b.ReportMetric(ms(f.idle()), "cpu-ms/min-unopened")
		a.get("/")
		closePage := a.show("/")
		b.ReportMetric(ms(f.idle()), "cpu-ms/min-shown")
		closePage()
		b.ReportMetric(ms(f.idle()), "cpu-ms/min-closed")
	}
	b.ReportMetric(0, "ns/op")
}
