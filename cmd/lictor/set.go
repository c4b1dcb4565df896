package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

const setLong = `Change limits of a live run, as systemctl set-property does: MemoryMax, MemoryHigh, MemorySwapMax, TasksMax and
CPUQuota, with "infinity" for none, and the further properties that lictor run -p takes. They hold until the run ends. The
new limits are verified in the kernel, and the record gets a limit-changed event with who asked. The administrator's
ceilings hold here, too.

A MemoryMax below what the run uses is allowed: the kernel takes back what it can and then kills, which is recorded as oom.
RuntimeMaxSec cannot be changed: systemd takes it for a new unit only.`

// limitSetter reads the value of one limit into a change.
type limitSetter struct {
	name, key string
	set       func(r *resolver, c *scope.Change, key, name string)
}

// changeable are the limits of a live run that can be set, by systemd's name, with the key of the configuration whose ceiling
// holds.
var changeable = []limitSetter{
	{"MemoryMax", "memory_max", func(r *resolver, c *scope.Change, key, name string) { c.MemoryMax = orUnlimited(r.bytes(key, name)) }},
	{"MemoryHigh", "memory_high", func(r *resolver, c *scope.Change, key, name string) { c.MemoryHigh = orUnlimited(r.bytes(key, name)) }},
	{"MemorySwapMax", "memory_swap_max", func(r *resolver, c *scope.Change, key, name string) {
		c.MemorySwapMax = orUnlimited(r.bytes(key, name))
	}},
	{"TasksMax", "tasks_max", func(r *resolver, c *scope.Change, key, name string) { c.TasksMax = orUnlimited(r.count(key, name)) }},
	{"CPUQuota", "cpu_quota", func(r *resolver, c *scope.Change, key, name string) {
		var cpus float64
		if percent := r.percent(key, name); percent != nil {
			cpus = *percent / 100
		}
		c.CPUQuota = &cpus
	}},
}

func orUnlimited(n *uint64) *uint64 {
	limit := orNoLimit(n)
	return &limit
}

func newSetCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "set RUN NAME=VALUE…",
		Short: "Change limits of a live run",
		Long:  setLong,
		Example: `  lictor set SDA-117 MemoryMax=6G
  lictor set 7f3k7m1d TasksMax=infinity CPUQuota=150%`,
		Args: atLeast(2, "a run and NAME=VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.set(cmd.Context(), args[0], args[1:])
		},
		ValidArgsFunction: app.completeSet,
	}
}

// completeSet offers runs, then names of limits.
func (a *App) completeSet(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeRun(cmd, args, typed)
	}
	var offers []string
	for _, name := range changeableNames() {
		if strings.HasPrefix(name, typed) {
			offers = append(offers, name+"=")
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func changeableNames() (names []string) {
	for _, l := range changeable {
		names = append(names, l.name)
	}
	return append(names, scope.AllowedProperties()...)
}

func (a *App) set(ctx context.Context, run string, assignments []string) error {
	config, err := a.LoadConfig()
	if err != nil {
		return err
	}
	change, others, err := parseChange(config, assignments, physicalMemory())
	if err != nil {
		return err
	}
	return a.eachRun(ctx, []string{run}, action{
		here: func(ctx context.Context, r *reach) error { return r.set(ctx, change, others) },
		there: func(ctx context.Context, c *client.Client, run events.RunID) error {
			return c.Set(ctx, run, assignments)
		},
	})
}

// parseChange reads NAME=VALUE words, held below the ceilings. The details are of those that are no limits.
func parseChange(config *Config, assignments []string, physical uint64) (c scope.Change, others []events.LimitDetail, err error) {
	r := &resolver{config: config, flags: map[string]string{}, physical: physical}
	seen := map[string]bool{}
	for _, text := range assignments {
		name, value, ok := strings.Cut(text, "=")
		i := slices.IndexFunc(changeable, func(l limitSetter) bool { return l.name == name })
		switch {
		case !ok || seen[name]:
			return c, nil, withHint(usageError("%q: must be NAME=VALUE, each name once", text), "lictor set RUN MemoryMax=4G")
		case name == "RuntimeMaxSec":
			return c, nil, withHint(errors.New("RuntimeMaxSec: systemd cannot change it on a live unit"), "start the run anew: lictor run -t "+cmp.Or(value, "2h"))
		case i >= 0:
			l := changeable[i]
			r.flags[flagName(l.key)] = value
			l.set(r, &c, l.key, l.name)
		default:
			p, err := scope.ParseProperty(text)
			if err != nil {
				return c, nil, withHint(err, "these can be set: "+strings.Join(changeableNames(), ", "))
			}
			c.Properties = append(c.Properties, p)
			others = append(others, events.LimitDetail{Limit: name, Value: value})
		}
		seen[name] = true
	}
	return c, others, r.err
}

func (r *reach) set(ctx context.Context, c scope.Change, others []events.LimitDetail) error {
	if !r.led.HasFacts {
		return withHint(fmt.Errorf("%s is starting", r.led.Run), "try again in a moment")
	}
	before := limitsOf(r.led.Facts, events.Limits{})
	if err := r.s.launcher.SetLimits(ctx, r.led, c); err != nil {
		return r.explainSet(err)
	}
	by, uid := r.who()
	changes := append(watcher.LimitDifferences(before, limitsOf(r.led.Facts, events.Limits{})), others...)
	r.enforcer().LimitsChanged(ctx, by, uid, changes)
	return nil
}

func (r *reach) explainSet(err error) error {
	if spec, ok := errors.AsType[*scope.SpecError](err); ok {
		return withHint(spec, "lictor set --help")
	}
	if errors.Is(err, cgroup.ErrGone) || errors.Is(err, scope.ErrNoUnit) {
		return withHint(fmt.Errorf("%s has ended", r.led.Run), "lictor why "+shortID(events.RunID(r.led.Run))+" tells how")
	}
	return fmt.Errorf("%s: %w", r.led.Run, err)
}
