package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// mountPoint is where systemd mounts the unified hierarchy, and the only place where it counts: cgroup2 at
// /sys/fs/cgroup/unified is the hybrid set-up, where the memory and pids controllers are v1.
const mountPoint = "/sys/fs/cgroup"

// Detect finds the cgroup2 hierarchy of this machine, mounted at /sys/fs/cgroup. Anything else there, or nothing, is
// [ErrNotUnified]; the error names what was found.
func Detect() (FS, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return FS{}, fmt.Errorf("mount table: %w", err)
	}
	defer f.Close()
	return detect(f)
}

func detect(mountinfo io.Reader) (FS, error) {
	mounts, err := parseMountinfo(mountinfo)
	if err != nil {
		return FS{}, fmt.Errorf("mount table: %w", err)
	}
	// A later mount hides an earlier one on the same directory.
	var top mount
	for _, m := range mounts {
		if m.point == mountPoint {
			top = m
		}
	}
	if top.fstype != "cgroup2" {
		return FS{}, fmt.Errorf("%s: %w", describe(top, mounts), ErrNotUnified)
	}
	fs := At(mountPoint)
	fs.memoryLocalEvents = slices.Contains(top.options, "memory_localevents")
	return fs, nil
}

// describe says in words what stands where the unified hierarchy should be.
func describe(top mount, mounts []mount) string {
	var v1, v2 []string
	for _, m := range mounts {
		switch m.fstype {
		case "cgroup":
			v1 = append(v1, m.point)
		case "cgroup2":
			v2 = append(v2, m.point)
		}
	}
	var b strings.Builder
	b.WriteString(mountPoint)
	if top.fstype == "" {
		b.WriteString(" is not a mount point")
	} else {
		fmt.Fprintf(&b, " is %s", top.fstype)
	}
	if len(v1) > 0 {
		fmt.Fprintf(&b, ", cgroup v1 is mounted at %s", strings.Join(v1, ", "))
	}
	if len(v2) > 0 {
		fmt.Fprintf(&b, ", cgroup v2 only at %s", strings.Join(v2, ", "))
	}
	return b.String()
}

// mount is one line of /proc/PID/mountinfo, as far as it matters here.
type mount struct {
	point   string
	fstype  string
	options []string // of the file system, not of the mount
}

// parseMountinfo reads /proc/PID/mountinfo, see proc_pid_mountinfo(5):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
//
// The number of optional fields before the dash varies. Escapes (\040) are left as they are: no path compared here has any.
func parseMountinfo(r io.Reader) ([]mount, error) {
	var mounts []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // an overlay's options alone can exceed the default of 64 KiB
	for lines.Scan() {
		mountPart, fsPart, ok := strings.Cut(lines.Text(), " - ")
		m, s := strings.Fields(mountPart), strings.Fields(fsPart)
		if !ok || len(m) < 6 || len(s) < 1 {
			return nil, fmt.Errorf("malformed line %q", lines.Text())
		}
		mounts = append(mounts, mount{point: m[4], fstype: s[0], options: strings.Split(s[len(s)-1], ",")})
	}
	return mounts, lines.Err()
}
