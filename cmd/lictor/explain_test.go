package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// golden compares got with a file under testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update once)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// testApp returns an App that writes to the buffer, with a UTF-8 locale and a clock that stands.
func testApp(stdout *bytes.Buffer) *App {
	env := map[string]string{"LANG": "C.UTF-8"}
	return &App{
		Stdout: newOutput(stdout),
		Stderr: stdout,
		Getenv: func(name string) string { return env[name] },
		Now:    func() time.Time { return testNow },
		UID:    1000,
	}
}

var (
	testNow   = time.Date(2026, 11, 23, 15, 10, 0, 0, time.UTC)
	testStart = time.Date(2026, 11, 23, 15, 3, 4, 0, time.UTC)
)

const gib = 1 << 30

// sampleRun is a run that ended after 97.2 s, under default limits; change makes it the one of a test.
func sampleRun(change func(*events.Run)) *events.Run {
	end := testStart.Add(97200 * time.Millisecond)
	r := &events.Run{
		Run: "7f3k7m1d2c5h", AnalysisID: "embed-all", Unit: "lictor-7f3k7m1d2c5h.scope", Manager: "system", UID: 1000,
		Command: []string{"python", "embed.py", "--all"}, LeaderPID: new(48213), State: events.StateKilled,
		Limits: events.Limits{MemoryMaxBytes: new(uint64(2 * gib)), MemorySwapMaxBytes: new(uint64(0)),
			RuntimeMaxSeconds: new(1800.0), GraceSeconds: 10, OOMPolicy: "kill",
			Default: []string{"MemoryMax", "MemorySwapMax", "RuntimeMaxSec", "TimeoutStopSec"}},
		Usage: events.Usage{MemoryPeakBytes: new(uint64(1200 << 20)), CPUSeconds: new(95.1), WallSeconds: new(97.2),
			TasksPeak: new(uint64(5))},
		StartedAt: testStart, EndedAt: &end,
	}
	change(r)
	return r
}

func exited(code int) *events.Exit {
	return &events.Exit{Kind: events.ExitExited, Code: &code}
}

func signaled(name string) *events.Exit {
	return &events.Exit{Kind: events.ExitSignaled, Signal: &name}
}

// proof is a source that was read.
func proof(name, values string) events.Evidence {
	return events.Evidence{Source: name, Read: true, Values: json.RawMessage(values)}
}

// steps is an escalation: names and the seconds after the start at which they were taken.
func steps(by string, at ...any) []events.Step {
	var out []events.Step
	for i := 0; i < len(at); i += 2 {
		when := testStart.Add(time.Duration(at[i+1].(float64) * float64(time.Second)))
		step := events.Step{Step: at[i].(string), At: when}
		if step.Step != "empty" && step.Step != "survived" {
			step.By = by
		}
		out = append(out, step)
	}
	return out
}

// happened is an event of the sample run, so many seconds after its start.
func happened(kind events.Kind, after float64, detail string) events.Event {
	return events.Event{Run: "7f3k7m1d2c5h", Kind: kind, At: testStart.Add(time.Duration(after * float64(time.Second))),
		Detail: json.RawMessage(detail)}
}

func doneRun(peak uint64, wall float64) *events.Run {
	return sampleRun(func(r *events.Run) {
		r.State, r.Usage.MemoryPeakBytes, r.Usage.WallSeconds = events.StateDone, &peak, &wall
	})
}

