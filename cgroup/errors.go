package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrGone says that the cgroup was removed. It does not come back: open the path again if a new one is wanted.
	ErrGone = errors.New("cgroup was removed")

	// ErrNotUnified says that this machine does not have cgroup v2 at /sys/fs/cgroup. The text around it names what is there.
	ErrNotUnified = errors.New("no unified cgroup hierarchy (cgroup v2)")

	// ErrUnsupported says that the cgroup lives but does not offer the file: the kernel is too old, was built or booted
	// without it, or the controller is not enabled for this cgroup. Asking again will not help.
	ErrUnsupported = errors.New("not offered by this kernel or cgroup")

	// ErrNoProcess says that the process that was meant has ended. Another one may have its number.
	ErrNoProcess = errors.New("no such process")

	// ErrHidden says that some processes of the cgroup belong to a pid namespace that is not visible from here. The list
	// that comes with it holds the others and is complete but for the hidden ones.
	ErrHidden = errors.New("processes of another pid namespace")

	// ErrClosed says that [Group.Close] was called before.
	ErrClosed = errors.New("group is closed")
)

// fileError wraps what went wrong with one file of one cgroup.
func fileError(path, file string, err error) error {
	return fmt.Errorf("cgroup %q: %s: %w", path, file, err)
}

// meaning translates an errno to the sentinel that callers branch on; anything else stays what it is.
//
// ENODEV is what kernfs answers for a file whose cgroup was removed while it was open or just being opened.
// EOPNOTSUPP comes from *.pressure without PSI, and from cgroup.procs and cgroup.kill of a threaded cgroup.
func meaning(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return ErrGone
	case errors.Is(err, unix.EOPNOTSUPP):
		return ErrUnsupported
	}
	return err
}
