package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const atFDCWD = unix.AT_FDCWD

// Group is one cgroup, held by an open directory. Its methods may be called from several goroutines; after [Group.Close]
// they return [ErrClosed].
type Group struct {
	fs   FS
	path string
	id   uint64

	mu sync.RWMutex // held for reading while fd is in use, so that Close cannot hand the number to somebody else
	fd int          // -1 once closed
}

func openGroup(fs FS, name string, dirfd int, file string) (*Group, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(dirfd, file, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		err = ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup %q: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cgroup %q: %w", name, err)
	}
	return &Group{fs: fs, path: name, id: st.Ino, fd: fd}, nil
}

// Path is the path relative to the mount under which the group was opened, with a leading slash. A group of the same path
// may be another one: compare [Group.ID].
func (g *Group) Path() string { return g.path }

// ID is the cgroup id: the inode number of the directory, never given out twice while the machine runs.
func (g *Group) ID() uint64 { return g.id }

// FD is the directory's descriptor, for calls that are not made here: clone3 into the cgroup, or inotify by way of
// /proc/self/fd/FD/memory.events. It belongs to the group and is valid until Close; -1 after that.
//
// Watch files, not the directory: the kernel reports a change of its own making only while the file's inode is cached
// (kernfs_notify_workfn), which a watch of the file ensures and one of the directory does not.
func (g *Group) FD() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.fd
}

// Close gives the descriptor back. Closing twice is harmless.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd < 0 {
		return nil
	}
	err := unix.Close(g.fd)
	g.fd = -1
	return err
}

// Gone reports whether the cgroup was removed. A group that cannot be looked at, or was closed, is not reported gone.
func (g *Group) Gone() bool {
	return errors.Is(g.exists(lifeSign), ErrGone)
}

// Child opens the cgroup of that name inside g. It returns [ErrGone] if there is none.
func (g *Group) Child(name string) (*Group, error) {
	full := path.Join(g.path, name)
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("cgroup %q: not the name of a child", name)
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.fd < 0 {
		return nil, fmt.Errorf("cgroup %q: %w", full, ErrClosed)
	}
	return openGroup(g.fs, full, g.fd, name)
}

// Children lists the names of the cgroups directly inside g, sorted. It returns [ErrGone] rather than an empty list for a
// group that was removed.
func (g *Group) Children() ([]string, error) {
	fd, err := g.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), g.path)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	// Listing a removed directory fails with ENOENT or yields nothing without an error.
	if goneErr := g.exists(lifeSign); goneErr != nil {
		err = goneErr
	}
	if err != nil {
		return nil, fileError(g.path, "children", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Controllers lists the controllers that are enabled for g (cgroup.controllers), in the kernel's order.
func (g *Group) Controllers() ([]string, error) {
	var buf [256]byte
	b, err := g.read("cgroup.controllers", buf[:])
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b)), nil
}

// ModTime is the modification time of the directory: for a cgroup whose children never changed, when it was made.
func (g *Group) ModTime() (time.Time, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.fd < 0 {
		return time.Time{}, fileError(g.path, "stat", ErrClosed)
	}
	var st unix.Stat_t
	if err := unix.Fstat(g.fd, &st); err != nil {
		return time.Time{}, fileError(g.path, "stat", meaning(err))
	}
	return time.Unix(st.Mtim.Unix()), nil
}
