package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/cmd/lictor/internal/dashboard"
	"github.com/scidex/lictor/cmd/lictor/internal/history"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// aliveRuns stand in for the kernel: runs, and what they hold.
type aliveRuns struct {
	mu   sync.Mutex
	hold map[events.RunID]uint64
	of   map[events.RunID]*events.Run
}

func (a *aliveRuns) Live(context.Context, Mode) (list []Live, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, n := range a.hold {
		peak, none, cpu := n, uint64(0), 1.5
		list = append(list, Live{Run: id, State: events.StateRunning, MemoryCurrent: &n, InactiveFile: &none, MemoryPeak: &peak, CPUSeconds: &cpu,
			PIDs: []int{os.Getpid()}, Record: a.of[id]})
	}
	return list, nil
}

func (a *aliveRuns) set(run *events.Run, bytes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold[run.Run], a.of[run.Run] = bytes, run
}

func (a *aliveRuns) end(run *events.Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.hold, run.Run)
}

func (a *aliveRuns) read(id events.RunID) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok := a.hold[id]
	if !ok {
		return 0, errors.New("gone")
	}
	return n, nil
}

// browsed is the daemon's part that a browser talks to, over a real store.
type browsed struct {
	alive   *aliveRuns
	rec     *recorder
	history *history.Sampler
	tokens  *api.Tokens
	address string
}

func startBrowsed(t *testing.T) *browsed {
	t.Helper()
	app := testApp(nil)
	env := map[string]string{"LICTOR_STATE_DIR": t.TempDir()}
	app.Getenv, app.Now, app.UID, app.Stderr = func(key string) string { return env[key] }, time.Now, 0, os.Stderr
	app.Box, app.Processes = readBox, scriptProcesses("")
	b := &browsed{alive: &aliveRuns{hold: map[events.RunID]uint64{}, of: map[events.RunID]*events.Run{}}}
	app.Scopes = b.alive
	b.history = history.NewSampler(b.alive.read, cgroup.Boottime)
	d := &daemon{app: app, settler: app.newSettler(nil), log: slog.New(slog.DiscardHandler), history: b.history}
	t.Cleanup(d.settler.close)
	reading, stop := context.WithCancel(t.Context())
	var sampler sync.WaitGroup
	sampler.Go(func() { b.history.Run(reading, time.Second) })
	t.Cleanup(func() { stop(); sampler.Wait() })
	var err error
	if b.rec, err = d.settler.recorder(""); err != nil {
		t.Fatal(err)
	}
	if b.tokens, err = app.openTokens(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().String()
	back := &unmeasured{&backend{d, t.Context()}}
	server := api.NewServer(back, dashboard.New(pages{back.backend}, d.log), d.log)
	served := make(chan error, 1)
	go func() { served <- server.ServeTCP(l, b.tokens) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b
}

// unmeasured is a backend without metrics, which need a whole daemon.
type unmeasured struct{ *backend }

func (unmeasured) Metrics() http.Handler { return nil }

// begin starts a run in the eyes of the store and of the kernel.
func (s *browsed) begin(t *testing.T, id events.RunID, analysis string, command ...string) *events.Run {
	t.Helper()
	run := eventstest.NewRun(id)
	run.AnalysisID, run.Command, run.StartedAt, run.State = analysis, command, time.Now().Add(-time.Minute), events.StateRunning
	if err := s.rec.Begin(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if err := s.rec.Append(t.Context(), events.NewEvent(run, events.KindStarted, 0, run.StartedAt)); err != nil {
		t.Fatal(err)
	}
	s.alive.set(run, 200<<20)
	s.history.Add(run.Run)
	return run
}

// kill ends it as an out-of-memory kill does.
func (s *browsed) kill(t *testing.T, run *events.Run) {
	t.Helper()
	ended, e := eventstest.Ended(run)
	now := time.Now()
	ended.EndedAt, e.At, e.Reason, e.State = &now, now, ended.Reason, ended.State
	ended.Escalation = []events.Step{{Step: "kill", At: now, By: "kernel"}, {Step: "empty", At: now}}
	if err := (blackBoxed{s.rec, s.history}).End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	s.alive.end(run)
	s.history.Take(run.Run)
}

// browser is a real one, and what it complained about.
type browser struct {
	*testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	requests []string
	errors   []string
}

func startBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium: go run ./deploy/testbed need chromium installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{T: t, ctx: ctx, base: base}
	// The first call starts the browser, and must have no deadline of its own.
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	requests, console := chromedp.Events(ctx, network.RequestWillBeSent), chromedp.Console(ctx)
	go func() {
		for e, err := range requests {
			if err != nil {
				return
			}
			b.note(&b.requests, e.Request.URL)
		}
	}()
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.note(&b.errors, m.String())
			}
		}
	}()
	b.ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	return b
}

