package watcher

import (
	"context"
	"errors"
	"slices"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// LimitsInForce is the ledger's word on the limits of a run that can change while it lives.
type LimitsInForce interface {
	// Foreign compares it with the kernel's and makes it the same. It returns the limits before and after, the same ones if
	// nobody else has changed any. ErrGone says that the scope has ended.
	Foreign() (before, after events.Limits, err error)
	// Current are the limits as the ledger has them: as they were begun with, and what was changed since.
	Current(begun events.Limits) (events.Limits, error)
}

// LimitDifferences lists what differs between two sets of limits, by systemd's name.
func LimitDifferences(before, after events.Limits) (list []events.LimitDetail) {
	add := func(name string, old, now *float64) {
		if (old == nil) != (now == nil) || old != nil && *old != *now {
			list = append(list, events.LimitDetail{Limit: name, Old: old, New: now})
		}
	}
	add("MemoryMax", number(before.MemoryMaxBytes), number(after.MemoryMaxBytes))
	add("MemoryHigh", number(before.MemoryHighBytes), number(after.MemoryHighBytes))
	add("MemorySwapMax", number(before.MemorySwapMaxBytes), number(after.MemorySwapMaxBytes))
	add("TasksMax", number(before.TasksMax), number(after.TasksMax))
	add("CPUQuota", before.CPUQuotaPercent, after.CPUQuotaPercent)
	return list
}

func number(n *uint64) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

// LimitsChanged records each change of a limit of the live run, by somebody ("uid 0", "unknown").
func (e *Enforcer) LimitsChanged(ctx context.Context, by string, uid *uint32, changes []events.LimitDetail) {
	for _, d := range changes {
		d.By, d.UID = by, uid
		at := e.Clock.Now()
		e.record(ctx, events.KindLimitChanged, func(n int) events.Event {
			ev := events.NewEvent(e.Run, events.KindLimitChanged, n, at)
			ev.Detail = detail(d)
			return ev
		})
	}
}

// lookAtLimits notices that somebody else has changed a limit. A write to memory.max or pids.max gives a notice at once; one
// that kills the run before it was looked at is not noticed.
func (s *session) lookAtLimits(ctx context.Context) {
	if s.Box.Limits == nil {
		return
	}
	before, after, err := s.Box.Limits.Foreign()
	if err != nil {
		if !errors.Is(err, cgroup.ErrGone) {
			s.Log.Warn("limits not compared", logRun, s.Run.Run, logError, err)
		}
		return
	}
	if changes := LimitDifferences(before, after); len(changes) > 0 {
		s.newEnforcer().LimitsChanged(ctx, "unknown", nil, changes)
	}
}

// limits are those in force at the end of the run.
func (k *Keeper) limits() events.Limits {
	if k.Box.Limits == nil {
		return k.Run.Limits
	}
	now, err := k.Box.Limits.Current(k.Run.Limits)
	if err != nil {
		k.Log.Warn("limits not read from the ledger", logRun, k.Run.Run, logError, err)
		return k.Run.Limits
	}
	now.Default = slices.DeleteFunc(slices.Clone(now.Default), func(name string) bool { // somebody asked for these
		return slices.ContainsFunc(LimitDifferences(k.Run.Limits, now), func(d events.LimitDetail) bool { return d.Limit == name })
	})
	return now
}
