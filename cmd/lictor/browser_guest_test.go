//go:build browse

package main

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// site is lictor as it is installed in a guest, and a shell of alice there. `testbed browse` provides both.
type site struct {
	*testing.T
	base  string
	shell []string // ssh to alice, but for the command
}

func openSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, base: os.Getenv("LICTOR_TEST_SITE")}
	if err := json.Unmarshal([]byte(os.Getenv("LICTOR_TEST_SHELL")), &s.shell); err != nil || s.base == "" {
		t.Fatal("make test-browser runs this")
	}
	return s
}

func (s *site) command(line string) *exec.Cmd {
	return exec.CommandContext(s.Context(), s.shell[0], append(s.shell[1:], line)...)
}

func (s *site) output(line string) string {
	s.Helper()
	out, err := s.command(line).Output()
	if err != nil {
		s.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(string(out))
}

// start begins a command that is running when it returns, and ends with the test.
func (s *site) start(line string) *exec.Cmd {
	s.Helper()
	cmd := s.command(line)
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// creeping takes two MiB more twice a second, until somebody puts an end to it.
const creeping = `import time
held = []
while True:
	held.append(b"x" * (2 << 20))
	time.sleep(.5)`

// TestBrowserOnGuest: alice, in a browser, sees her run appear, grow and die in a real scope, and reads why; and she stops another one.
func TestBrowserOnGuest(t *testing.T) {
	s := openSite(t)
	b := startBrowser(t, s.base)
	link, err := url.Parse(s.output("lictor dashboard"))
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(s.base+link.RequestURI()), chromedp.WaitReady("main"))
	b.open("/runs")
	b.until("the stream is there", `document.getElementById("stream").textContent === "live"`)
	eval[bool](b, "window.notLoadedAgain = true")

	command := s.start("lictor run -q --analysis-id grows -m 48M -- python3 -c '" + creeping + "'")
	const row = `document.querySelector("tr[id^=r-]")`
	b.until("the run appears", row+" !== null")
	id := strings.TrimPrefix(eval[string](b, row+".id"), "r-")
	const width = `parseFloat((document.querySelector("tr[id^=r-] .fill") || {getAttribute: () => "0"}).getAttribute("width"))`
	before := eval[float64](b, width)
	b.until("its bar grows", width+" > "+eval[string](b, "String("+width+" + 20)"))
	if !eval[bool](b, "window.notLoadedAgain === true") {
		t.Error("the page was loaded again")
	}
	t.Logf("the bar was at %g", before)

	b.open("/runs/" + id)
	b.until("its chart is there", `document.querySelector("svg.chart path.line") !== null`)
	eval[bool](b, "window.notLoadedAgain = true")
	b.until("its page says why", `document.querySelector("h1").textContent.includes("was killed: it reached its own memory limit")`)
	if !eval[bool](b, "window.notLoadedAgain === true && document.querySelector('svg.chart .limit') !== null && document.querySelector('#stop') === null") {
		t.Error("the page was loaded again, or has no limit in its chart, or offers to stop what has ended")
	}
	text := eval[string](b, "document.body.innerText")
	for _, want := range []string{"48M", "grows", "python3", "alice", "memory.events"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "killed.png"), get(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
		t.Error(err)
	}
	if err := command.Wait(); command.ProcessState.ExitCode() != 137 {
		t.Errorf("the command ended with %v", err)
	}
	b.open("/kills?reason=oom")
	b.until("the filter finds it", `document.querySelectorAll("table.kills tbody tr").length === 1`)

	command = s.start("lictor run -q --analysis-id hangs -- sleep 600")
	b.open("/runs")
	b.until("the other one appears", row+" !== null")
	b.open("/runs/" + strings.TrimPrefix(eval[string](b, row+".id"), "r-"))
	b.do(chromedp.Click("#stop summary"), chromedp.Click("#stop button"))
	b.until("it says who stopped it", `document.querySelector("h1") !== null && document.querySelector("h1").textContent.includes("uid 1000 stopped it")`)
	if err := command.Wait(); command.ProcessState.ExitCode() != 143 {
		t.Errorf("the command ended with %v", err)
	}

	for _, r := range b.took(&b.requests) {
		if u, err := url.Parse(r); err != nil || u.Scheme != "data" && u.Scheme+"://"+u.Host != s.base {
			t.Errorf("a request to %s", r)
		}
	}
	for _, e := range b.took(&b.errors) {
		t.Error(e)
	}
	if ended := s.output("lictor ps -aq | wc -l"); ended != "2" {
		t.Errorf("%s runs are on record, want 2", ended)
	}
}
