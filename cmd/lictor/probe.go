package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// probe is what `lictor doctor` found out about the machine, before any judgement. An empty error says that the thing could
// be had; nil and empty values are not known.
type probe struct {
	OS     string `json:"os"`
	Kernel string `json:"kernel"` // release, as uname -r
	Mode   Mode   `json:"mode"`
	UID    int    `json:"uid"`

	CgroupError string   `json:"cgroup_error,omitempty"` // why there is no unified hierarchy
	LocalEvents bool     `json:"local_events"`           // mounted with memory_localevents
	Controllers []string `json:"controllers"`            // at the root

	SystemdBooted  bool     `json:"systemd_booted"` // PID 1 is systemd
	SystemdVersion string   `json:"systemd_version,omitempty"`
	BusError       string   `json:"bus_error,omitempty"`       // no way to talk to the manager
	Linger         bool     `json:"linger"`                    // user mode: the user manager outlives the session
	Delegated      []string `json:"delegated"`                 // user mode: controllers that the user manager has
	DelegatedError string   `json:"delegated_error,omitempty"` // user mode: its cgroup cannot be read

	SwapTotal      *uint64 `json:"swap_total_bytes"`
	SwapAccounting bool    `json:"swap_accounting"` // memory.swap.max exists
	PSIError       string  `json:"psi_error,omitempty"`
	KmsgError      string  `json:"kmsg_error,omitempty"`
	JournalError   string  `json:"journal_error,omitempty"`

	StateDir     string `json:"state_dir"`
	StateMissing bool   `json:"state_missing"`
	StateError   string `json:"state_error,omitempty"` // records cannot be written
	SliceFile    string `json:"slice_file,omitempty"`  // unit file of lictor.slice

	InotifyInstances *uint64 `json:"inotify_instances"`
	InotifyWatches   *uint64 `json:"inotify_watches"`
	ClockSynced      *bool   `json:"clock_synced"`
}

// probeMachine looks at everything. It changes nothing, and nothing that is missing stops it.
func probeMachine(ctx context.Context, a *App) probe {
	p := probe{OS: runtime.GOOS, Kernel: kernelRelease(), Mode: a.Mode(), UID: a.UID}
	p.probeCgroup()
	p.probeSystemd(ctx, a)
	p.probeMemory()
	p.KmsgError = openError("/dev/kmsg")
	p.JournalError = dialError("unixgram", "/run/systemd/journal/socket")
	p.probeState(a)
	p.SliceFile = sliceFile(a)
	p.InotifyInstances = readLimit("/proc/sys/fs/inotify/max_user_instances")
	p.InotifyWatches = readLimit("/proc/sys/fs/inotify/max_user_watches")
	p.ClockSynced = clockSynced()
	return p
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (p *probe) probeCgroup() {
	fs, err := cgroup.Detect()
	if err != nil {
		p.CgroupError = err.Error()
		return
	}
	p.LocalEvents = fs.MemoryLocalEvents()
	p.Controllers, _ = fs.Controllers()
	p.SwapAccounting = openError(filepath.Join(fs.Root(), "init.scope/memory.swap.max")) == "" ||
		openError(filepath.Join(fs.Root(), "system.slice/memory.swap.max")) == ""
	if p.Mode == ModeUser {
		p.probeDelegation(fs)
	}
}

// probeDelegation reads which controllers PID 1 has handed to the user manager.
func (p *probe) probeDelegation(fs cgroup.FS) {
	g, err := fs.Open(fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service", p.UID, p.UID))
	if err != nil {
		p.DelegatedError = err.Error()
		return
	}
	defer g.Close()
	if p.Delegated, err = g.Controllers(); err != nil {
		p.DelegatedError = err.Error()
	}
}

func (p *probe) probeSystemd(ctx context.Context, a *App) {
	_, err := os.Stat("/run/systemd/system") // sd_booted(3)
	p.SystemdBooted = err == nil
	if a.Systemd != nil {
		p.SystemdVersion, _ = a.Systemd(ctx, a.Mode())
	}
	sockets := []string{"/run/systemd/private", "/run/dbus/system_bus_socket"}
	if p.Mode == ModeUser {
		dir := a.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			dir = "/run/user/" + strconv.Itoa(p.UID)
		}
		sockets = []string{filepath.Join(dir, "systemd/private"), filepath.Join(dir, "bus")}
		_, err := os.Stat("/var/lib/systemd/linger/" + userName(p.UID))
		p.Linger = err == nil
	}
	for _, s := range sockets {
		if p.BusError = dialError("unix", s); p.BusError == "" {
			return
		}
	}
}
