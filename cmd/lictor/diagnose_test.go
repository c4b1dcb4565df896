package main

import (
	"strings"
	"testing"
)

// healthy is a machine on which everything is as it should be.
func healthy(mode Mode) probe {
	return probe{
		OS: "linux", Kernel: "6.12.9-amd64", Mode: mode, Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"},
		SystemdBooted: true, SystemdVersion: "257.8-1~deb13u2", Linger: true, Delegated: []string{"cpu", "memory", "pids"},
		SwapTotal: new(uint64(0)), SwapAccounting: true, StateDir: "/var/lib/lictor", SliceFile: "/usr/lib/systemd/system/lictor.slice",
		InotifyInstances: new(uint64(128)), InotifyWatches: new(uint64(65536)), ClockSynced: new(true),
	}
}

func TestDiagnose(t *testing.T) {
	tests := []struct {
		name   string
		mode   Mode
		change func(*probe)
		want   map[string]verdict // checks that do not pass; "" is left out
	}{
		{"healthy, system", ModeSystem, func(*probe) {}, nil},
		{"healthy, user", ModeUser, func(*probe) {}, nil},
		{"kernel too old", ModeSystem, func(p *probe) { p.Kernel = "5.4.0-200-generic" }, map[string]verdict{"kernel": fail}},
		{"kernel at the minimum", ModeSystem, func(p *probe) { p.Kernel = "5.7" }, map[string]verdict{"kernel": degraded}},
		{"kernel without memory.peak", ModeSystem, func(p *probe) { p.Kernel = "5.15.0" }, map[string]verdict{"kernel": degraded}},
		{"kernel with everything", ModeSystem, func(p *probe) { p.Kernel = "6.1.0-13-amd64" }, nil},
		{"kernel not understood", ModeSystem, func(p *probe) { p.Kernel = "" }, map[string]verdict{"kernel": degraded}},
		{"cgroup v1", ModeSystem, func(p *probe) { p.CgroupError = "tmpfs" },
			map[string]verdict{"cgroup": fail, "controllers": "", "swap": ""}},
		{"cgroup v1, user", ModeUser, func(p *probe) { p.CgroupError = "tmpfs" },
			map[string]verdict{"cgroup": fail, "controllers": "", "swap": "", "delegation": ""}},
		{"local events", ModeSystem, func(p *probe) { p.LocalEvents = true }, map[string]verdict{"cgroup": fail}},
		{"no memory controller", ModeSystem, func(p *probe) { p.Controllers = []string{"cpu", "pids"} }, map[string]verdict{"controllers": fail}},
		{"no pids controller", ModeSystem, func(p *probe) { p.Controllers = []string{"cpu", "memory"} }, map[string]verdict{"controllers": degraded}},
		{"no cpu controller", ModeSystem, func(p *probe) { p.Controllers = []string{"pids", "memory"} }, map[string]verdict{"controllers": degraded}},
		{"swap", ModeSystem, func(p *probe) { p.SwapTotal = new(uint64(gib)) }, nil},
		{"swap that is not counted", ModeSystem, func(p *probe) { p.SwapTotal, p.SwapAccounting = new(uint64(gib)), false }, map[string]verdict{"swap": degraded}},
		{"swap not known", ModeSystem, func(p *probe) { p.SwapTotal = nil }, map[string]verdict{"swap": degraded}},
		{"no systemd", ModeUser, func(p *probe) { p.SystemdBooted = false },
			map[string]verdict{"systemd": fail, "systemd version": "", "manager": "", "linger": "", "delegation": ""}},
		{"systemd too old", ModeSystem, func(p *probe) { p.SystemdVersion = "243" }, map[string]verdict{"systemd version": fail}},
		{"systemd 249", ModeSystem, func(p *probe) { p.SystemdVersion = "249.11-0ubuntu3" }, map[string]verdict{"systemd version": degraded}},
		{"systemd 252.4", ModeSystem, func(p *probe) { p.SystemdVersion = "252.4" }, map[string]verdict{"systemd version": degraded}},
		{"systemd 252.9", ModeSystem, func(p *probe) { p.SystemdVersion = "252.9" }, map[string]verdict{"systemd version": degraded}},
		{"systemd 252.39", ModeSystem, func(p *probe) { p.SystemdVersion = "252.39-1~deb12u1" }, nil},
		{"systemd 253.3", ModeSystem, func(p *probe) { p.SystemdVersion = "253.3" }, map[string]verdict{"systemd version": degraded}},
		{"systemd 253.4", ModeSystem, func(p *probe) { p.SystemdVersion = "253.4" }, nil},
		{"systemd not known", ModeSystem, func(p *probe) { p.SystemdVersion = "" }, map[string]verdict{"systemd version": degraded}},
		{"no bus", ModeSystem, func(p *probe) { p.BusError = "connection refused" }, map[string]verdict{"manager": fail}},
		{"bus refused to a user", ModeSystem, func(p *probe) { p.BusError, p.UID = "permission denied", 1000 }, map[string]verdict{"manager": fail}},
		{"no user manager", ModeUser, func(p *probe) { p.BusError, p.DelegatedError = "no such file", "gone" },
			map[string]verdict{"manager": fail, "delegation": fail}},
		{"no linger", ModeUser, func(p *probe) { p.Linger = false }, map[string]verdict{"linger": degraded}},
		{"memory not delegated", ModeUser, func(p *probe) { p.Delegated = []string{"pids"} }, map[string]verdict{"delegation": fail}},
		{"pids not delegated", ModeUser, func(p *probe) { p.Delegated = []string{"memory"} }, map[string]verdict{"delegation": degraded}},
		{"no records", ModeSystem, func(p *probe) { p.StateError = "read-only file system" }, map[string]verdict{"records": fail}},
		{"records of root", ModeSystem, func(p *probe) { p.StateError, p.UID = "permission denied", 1000 }, map[string]verdict{"records": fail}},
		{"no state directory yet", ModeSystem, func(p *probe) { p.StateMissing = true }, nil},
		{"no slice", ModeSystem, func(p *probe) { p.SliceFile = "" }, map[string]verdict{"slice": degraded}},
		{"no pressure", ModeSystem, func(p *probe) { p.PSIError = "no such file" }, map[string]verdict{"pressure": degraded}},
		{"no kernel log", ModeSystem, func(p *probe) { p.KmsgError = "operation not permitted" }, map[string]verdict{"kernel log": degraded}},
		{"no journal", ModeSystem, func(p *probe) { p.JournalError = "no such file" }, map[string]verdict{"journal": degraded}},
		{"few instances", ModeSystem, func(p *probe) { p.InotifyInstances = new(uint64(8)) }, map[string]verdict{"inotify": degraded}},
		{"few watches", ModeSystem, func(p *probe) { p.InotifyWatches = new(uint64(100)) }, map[string]verdict{"inotify": degraded}},
		{"inotify not known", ModeSystem, func(p *probe) { p.InotifyWatches = nil }, map[string]verdict{"inotify": degraded}},
		{"clock off", ModeSystem, func(p *probe) { p.ClockSynced = new(false) }, map[string]verdict{"clock": degraded}},
		{"clock not known", ModeSystem, func(p *probe) { p.ClockSynced = nil }, map[string]verdict{"clock": degraded}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := healthy(tt.mode)
			all := diagnose(p)
			tt.change(&p)
			got := map[string]verdict{}
			for _, f := range diagnose(p) {
				got[f.Check] = f.Verdict
				if f.Verdict == fail && f.Fix == "" {
					t.Errorf("%s: FAIL without a fix", f.Check)
				}
			}
			for _, f := range all {
				want, changes := tt.want[f.Check]
				if !changes {
					want = pass
				}
				if got[f.Check] != want {
					t.Errorf("%s: %q, want %q", f.Check, got[f.Check], want)
				}
			}
		})
	}
}

