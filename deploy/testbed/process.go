package main

import "golang.org/x/sys/unix"

// dieWithParent has the kernel end us, and so every guest that is not kept, when make is gone.
func dieWithParent() {
	// It cannot fail with a valid signal, prctl(2).
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGHUP), 0, 0, 0)
}

func pidfdOpen(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

func pidfdKill(fd int) error { return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) }

// pidfdWait returns when the process has ended, whoever its parent is.
func pidfdWait(fd int) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return
		}
	}
}
