package cgroup

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/log"
)

// The library reports what it could not read to a logger of its own, on standard error: mostly pressure files, which are not
// asked for here, of cgroups that are being removed.
func init() {
	if err := log.SetLevel("panic"); err != nil {
		panic("cgroup: containerd/log: " + err.Error())
	}
}

// Usage is what a cgroup and its descendants, removed ones included, have used so far.
type Usage struct {
	CPU       time.Duration // user and system
	User      time.Duration
	System    time.Duration
	Throttled time.Duration // time that cpu.max took away; 0 without the cpu controller

	MemoryCurrent Value      // bytes; unset without the memory controller
	MemoryPeak    Value      // bytes; unset before Linux 5.19
	MemoryStat    MemoryStat // means nothing if MemoryCurrent is unset

	IORead, IOWritten Value // bytes of all block devices; unset without the io controller
}

// Usage reads everything at once, for display and for the record. It costs a dozen files and as many allocations: samples are
// taken with [Group.CPUUsage] and [Group.MemoryCurrent].
//
// This is the one use of containerd/cgroups. It opens files by path and turns unreadable single values into 0, so it is given
// the path of our descriptor, the single values are read here, and what it returns counts only if the cgroup is still
// there afterwards.
func (g *Group) Usage() (Usage, error) {
	m, err := g.stat()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		CPU:       microseconds(m.GetCPU().GetUsageUsec()),
		User:      microseconds(m.GetCPU().GetUserUsec()),
		System:    microseconds(m.GetCPU().GetSystemUsec()),
		Throttled: microseconds(m.GetCPU().GetThrottledUsec()),
		MemoryStat: MemoryStat{
			Anon:         m.GetMemory().GetAnon(),
			File:         m.GetMemory().GetFile(),
			InactiveFile: m.GetMemory().GetInactiveFile(),
			Shmem:        m.GetMemory().GetShmem(),
		},
	}
	if u.MemoryPeak, err = g.MemoryPeak(); err != nil {
		return Usage{}, err
	}
	if u.MemoryCurrent, err = g.readValue("memory.current"); err != nil {
		return Usage{}, err
	}
	u.IORead, u.IOWritten = g.ioTotals(m)
	// The zeros above are the kernel's, or of files that this cgroup does not have, if it is still there now.
	if err := g.exists(lifeSign); err != nil {
		return Usage{}, fileError(g.path, "stat", err)
	}
	return u, nil
}

// stat asks containerd/cgroups through /proc/self/fd, so that it reads this cgroup and not whatever has the name now.
func (g *Group) stat() (*stats.Metrics, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.fd < 0 {
		return nil, fileError(g.path, "stat", ErrClosed)
	}
	dir := path.Join("/proc/self/fd", strconv.Itoa(g.fd))
	m, err := cgroup2.Load("/", cgroup2.WithMountpoint(dir))
	if err != nil {
		return nil, fileError(g.path, "stat", err)
	}
	s, err := m.StatFiltered(cgroup2.StatCPU | cgroup2.StatMemory | cgroup2.StatIO)
	if err != nil {
		return nil, fileError(g.path, "stat", meaning(err))
	}
	return s, nil
}

// ioTotals adds the devices up. Without io.stat both are unset.
func (g *Group) ioTotals(m *stats.Metrics) (read, written Value) {
	if g.exists("io.stat") != nil {
		return Unset, Unset
	}
	var r, w uint64
	for _, device := range m.GetIo().GetUsage() {
		r += device.GetRbytes()
		w += device.GetWbytes()
	}
	return Bytes(r), Bytes(w)
}

func microseconds(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

// CPUUsage is the processor time of the cgroup and its descendants, user and system (cpu.stat, key usage_usec). It needs no
// cpu controller.
func (g *Group) CPUUsage() (time.Duration, error) {
	var buf [1024]byte
	b, err := g.read("cpu.stat", buf[:])
	if err != nil {
		return 0, err
	}
	d, err := parseCPUStat(b)
	if err != nil {
		return 0, fileError(g.path, "cpu.stat", err)
	}
	return d, nil
}

// ParseCPUStat reads usage_usec of cpu.stat:
//
//	usage_usec 1234567
//	user_usec 1000000
//	system_usec 234567
//
// Other lines are ignored. A file without usage_usec is malformed.
func ParseCPUStat(r io.Reader) (time.Duration, error) {
	b, err := readBounded(r)
	if err != nil {
		return 0, err
	}
	return parseCPUStat(b)
}

func parseCPUStat(b []byte) (time.Duration, error) {
	line := keyed{rest: b}.next()
	for ; line.ok; line = line.next() {
		if string(line.key) != "usage_usec" {
			continue
		}
		if line.n > maxMicroseconds {
			return 0, fmt.Errorf("%d µs is too long", line.n)
		}
		return microseconds(line.n), nil
	}
	if line.bad {
		return 0, malformed(line.key)
	}
	return 0, errors.New("usage_usec is missing")
}
