package watcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseKmsg(t *testing.T) {
	tests := []struct {
		name   string
		record string
		want   KmsgRecord
	}{
		{"kernel", "6,1339,5140900,-;NET: Registered protocol family 10\n",
			KmsgRecord{Level: 6, Seq: 1339, At: 5140900 * time.Microsecond, Text: "NET: Registered protocol family 10"}},
		{"user space with a dictionary", "30,340,5690716,-;udevd[80]: starting version 181\n SUBSYSTEM=acpi\n DEVICE=+acpi:x\n",
			KmsgRecord{Facility: 3, Level: 6, Seq: 340, At: 5690716 * time.Microsecond, Text: "udevd[80]: starting version 181"}},
		{"fragment", "6,7,8,c;/mems_allowed=0\n", KmsgRecord{Level: 6, Seq: 7, At: 8 * time.Microsecond, Fragment: true, Text: "/mems_allowed=0"}},
		{"caller", "3,7,8,-,caller=T12;x\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond, Text: "x"}},
		{"semicolons in the text", "3,7,8,-;a;b\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond, Text: "a;b"}},
		{"escapes", `3,7,8,-;a\x0ab\x5cx41\xff` + "\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond, Text: "a\nb\\x41\xff"}},
		{"escape cut off", `3,7,8,-;a\x0` + "\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond, Text: `a\x0`}},
		{"no hexadecimal", `3,7,8,-;a\xzz` + "\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond, Text: `a\xzz`}},
		{"no text", "3,7,8,-;\n", KmsgRecord{Level: 3, Seq: 7, At: 8 * time.Microsecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseKmsg([]byte(tt.record))
			if err != nil {
				t.Fatalf("ParseKmsg(%q): %v", tt.record, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseKmsg(%q) (-want +got):\n%s", tt.record, diff)
			}
		})
	}
}

func TestParseKmsgRefuses(t *testing.T) {
	for _, record := range []string{"", ";", "6,1,2;x", "a,1,2,-;x", "6,b,2,-;x", "6,1,-2,-;x", "6,1,99999999999999999999,-;x", "no record"} {
		if got, err := ParseKmsg([]byte(record)); err == nil {
			t.Errorf("ParseKmsg(%q) = %+v, want an error", record, got)
		}
	}
}

func TestParseOOMVictim(t *testing.T) {
	const tail = " total-vm:226160kB, anon-rss:98816kB, file-rss:5888kB, shmem-rss:4kB, UID:1000 pgtables:252kB oom_score_adj:0"
	tests := []struct {
		name, text string
		pid        int
		comm       string
		global     bool
	}{
		{"memcg", "Memory cgroup out of memory: Killed process 123 (python3)" + tail, 123, "python3", false},
		{"global", "Out of memory: Killed process 123 (python3)" + tail, 123, "python3", true},
		{"allocating task", "Out of memory (oom_kill_allocating_task): Killed process 9 (a)" + tail, 9, "a", true},
		{"comm like the line", "Memory cgroup out of memory: Killed process 9 () total-vm:1kB)" + tail, 9, ") total-vm:1kB", false},
		{"comm with brackets", "Memory cgroup out of memory: Killed process 9 (a) (b)" + tail, 9, "a) (b", false},
		{"empty comm", "Memory cgroup out of memory: Killed process 9 ()" + tail, 9, "", false},
		{"comm with a line break", "Memory cgroup out of memory: Killed process 9 (a\nb)" + tail, 9, "a\nb", false},
		{"comm like a message", "Memory cgroup out of memory: Killed process 9 (: Killed pro)" + tail, 9, ": Killed pro", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseOOMVictim(tt.text)
			if !ok {
				t.Fatalf("parseOOMVictim(%q) is not ok", tt.text)
			}
			uid, anon, file, shmem := uint32(1000), uint64(98816<<10), uint64(5888<<10), uint64(4<<10)
			want := oomVictim{pid: tt.pid, comm: tt.comm, global: tt.global, uid: &uid, anon: &anon, file: &file, shmem: &shmem}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(oomVictim{})); diff != "" {
				t.Errorf("parseOOMVictim(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestParseOOMVictimUnknownNumbers(t *testing.T) {
	got, ok := parseOOMVictim("Out of memory: Killed process 1 (x) total-vm:1kB, anon-rss:99999999999999999999kB, file-rss:-1kB, shmem-rss:7, UID:x")
	want := oomVictim{pid: 1, comm: "x", global: true}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(oomVictim{})); !ok || diff != "" {
		t.Errorf("ok %v, (-want +got):\n%s", ok, diff)
	}
}

func TestParseOOMVictimRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		"Killed process 123 (python3) total-vm:1kB",
		"x invoked oom-killer: Killed process 123 (python3) total-vm:1kB",
		"Memory cgroup out of memory: Killed process -1 (python3) total-vm:1kB",
		"Memory cgroup out of memory: Killed process 1",
		"Memory cgroup out of memory: OOM victim 1 (python3) is already exiting. Skip killing the task",
		"oom_reaper: reaped process 123 (python3), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
	} {
		if got, ok := parseOOMVictim(text); ok {
			t.Errorf("parseOOMVictim(%q) = %+v, want not ok", text, got)
		}
	}
}

func TestOOMDumpCgroups(t *testing.T) {
	const nodes = "(null),cpuset=/,mems_allowed=0"
	tests := []struct {
		name, names, comm string
		limit, task       string
		ok                bool
	}{
		{"own limit", nodes + ",oom_memcg=/a,task_memcg=/a,task=x", "x", "/a", "/a", true},
		{"ancestor", nodes + ",oom_memcg=/a,task_memcg=/a/b,task=x", "x", "/a", "/a/b", true},
		{"root limit", nodes + ",oom_memcg=/,task_memcg=/a/b,task=x", "x", "/", "/a/b", true},
		{"global", nodes + ",global_oom,task_memcg=/a/b,task=x", "x", "", "/a/b", true},
		{"global in the root", nodes + ",global_oom,task_memcg=/,task=x", "x", "", "/", true},
		{"commas and equal signs", nodes + ",oom_memcg=/a,b=c,task=x,task_memcg=/a,b=c,task=x/d=,task=p,q=", "p,q=", "/a,b=c,task=x", "/a,b=c,task=x/d=", true},
		{"comm like a path", nodes + ",oom_memcg=/a,task_memcg=/a/b,task=,task=x,pid=1,u", ",task=x,pid=1,u", "/a", "/a/b", true},
		{"path like the line", nodes + ",oom_memcg=/a,task_memcg=/a/x,task_memcg=/a/y,task=x", "x", "/a", "/a/x,task_memcg=/a/y", true},
		{"two readings", nodes + ",oom_memcg=/a,task_memcg=/a/q,task_memcg=/a,task_memcg=/a/q/z,task=x", "x", "", "", false},
		{"global in a path", nodes + ",oom_memcg=/a,task_memcg=/a/,global_oom,task_memcg=/b,task=x", "x", "/a", "/a/,global_oom,task_memcg=/b", true},
		{"limit in a path", nodes + ",global_oom,task_memcg=/a/,oom_memcg=/b,task_memcg=/b,task=x", "x", "", "/a/,oom_memcg=/b,task_memcg=/b", true},
		{"cpuset with a name like the line", "(null),cpuset=,oom_memcg=,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=x", "x", "/a", "/a", true},
		{"other comm", nodes + ",oom_memcg=/a,task_memcg=/a/b,task=x", "y", "/a", "/a/b", true},
		{"other comm and more than one reading", nodes + ",oom_memcg=/a,task_memcg=/a/b,task=x,task=z", "y", "", "", false},
		{"not below", nodes + ",oom_memcg=/a,task_memcg=/ab,task=x", "x", "", "", false},
		{"no memcg", nodes + ",task=x", "x", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, parsed := parseOOMDump("oom-kill:constraint=CONSTRAINT_X,nodemask=" + tt.names + ",pid=12,uid=4294967295")
			if !parsed || d.pid != 12 || d.constraint != "CONSTRAINT_X" {
				t.Fatalf("parseOOMDump: %+v, %v", d, parsed)
			}
			limit, task, ok := d.cgroups(tt.comm)
			if limit != tt.limit || task != tt.task || ok != tt.ok {
				t.Errorf("cgroups(%q) = %q, %q, %v, want %q, %q, %v", tt.comm, limit, task, ok, tt.limit, tt.task, tt.ok)
			}
		})
	}
}

func TestParseOOMGroup(t *testing.T) {
	tests := []struct {
		text, want string
		ok         bool
	}{
		{"Tasks in /a/b are going to be killed due to memory.oom.group set", "/a/b", true},
		{"Tasks in /a are going to be killed due to memory.oom.group set are going to be killed due to memory.oom.group set",
			"/a are going to be killed due to memory.oom.group set", true},
		{"Tasks in x are going to be killed due to memory.oom.group set", "x", false},
		{"Tasks in /a are going to be", "/a are going to be", false},
	}
	for _, tt := range tests {
		if got, ok := parseOOMGroup(tt.text); ok != tt.ok || ok && got != tt.want {
			t.Errorf("parseOOMGroup(%q) = %q, %v, want %q, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

// escape does what the kernel does (record_print_text's append_char).
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c >= 127 || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func FuzzParseKmsg(f *testing.F) {
	f.Add([]byte("6,1339,5140900,-;NET: Registered protocol family 10\n"))
	f.Add([]byte("6,1339,5140900,c,caller=T1;,cpuset=\\x0a\n SUBSYSTEM=acpi\n"))
	f.Fuzz(func(t *testing.T, record []byte) {
		r, err := ParseKmsg(record)
		if err == nil && (r.At < 0 || r.Facility < 0 || r.Level < 0 || r.Level > 7) {
			t.Errorf("ParseKmsg(%q) = %+v", record, r)
		}
		new(oomJoin).add(r)
	})
}

func FuzzKmsgUnescape(f *testing.F) {
	f.Add("a\nb\\x41\xff")
	f.Fuzz(func(t *testing.T, text string) {
		if got := kmsgUnescape(escape(text)); got != text {
			t.Errorf("kmsgUnescape(%q) = %q, want %q", escape(text), got, text)
		}
	})
}

// FuzzOOMNames: whatever strangers call their processes and cgroups, what is read is what was written, or nothing.
func FuzzOOMNames(f *testing.F) {
	f.Add("python3", "a", "b", "/", true)
	f.Add(") total-vm:1kB", "a,task_memcg=", "a,task=x", ",oom_memcg=", true)
	f.Add("a,pid=1,uid=0", ",global_oom,task_memcg=", "x,task_memcg=", ",global_oom,task_memcg=", false)
	f.Fuzz(func(t *testing.T, comm, above, below, cpuset string, memcg bool) {
		limit, task := "/"+above, "/"+above+"/"+below
		if bad := strings.ContainsAny(above+below+cpuset, "\n\x00"); bad || strings.ContainsAny(above+cpuset, "/") ||
			above == "" || below == "" || len(comm) > 15 || strings.Contains(comm, "\x00") || len(task) > 200 || len(cpuset) > 200 {
			t.Skip()
		}
		scope, message := ",oom_memcg="+limit, oomMessageMemcg
		if !memcg {
			limit, scope, message = "", ",global_oom", oomMessageGlobal
		}
		var j oomJoin
		for i, text := range []string{
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=" + cpuset + ",mems_allowed=0" + scope + ",task_memcg=" + task + ",task=" + comm + ",pid=12,uid=34",
			message + ": Killed process 12 (" + comm + ") total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, UID:34 pgtables:5kB oom_score_adj:0",
			"Tasks in " + limit + "/g are going to be killed due to memory.oom.group set",
		} {
			r, err := ParseKmsg(fmt.Appendf(nil, "6,%d,1,-;%s\n", i, escape(text)))
			if err != nil {
				t.Fatal(err)
			}
			j.add(r)
		}
		kills := j.take()
		if len(kills) != 1 {
			t.Fatalf("%d kills, want 1: %+v", len(kills), kills)
		}
		k := kills[0]
		if k.PID != 12 || k.Comm != comm || k.UID == nil || *k.UID != 34 || k.Global == memcg || *k.ShmemRSS != 4096 ||
			k.Group != limit+"/g" || k.Constraint != "CONSTRAINT_MEMCG" {
			t.Errorf("%+v, want comm %q", k, comm)
		}
		if k.TaskMemcg != "" && (k.TaskMemcg != task || k.OOMMemcg != limit) {
			t.Errorf("cgroups %q, %q, want %q, %q or nothing", k.OOMMemcg, k.TaskMemcg, limit, task)
		}
	})
}
