package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// Pressure is a *.pressure file: the share of time that processes lost waiting for a resource. See
// Documentation/accounting/psi.rst.
type Pressure struct {
	Some PressureLine // at least one process waited
	Full PressureLine // all processes waited
}

// PressureLine holds averages over the last 10, 60 and 300 seconds in percent, and the total since the cgroup was made.
type PressureLine struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration
}

// MemoryPressure reads memory.pressure. Without PSI (CONFIG_PSI, boot option psi=1) it is [ErrUnsupported].
func (g *Group) MemoryPressure() (Pressure, error) {
	var buf [256]byte
	b, err := g.read("memory.pressure", buf[:])
	if err != nil {
		return Pressure{}, err
	}
	p, err := parsePressure(b)
	if err != nil {
		return Pressure{}, fileError(g.path, "memory.pressure", err)
	}
	return p, nil
}

// ParsePressure reads a pressure file:
//
//	some avg10=0.00 avg60=1.24 avg300=0.37 total=1234567
//	full avg10=0.00 avg60=0.61 avg300=0.12 total=765432
//
// Unknown lines and unknown keys are ignored. Both lines with all four keys must be there.
func ParsePressure(r io.Reader) (Pressure, error) {
	b, err := readBounded(r)
	if err != nil {
		return Pressure{}, err
	}
	return parsePressure(b)
}

func parsePressure(b []byte) (Pressure, error) {
	var p Pressure
	var seenSome, seenFull bool
	for rest := b; len(rest) > 0; {
		var line []byte
		line, rest = nextLine(rest)
		kind, fields, _ := bytes.Cut(line, []byte(" "))
		var err error
		switch string(kind) {
		case "some":
			p.Some, err = parsePressureLine(fields)
			seenSome = true
		case "full":
			p.Full, err = parsePressureLine(fields)
			seenFull = true
		}
		if err != nil {
			return Pressure{}, fmt.Errorf("malformed line %q: %w", string(line), err)
		}
	}
	if !seenSome || !seenFull {
		return Pressure{}, fmt.Errorf("some or full is missing in %q", string(b))
	}
	return p, nil
}

func parsePressureLine(b []byte) (PressureLine, error) {
	var l PressureLine
	seen := 0
	for rest := b; len(rest) > 0; {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte(" "))
		key, value, _ := bytes.Cut(field, []byte("="))
		var err error
		switch string(key) {
		case "avg10":
			l.Avg10, err = parsePercent(value)
			seen |= 1
		case "avg60":
			l.Avg60, err = parsePercent(value)
			seen |= 2
		case "avg300":
			l.Avg300, err = parsePercent(value)
			seen |= 4
		case "total":
			l.Total, err = parseMicroseconds(value)
			seen |= 8
		}
		if err != nil {
			return PressureLine{}, err
		}
	}
	if seen != 1|2|4|8 {
		return PressureLine{}, errors.New("avg10, avg60, avg300 or total is missing")
	}
	return l, nil
}

func parsePercent(b []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(b), 64)
	if err == nil && (math.IsNaN(f) || f < 0 || f > 100) {
		err = fmt.Errorf("%q is no percentage", string(b))
	}
	return f, err
}

// maxMicroseconds is what a time.Duration holds: 292 years.
const maxMicroseconds = math.MaxInt64 / uint64(time.Microsecond)

func parseMicroseconds(b []byte) (time.Duration, error) {
	n, err := parseUint(b)
	if err == nil && n > maxMicroseconds {
		err = fmt.Errorf("%d µs is too long", n)
	}
	return microseconds(n), err
}
