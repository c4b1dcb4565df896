package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestX20Inert: escape sequences, bidi overrides and what else a terminal or a reader falls for are shown, not sent.
func TestX20Inert(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "python3 embed.py --all", "python3 embed.py --all"},
		{"script", "<script>$(reboot)</script>", "<script>$(reboot)</script>"}, // a terminal executes none
		{"letters of other scripts", "análisis 分析 ünï", "análisis 分析 ünï"},
		{"escape sequence", "a\x1b[31mred", `a\x1b[31mred`},
		{"eight-bit escape", "a\u009b31m", `a\u009b31m`},
		{"line breaks", "one\ntwo\r\tthree\u2028four", `one\ntwo\r\tthree\u2028four`},
		{"bidi override", "a\u202egnp.exe", `a\u202egnp.exe`},
		{"bidi isolate", "\u2066x\u2069", `\u2066x\u2069`},
		{"zero width", "ad\u200bmin\ufeff", `ad\u200bmin\ufeff`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"bell and delete", "\a\x7f", `\x07\x7f`},
		{"not UTF-8", "a\xffb\xc3", `a\xffb\xc3`},
		{"replacement character", "a\ufffd", `a\ufffd`},
		{"non-breaking space", "a\u00a0b", "a\u00a0b"},
	}
	for _, tt := range tests {
		if got := inert(tt.text); got != tt.want {
			t.Errorf("%s: inert(%q) = %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}

func FuzzInert(f *testing.F) {
	f.Add("a\x1b[31m\u202e\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := inert(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, dangerous) {
			t.Errorf("inert(%q) = %q is not inert", text, got)
		}
		if inert(got) != got {
			t.Errorf("inert(%q) is not stable", text)
		}
	})
}
