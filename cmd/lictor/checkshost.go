package main

import "cmp"

// Checks of the host that systemd and cgroups have no part in.

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
