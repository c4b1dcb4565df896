package cgrouptest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/scidex/lictor/cgroup"
)

// Write replaces the contents of a file in one step; a newline is added where it is missing, and empty stays empty. A watch of
// the directory gets IN_MODIFY, one of the file only if the length stays the same. A file that was not there is made.
func (t *Tree) Write(path, file, content string) {
	t.tb.Helper()
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	name := filepath.Join(t.Dir(path), file)
	if info, err := os.Stat(name); err != nil || info.Size() != int64(len(content)) {
		aside := filepath.Join(t.spare, "file")
		t.must(os.WriteFile(aside, []byte(content), 0o644))
		t.must(os.Rename(aside, name))
	}
	// After a rename these are the same bytes again: readers see no difference, watches of the directory hear of it.
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	t.must(err)
	defer f.Close()
	_, err = f.WriteString(content)
	t.must(err)
}

// Read returns what is in a file: what the code under test wrote to cgroup.kill, for one. White space around it is cut off.
func (t *Tree) Read(path, file string) string {
	t.tb.Helper()
	b, err := os.ReadFile(filepath.Join(t.Dir(path), file))
	t.must(err)
	return strings.TrimSpace(string(b))
}

// Omit removes files from a cgroup, as on a kernel that does not have them.
func (t *Tree) Omit(path string, files ...string) {
	t.tb.Helper()
	for _, file := range files {
		t.must(os.Remove(filepath.Join(t.Dir(path), file)))
	}
}

// WithoutController removes the files of a controller and its name from cgroup.controllers.
func (t *Tree) WithoutController(path, controller string) {
	t.tb.Helper()
	matches, err := filepath.Glob(filepath.Join(t.Dir(path), controller+".*"))
	t.must(err)
	for _, name := range matches {
		// cpu.stat and the pressure files belong to the core.
		if base := filepath.Base(name); base != "cpu.stat" && !strings.HasSuffix(base, ".pressure") {
			t.must(os.Remove(name))
		}
	}
	var left []string
	for name := range strings.FieldsSeq(t.Read(path, "cgroup.controllers")) {
		if name != controller {
			left = append(left, name)
		}
	}
	t.Write(path, "cgroup.controllers", strings.Join(left, " "))
}

// SetEvents writes cgroup.events.
func (t *Tree) SetEvents(path string, e cgroup.Events) {
	t.tb.Helper()
	t.Write(path, "cgroup.events", fmt.Sprintf("populated %d\nfrozen %d\n", bit(e.Populated), bit(e.Frozen)))
}

// SetMemoryEvents writes memory.events. Without e.HasGroupKill it leaves oom_group_kill out, as kernels before 5.17 do: a change
// of length, which a watch of the file does not outlive. A new cgroup has it.
func (t *Tree) SetMemoryEvents(path string, e cgroup.MemoryEvents) {
	t.tb.Helper()
	t.Write(path, "memory.events", memoryEventsText(e))
}

// SetMemoryEventsLocal writes memory.events.local.
func (t *Tree) SetMemoryEventsLocal(path string, e cgroup.MemoryEvents) {
	t.tb.Helper()
	t.Write(path, "memory.events.local", memoryEventsText(e))
}

// SetPidsEvents writes pids.events.
func (t *Tree) SetPidsEvents(path string, n uint64) {
	t.tb.Helper()
	t.Write(path, "pids.events", pidsEventsText(n))
}

// The width is that of the largest number, so that the length never changes.

func memoryEventsText(e cgroup.MemoryEvents) string {
	s := fmt.Sprintf("low %020d\nhigh %020d\nmax %020d\noom %020d\noom_kill %020d\n", e.Low, e.High, e.Max, e.OOM, e.OOMKill)
	if e.HasGroupKill {
		s += fmt.Sprintf("oom_group_kill %020d\n", e.OOMGroupKill)
	}
	return s
}

func pidsEventsText(n uint64) string { return fmt.Sprintf("max %020d\n", n) }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Join puts processes into a cgroup: cgroup.procs, /proc/PID/cgroup of the fake /proc, and populated from there up. A process that
// was in another one leaves it. Pids may be invented; to be signalled a process must be real.
func (t *Tree) Join(path string, pids ...int) {
	t.tb.Helper()
	path = filepath.Join("/", path)
	for _, pid := range pids {
		t.Leave(pid)
		dir := filepath.Join(t.proc, fmt.Sprint(pid))
		t.must(os.Mkdir(dir, 0o755))
		t.must(os.WriteFile(filepath.Join(dir, "cgroup"), fmt.Appendf(nil, "0::%s\n", path), 0o644))
		members := append(strings.Fields(t.Read(path, "cgroup.procs")), fmt.Sprint(pid))
		t.Write(path, "cgroup.procs", strings.Join(members, "\n"))
	}
	t.updatePopulated(path)
}

// Leave takes processes out of whatever cgroup they are in, as exit does. Processes that are in none are ignored.
func (t *Tree) Leave(pids ...int) {
	t.tb.Helper()
	for _, pid := range pids {
		path, err := t.FS().PathOf(pid)
		if errors.Is(err, cgroup.ErrNoProcess) {
			continue
		}
		t.must(err)
		t.must(os.RemoveAll(filepath.Join(t.proc, fmt.Sprint(pid))))
		if _, err := os.Stat(t.Dir(path)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var left []string
		for line := range strings.FieldsSeq(t.Read(path, "cgroup.procs")) {
			if line != fmt.Sprint(pid) {
				left = append(left, line)
			}
		}
		t.Write(path, "cgroup.procs", strings.Join(left, "\n"))
		t.updatePopulated(path)
	}
}

// updatePopulated brings cgroup.events of a cgroup and those above it up to date, and writes only what changes.
func (t *Tree) updatePopulated(path string) {
	t.tb.Helper()
	for ; path != "/" && path != "."; path = filepath.Dir(path) {
		g, err := t.FS().Open(path)
		t.must(err)
		pids, procsErr := g.AllProcs()
		events, eventsErr := g.Events()
		t.must(errors.Join(procsErr, eventsErr, g.Close()))
		if populated := len(pids) > 0; populated != events.Populated {
			events.Populated = populated
			t.SetEvents(path, events)
		}
	}
}
