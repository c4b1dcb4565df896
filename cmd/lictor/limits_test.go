package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseBytes(t *testing.T) {
	const physical = 16 << 30
	tests := []struct {
		text     string
		want     uint64
		infinite bool
		err      string // the part after the value
	}{
		{text: "2G", want: 2 << 30},
		{text: " 512M ", want: 512 << 20},
		{text: "1.5G", want: 3 << 29},
		{text: "0.1K", want: 102},
		{text: "1K", want: 1024},
		{text: "3 T", want: 3 << 40},
		{text: "1P", want: 1 << 50},
		{text: "15E", want: 15 << 60},
		{text: "17B", want: 17},
		{text: "2147483648", want: 2 << 30},
		{text: "50%", want: 8 << 30},
		{text: "33.33%", want: physical * 3333 / 10000},
		{text: "100%", want: physical},
		{text: "infinity", infinite: true},
		{text: " max ", infinite: true},
		{text: "18446744073709551614", want: math.MaxUint64 - 1},

		{text: "", err: "empty"},
		{text: "  ", err: "empty"},
		{text: "banana", err: "not a size"},
		{text: "0", err: "nothing can run in 0 bytes"},
		{text: "0.0001K", err: "nothing can run in 0 bytes"},
		{text: "-1G", err: "negative"},
		{text: "1..5G", err: "not a size"},
		{text: ".5G", err: "not a size"},
		{text: "1.G", err: "not a size"},
		{text: "2g", err: `unknown suffix "g" (there are K, M, G, T, P and E, 1024-based)`},
		{text: "2GB", err: `unknown suffix "GB" (there are K, M, G, T, P and E, 1024-based)`},
		{text: "MG", err: "not a size"},
		{text: "1KM", err: `unknown suffix "KM" (there are K, M, G, T, P and E, 1024-based)`},
		{text: "16E", err: "larger than any memory"},
		{text: "18446744073709551615", err: "larger than any memory"}, // systemd's and the kernel's infinity
		{text: "99999999999999999999", err: "larger than any memory"},
		{text: "101%", err: "more than all of the memory"},
		{text: "0%", err: "nothing can run in 0 bytes"},
	}
	for _, tt := range tests {
		got, infinite, err := ParseBytes("memory-max", tt.text, physical)
		if msg := errText(err, sizeSyntax); msg != tt.err || got != tt.want || infinite != tt.infinite {
			t.Errorf("ParseBytes(%q) = %d, %t, %q; want %d, %t, %q", tt.text, got, infinite, msg, tt.want, tt.infinite, tt.err)
		}
	}
}

func TestParseBytesMessage(t *testing.T) {
	_, _, err := ParseBytes("memory-max", "banana", 0)
	want := `memory-max "banana": not a size`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, _, err = ParseBytes("memory-max", "50%", 0)
	if err == nil || !strings.Contains(err.Error(), "memory is not known") {
		t.Errorf("a percentage of an unknown memory: got %v", err)
	}
	if n, _, err := ParseBytesOrZero("memory-swap-max", "0", 0); n != 0 || err != nil {
		t.Errorf("ParseBytesOrZero(0) = %d, %v", n, err)
	}
}

