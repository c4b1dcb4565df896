//go:build integration

package main

import (
	"context"
	"syscall"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/watcher"
)

// crashSteps are the instants at which a keeper is killed in W2.
var crashSteps = []string{"before-intent", "after-intent", "after-term", "after-kill", "before-store", "after-store", "before-release"}

// crashAt returns a hook that makes a keeper kill itself with SIGKILL at a step, or nil.
func crashAt(step string) func(*watcher.Keeper) {
	if step == "" {
		return nil
	}
	return func(k *watcher.Keeper) {
		k.Recorder = crashRecorder{k.Recorder, step}
		k.Target = crashTarget{k.Target, step}
	}
}

func crash(now, step string) {
	if now == step {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}

type crashRecorder struct {
	watcher.Recorder
	step string
}

func (r crashRecorder) Append(ctx context.Context, es ...events.Event) error {
	for _, e := range es {
		switch e.Kind {
		case events.KindIntent:
			crash("before-intent", r.step)
		case events.KindTerm: // recorded after the signal was sent
			crash("after-term", r.step)
		case events.KindKill:
			crash("after-kill", r.step)
		}
	}
	err := r.Recorder.Append(ctx, es...)
	for _, e := range es {
		if e.Kind == events.KindIntent {
			crash("after-intent", r.step)
		}
	}
	return err
}

func (r crashRecorder) End(ctx context.Context, run *events.Run, es ...events.Event) error {
	crash("before-store", r.step)
	err := r.Recorder.End(ctx, run, es...)
	crash("after-store", r.step)
	return err
}

type crashTarget struct {
	watcher.Target
	step string
}

func (t crashTarget) Release(ctx context.Context, mayHaveFailed bool) error {
	crash("before-release", t.step)
	return t.Target.Release(ctx, mayHaveFailed)
}
