package watcher

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

func oomDetail(ev events.Event) (d events.OOMDetail, ok bool) {
	return d, json.Unmarshal(ev.Detail, &d) == nil
}

// isDying reports whether a process is ending or about to: it is a zombie, the kernel takes it apart (on a busy machine that
// is no instant), or SIGKILL is on its way to it. One that is not there any more is.
func isDying(pid int) bool {
	st, err := cgroup.ReadStat(pid)
	if err != nil || st.Exiting || st.State == 'Z' || st.State == 'X' {
		return true
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return err != nil || killPending(string(text))
}

// killPending looks for SIGKILL in the pending sets of /proc/PID/status, proc_pid_status(5):
//
//	SigPnd:	0000000000000100
//	ShdPnd:	0000000000000000
func killPending(status string) bool {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigPnd" && key != "ShdPnd" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && n&(1<<(9-1)) != 0 {
			return true
		}
	}
	return false
}

func processExists(pid int) bool {
	st, err := cgroup.ReadStat(pid)
	return err == nil && st.State != 'Z'
}
