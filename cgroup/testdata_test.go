package cgroup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scidex/lictor/cgroup"
)

// Testdata holds files of system.slice and of PID 1 as Debian's kernels wrote them: every parser must take its own.
func TestParseWhatKernelsWrite(t *testing.T) {
	kernels, err := filepath.Glob("testdata/linux-*")
	if err != nil || len(kernels) == 0 {
		t.Fatalf("got %q, %v", kernels, err)
	}
	for _, dir := range kernels {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for file, parse := range map[string]string{
				"memory.events":       "ParseMemoryEvents",
				"memory.events.local": "ParseMemoryEvents",
				"memory.stat":         "ParseMemoryStat",
				"memory.pressure":     "ParsePressure",
				"cgroup.events":       "ParseEvents",
				"cpu.stat":            "ParseCPUStat",
				"pids.events":         "ParsePidsEvents",
			} {
				f, err := os.Open(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if err := parsers[parse](f); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			read := func(file string) string {
				t.Helper()
				b, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			if s, err := cgroup.ParseStat([]byte(read("stat"))); s.PID != 1 || s.Comm != "systemd" || s.PPID != 0 || err != nil {
				t.Errorf("stat: %+v, %v", s, err)
			}
			if name, deleted, err := cgroup.ParseProcCgroup([]byte(read("cgroup"))); name != "/init.scope" || deleted || err != nil {
				t.Errorf("cgroup: %q, %t, %v", name, deleted, err)
			}
			if fs, err := cgroup.DetectFrom(strings.NewReader(read("mountinfo"))); fs.Root() != "/sys/fs/cgroup" || err != nil {
				t.Errorf("mountinfo: %q, %v", fs.Root(), err)
			}
		})
	}
}
