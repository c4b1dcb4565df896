package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/scidex/lictor/events"
)

// verdict is how a check went.
type verdict string

// The verdicts. Degraded: runs are confined, and something about them will not be known or is weaker.
const (
	pass     verdict = "PASS"
	degraded verdict = "DEGRADED"
	fail     verdict = "FAIL"
)

// finding is the outcome of one check.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Text    string  `json:"text"`
	Fix     string  `json:"fix,omitempty"` // a command, or what to change
	repair  repair
}

// diagnose judges a probe. A check that means nothing because an earlier one failed is left out.
func diagnose(p probe) []finding {
	if p.OS != "linux" {
		return []finding{{Check: "system", Verdict: fail, Text: p.OS + ": cgroups and systemd are Linux only"}}
	}
	list := []finding{checkKernel(p), checkCgroup(p)}
	if p.CgroupError == "" {
		list = append(list, checkControllers(p), checkSwap(p))
	}
	list = append(list, checkSystemd(p))
	if p.SystemdBooted {
		list = append(list, checkVersion(p), checkBus(p))
	}
	if p.SystemdBooted && p.Mode == ModeUser {
		list = append(list, checkLinger(p))
		if p.CgroupError == "" {
			list = append(list, checkDelegation(p))
		}
	}
	return append(list, checkState(p), checkSlice(p), checkPressure(p), checkKernelLog(p), checkJournal(p), checkInotify(p), checkClock(p))
}

// good, weak and bad make findings.
func good(check, format string, args ...any) finding {
	return finding{Check: check, Verdict: pass, Text: fmt.Sprintf(format, args...)}
}

