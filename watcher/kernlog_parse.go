package watcher

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// KmsgRecord is one record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg).
type KmsgRecord struct {
	Facility int           // 0 is the kernel; user space cannot write a record of facility 0
	Level    int           // 0 (emergency) to 7 (debug)
	Seq      uint64        // counts records since boot
	At       time.Duration // since boot, on the scheduler's clock
	Fragment bool          // it continues an earlier record, after another one came between
	Text     string        // with the kernel's \xHH escapes taken out: may hold any byte
}

var errKmsgFormat = errors.New("kernel log record: not in the format prio,seq,usec,flags;text")

// ParseKmsg parses one record as read(2) returns it:
//
//	6,1339,5140900,-;NET: Registered protocol family 10
//	30,340,5690716,-;udevd[80]: starting version 181
//	 SUBSYSTEM=acpi
//
// Fields that a later kernel adds before the semicolon ("caller=T12" is one) and the KEY=value lines are ignored.
func ParseKmsg(record []byte) (KmsgRecord, error) {
	prefix, body, ok := bytes.Cut(record, []byte{';'})
	fields := strings.Split(string(prefix), ",")
	if !ok || len(fields) < 4 {
		return KmsgRecord{}, errKmsgFormat
	}
	prio, err1 := strconv.ParseUint(fields[0], 10, 32)
	seq, err2 := strconv.ParseUint(fields[1], 10, 64)
	usec, err3 := strconv.ParseInt(fields[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || usec < 0 || usec > int64(1<<63-1)/1000 {
		return KmsgRecord{}, errKmsgFormat
	}
	text, _, _ := bytes.Cut(body, []byte{'\n'})
	return KmsgRecord{
		Facility: int(prio >> 3),
		Level:    int(prio & 7),
		Seq:      seq,
		At:       time.Duration(usec) * time.Microsecond,
		Fragment: fields[3] == "c",
		Text:     kmsgUnescape(string(text)),
	}, nil
}

// kmsgUnescape takes back what the kernel does to a byte below ' ', above '~' or equal to '\'.
func kmsgUnescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[0] == '\\' && s[1] == 'x' {
			if c, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// The lines of mm/oom_kill.c and mm/memcontrol.c that say who was killed. Names of processes and cgroups in them are
// chosen by strangers and may hold commas, parentheses and whole pieces of these lines; so every line is taken apart
// from its fixed ends, and never by the first comma.
const (
	oomDumpStart  = "oom-kill:constraint="
	oomGroupStart = "Tasks in "
	oomGroupEnd   = " are going to be killed due to memory.oom.group set"

	oomMessageMemcg  = "Memory cgroup out of memory"
	oomMessageGlobal = "Out of memory"
	oomMessageCaller = "Out of memory (oom_kill_allocating_task)"
)

// ofOOM reports whether r can be one of the lines that an oomJoin understands.
func ofOOM(r KmsgRecord) bool {
	return r.Facility == 0 && (strings.HasPrefix(r.Text, oomDumpStart) || strings.HasPrefix(r.Text, oomGroupStart) ||
		strings.HasPrefix(r.Text, oomMessageMemcg) || strings.HasPrefix(r.Text, oomMessageGlobal))
}

// An oomDump is the line that opens an out-of-memory kill, unless it is rate limited away:
//
//	oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=123,uid=0
//	oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a/b,task=python3,pid=123,uid=0
type oomDump struct {
	constraint string
	names      string // from nodemask to the name of the task, which only the next line tells from the path before it
	pid        int
	whole      bool // false: a name was so long that the kernel may have cut it
}

func parseOOMDump(text string) (oomDump, bool) {
	rest, ok := strings.CutPrefix(text, oomDumpStart)
	if !ok {
		return oomDump{}, false
	}
	constraint, rest, ok1 := strings.Cut(rest, ",nodemask=")
	rest, uid, ok2 := cutLast(rest, ",uid=")
	names, pid, ok3 := cutLast(rest, ",pid=")
	p, err := strconv.ParseUint(pid, 10, 31)
	if _, uidErr := strconv.ParseUint(uid, 10, 32); !ok1 || !ok2 || !ok3 || err != nil || uidErr != nil {
		return oomDump{}, false
	}
	return oomDump{constraint: constraint, names: names, pid: int(p), whole: true}, true
}

// cgroups returns the cgroup whose limit was hit ("" for a global kill) and the one that the task named comm was in; comm
// may be that of another thread if the line can be read in one way only. Not ok means that it can be read in several, or
// in none.
//
// The names of node masks and cpusets, which come first, hold no "/" but for the root's, and a victim is always at or
// below the cgroup whose limit was hit.
func (d oomDump) cgroups(comm string) (oomMemcg, taskMemcg string, ok bool) {
	const limit, global, task = ",oom_memcg=/", ",global_oom,task_memcg=/", ",task_memcg=/"
	names, found := strings.CutSuffix(d.names, ",task="+comm)
	if !found && strings.Count(d.names, ",task=") == 1 {
		names, _, found = strings.Cut(d.names, ",task=")
	}
	if !d.whole || !found {
		return "", "", false
	}
	if i := strings.Index(names, global); i >= 0 && !strings.Contains(names[:i], limit) {
		return "", names[i+len(global)-1:], true
	}
	_, names, found = strings.Cut(names, limit)
	names = "/" + names
	for at := 0; found; {
		i := strings.Index(names[at:], task)
		if i < 0 {
			break
		}
		at += i
		above, below := names[:at], names[at+len(task)-1:]
		if isAtOrBelow(below, above) {
			if ok {
				return "", "", false
			}
			oomMemcg, taskMemcg, ok = above, below, true
		}
		at += len(task)
	}
	return oomMemcg, taskMemcg, ok
}

func isAtOrBelow(path, root string) bool {
	return path == root || root == "/" || strings.HasPrefix(path, root+"/")
}

// An oomVictim is the line for each process that is killed. It is not rate limited:
//
//	Memory cgroup out of memory: Killed process 123 (python3) total-vm:226160kB, anon-rss:98816kB, file-rss:5888kB, shmem-rss:0kB, UID:0 pgtables:252kB oom_score_adj:0
//	Out of memory: Killed process 123 (python3) total-vm:…
//	Out of memory (oom_kill_allocating_task): Killed process 123 (python3) total-vm:…
type oomVictim struct {
	pid               int
	comm              string
	global            bool
	uid               *uint32
	anon, file, shmem *uint64 // bytes
}

func parseOOMVictim(text string) (oomVictim, bool) {
	message, rest, ok := strings.Cut(text, ": Killed process ")
	if !ok || !isOOMMessage(message) {
		return oomVictim{}, false
	}
	pid, rest, ok1 := strings.Cut(rest, " (")
	comm, numbers, ok2 := cutLast(rest, ") total-vm:")
	p, err := strconv.ParseUint(pid, 10, 31)
	if !ok1 || !ok2 || err != nil {
		return oomVictim{}, false
	}
	v := oomVictim{pid: int(p), comm: comm, global: message != oomMessageMemcg}
	for _, field := range strings.FieldsFunc(numbers, func(r rune) bool { return r == ' ' || r == ',' }) {
		v.field(field)
	}
	return v, true
}

func (v *oomVictim) kill(at time.Duration) KernelKill {
	return KernelKill{At: at, PID: v.pid, Comm: v.comm, Global: v.global, UID: v.uid,
		AnonRSS: v.anon, FileRSS: v.file, ShmemRSS: v.shmem}
}

func (v *oomVictim) field(s string) {
	key, value, _ := strings.Cut(s, ":")
	switch key {
	case "anon-rss":
		v.anon = kilobytes(value)
	case "file-rss":
		v.file = kilobytes(value)
	case "shmem-rss":
		v.shmem = kilobytes(value)
	case "UID":
		if n, err := strconv.ParseUint(value, 10, 32); err == nil {
			uid := uint32(n)
			v.uid = &uid
		}
	}
}

// kilobytes returns the bytes in "12kB", or nil.
func kilobytes(s string) *uint64 {
	digits, ok := strings.CutSuffix(s, "kB")
	n, err := strconv.ParseUint(digits, 10, 54)
	if !ok || err != nil {
		return nil
	}
	n *= 1024
	return &n
}

// parseOOMGroup returns the cgroup that is killed as a whole (memory.oom.group), in a line that follows the first
// victim's:
//
//	Tasks in /a/b are going to be killed due to memory.oom.group set
func parseOOMGroup(text string) (path string, ok bool) {
	rest, ok1 := strings.CutPrefix(text, oomGroupStart)
	path, ok2 := strings.CutSuffix(rest, oomGroupEnd)
	return path, ok1 && ok2 && strings.HasPrefix(path, "/")
}

// isOOMSpared recognises the line instead of a victim's when there was nothing left to kill:
//
//	Memory cgroup out of memory: OOM victim 123 (python3) is already exiting. Skip killing the task
func isOOMSpared(text string) bool {
	message, rest, ok := strings.Cut(text, ": OOM victim ")
	return ok && isOOMMessage(message) && strings.HasSuffix(rest, ") is already exiting. Skip killing the task")
}

func isOOMMessage(s string) bool {
	return s == oomMessageMemcg || s == oomMessageGlobal || s == oomMessageCaller
}

// cutLast is strings.Cut around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
