//go:build integration

package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// curlSession asks in the words of testdata/api, see there.
type curlSession struct {
	bed   *bed
	names *strings.Replacer // what differs in each test to what stands for it in the description
	other string
	asked map[string]bool // method and path
}

// curl asks as the user of the bed, and looks at the status and the content type.
func (c *curlSession) curl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: curl STATUS[:TYPE] ARGUMENT…")
	}
	wanted, kind, ok := strings.Cut(args[0], ":")
	if !ok {
		kind = "application/json"
		if wanted >= "400" {
			kind = "application/problem+json"
		}
	}
	method, line := "GET", []string{"--reuid", c.bed.user.Uid, "--regid", c.bed.user.Gid, "--init-groups", "curl", "-sS", "-g", "--unix-socket", client.Path, "-w", "\n%{http_code} %{content_type}"}
	path := ""
	for i, arg := range args[1:] {
		if strings.HasPrefix(arg, "/") {
			path, arg = arg, "http://lictor"+arg
		}
		switch line = append(line, arg); {
		case arg == "-d" && method == "GET":
			method = "POST"
		case arg == "-X":
			method = args[i+2]
		}
	}
	bare, _, _ := strings.Cut(path, "?")
	c.asked[method+" "+c.names.Replace(bare)] = true
	err := ts.Exec("setpriv", line...)
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 28 || !slices.Contains(args, "-m")) { // 28: its time is over
		ts.Fatalf("%v", err)
	}
	text := ts.ReadFile("stdout")
	i := strings.LastIndexByte(text, '\n')
	status, is, _ := strings.Cut(text[i+1:], " ")
	if is, _, _ = strings.Cut(is, ";"); status != wanted || is != kind {
		ts.Fatalf("%s %s, want %s %s", status, is, wanted, kind)
	}
	if kind == "application/problem+json" {
		var p client.Problem
		if err := json.Unmarshal([]byte(text[:i]), &p); err != nil || strconv.Itoa(p.Status) != status || p.Title == "" || p.Detail == "" || p.Hint == "" {
			ts.Fatalf("%v, %+v", err, p)
		}
	}
	if strings.Contains(text, c.other) && !strings.Contains(path, c.other) {
		ts.Fatalf("it tells of somebody else's run")
	}
}

// says asserts that something is in the answer.
func (c *curlSession) says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: says TEXT")
	}
	if !strings.Contains(ts.ReadFile("stdout"), args[0]) {
		ts.Fatalf("it does not say %q", args[0])
	}
}

// TestAPICurl: the sessions in testdata/api. Every resource of the description is asked for.
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
		session := &curlSession{bed: b, other: other, asked: map[string]bool{},
			names: strings.NewReplacer(string(id), "{run}", other, "{run}", "aaaaaaaaaaaa", "{run}", "/ID", "/{id}")}
		b.Run("session", func(t *testing.T) { // it returns when the scripts, which are parallel tests, are through
			testscript.Run(t, testscript.Params{
				Dir:  filepath.Join(os.Getenv("LICTOR_REPO"), "cmd/lictor/testdata/api"),
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"curl": session.curl, "says": session.says},
				Setup: func(env *testscript.Env) error {
					env.Setenv("RUN", string(id))
					env.Setenv("OTHER", other)
					env.Setenv("PID", strconv.Itoa(task.Process.Pid))
					return nil
				},
			})
		})
		var doc struct{ Paths map[string]map[string]any }
		must(json.Unmarshal([]byte(b.get("/openapi.json")), &doc))
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			for method := range doc.Paths[path] {
				if what := strings.ToUpper(method) + " " + path; !session.asked[what] {
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
