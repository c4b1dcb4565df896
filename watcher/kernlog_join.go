package watcher

import (
	"strings"
	"time"
)

// KernelKill is one process that the kernel killed for want of memory, as the kernel log tells it. A pointer is nil and
// a string is empty when the log does not say.
type KernelKill struct {
	At   time.Duration // the kernel's date: since boot, without suspend
	PID  int           // in the initial pid namespace; a thread's when the main thread had exited and no dump line says whose
	Comm string        // up to 15 bytes of anything

	UID                        *uint32 // the real one
	AnonRSS, FileRSS, ShmemRSS *uint64 // bytes, when it was killed

	Constraint string // CONSTRAINT_MEMCG, CONSTRAINT_NONE, …; "" when the dump line was rate limited away
	OOMMemcg   string // the cgroup whose limit was hit
	TaskMemcg  string // the cgroup of the process
	Global     bool   // not for a cgroup's limit: the host (or a NUMA policy or cpuset, see Constraint) had no memory left
	Group      string // the cgroup that was killed as a whole, this process with it (memory.oom.group)
}

// The kernel prints at most oomDumpBurst dump lines in oomDumpInterval (DEFAULT_RATELIMIT_BURST and _INTERVAL, 10 and
// 5 s; a second more for the different clocks). While fewer were printed, a dump line that is not there was not
// suppressed.
const (
	oomDumpBurst    = 10
	oomDumpInterval = 6 * time.Second
)

// kmsgCut is the length from which on a piece of a line may have been cut by the kernel: LOG_LINE_MAX is 976 to 1024,
// by version and configuration.
const kmsgCut = 960

// oomJoin joins the lines of the kernel log into kills. It is pure: records in, kills out.
//
// All out-of-memory kills of a host happen under one lock (oom_lock), so the lines of two never mix. One incident is
//
//	dump line                  (rate limited)
//	Killed process, the victim (or "OOM victim … Skip killing the task")
//	Tasks in GROUP …           (with memory.oom.group)
//	Killed process, each member of the group, the victim often once more
//
// among lines that do not matter. The only thing in doubt is whether a "Killed process" line after a group's belongs to
// the group or is the next incident, without a dump line. It belongs to the group for certain while dump lines are not
// being suppressed; else nothing is said about its group.
type oomJoin struct {
	kills []KernelKill // not yet taken

	dump     *oomDump   // printed, its victim not yet
	last     joinedKill // the last kill that can be the first of its incident …
	fresh    bool       // … and no other of these lines followed it
	incident joinedKill // the first kill of the incident whose group is being killed; its tid is 0 when it is not known
	inGroup  bool

	open []byte // a dump or group line that is not yet complete; nil for none
	cut  bool   // a piece of open may have been shortened

	dumps oomDumps
	past  func() oomDumps // those before the first record that was added; nil when they are not to be had, or in dumps
}

// oomDumps says when dump lines were printed.
type oomDumps struct {
	dates   []time.Duration // of the last oomDumpBurst ones
	from    time.Duration   // every line since is known
	started bool
}

type joinedKill struct {
	KernelKill
	tid int // the number in its own line
}

// add takes the next record.
func (j *oomJoin) add(r KmsgRecord) {
	j.dumps.begin(r)
	switch {
	case r.Facility != 0:
	case r.Fragment:
		if j.open != nil {
			j.piece(r.Text)
		}
	case isOOMDump(r):
		j.dumps.note(r.At)
		j.dump, j.inGroup, j.fresh, j.open, j.cut = nil, false, false, nil, false
		j.piece(r.Text)
	case strings.HasPrefix(r.Text, oomGroupStart):
		j.open, j.cut = nil, false
		j.piece(r.Text)
	default:
		j.line(r)
	}
}

// piece adds to a line that the kernel prints in several steps. Another processor's line can come between them, and a
// long line is broken; then the rest comes as fragments.
func (j *oomJoin) piece(text string) {
	j.cut = j.cut || len(text) >= kmsgCut
	j.open = append(j.open, text...)
	whole := string(j.open)
	if d, ok := parseOOMDump(whole); ok {
		d.whole = !j.cut
		j.dump, j.open = &d, nil
	} else if path, ok := parseOOMGroup(whole); ok {
		j.open = nil
		if !j.cut {
			j.group(path)
		}
	} else if len(whole) > kmsgRecordMax {
		j.open = nil
	}
}

