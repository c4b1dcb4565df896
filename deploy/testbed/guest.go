package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A guest is what is known of a virtual machine, kept in state.json of its directory.
type guest struct {
	Name  string `json:"name"`
	Suite string `json:"suite"`
	hardware
	Port int  `json:"port"` // on 127.0.0.1, forwarded to the guest's sshd
	Kept bool `json:"kept"` // outlives the process that booted it

	// The qemu process: a pid is only a name together with its start time in clock ticks since boot.
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`

	// Sockets is a directory with a short path for the ssh master's socket, whose path may have 104 bytes at most.
	Sockets string `json:"sockets"`

	dir string // of the guest, in the cache
	key string // path of the private ssh key
}

func (g *guest) console() string { return filepath.Join(g.dir, "console") }
func (g *guest) qemuLog() string { return filepath.Join(g.dir, "qemu.log") }

func guestsDir() (string, error) {
	cache, err := cacheDir()
	return filepath.Join(cache, "guests"), err
}

// errNoGuest says that a guest is not running: boot it.
var errNoGuest = errors.New("not running")

// readGuest returns the guest whose directory is dir, dead or alive.
func readGuest(dir string) (*guest, error) {
	g := &guest{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, g); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return g, nil
}

// findGuest returns the running guest of that name.
func findGuest(ctx context.Context, name string) (*guest, error) {
	dir, err := guestsDir()
	if err != nil {
		return nil, err
	}
	g, err := readGuest(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) || err == nil && !g.alive() {
		return nil, notRunning(name)
	}
	if err != nil {
		return nil, fmt.Errorf("guest %q: state: %w", name, err)
	}
	if g.key, _, err = sshKey(ctx, filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return g, nil
}

// listGuests returns all guests that have been started and not ended in an orderly way.
func listGuests() ([]*guest, error) {
	dir, err := guestsDir()
	if err != nil {
		return nil, err
	}
	states, err := filepath.Glob(filepath.Join(dir, "*", "state.json"))
	if err != nil {
		return nil, fmt.Errorf("guests: %w", err)
	}
	var guests []*guest
	for _, state := range states {
		g, err := readGuest(filepath.Dir(state))
		if errors.Is(err, os.ErrNotExist) {
			continue // ended since
		}
		if err != nil {
			return nil, fmt.Errorf("guests: %w", err)
		}
		guests = append(guests, g)
	}
	return guests, nil
}

// sweepGuests removes what guests left that died with whoever booted them.
func sweepGuests() error {
	guests, err := listGuests()
	for _, g := range guests {
		if !g.alive() {
			g.forget()
		}
	}
	return err
}

func notRunning(name string) error {
	return &hintError{fmt.Errorf("guest %q: %w", name, errNoGuest), "testbed up --suite SUITE, or make vm-up SUITE=…, boots one"}
}

// save writes state.json, complete or not at all.
func (g *guest) save() error {
	b, err := json.MarshalIndent(g, "", "\t")
	if err != nil {
		return fmt.Errorf("guest %q: state: %w", g.Name, err)
	}
	tmp := filepath.Join(g.dir, ".state.json")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("guest %q: state: %w", g.Name, err)
	}
	return os.Rename(tmp, filepath.Join(g.dir, "state.json"))
}

// forget removes what a guest that is gone left on the host.
func (g *guest) forget() {
	if g.Sockets != "" {
		os.RemoveAll(g.Sockets)
	}
	os.RemoveAll(g.dir)
}

// alive reports whether the guest's qemu process exists and is not a zombie.
func (g *guest) alive() bool {
	start, state, err := processStart(g.PID)
	return err == nil && start == g.Start && state != "Z"
}

// kernelPanic is what Linux says last.
const kernelPanic = "Kernel panic - not syncing"

// panicked reports whether the guest is gone because its kernel panicked. One that ends right now is given a moment for that.
func (g *guest) panicked() bool {
	text, err := os.ReadFile(g.console())
	if err != nil || !bytes.Contains(text, []byte(kernelPanic)) {
		return false
	}
	for range 100 {
		if !g.alive() {
			return true
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // qemu is ending
	}
	return false
}

// kill ends the guest as a power cut would, and returns when its process is gone.
func (g *guest) kill() {
	fd, err := pidfdOpen(g.PID)
	if err != nil {
		g.forget()
		return
	}
	defer syscall.Close(fd)
	if g.alive() { // the pid was ours when the pidfd was opened, or the signal goes nowhere
		_ = pidfdKill(fd)
		pidfdWait(fd)
	}
	g.forget()
}

// processStart returns the start time of a process in clock ticks since boot, and its state letter (proc(5)).
func processStart(pid int) (start uint64, state string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return 0, "", fmt.Errorf("/proc/%d/stat: %d fields after the name", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}
