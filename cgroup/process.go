package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Stat is the part of /proc/PID/stat that tells one process from another and shows what it does, see proc_pid_stat(5).
type Stat struct {
	PID        int
	Comm       string // at most 15 bytes, chosen by the process itself: any byte but NUL
	State      byte   // R, S, D, Z, T, t, X, I
	PPID       int
	PGRP       int
	Session    int
	UserTicks  uint64 // see TicksPerSecond
	SysTicks   uint64
	Threads    int
	StartTicks uint64 // since boot; with PID and BootID the identity of the process
	RSSPages   int64
	// KernelThread says that the kernel made it for itself: it has no program and cannot be confined.
	KernelThread bool
	// Exiting says that it is past its last instruction of its own, though it may not be a zombie for a while.
	Exiting bool
}

// Flags of a process, PF_EXITING and PF_KTHREAD of the kernel's include/linux/sched.h.
const (
	exiting      = 0x00000004
	kernelThread = 0x00200000
)

// ReadStat reads /proc/PID/stat. It returns [ErrNoProcess] if there is no such process. It does not block on the process's
// memory map, as cmdline and environ can.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, procError(pid, err)
	}
	s, err := ParseStat(b)
	if err != nil {
		return Stat{}, procError(pid, err)
	}
	return s, nil
}

// StartTicks is field 22 of /proc/PID/stat: when the process started, in ticks since boot. A process is pid and start ticks
// (and [BootID]); the pid alone is given out again.
func StartTicks(pid int) (uint64, error) {
	s, err := ReadStat(pid)
	return s.StartTicks, err
}

// Positions in /proc/PID/stat, counted as proc_pid_stat(5) does, from 1.
const (
	fieldState      = 3
	fieldPPID       = 4
	fieldPGRP       = 5
	fieldSession    = 6
	fieldFlags      = 9
	fieldUserTicks  = 14
	fieldSysTicks   = 15
	fieldThreads    = 20
	fieldStartTicks = 22
	fieldRSSPages   = 24
)

// ParseStat reads /proc/PID/stat:
//
//	4711 (python3 (x) y) S 1 4711 4711 0 -1 4194560 1 0 0 0 7 3 0 0 20 0 1 0 123456 1048576 250 18446744073709551615 …
//
// The command stands between the first "(" and the last ")", whatever is in it. Fields after the 24th are ignored.
func ParseStat(b []byte) (Stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 2 || end < open || b[open-1] != ' ' {
		return Stat{}, errors.New("stat: no command in parentheses")
	}
	var fields [fieldRSSPages + 1][]byte
	n := fieldState
	for field := range bytes.FieldsSeq(b[end+1:]) {
		if n == len(fields) {
			break
		}
		fields[n] = field
		n++
	}
	if n < len(fields) {
		return Stat{}, fmt.Errorf("stat: %d fields", n-1)
	}
	if len(fields[fieldState]) != 1 {
		return Stat{}, fmt.Errorf("stat: state %q", fields[fieldState])
	}
	p := fieldParser{fields: fields[:]}
	p.fields[1] = b[:open-1]
	s := Stat{
		PID:        p.int(1),
		Comm:       string(b[open+1 : end]),
		State:      fields[fieldState][0],
		PPID:       p.int(fieldPPID),
		PGRP:       p.int(fieldPGRP),
		Session:    p.int(fieldSession),
		UserTicks:  p.uint(fieldUserTicks),
		SysTicks:   p.uint(fieldSysTicks),
		Threads:    p.int(fieldThreads),
		StartTicks: p.uint(fieldStartTicks),
		RSSPages:   int64(p.int(fieldRSSPages)),

		KernelThread: p.uint(fieldFlags)&kernelThread != 0,
		Exiting:      p.uint(fieldFlags)&exiting != 0,
	}
	if p.err != nil {
		return Stat{}, p.err
	}
	return s, nil
}

// fieldParser keeps the first error.
type fieldParser struct {
	fields [][]byte
	err    error
}

func (p *fieldParser) int(i int) int {
	n, err := strconv.Atoi(string(p.fields[i]))
	p.note(i, err)
	return n
}

func (p *fieldParser) uint(i int) uint64 {
	n, err := parseUint(p.fields[i])
	p.note(i, err)
	return n
}

func (p *fieldParser) note(i int, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("stat: field %d: malformed number %q", i, p.fields[i])
	}
}
