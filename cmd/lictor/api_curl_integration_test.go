//go:build integration

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// curled is a request as one types it: curl with these arguments, the last of them the path. RUN, OTHER and PID are replaced by a live
// run of the caller, one of somebody else, and a process of the caller.
type curled struct {
	args   string
	body   string
	status int
	kind   string   // the content type
	want   []string // in the answer
}

const (
	asJSON    = "application/json"
	asProblem = "application/problem+json"
)

// curlSession asks for everything that there is, rightly and wrongly, one after the other.
var curlSession = []curled{
	{"/healthz", "", 200, asJSON, []string{`{"status":"ok"}`}},
	{"/readyz", "", 200, asJSON, []string{`{"status":"ready"}`}},
	{"/openapi.json", "", 200, asJSON, []string{`"openapi":"3.1.0"`, `"/api/v1/runs/{run}/stop"`}},
	{"/metrics", "", 200, "text/plain", []string{"\nlictor_runs{", "\nlictor_build_info{"}},
	{"-I /healthz", "", 200, asJSON, nil},
	{"/api", "", 404, asProblem, []string{"no such resource: GET /api", "/openapi.json"}},
	{"/api/v1/nothing", "", 404, asProblem, []string{`"status":404`}},
	{"-X DELETE /api/v1/runs/RUN", "", 404, asProblem, []string{"DELETE"}},
	{"-X POST /healthz", "", 404, asProblem, nil},
	{"--path-as-is /api/v1/../../etc/passwd", "", 307, "text/html", []string{`"/etc/passwd"`}}, // net/http cleans paths
	{"/etc/passwd", "", 404, asProblem, nil},

	{"/api/quests/status", "", 200, asJSON, []string{`{"watchdog":{"monitored_count":1,"grace_count":0,"kills_last_24h":0,"recent_events":[{`}},
	{"/api/v1/summary", "", 200, asJSON, []string{`{`}},
	{"/api/v1/live", "", 200, asJSON, []string{`"run":"RUN"`}},
	{"/api/v1/kills", "", 200, asJSON, []string{`{"kills":0}`}},
	{"/api/v1/kills?since=2026-11-24T00:00:00Z", "", 200, asJSON, []string{`{"kills":`}},
	{"/api/v1/kills?since=yesterday", "", 400, asProblem, []string{`since \"yesterday\"`}},

	{"/api/v1/runs", "", 200, asJSON, []string{`[{"api":"lictor/v1","run":"RUN"`}},
	{"/api/v1/runs?live=true&state=starting&state=running&analysis_id=by-curl&limit=1", "", 200, asJSON, []string{`"run":"RUN"`}},
	{"/api/v1/runs?count=true", "", 200, asJSON, []string{`{"runs":1}`}},
	{"/api/v1/runs?state=lost", "", 200, asJSON, []string{`[]`}},
	{"/api/v1/runs?live=maybe", "", 400, asProblem, []string{`live \"maybe\"`}},
	{"/api/v1/runs?limit=-1", "", 400, asProblem, []string{"limit"}},
	{"/api/v1/runs?command=[", "", 400, asProblem, []string{"command"}},
	{"/api/v1/runs/RUN", "", 200, asJSON, []string{`"run":"RUN"`, `"analysis_id":"by-curl"`, `"ended_at":null`, `"memory_max_bytes":67108864`}},
	{"/api/v1/runs/OTHER", "", 404, asProblem, []string{"no such run"}},
	{"/api/v1/runs/nonsense", "", 404, asProblem, []string{`"hint":"lictor ps -a`}},
	{"/api/v1/runs/RUN/processes", "", 200, asJSON, []string{`"comm":"sleep"`}},
	{"/api/v1/runs/OTHER/processes", "", 404, asProblem, nil},
	{"/api/v1/resolve?name=by-curl", "", 200, asJSON, []string{`"run":"RUN"`}},
	{"/api/v1/resolve?name=of-bob", "", 404, asProblem, nil},
	{"/api/v1/resolve", "", 404, asProblem, nil},

	{"/api/v1/events?last=1", "", 200, asJSON, []string{`"run":"RUN"`, `"cursor":`}},
	{"/api/v1/events?run=OTHER", "", 200, asJSON, []string{`"events":null`}},
	{"/api/v1/events?after=x", "", 400, asProblem, []string{"after"}},
	{"-H Accept:text/event-stream -H Last-Event-ID:x /api/v1/events", "", 400, asProblem, []string{"not the id of an event"}},

	{"/api/v1/runs", `{"command":["sleep","601"],"analysis_id":"posted"}`, 201, asJSON, []string{`"command":["sleep","601"]`, `"analysis_id":"posted"`}},
	{"-H Idempotency-Key:4711 /api/v1/runs", `{"command":["sleep","602"],"analysis_id":"twice"}`, 201, asJSON, []string{`"analysis_id":"twice"`}},
	{"-H Idempotency-Key:4711 /api/v1/runs", `{"command":["sleep","602"],"analysis_id":"twice"}`, 200, asJSON, []string{`"analysis_id":"twice"`}},
	{"/api/v1/runs", `{"command":[]}`, 400, asProblem, []string{"command: empty"}},
	{"/api/v1/runs", `{"command":["true"],"uid":0}`, 400, asProblem, []string{"unknown field"}},
	{"/api/v1/runs", `{"command":["true"]} and more`, 400, asProblem, []string{"body: "}},
	{"/api/v1/runs", `{"command":["true"],"limits":{"memory_max":"lots"}}`, 400, asProblem, []string{"memory"}},
	{"/api/v1/runs", `{"command":["/no/such/command"]}`, 422, asProblem, []string{`"exit_code":127`}},
	{"-H Transfer-Encoding:chunked /api/v1/runs", `{"command":["true"]`, 400, asProblem, []string{"unexpected EOF"}},

	{"-X PATCH /api/v1/runs/RUN", `{"set":["MemoryMax=96M"]}`, 200, asJSON, []string{"{}"}},
	{"-X PATCH /api/v1/runs/RUN", `{"set":["ExecStart=/bin/sh"]}`, 400, asProblem, []string{"ExecStart"}},
	{"-X PATCH /api/v1/runs/OTHER", `{"set":["MemoryMax=96M"]}`, 404, asProblem, nil},
	{"/api/v1/live", "", 200, asJSON, []string{"100663296"}},
	{"/api/v1/events?run=RUN&kind=limit-changed", "", 200, asJSON, []string{`"kind":"limit-changed"`, "100663296"}},
	{"-N -m 3 -H Accept:text/event-stream -H Last-Event-ID:1 /api/v1/events?run=RUN&kind=limit-changed", "", 200, "text/event-stream",
		[]string{"retry: 1000\n", "\nid: ", "\nevent: limit-changed\n", "\ndata: {"}},
	{"/api/v1/runs/RUN/kill", `{"signal":"SIGWINCH"}`, 200, asJSON, []string{"{}"}},
	{"/api/v1/runs/RUN/kill", `{"signal":"SIGNONSENSE"}`, 400, asProblem, []string{"SIGNONSENSE"}},
	{"/api/v1/runs/OTHER/kill", `{"signal":"SIGKILL"}`, 404, asProblem, nil},
	{"/api/v1/runs/RUN/stop", `{"grace":1}`, 400, asProblem, []string{"unknown field"}},
	{"/api/v1/runs/OTHER/stop", `{}`, 404, asProblem, nil},
	{"/api/v1/runs/OTHER/release", `{}`, 404, asProblem, nil},
	{"/api/v1/runs/adopt", `{"pid":1,"run":{"run":"aaaaaaaaaaaa","command":["sleep","600"],"limits":{"memory_max_bytes":1073741824,"grace_seconds":10,"oom_policy":"kill"}}}`, 403, asProblem, nil},
	{"/api/v1/runs/adopt", `{"pid":PID,"run":{"run":"aaaaaaaaaaaa","command":["sleep","600"],"analysis_id":"adopted","limits":{"memory_max_bytes":1073741824,"memory_swap_max_bytes":0,"grace_seconds":10,"oom_policy":"kill"}}}`,
		200, asJSON, []string{`"run":"aaaaaaaaaaaa"`, `"leader_pid":PID`}},
	{"/api/v1/runs/aaaaaaaaaaaa/release", `{}`, 200, asJSON, []string{"{}"}},
	{"/api/v1/keep", `{}`, 426, asProblem, []string{"lictor-keep/1"}},

	{"-X POST /api/v1/login", "", 503, asProblem, []string{"does not listen on TCP"}},
	{"/api/v1/tokens", "", 503, asProblem, []string{"does not listen on TCP"}},
	{"/api/v1/tokens", `{"name":"x"}`, 503, asProblem, []string{"does not listen on TCP"}},
	{"/api/v1/tokens", `{"valid_seconds":-1}`, 400, asProblem, []string{"valid_seconds"}},
	{"-X DELETE /api/v1/tokens/ID", "", 503, asProblem, []string{"does not listen on TCP"}},

	{"/api/v1/runs/RUN/stop", `{"grace_seconds":5}`, 200, asJSON, []string{"{}"}},
	{"/api/v1/runs/RUN/stop", `{}`, 409, asProblem, nil},
	{"/api/v1/runs/RUN", "", 200, asJSON, []string{`"state":"killed"`, `"reason":"stop"`}},
}

