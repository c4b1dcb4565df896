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
//	child → launcher   Arrived   I wait, and start no thread any more
//	launcher → child   Message   the scope is verified: execve this
//	child → launcher   Ready     the next thing I do is execve
//	child → launcher   errno     execve failed (4 bytes, big endian)
//	end of file        launcher's view: execve succeeded, or the child died
//	end of file        child's view: the launcher died; nothing was started, exit
//
// Arguments and environment of the program come over the socket, so that they are no business of the Go runtime that waits:
// GOMEMLIMIT or GODEBUG are meant for the program.
package barrier

import "syscall"

// Argv0 marks a process as waiting at the barrier. What follows in argv is the resolved path of the program, and nothing
// else.
const Argv0 = "lictor-barrier"

// Environment is what the waiting process itself runs with: as few threads as Go can do with, since the scope may have
// room for few.
func Environment() []string { return []string{"GOMAXPROCS=1", "GOGC=off"} }

// The bytes of the protocol.
const (
	Arrived = 'A'
	goAhead = 'G'
	Ready   = 'R'
)

// fd is where the launcher's socket is: the first of os/exec's ExtraFiles.
const fd = 3

const exitFailed = 125

func init() {
	if path := program(); path != "" {
		wait(path)
	}
}

// program returns the path of a process that is to wait here, else nothing. os.Args does not exist yet.
func program() string {
	file, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(file)
	const mark = Argv0 + "\x00"
	text := make([]byte, len(mark)+4096+1) // PATH_MAX and the NUL of another argument
	n := 0
	for n < len(text) {
		m := read(file, text[n:])
		if m <= 0 {
			break
		}
		if n += m; n >= len(mark) && string(text[:len(mark)]) != mark {
			return ""
		}
	}
	if args := split(text[:n]); len(args) == 2 && args[0] == Argv0 {
		return args[1]
	}
	return ""
}

// Message tells the child what to execute: goAhead, the length of what follows and the number of arguments (4 bytes each,
// big endian), then the arguments and the environment, a NUL after each string. None of them may contain one.
func Message(argv, env []string) []byte {
	size := 0
	for _, list := range [][]string{argv, env} {
		for _, s := range list {
			size += len(s) + 1
		}
	}
	b := append(make([]byte, 0, headSize+size), goAhead)
	b = appendUint32(appendUint32(b, uint32(size)), uint32(len(argv)))
	for _, list := range [][]string{argv, env} {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
	}
	return b
}

const headSize = 1 + 4 + 4

// receive reads a Message.
func receive() (argv, env []string, ok bool) {
	head := make([]byte, headSize)
	if !readAll(fd, head) || head[0] != goAhead {
		return nil, nil, false
	}
	block := make([]byte, getUint32(head[1:]))
	if !readAll(fd, block) {
		return nil, nil, false
	}
	all, n := split(block), int(getUint32(head[5:]))
	if n == 0 || n > len(all) {
		return nil, nil, false
	}
	return all[:n], all[n:], true
}

func appendUint32(b []byte, n uint32) []byte {
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func getUint32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// split cuts a block of strings that end with NUL each.
func split(block []byte) (all []string) {
	start := 0
	for i, c := range block {
		if c == 0 {
			all = append(all, string(block[start:i]))
			start = i + 1
		}
	}
	return all
}

// wait blocks until the launcher says go, then becomes path. It does not return.
func wait(path string) {
	_, _ = syscall.Write(fd, []byte{Arrived})
	argv, env, ok := receive()
	if !ok {
		syscall.Exit(exitFailed)
	}
	closeOnExec()
	_, _ = syscall.Write(fd, []byte{Ready})
	err := syscall.Exec(path, argv, env)
	errno, ok := err.(syscall.Errno) //nolint:errorlint // syscall.Exec returns a plain Errno
	if !ok {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(fd, appendUint32(nil, uint32(errno)))
	syscall.Exit(exitFailed)
}

func readAll(file int, b []byte) bool {
	for len(b) > 0 {
		n := read(file, b)
		if n <= 0 {
			return false
		}
		b = b[n:]
	}
	return true
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
