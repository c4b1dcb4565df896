package main

import (
	"slices"
	"testing"
)

func TestDecodeKeys(t *testing.T) {
	tests := []struct {
		name  string
		input string
		final bool
		want  []topKey
		rest  string
	}{
		{"characters", "jk?", false, []topKey{"j", "k", "?"}, ""},
		{"control", "\r\x03\x0c\x1a\x07\x7f", false, []topKey{keyEnter, keyCtrlC, keyCtrlL, keyCtrlZ}, ""},
		{"arrows", "\x1b[A\x1b[B\x1bOA\x1bOB", false, []topKey{keyUp, keyDown, keyUp, keyDown}, ""},
		{"pages", "\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~", false, []topKey{keyPageUp, keyPageDown, keyHome, keyEnd, keyHome, keyEnd}, ""},
		{"an escape may be a beginning", "j\x1b", false, []topKey{"j"}, "\x1b"},
		{"an escape by itself", "\x1b", true, []topKey{keyEscape}, ""},
		{"escape twice", "\x1b\x1b", true, []topKey{keyEscape, keyEscape}, ""},
		{"half an arrow", "\x1b[", false, nil, "\x1b["},
		{"an arrow that never came is no escape", "\x1b[", true, nil, ""},
		{"parameters", "\x1b[1;5A\x1b[200~q", false, []topKey{"q"}, ""},
		{"half of parameters", "\x1b[1;", false, nil, "\x1b[1;"},
		{"alt is no key of ours", "\x1bs", false, nil, ""},
		{"wide", "分q", false, []topKey{"分", "q"}, ""},
		{"half a character", "q\xe5\x88", false, []topKey{"q"}, "\xe5\x88"},
		{"no character", "\xffq\xe5", true, []topKey{"q"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, rest := decodeKeys([]byte(tt.input), tt.final)
			if !slices.Equal(keys, tt.want) || string(rest) != tt.rest {
				t.Errorf("got %q, rest %q, want %q, rest %q", keys, rest, tt.want, tt.rest)
			}
		})
	}
}

// However a terminal cuts its input into pieces, the keys are the same, and nothing is left in the end.
func FuzzDecodeKeys(f *testing.F) {
	f.Add([]byte("j\x1b[A\x1bOBq\x1b[1;5~分\x1b"), 3)
	f.Add([]byte("\x1b\x1b[[\xe5"), 1)
	f.Fuzz(func(t *testing.T, input []byte, at int) {
		at = min(max(at, 0), len(input))
		whole, rest := decodeKeys(input, true)
		if len(rest) > 0 {
			t.Fatalf("%q leaves %q", input, rest)
		}
		first, rest := decodeKeys(slices.Clone(input[:at]), false)
		second, _ := decodeKeys(append(slices.Clone(rest), input[at:]...), true)
		if got := append(first, second...); !slices.Equal(got, whole) {
			t.Errorf("%q cut at %d: %q, want %q", input, at, got, whole)
		}
	})
}
