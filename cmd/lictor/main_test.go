package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

var update = flag.Bool("update", false, "rewrite golden files and the expected output in scripts")

// TestMain makes this binary stand in for lictor in the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lictor": func() { os.Exit(run(scriptApp(), os.Args[1:])) },
	})
}

// scriptApp is the App of the scripts: nothing is real but the store and the streams. The clock stands at $TEST_NOW, or
// begins there if $TEST_CLOCK is "runs"; live scopes, their processes and the machine are those in the files $TEST_LIVE,
// $TEST_PROCESSES, $TEST_BOX and $TEST_PROBE.
func scriptApp() *App {
	app := newApp()
	app.UID = 1000
	app.EtcDir = os.Getenv("WORK") + "/etc"
	app.Settle = nil
	now, err := time.Parse(time.RFC3339, os.Getenv("TEST_NOW"))
	if err != nil {
		panic(err)
	}
	app.Now = func() time.Time { return now }
	if os.Getenv("TEST_CLOCK") == "runs" {
		started := time.Now()
		app.Now = func() time.Time { return now.Add(time.Since(started)) }
	}
	app.Scopes = scriptScopes(os.Getenv("TEST_LIVE"))
	app.Processes = scriptProcesses(os.Getenv("TEST_PROCESSES"))
	app.Box = func(context.Context, *App) (b box) { return readJSON[box](os.Getenv("TEST_BOX")) }
	app.Probe = func(context.Context, *App) probe { return readJSON[probe](os.Getenv("TEST_PROBE")) }
	return app
}

// readJSON reads a file that a variable of the script names; without one it returns nothing.
func readJSON[T any](path string) (v T) {
	if path == "" {
		return v
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		panic(err)
	}
	return v
}

// scriptProcesses is a processTable: a JSON file with a list of processes.
type scriptProcesses string

func (path scriptProcesses) Describe(_ context.Context, pids []int) []events.Process {
	var list []events.Process
	for _, pid := range pids {
		p := events.Process{PID: pid}
		for _, known := range readJSON[[]events.Process](string(path)) {
			if known.PID == pid {
				p = known
			}
		}
		list = append(list, p)
	}
	return list
}

// scriptScopes is a liveSource: a JSON file with a list of Live. Without a file nothing is known.
type scriptScopes string

func (path scriptScopes) Live(context.Context, Mode) ([]Live, error) {
	if path == "" {
		return nil, nil
	}
	var live []Live
	b, err := os.ReadFile(string(path))
	if err == nil {
		err = json.Unmarshal(b, &live)
	}
	return live, err
}

func TestScripts(t *testing.T) {
	fixtures, err := filepath.Abs("testdata/fixture")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FIXTURE", fixtures)
			env.Setenv("DEPLOY", filepath.Join(fixtures, "../../../../deploy"))
			env.Setenv("DESTDIR", env.WorkDir+"/root")
			env.Setenv("LICTOR_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("TEST_NOW", "2026-11-23T15:10:00Z")
			env.Setenv("TZ", "UTC")
			env.Setenv("LANG", "C.UTF-8")
			env.Setenv("ESCAPE", "\x1b[31mx")
			if strings.HasSuffix(env.WorkDir, "script-db") {
				server := eventstest.StartPostgres(t, nil)
				env.Setenv("DATABASE", server.URL(server.Empty(t)))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"store": loadFixtures},
	})
}

// fixture is a file of runs and events, as lictor/v1 writes them.
type fixture struct {
	Runs   []*events.Run  `json:"runs"`
	Events []events.Event `json:"events"`
}

func readFixture(path string) (f fixture, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	type fact struct {
		run  events.RunID
		kind events.Kind
	}
	ordinals := map[fact]int{} // not part of the JSON
	for i := range f.Events {
		e := &f.Events[i]
		of := fact{e.Run, e.Kind}
		e.Ordinal = ordinals[of]
		e.ID = events.EventID(e.Run, e.Kind, e.Ordinal)
		ordinals[of]++
	}
	return f, err
}

// loadFixtures is the script command `store FILE…`: it fills the store with the runs and events in the files.
func loadFixtures(ts *testscript.TestScript, neg bool, files []string) {
	if neg || len(files) == 0 {
		ts.Fatalf("usage: store FILE...")
	}
	ctx := context.Background()
	s, err := events.OpenSQLite(ctx, filepath.Join(ts.Getenv("LICTOR_STATE_DIR"), "lictor.db"), migrations.SQLite)
	ts.Check(err)
	defer s.Close()
	for _, file := range files {
		f, err := readFixture(ts.MkAbs(file))
		ts.Check(err)
		for _, r := range f.Runs {
			ts.Check(storeRun(ctx, s, r))
		}
		ts.Check(s.Append(ctx, f.Events...))
	}
}

func storeRun(ctx context.Context, s events.Store, r *events.Run) error {
	if r.State.Final() {
		return s.End(ctx, r)
	}
	return s.Begin(ctx, r)
}
