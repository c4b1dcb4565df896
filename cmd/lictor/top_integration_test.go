//go:build integration

package main

import (
	"testing"

	"github.com/scidex/lictor/events"
)

// TestTopStops: a person watches a run in lictor top, stops it there, and reads why it ended.
func TestTopStops(t *testing.T) {
	asRootAndDaemon(t, func(b *bed) {
		r := b.lictor("run", "-d", "--analysis-id", "watched", "--", "sleep", "600")
		if r.code != 0 {
			b.Fatalf("%+v", r)
		}
		id := b.live()
		p := b.prepare("top")
		p.Env = append(p.Env, "TERM=xterm", "NO_COLOR=1")
		h := onTerminal(b.T, p.Cmd)
		h.expect("watched")
		h.press("s")
		h.expect("y/N")
		h.press("y")
		b.wantRun(b.ended(id), events.StateKilled, events.ReasonStop, b.me())
		h.expect("killed")
		h.press("w")
		h.expect("stopped it")
		h.press("q")
		h.press("q")
		h.left(0)
	})
}
