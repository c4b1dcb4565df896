package scope

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Defaults of the limits that nobody asked for.
const (
	DefaultMemoryMax  = 2 << 30
	DefaultRuntimeMax = 30 * time.Minute
	DefaultGrace      = 10 * time.Second
)

// NoLimit is the value of a limit that is explicitly not wanted ("infinity" to systemd).
const NoLimit = math.MaxUint64

// OOMPolicy says what happens to the rest of a scope when the kernel kills one of its processes for memory.
// See systemd.scope(5).
type OOMPolicy string

// The policies.
const (
	OOMKill     OOMPolicy = "kill"     // the kernel kills all of the scope (memory.oom.group)
	OOMContinue OOMPolicy = "continue" // the others live on
)

// OwnerPolicy says what becomes of a run when its owner is gone.
type OwnerPolicy string

// The policies.
const (
	OwnerKill OwnerPolicy = "kill" // it is terminated
	OwnerKeep OwnerPolicy = "keep" // it lives on within its limits
)

// Spec says what to run and in what box. The zero value of a limit is lictor's default for it; NoLimit (or a negative
// RuntimeMax) asks for none.
type Spec struct {
	Run  RunID    // empty: a new one is made
	Args []string // the command; Args[0] is looked up in the PATH of Env as a shell does
	Dir  string   // working directory; empty is the caller's
	Env  []string // KEY=VALUE; nil is the caller's own. See Environment for what is taken out of it.

	Stdin, Stdout, Stderr *os.File // nil is /dev/null

	AnalysisID string // free text, at most MaxAnalysisID bytes; never part of a unit name

	MemoryMax     uint64        // bytes; 0 is DefaultMemoryMax
	MemoryHigh    uint64        // bytes; 0 is none
	MemorySwapMax uint64        // bytes; 0 is no swap at all
	TasksMax      uint64        // processes and threads; 0 is the manager's default
	CPUQuota      float64       // in CPUs: 1.5 is 150 %; 0 is none
	RuntimeMax    time.Duration // 0 is DefaultRuntimeMax, negative is none
	Grace         time.Duration // between SIGTERM and SIGKILL; 0 is DefaultGrace
	OOMPolicy     OOMPolicy     // empty is OOMKill

	Owner       ProcessID   // zero: this process
	OnOwnerExit OwnerPolicy // empty is OwnerKill

	// Nonce is given to the analysis as LICTOR_NONCE and noted on the ledger: a process outside that has it was started by this
	// run. Empty: there is none.
	Nonce string

	Properties []Property // further unit properties, from ParseProperty

	Store string // where the keeper writes its records; noted on the ledger for whoever comes next
}

// MaxAnalysisID is the length of the longest analysis id, in bytes.
const MaxAnalysisID = 256

// minMemoryMax is the smallest limit in which a process can be started at all; below it every run would end as oom before
// its first instruction.
const minMemoryMax = 1 << 20

// The smallest quota that is not 0 in systemd's microseconds per second (the kernel rounds up to a millisecond per period),
// and more CPUs than anybody has.
const (
	minCPUQuota = 1e-6
	maxCPUQuota = 1e6
)

// maxDuration keeps sums of times from overflowing.
const maxDuration = 100 * 365 * 24 * time.Hour

