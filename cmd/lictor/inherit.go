package main

import (
	"bufio"
	"bytes"
	"errors"
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
func inherit(s *scope.ServiceSpec) (err error) {
	s.Umask = umask()
	// They cannot be asked for here: the Go runtime raises the number of open files for itself and lowers it again only for what it
	// executes.
	limits, err := exec.Command("cat", "/proc/self/limits").Output()
	if err != nil {
		return fmt.Errorf("resource limits: %w", err)
	}
	return inheritFrom(s, os.Getpid(), limits)
}

// likeChildOf fills in what a child of another process would inherit, if that is nobody's but the user's.
func likeChildOf(s *scope.ServiceSpec, pid int, uid uint32) error {
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return fmt.Errorf("resource limits: %w", err)
	}
	if err := inheritFrom(s, pid, limits); err != nil {
		return err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // last: if it is the user's now, it was then
	if err != nil {
		return err
	}
	s.Umask, err = parseStatus(status, uid)
	return err
}

// inheritFrom fills in all but the umask.
func inheritFrom(s *scope.ServiceSpec, pid int, limits []byte) error {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		return fmt.Errorf("nice: %w", err)
	}
	s.Nice = 20 - n // as the system call has it, see getpriority(2)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err == nil {
		s.OOMScore, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return fmt.Errorf("oom_score_adj: %w", err)
	}
	s.Limits, err = parseRlimits(bytes.NewReader(limits))
	return err
}

// parseStatus reads the umask in /proc/PID/status, see proc_pid_status(5), of a process all of whose user ids are uid.
func parseStatus(text []byte, uid uint32) (mask os.FileMode, err error) {
	mine, known := false, false
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch fields := strings.Fields(value); name {
		case "Uid": // real, effective, saved, of file systems
			mine = len(fields) == 4
			for _, f := range fields {
				mine = mine && f == strconv.FormatUint(uint64(uid), 10)
			}
		case "Umask":
			n, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			mask, known = os.FileMode(n), err == nil
		}
	}
	if !mine {
		return 0, fmt.Errorf("the process is not, or not only, user %d's", uid)
	}
	if !known {
		return 0, errors.New("umask: not in /proc/PID/status")
	}
	return mask, nil
}

// limitNames are the lines of /proc/PID/limits with systemd's names for them. See proc_pid_limits(5).
var limitNames = map[string]string{
	"Max cpu time": "CPU", "Max file size": "FSIZE", "Max data size": "DATA", "Max stack size": "STACK",
	"Max core file size": "CORE", "Max resident set": "RSS", "Max processes": "NPROC", "Max open files": "NOFILE",
	"Max locked memory": "MEMLOCK", "Max address space": "AS", "Max file locks": "LOCKS",
	"Max pending signals": "SIGPENDING", "Max msgqueue size": "MSGQUEUE", "Max nice priority": "NICE",
	"Max realtime priority": "RTPRIO", "Max realtime timeout": "RTTIME",
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
