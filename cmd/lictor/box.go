package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/scope"
)

// box is the machine at this moment, as far as runs care. Nil and empty are not known.
type box struct {
	Host            string  `json:"host"`
	Systemd         string  `json:"systemd,omitempty"` // version of the manager
	MemoryTotal     *uint64 `json:"memory_total_bytes"`
	MemoryAvailable *uint64 `json:"memory_available_bytes"`
	SwapTotal       *uint64 `json:"swap_total_bytes"`

	Cgroup       string  `json:"cgroup,omitempty"` // mount point of cgroup2
	CgroupError  string  `json:"cgroup_error,omitempty"`
	Slice        string  `json:"slice"` // cgroup path of lictor.slice
	SliceExists  bool    `json:"slice_exists"`
	SliceCurrent *uint64 `json:"slice_memory_bytes"`
	SliceMax     *uint64 `json:"slice_memory_max_bytes"` // nil is none, or not known
}

// readBox is App.Box. What cannot be read is left out: a status is told on machines where half of it is missing.
func readBox(ctx context.Context, a *App) box {
	b := box{Slice: scope.Manager(a.Mode()).FleetPath()}
	b.Host, _ = os.Hostname()
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		if m, err := parseMeminfo(f); err == nil {
			b.MemoryTotal, b.MemoryAvailable, b.SwapTotal = entry(m, "MemTotal"), entry(m, "MemAvailable"), entry(m, "SwapTotal")
		}
	}
	if a.Systemd != nil {
		b.Systemd, _ = a.Systemd(ctx, a.Mode())
	}
	b.readSlice()
	return b
}

func (b *box) readSlice() {
	fs, err := cgroup.Detect()
	if err != nil {
		b.CgroupError = err.Error()
		return
	}
	b.Cgroup = fs.Root()
	g, err := fs.Open(b.Slice)
	if err != nil {
		return
	}
	defer g.Close()
	b.SliceExists = true
	if n, err := g.MemoryCurrent(); err == nil {
		b.SliceCurrent = &n
	}
	if v, err := g.MemoryMax(); err == nil {
		if n, ok := v.Uint64(); ok {
			b.SliceMax = &n
		}
	}
}

// parseMeminfo reads /proc/meminfo, see proc_meminfo(5), into bytes:
//
//	MemTotal:       24117248 kB
//	HugePages_Total:       0
//
// A line of another form is an error.
func parseMeminfo(r io.Reader) (map[string]uint64, error) {
	sizes := map[string]uint64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		number, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseUint(number, 10, 53)
		if !ok || err != nil || unit != "" && unit != "kB" {
			return nil, fmt.Errorf("meminfo: malformed line %q", lines.Text())
		}
		if unit == "kB" {
			n *= 1024
		}
		sizes[name] = n
	}
	return sizes, lines.Err()
}

// entry returns one size, nil if there is none.
func entry(sizes map[string]uint64, name string) *uint64 {
	n, ok := sizes[name]
	if !ok {
		return nil
	}
	return &n
}
