package scope

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

func property(name string, value any) Property {
	return Property{Name: name, Value: dbus.MakeVariant(value)}
}

// properties is the whole of what systemd is told about a run: a pure function of the spec and the main process.
// systemd.scope(5), systemd.resource-control(5), systemd.kill(5).
func properties(s Spec, pid int) []Property {
	ps := []Property{
		property("Description", description(s)),
		property("Slice", s.Run.Ledger()),
		// PIDs, not PIDFDs: systemd knows the latter for scopes since 255. The launcher is the parent and has not waited for
		// the child, so the number cannot be reused meanwhile; Adopt looks again afterwards.
		property("PIDs", numbers([]int{pid})),
		property("MemoryAccounting", true),
		property("TasksAccounting", true),
		property("MemoryMax", s.MemoryMax),
		property("MemorySwapMax", s.MemorySwapMax),
		property("TimeoutStopUSec", microseconds(s.Grace)),
		property("OOMPolicy", string(s.OOMPolicy)),
	}
	if s.MemoryHigh != 0 {
		ps = append(ps, property("MemoryHigh", s.MemoryHigh))
	}
	if s.TasksMax != 0 {
		ps = append(ps, property("TasksMax", s.TasksMax))
	}
	if s.CPUQuota != 0 {
		ps = append(ps, property("CPUQuotaPerSecUSec", uint64(math.Round(s.CPUQuota*1e6))))
	}
	if s.RuntimeMax > 0 {
		ps = append(ps, property("RuntimeMaxUSec", microseconds(s.RuntimeMax)))
	}
	return append(ps, s.Properties...)
}

// numbers are pids as D-Bus carries them.
func numbers(pids []int) []uint32 {
	out := make([]uint32, len(pids))
	for i, pid := range pids {
		out[i] = uint32(pid)
	}
	return out
}

// optional are the properties without which a run is still confined by what matters, newest first, with the version of
// systemd that has them for scopes. A manager that does not know one refuses the whole unit; it is then asked again
// without it, and the run's record says so.
var optional = []struct{ name, since string }{
	{"OOMPolicy", "253 (252.5 in its stable branch)"},
	{"RuntimeMaxUSec", "244"}, // our own deadline takes over
}

func microseconds(d time.Duration) uint64 { return uint64(d / time.Microsecond) }

// description is what `systemctl status` and `systemctl list-units` show.
func description(s Spec) string {
	d := "lictor: " + strings.Join(s.Args, " ")
	if s.AnalysisID != "" {
		d = "lictor " + s.AnalysisID + ": " + strings.Join(s.Args, " ")
	}
	return printable(d, 200)
}

// printable caps s and replaces what is not printable, as unit properties must be valid UTF-8 and end up in terminals.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if isControl(r) || r == '\uFFFD' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// allowed are the properties that ParseProperty takes: resource controls that can only narrow the box, with the way
// their value is written. Everything else (Slice, Delegate, KillMode, dependencies, …) would break a promise.
var allowed = map[string]func(string) (any, bool){
	"CPUWeight":                weight,
	"IOWeight":                 weight,
	"StartupCPUWeight":         weight,
	"ManagedOOMSwap":           word("auto", "kill"),
	"ManagedOOMMemoryPressure": word("auto", "kill"),
	"ManagedOOMPreference":     word("none", "avoid", "omit"),
	"IPAccounting":             boolean,
	"IOAccounting":             boolean,
	"CPUAccounting":            boolean,
}

// AllowedProperties lists what ParseProperty takes, sorted.
func AllowedProperties() []string { return slices.Sorted(maps.Keys(allowed)) }

// ParseProperty reads NAME=VALUE. The error names the properties that are allowed.
func ParseProperty(text string) (Property, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return Property{}, &SpecError{"property", text, "must be written NAME=VALUE"}
	}
	parse := allowed[name]
	if parse == nil {
		return Property{}, &SpecError{"property", name, "not on the list; allowed are " + strings.Join(AllowedProperties(), ", ")}
	}
	v, ok := parse(value)
	if !ok {
		return Property{}, &SpecError{"property", text, "the value does not fit; see systemd.resource-control(5)"}
	}
	return property(name, v), nil
}

func weight(s string) (any, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n >= 1 && n <= 10000
}

func boolean(s string) (any, bool) {
	switch s {
	case "yes", "true", "on", "1":
		return true, true
	case "no", "false", "off", "0":
		return false, true
	}
	return nil, false
}

func word(words ...string) func(string) (any, bool) {
	return func(s string) (any, bool) {
		for _, w := range words {
			if s == w {
				return s, true
			}
		}
		return nil, false
	}
}
