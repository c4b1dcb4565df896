package watcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A kmsgScript is a kernel log in the making.
type kmsgScript struct {
	join oomJoin
	seq  uint64
	now  time.Duration
}

// scriptAt returns a log of which everything since long before is known.
func scriptAt(now time.Duration) *kmsgScript {
	s := &kmsgScript{now: now - time.Hour}
	s.say("before")
	s.now = now
	return s
}

func (s *kmsgScript) say(format string, args ...any) {
	s.record("-", fmt.Sprintf(format, args...))
}

func (s *kmsgScript) record(flags, text string) {
	r, err := ParseKmsg(fmt.Appendf(nil, "6,%d,%d,%s;%s\n", s.seq, s.now.Microseconds(), flags, escape(text)))
	if err != nil {
		panic(err)
	}
	s.join.add(r)
	s.seq++
	s.now += time.Millisecond
}

func (s *kmsgScript) dump(limit, task string, pid int) {
	s.say("x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0")
	s.say("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=%s,task_memcg=%s,task=p%d,pid=%d,uid=0",
		limit, task, pid, pid)
}

func (s *kmsgScript) killed(pid int) {
	s.say("Memory cgroup out of memory: Killed process %d (p%d) total-vm:9kB, anon-rss:%dkB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0",
		pid, pid, pid)
}

func (s *kmsgScript) spared(pid int) {
	s.say("Memory cgroup out of memory: OOM victim %d (p%d) is already exiting. Skip killing the task", pid, pid)
}

func (s *kmsgScript) group(path string) {
	s.say("Tasks in %s are going to be killed due to memory.oom.group set", path)
}

