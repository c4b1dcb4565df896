package main

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// again is the command line that starts the same run with one flag changed; limits that the person had asked for stay.
func (s story) again(flag, value string) []string {
	args := []string{"lictor", "run"}
	if s.Manager == "user" && s.UID == 0 {
		args = append(args, "--user")
	}
	args = append(args, flag, value)
	for _, f := range s.askedFor() {
		if f[0] != flag {
			args = append(args, f[0], f[1])
		}
	}
	return append(append(args, "--"), s.Command...)
}

// askedFor are the flags that the run was started with, as far as its limits tell.
func (s story) askedFor() (flags [][2]string) {
	l := s.Limits
	add := func(flag, limit, value string) {
		if value != "" && !slices.Contains(l.Default, limit) {
			flags = append(flags, [2]string{flag, value})
		}
	}
	add("-m", "MemoryMax", given(l.MemoryMaxBytes, sizeArgument))
	add("-t", "RuntimeMaxSec", given(l.RuntimeMaxSeconds, timeArgument))
	add("--grace", "TimeoutStopSec", timeArgument(l.GraceSeconds))
	add("--memory-swap-max", "MemorySwapMax", given(l.MemorySwapMaxBytes, sizeArgument))
	add("--memory-high", "MemoryHigh", given(l.MemoryHighBytes, sizeArgument))
	add("--tasks-max", "TasksMax", given(l.TasksMax, func(n uint64) string { return strconv.FormatUint(n, 10) }))
	add("--cpu-quota", "CPUQuota", given(l.CPUQuotaPercent, func(p float64) string { return fmt.Sprintf("%g%%", p) }))
	if l.OOMPolicy == "continue" {
		add("--oom-policy", "OOMPolicy", l.OOMPolicy)
	}
	return flags
}

// given writes a limit, or nothing if there is none.
func given[T any](limit *T, write func(T) string) string {
	if limit == nil {
		return ""
	}
	return write(*limit)
}

// roundSize rounds n up to a size that a person would write: at most three significant binary digits (2G, 2.5G, 3G, … 4G,
// 5G).
func roundSize(n uint64) uint64 {
	if n < 8 {
		return max(n, 1)
	}
	step := uint64(1) << (bits.Len64(n-1) - 3)
	if n > math.MaxUint64-step {
		return n
	}
	return (n + step - 1) / step * step
}

// sizeArgument writes n exactly, as a flag takes it: 3G, 2560M.
func sizeArgument(n uint64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatUint(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10)
}

// timeArgument writes a number of seconds as a flag takes it: 1h, 90min, 45s.
func timeArgument(s float64) string {
	n := int64(s)
	switch {
	case float64(n) != s:
		return fmt.Sprintf("%gs", s)
	case n%3600 == 0 && n > 0:
		return fmt.Sprintf("%dh", n/3600)
	case n%60 == 0 && n > 0:
		return fmt.Sprintf("%dmin", n/60)
	}
	return fmt.Sprintf("%ds", n)
}

func lastElement(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
