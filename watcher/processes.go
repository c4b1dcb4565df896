package watcher

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/process"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

const (
	describeWorkers = 4

	// describeTime is how long one process may take. Reading a command line takes the process's mmap lock, which can be
	// held for as long as a page fault of it waits for a disk.
	describeTime = 500 * time.Millisecond

	// describeAllTime is how long one call may take, however many processes block: somebody waits to act on them.
	describeAllTime = 3 * time.Second

	cmdlineMaxArgs  = 64
	cmdlineMaxBytes = 4 << 10
)

// ProcessTable describes processes for people: in records, never for a decision. Who belongs to a run is the cgroup's to
// say, and who may be signalled is a pidfd's.
type ProcessTable interface {
	// Describe returns one Process for each pid, in the same order. What could not be read is nil or empty; a process that
	// has gone has only its pid, and one whose files block lacks its owner and command line.
	Describe(ctx context.Context, pids []int) []events.Process
}

// ProcFS is the ProcessTable of this host. It reads at most a few processes at once, and one whose files block takes one
// of those places until the kernel lets go: a hundred of them cannot hold a hundred threads, those behind are skipped.
type ProcFS struct {
	places  chan struct{}
	skipped atomic.Uint64
}

// NewProcessTable returns the ProcessTable of this host.
func NewProcessTable() *ProcFS {
	return &ProcFS{places: make(chan struct{}, describeWorkers)}
}

var _ ProcessTable = (*ProcFS)(nil)

// Skipped returns how many descriptions were given up because the process's files, or those of others, blocked.
func (t *ProcFS) Skipped() uint64 {
	return t.skipped.Load()
}

// Describe implements ProcessTable. It returns when ctx is done, and after a few seconds whatever blocks.
func (t *ProcFS) Describe(ctx context.Context, pids []int) []events.Process {
	ctx, cancel := context.WithTimeout(ctx, describeAllTime)
	defer cancel()
	out := make([]events.Process, len(pids))
	next := make(chan int, len(pids))
	for i, pid := range pids {
		out[i].PID = pid
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	for range min(describeWorkers, len(pids)) {
		workers.Go(func() {
			for i := range next {
				t.describe(ctx, &out[i])
			}
		})
	}
	workers.Wait()
	return out
}

// describe fills p in: at once what cannot block, then the rest unless that takes too long.
func (t *ProcFS) describe(ctx context.Context, p *events.Process) {
	stat, err := cgroup.ReadStat(p.PID)
	if err != nil {
		return
	}
	age := max(0, (cgroup.Boottime() - cgroup.TicksToDuration(stat.StartTicks)).Seconds())
	p.PPID, p.Comm, p.State, p.AgeSeconds = &stat.PPID, stat.Comm, string(stat.State), &age
	if rss := uint64(max(0, stat.RSSPages)) * uint64(os.Getpagesize()); stat.State != 'Z' {
		p.RSSBytes = &rss
	}
	if stat.State == 'D' {
		p.WChan = wchan(p.PID)
	}
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		t.skipped.Add(1)
		return
	}
	whole := make(chan events.Process, 1) // room for the answer that comes after nobody waits for it
	known := *p
	go func() {
		defer func() { <-t.places }()
		whole <- readRest(ctx, known, stat.StartTicks)
	}()
	select {
	case *p = <-whole:
	case <-ctx.Done():
		t.skipped.Add(1)
	}
}

// wchan says in which function of the kernel a process sleeps, see proc_pid_wchan(5); "" if it does not, or that may not be
// known. It does not block.
func wchan(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/wchan")
	if err != nil || string(text) == "0" {
		return ""
	}
	return string(text)
}

// gopsutilRoot makes gopsutil ignore HOST_PROC in the environment, which is the user's.
var gopsutilRoot = common.EnvMap{common.HostProcEnvKey: "/proc"}

// readRest adds what can block. It is the only place that calls gopsutil, and only for what has no bearing on who the
// process is: gopsutil opens each file by pid anew, so the start time is compared afterwards.
func readRest(ctx context.Context, p events.Process, startTicks uint64) events.Process {
	ctx = context.WithValue(ctx, common.EnvKey, gopsutilRoot)
	g := &process.Process{Pid: int32(p.PID)} // NewProcess would read a create time that nobody may trust
	if args, err := g.CmdlineSliceWithContext(ctx); err == nil {
		p.Cmdline = capCmdline(args)
	}
	if uids, err := g.UidsWithContext(ctx); err == nil && len(uids) > 0 {
		uid := uint32(uids[0])
		p.UID = &uid
	}
	if after, err := cgroup.StartTicks(p.PID); err != nil || after != startTicks {
		return events.Process{PID: p.PID}
	}
	return p
}

// pids lists all processes.
func (t *ProcFS) pids(ctx context.Context) ([]int, error) {
	list, err := process.PidsWithContext(context.WithValue(ctx, common.EnvKey, gopsutilRoot))
	pids := make([]int, len(list))
	for i, pid := range list {
		pids[i] = int(pid)
	}
	return pids, err
}

// uids are the real, the effective, the saved and the file system uid of a process; nil if they cannot be read.
func (t *ProcFS) uids(ctx context.Context, pid int) (uids []uint32) {
	g := &process.Process{Pid: int32(pid)}
	list, err := g.UidsWithContext(context.WithValue(ctx, common.EnvKey, gopsutilRoot))
	if err != nil {
		return nil
	}
	for _, uid := range list {
		uids = append(uids, uint32(uid))
	}
	return uids
}

// capCmdline bounds what a stranger can make us write down.
func capCmdline(args []string) []string {
	if len(args) > cmdlineMaxArgs {
		args = append(args[:cmdlineMaxArgs:cmdlineMaxArgs], "…")
	}
	var capped []string
	left := cmdlineMaxBytes
	for _, arg := range args {
		if len(arg) > left {
			return append(capped, strings.ToValidUTF8(arg[:left], "")+"…")
		}
		left -= len(arg)
		capped = append(capped, arg)
	}
	return capped
}
