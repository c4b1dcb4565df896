package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/spf13/pflag"
)

// launchOptions are the flags that say what to run and in what box.
type launchOptions struct {
	limits      map[string]string // by flag name, as typed
	properties  []string
	analysisID  string
	name        string
	labels      []string
	dir         string
	env         []string
	ownerExit   string
	ownerPID    int
	killEscaped bool
}

// limitFlags are the flags whose values go to Config.Limits, with what help says about them.
var limitFlags = []struct{ name, short, help string }{
	{"memory-max", "m", "memory limit, like 512M or 2G (MemoryMax=)"},
	{"memory-high", "", "throttle above this much memory (MemoryHigh=)"},
	{"memory-swap-max", "", "swap that may be used on top (MemorySwapMax=)"},
	{"tasks-max", "", "processes and threads (TasksMax=)"},
	{"cpu-quota", "", "processor time, 200% is two processors (CPUQuota=)"},
	{"runtime-max", "t", "time limit, like 90, 30min or 1h 30min (RuntimeMaxSec=)"},
	{"grace", "", "time between SIGTERM and SIGKILL (TimeoutStopSec=)"},
	{"oom-policy", "", "when one process is killed for memory: kill the others too, or continue (OOMPolicy=)"},
}

func (o *launchOptions) add(flags *pflag.FlagSet) {
	o.addBox(flags)
	flags.StringVarP(&o.dir, "directory", "C", "", "run in this directory")
	flags.StringVar(&o.ownerExit, "on-owner-exit", "", "when the owner is gone: kill the run (the default), or keep it")
	flags.IntVar(&o.ownerPID, "owner-pid", 0, "the owner, a process without which the run shall not live on (default: this lictor)")
	flags.BoolVar(&o.killEscaped, "kill-escaped", false, "kill processes that the run has started and that left its scope, when a sweep finds them")
	flags.StringArrayVarP(&o.env, "env", "E", nil, "set a variable of the environment, KEY=VALUE")
}

// addBox adds the flags that describe the box and name what is in it.
func (o *launchOptions) addBox(flags *pflag.FlagSet) {
	o.limits = map[string]string{}
	for _, f := range limitFlags {
		flags.VarP(limitFlag{f.name, o.limits}, f.name, f.short, f.help)
	}
	flags.StringArrayVarP(&o.properties, "property", "p", nil, "a further unit property, NAME=VALUE")
	flags.StringVar(&o.analysisID, "analysis-id", "", "your name for this analysis (LICTOR_ANALYSIS_ID)")
	flags.StringVar(&o.name, "name", "", "a name for people")
	flags.StringArrayVarP(&o.labels, "label", "l", nil, "a label, KEY=VALUE")
}

// limitFlag is a pflag.Value that remembers what was typed: the configuration reads it.
type limitFlag struct {
	name string
	into map[string]string
}

func (f limitFlag) String() string     { return f.into[f.name] }
func (f limitFlag) Set(s string) error { f.into[f.name] = s; return nil }
func (f limitFlag) Type() string       { return "value" }

