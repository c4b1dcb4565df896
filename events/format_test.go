package events

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestFormatBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1.0K", 1536: "1.5K", 4096: "4.0K",
		10 << 10: "10K", 10188: "9.9K", 10189: "10K", 310 << 20: "310M", 804 << 20: "804M",
		1023<<10 + 511: "1023K", 1023<<10 + 512: "1.0M", 1<<20 - 1: "1.0M", 1 << 20: "1.0M",
		2147483648: "2.0G", 2147479552: "2.0G", 1288490189: "1.2G", 10<<30 - 1: "10G", 1 << 40: "1.0T", 1 << 50: "1.0P",
		1 << 60: "1.0E", math.MaxUint64: "16E",
	} {
		if got := FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", time.Microsecond: "0s", time.Millisecond: "1ms", 340 * time.Millisecond: "340ms",
		999*time.Millisecond + 400*time.Microsecond: "999ms", 999*time.Millisecond + 500*time.Microsecond: "1s",
		time.Second: "1s", 1500 * time.Millisecond: "1.5s", 9940 * time.Millisecond: "9.9s", 9950 * time.Millisecond: "10s",
		12 * time.Second: "12s", 59500 * time.Millisecond: "1min", 97200 * time.Millisecond: "1min 37s", 30 * time.Minute: "30min",
		time.Hour: "1h", 2*time.Hour + 5*time.Second: "2h 5s", 90061 * time.Second: "1d 1h 1min 1s", 400 * 24 * time.Hour: "400d",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
	if got := FormatDuration(math.MaxInt64); !strings.HasSuffix(got, "s") || len(got) > 40 {
		t.Errorf("FormatDuration(longest) = %q", got)
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[float64]time.Duration{
		1.5: 1500 * time.Millisecond, -1: 0, math.Inf(1): math.MaxInt64, math.Inf(-1): 0, 1e300: math.MaxInt64,
	} {
		if got := seconds(s); got != want {
			t.Errorf("seconds(%v) = %v, want %v", s, got, want)
		}
	}
	if got := seconds(math.NaN()); got != 0 {
		t.Errorf("seconds(NaN) = %v, want 0", got)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "日本": "日本", "a\nb\x1b[31\x00": `a\nb\x1b[31\x00`, "\xff": `\xff`, `say "hi"`: `say "hi"`,
		"0123456789": "0123456789", "0123456789a": "0123456…", "日本語日本": "日本…", "": "", `a\b`: `a\\b`,
	} {
		if got := printable(in, 10); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzTruncate(f *testing.F) {
	f.Add("日本語", 4)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(limit, 3)
		got := truncate(s, limit)
		if len(got) > limit {
			t.Errorf("truncate(%q, %d) has %d bytes", s, limit, len(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("truncate(%q, %d) = %q cuts a character", s, limit, got)
		}
		if len(s) <= limit && got != s {
			t.Errorf("truncate(%q, %d) = %q", s, limit, got)
		}
	})
}
