package main

import (
	"strings"
	"testing"

	"github.com/scidex/lictor/events"
)

func TestRoundSize(t *testing.T) {
	const mib = 1 << 20
	tests := []struct{ n, want uint64 }{
		{0, 1}, {1, 1}, {7, 7}, {9, 10}, {15 * mib, 16 * mib}, {150 * mib, 160 * mib}, {768 * mib, 768 * mib},
		{3 * gib, 3 * gib}, {4*gib + gib/2, 5 * gib}, {27 * gib, 28 * gib}, {gib + 1, gib + gib/4}, {1<<64 - 1, 1<<64 - 1},
	}
	for _, tt := range tests {
		if got := roundSize(tt.n); got != tt.want {
			t.Errorf("roundSize(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
}

// What advice writes, the flags read back as the same number.
func TestArgumentsReadBack(t *testing.T) {
	for _, n := range []uint64{1, 1023, 1 << 10, 2560 << 20, 3 << 30, 5 << 40, 1<<40 + 1} {
		got, _, err := ParseBytes("memory-max", sizeArgument(n), 0)
		if err != nil || got != n {
			t.Errorf("sizeArgument(%d) = %q, which reads as %d, %v", n, sizeArgument(n), got, err)
		}
	}
	for _, s := range []float64{0.5, 1, 59, 60, 90, 5400, 7200, 86400, 123456} {
		got, _, err := ParseTimespan("runtime-max", timeArgument(s))
		if err != nil || got.Seconds() != s {
			t.Errorf("timeArgument(%g) = %q, which reads as %v, %v", s, timeArgument(s), got, err)
		}
	}
}

// A command line in an advice keeps what the person had asked for, and says nothing of defaults.
func TestAgain(t *testing.T) {
	run := sampleRun(func(r *events.Run) {
		r.Manager, r.UID = "user", 0
		r.Limits.CPUQuotaPercent, r.Limits.MemoryHighBytes = new(150.0), new(uint64(1<<30))
		r.Limits.OOMPolicy = "continue"
	})
	got := strings.Join(story{listed: listed{Run: run}}.again("-m", "3G"), " ")
	want := "lictor run --user -m 3G --memory-high 1G --cpu-quota 150% --oom-policy continue -- python embed.py --all"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