// kills returns what was said about the kills since the last call, one per line.
func (s *kmsgScript) kills() string {
	var b strings.Builder
	for _, k := range s.join.take() {
		fmt.Fprintf(&b, "%d", k.PID)
		for _, f := range []struct{ name, value string }{
			{"limit", k.OOMMemcg}, {"task", k.TaskMemcg}, {"group", k.Group}, {"constraint", strings.TrimPrefix(k.Constraint, "CONSTRAINT_")},
		} {
			if f.value != "" {
				fmt.Fprintf(&b, " %s=%s", f.name, f.value)
			}
		}
		if k.Global {
			b.WriteString(" global")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ten makes the kernel suppress dump lines.
func (s *kmsgScript) ten() {
	for pid := range oomDumpBurst {
		s.dump("/x", "/x", 100+pid)
		s.killed(100 + pid)
	}
	s.join.take()
}

func TestOOMJoin(t *testing.T) {
	tests := []struct {
		name   string
		script func(*kmsgScript)
		want   string
	}{
		{"one", func(s *kmsgScript) {
			s.dump("/a", "/a/b", 1)
			s.killed(1)
			s.say("oom_reaper: reaped process 1 (p1), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB")
		}, "1 limit=/a task=/a/b constraint=MEMCG\n"},
		{"no dump line", func(s *kmsgScript) { s.killed(1) }, "1\n"},
		{"global without a dump line", func(s *kmsgScript) {
			s.say("Out of memory: Killed process 1 (p1) total-vm:9kB")
		}, "1 global\n"},
		{"dump line without a kill", func(s *kmsgScript) { s.dump("/a", "/a", 1) }, ""},
		{"two in a row", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.dump("/b", "/b", 2)
			s.killed(2)
		}, "1 limit=/a task=/a constraint=MEMCG\n2 limit=/b task=/b constraint=MEMCG\n"},
		{"the main thread has exited", func(s *kmsgScript) {
			s.dump("/a", "/a/b", 1)
			s.killed(2)
			s.group("/a")
			s.killed(2)
			s.killed(3)
		}, "1 limit=/a task=/a/b group=/a constraint=MEMCG\n3 limit=/a group=/a constraint=MEMCG\n"},
		{"group", func(s *kmsgScript) {
			s.dump("/a", "/a/b", 1)
			s.killed(1)
			s.group("/a")
			s.killed(2)
			s.killed(1)
			s.killed(3)
		}, "1 limit=/a task=/a/b group=/a constraint=MEMCG\n2 limit=/a group=/a constraint=MEMCG\n3 limit=/a group=/a constraint=MEMCG\n"},
		{"group after a group", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.killed(2)
			s.dump("/b", "/b", 3)
			s.killed(3)
			s.group("/b")
			s.killed(4)
		}, "1 limit=/a task=/a group=/a constraint=MEMCG\n2 limit=/a group=/a constraint=MEMCG\n" +
			"3 limit=/b task=/b group=/b constraint=MEMCG\n4 limit=/b group=/b constraint=MEMCG\n"},
		{"a spared member does not end the group", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.spared(2)
			s.killed(3)
		}, "1 limit=/a task=/a group=/a constraint=MEMCG\n3 limit=/a group=/a constraint=MEMCG\n"},
		{"a spared victim is not killed, its group is", func(s *kmsgScript) {
			s.killed(9)
			s.dump("/a", "/a", 1)
			s.spared(1)
			s.group("/a")
			s.killed(2)
		}, "9\n2 group=/a\n"},
		{"group of a suppressed dump line", func(s *kmsgScript) {
			s.ten()
			s.killed(1)
			s.group("/a")
		}, "1 group=/a\n"},
		{"while dump lines are suppressed, nobody knows who else was in the group", func(s *kmsgScript) {
			s.ten()
			s.killed(1)
			s.group("/a")
			s.killed(2)
			s.killed(1)
			s.killed(3)
			s.group("/b")
			s.killed(4)
		}, "1 group=/a\n2\n3 group=/b\n4\n"},
		{"a spared member while dump lines are suppressed", func(s *kmsgScript) {
			s.ten()
			s.killed(1)
			s.group("/a")
			s.killed(2)
			s.spared(3)
			s.group("/b")
		}, "1 group=/a\n2\n"},
		{"after the interval dump lines are back", func(s *kmsgScript) {
			s.ten()
			s.now += oomDumpInterval
			s.killed(1)
			s.group("/a")
			s.killed(2)
		}, "1 group=/a\n2 group=/a\n"},
		{"a global kill is not in a cgroup's group", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.say("Out of memory: Killed process 2 (p2) total-vm:9kB")
		}, "1 limit=/a task=/a group=/a constraint=MEMCG\n2 global\n"},
		{"a line in pieces, others between", func(s *kmsgScript) {
			s.say("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)")
			s.say("audit: type=1400")
			s.record("c", ",cpuset=/,mems_allowed=0,oom_memcg=")
			s.say("audit: type=1400")
			s.record("c", "/a,task_memcg=/a,task=p1,pid=1,uid=0")
			s.killed(1)
			s.say("Tasks in ")
			s.say("audit: type=1400")
			s.record("c", "/a are going to be killed due to memory.oom.group set")
			s.killed(2)
		}, "1 limit=/a task=/a group=/a constraint=MEMCG\n2 limit=/a group=/a constraint=MEMCG\n"},
		{"a line that lost its end", func(s *kmsgScript) {
			s.say("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)")
			s.killed(1)
			s.record("c", ",task=p1,pid=1,uid=0")
			s.killed(1)
		}, "1\n1\n"},
		{"fragments of other lines", func(s *kmsgScript) {
			s.record("c", "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/a,task_memcg=/a,task=p1,pid=1,uid=0")
			s.killed(1)
		}, "1\n"},
		{"a name that may have been cut", func(s *kmsgScript) {
			long := "/a/" + strings.Repeat("x", kmsgCut)
			s.dump("/a", long, 1)
			s.killed(1)
			s.group(long)
		}, "1 constraint=MEMCG\n"},
		{"records lost after the dump line", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.join.forget()
			s.killed(1)
		}, "1\n"},
		{"records lost in a group", func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.join.forget()
			s.killed(2)
			s.group("/b")
			s.killed(3)
		}, "1 limit=/a task=/a group=/a constraint=MEMCG\n2 group=/b\n3\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := scriptAt(2 * time.Hour)
			tt.script(s)
			if diff := cmp.Diff(tt.want, s.kills()); diff != "" {
				t.Errorf("kills (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOOMJoinForgery: what user space writes into the log (another facility) is not believed.
func TestOOMJoinForgery(t *testing.T) {
	s := scriptAt(time.Hour)
	for _, text := range []string{
		"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=p1,pid=1,uid=0",
		"Memory cgroup out of memory: Killed process 1 (p1) total-vm:9kB",
		"Tasks in /a are going to be killed due to memory.oom.group set",
	} {
		r, err := ParseKmsg([]byte("12,1,1,-;" + text + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		s.join.add(r)
	}
	if got := s.kills(); got != "" {
		t.Errorf("kills %q, want none", got)
	}
}

// TestOOMJoinAcrossCalls: an incident may be half logged when it is looked at.
func TestOOMJoinAcrossCalls(t *testing.T) {
	s := scriptAt(time.Hour)
	var got []string
	for _, step := range []func(){
		func() { s.dump("/a", "/a", 1) }, func() { s.killed(1) }, func() { s.group("/a") }, func() { s.killed(2) },
	} {
		step()
		got = append(got, s.kills())
	}
	want := []string{"", "1 limit=/a task=/a constraint=MEMCG\n", "", "2 limit=/a group=/a constraint=MEMCG\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kills of each call (-want +got):\n%s", diff)
	}
}

// TestOOMJoinUnsettled: only a kill without a cgroup, of which the next line may tell it, is worth waiting for.
func TestOOMJoinUnsettled(t *testing.T) {
	s := scriptAt(time.Hour)
	step := func(name string, do func(), want bool) {
		t.Helper()
		do()
		if got := s.join.unsettled(); got != want {
			t.Errorf("%s: unsettled %v, want %v", name, got, want)
		}
	}
	step("nothing", func() {}, false)
	step("dump line", func() { s.dump("/a", "/a", 1) }, false)
	step("its victim", func() { s.killed(1) }, false)
	step("a kill alone", func() { s.killed(2) }, true)
	step("something else", func() { s.say("audit: type=1400") }, true)
	step("its group", func() { s.group("/b") }, false)
	step("a member", func() { s.killed(3) }, false)
	s.ten()
	step("a kill alone, suppressed", func() { s.killed(4) }, true)
	step("taken", func() { s.join.take() }, false)
}

// TestOOMJoinUnknownPast: a log that was opened just now says nothing about the dump lines before.
func TestOOMJoinUnknownPast(t *testing.T) {
	s := &kmsgScript{seq: 5, now: time.Hour}
	s.killed(1)
	s.group("/a")
	s.killed(2)
	if got, want := s.kills(), "1 group=/a\n2\n"; got != want {
		t.Errorf("opened late: kills %q, want %q", got, want)
	}
	s = &kmsgScript{now: time.Second}
	s.killed(1)
	s.group("/a")
	s.killed(2)
	if got, want := s.kills(), "1 group=/a\n2 group=/a\n"; got != want {
		t.Errorf("known since boot: kills %q, want %q", got, want)
	}
}

// TestOOMJoinAsksForThePast: it takes a walk through the whole ring, so only a doubt that it can settle asks for it, once.
func TestOOMJoinAsksForThePast(t *testing.T) {
	recently := func(n int) oomDumps {
		d := oomDumps{started: true}
		for range n {
			d.note(time.Hour - time.Second)
		}
		return d
	}
	tests := []struct {
		name   string
		past   oomDumps
		script func(*kmsgScript)
		asked  int
		want   string
	}{
		{"a kill alone", recently(0), func(s *kmsgScript) {
			s.dump("/a", "/a/b", 1)
			s.killed(1)
			s.group("/a")
			s.killed(1)
		}, 0, "1 limit=/a task=/a/b group=/a constraint=MEMCG\n"},
		{"a group, nothing suppressed", recently(oomDumpBurst - 2), func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.killed(2)
			s.killed(3)
		}, 1, "1 limit=/a task=/a group=/a constraint=MEMCG\n2 limit=/a group=/a constraint=MEMCG\n3 limit=/a group=/a constraint=MEMCG\n"},
		{"a group, with this dump line as many as are printed", recently(oomDumpBurst - 1), func(s *kmsgScript) {
			s.dump("/a", "/a", 1)
			s.killed(1)
			s.group("/a")
			s.killed(2)
		}, 1, "1 limit=/a task=/a group=/a constraint=MEMCG\n2\n"},
		{"a past that cannot be read", oomDumps{}, func(s *kmsgScript) {
			s.killed(1)
			s.group("/a")
			s.killed(2)
		}, 1, "1 group=/a\n2\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, asked := &kmsgScript{seq: 5, now: time.Hour}, 0
			s.join.past = func() oomDumps { asked++; return tt.past }
			tt.script(s)
			if got := s.kills(); got != tt.want || asked != tt.asked {
				t.Errorf("asked %d times, want %d; kills\n%s, want\n%s", asked, tt.asked, got, tt.want)
			}
		})
	}
}

func TestKmsgBound(t *testing.T) {
	const hour = time.Hour
	tests := []struct {
		name                    string
		at, boottime, monotonic time.Duration
		want                    time.Duration
	}{
		{"no suspend", 10 * hour, 10 * hour, 10 * hour, 10*hour - 36*time.Second - time.Second},
		{"suspended for two hours", 10 * hour, 12 * hour, 10 * hour, 8*hour - 37*time.Second},
		{"just booted", time.Second, 2 * time.Second, 2 * time.Second, 0},
	}
	for _, tt := range tests {
		if got := kmsgBound(tt.at, tt.boottime, tt.monotonic); got != tt.want {
			t.Errorf("%s: kmsgBound(%v, %v, %v) = %v, want %v", tt.name, tt.at, tt.boottime, tt.monotonic, got, tt.want)
		}
	}
}