// spec turns flags, environment and configuration into what is launched and how its record begins.
func (a *App) spec(o *launchOptions, args []string) (scope.Spec, *events.Run, error) {
	config, err := a.LoadConfig()
	if err != nil {
		return scope.Spec{}, nil, err
	}
	limits, err := config.Limits(o.limits, physicalMemory())
	if err != nil {
		return scope.Spec{}, nil, err
	}
	if o.analysisID == "" {
		o.analysisID = a.Getenv("LICTOR_ANALYSIS_ID")
	}
	labels, err := keyValues("label", o.labels)
	if err != nil {
		return scope.Spec{}, nil, err
	}
	if err := checkName("name", o.name); err != nil {
		return scope.Spec{}, nil, err
	}
	spec := scope.Spec{Run: a.newRunID(), Args: args, Dir: o.dir, AnalysisID: o.analysisID,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	setLimits(&spec, limits)
	spec.OnOwnerExit = scope.OwnerPolicy(o.ownerExit)
	if spec.Owner, err = ownerOf(o.ownerPID); err != nil {
		return scope.Spec{}, nil, err
	}
	if spec.Store, err = a.StorePath(); err != nil {
		return scope.Spec{}, nil, err
	}
	if spec.Env, err = environment(o.env); err != nil {
		return scope.Spec{}, nil, err
	}
	if spec.Properties, err = parseProperties(o.properties); err != nil {
		return scope.Spec{}, nil, err
	}
	if o.killEscaped {
		spec.Nonce = rand.Text()
	}
	if err := spec.Validate(); err != nil {
		return scope.Spec{}, nil, withHint(err, "lictor run --help")
	}
	return spec, a.newRun(spec, limits, o.name, labels), nil
}

func parseProperties(texts []string) (list []scope.Property, err error) {
	for _, text := range texts {
		p, err := scope.ParseProperty(text)
		if err != nil {
			return nil, withHint(err, "limits have flags of their own: lictor run --help")
		}
		list = append(list, p)
	}
	return list, nil
}

// newRunID is the id of the run that is launched: a new one, or that which the caller of `run -d` has been told.
func (a *App) newRunID() scope.RunID {
	if a.handed != nil {
		return a.handed.Run
	}
	return a.newID()
}

// ownerOf identifies the process of --owner-pid; 0 is none.
func ownerOf(pid int) (scope.ProcessID, error) {
	if pid == 0 {
		return scope.ProcessID{}, nil
	}
	ticks, err := cgroup.StartTicks(pid)
	if pid < 0 || err != nil {
		return scope.ProcessID{}, withHint(fmt.Errorf("owner pid %d: no such process", pid), "name a process that lives, like $$ or $PPID")
	}
	return scope.ProcessID{PID: pid, StartTicks: ticks}, nil
}

// setLimits gives the limits to the spec, in which 0 means a default.
func setLimits(s *scope.Spec, l events.Limits) {
	s.MemoryMax = orNoLimit(l.MemoryMaxBytes)
	s.MemorySwapMax = orNoLimit(l.MemorySwapMaxBytes)
	if l.MemoryHighBytes != nil {
		s.MemoryHigh = *l.MemoryHighBytes
	}
	if l.TasksMax != nil {
		s.TasksMax = *l.TasksMax
	}
	if l.CPUQuotaPercent != nil {
		s.CPUQuota = *l.CPUQuotaPercent / 100
	}
	s.RuntimeMax = -1
	if l.RuntimeMaxSeconds != nil {
		s.RuntimeMax = span(*l.RuntimeMaxSeconds)
	}
	s.Grace = max(span(l.GraceSeconds), time.Millisecond) // systemd reads 0 as no limit at all
	s.OOMPolicy = scope.OOMPolicy(l.OOMPolicy)
}

func orNoLimit(n *uint64) uint64 {
	if n == nil {
		return scope.NoLimit
	}
	return *n
}

// span converts seconds. What no Duration can hold becomes one that Spec.Validate refuses: too long, not negative.
func span(seconds float64) time.Duration {
	return time.Duration(min(seconds, (200*365*24*time.Hour).Seconds()) * float64(time.Second))
}

// newRun is the record of a run that has not begun.
func (a *App) newRun(s scope.Spec, limits events.Limits, name string, labels map[string]string) *events.Run {
	boot, _ := cgroup.BootID()
	cwd := s.Dir
	if wd, err := os.Getwd(); err == nil && !strings.HasPrefix(cwd, "/") {
		cwd = strings.TrimSuffix(wd+"/"+cwd, "/")
	}
	service := ""
	if a.handed != nil {
		service = s.Run.Service()
	}
	return &events.Run{API: events.API, Run: events.RunID(s.Run), AnalysisID: s.AnalysisID, Name: name, Labels: labels,
		Unit: s.Run.Scope(), Service: service, Host: a.hostname(), BootID: boot, Manager: string(a.Mode()), UID: uint32(os.Getuid()),
		Command: s.Args, Cwd: cwd, State: events.StateStarting, Limits: limits}
}

// environment adds assignments to the caller's own environment. KEY alone takes it from there, as it is.
func environment(assignments []string) ([]string, error) {
	env := os.Environ()
	for _, kv := range assignments {
		key, _, ok := strings.Cut(kv, "=")
		if key == "" {
			return nil, withHint(fmt.Errorf("env %q: no name", kv), "write it like -E KEY=VALUE")
		}
		if ok {
			env = append(env, kv)
		}
	}
	return env, nil
}

func keyValues(what string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, withHint(fmt.Errorf("%s %q: must be written KEY=VALUE", what, kv), "lictor run --help")
		}
		if err := checkName(what, k+v); err != nil {
			return nil, err
		}
		m[k] = v
	}
	return m, nil
}

// maxName caps names and labels, in bytes.
const maxName = 256

func checkName(what, s string) error {
	if len(s) > maxName {
		return fmt.Errorf("%s: too long, at most %d bytes", what, maxName)
	}
	if inert(s) != s {
		return fmt.Errorf("%s %q: must be text without control characters or line breaks", what, s)
	}
	return nil
}

// physicalMemory is the host's memory in bytes, 0 if not known.
func physicalMemory() uint64 {
	var si syscall.Sysinfo_t
	if syscall.Sysinfo(&si) != nil {
		return 0
	}
	return si.Totalram * uint64(si.Unit)
}

// begun completes the record with what is known once the process of the run exists.
func begun(run *events.Run, s *scope.Scope) {
	run.LeaderPID = &s.Leader.PID
	run.StartedAt = s.StartedAt.UTC()
	run.Keeper = events.Keeper(s.Keeper)
	if s.Launcher != s.Keeper && s.Launcher != (scope.ProcessID{}) {
		launcher := events.Keeper(s.Launcher)
		run.Launcher = &launcher
	}
}
