package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

const (
	// markedTime is how long one process may take to show its environment; see describeTime.
	markedTime = describeTime
	// markedAllTime is how long a look at all processes may take. The next one begins with those that were not reached.
	markedAllTime = 10 * time.Second
	// maxEnviron is how much of an environment is read. The kernel lets a process start with a quarter of its stack limit (2 MiB as
	// a rule) for arguments and environment together.
	maxEnviron = 4 << 20
)

// Sweep looks at every process of the host for markers of runs. Processes whose files may not be read (those of others, for an
// ordinary user) are passed over. One whose files block is skipped and counted, and not tried again while it does: it holds a
// thread until the kernel lets go.
type Sweep struct {
	Table  *ProcFS
	PathOf func(pid int) (string, error) // the cgroup of a process
	// AtHome reports whether a cgroup is that of a run. A process that is where its marker says is not looked at any further, and not
	// returned. Nil: none is.
	AtHome func(run events.RunID, cgroup string) bool
	// Environ reads the environment of a process; nil reads /proc.
	Environ func(pid int, into *bytes.Buffer) error

	next int // the process to begin with

	mu      sync.Mutex
	hanging map[int]bool // processes in whose files a reader hangs
	skipped uint64
}

// maxStuck is how many readers may hang before there are no more sweeps.
const maxStuck = 4

// errStuck says that the files of too many processes block.
var errStuck = errors.New("the files of too many processes in /proc block")

// Skipped returns how many processes were skipped because their files blocked.
func (s *Sweep) Skipped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skipped
}

// Marked returns the processes that carry a marker and are not at home. With an error it was not possible to look at all. It is called by
// one at a time.
func (s *Sweep) Marked(ctx context.Context) (list []Marked, err error) {
	ctx, cancel := context.WithTimeout(ctx, markedAllTime)
	defer cancel()
	pids, err := s.Table.pids(ctx)
	if err != nil {
		return nil, err
	}
	all := len(pids)
	for pids = from(s.next, pids); len(pids) > 0 && ctx.Err() == nil; {
		if s.tooMany() {
			return list, errStuck
		}
		done, found := s.read(ctx, pids)
		list = append(list, found...)
		pids = pids[done:]
	}
	if s.next = 0; len(pids) > 0 {
		s.next = pids[0]
		return list, fmt.Errorf("processes: %d of %d looked at, the others are next: %w", all-len(pids), all, ctx.Err())
	}
	return list, nil
}

// from sorts pids so that those from first on come first, and then those before it.
func from(first int, pids []int) []int {
	slices.Sort(pids)
	i, _ := slices.BinarySearch(pids, first)
	return slices.Concat(pids[i:], pids[:i])
}

// tooMany reports whether so many readers hang that another one would be one too many.
func (s *Sweep) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hanging) >= maxStuck
}

// reading is one process that was read.
type reading struct {
	marked Marked
	ok     bool
}

// read reads the processes one after the other, until one blocks, and returns how many it is done with.
func (s *Sweep) read(ctx context.Context, pids []int) (done int, list []Marked) {
	results := make(chan reading, len(pids)) // room for all: nobody waits for those that come late
	left := false                            // the reader hangs; guarded by s.mu
	go func() {
		var buf bytes.Buffer // one for all: a small process that looks around must stay one
		for _, pid := range pids {
			m, ok := s.readMarked(ctx, pid, &buf)
			s.mu.Lock()
			if left {
				delete(s.hanging, pid)
				s.mu.Unlock()
				return
			}
			results <- reading{m, ok}
			s.mu.Unlock()
		}
	}()
	patience := time.NewTimer(markedTime)
	defer patience.Stop()
	for i, pid := range pids {
		patience.Reset(markedTime)
		var r reading
		select {
		case r = <-results:
		case <-patience.C:
			s.mu.Lock()
			if left = len(results) == 0; left {
				s.hang(pid)
				s.mu.Unlock()
				return i + 1, list
			}
			s.mu.Unlock()
			r = <-results
		case <-ctx.Done():
			s.mu.Lock()
			left = true
			s.mu.Unlock()
			return i, list
		}
		if r.ok {
			list = append(list, r.marked)
		}
	}
	return len(pids), list
}

// hang notes that the reader of a process hangs. mu is held.
func (s *Sweep) hang(pid int) {
	if s.hanging == nil {
		s.hanging = map[int]bool{}
	}
	s.hanging[pid] = true
	s.skipped++
}

// hangs reports whether a reader hangs at a process since an earlier sweep.
func (s *Sweep) hangs(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hanging[pid] {
		s.skipped++
	}
	return s.hanging[pid]
}

// readMarked reads one process. ok is false if it has no marker, or is none of those that may be read.
func (s *Sweep) readMarked(ctx context.Context, pid int, buf *bytes.Buffer) (m Marked, ok bool) {
	if s.hangs(pid) {
		return m, false
	}
	run, nonce, err := s.markers(pid, buf)
	if err != nil || run == "" {
		return m, false
	}
	if where, err := s.PathOf(pid); err != nil || s.AtHome != nil && s.AtHome(events.RunID(run), where) {
		return m, false
	}
	stat, err := cgroup.ReadStat(pid)
	if err != nil {
		return m, false
	}
	m = Marked{PID: pid, StartTicks: stat.StartTicks, Run: events.RunID(run), Nonce: nonce}
	if m.Cgroup, err = s.PathOf(pid); err != nil { // again, of who has these start ticks
		return m, false
	}
	m.UIDs = s.Table.uids(ctx, pid)
	run, nonce, err = s.markers(pid, buf) // of the same process as the rest
	if err != nil || run != string(m.Run) || nonce != m.Nonce {
		return m, false
	}
	after, err := cgroup.StartTicks(pid)
	return m, err == nil && after == m.StartTicks
}

// markers returns the markers of a process, empty where it has none.
func (s *Sweep) markers(pid int, buf *bytes.Buffer) (run, nonce string, err error) {
	read := readEnviron
	if s.Environ != nil {
		read = s.Environ
	}
	buf.Reset()
	if err := read(pid, buf); err != nil {
		return "", "", err
	}
	if run = variable(buf.Bytes(), markRun); run != "" {
		nonce = variable(buf.Bytes(), markNonce)
	}
	return run, nonce, nil
}

// readEnviron reads the environment that a process was started with. It can block for as long as a page fault of the process
// waits for a disk.
func readEnviron(pid int, into *bytes.Buffer) error {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = into.ReadFrom(io.LimitReader(f, maxEnviron))
	return err
}

// variable returns the value of the first variable of that name, as getenv(3) does; "" if there is none.
func variable(environ []byte, name string) string {
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(value[:min(len(value), maxMarker)])
		}
	}
	return ""
}

// maxMarker is longer than any marker of ours.
const maxMarker = 128
