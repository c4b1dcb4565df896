package main

import (
	"testing"
	"time"
)

func TestParseWhen(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 23, 15, 10, 30, 500, zone)
	at := func(month time.Month, day, hour, minute, second int) time.Time {
		return time.Date(2026, month, day, hour, minute, second, 0, zone)
	}
	tests := []struct {
		text string
		want time.Time // zero: refused
	}{
		{"now", now},
		{"today", at(11, 23, 0, 0, 0)},
		{"yesterday", at(11, 22, 0, 0, 0)},
		{"tomorrow", at(11, 24, 0, 0, 0)},
		{"-1h", now.Add(-time.Hour)},
		{"-1h 30min", now.Add(-90 * time.Minute)},
		{"2h ago", now.Add(-2 * time.Hour)},
		{" 5min left ", now.Add(5 * time.Minute)},
		{"+90", now.Add(90 * time.Second)},
		{"2026-11-20", at(11, 20, 0, 0, 0)},
		{"2026-11-20 15:04", at(11, 20, 15, 4, 0)},
		{"2026-11-20 15:04:05", at(11, 20, 15, 4, 5)},
		{"2026-11-20 15:04:05.25", at(11, 20, 15, 4, 5).Add(250 * time.Millisecond)},
		{"Fri 2026-11-20 15:04:05 UTC", at(11, 20, 16, 4, 5)},
		{"2026-11-20 15:04 CET", at(11, 20, 15, 4, 0)},
		{"2026-11-20T15:04:05Z", at(11, 20, 16, 4, 5)},
		{"2026-11-20T15:04:05.5+01:00", at(11, 20, 15, 4, 5).Add(500 * time.Millisecond)},
		{"09:30", at(11, 23, 9, 30, 0)},
		{"09:30:15", at(11, 23, 9, 30, 15)},
		{"@0", time.Unix(0, 0)},
		{"", time.Time{}},
		{"1h", time.Time{}},
		{"soon", time.Time{}},
		{"-soon", time.Time{}},
		{"2026-13-01", time.Time{}},
		{"25:00", time.Time{}},
		{"@never", time.Time{}},
		{"infinity ago", time.Time{}},
	}
	for _, tt := range tests {
		got, err := parseWhen("since", tt.text, now)
		if !got.Equal(tt.want) && err == nil || (err != nil) != tt.want.IsZero() {
			t.Errorf("parseWhen(%q) = %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseWhen(f *testing.F) {
	for _, s := range []string{"-1h", "today", "2026-11-23 15:04 UTC", "@1", " ago", "Mon ", "1 ago"} {
		f.Add(s)
	}
	now := time.Now()
	f.Fuzz(func(_ *testing.T, text string) { parseWhen("since", text, now) })
}
