package scope

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/cgroup"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(t.TempDir())
	for name, mode := range map[string]fs.FileMode{"a/tool": 0o755, "b/tool": 0o755, "b/only": 0o755, "c/plain": 0o644, "d/plain": 0o755,
		"here": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "a/directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := func(names ...string) []string {
		for i, n := range names {
			if n != "" && n[0] != '.' {
				names[i] = filepath.Join(dir, n)
			}
		}
		return []string{"PATH=" + strings.Join(names, ":")}
	}
	tests := []struct {
		name, program, dir string
		env                []string
		want               string // relative to dir; "" if it is not found
		code               int
	}{
		{"first in PATH", "tool", "", p("a", "b"), dir + "/a/tool", 0},
		{"second in PATH", "only", "", p("a", "b"), dir + "/b/only", 0},
		{"missing", "nothing", "", p("a", "b"), "", 127},
		{"not executable", "plain", "", p("a", "c"), "", 126},
		{"not executable, then executable", "plain", "", p("c", "d"), dir + "/d/plain", 0},
		{"directory", "directory", "", p("a"), "", 126},
		{"missing directory in PATH", "tool", "", p("missing", "b"), dir + "/b/tool", 0},
		{"file in PATH", "tool", "", p("here", "b"), dir + "/b/tool", 0},
		{"last PATH wins", "tool", "", append(p("a"), p("b")...), dir + "/b/tool", 0},
		{"empty entry", "here", dir, p("a", "", "b"), "./here", 0},
		{"relative entry", "tool", dir, p("./a"), "./a/tool", 0},
		{"relative entry, elsewhere", "tool", "", p("./a"), "", 127},
		{"empty PATH", "tool", dir + "/a", p(), "", 127},
		{"no PATH", "sh", "", []string{}, "/bin/sh", 0},
		{"slash", "a/tool", dir, p(), "a/tool", 0},
		{"slash, elsewhere", "a/tool", "", p("a"), "", 127},
		{"absolute", dir + "/a/tool", "/", p(), dir + "/a/tool", 0},
		{"absolute directory", dir + "/a", "", p(), "", 126},
		{"absolute, not executable", dir + "/c/plain", "", p(), "", 126},
		{"below a file", dir + "/here/x", "", p(), "", 127},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := lookPath(Spec{Args: []string{tt.program}, Dir: tt.dir, Env: tt.env})
			var exec *ExecError
			switch {
			case tt.code == 0 && (err != nil || got != tt.want):
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			case tt.code != 0 && (!errors.As(err, &exec) || exec.Code() != tt.code || exec.Path != tt.program):
				t.Errorf("got %q, %v; want code %d", got, err, tt.code)
			}
		})
	}
}

func TestArgumentsTooLong(t *testing.T) {
	leaveNothing(t)
	spec := Spec{Args: []string{"true", strings.Repeat("x", 1<<17)}}
	c, err := forkChild(spec, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	err = c.open(t.Context(), spec)
	c.discard(t.Context())
	var exec *ExecError
	if !errors.As(err, &exec) || exec.Code() != 126 || !errors.Is(err, syscall.E2BIG) || exec.Path != "/bin/true" {
		t.Errorf("got %v", err)
	}
}

func TestDirectoryThatCannotBeEntered(t *testing.T) {
	leaveNothing(t)
	_, err := forkChild(Spec{Args: []string{"true"}, Dir: "/proc/self/nowhere"}, "/bin/true")
	var spec *SpecError
	if !errors.As(err, &spec) || spec.Field != "directory" {
		t.Errorf("got %v", err)
	}
}

func TestDiscardReaps(t *testing.T) {
	leaveNothing(t)
	c, err := forkChild(Spec{Args: []string{"true"}}, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	c.discard(t.Context())
	if _, err := cgroup.ReadStat(c.cmd.Process.Pid); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestExecErrorAfterTheBarrier(t *testing.T) {
	leaveNothing(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Args: []string{garbage}}
	c, err := forkChild(spec, garbage)
	if err != nil {
		t.Fatal(err)
	}
	defer c.discard(t.Context())
	var exec *ExecError
	if err := c.open(t.Context(), spec); !errors.As(err, &exec) || !errors.Is(err, syscall.ENOEXEC) || exec.Code() != 126 {
		t.Errorf("got %v", err)
	}
}

// The child does not answer: it is stopped, as a hanging file system would keep it.
func TestOpenGivesUp(t *testing.T) {
	leaveNothing(t)
	c, err := forkChild(Spec{Args: []string{"true"}}, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer c.discard(t.Context())
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wantError(t, c.open(ctx, Spec{Args: []string{"true"}}), context.DeadlineExceeded)
}

func TestSameLimit(t *testing.T) {
	page := uint64(os.Getpagesize())
	infinite, err := cgroup.ParseValue("max")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		got  cgroup.Value
		want uint64
		same bool
	}{
		{"equal", cgroup.Number(page * 10), page * 10, true},
		{"rounded down", cgroup.Number(page * 10), page*10 + page - 1, true},
		{"a page less", cgroup.Number(page * 9), page * 10, false},
		{"a page more", cgroup.Number(page * 11), page * 10, false},
		{"max", infinite, NoLimit, true},
		{"max, asked for less", infinite, page, false},
		{"less, asked for none", cgroup.Number(page), NoLimit, false},
		{"unset", cgroup.Value{}, page, false},
		{"unset, asked for none", cgroup.Value{}, NoLimit, false},
		{"zero", cgroup.Number(0), 0, true},
	}
	for _, tt := range tests {
		if got := sameLimit(tt.got, tt.want); got != tt.same {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}
