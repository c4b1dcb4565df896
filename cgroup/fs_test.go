package cgroup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

const (
	systemdMount = `24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	localEventsMount = `30 24 0:26 / /sys/fs/cgroup rw shared:9 master:1 - cgroup2 cgroup2 rw,memory_localevents
`
	hybridMount = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	legacyMount = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
`
	coveredMount = systemdMount + `50 30 0:44 / /sys/fs/cgroup rw - tmpfs tmpfs rw
`
	uncoveredMount = hybridMount + `60 31 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
`
	emptySourceMount = `30 24 0:26 / /sys/fs/cgroup rw - cgroup2  rw,nsdelegate
`
)

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		name, mountinfo string
		want            string // in the error; empty: found
		localEvents     bool
	}{
		{name: "systemd", mountinfo: systemdMount},
		{name: "memory_localevents", mountinfo: localEventsMount, localEvents: true},
		{name: "mounted over", mountinfo: uncoveredMount},
		{name: "no source", mountinfo: emptySourceMount},
		{name: "hybrid", mountinfo: hybridMount, want: "is tmpfs, cgroup v1 is mounted at /sys/fs/cgroup/memory, cgroup v2 only at /sys/fs/cgroup/unified"},
		{name: "v1", mountinfo: legacyMount, want: "is tmpfs, cgroup v1 is mounted at /sys/fs/cgroup/memory:"},
		{name: "covered", mountinfo: coveredMount, want: "/sys/fs/cgroup is tmpfs"},
		{name: "nothing", mountinfo: "", want: "/sys/fs/cgroup is not a mount point"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := cgroup.DetectFrom(strings.NewReader(tt.mountinfo))
			if tt.want == "" {
				if err != nil || f.Root() != "/sys/fs/cgroup" || f.MemoryLocalEvents() != tt.localEvents {
					t.Fatalf("got %q, local events %t, %v", f.Root(), f.MemoryLocalEvents(), err)
				}
				return
			}
			if !errors.Is(err, cgroup.ErrNotUnified) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrNotUnified with %q", err, tt.want)
			}
		})
	}
}

func TestDetectMalformed(t *testing.T) {
	for _, line := range []string{"x\n", "30 24 0:26 / /sys/fs/cgroup rw shared:9\n", "30 24 - cgroup2 cgroup2 rw\n", "a b c d e f - \n"} {
		_, err := cgroup.DetectFrom(strings.NewReader(line))
		if err == nil || errors.Is(err, cgroup.ErrNotUnified) {
			t.Errorf("%q: got %v, want an error about the line", line, err)
		}
	}
}

func FuzzDetect(f *testing.F) {
	for _, s := range []string{systemdMount, hybridMount, coveredMount, emptySourceMount} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fs, err := cgroup.DetectFrom(strings.NewReader(s))
		if err == nil && !strings.Contains(s, "cgroup2") {
			t.Errorf("found %q in %q", fs.Root(), s)
		}
	})
}

func TestOpenRejects(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/a")
	for _, path := range []string{"/..", "/a/../../etc", "..", "/a\x00b", "/a/.."} {
		g, err := tree.FS().Open(path)
		if err == nil || errors.Is(err, cgroup.ErrGone) {
			t.Errorf("Open(%q) = %v, %v; want a refusal", path, g, err)
		}
	}
}

func TestOpenGone(t *testing.T) {
	tree := cgrouptest.New(t)
	if _, err := tree.FS().Open("/none"); !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestOpenNormalises(t *testing.T) {
	tree := cgrouptest.New(t)
	tree.Make("/lictor.slice/x.scope")
	for path, want := range map[string]string{
		"lictor.slice/x.scope":    "/lictor.slice/x.scope",
		"/lictor.slice//x.scope/": "/lictor.slice/x.scope",
		"":                        "/",
		"/":                       "/",
	} {
		g, err := tree.FS().Open(path)
		if err != nil {
			t.Errorf("Open(%q): %v", path, err)
			continue
		}
		defer g.Close()
		if g.Path() != want {
			t.Errorf("Open(%q).Path() = %q, want %q", path, g.Path(), want)
		}
	}
}

// A cgroup file system has no symbolic links; what looks like one is a mistake or an attack.
func TestOpenRefusesSymlink(t *testing.T) {
	tree := cgrouptest.New(t)
	if err := os.Symlink("/", tree.Dir("/link")); err != nil {
		t.Fatal(err)
	}
	if g, err := tree.FS().Open("/link"); err == nil {
		g.Close()
		t.Error("Open followed a symbolic link")
	}
}

func TestPathOf(t *testing.T) {
	tree := cgrouptest.New(t)
	proc := t.TempDir()
	fs := tree.FS().WithProc(proc)
	write := func(content string) {
		t.Helper()
		os.MkdirAll(filepath.Join(proc, "42"), 0o755)
		if err := os.WriteFile(filepath.Join(proc, "42", "cgroup"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("0::/lictor.slice/a.scope\n")
	if got, err := fs.PathOf(42); got != "/lictor.slice/a.scope" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	write("0::/a.scope (deleted)\n")
	if got, err := fs.PathOf(42); got != "/a.scope" || !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("got %q, %v; want ErrGone", got, err)
	}
	write("1:name=systemd:/x\n")
	if _, err := fs.PathOf(42); err == nil {
		t.Error("no error without a unified line")
	}
	if _, err := fs.PathOf(43); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("got %v, want ErrNoProcess", err)
	}
}

func TestParseProcCgroup(t *testing.T) {
	for _, tt := range []struct {
		in, name string
		deleted  bool
		fails    bool
	}{
		{in: "0::/\n", name: "/"},
		{in: "0::/a b\n", name: "/a b"},
		{in: "12:pids:/v1\n1:name=systemd:/init.scope\n0::/v2\n", name: "/v2"},
		{in: "0::/a (deleted)\n", name: "/a", deleted: true},
		{in: "0::/../../x\n", name: "/../../x"}, // outside our cgroup namespace
		{in: "0::/no newline", name: "/no newline"},
		{in: "0::\n", fails: true},
		{in: "0::x\n", fails: true},
		{in: "", fails: true},
	} {
		name, deleted, err := cgroup.ParseProcCgroup([]byte(tt.in))
		if name != tt.name || deleted != tt.deleted || (err != nil) != tt.fails {
			t.Errorf("%q: got %q, %t, %v", tt.in, name, deleted, err)
		}
	}
}

func FuzzParseProcCgroup(f *testing.F) {
	f.Add([]byte("0::/a (deleted)\n"))
	f.Add([]byte("1:cpu,cpuacct:/x\n0::/user.slice/user-0.slice\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, _, err := cgroup.ParseProcCgroup(b)
		if err == nil && !strings.HasPrefix(name, "/") && name != "" {
			t.Errorf("%q: got %q", b, name)
		}
	})
}

func TestControllers(t *testing.T) {
	tree := cgrouptest.New(t)
	got, err := tree.FS().Controllers()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := cgroup.At(t.TempDir()).Controllers(); err == nil {
		t.Error("no error for a directory that is no hierarchy")
	}
}
