package watcher

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// sleeper starts a process that waits for its standard input to end, and returns when it runs.
func sleeper(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", "echo; read x", "sh"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestDescribe(t *testing.T) {
	t.Setenv("HOST_PROC", "/nowhere") // a stranger's
	child := sleeper(t, "a b", "", "c")
	const none = 1 << 30
	got := NewProcessTable().Describe(t.Context(), []int{child.Process.Pid, none, os.Getpid(), -1, 0})
	if len(got) != 5 {
		t.Fatalf("%d descriptions, want 5", len(got))
	}
	p := got[0]
	want := []string{"/bin/sh", "-c", "echo; read x", "sh", "a b", "", "c"}
	if diff := cmp.Diff(want, p.Cmdline); diff != "" {
		t.Errorf("command line (-want +got):\n%s", diff)
	}
	if p.PPID == nil || *p.PPID != os.Getpid() || p.Comm != "sh" || p.UID == nil || *p.UID != uint32(os.Getuid()) {
		t.Errorf("%+v, want ppid %d, comm sh, uid %d", p, os.Getpid(), os.Getuid())
	}
	if p.RSSBytes == nil || *p.RSSBytes < 4096 || !strings.Contains("RSD", p.State) || p.AgeSeconds == nil || *p.AgeSeconds > 60 {
		t.Errorf("%+v, want a size, a state of the living and an age below a minute", p)
	}
	if got[2].PID != os.Getpid() || got[2].Comm == "" {
		t.Errorf("second description %+v, want our own", got[2])
	}
	for i, pid := range map[int]int{1: none, 3: -1, 4: 0} {
		if diff := cmp.Diff(events.Process{PID: pid}, got[i]); diff != "" {
			t.Errorf("description of nobody (-want +got):\n%s", diff)
		}
	}
}

func TestDescribeZombie(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	table := NewProcessTable()
	for end := time.Now().Add(eventually); time.Now().Before(end); {
		p := table.Describe(t.Context(), []int{cmd.Process.Pid})[0]
		if p.State != "Z" {
			continue
		}
		if p.Comm != "true" || p.RSSBytes != nil || p.Cmdline != nil || p.UID == nil {
			t.Errorf("%+v, want a name and an owner, no size and no command line", p)
		}
		return
	}
	t.Error("no zombie")
}

func TestDescribeManyAndOthers(t *testing.T) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, d := range dirs {
		var pid int
		for _, c := range d.Name() {
			if c < '0' || c > '9' {
				pid = 0
				break
			}
			pid = pid*10 + int(c-'0')
		}
		if pid > 0 {
			pids = append(pids, pid)
		}
	}
	table := NewProcessTable()
	got := table.Describe(t.Context(), pids)
	for i, p := range got {
		if p.PID != pids[i] {
			t.Fatalf("description %d is of %d, want %d", i, p.PID, pids[i])
		}
	}
	if table.Skipped() != 0 {
		t.Errorf("%d skipped, want none", table.Skipped())
	}
}

// TestDescribeBlocked: processes whose files block keep their places, and everybody else is skipped, not waited for.
func TestDescribeBlocked(t *testing.T) {
	table := NewProcessTable()
	for range describeWorkers {
		table.places <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	pids := slices.Repeat([]int{os.Getpid()}, 100)
	for _, p := range table.Describe(ctx, pids) {
		if p.PID != os.Getpid() || p.Comm == "" || p.RSSBytes == nil || p.Cmdline != nil || p.UID != nil {
			t.Fatalf("%+v, want only what cannot block", p)
		}
	}
	if table.Skipped() != 100 {
		t.Errorf("%d skipped, want 100", table.Skipped())
	}
	for range describeWorkers {
		<-table.places
	}
	if p := table.Describe(t.Context(), pids[:1])[0]; p.Cmdline == nil {
		t.Errorf("%+v after the places are free, want a command line", p)
	}
}

func TestCapCmdline(t *testing.T) {
	many := slices.Repeat([]string{"x"}, 1000)
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"none", nil, nil},
		{"few", []string{"a", ""}, []string{"a", ""}},
		{"many", many, append(slices.Repeat([]string{"x"}, cmdlineMaxArgs), "…")},
		{"long", []string{"a", strings.Repeat("é", cmdlineMaxBytes)}, []string{"a", strings.Repeat("é", cmdlineMaxBytes/2-1) + "…"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, capCmdline(tt.args)); diff != "" {
				t.Errorf("capCmdline (-want +got):\n%s", diff)
			}
		})
	}
}