func TestDiagnoseElsewhere(t *testing.T) {
	got := diagnose(probe{OS: "darwin"})
	if len(got) != 1 || got[0].Verdict != fail {
		t.Errorf("got %v, want one FAIL", got)
	}
}

// What one finds on a machine where nothing is as it should be is a list of failures, not a crash.
func TestDiagnoseNothing(t *testing.T) {
	for _, f := range diagnose(probe{OS: "linux", CgroupError: "no mount table"}) {
		if f.Text == "" {
			t.Errorf("%s says nothing", f.Check)
		}
	}
}

func TestParseRelease(t *testing.T) {
	tests := []struct {
		text string
		want release
		ok   bool
	}{
		{"6.12.9-amd64", release{6, 12}, true}, {"252.39-1~deb12u1", release{252, 39}, true}, {"257", release{257, 0}, true},
		{"260~rc1", release{260, 0}, true}, {"6.", release{6, 0}, true}, {"", release{}, false}, {"v6", release{}, false},
		{"99999999999999999999.1", release{}, false},
	}
	for _, tt := range tests {
		if got, ok := parseRelease(tt.text); got != tt.want || ok != tt.ok {
			t.Errorf("parseRelease(%q) = %v, %t; want %v, %t", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

func TestParseMeminfo(t *testing.T) {
	const sample = "MemTotal:       24117248 kB\nMemAvailable:   13002342 kB\nHugePages_Total:       3\nSwapTotal:             0 kB\n"
	got, err := parseMeminfo(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"MemTotal": 23 * gib, "MemAvailable": 13002342 << 10, "HugePages_Total": 3, "SwapTotal": 0} {
		if n := entry(got, name); n == nil || *n != want {
			t.Errorf("%s is %v, want %d", name, n, want)
		}
	}
	if entry(got, "SwapFree") != nil {
		t.Error("a missing entry is not nil")
	}
	for _, bad := range []string{"MemTotal 5 kB", "MemTotal: x kB", "MemTotal: 5 MB", "MemTotal: 99999999999999999999 kB"} {
		if _, err := parseMeminfo(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseMeminfo(f *testing.F) {
	f.Add("MemTotal:       24117248 kB\n")
	f.Fuzz(func(_ *testing.T, text string) { parseMeminfo(strings.NewReader(text)) })
}

// The probe itself works on any machine, this one included.
func TestProbeMachine(t *testing.T) {
	app := testApp(nil)
	p := probeMachine(t.Context(), app)
	if p.OS == "" || p.Kernel == "" {
		t.Errorf("nothing was found: %+v", p)
	}
	diagnose(p)
}
