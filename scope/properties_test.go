package scope

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What systemd is told, property by property, is in testdata/properties.golden.
func TestProperties(t *testing.T) {
	specs := []struct {
		name string
		spec Spec
	}{
		{"defaults", Spec{}},
		{"no limits", Spec{MemoryMax: NoLimit, MemorySwapMax: NoLimit, TasksMax: NoLimit, RuntimeMax: -1}},
		{"everything", Spec{AnalysisID: "SDA-117", MemoryMax: 4 << 30, MemoryHigh: 3 << 30, MemorySwapMax: 1 << 30, TasksMax: 512,
			CPUQuota: 1.5, RuntimeMax: 90 * time.Second, Grace: 2500 * time.Millisecond, OOMPolicy: OOMContinue}},
		{"rounding", Spec{CPUQuota: 1.0 / 3, RuntimeMax: 1234567 * time.Nanosecond, Grace: time.Millisecond + 999*time.Nanosecond}},
		{"own properties", Spec{Properties: []Property{property("CPUWeight", uint64(20)), property("IOAccounting", true)}}},
		{"hostile text", Spec{AnalysisID: "a\x1b[31mred", Args: []string{"sh", "-c", "x\ny\u2028\xff", strings.Repeat("ä", 300)}}},
	}
	var got strings.Builder
	for _, s := range specs {
		s.spec.Run = testRun
		if s.spec.Args == nil {
			s.spec.Args = []string{"python3", "train.py"}
		}
		fmt.Fprintf(&got, "# %s\n", s.name)
		for _, p := range properties(s.spec.withDefaults(), 4711) {
			fmt.Fprintf(&got, "%s %s\n", p.Name, p.Value.String())
		}
	}
	const golden = "testdata/properties.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("not as in %s (-update writes it anew):\n%s", golden, got.String())
	}
}

// An older systemd is asked again without an optional property, so none of them may be the limit itself.
func TestOptionalPropertiesAreNoMemoryLimits(t *testing.T) {
	all := properties(Spec{Run: testRun, Args: []string{"x"}}.withDefaults(), 1)
	for _, o := range optional {
		rest, dropped := without(all, o.name)
		if !dropped || len(rest) != len(all)-1 {
			t.Errorf("%s is not among the properties", o.name)
		}
		if strings.HasPrefix(o.name, "Memory") || o.name == "Slice" || o.name == "PIDs" {
			t.Errorf("%s cannot be left out", o.name)
		}
	}
	if _, dropped := without(all, "NoSuchThing"); dropped {
		t.Error("left out what was not there")
	}
}

func TestParseProperty(t *testing.T) {
	tests := []struct {
		text string
		want string // the value, "" if it is refused
	}{
		{"CPUWeight=1", "@t 1"},
		{"CPUWeight=10000", "@t 10000"},
		{"IOWeight=100", "@t 100"},
		{"IOAccounting=yes", "true"},
		{"IPAccounting=off", "false"},
		{"ManagedOOMSwap=kill", `"kill"`},
		{"ManagedOOMPreference=avoid", `"avoid"`},

		{"CPUWeight=0", ""},
		{"CPUWeight=10001", ""},
		{"CPUWeight=-1", ""},
		{"CPUWeight=", ""},
		{"CPUWeight=1 ", ""},
		{"CPUWeight=idle", ""},
		{"CPUWeight=18446744073709551616", ""},
		{"IOAccounting=maybe", ""},
		{"ManagedOOMSwap=Kill", ""},
		{"CPUWeight", ""},
		{"=", ""},
		{"", ""},
		{" CPUWeight=1", ""},
		{"cpuweight=1", ""},
		{"Delegate=yes", ""},
		{"Slice=system.slice", ""},
		{"KillMode=none", ""},
		{"ExecStart=/bin/sh", ""},
		{"SendSIGKILL=no", ""},
		{"OOMPolicy=continue", ""},
		{"RuntimeMaxSec=infinity", ""},
		{"MemoryMax=infinity", ""},
		{"TimeoutStopSec=infinity", ""},
		{"DevicePolicy=auto", ""},
		{"Before=shutdown.target", ""},
		{"DisableControllers=memory", ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			p, err := ParseProperty(tt.text)
			switch {
			case tt.want == "" && err == nil:
				t.Errorf("taken as %v", p)
			case tt.want != "" && (err != nil || p.Value.String() != tt.want):
				t.Errorf("got %v, %v; want %s", p.Value, err, tt.want)
			}
		})
	}
}

func FuzzParseProperty(f *testing.F) {
	for _, s := range []string{"CPUWeight=100", "Delegate=yes", "IOAccounting=1", "=", "a=b=c", "\x00=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProperty(text)
		if err != nil {
			return
		}
		if allowed[p.Name] == nil || !strings.HasPrefix(text, p.Name+"=") {
			t.Errorf("%q gives %v", text, p)
		}
		if err := (Spec{Args: []string{"x"}, Properties: []Property{p}}).Validate(); err != nil {
			t.Errorf("%q is taken and then refused: %v", text, err)
		}
	})
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "abc ä €", "abc ä €"},
		{"control", "\n\x1b[1m\x7f\u2028e", "??[1m??e"},
		{"C1 control", "a\u0085b", "a?b"},
		{"invalid", "a\xff\xfeb\uFFFDc", "a?b?c"},
		{"at the limit", "0123456789", "0123456789"},
		{"too long", "0123456789a", "0123456789…"},
		{"cut inside a character", "012345678ä", "012345678…"},
	}
	for _, tt := range tests {
		if got := printable(tt.text, 10); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\xffb\n", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(0, limit%300)
		got := printable(text, limit)
		if !utf8.ValidString(got) || len(got) > limit+len("…") || strings.ContainsFunc(got, isControl) {
			t.Errorf("%q, %d: got %q", text, limit, got)
		}
	})
}
