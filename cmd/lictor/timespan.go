package main

import (
	"fmt"
	"strings"
	"time"
)

// ParseTimespan reads a time span in the syntax of systemd.time(7): numbers, possibly with fractions, with the units us ms
// s min h d w month y and their longer names, which add up ("1h 30min"); a bare number is seconds; "infinity" sets
// infinite. The resolution is a microsecond. Zero is refused because systemd takes it for no limit; see
// ParseTimespanOrZero.
func ParseTimespan(flag, text string) (d time.Duration, infinite bool, err error) {
	d, infinite, err = ParseTimespanOrZero(flag, text)
	if err == nil && !infinite && d == 0 {
		return 0, false, &limitError{flag, text, "no time at all", timeSyntax}
	}
	return d, infinite, err
}

// ParseTimespanOrZero is ParseTimespan for times where 0 means at once, such as the grace of `lictor stop`.
func ParseTimespanOrZero(flag, text string) (d time.Duration, infinite bool, err error) {
	if isInfinite(text) {
		return 0, true, nil
	}
	micros, problem := sumTimespan(strings.TrimSpace(text))
	if problem != "" {
		return 0, false, &limitError{flag, text, orNotA(problem, "time span"), timeSyntax}
	}
	return time.Duration(micros) * time.Microsecond, false, nil
}

// sumTimespan adds up the terms of a time span, in microseconds.
func sumTimespan(text string) (micros uint64, problem string) {
	const most = (1<<63 - 1) / uint64(time.Microsecond) // what a time.Duration holds
	if text == "" {
		return 0, "empty"
	}
	for rest := text; rest != ""; {
		var term string
		term, rest = cutTerm(rest)
		number, unit, problem := splitNumber(term)
		if problem != "" {
			return 0, problem
		}
		each := timeUnit(unit)
		if each == 0 {
			return 0, fmt.Sprintf("unknown unit %q", unit)
		}
		n, ok := scale(number, each)
		if !ok || n > most-micros {
			return 0, "longer than any run"
		}
		micros += n
	}
	return micros, ""
}

// cutTerm splits the first number and its unit off a time span: "1h30min" gives "1h" and "30min", "1 30min" gives "1" and
// "30min". What does not begin with a number is one term, for splitNumber to refuse.
func cutTerm(text string) (term, rest string) {
	afterNumber := strings.TrimLeft(text, "0123456789.")
	if len(afterNumber) == len(text) {
		return text, ""
	}
	unit := strings.TrimLeft(afterNumber, " ")
	end := strings.IndexAny(unit, " 0123456789.+-")
	if end < 0 {
		return text, ""
	}
	rest = unit[end:]
	return text[:len(text)-len(rest)], strings.TrimLeft(rest, " ")
}

// timeUnit returns the microseconds in a unit of systemd.time(7), or 0.
func timeUnit(unit string) uint64 {
	const second = 1_000_000
	switch unit {
	case "usec", "us", "µs", "μs":
		return 1
	case "msec", "ms":
		return second / 1000
	case "", "seconds", "second", "sec", "s":
		return second
	case "minutes", "minute", "min", "m":
		return 60 * second
	case "hours", "hour", "hr", "h":
		return 3600 * second
	case "days", "day", "d":
		return 24 * 3600 * second
	case "weeks", "week", "w":
		return 7 * 24 * 3600 * second
	case "months", "month", "M":
		return 2_629_800 * second // 30.44 days, as systemd counts
	case "years", "year", "y":
		return 31_557_600 * second // 365.25 days
	}
	return 0
}
