package cgroup

import (
	"golang.org/x/sys/unix"
)

// Pin keeps files of the group in the kernel's memory until Close, so that an inotify watch of the directory hears of their
// changes.
//
// It is needed because a change that comes from the kernel itself (memory.events, cgroup.events) is reported only if the inode of the
// file happens to be cached (kernfs_notify_workfn, "if (!inode) continue"). Nobody has looked at the files of a new
// cgroup, and under memory pressure, which is when it matters, the cache is what goes first: the watch is then silent and
// nothing says so. Seen on Linux 6.1 and 6.12. A watch of the file itself pins it, too; this costs a descriptor for each
// file.
//
// A file that the cgroup does not have is [ErrUnsupported]; the ones before it stay pinned. Pinning twice is harmless and costs
// another descriptor.
func (g *Group) Pin(files ...string) error {
	for _, file := range files {
		fd, err := g.open(file, unix.O_PATH)
		if err != nil {
			return err
		}
		if err := g.keep(file, fd); err != nil {
			return err
		}
	}
	return nil
}

// keep takes a descriptor over until Close.
func (g *Group) keep(file string, fd int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd < 0 {
		unix.Close(fd)
		return fileError(g.path, file, ErrClosed)
	}
	g.pins = append(g.pins, fd)
	return nil
}
