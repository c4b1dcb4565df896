package main

import (
	"slices"
	"strings"

	"github.com/scidex/lictor/events"
)

// Checks of what confines runs: cgroups and systemd. Versions are in versions.go.

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