// withDefaults returns s with every zero limit replaced by its default.
func (s Spec) withDefaults() Spec {
	if s.Run == "" {
		s.Run = NewRunID()
	}
	if s.MemoryMax == 0 {
		s.MemoryMax = DefaultMemoryMax
	}
	if s.RuntimeMax == 0 {
		s.RuntimeMax = DefaultRuntimeMax
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.OOMPolicy == "" {
		s.OOMPolicy = OOMKill
	}
	if s.OnOwnerExit == "" {
		s.OnOwnerExit = OwnerKill
	}
	return s
}

// Validate returns a *SpecError for the first thing that cannot be launched.
func (s Spec) Validate() error {
	s = s.withDefaults()
	switch {
	case len(s.Args) == 0 || s.Args[0] == "":
		return &SpecError{"command", "", "none given; write the command after --"}
	case !s.Run.Valid():
		return &SpecError{"run id", string(s.Run), "must come from NewRunID"}
	case s.MemoryMax < minMemoryMax:
		return &SpecError{"MemoryMax", strconv.FormatUint(s.MemoryMax, 10), "too small to start a process in; at least 1M"}
	case s.MemoryHigh != 0 && s.MemoryHigh < minMemoryMax:
		return &SpecError{"MemoryHigh", strconv.FormatUint(s.MemoryHigh, 10), "too small to start a process in; at least 1M"}
	case s.CPUQuota != 0 && !(s.CPUQuota >= minCPUQuota && s.CPUQuota <= maxCPUQuota):
		return &SpecError{"CPUQuota", strconv.FormatFloat(s.CPUQuota*100, 'f', -1, 64) + "%", "must be a percentage above 0"}
	case s.RuntimeMax > 0 && s.RuntimeMax < time.Millisecond:
		return &SpecError{"RuntimeMaxSec", s.RuntimeMax.String(), "too short; at least 1ms"}
	case s.RuntimeMax > maxDuration:
		return &SpecError{"RuntimeMaxSec", s.RuntimeMax.String(), "too long; write infinity for none"}
	case s.Grace < time.Millisecond:
		return &SpecError{"grace", s.Grace.String(), "too short; at least 1ms"}
	case s.Grace > maxDuration:
		return &SpecError{"grace", s.Grace.String(), "too long; a run that ignores SIGTERM would never end"}
	case s.OOMPolicy != OOMKill && s.OOMPolicy != OOMContinue:
		return &SpecError{"OOMPolicy", string(s.OOMPolicy), "must be kill or continue"}
	case s.OnOwnerExit != OwnerKill && s.OnOwnerExit != OwnerKeep:
		return &SpecError{"on-owner-exit", string(s.OnOwnerExit), "must be kill or keep"}
	}
	for _, p := range s.Properties {
		if allowed[p.Name] == nil {
			return &SpecError{"property", p.Name, "must come from ParseProperty"}
		}
	}
	return s.validateText()
}

// validateText refuses strings that execve, a log or a terminal would cut or misread.
func (s Spec) validateText() error {
	if len(s.AnalysisID) > MaxAnalysisID {
		return &SpecError{"analysis id", s.AnalysisID[:16] + "…", "too long; at most " + strconv.Itoa(MaxAnalysisID) + " bytes"}
	}
	if !utf8.ValidString(s.AnalysisID) || strings.ContainsFunc(s.AnalysisID, isControl) {
		return &SpecError{"analysis id", s.AnalysisID, "must be text without control characters or line breaks"}
	}
	const noNUL = "contains a NUL byte, which no process can be given"
	for _, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			return &SpecError{"command", a, noNUL}
		}
	}
	for _, kv := range s.Env {
		if key, _, _ := strings.Cut(kv, "="); strings.ContainsRune(kv, 0) {
			return &SpecError{"environment", key, noNUL} // the value may be a secret
		}
	}
	if strings.ContainsRune(s.Dir, 0) {
		return &SpecError{"directory", s.Dir, noNUL}
	}
	return nil
}

func isControl(r rune) bool {
	return r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029
}

// ours are variables that systemd gives to a service or that lictor reads for itself. An analysis that found them would
// talk to our supervisor, or start runs in our name.
func ours(key string) bool {
	switch key {
	case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "MAINPID", "FDSTORE",
		"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES": // sd_listen_fds(3); LISTEN_ADDR is somebody's own
		return true
	}
	return strings.HasPrefix(key, "LICTOR_")
}

// Environment returns env as the analysis gets it: without the variables that belong to a supervisor or to lictor, with
// LICTOR_RUN and, if there are any, LICTOR_ANALYSIS_ID and LICTOR_NONCE. Of a variable that is there twice the last value counts, as in
// os/exec.
func (s Spec) Environment() []string {
	env := s.Env
	if env == nil {
		env = os.Environ()
	}
	own := []string{"LICTOR_RUN=" + string(s.Run)}
	if s.AnalysisID != "" {
		own = append(own, "LICTOR_ANALYSIS_ID="+s.AnalysisID)
	}
	if s.Nonce != "" {
		own = append(own, "LICTOR_NONCE="+s.Nonce)
	}
	if dir, err := filepath.Abs(s.Dir); s.Dir != "" && err == nil {
		own = append(own, "PWD="+dir) // as cd does
	}
	out := make([]string, 0, len(env)+len(own))
	seen := map[string]bool{"PWD": s.Dir != ""}
	for _, kv := range slices.Backward(env) {
		key, _, assigns := strings.Cut(kv, "=")
		if ours(key) || assigns && seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, kv)
	}
	slices.Reverse(out)
	return append(out, own...)
}