// explainTests are stories with a name each; the golden file of that name has what a person reads.
var explainTests = []struct {
	name    string
	run     func(*events.Run)
	live    *Live
	history []*events.Run
	events  []events.Event
}{
	{
		name:    "oom",
		history: []*events.Run{doneRun(18*gib/10, 90), doneRun(19*gib/10, 91), doneRun(2*gib-1<<20, 96)},
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOM, "own", 1)
			r.Usage.MemoryPeakBytes = new(uint64(2*gib - 4096))
			r.OOM.GroupKills = 1
			r.Evidence = append(r.Evidence, proof("host", `{"MemTotal":24696061952,"MemAvailable":13314398617}`),
				proof("lictor.slice", `{"memory.current":3328599654,"memory.max":19327352832}`))
			for pid := range 4 {
				r.Victims = append(r.Victims, events.Victim{PID: 48214 + pid, Comm: "python", Source: "kernel-log"})
			}
		},
	},
	{
		name: "oom-without-kernel-log",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOM, "own", 1)
			r.Limits.Default = nil
			r.Limits.TasksMax = new(uint64(512))
			r.Victims = nil
			r.Evidence = append(r.Evidence, events.Evidence{Source: "kernel-log", Why: "needs CAP_SYSLOG"})
		},
	},
	{
		name: "oom-policy-continue",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOM, "own", 2)
			r.Limits.OOMPolicy = "continue"
			r.Limits.MemorySwapMaxBytes = nil
			r.Victims = append(r.Victims, events.Victim{PID: 48300, Comm: "worker", Source: "kernel-log"})
		},
		history: []*events.Run{doneRun(5*gib, 100)},
	},
	{
		name: "oom-ancestor",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOMAncestor, "ancestor", 0)
			r.Evidence = append(r.Evidence, proof("ancestors", `{"oom":{"/lictor.slice":2,"/":0}}`))
		},
	},
	{
		name: "oom-ancestor-user",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOMAncestor, "ancestor", 0)
			r.Manager = "user"
		},
	},
	{name: "oom-host", run: func(r *events.Run) { oomRun(r, events.ReasonOOMHost, "host", 0) }},
	{
		name: "oom-unknown",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOMUnknown, "unknown", 0)
			r.Victims = nil
			r.Evidence = append(r.Evidence, proof("unit", `{"Result":"oom-kill"}`),
				events.Evidence{Source: "kernel-log", Why: "needs CAP_SYSLOG"}, events.Evidence{Source: "ancestors"})
		},
	},
	{name: "oomd", run: func(r *events.Run) { r.Reason, r.By, r.Exit = events.ReasonOomd, "systemd-oomd", signaled("SIGKILL") }},
	{
		name: "timeout-obeyed",
		run: func(r *events.Run) {
			timeoutRun(r, steps("systemd", "term", 1800.0, "empty", 1802.1))
		},
		history: []*events.Run{doneRun(gib, 1200), doneRun(gib, 1700)},
	},
	{
		name: "timeout-ignored",
		run: func(r *events.Run) {
			timeoutRun(r, steps("lictor", "term", 1800.0, "kill", 1810.0, "kill", 1811.0, "empty", 1811.02))
			r.Limits.Default = nil
		},
		history: []*events.Run{doneRun(gib, 7200)},
	},
	{
		name: "timeout-survived",
		run: func(r *events.Run) {
			timeoutRun(r, steps("lictor", "term", 1800.0, "kill", 1810.0, "survived", 1825.0, "empty", 2000.0))
			r.Survivors = []events.Process{{PID: 48220, Comm: "dd", State: "D", WChan: "io_schedule"}}
		},
	},
	{
		name: "survives",
		run: func(r *events.Run) {
			r.State, r.Reason, r.EndedAt = events.StateGrace, events.ReasonTimeout, nil
			r.Survivors = []events.Process{{PID: 48220, Comm: "dd", State: "D"}, {PID: 48221, Comm: "sync", State: "D", WChan: "io_schedule"}}
		},
		events: []events.Event{happened(events.KindSurvived, 1825, `{"processes":[{"pid":48220,"comm":"dd","state":"D"}],"kills":5}`)},
	},
	{
		name:   "timeout-then-oom",
		run:    func(r *events.Run) { timeoutRun(r, nil); r.OOM = events.OOM{Kills: 1, WhoseLimit: "own"} },
		events: []events.Event{happened(events.KindOOM, 1803, `{"kills":1,"whose_limit":"own","terminal":true,"victims":[{"pid":48213,"comm":"python"}]}`)},
	},
	{
		name: "stop-by-user",
		run: func(r *events.Run) {
			r.Reason, r.By, r.Exit = events.ReasonStop, "uid 1000", signaled("SIGTERM")
			r.Escalation = steps("uid 1000", "term", 96.0, "empty", 97.2)
		},
	},
	{name: "stop-by-terminal", run: func(r *events.Run) { r.Reason, r.By, r.Exit = events.ReasonStop, "terminal", signaled("SIGINT") }},
	{name: "stop-by-systemd", run: func(r *events.Run) { r.Reason, r.By, r.Exit = events.ReasonStop, "systemd", signaled("SIGTERM") }},
	{
		name: "abandoned",
		run: func(r *events.Run) {
			r.Reason, r.By, r.Exit = events.ReasonAbandoned, "lictor", &events.Exit{Kind: events.ExitUnknown}
			r.Escalation = steps("lictor", "term", 97.0, "empty", 97.2)
			r.Limits.Default = []string{"MemorySwapMax"}
		},
	},
	{name: "orphan", run: func(r *events.Run) { r.Reason, r.By = events.ReasonOrphan, "lictor" }},
	{
		name: "signal-unknown",
		run: func(r *events.Run) {
			r.Reason, r.By, r.Exit = events.ReasonSignal, "unknown", signaled("SIGKILL")
			r.Evidence = []events.Evidence{proof("ledger", `{"memory.events":{"oom_kill":0}}`), proof("wait-status", `{}`),
				proof("unit", `{"Result":"success"}`), {Source: "kernel-log", Why: "needs CAP_SYSLOG"}}
		},
	},
	{name: "signal-known", run: func(r *events.Run) { r.Reason, r.By, r.Exit = events.ReasonSignal, "uid 1000", signaled("SIGUSR1") }},
	{name: "killed-without-reason", run: func(*events.Run) {}},
	{
		name: "start-failed",
		run: func(r *events.Run) {
			r.State, r.Reason, r.Usage = events.StateFailed, events.ReasonStartFailed, events.Usage{}
			r.Evidence = []events.Evidence{{Source: "systemd", Why: `scope "lictor-7f3k7m1d2c5h.scope": start job: failed`}}
		},
	},
	{
		name: "start-failed-not-found",
		run: func(r *events.Run) {
			r.State, r.Reason, r.Exit, r.AnalysisID = events.StateFailed, events.ReasonStartFailed, exited(127), ""
			r.Usage = events.Usage{}
		},
	},
	{name: "done", run: func(r *events.Run) { r.State, r.Exit = events.StateDone, exited(0) }, history: []*events.Run{doneRun(gib, 1)}},
	{
		name: "done-with-oom",
		run: func(r *events.Run) {
			r.State, r.Exit, r.OOM = events.StateDone, exited(0), events.OOM{Kills: 1, WhoseLimit: "own"}
		},
		events: []events.Event{happened(events.KindOOM, 12, `{"kills":1,"whose_limit":"own","victims":[{"pid":48250,"comm":"worker","rss_anon_bytes":943718400}]}`)},
	},
	{
		name: "done-with-left-overs",
		run: func(r *events.Run) {
			r.State, r.Exit, r.Name, r.AnalysisID = events.StateDone, exited(0), "nightly", ""
		},
		events: []events.Event{
			happened(events.KindTasksLimit, 3, `{}`), happened(events.KindLimitChanged, 4, ``), happened(events.KindEscaped, 5, `{}`),
			happened(events.KindKeeperChanged, 6, `{}`),
			happened(events.KindOrphans, 97.5, `{"processes":[{"pid":1,"comm":"a"},{"pid":2},{"pid":3,"cmdline":["c","d"]},{"pid":4},{"pid":5}]}`),
		},
	},
	{name: "failed", run: func(r *events.Run) { r.State, r.Exit = events.StateFailed, exited(3) }},
	{name: "failed-crash", run: func(r *events.Run) { r.State, r.Exit = events.StateFailed, signaled("SIGSEGV") }},
	{name: "failed-oom-before", run: func(r *events.Run) {
		r.State, r.Exit, r.OOM = events.StateFailed, exited(1), events.OOM{Kills: 2, WhoseLimit: "own"}
	}},
	{
		name: "lost",
		run: func(r *events.Run) {
			r.State, r.EndedAt, r.Usage = events.StateLost, nil, events.Usage{}
			r.Evidence = []events.Evidence{{Source: "ledger", Why: "the host was restarted"}}
		},
	},
	{
		name: "running",
		run:  live(events.StateRunning),
		live: &Live{Run: "7f3k7m1d2c5h", State: events.StateRunning, MemoryPeak: new(uint64(gib))},
	},
	{
		name: "running-without-limit",
		run: func(r *events.Run) {
			live(events.StateRunning)(r)
			r.Limits = events.Limits{GraceSeconds: 10}
		},
	},
	{name: "starting", run: live(events.StateStarting)},
	{
		name:   "grace",
		run:    live(events.StateRunning),
		events: []events.Event{{Run: "7f3k7m1d2c5h", Kind: events.KindIntent, Reason: events.ReasonTimeout, At: testNow}},
	},
	{
		name: "hostile",
		run: func(r *events.Run) {
			oomRun(r, events.ReasonOOM, "own", 1)
			r.AnalysisID = "x\x1b[2J\x1b]0;owned\a"
			r.Command = []string{"rm\u202e", "it's", "a\nb", "", "$(id)", "\xff"}
			r.Victims[0].Comm = "\x1b[31mred"
		},
	},
}

