//go:build integration

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// daemonHTTP is a client of the daemon's socket.
func daemonHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", client.Path)
	}}}
}

func (b *bed) get(path string) string {
	b.Helper()
	resp, err := daemonHTTP().Get("http://lictor" + path)
	must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(err)
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %d %s", path, resp.StatusCode, body)
	}
	return string(body)
}

// quests is the old watchdog's section.
func (b *bed) quests() (w struct {
	Monitored int            `json:"monitored_count"`
	Grace     int            `json:"grace_count"`
	Kills     int            `json:"kills_last_24h"`
	Recent    []events.Event `json:"recent_events"`
}) {
	b.Helper()
	text := b.get("/api/quests/status")
	if strings.Contains(text, "degraded") {
		b.Errorf("status: %s", text)
	}
	must(json.Unmarshal([]byte(text), &struct{ Watchdog any }{&w}))
	return w
}

// TestAPI: what programs ask the daemon for while an ordinary user's runs live, are told to end, and die.
func TestAPI(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		if w := b.quests(); w.Monitored != 0 || w.Grace != 0 || w.Kills != 0 || w.Recent == nil || len(w.Recent) != 0 {
			b.Errorf("nothing is monitored: %+v", w)
		}
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://lictor/api/v1/events?kind=ended", nil)
		must(err)
		req.Header.Set("Accept", "text/event-stream")
		stream, err := daemonHTTP().Do(req) //nolint:bodyclose // it is, below
		must(err)
		defer stream.Body.Close()
		told := make(chan events.Event, 10)
		go func() {
			for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					var e events.Event
					must(json.Unmarshal([]byte(data), &e))
					told <- e
				}
			}
		}()

		b.want(b.lictor("run", "-m", "12M", "--analysis-id", "eats", "--", "tail", "/dev/zero"), 137, events.StateKilled, events.ReasonOOM, "kernel")
		p := b.start("run", "--grace", "6", "--analysis-id", "stubborn", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
		b.live()
		b.eventually("it is counted", func() bool { return b.quests().Monitored == 1 })
		stopping := b.prepare("stop", "stubborn")
		must(stopping.Start())
		b.eventually("it is in its grace", func() bool { return b.quests().Grace == 1 })
		b.want(b.finishCommand(p), 137, events.StateKilled, events.ReasonStop, b.me())
		_ = stopping.Wait()
		b.eventually("both are counted as kills", func() bool {
			w := b.quests()
			return w.Monitored == 0 && w.Grace == 0 && w.Kills == 2 && len(w.Recent) > 0 && w.Recent[0].Kind == events.KindEnded
		})
		for _, want := range []string{"eats", "stubborn"} {
			select {
			case e := <-told:
				if e.AnalysisID != want || e.State != events.StateKilled {
					b.Errorf("the stream told of %+v, want the end of %s", e, want)
				}
			case <-time.After(time.Minute):
				b.Errorf("the stream did not tell of the end of %s", want)
			}
		}
		numbers := b.get("/metrics")
		for _, want := range []string{`lictor_runs_ended_total{reason="oom"} 1`, `lictor_runs_ended_total{reason="stop"} 1`, `lictor_runs_ended_total{reason="timeout"} 0`,
			`lictor_runs{state="running"} 0`, `lictor_escalations_total{step="kill"} 1`, "lictor_kill_record_seconds_count 2", "lictor_memory_usage_bytes "} {
			if !strings.Contains(numbers, want) {
				b.Errorf("no %s in the metrics", want)
			}
		}
		if b.Failed() {
			fmt.Println(numbers)
		}
		b.root().end(b.keeper, syscall.SIGTERM) // with a stream open
	})
}

// TestX4Admins: another user's run is nobody's business, but for the group lictor-admin.
func TestX4Admins(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		b.must("groupadd", "-f", api.AdminGroup)
		b.Cleanup(func() {
			b.must("gpasswd", "-d", "bob", api.AdminGroup)
			b.must("groupdel", api.AdminGroup)
		})
		p := b.start("run", "--analysis-id", "of-alice", "--", "sleep", "600")
		b.live()
		bob := newUserBed(b.T, ModeSystem, "bob")
		bob.host = client.Path
		for _, args := range [][]string{{"stop", "of-alice"}, {"show", "of-alice"}} {
			if r := bob.lictor(args...); r.code == 0 || !strings.Contains(r.stderr, "no such run") {
				b.Errorf("bob: %v: %d %s", args, r.code, r.stderr)
			}
		}
		b.must("usermod", "-aG", api.AdminGroup, "bob")
		bob = newUserBed(b.T, ModeSystem, "bob")
		bob.host = client.Path
		b.eventually("the daemon knows the group", func() bool {
			r := bob.lictor("ps", "--no-legend")
			return r.code == 0 && strings.Contains(r.stdout, "of-alice")
		})
		if r := bob.lictor("stop", "of-alice"); r.code != 0 {
			b.Errorf("an administrator: %d %s", r.code, r.stderr)
		}
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "uid "+bob.user.Uid)
	})
}

