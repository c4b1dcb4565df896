package cgroup

import (
	"bytes"
	"fmt"
	"strconv"
)

// Value is what a limit file or a gauge holds: a number, "max", or nothing because there is no such file. The zero Value is
// unset. Values can be compared with ==.
type Value struct {
	n    uint64
	kind valueKind
}

type valueKind uint8

const (
	kindUnset valueKind = iota
	kindNumber
	kindMax
)

var (
	// Unset is the value of a file that does not exist.
	Unset = Value{}
	// Max is no limit.
	Max = Value{kind: kindMax}
)

const (
	maxText   = "max"
	unsetText = "unset"
)

// Bytes returns the Value n. For pids.* files, where the unit is processes, [Number] reads better.
func Bytes(n uint64) Value { return Value{n: n, kind: kindNumber} }

// Number returns the Value n.
func Number(n uint64) Value { return Value{n: n, kind: kindNumber} }

// Uint64 returns the number, and false if v is unset or max.
func (v Value) Uint64() (n uint64, ok bool) { return v.n, v.kind == kindNumber }

// IsMax reports whether v is "max".
func (v Value) IsMax() bool { return v.kind == kindMax }

// IsSet reports whether the file exists: v is a number or max.
func (v Value) IsSet() bool { return v.kind != kindUnset }

// String returns the number in decimal, "max" or "unset". [ParseValue] reads it back.
func (v Value) String() string {
	switch v.kind {
	case kindNumber:
		return strconv.FormatUint(v.n, 10)
	case kindMax:
		return maxText
	}
	return unsetText
}

// MarshalText is [Value.String].
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is [ParseValue]; empty text is unset.
func (v *Value) UnmarshalText(text []byte) error {
	parsed, err := ParseValue(string(text))
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

// ParseValue reads the text form of a Value: a number in decimal, "max", or "unset" or nothing.
func ParseValue(s string) (Value, error) {
	if s == "" || s == unsetText {
		return Unset, nil
	}
	return parseValue([]byte(s))
}

// parseValue reads the contents of a single-value file:
//
//	2147483648
//
// or
//
//	max
//
// An empty file is malformed, not unset.
func parseValue(b []byte) (Value, error) {
	b = bytes.TrimSuffix(b, []byte("\n"))
	if string(b) == maxText {
		return Max, nil
	}
	n, err := parseUint(b)
	if err != nil {
		return Unset, fmt.Errorf("malformed value %q", string(b))
	}
	return Number(n), nil
}