func oomRun(r *events.Run, reason events.Reason, whose string, oom int) {
	r.Reason, r.By, r.Exit = reason, "kernel", signaled("SIGKILL")
	r.OOM = events.OOM{Kills: 1, WhoseLimit: whose}
	r.Victims = []events.Victim{{PID: 48213, Comm: "python", RSSAnonBytes: new(uint64(2072317952)), Source: "kernel-log"}}
	r.Evidence = []events.Evidence{proof("ledger", `{"memory.events":{"oom":`+string(rune('0'+oom))+`,"oom_kill":1}}`)}
}

func timeoutRun(r *events.Run, escalation []events.Step) {
	end := testStart.Add(1802 * time.Second)
	r.Reason, r.By, r.Exit, r.Escalation = events.ReasonTimeout, "systemd", signaled("SIGTERM"), escalation
	r.EndedAt, r.Usage.WallSeconds = &end, new(1802.0)
}

func live(s events.State) func(*events.Run) {
	return func(r *events.Run) { r.State, r.EndedAt, r.Usage = s, nil, events.Usage{} }
}

func TestExplain(t *testing.T) {
	for _, tt := range explainTests {
		t.Run(tt.name, func(t *testing.T) {
			run := sampleRun(tt.run)
			s := story{listed: join(run, tt.live, tt.events), history: tt.history, events: tt.events, now: testNow}
			var stdout bytes.Buffer
			testApp(&stdout).printExplanation(explain(s))
			golden(t, "explain/"+tt.name+".golden", stdout.String())
		})
	}
}

