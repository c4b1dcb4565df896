// Package barrier is the child's side of the barrier: a process that waits, without running anything of the analysis,
// until its launcher has put it into its scope.
//
// The launcher forks its own executable (/proc/self/exe) with argv[0] set to Argv0, so every program that imports package
// scope has the barrier in it and needs no helper binary. This package imports next to nothing, so that Go initialises it
// early and the waiting process never runs the initialisers of the rest of the program.
//
// Descriptor 3 is one end of a socket pair; the launcher holds the other one:
//
//	launcher → child   Go        the scope is verified: execve
//	child → launcher   Ready     the next thing I do is execve
//	child → launcher   errno     execve failed (4 bytes, big endian)
//	end of file        launcher's view: execve succeeded, or the child died
//	end of file        child's view: the launcher died; nothing was started, exit
package barrier

import (
	"encoding/binary"
	"os"
	"syscall"
)

// Argv0 marks a process as waiting at the barrier. What follows in argv is the resolved path of the program and its
// whole argument vector.
const Argv0 = "lictor-barrier"

// The bytes of the protocol.
const (
	Go    = 'G'
	Ready = 'R'
)

// fd is where the launcher's socket is: the first of os/exec's ExtraFiles.
const fd = 3

const exitFailed = 125

func init() {
	if len(os.Args) > 2 && os.Args[0] == Argv0 {
		wait(os.Args[1], os.Args[2:])
	}
}

// wait blocks until the launcher says go, then becomes path. It does not return.
func wait(path string, argv []string) {
	var b [1]byte
	if n := read(b[:]); n != 1 || b[0] != Go {
		os.Exit(exitFailed)
	}
	closeOnExec()
	b[0] = Ready
	_, _ = syscall.Write(fd, b[:])
	// syscall.Exec puts back the soft RLIMIT_NOFILE that the Go runtime raised at start.
	err := syscall.Exec(path, argv, os.Environ())
	errno, ok := err.(syscall.Errno) //nolint:errorlint // syscall.Exec returns a plain Errno
	if !ok {
		errno = syscall.EINVAL
	}
	var e [4]byte
	binary.BigEndian.PutUint32(e[:], uint32(errno))
	_, _ = syscall.Write(fd, e[:])
	os.Exit(exitFailed)
}

func read(b []byte) int {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR { //nolint:errorlint // a plain Errno
			return n
		}
	}
}

// sysCloseRange is close_range(2) (Linux 5.9) and cloexecFlag its CLOSE_RANGE_CLOEXEC (5.11); the number is the same on
// every architecture.
const (
	sysCloseRange = 436
	cloexecFlag   = 1 << 2
)

// closeOnExec makes sure that the analysis gets descriptors 0, 1 and 2 and nothing else: not ours, and not what our own
// caller left open.
func closeOnExec() {
	_, _, errno := syscall.RawSyscall(sysCloseRange, fd, ^uintptr(0)>>1&0x7fffffff, cloexecFlag)
	if errno == 0 {
		return
	}
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		os.Exit(exitFailed)
	}
	for _, e := range dir {
		n := 0
		for _, c := range e.Name() {
			n = n*10 + int(c-'0')
		}
		if n >= fd {
			syscall.CloseOnExec(n)
		}
	}
}