func (b *browser) note(list *[]string, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*list = append(*list, text)
}

// took returns what was noted, and forgets it.
func (b *browser) took(list *[]string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := *list
	*list = nil
	return l
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// call is a command of the DevTools protocol.
func call[P, R any](b *browser, cmd cdp.Command[P, R], params P) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, cmd, params); err != nil {
		b.Fatal(err)
	}
}

// get is what an action returns.
func get[T any](b *browser, action chromedp.Action[T]) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func (b *browser) open(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.base+path), chromedp.WaitReady("main"))
}

// grow has a run take more and more memory, as long as the sampler needs to see it.
func (s *browsed) grow(run *events.Run, to uint64) {
	for n := uint64(200 << 20); n < to; n += to / 5 {
		s.alive.set(run, n)
		time.Sleep(time.Second)
	}
	s.alive.set(run, to)
}

// eval is the value of an expression of the page.
func eval[T any](b *browser, js string) T {
	b.Helper()
	return get(b, chromedp.Evaluate[T](js))
}

// until waits for an expression of the page to be true.
func (b *browser) until(what, js string) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !eval[bool](b, js); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within 20 s; the page says\n%s", what, eval[string](b, "document.body.innerText"))
		}
	}
}

const hostile = "<script>window.pwned=1</script>\u202e\x1b[31m<img src=x onerror=window.pwned=2>"