// poster sends a request to start a run, as whoever executes it.
const poster = `import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/lictor/api.sock")
c = Unix("lictor")
c.request("POST", "/api/v1/runs", sys.argv[1], {"Idempotency-Key": sys.argv[2]} if sys.argv[2] else {})
r = c.getresponse()
print(r.status, r.read().decode())
`

// post starts a run as the user of the bed.
func (b *bed) post(body, key string) (status int, run events.Run) {
	b.Helper()
	out, err := b.command("python3", "-c", poster, body, key).CombinedOutput()
	must(err)
	var text string
	_, err = fmt.Sscan(string(out), &status)
	must(err)
	_, text, _ = strings.Cut(string(out), " ")
	if status < 300 {
		must(json.Unmarshal([]byte(text), &run))
	} else {
		b.Logf("%s", out)
	}
	return status, run
}

// TestAPILaunch: an ordinary user starts a run over HTTP. It runs as that user, with that one's groups, and with nothing else of root's.
func TestAPILaunch(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		body := `{"command":["sh","-c","id -u; id -G; grep CapEff /proc/self/status; pwd; env | sort; ls -l /proc/self/fd | wc -l; exec sleep 600"],
			"env":{"GREETING":"hi"},"limits":{"memory_max":"64M","runtime_max":1200},"analysis_id":"by-http"}`
		status, run := b.post(body, "first")
		if status != http.StatusCreated || run.UID != uint32(b.uid()) || *run.Limits.MemoryMaxBytes != 64<<20 || run.Manager != string(ModeSystem) {
			b.Fatalf("%d %+v", status, run)
		}
		if status, again := b.post(body, "first"); status != http.StatusOK || again.Run != run.Run {
			b.Errorf("the same request once more: %d %s, want 200 %s", status, again.Run, run.Run)
		}
		own, err := b.command("id", "-G").Output()
		must(err)
		var said string
		b.eventually("it has said everything", func() bool {
			said = b.logs("by-http").stdout
			return strings.Contains(said, "USER=") && strings.Contains(said, "XDG_")
		})
		for _, want := range []string{b.user.Uid + "\n" + string(own), "CapEff:\t0000000000000000\n" + b.user.HomeDir + "\n", "\nGREETING=hi\n",
			"\nHOME=" + b.user.HomeDir + "\n", "\nLICTOR_ANALYSIS_ID=by-http\n", "\nUSER=" + b.user.Username + "\n"} {
			if !strings.Contains("\n"+said, want) {
				b.Errorf("no %q in what it said: %s", want, said)
			}
		}
		for _, no := range []string{"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "LICTOR_STATE_DIR"} {
			if strings.Contains(said, no) {
				b.Errorf("%s in what it said: %s", no, said)
			}
		}
		if r := b.lictor("stop", "by-http"); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		b.wantRun(b.ended(scope.RunID(run.Run)), events.StateKilled, events.ReasonStop, b.me())

		_, eats := b.post(`{"command":["tail","/dev/zero"],"limits":{"memory_max":12582912}}`, "")
		b.wantRun(b.ended(scope.RunID(eats.Run)), events.StateKilled, events.ReasonOOM, "kernel")
		for body, want := range map[string]int{
			`{"command":["/no/such/command"]}`:                             http.StatusUnprocessableEntity,
			`{"command":["true"],"limits":{"memory_max":"lots"}}`:          http.StatusBadRequest,
			`{"command":["true"],"limits":{"colour":"red"}}`:               http.StatusBadRequest,
			`{"command":["true"],"cwd":"/no/such/directory"}`:              http.StatusUnprocessableEntity,
			`{"command":["true"],"env":{"A=B":"c"}}`:                       http.StatusBadRequest,
			`{"command":["true"],"properties":["ExecStartPre=/bin/true"]}`: http.StatusBadRequest,
		} {
			if got, _ := b.post(body, ""); got != want {
				b.Errorf("%s: %d, want %d", body, got, want)
			}
		}
	})
}
