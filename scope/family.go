package scope

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/scidex/lictor/cgroup"
)

// relative is a process of a tree that is to be adopted, as it was found.
type relative struct {
	cgroup.Stat
	UID    uint32 // the real one, by which systemd decides too
	Tgid   int    // another number than PID: that one is a thread's
	Cgroup string
}

func (r relative) id() ProcessID { return ProcessID{PID: r.PID, StartTicks: r.StartTicks} }

// readRelative looks at one process. cgroup.ErrNoProcess says that there is none (any more).
func readRelative(fs cgroup.FS, st cgroup.Stat) (relative, error) {
	r := relative{Stat: st}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	if err != nil {
		return r, fmt.Errorf("process %d: %w", st.PID, cgroup.ErrNoProcess)
	}
	if r.UID, r.Tgid, err = parseStatus(text); err != nil {
		return r, fmt.Errorf("process %d: %w", st.PID, err)
	}
	r.Cgroup, err = fs.PathOf(st.PID)
	if errors.Is(err, cgroup.ErrGone) { // a zombie, or its cgroup was removed under it
		err = nil
	}
	return r, err
}

// parseStatus reads the real uid and the thread group from /proc/PID/status, proc_pid_status(5):
//
//	Name:	python3
//	Tgid:	4711
//	Uid:	1000	1000	1000	1000
//
// Other lines are ignored; one of these two missing is an error.
func parseStatus(text []byte) (uid uint32, tgid int, err error) {
	var haveUID, haveTgid bool
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		first, _, _ := strings.Cut(strings.TrimSpace(rest), "\t")
		switch name {
		case "Tgid":
			tgid, err = strconv.Atoi(first)
			haveTgid = err == nil
		case "Uid":
			var n uint64
			n, err = strconv.ParseUint(first, 10, 32)
			uid, haveUID = uint32(n), err == nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("status: %s: malformed number %q", name, first)
		}
	}
	if !haveUID || !haveTgid {
		return 0, 0, errors.New("status: Uid or Tgid is missing")
	}
	return uid, tgid, nil
}

// adopter is who adopts: what he may depends on it.
type adopter struct {
	pid       int
	ancestors map[int]bool
	uid       uint32
	manager   Manager
	run       RunID // for which
}

// newAdopter is who adopts on somebody's word: neither this process nor that of the asker, nor what they run below, may be
// taken in.
func newAdopter(m Manager, run RunID, asker Asker) adopter {
	a := adopter{pid: os.Getpid(), ancestors: map[int]bool{}, uid: asker.UID, manager: m, run: run}
	for _, pid := range []int{os.Getppid(), asker.PID} {
		for pid > 0 && !a.ancestors[pid] {
			a.ancestors[pid] = true
			st, err := cgroup.ReadStat(pid)
			if err != nil {
				break
			}
			pid = st.PPID
		}
	}
	delete(a.ancestors, a.pid) // which has a reason of its own
	return a
}

// refuses says why a process must not be adopted, or nil. Its descendants are held against the same rules.
func (a adopter) refuses(r relative) error {
	no := func(why, hint string) error { return &AdoptError{PID: r.PID, Why: why, Hint: hint} }
	switch {
	case r.PID == 1:
		return no("it is the init of this machine, and everything else with it", "name the analysis itself")
	case r.KernelThread:
		return no("it is a thread of the kernel", "name a process with a program")
	case r.PID == a.pid:
		return no("that is lictor itself", "name the analysis")
	case a.ancestors[r.PID]:
		return no("lictor runs below it, and would adopt itself", "name the analysis, not the shell that it was started from")
	case r.Tgid != 0 && r.Tgid != r.PID:
		return no(fmt.Sprintf("it is a thread of process %d", r.Tgid), "lictor adopt "+strconv.Itoa(r.Tgid))
	case r.State == 'Z' || r.State == 'X':
		return no("it has ended; its parent has not noticed yet", "")
	case r.UID != a.uid && (a.manager != System || a.uid != 0):
		return no(fmt.Sprintf("it belongs to uid %d", r.UID), "root may adopt it: sudo lictor adopt PID")
	}
	if run, ok := runOfCgroup(r.Cgroup); ok && run != a.run { // one that was forked after its parent was moved is in its place
		return no(fmt.Sprintf("it is in run %s already", run), "lictor set "+string(run)+" changes the limits of that one")
	}
	return nil
}

// runOfCgroup tells which run a cgroup belongs to.
func runOfCgroup(path string) (RunID, bool) {
	for name := range strings.SplitSeq(path, "/") {
		if run, ok := RunOfLedger(name); ok {
			return run, true
		}
	}
	return "", false
}

// family are the processes of a tree that are known so far. One that was found stays in it when its parent ends.
type family map[int]relative

// newcomers are the processes of a snapshot that descend from the family and are not in it yet. A number that has been given
// to another process meanwhile is nobody's parent.
func (f family) newcomers(all []cgroup.Stat) (found []cgroup.Stat) {
	byPID := make(map[int]cgroup.Stat, len(all))
	for _, st := range all {
		byPID[st.PID] = st
	}
	member := map[int]bool{}
	for pid, r := range f {
		if st, ok := byPID[pid]; ok && st.StartTicks == r.StartTicks {
			member[pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, st := range all {
			if !member[st.PID] && member[st.PPID] && st.State != 'Z' && st.State != 'X' {
				member[st.PID], grown = true, true
				found = append(found, st)
			}
		}
	}
	return found
}

// look adds the descendants that there are at this moment. The first that must not be adopted ends it.
func (f family) look(fs cgroup.FS, a adopter) error {
	all, err := f.below()
	if err != nil {
		return err
	}
	for _, st := range f.newcomers(all) {
		r, err := readRelative(fs, st)
		if errors.Is(err, cgroup.ErrNoProcess) {
			continue
		}
		if err == nil {
			err = a.refuses(r)
		}
		if err != nil {
			return err
		}
		f[r.PID] = r
	}
	return nil
}

// processes is a snapshot of the process table.
func processes() ([]cgroup.Stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []cgroup.Stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if st, err := cgroup.ReadStat(pid); err == nil {
			all = append(all, st)
		}
	}
	return all, nil
}
