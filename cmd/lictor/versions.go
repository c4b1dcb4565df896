package main

import (
	"strconv"
	"strings"
)

// release is a version as far as it matters: 6.12, 252.39.
type release struct{ major, minor int }

func (r release) before(other release) bool {
	return r.major < other.major || r.major == other.major && r.minor < other.minor
}

// parseRelease reads the first two numbers of "6.12.9-amd64", "252.39-1~deb12u1" or "257".
func parseRelease(text string) (r release, ok bool) {
	var parts [2]int
	rest := text
	for i := range parts {
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(rest[:end])
		if err != nil {
			return release{parts[0], parts[1]}, i > 0
		}
		parts[i] = n
		var dotted bool
		if rest, dotted = strings.CutPrefix(rest[end:], "."); !dotted {
			break
		}
	}
	return release{parts[0], parts[1]}, true
}

// minKernel is the oldest kernel that works: extended attributes on cgroups, in which a run's facts are kept.
var minKernel = release{5, 7}

// kernelFeatures are what later kernels brought, and what goes without.
var kernelFeatures = []struct {
	since   release
	without string
}{
	{release{5, 14}, "cgroup.kill (left-overs are frozen and killed one by one)"},
	{release{5, 17}, "oom_group_kill (a group kill counts as several)"},
	{release{5, 19}, "memory.peak (peaks are not known)"},
	{release{6, 1}, "pids.peak (the most tasks are not known)"},
}

func checkKernel(p probe) finding {
	const upgrade = "upgrade the kernel"
	have, ok := parseRelease(p.Kernel)
	if !ok {
		return weak("kernel", "", "%q: version not understood", p.Kernel)
	}
	if have.before(minKernel) {
		return bad("kernel", upgrade, "%s: at least %d.%d is needed", p.Kernel, minKernel.major, minKernel.minor)
	}
	var without []string
	for _, f := range kernelFeatures {
		if have.before(f.since) {
			without = append(without, f.without)
		}
	}
	if len(without) > 0 {
		return weak("kernel", upgrade, "%s, without %s", p.Kernel, strings.Join(without, ", "))
	}
	return good("kernel", "Linux %s", p.Kernel)
}

// minSystemd is the oldest systemd with RuntimeMaxSec= on scopes.
var minSystemd = release{244, 0}

func checkVersion(p probe) finding {
	const upgrade = "upgrade systemd"
	have, ok := parseRelease(p.SystemdVersion)
	switch {
	case !ok:
		return weak("systemd version", "systemctl --version shows it", "not known: at least %d is needed", minSystemd.major)
	case have.before(minSystemd):
		return bad("systemd version", upgrade, "%s: scopes have no time limit before %d", p.SystemdVersion, minSystemd.major)
	}
	if without := missingInSystemd(have); len(without) > 0 {
		return weak("systemd version", upgrade, "%s: %s", p.SystemdVersion, strings.Join(without, "; "))
	}
	return good("systemd version", "%s", p.SystemdVersion)
}

// missingInSystemd lists what a systemd that works lacks. Some things were fixed in the stable series of 252 and 253, too.
func missingInSystemd(have release) (without []string) {
	if have.before(release{252, 0}) {
		without = append(without, "scopes do not report oom-kill (the kernel's counters do)")
	}
	if have.before(release{252, 5}) {
		without = append(without, "scopes have no OOMPolicy (lictor ends what an OOM kill leaves)")
	}
	lost := have.before(release{252, 10}) || !have.before(release{253, 0}) && have.before(release{253, 4})
	if lost {
		without = append(without, "daemon-reload cancels the time limits of running scopes (lictor keeps its own)")
	}
	return without
}
