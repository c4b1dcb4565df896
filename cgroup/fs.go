package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// FS is a mounted cgroup2 hierarchy. The zero value is of no use; see [Detect] and [At].
type FS struct {
	root              string
	proc              string
	memoryLocalEvents bool
}

// At returns the hierarchy mounted at root without looking at it: for tests and for mounts in unusual places.
func At(root string) FS {
	return FS{root: filepath.Clean(root), proc: "/proc"}
}

// WithProc returns f with another directory in the place of /proc, from which [FS.PathOf] reads and against which
// [Group.Signal] checks membership. It is for tests.
func (f FS) WithProc(dir string) FS {
	f.proc = dir
	return f
}

// Root is the mount point.
func (f FS) Root() string { return f.root }

// MemoryLocalEvents reports whether the hierarchy is mounted with memory_localevents. Then memory.events counts only what
// happened in the cgroup itself, and an ancestor no longer tells what happened to a removed descendant.
func (f FS) MemoryLocalEvents() bool { return f.memoryLocalEvents }

// Open opens the cgroup at name, a path relative to the mount as /proc/PID/cgroup shows it ("/lictor.slice/…"; the leading
// slash may be left out). It returns [ErrGone] if there is none. The caller closes the group.
func (f FS) Open(name string) (*Group, error) {
	if err := checkPath(name); err != nil {
		return nil, fmt.Errorf("cgroup %q: %w", name, err)
	}
	name = path.Clean("/" + name)
	return openGroup(f, name, atFDCWD, filepath.Join(f.root, name))
}

// PathOf returns the cgroup of a process, relative to the mount, as [FS.Open] takes it. It returns [ErrNoProcess] if there
// is no such process, and [ErrGone] if the process outlived its cgroup (the kernel writes " (deleted)" behind the path of a
// zombie's).
func (f FS) PathOf(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join(f.proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", procError(pid, err)
	}
	name, deleted, err := ParseProcCgroup(b)
	switch {
	case err != nil:
		return "", procError(pid, err)
	case deleted:
		return name, procError(pid, fmt.Errorf("cgroup %q: %w", name, ErrGone))
	}
	return name, nil
}

// Controllers lists the controllers available at the root, in the kernel's order. Whether a cgroup further down has them is
// another question: see [Group.Controllers].
func (f FS) Controllers() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(f.root, "cgroup.controllers"))
	if err != nil {
		return nil, fileError("/", "cgroup.controllers", meaning(err))
	}
	return strings.Fields(string(b)), nil
}

// deletedSuffix follows the path of a cgroup that was removed while a zombie still belonged to it.
const deletedSuffix = " (deleted)"

// ParseProcCgroup reads the unified line of /proc/PID/cgroup:
//
//	1:name=systemd:/init.scope
//	0::/lictor.slice/lictor-7f3k9q2a.slice/lictor-7f3k9q2a.scope
//
// Lines of v1 hierarchies are skipped. A file without the line is an error.
func ParseProcCgroup(b []byte) (name string, deleted bool, err error) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("0::"))
		if !ok {
			continue
		}
		if len(rest) == 0 || rest[0] != '/' {
			return "", false, malformed(line)
		}
		name, deleted = strings.CutSuffix(string(rest), deletedSuffix)
		return name, deleted, nil
	}
	return "", false, errors.New(`no line starts with "0::"`)
}

// checkPath refuses what could lead out of the hierarchy.
func checkPath(name string) error {
	if strings.ContainsRune(name, 0) {
		return errors.New("path holds a NUL")
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return errors.New(`path holds ".."`)
		}
	}
	return nil
}
