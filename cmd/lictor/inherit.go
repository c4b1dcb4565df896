package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/scidex/lictor/scope"
	"golang.org/x/sys/unix"
)

// inherit fills in what a child of this process would inherit and a service would get from the manager.
func inherit(s *scope.ServiceSpec) error {
	s.Umask = umask()
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return fmt.Errorf("nice: %w", err)
	}
	s.Nice = 20 - n // as the system call has it, see getpriority(2)
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err == nil {
		s.OOMScore, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return fmt.Errorf("oom_score_adj: %w", err)
	}
	s.Limits, err = ownLimits()
	return err
}

// limitNames are the lines of /proc/PID/limits with systemd's names for them. See proc_pid_limits(5).
var limitNames = map[string]string{
	"Max cpu time": "CPU", "Max file size": "FSIZE", "Max data size": "DATA", "Max stack size": "STACK",
	"Max core file size": "CORE", "Max resident set": "RSS", "Max processes": "NPROC", "Max open files": "NOFILE",
	"Max locked memory": "MEMLOCK", "Max address space": "AS", "Max file locks": "LOCKS",
	"Max pending signals": "SIGPENDING", "Max msgqueue size": "MSGQUEUE", "Max nice priority": "NICE",
	"Max realtime priority": "RTPRIO", "Max realtime timeout": "RTTIME",
}

// ownLimits are the limits that a child of this process has. They cannot be asked for here: the Go runtime raises the number
// of open files for itself and lowers it again only for what it executes.
func ownLimits() ([]scope.Rlimit, error) {
	text, err := exec.Command("cat", "/proc/self/limits").Output()
	if err != nil {
		return nil, fmt.Errorf("resource limits: %w", err)
	}
	return parseRlimits(bytes.NewReader(text))
}

// parseRlimits reads /proc/PID/limits, columns of a fixed width:
//
//	Limit                     Soft Limit           Hard Limit           Units
//	Max cpu time              unlimited            unlimited            seconds
//	Max open files            1024                 524288               files
//
// Limits of unknown names are left out; a line that cannot be read is an error.
func parseRlimits(r io.Reader) ([]scope.Rlimit, error) {
	const nameWidth = 26
	var list []scope.Rlimit
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		if len(line) < nameWidth || strings.HasPrefix(line, "Limit ") {
			continue
		}
		name, fields := limitNames[strings.TrimSpace(line[:nameWidth])], strings.Fields(line[nameWidth:])
		if name == "" {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("resource limits: malformed line %q", line)
		}
		soft, errSoft := parseRlimit(fields[0])
		hard, errHard := parseRlimit(fields[1])
		if errSoft != nil || errHard != nil {
			return nil, fmt.Errorf("resource limits: malformed line %q", line)
		}
		list = append(list, scope.Rlimit{Name: name, Soft: soft, Hard: hard})
	}
	return list, nil
}

func parseRlimit(text string) (uint64, error) {
	if text == "unlimited" {
		return scope.NoLimit, nil
	}
	return strconv.ParseUint(text, 10, 64)
}