// TestBrowser is a person at the dashboard, in Chromium: a run appears without a reload, grows, is killed, and its page says why.
func TestBrowser(t *testing.T) {
	s := startBrowsed(t)
	b := startBrowser(t, "http://"+s.address)
	b.open("/")
	if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, "lictor dashboard") {
		t.Errorf("who is not logged in reads %q", text)
	}
	b.took(&b.errors) // 401 is in the browser's log
	c, err := client.New("http://"+s.address, s.token(t))
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(login.URL), chromedp.WaitReady("main"))
	if at := eval[string](b, "location.pathname"); at != "/" {
		t.Errorf("logged in at %q", at)
	}

	b.open("/runs")
	b.until("the stream is there", `document.getElementById("stream").textContent === "live"`)
	eval[bool](b, "window.notLoadedAgain = true")
	run := s.begin(t, "7f3k7m1d0001", "embed-all", "python3", "embed.py", "--all")
	b.until("the run appears", `document.getElementById("r-7f3k7m1d0001") !== null`)
	const width = `parseFloat(document.querySelector("#r-7f3k7m1d0001 .fill").getAttribute("width"))`
	before := eval[float64](b, width)
	s.grow(run, 1900<<20)
	b.until("its bar grows", fmt.Sprintf("%s > %f", width, before+30))
	b.open("/runs/7f3k7m1d0001")
	b.until("its chart is there", `document.querySelector("svg.chart path.line") !== null`)
	eval[bool](b, "window.notLoadedAgain = true")
	s.kill(t, run)
	b.until("its page says why", `document.querySelector("h1").textContent.includes("was killed: it reached its own memory limit")`)
	if !eval[bool](b, "window.notLoadedAgain === true && document.querySelector('svg.chart .limit') !== null && document.querySelector('#stop') === null") {
		t.Error("the page was loaded again, or has no limit in its chart, or offers to stop what has ended")
	}
	b.open("/runs")
	b.until("it is gone from the live ones", `document.getElementById("r-7f3k7m1d0001") === null`)
	b.open("/kills?reason=oom")
	b.until("the filter finds it", `document.querySelectorAll("table.kills tbody tr").length === 1`)
	b.open("/kills?reason=timeout")
	b.until("another one does not", `document.querySelectorAll("table.kills tbody tr").length === 0`)

	s.begin(t, "7f3k7m1d0002", hostile, "sh", "-c", hostile, strings.Repeat("long-word-", 60))
	for i := range 6 {
		r := s.begin(t, events.RunID(fmt.Sprintf("7f3k7m1d01%02d", i)), fmt.Sprintf("churn-%02d", i), "python3", "churn.py", "--fold", fmt.Sprint(i))
		s.alive.set(r, uint64(300*i+1)<<20)
		if i%3 == 2 {
			s.kill(t, r)
		}
	}
	for _, path := range []string{"/", "/runs", "/runs/7f3k7m1d0002", "/runs?show=all", "/kills"} {
		b.open(path)
		if eval[bool](b, "window.pwned !== undefined || document.querySelector('main script, main img') !== null") {
			t.Errorf("X20: %s: a command line was executed", path)
		}
		if text := eval[string](b, "document.body.innerText"); strings.ContainsAny(text, "\u202e\x1b") {
			t.Errorf("X20: %s: control characters on the page", path)
		}
	}
	if text := eval[string](b, "(location.href='#', document.body.innerText)"); !strings.Contains(text, "embed-all") {
		t.Errorf("the kills are %q", text)
	}

	b.screenshots()
	b.withoutScript()
	requests := b.took(&b.requests)
	if len(requests) < 100 {
		t.Errorf("%d requests were seen", len(requests))
	}
	for _, r := range requests {
		if u, err := url.Parse(r); err != nil || u.Scheme != "data" && u.Host != s.address {
			t.Errorf("a request to %s", r)
		}
	}
	for _, e := range b.took(&b.errors) {
		t.Error(e)
	}
}

func (s *browsed) token(t *testing.T) string {
	t.Helper()
	secret, _, err := s.tokens.Issue(0, client.TokenProgram, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// screenshots keeps what every page looks like (go test -artifacts), and checks that nothing is wider than the screen.
func (b *browser) screenshots() {
	b.Helper()
	dir := b.ArtifactDir()
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int64{380, 1280, 1920} {
			for name, path := range map[string]string{"overview": "/", "runs": "/runs?show=all", "run": "/runs/7f3k7m1d0001", "live": "/runs/7f3k7m1d0002", "kills": "/kills"} {
				call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500})
				call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
				b.open(path)
				png := get(b, chromedp.FullScreenshot(100))
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, theme)), png, 0o644); err != nil {
					b.Fatal(err)
				}
				if wide := eval[string](b, `[...document.querySelectorAll("main *")].filter(e => !e.closest("pre, svg") && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80)).join("\n")`); wide != "" {
					b.Errorf("%s at %d: wider than the screen:\n%s", path, width, wide)
				}
			}
		}
	}
}

// withoutScript: the pages tell as much.
func (b *browser) withoutScript() {
	b.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	for path, want := range map[string]string{"/": "Kills in 24 h", "/runs?show=all": "embed-all", "/runs/7f3k7m1d0001": "it reached its own memory limit",
		"/kills": "python3 embed.py --all"} {
		b.open(path)
		text := get(b, chromedp.Text("body"))
		if !strings.Contains(text, want) {
			b.Errorf("without JavaScript %s says %q, want %q", path, text, want)
		}
	}
}
