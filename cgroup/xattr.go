package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes of a cgroup live in the kernel and as long as the cgroup. The "user." name space works since Linux 5.7, for
// the owner of the directory; one attribute holds up to 64 KiB, all of a cgroup's 128 KiB and 128 names.

// SetXattr sets an attribute, for example "user.lictor.run". On kernels before 5.7 it is [ErrUnsupported].
func (g *Group) SetXattr(name, value string) error {
	return g.xattr(name, func(fd int) error { return unix.Fsetxattr(fd, name, []byte(value), 0) })
}

// RemoveXattr removes an attribute. One that is not there is no error.
func (g *Group) RemoveXattr(name string) error {
	err := g.xattr(name, func(fd int) error { return unix.Fremovexattr(fd, name) })
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// Xattr returns the value of an attribute, and false if it is not set.
func (g *Group) Xattr(name string) (value string, ok bool, err error) {
	err = g.xattr(name, func(fd int) error {
		value, err = getXattr(fd, name)
		return err
	})
	if errors.Is(err, unix.ENODATA) {
		return "", false, nil
	}
	return value, err == nil, err
}

// LastXattr is Xattr also for a cgroup that has been removed since it was opened: what was written on it last.
func (g *Group) LastXattr(name string) (value string, ok bool, err error) {
	value, ok, err = g.Xattr(name)
	if errors.Is(err, ErrGone) && value != "" {
		return value, true, nil
	}
	return value, ok, err
}

// Xattrs returns all attributes whose names start with prefix ("user.lictor."), by full name.
func (g *Group) Xattrs(prefix string) (map[string]string, error) {
	found := make(map[string]string)
	err := g.xattr(prefix, func(fd int) error {
		names, err := growing(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(string(bytes.TrimSuffix(names, []byte{0})), "\x00") {
			if name == "" || !strings.HasPrefix(name, prefix) {
				continue
			}
			value, err := getXattr(fd, name)
			if errors.Is(err, unix.ENODATA) { // removed since the listing
				continue
			}
			if err != nil {
				return err
			}
			found[name] = value
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// xattr makes a call on the directory, and then looks whether the cgroup is still there: the kernel lets attributes of a
// removed cgroup be read and written as long as somebody has it open.
func (g *Group) xattr(name string, call func(fd int) error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	err := ErrClosed
	if g.fd >= 0 {
		err = call(g.fd)
		if gone := g.lookup(lifeSign); errors.Is(gone, ErrGone) {
			err = ErrGone
		}
	}
	if err != nil {
		return fmt.Errorf("cgroup %q: attribute %q: %w", g.path, name, meaning(err))
	}
	return nil
}

func getXattr(fd int, name string) (string, error) {
	b, err := growing(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
	return string(b), err
}

// growing calls with a larger buffer until the answer fits; the kernel's limit is 64 KiB for a value and for a list.
func growing(call func(buf []byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := call(buf)
		if errors.Is(err, unix.ERANGE) && size < 1<<16 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
