package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

func TestParseChange(t *testing.T) {
	n := func(n uint64) *uint64 { return &n }
	f := func(f float64) *float64 { return &f }
	config := &Config{Settings: map[string]Setting{}, Ceilings: map[string]Setting{
		"memory_max": {Key: "memory_max", Text: "4G", From: "/etc/lictor/lictor.toml:3"},
		"tasks_max":  {Key: "tasks_max", Text: "100", From: "/etc/lictor/lictor.toml:4"},
	}}
	for _, tt := range []struct {
		args string
		want scope.Change
		err  string
	}{
		{"MemoryMax=2G", scope.Change{MemoryMax: n(2 << 30)}, ""},
		{"MemoryMax=50%", scope.Change{MemoryMax: n(2 << 30)}, ""},
		{"MemoryHigh=infinity MemorySwapMax=0", scope.Change{MemoryHigh: n(scope.NoLimit), MemorySwapMax: n(0)}, ""},
		{"TasksMax=100 CPUQuota=150%", scope.Change{TasksMax: n(100), CPUQuota: f(1.5)}, ""},
		{"CPUQuota=infinity", scope.Change{CPUQuota: f(0)}, ""},
		{"MemoryMax=5G", scope.Change{}, "above the administrator's ceiling"},
		{"MemoryMax=infinity", scope.Change{}, "above the administrator's ceiling"},
		{"TasksMax=101", scope.Change{}, "above the administrator's ceiling"},
		{"MemoryMax=", scope.Change{}, "memory-max"},
		{"MemoryMax", scope.Change{}, "must be NAME=VALUE"},
		{"MemoryMax=1G MemoryMax=2G", scope.Change{}, "each name once"},
		{"RuntimeMaxSec=1h", scope.Change{}, "systemd cannot change it"},
		{"memory_max=1G", scope.Change{}, "not on the list"},
		{"Slice=system.slice", scope.Change{}, "not on the list"},
		{"CPUWeight=0", scope.Change{}, "does not fit"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got, _, err := parseChange(config, strings.Fields(tt.args), 4<<30)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error: got %v, want %q", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
	_, others, err := parseChange(config, []string{"CPUWeight=50"}, 0)
	if want := []events.LimitDetail{{Limit: "CPUWeight", Value: "50"}}; err != nil || !cmp.Equal(others, want) {
		t.Errorf("others: got %+v, %v", others, err)
	}
}

func TestDescribeLimit(t *testing.T) {
	f := func(f float64) *float64 { return &f }
	for want, d := range map[string]events.LimitDetail{
		"":                                   {},
		"MemoryMax 2.0G → 4.0G, by uid 0":    {Limit: "MemoryMax", Old: f(2 << 30), New: f(4 << 30), By: "uid 0"},
		"TasksMax infinity → 60, by unknown": {Limit: "TasksMax", New: f(60), By: "unknown"},
		"CPUQuota 150% → infinity":           {Limit: "CPUQuota", Old: f(150)},
		"CPUWeight 50, by uid 1000":          {Limit: "CPUWeight", Value: "50", By: "uid 1000"},
		"MemoryMax -1 → infinity":            {Limit: "MemoryMax", Old: f(-1)},
	} {
		if got := describeLimit(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
