package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestReport(t *testing.T) {
	plain := errors.New("disk: on fire")
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{"nothing", nil, 0, ""},
		{"plain", plain, 1, "lictor: disk: on fire\n"},
		{"usage", usageError("kind %q: unknown", "x"), 2, "lictor: kind \"x\": unknown\n"},
		{"status alone", withCode(3, nil), 3, ""},
		{"status of a command", withCode(137, plain), 137, "lictor: disk: on fire\n"},
		{"outer status wins", withCode(125, withCode(2, plain)), 125, "lictor: disk: on fire\n"},
		{"hint", withHint(plain, "lictor doctor"), 1, "lictor: disk: on fire\nhint: lictor doctor\n"},
		{"hint below a status", withCode(125, withHint(plain, "lictor doctor")), 125, "lictor: disk: on fire\nhint: lictor doctor\n"},
		{"outer hint wins", withHint(fmt.Errorf("run: %w", withHint(plain, "inner")), "outer"), 1, "lictor: run: disk: on fire\nhint: outer\n"},
		{"hint for nothing", withHint(nil, "lictor doctor"), 0, ""},
		{"several", errors.Join(withHint(plain, "a"), usageError("b")), 1, "lictor: disk: on fire\nhint: a\nlictor: b\n"},
		{"several causes of one", fmt.Errorf("%w and %w", plain, plain), 1, "lictor: disk: on fire and disk: on fire\n"},
		{"hostile", errors.New("\x1b[2J\nlictor: fine"), 1, "lictor: \\x1b[2J\\nlictor: fine\n"},
	}
	for _, tt := range tests {
		var stderr bytes.Buffer
		if code := report(&stderr, tt.err); code != tt.code || stderr.String() != tt.want {
			t.Errorf("%s: exit status %d and %q, want %d and %q", tt.name, code, stderr.String(), tt.code, tt.want)
		}
	}
}
