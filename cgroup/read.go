package cgroup

import (
	"errors"

	"golang.org/x/sys/unix"
)

// lifeSign is a file that every cgroup has from the first moment to the last: cgroup.procs is also in the root, where
// cgroup.events is not.
const lifeSign = "cgroup.procs"

// open opens a file of the group through the directory. The caller closes the descriptor.
func (g *Group) open(file string, flags int) (int, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.fd < 0 {
		return -1, fileError(g.path, file, ErrClosed)
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(g.fd, file, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	})
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT):
		return -1, fileError(g.path, file, g.absence())
	}
	return -1, fileError(g.path, file, meaning(err))
}

// read returns the contents of a file, in buf if it fits. The files of a cgroup are written in one piece, so a read that
// does not fill the buffer was all of it.
func (g *Group) read(file string, buf []byte) ([]byte, error) {
	fd, err := g.open(file, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for n := 0; ; {
		m, err := readFD(fd, buf[n:])
		if err != nil {
			return nil, fileError(g.path, file, meaning(err))
		}
		n += m
		if m == 0 || n < len(buf) {
			return buf[:n], nil
		}
		buf = append(buf, make([]byte, len(buf))...)
	}
}

// readFD is read(2). No closure here: it would move the callers' buffers to the heap.
func readFD(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// write writes value to a file in one call.
func (g *Group) write(file, value string) error {
	fd, err := g.open(file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if err != nil {
		return fileError(g.path, file, meaning(err))
	}
	return nil
}

// exists looks a file up without opening it: nil, [ErrGone] if it is not there, or why that is not known.
func (g *Group) exists(file string) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.fd < 0 {
		return ErrClosed
	}
	return g.lookup(file)
}

// lookup is exists for callers that hold the lock.
func (g *Group) lookup(file string) error {
	err := unix.Faccessat(g.fd, file, unix.F_OK, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return ErrGone
	}
	return err
}

// absence says why a file is missing: [ErrGone] if the cgroup was removed, else [ErrUnsupported]. The caller holds the lock.
//
// There is no moment at which some files are gone and others not: rmdir(2) locks the directory before the kernel takes the first
// file out, and a lookup in it waits until all are out.
func (g *Group) absence() error {
	if err := g.lookup(lifeSign); err != nil {
		return err
	}
	return ErrUnsupported
}

// ignoringEINTR repeats a call that a signal interrupted (the Go runtime preempts with signals).
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
