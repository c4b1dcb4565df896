package scope

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("x", MaxAnalysisID)
	tests := []struct {
		name   string
		change func(*Spec)
		field  string // what is wrong; "" is nothing
	}{
		{"defaults", func(*Spec) {}, ""},
		{"no limits", func(s *Spec) { s.MemoryMax, s.TasksMax, s.RuntimeMax = NoLimit, NoLimit, -1 }, ""},
		{"largest", func(s *Spec) { s.RuntimeMax, s.Grace, s.AnalysisID = maxDuration, maxDuration, long }, ""},
		{"smallest", func(s *Spec) {
			s.MemoryMax, s.RuntimeMax, s.Grace, s.CPUQuota = 1<<20, time.Millisecond, time.Millisecond, 1e-6
		}, ""},
		{"text", func(s *Spec) { s.AnalysisID = "Größe 7 🙂 \"quoted\" $(x)" }, ""},
		{"no command", func(s *Spec) { s.Args = nil }, "command"},
		{"empty command", func(s *Spec) { s.Args = []string{"", "x"} }, "command"},
		{"foreign run id", func(s *Spec) { s.Run = "../../../etc" }, "run id"},
		{"memory", func(s *Spec) { s.MemoryMax = 1<<20 - 1 }, "MemoryMax"},
		{"memory high", func(s *Spec) { s.MemoryHigh = 1 }, "MemoryHigh"},
		{"negative quota", func(s *Spec) { s.CPUQuota = -0.5 }, "CPUQuota"},
		{"quota that rounds to none", func(s *Spec) { s.CPUQuota = 1e-9 }, "CPUQuota"},
		{"no number", func(s *Spec) { s.CPUQuota = math.NaN() }, "CPUQuota"},
		{"infinite quota", func(s *Spec) { s.CPUQuota = math.Inf(1) }, "CPUQuota"},
		{"short time", func(s *Spec) { s.RuntimeMax = time.Microsecond }, "RuntimeMaxSec"},
		{"time that overflows", func(s *Spec) { s.RuntimeMax = math.MaxInt64 }, "RuntimeMaxSec"},
		{"negative grace", func(s *Spec) { s.Grace = -1 }, "grace"},
		{"grace that rounds to none", func(s *Spec) { s.Grace = 1 }, "grace"},
		{"grace that overflows", func(s *Spec) { s.Grace = math.MaxInt64 }, "grace"},
		{"policy", func(s *Spec) { s.OOMPolicy = "stop" }, "OOMPolicy"},
		{"property", func(s *Spec) { s.Properties = []Property{property("Delegate", true)} }, "property"},
		{"long id", func(s *Spec) { s.AnalysisID = long + "x" }, "analysis id"},
		{"id with a line break", func(s *Spec) { s.AnalysisID = "a\nMESSAGE=b" }, "analysis id"},
		{"id with an escape", func(s *Spec) { s.AnalysisID = "a\x1b[2J" }, "analysis id"},
		{"id with a C1 control", func(s *Spec) { s.AnalysisID = "a\u009bJ" }, "analysis id"},
		{"id with a line separator", func(s *Spec) { s.AnalysisID = "a\u2028b" }, "analysis id"},
		{"id in no encoding", func(s *Spec) { s.AnalysisID = "\xff" }, "analysis id"},
		{"NUL in the command", func(s *Spec) { s.Args = []string{"a", "b\x00c"} }, "command"},
		{"NUL in the environment", func(s *Spec) { s.Env = []string{"SECRET=\x00"} }, "environment"},
		{"NUL in the directory", func(s *Spec) { s.Dir = "\x00" }, "directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Spec{Args: []string{"true"}}
			tt.change(&s)
			err := s.Validate()
			var spec *SpecError
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.field != "" && (!errors.As(err, &spec) || spec.Field != tt.field || spec.Want == ""):
				t.Errorf("got %v, want an error about %s", err, tt.field)
			case err != nil && strings.ContainsAny(err.Error(), "\n\x1b"):
				t.Errorf("the error is no line of text: %q", err)
			}
		})
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("id", "true", "", uint64(0), uint64(0), uint64(0), 0.0, int64(0), int64(0), "")
	f.Add("\n", "", "7", uint64(1), uint64(math.MaxUint64), uint64(1), -1.0, int64(-1), int64(math.MaxInt64), "kill")
	f.Fuzz(func(t *testing.T, id, arg, run string, memory, high, tasks uint64, quota float64, runtime, grace int64, policy string) {
		s := Spec{Run: RunID(run), AnalysisID: id, Args: []string{arg}, MemoryMax: memory, MemoryHigh: high, TasksMax: tasks,
			CPUQuota: quota, RuntimeMax: time.Duration(runtime), Grace: time.Duration(grace), OOMPolicy: OOMPolicy(policy)}
		if s.Validate() != nil {
			return
		}
		s = s.withDefaults()
		if s.MemoryMax < minMemoryMax || !s.Run.Valid() || s.Grace < time.Millisecond {
			t.Errorf("accepted: %+v", s)
		}
		if end := maxDuration/2 + s.RuntimeMax + s.Grace; s.RuntimeMax > 0 && end < s.RuntimeMax {
			t.Errorf("the deadline overflows: %+v", s)
		}
		for _, p := range properties(s, 1) {
			if n, ok := p.Value.Value().(uint64); ok && n == 0 && p.Name != "MemorySwapMax" {
				t.Errorf("%s is 0: %+v", p.Name, s)
			}
		}
	})
}

func TestEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "PGHOST=db", "PGPASSWORD=s3cret", "NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "MAINPID=1",
		"FDSTORE=1", "LISTEN_FDS=3", "LISTEN_PID=1", "LISTEN_FDNAMES=a", "LICTOR_RUN=another", "LICTOR_DATABASE=postgres://x",
		"LICTOR_ANALYSIS_ID=another", "EMPTY=", "NOTIFY_SOCKET_MINE=1", "=strange", "no-equals", "LANG=C", "PATH=/usr/bin"}
	got := Spec{Run: testRun, AnalysisID: "SDA 1", Env: env}.Environment()
	want := []string{"PGHOST=db", "PGPASSWORD=s3cret", "EMPTY=", "NOTIFY_SOCKET_MINE=1", "=strange", "no-equals", "LANG=C",
		"PATH=/usr/bin", "LICTOR_RUN=" + string(testRun), "LICTOR_ANALYSIS_ID=SDA 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := (Spec{Run: testRun, Env: []string{}}).Environment(); !slices.Equal(got, []string{"LICTOR_RUN=" + string(testRun)}) {
		t.Errorf("an empty environment: got %q", got)
	}
	t.Setenv("LICTOR_ANALYSIS_ID", "the caller's")
	t.Setenv("OF_THE_CALLER", "1")
	if got := (Spec{Run: testRun}).Environment(); !slices.Contains(got, "OF_THE_CALLER=1") ||
		slices.Contains(got, "LICTOR_ANALYSIS_ID=the caller's") {
		t.Errorf("the caller's environment: got %q", got)
	}
	elsewhere := Spec{Run: testRun, Dir: "/tmp", Env: []string{"PWD=/here", "X=1"}}
	if got := elsewhere.Environment(); !slices.Equal(got, []string{"X=1", "LICTOR_RUN=" + string(testRun), "PWD=/tmp"}) {
		t.Errorf("another directory: got %q", got)
	}
	if env[3] != "NOTIFY_SOCKET=/run/x" || len(os.Getenv("LICTOR_ANALYSIS_ID")) == 0 {
		t.Error("what was given was changed")
	}
}
