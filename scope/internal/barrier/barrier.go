// Package barrier is the child's side of the barrier: a process that waits, without running anything of the analysis,
// until its launcher has put it into its scope.
//
// The launcher forks its own executable (/proc/self/exe) with argv[0] set to Argv0, so every program that imports package
// scope has the barrier in it and needs no helper binary. This package imports nothing but syscall: Go initialises packages as
// soon as their imports are, in the order of their paths, so it takes over before os, fmt and the hundred packages of the
// program, and the waiting process is a third of the size.
//
// Descriptor 3 is one end of a socket pair; the launcher holds the other one:
//
//	launcher → child   Go        the scope is verified: execve
//	child → launcher   Ready     the next thing I do is execve
//	child → launcher   errno     execve failed (4 bytes, big endian)
//	end of file        launcher's view: execve succeeded, or the child died
//	end of file        child's view: the launcher died; nothing was started, exit
package barrier

import "syscall"

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
	if args := arguments(); len(args) > 2 {
		wait(args[1], args[2:])
	}
}

// arguments returns the argument vector of a process that is to wait here, else nil. os.Args does not exist yet.
func arguments() []string {
	file, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(file)
	const mark = Argv0 + "\x00"
	text := make([]byte, len(mark), 4096)
	if n := read(file, text); n < len(mark) || string(text) != mark {
		return nil
	}
	for {
		if len(text) == cap(text) {
			text = append(make([]byte, 0, 4*cap(text)), text...)
		}
		n := read(file, text[len(text):cap(text)])
		if n <= 0 {
			return split(text)
		}
		text = text[:len(text)+n]
	}
}

// split cuts /proc/PID/cmdline, in which every argument ends with NUL, proc_pid_cmdline(5).
func split(text []byte) (args []string) {
	start := 0
	for i, c := range text {
		if c == 0 {
			args = append(args, string(text[start:i]))
			start = i + 1
		}
	}
	return args
}

// wait blocks until the launcher says go, then becomes path. It does not return.
func wait(path string, argv []string) {
	var b [1]byte
	if n := read(fd, b[:]); n != 1 || b[0] != Go {
		syscall.Exit(exitFailed)
	}
	closeOnExec()
	b[0] = Ready
	_, _ = syscall.Write(fd, b[:])
	err := syscall.Exec(path, argv, syscall.Environ())
	errno, ok := err.(syscall.Errno) //nolint:errorlint // syscall.Exec returns a plain Errno
	if !ok {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(fd, []byte{byte(errno >> 24), byte(errno >> 16), byte(errno >> 8), byte(errno)})
	syscall.Exit(exitFailed)
}

func read(file int, b []byte) int {
	for {
		n, err := syscall.Read(file, b)
		if err != syscall.EINTR {
			return n
		}
	}
}

// sysCloseRange is close_range(2) (Linux 5.9) and cloexecFlag its CLOSE_RANGE_CLOEXEC (5.11); the number is the same on
// every architecture.
const (
	sysCloseRange = 436
	cloexecFlag   = 1 << 2
	maxFD         = 1<<31 - 1
)

// closeOnExec makes sure that the analysis gets descriptors 0, 1 and 2 and nothing else: not ours, and not what our own
// caller left open.
func closeOnExec() {
	if _, _, errno := syscall.RawSyscall(sysCloseRange, fd, maxFD, cloexecFlag); errno != 0 {
		closeEach()
	}
}

// closeEach does the same on a kernel without close_range.
func closeEach() {
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		syscall.Exit(exitFailed)
	}
	buf := make([]byte, 4096)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil {
			syscall.Exit(exitFailed)
		}
		if n <= 0 {
			return
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if n, ok := number(name); ok && n >= fd {
				syscall.CloseOnExec(n)
			}
		}
	}
}

func number(name string) (n int, ok bool) {
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, name != ""
}