// Every reason and every state has its words.
func TestExplainCoversTheVocabulary(t *testing.T) {
	for _, reason := range events.Reasons {
		run := sampleRun(func(r *events.Run) { r.Reason = reason })
		head := explain(story{listed: join(run, nil, nil), now: testNow}).Headline
		if strings.Contains(head, string(reason)+".") && reason != events.ReasonStartFailed { // that one is a failure
			t.Errorf("reason %q has no words: %s", reason, head)
		}
	}
}

// What is advised today knows the history; the advice on record stands in where nothing is.
func TestExplainAdvice(t *testing.T) {
	for _, tt := range []struct {
		reason events.Reason
		want   string
	}{{events.ReasonOOM, "lictor run -m 3G -- python embed.py --all"}, {"plague", "lictor run -m 7G"}} {
		run := sampleRun(func(r *events.Run) {
			r.Reason = tt.reason
			r.Advice = &events.Advice{Code: "raise-memory", Command: []string{"lictor", "run", "-m", "7G"}}
		})
		x := explain(story{listed: join(run, nil, nil), now: testNow})
		if last := x.Rows[len(x.Rows)-1]; last.Text != tt.want {
			t.Errorf("%s: next is %q, want %q", tt.reason, last.Text, tt.want)
		}
	}
}

func FuzzExplain(f *testing.F) {
	for _, tt := range explainTests {
		b, err := json.Marshal(sampleRun(tt.run))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		run := new(events.Run)
		if json.Unmarshal(record, run) != nil {
			return
		}
		var stdout bytes.Buffer
		testApp(&stdout).printExplanation(explain(story{listed: join(run, nil, nil), history: []*events.Run{run}, now: testNow}))
		for _, r := range stdout.String() {
			if r != '\n' && dangerous(r) {
				t.Fatalf("%q is not inert", stdout.String())
			}
		}
	})
}
