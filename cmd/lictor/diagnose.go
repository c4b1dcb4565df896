package main

import "fmt"

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
