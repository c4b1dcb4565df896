package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// How to write a value of each kind: the hint that goes with every message that refuses one.
const (
	sizeSyntax    = "write it like 512M, 2G or infinity"
	timeSyntax    = "write it like 90, 30min, 1h 30min or infinity"
	countSyntax   = "write it like 512 or infinity"
	percentSyntax = "write it like 50%, 200% or infinity"
)

// limitError refuses the value of a limit. Flag is the name that the person knows it by.
type limitError struct {
	Flag, Text string
	Problem    string // "not a size"
	Syntax     string // "write it like 512M"
}

func (e *limitError) Error() string {
	return fmt.Sprintf("%s %q: %s", e.Flag, e.Text, e.Problem)
}

// ParseBytes reads a size in the syntax of systemd.resource-control(5): a number, possibly with a fraction, and one of the
// 1024-based suffixes K M G T P E; a percentage of physical memory; or "infinity" (also "max", the kernel's word for it),
// which sets infinite. Physical is the machine's memory in bytes, 0 if not known. Nothing can run in 0 bytes, so 0 is
// refused; see ParseBytesOrZero.
func ParseBytes(flag, text string, physical uint64) (n uint64, infinite bool, err error) {
	n, infinite, err = ParseBytesOrZero(flag, text, physical)
	if err == nil && !infinite && n == 0 {
		return 0, false, &limitError{flag, text, "nothing can run in 0 bytes", sizeSyntax}
	}
	return n, infinite, err
}

// ParseBytesOrZero is ParseBytes for limits where 0 means something: memory-swap-max 0 is "no swap".
func ParseBytesOrZero(flag, text string, physical uint64) (n uint64, infinite bool, err error) {
	refuse := func(problem string) (uint64, bool, error) {
		return 0, false, &limitError{flag, text, problem, sizeSyntax}
	}
	number, suffix, problem := splitNumber(strings.TrimSpace(text))
	if isInfinite(text) {
		return 0, true, nil
	}
	if problem != "" {
		return refuse(orNotA(problem, "size"))
	}
	if suffix == "%" {
		n, problem = percentOf(number, physical)
	} else {
		n, problem = sizeOf(number, suffix)
	}
	if problem != "" {
		return refuse(problem)
	}
	return n, false, nil
}

func isInfinite(text string) bool {
	text = strings.TrimSpace(text)
	return text == "infinity" || text == "max"
}

// sizeOf multiplies number by what suffix stands for.
func sizeOf(number, suffix string) (n uint64, problem string) {
	shift := strings.Index("BKMGTPE", suffix)
	if len(suffix) > 1 || shift < 0 {
		return 0, fmt.Sprintf("unknown suffix %q (there are K, M, G, T, P and E, 1024-based)", suffix)
	}
	n, ok := scale(number, 1<<(10*shift))
	if !ok || n == 1<<64-1 {
		return 0, "larger than any memory"
	}
	return n, ""
}

// percentOf takes a percentage of physical, which is 0 when it is not known.
func percentOf(number string, physical uint64) (n uint64, problem string) {
	permyriad, ok := scale(number, 100)
	switch {
	case !ok || permyriad > 100_00:
		return 0, "more than all of the memory"
	case physical == 0:
		return 0, "the size of this machine's memory is not known"
	}
	hi, lo := bits.Mul64(physical, permyriad)
	n, _ = bits.Div64(hi, lo, 100_00)
	return n, ""
}

// ParseCount reads a number of things, or "infinity".
func ParseCount(flag, text string) (n uint64, infinite bool, err error) {
	if isInfinite(text) {
		return 0, true, nil
	}
	n, err = strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	if err != nil {
		return 0, false, &limitError{flag, text, "not a number", countSyntax}
	}
	if n == 0 {
		return 0, false, &limitError{flag, text, "nothing can run with 0", countSyntax}
	}
	return n, false, nil
}

// ParsePercent reads a share of one processor, as CPUQuota= takes it: 200% is two processors. The resolution is 0.01%.
func ParsePercent(flag, text string) (percent float64, infinite bool, err error) {
	refuse := func(problem string) (float64, bool, error) {
		return 0, false, &limitError{flag, text, problem, percentSyntax}
	}
	if isInfinite(text) {
		return 0, true, nil
	}
	number, suffix, problem := splitNumber(strings.TrimSpace(text))
	if problem != "" {
		return refuse(orNotA(problem, "percentage"))
	}
	if suffix != "%" {
		return refuse(`"%" is missing`)
	}
	permyriad, ok := scale(number, 100)
	if !ok || permyriad > 1<<40 {
		return refuse("more than any machine has")
	}
	if permyriad == 0 {
		return refuse("nothing can run with no processor time")
	}
	return float64(permyriad) / 100, false, nil
}
