package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
)

// property is one line of `lictor show`. Where systemd has a word for the thing, the name is systemd's.
type property struct {
	name  string
	value func(listed) string
}

// properties lists them in the order of the output. Limits say "infinity" for none; an empty value is not known.
var properties = []property{
	{"Run", func(r listed) string { return string(r.Run.Run) }},
	{"AnalysisID", func(r listed) string { return r.AnalysisID }},
	{"Name", func(r listed) string { return r.Name }},
	{"Labels", labels},
	{"Id", func(r listed) string { return r.Unit }},
	{"Host", func(r listed) string { return r.Host }},
	{"BootID", func(r listed) string { return r.BootID }},
	{"Manager", func(r listed) string { return r.Manager }},
	{"UID", func(r listed) string { return strconv.FormatUint(uint64(r.UID), 10) }},
	{"Command", func(r listed) string { return quoteCommand(r.Command) }},
	{"WorkingDirectory", func(r listed) string { return r.Cwd }},
	{"MainPID", func(r listed) string { return known(r.LeaderPID) }},
	{"State", func(r listed) string { return string(r.State) }},
	{"Reason", func(r listed) string { return string(r.Reason) }},
	{"By", func(r listed) string { return r.By }},
	{"ExitKind", func(r listed) string { return exitOf(r).Kind }},
	{"ExitCode", func(r listed) string { return known(exitOf(r).Code) }},
	{"ExitSignal", func(r listed) string { return known(exitOf(r).Signal) }},
	{"OOMKills", func(r listed) string { return known(&r.OOM.Kills) }},
	{"OOMGroupKills", func(r listed) string { return known(&r.OOM.GroupKills) }},
	{"OOMWhoseLimit", func(r listed) string { return r.OOM.WhoseLimit }},
	{"MemoryMax", func(r listed) string { return atMostOf(r.Limits.MemoryMaxBytes) }},
	{"MemoryHigh", func(r listed) string { return atMostOf(r.Limits.MemoryHighBytes) }},
	{"MemorySwapMax", func(r listed) string { return atMostOf(r.Limits.MemorySwapMaxBytes) }},
	{"TasksMax", func(r listed) string { return atMostOf(r.Limits.TasksMax) }},
	{"CPUQuotaPercent", func(r listed) string { return atMostOf(r.Limits.CPUQuotaPercent) }},
	{"RuntimeMaxSec", func(r listed) string { return atMostOf(r.Limits.RuntimeMaxSeconds) }},
	{"TimeoutStopSec", func(r listed) string { return known(&r.Limits.GraceSeconds) }},
	{"OOMPolicy", func(r listed) string { return r.Limits.OOMPolicy }},
	{"DefaultLimits", func(r listed) string { return strings.Join(r.Limits.Default, " ") }},
	{"MemoryCurrent", func(r listed) string { return known(liveOf(r).MemoryCurrent) }},
	{"MemoryPeak", func(r listed) string { return known(r.peak()) }},
	{"CPUUsageSec", func(r listed) string { return known(cmp.Or(liveOf(r).CPUSeconds, r.Usage.CPUSeconds)) }},
	{"TasksCurrent", func(r listed) string { return known(liveOf(r).Tasks) }},
	{"TasksPeak", func(r listed) string { return known(r.Usage.TasksPeak) }},
	{"WallSec", func(r listed) string { return known(r.Usage.WallSeconds) }},
	{"ControlGroup", func(r listed) string { return liveOf(r).Cgroup }},
	{"StartTimestamp", func(r listed) string { return r.StartedAt.UTC().Format(time.RFC3339Nano) }},
	{"EndTimestamp", endTimestamp},
	{"Degraded", func(r listed) string { return strings.Join(r.Degraded, "; ") }},
	{"KeeperPID", keeperPID},
}

// known writes a number or a word that may not be known.
func known[T int | uint64 | float64 | string](v *T) string {
	if v == nil {
		return ""
	}
	switch v := any(*v).(type) {
	case int:
		return strconv.Itoa(v)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	}
	return ""
}

// atMostOf writes a limit; nil is none.
func atMostOf[T uint64 | float64](limit *T) string {
	if limit == nil {
		return "infinity"
	}
	return known(limit)
}

func exitOf(r listed) events.Exit {
	if r.Exit == nil {
		return events.Exit{}
	}
	return *r.Exit
}

func liveOf(r listed) Live {
	if r.live == nil {
		return Live{}
	}
	return *r.live
}

func keeperPID(r listed) string {
	if r.Keeper.PID == 0 {
		return ""
	}
	return strconv.Itoa(r.Keeper.PID)
}

func labels(r listed) string {
	var list []string
	for k, v := range r.Labels {
		list = append(list, quote(k+"="+v))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func endTimestamp(r listed) string {
	if r.EndedAt == nil {
		return ""
	}
	return r.EndedAt.UTC().Format(time.RFC3339Nano)
}
