package scope

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/scidex/lictor/cgroup"
)

// below is the part of the process table that a family is in: its members that live, and all their descendants. Each process is asked for
// its children, so that it costs what the tree is large, and not what the machine has: an adoption among 10,000 processes
// took as many reads, twice.
//
// A kernel without such files (CONFIG_PROC_CHILDREN), and a tree that changes faster than it can be read, have the whole table read.
func (f family) below() ([]cgroup.Stat, error) {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		return processes()
	}
	all, err := f.descend()
	if err != nil {
		return processes()
	}
	return all, nil
}

// descend goes down from the members, breadth first. An error says that some children may be missing.
func (f family) descend() (all []cgroup.Stat, err error) {
	seen := map[int]bool{}
	for pid, r := range f {
		if st, err := cgroup.ReadStat(pid); err == nil && st.StartTicks == r.StartTicks {
			seen[pid] = true
			all = append(all, st)
		}
	}
	for i := 0; i < len(all); i++ {
		parent := all[i]
		kids, err := childrenOf(parent.PID)
		if errors.Is(err, cgroup.ErrNoProcess) {
			continue // whoever it had is another's child now
		}
		if err != nil {
			return nil, err
		}
		before := len(all)
		for _, pid := range kids {
			if st, err := cgroup.ReadStat(pid); err == nil && st.PPID == parent.PID && !seen[pid] {
				all = append(all, st)
			}
		}
		if now, err := cgroup.ReadStat(parent.PID); err == nil && now.StartTicks != parent.StartTicks {
			all = all[:before] // they are the children of another, who was given the number
		}
		for _, st := range all[before:] {
			seen[st.PID] = true
		}
	}
	return all, nil
}

// maxReadings bounds the looks at the children of one process.
const maxReadings = 10

// childrenOf lists the children of a process. The kernel leaves some out if another ends while they are read (proc_tid_children(5)), and
// a thread that ends leaves its own to another: two readings that say the same are believed.
func childrenOf(pid int) ([]int, error) {
	last, err := readChildren(pid)
	for range maxReadings {
		if err != nil {
			return nil, err
		}
		var now []int
		if now, err = readChildren(pid); err == nil && slices.Equal(last, now) {
			return now, nil
		}
		last = now
	}
	return nil, fmt.Errorf("process %d: its children change faster than they can be read", pid)
}

// readChildren reads /proc/PID/task/TID/children of all threads: numbers with a space after each.
func readChildren(pid int) (kids []int, err error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, cgroup.ErrNoProcess)
	}
	for _, t := range threads {
		text, err := os.ReadFile(dir + t.Name() + "/children")
		if err != nil {
			continue // the thread has ended, and the next reading says who has its children
		}
		for field := range strings.FieldsSeq(string(text)) {
			kid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("process %d: children %.60q: %w", pid, text, err)
			}
			kids = append(kids, kid)
		}
	}
	slices.Sort(kids)
	return kids, nil
}