func (j *oomJoin) line(r KmsgRecord) {
	v, ok := parseOOMVictim(r.Text)
	switch {
	case !ok && isOOMSpared(r.Text):
		j.dump, j.fresh = nil, false
	case !ok:
	case j.inGroup && (j.incident.tid == 0 || v.global == j.incident.Global):
		j.member(v.kill(r.At))
	default:
		j.first(v.kill(r.At))
	}
}

// first takes the victim that an incident begins with.
func (j *oomJoin) first(kill KernelKill) {
	tid := kill.PID
	if d := j.dump; d != nil {
		// It is the process of the dump line, by whatever number: if its main thread has exited, the dump line has the
		// process's and this one that of a thread that has not.
		kill.PID, kill.Constraint = d.pid, d.constraint
		kill.OOMMemcg, kill.TaskMemcg, _ = d.cgroups(kill.Comm)
	}
	j.dump, j.open, j.inGroup = nil, nil, false
	j.last, j.fresh = joinedKill{kill, tid}, true
	j.kills = append(j.kills, kill)
}

// group takes the line that names the group.
func (j *oomJoin) group(path string) {
	j.incident, j.inGroup = joinedKill{}, true
	if j.fresh {
		j.incident = j.last
		if n := len(j.kills); n > 0 {
			j.kills[n-1].Group = path
		}
	}
	j.incident.Group, j.fresh = path, false
}

// member takes a kill after a group's line.
func (j *oomJoin) member(kill KernelKill) {
	switch {
	case kill.PID == j.incident.tid:
		return // the victim is a member too, and its memory may still be there: told twice, killed once
	case j.suppressed(kill.At):
		j.last, j.fresh = joinedKill{kill, kill.PID}, true
	default:
		kill.Constraint, kill.OOMMemcg, kill.Group = j.incident.Constraint, j.incident.OOMMemcg, j.incident.Group
		j.fresh = false
	}
	j.kills = append(j.kills, kill)
}

// unsettled reports whether the next line may say where the last kill belongs, which nothing has said so far.
func (j *oomJoin) unsettled() bool {
	return j.fresh && len(j.kills) > 0 && j.last.TaskMemcg == ""
}

// take returns the kills so far.
func (j *oomJoin) take() []KernelKill {
	kills := j.kills
	j.kills = nil
	return kills
}

// forget is told that records are missing here.
func (j *oomJoin) forget() {
	j.dump, j.fresh, j.inGroup, j.open, j.past, j.dumps.started = nil, false, false, nil, nil, false
}

// suppressed reports whether a dump line can have been suppressed at the given time.
func (j *oomJoin) suppressed(at time.Duration) bool {
	start := at - oomDumpInterval
	if j.past != nil && j.dumps.from > start && !j.dumps.full(start) {
		j.dumps = j.past().then(j.dumps)
		j.past = nil
	}
	return j.dumps.full(start) || j.dumps.from > start
}

// isOOMDump reports whether a record is the first piece of a dump line.
func isOOMDump(r KmsgRecord) bool {
	return r.Facility == 0 && !r.Fragment && strings.HasPrefix(r.Text, oomDumpStart)
}

// begin takes the date of the first record.
func (d *oomDumps) begin(r KmsgRecord) {
	if d.started {
		return
	}
	d.started, d.from = true, r.At
	if r.Seq == 0 {
		d.from = -oomDumpInterval
	}
}

func (d *oomDumps) note(at time.Duration) {
	d.dates = append(d.dates, at)
	d.dates = d.dates[max(0, len(d.dates)-oomDumpBurst):]
}

// then joins dates with the later ones that follow without a gap.
func (d oomDumps) then(later oomDumps) oomDumps {
	if !d.started {
		return later
	}
	for _, at := range later.dates {
		d.note(at)
	}
	return d
}

// full reports whether as many were printed since start as the kernel prints.
func (d *oomDumps) full(start time.Duration) bool {
	return len(d.dates) == oomDumpBurst && d.dates[0] >= start
}
