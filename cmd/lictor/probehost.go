package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (p *probe) probeMemory() {
	p.PSIError = openError("/proc/pressure/memory")
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return
	}
	defer f.Close()
	if m, err := parseMeminfo(f); err == nil {
		p.SwapTotal = entry(m, "SwapTotal")
	}
}

// probeState finds out whether records can be written, without writing one.
func (p *probe) probeState(a *App) {
	dir, err := a.StateDir()
	if err != nil {
		p.StateError = err.Error()
		return
	}
	p.StateDir = dir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		p.StateMissing = true
	}
	for _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != "/"; _, err = os.Stat(dir) {
		dir = filepath.Dir(dir) // the nearest one that exists
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		p.StateError = fmt.Sprintf("%s: %v", dir, err)
	}
}

// sliceFile returns where lictor.slice is installed, in the order in which systemd.unit(5) looks.
func sliceFile(a *App) string {
	dirs := []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	if a.Mode() == ModeUser {
		dirs = []string{filepath.Join(a.Getenv("HOME"), ".config/systemd/user"), "/etc/systemd/user", "/run/systemd/user",
			"/usr/local/lib/systemd/user", "/usr/lib/systemd/user"}
	}
	for _, dir := range dirs {
		if path := filepath.Join(dir, "lictor.slice"); openError(path) == "" {
			return path
		}
	}
	return ""
}

// openError opens a file for reading and says why it cannot be.
func openError(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	return ""
}

// dialError connects to a socket and says why that fails.
func dialError(network, path string) string {
	const deadline = 2 * time.Second // a listener whose queue is full is as good as none
	c, err := net.DialTimeout(network, path, deadline)
	if err != nil {
		return err.Error()
	}
	c.Close()
	return ""
}

func readLimit(path string) *uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// clockSynced asks the kernel whether anybody disciplines the wall clock, see adjtimex(2).
func clockSynced() *bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	if err != nil {
		return nil
	}
	synced := state != unix.TIME_ERROR
	return &synced
}