// method is the one of a request.
func (c *curled) method() string {
	if _, rest, ok := strings.Cut(c.args, "-X "); ok {
		method, _, _ := strings.Cut(rest, " ")
		return method
	}
	if c.body != "" {
		return "POST"
	}
	return "GET"
}

// curl asks as the user of the bed.
func (b *bed) curl(c curled) (status int, kind, text string) {
	b.Helper()
	args := strings.Fields(c.args)
	args[len(args)-1] = "http://lictor" + args[len(args)-1]
	args = append([]string{"-sS", "-g", "--unix-socket", client.Path, "-w", "\n%{http_code} %{content_type}"}, args...)
	if c.body != "" {
		args = append(args, "-d", c.body)
	}
	out, err := b.command("curl", args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 28 || !slices.Contains(args, "-m")) { // 28: its time is over
		b.Fatalf("curl %q: %v", args, err)
	}
	text = string(out)
	i := strings.LastIndexByte(text, '\n')
	code, kind, _ := strings.Cut(text[i+1:], " ")
	status, err = strconv.Atoi(code)
	must(err)
	kind, _, _ = strings.Cut(kind, ";")
	return status, kind, text[:i]
}

// TestAPICurl: what programs and people ask for with curl, rightly and wrongly: status, content type and what must be in the answer. Every
// resource of the description is asked for.
func TestAPICurl(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		p := b.start("run", "--analysis-id", "by-curl", "-m", "64M", "--", "sleep", "600")
		id := b.live()
		bob := newUserBed(b.T, ModeSystem, "bob")
		bob.host = b.host
		q := bob.start("run", "--analysis-id", "of-bob", "--", "sleep", "600")
		var other string
		b.eventually("bob's run is alive", func() bool {
			other = string(b.alive()["of-bob"])
			return other != ""
		})
		task := b.command("sleep", "600")
		must(task.Start())
		defer func() { _ = task.Process.Kill(); _ = task.Wait() }()
		names := strings.NewReplacer("RUN", string(id), "OTHER", other, "PID", strconv.Itoa(task.Process.Pid))

		asked := map[string]bool{}
		for _, c := range curlSession {
			path, _, _ := strings.Cut(c.args[strings.LastIndexByte(c.args, ' ')+1:], "?")
			asked[c.method()+" "+strings.NewReplacer("RUN", "{run}", "aaaaaaaaaaaa", "{run}", "ID", "{id}").Replace(path)] = true
			c.args, c.body = names.Replace(c.args), names.Replace(c.body)
			what := fmt.Sprintf("curl %s -d '%s'", c.args, c.body)
			status, kind, text := b.curl(c)
			if status != c.status || kind != c.kind {
				b.Errorf("%s: %d %s, want %d %s: %.500s", what, status, kind, c.status, c.kind, text)
			}
			for _, want := range c.want {
				if want = names.Replace(want); !strings.Contains("\n"+text, want) {
					b.Errorf("%s: no %q in %.1000s", what, want, text)
				}
			}
			if kind == asProblem {
				var p client.Problem
				if err := json.Unmarshal([]byte(text), &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" {
					b.Errorf("%s: %v, %+v", what, err, p)
				}
			}
			if strings.Contains(text, other) && !strings.Contains(c.args, other) {
				b.Errorf("%s tells of bob's run: %s", what, text)
			}
		}
		var doc struct{ Paths map[string]map[string]any }
		must(json.Unmarshal([]byte(b.get("/openapi.json")), &doc))
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			for method := range doc.Paths[path] {
				if what := strings.ToUpper(method) + " " + path; !asked[what] {
					b.Errorf("nobody asked for %s", what)
				}
			}
		}

		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, b.me())
		for _, name := range []string{"posted", "twice"} {
			if r := b.lictor("stop", name); r.code != 0 {
				b.Errorf("stop %s: %+v", name, r)
			}
		}
		if r := bob.lictor("stop", "of-bob"); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		bob.finishCommand(q)
	})
}
