package watcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

func TestLimitDifferences(t *testing.T) {
	n := func(n uint64) *uint64 { return &n }
	f := func(f float64) *float64 { return &f }
	for _, tt := range []struct {
		name          string
		before, after events.Limits
		want          []events.LimitDetail
	}{
		{"none", events.Limits{}, events.Limits{}, nil},
		{"the same", events.Limits{MemoryMaxBytes: n(7)}, events.Limits{MemoryMaxBytes: n(7)}, nil},
		{"raised", events.Limits{MemoryMaxBytes: n(7)}, events.Limits{MemoryMaxBytes: n(8)}, []events.LimitDetail{{Limit: "MemoryMax", Old: f(7), New: f(8)}}},
		{"lifted", events.Limits{TasksMax: n(7)}, events.Limits{}, []events.LimitDetail{{Limit: "TasksMax", Old: f(7)}}},
		{"new", events.Limits{}, events.Limits{CPUQuotaPercent: f(50)}, []events.LimitDetail{{Limit: "CPUQuota", New: f(50)}}},
		{"several", events.Limits{MemorySwapMaxBytes: n(0)}, events.Limits{MemorySwapMaxBytes: n(1), MemoryHighBytes: n(2)},
			[]events.LimitDetail{{Limit: "MemoryHigh", New: f(2)}, {Limit: "MemorySwapMax", Old: f(0), New: f(1)}}},
		{"what cannot change", events.Limits{GraceSeconds: 1, OOMPolicy: "kill"}, events.Limits{GraceSeconds: 2, OOMPolicy: "continue"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, LimitDifferences(tt.before, tt.after)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
