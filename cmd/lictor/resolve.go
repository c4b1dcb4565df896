package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/scidex/lictor/events"
)

// Limits returns the limits that a run gets: flags (by name without dashes, "memory-max") over the configuration, held
// below the ceilings. Physical is the machine's memory in bytes, for percentages. A request above a ceiling is refused;
// a built-in default above one gives way to it.
func (c *Config) Limits(flags map[string]string, physical uint64) (events.Limits, error) {
	r := resolver{config: c, flags: flags, physical: physical}
	l := events.Limits{
		MemoryMaxBytes:     r.bytes("memory_max", "MemoryMax"),
		MemoryHighBytes:    r.bytes("memory_high", "MemoryHigh"),
		MemorySwapMaxBytes: r.bytes("memory_swap_max", "MemorySwapMax"),
		TasksMax:           r.count("tasks_max", "TasksMax"),
		CPUQuotaPercent:    r.percent("cpu_quota", "CPUQuota"),
		RuntimeMaxSeconds:  r.seconds("runtime_max", "RuntimeMaxSec"),
		OOMPolicy:          r.setting("oom_policy").Text,
	}
	if grace := r.seconds("grace", "TimeoutStopSec"); grace != nil {
		l.GraceSeconds = *grace
	} else {
		r.keep(withHint(errors.New("grace: a run that ignores SIGTERM would never end"), "write it like 10s or 5min"))
	}
	r.keep(checkOOMPolicy(flagName("oom_policy"), l.OOMPolicy))
	l.Default = r.defaults
	return l, r.err
}

// resolver reads the settings one after the other and keeps the first error.
type resolver struct {
	config   *Config
	flags    map[string]string
	physical uint64
	defaults []string // systemd names of limits that nobody asked for
	err      error
}

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// setting returns the value with the highest rank.
func (r *resolver) setting(key string) Setting {
	if text, ok := r.flags[flagName(key)]; ok {
		return Setting{Key: key, Text: text, From: flagName(key)}
	}
	return r.config.Settings[key]
}

// limit reads a setting and its ceiling with parse. Name is systemd's word for it. Nil is no limit.
func limit[T uint64 | float64](r *resolver, key, name string, parse func(name, text string) (T, bool, error)) *T {
	s := r.setting(key)
	n, infinite, err := parse(nameOf(s), s.Text)
	r.keep(err)
	if ceiling, ok := r.config.Ceilings[key]; ok {
		most, unlimited, err := parse(ceiling.From, ceiling.Text)
		r.keep(err)
		if over := !unlimited && (infinite || n > most); over && s.From != "" {
			r.keep(aboveCeiling(s, ceiling))
		} else if over {
			n, infinite = most, false
		}
	}
	if infinite {
		return nil
	}
	if s.From == "" {
		r.defaults = append(r.defaults, name)
	}
	return &n
}

// nameOf returns what to call a setting in a message about its value.
func nameOf(s Setting) string {
	if s.From == "" {
		return s.Key
	}
	return s.From
}

func aboveCeiling(s, ceiling Setting) error {
	err := fmt.Errorf("%s %q: above the administrator's ceiling of %s (%s)", nameOf(s), s.Text, ceiling.Text, ceiling.From)
	return withHint(err, fmt.Sprintf("--%s %s is the most that is allowed", flagName(s.Key), ceiling.Text))
}

func (r *resolver) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *resolver) bytes(key, name string) *uint64 {
	parse := ParseBytes
	if key == "memory_swap_max" {
		parse = ParseBytesOrZero
	}
	return limit(r, key, name, func(name, text string) (uint64, bool, error) { return parse(name, text, r.physical) })
}

func (r *resolver) count(key, name string) *uint64 { return limit(r, key, name, ParseCount) }

func (r *resolver) percent(key, name string) *float64 { return limit(r, key, name, ParsePercent) }

func (r *resolver) seconds(key, name string) *float64 {
	return limit(r, key, name, func(name, text string) (float64, bool, error) {
		d, infinite, err := ParseTimespan(name, text)
		return d.Seconds(), infinite, err
	})
}
