package main

import (
	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// inForce is the ledger's word on the limits of a live run, for its keeper.
type inForce struct {
	ledger, scope *cgroup.Group // scope is nil if it is gone
}

var _ watcher.LimitsInForce = inForce{}

func (f inForce) Foreign() (before, after events.Limits, err error) {
	if f.scope == nil {
		return before, after, nil
	}
	facts, _, ok, err := scope.ReadFacts(f.ledger)
	if err != nil || !ok {
		return before, after, err
	}
	now, foreign, err := facts.Foreign(f.scope)
	if err != nil || !foreign {
		return before, after, err
	}
	// Whoever changes a limit with lictor says so before: if the ledger's word is another by now, it was not a stranger.
	if again, _, _, err := scope.ReadFacts(f.ledger); err != nil || !again.SameLimits(facts) {
		return before, after, err
	}
	return limitsOf(facts, before), limitsOf(now, after), scope.WriteFacts(f.ledger, now)
}

func (f inForce) Current(begun events.Limits) (events.Limits, error) {
	facts, _, ok, err := scope.ReadFacts(f.ledger)
	if err != nil || !ok {
		return begun, err
	}
	return limitsOf(facts, begun), nil
}

// limitsOf is l with those limits that can change on a live run as a ledger has them.
func limitsOf(f scope.Facts, l events.Limits) events.Limits {
	l.MemoryMaxBytes, l.MemorySwapMaxBytes = finite(f.MemoryMax), finite(f.SwapMax)
	l.MemoryHighBytes, l.TasksMax, l.CPUQuotaPercent = nil, nil, nil
	if f.MemoryHigh != 0 {
		l.MemoryHighBytes = finite(f.MemoryHigh)
	}
	if f.TasksMax != 0 {
		l.TasksMax = finite(f.TasksMax)
	}
	if f.CPUQuota != 0 {
		percent := f.CPUQuota * 100
		l.CPUQuotaPercent = &percent
	}
	return l
}