func weak(check, fix, format string, args ...any) finding {
	return finding{Check: check, Verdict: degraded, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func bad(check, fix, format string, args ...any) finding {
	return finding{Check: check, Verdict: fail, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func checkCgroup(p probe) finding {
	switch {
	case p.CgroupError != "":
		return bad("cgroup", "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line", "%s", p.CgroupError)
	case p.LocalEvents:
		return bad("cgroup", "mount -o remount,nsdelegate,memory_recursiveprot /sys/fs/cgroup",
			"mounted with memory_localevents: the ledger of a run would not see its kills")
	}
	return good("cgroup", "v2, unified")
}

func checkControllers(p probe) finding {
	has := func(name string) bool { return slices.Contains(p.Controllers, name) }
	switch {
	case !has("memory"):
		return bad("controllers", "boot without cgroup_disable=memory (on a Raspberry Pi: with cgroup_enable=memory)",
			"no memory controller: MemoryMax cannot hold")
	case !has("pids"):
		return weak("controllers", "boot without cgroup_disable=pids", "no pids controller: TasksMax does not hold")
	case !has("cpu"):
		return weak("controllers", "boot without cgroup_disable=cpu", "no cpu controller: CPUQuota does not hold")
	}
	return good("controllers", "memory, pids, cpu")
}

func checkSwap(p probe) finding {
	switch {
	case p.SwapTotal == nil:
		return weak("swap", "", "not known")
	case *p.SwapTotal == 0:
		return good("swap", "none: a memory limit is the whole limit")
	case !p.SwapAccounting:
		return weak("swap", "boot with swapaccount=1, or swapoff -a",
			"%s, and the kernel does not count it: a run may have its memory limit and all swap", events.FormatBytes(*p.SwapTotal))
	}
	return good("swap", "%s, which runs may not use unless asked", events.FormatBytes(*p.SwapTotal))
}

func checkSystemd(p probe) finding {
	if !p.SystemdBooted {
		return bad("systemd", "boot with systemd as PID 1", "PID 1 is not systemd (no /run/systemd/system): nobody can make scopes")
	}
	return good("systemd", "is PID 1")
}

func checkBus(p probe) finding {
	switch {
	case p.BusError == "":
		return good("manager", "the %s manager answers", p.Mode)
	case p.Mode == ModeUser:
		return bad("manager", "loginctl enable-linger, then log in again", "no user manager: %s", p.BusError)
	case p.UID != 0:
		return bad("manager", "sudo lictor doctor, or lictor --user doctor", "the system manager: %s", p.BusError)
	}
	return bad("manager", "systemctl start dbus.socket", "the system manager: %s", p.BusError)
}

func checkLinger(p probe) finding {
	if p.Linger {
		return good("linger", "runs go on after logout")
	}
	f := weak("linger", "loginctl enable-linger", "off: systemd ends every run when the last session closes")
	f.repair = repairLinger
	return f
}

func checkDelegation(p probe) finding {
	const fix = `sudo systemctl edit user@.service, add "[Service]" and "Delegate=cpu memory pids", then log in again`
	has := func(name string) bool { return slices.Contains(p.Delegated, name) }
	switch {
	case p.DelegatedError != "":
		return bad("delegation", "loginctl enable-linger, then log in again", "no cgroup of a user manager: %s", p.DelegatedError)
	case !has("memory"):
		return bad("delegation", fix, "the user manager has no memory controller: MemoryMax would not hold")
	case !has("pids"):
		return weak("delegation", fix, "the user manager has no pids controller: TasksMax would not hold")
	}
	return good("delegation", "the user manager has %s", strings.Join(p.Delegated, ", "))
}

func checkState(p probe) finding {
	switch {
	case p.StateError != "" && p.Mode == ModeSystem && p.UID != 0:
		return bad("records", "sudo lictor doctor, or lictor --user doctor", "cannot be written as uid %d: %s", p.UID, p.StateError)
	case p.StateError != "":
		return bad("records", "make the directory writable, or set LICTOR_STATE_DIR", "cannot be written: %s", p.StateError)
	case p.StateMissing:
		f := good("records", "%s will be made by the first run", p.StateDir)
		f.repair = repairStateDir
		return f
	}
	return good("records", "%s", cmp.Or(p.StateDir, "directory not known"))
}

func checkSlice(p probe) finding {
	if p.SliceFile == "" {
		return weak("slice", "install lictor.slice from the package (deploy/ in the source)",
			"lictor.slice is not installed: there is no cap on all runs together")
	}
	return good("slice", "%s", p.SliceFile)
}

func checkPressure(p probe) finding {
	if p.PSIError != "" {
		return weak("pressure", "boot with psi=1", "no pressure stall information, so thrashing is not seen: %s", p.PSIError)
	}
	return good("pressure", "PSI is on")
}

func checkKernelLog(p probe) finding {
	if p.KmsgError != "" {
		return weak("kernel log", "run as root, or sysctl kernel.dmesg_restrict=0",
			"not readable, so victims have no names and a host-wide OOM is not told apart: %s", p.KmsgError)
	}
	return good("kernel log", "readable")
}

func checkJournal(p probe) finding {
	if p.JournalError != "" {
		return weak("journal", "systemctl start systemd-journald.socket", "records go to the store alone: %s", p.JournalError)
	}
	return good("journal", "takes records")
}

func checkInotify(p probe) finding {
	const instances, watches = 32, 4096 // one instance per keeper; some watches per run
	switch {
	case p.InotifyInstances == nil || p.InotifyWatches == nil:
		return weak("inotify", "", "limits not known")
	case *p.InotifyInstances < instances:
		return weak("inotify", "sysctl fs.inotify.max_user_instances=128", "%d instances per user, and every lictor run needs one", *p.InotifyInstances)
	case *p.InotifyWatches < watches:
		return weak("inotify", "sysctl fs.inotify.max_user_watches=65536", "%d watches per user", *p.InotifyWatches)
	}
	return good("inotify", "%d instances, %d watches per user", *p.InotifyInstances, *p.InotifyWatches)
}

func checkClock(p probe) finding {
	switch {
	case p.ClockSynced == nil:
		return weak("clock", "", "whether it is synchronised is not known")
	case !*p.ClockSynced:
		return weak("clock", "timedatectl set-ntp true", "not synchronised: times in records may be off (time limits are not affected)")
	}
	return good("clock", "synchronised")
}