func TestParseTimespan(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		text     string
		want     time.Duration
		infinite bool
		err      string
	}{
		{text: "90", want: 90 * time.Second},
		{text: "30min", want: 30 * time.Minute},
		{text: "1h 30min", want: 90 * time.Minute},
		{text: "1h30min", want: 90 * time.Minute},
		{text: "1 h 30 min", want: 90 * time.Minute},
		{text: "1 30min", want: 30*time.Minute + time.Second},
		{text: "500ms", want: 500 * time.Millisecond},
		{text: "2.5h", want: 150 * time.Minute},
		{text: "10us", want: 10 * time.Microsecond},
		{text: "10µs", want: 10 * time.Microsecond},
		{text: "1d", want: day},
		{text: "2 weeks", want: 14 * day},
		{text: "1M", want: 2629800 * time.Second},
		{text: "1m", want: time.Minute},
		{text: "1y", want: 31557600 * time.Second},
		{text: " 55s500ms ", want: 55500 * time.Millisecond},
		{text: "infinity", infinite: true},

		{text: "", err: "empty"},
		{text: "soon", err: "not a time span"},
		{text: "h", err: "not a time span"},
		{text: "1h soon", err: "not a time span"},
		{text: "1h -5min", err: "negative"},
		{text: "-5", err: "negative"},
		{text: "5 bananas", err: `unknown unit "bananas"`},
		{text: "1:30", err: `unknown unit ":"`},
		{text: "0", err: "no time at all"},
		{text: "0.1us", err: "no time at all"},
		{text: "300y", err: "longer than any run"},
		{text: "200y 200y", err: "longer than any run"},
		{text: "99999999999999999999", err: "longer than any run"},
	}
	for _, tt := range tests {
		got, infinite, err := ParseTimespan("runtime-max", tt.text)
		if msg := errText(err, timeSyntax); msg != tt.err || got != tt.want || infinite != tt.infinite {
			t.Errorf("ParseTimespan(%q) = %v, %t, %q; want %v, %t, %q", tt.text, got, infinite, msg, tt.want, tt.infinite, tt.err)
		}
	}
	if d, _, err := ParseTimespanOrZero("grace", "0"); d != 0 || err != nil {
		t.Errorf("ParseTimespanOrZero(0) = %v, %v", d, err)
	}
}

func TestParsePercent(t *testing.T) {
	tests := []struct {
		text     string
		want     float64
		infinite bool
		err      string
	}{
		{text: "200%", want: 200},
		{text: "12.5 %", want: 12.5},
		{text: "infinity", infinite: true},
		{text: "2", err: `"%" is missing`},
		{text: "0%", err: "nothing can run with no processor time"},
		{text: "-5%", err: "negative"},
		{text: "all", err: "not a percentage"},
		{text: "99999999999999%", err: "more than any machine has"},
	}
	for _, tt := range tests {
		got, infinite, err := ParsePercent("cpu-quota", tt.text)
		if msg := errText(err, percentSyntax); msg != tt.err || got != tt.want || infinite != tt.infinite {
			t.Errorf("ParsePercent(%q) = %v, %t, %q; want %v, %t, %q", tt.text, got, infinite, msg, tt.want, tt.infinite, tt.err)
		}
	}
}

func TestParseCount(t *testing.T) {
	tests := []struct {
		text     string
		want     uint64
		infinite bool
		err      string
	}{
		{text: "512", want: 512},
		{text: "infinity", infinite: true},
		{text: "0", err: "nothing can run with 0"},
		{text: "-1", err: "not a number"},
		{text: "1.5", err: "not a number"},
		{text: "", err: "not a number"},
	}
	for _, tt := range tests {
		got, infinite, err := ParseCount("tasks-max", tt.text)
		if msg := errText(err, countSyntax); msg != tt.err || got != tt.want || infinite != tt.infinite {
			t.Errorf("ParseCount(%q) = %d, %t, %q; want %d, %t, %q", tt.text, got, infinite, msg, tt.want, tt.infinite, tt.err)
		}
	}
}

// errText returns the problem in a limitError, without the value before it, if its syntax is the one wanted.
func errText(err error, syntax string) string {
	if err == nil {
		return ""
	}
	_, text, _ := strings.Cut(err.Error(), `": `)
	if hint := hintOf(err); hint != syntax {
		return "hint: " + hint
	}
	return text
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"2G", "1.5G", "50%", "infinity", "", "-1", "1..2K", "18446744073709551615", "\x1b[2JG"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, infinite, err := ParseBytes("memory-max", text, 1<<40)
		if err == nil && !infinite && (n == 0 || n == math.MaxUint64) {
			t.Errorf("ParseBytes(%q) = %d without an error", text, n)
		}
	})
}

func FuzzParseTimespan(f *testing.F) {
	for _, s := range []string{"1h 30min", "90", "infinity", "", "1 ", ".", "1.5.5h", "9223372036854775807us", "h1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, infinite, err := ParseTimespan("runtime-max", text)
		if err == nil && !infinite && d <= 0 {
			t.Errorf("ParseTimespan(%q) = %v without an error", text, d)
		}
	})
}
