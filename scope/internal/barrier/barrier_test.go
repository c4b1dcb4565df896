package barrier

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The child in these tests is the test binary, executed again: the barrier is in it as it is in every program that imports
// this package.

// waiting is a child at the barrier.
type waiting struct {
	cmd     *exec.Cmd
	gate    *os.File // the launcher's end
	out     *os.File
	message string // that lets it go
}

// start starts a child that is to become argv, with the given descriptors beside the socket.
func start(t *testing.T, path string, argv []string, more ...*os.File) *waiting {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	w := &waiting{
		gate: os.NewFile(uintptr(fds[0]), "gate"), out: out, message: string(Message(argv, os.Environ())),
		cmd: &exec.Cmd{
			Path: "/proc/self/exe", Args: []string{Argv0, path}, Env: Environment(), Stdout: out, Stderr: out,
			ExtraFiles: append([]*os.File{theirs}, more...),
		},
	}
	t.Cleanup(func() { w.gate.Close(); out.Close() })
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close() // so that its end shows
	var b [1]byte
	if _, err := io.ReadFull(w.gate, b[:]); err != nil || b[0] != Arrived {
		t.Fatalf("it did not arrive: %v, %v", b, err)
	}
	return w
}

// run lets it go.
func (w *waiting) run(t *testing.T) (answer []byte, code int, output string) {
	t.Helper()
	return w.end(t, w.message)
}

// end says what the launcher says (nothing closes the socket) and returns what it hears and how the child ended.
func (w *waiting) end(t *testing.T, say string) (answer []byte, code int, output string) {
	t.Helper()
	if say == "" {
		w.gate.Close()
	} else {
		if _, err := io.WriteString(w.gate, say); err != nil {
			t.Error(err)
		}
		if err := unix.Shutdown(int(w.gate.Fd()), unix.SHUT_WR); err != nil {
			t.Error(err)
		}
		var err error
		if answer, err = io.ReadAll(w.gate); err != nil && !errors.Is(err, syscall.ECONNRESET) { // it did not read all
			t.Error(err)
		}
	}
	if err := w.cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(w.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return answer, w.cmd.ProcessState.ExitCode(), string(text)
}

func TestNothingRunsWithoutTheLauncher(t *testing.T) {
	argv := []string{"echo", "ran"}
	message := string(Message(argv, nil))
	for name, say := range map[string]string{
		"it hangs up":                   "",
		"it says something else":        "X" + message[1:],
		"it says half of it":            message[:len(message)-2],
		"it says nothing to execute":    string(Message(nil, []string{"A=1"})),
		"it counts what it did not say": message[:5] + "\x00\x00\x00\x09" + message[headSize:],
	} {
		t.Run(name, func(t *testing.T) {
			answer, code, output := start(t, "/bin/echo", argv).end(t, say)
			if len(answer) != 0 || code != exitFailed || output != "" {
				t.Errorf("got answer %q, exit status %d, output %q; want none, %d, none", answer, code, output, exitFailed)
			}
		})
	}
}

func TestBecomesTheProgram(t *testing.T) {
	answer, code, output := start(t, "/bin/sh", []string{"-sh", "-c", "echo $0 $$; exit 9"}).run(t)
	if string(answer) != string(rune(Ready)) || code != 9 {
		t.Errorf("got answer %q, exit status %d", answer, code)
	}
	if !strings.HasPrefix(output, "-sh ") {
		t.Errorf("output: got %q", output)
	}
}

func TestKeepsItsProcessID(t *testing.T) {
	w := start(t, "/bin/sh", []string{"sh", "-c", "echo $$"})
	if _, _, output := w.run(t); output != fmt.Sprintln(w.cmd.Process.Pid) {
		t.Errorf("pid: got %q, want %d", output, w.cmd.Process.Pid)
	}
}

func TestArgumentsArriveAsTheyAre(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	tests := map[string][]string{
		"none":         {"printf"},
		"empty ones":   {"", "", "x", ""},
		"strange ones": {"a b", "c\nd", "é\xff", "'", Argv0},
		"long":         {long, long, "end"},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			argv := append([]string{"sh", "-c", `for a in "$@"; do printf '<%s>' "$a"; done`, "sh"}, args...)
			_, _, output := start(t, "/bin/sh", argv).run(t)
			if want := "<" + strings.Join(args, "><") + ">"; output != want {
				t.Errorf("got %d bytes %.80q, want %d bytes %.80q", len(output), output, len(want), want)
			}
		})
	}
}

func TestOnlyThreeDescriptorsStay(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, _, output := start(t, "/bin/ls", []string{"ls", "/proc/self/fd"}, null, null, null, null).run(t)
	if want := "0\n1\n2\n3\n"; output != want { // 3 is the directory itself
		t.Errorf("descriptors: got %q, want %q", output, want)
	}
}

// Where close_range does not exist, each descriptor is marked.
func TestEachDescriptorIsMarked(t *testing.T) {
	null, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(null)
	const high = 500
	if err := unix.Dup3(null, high, 0); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(high)
	closeEach()
	for _, fd := range []int{null, high} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %#x, %v", fd, flags, err)
		}
	}
	for fd := range 3 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			t.Errorf("descriptor %d: flags %#x, %v", fd, flags, err)
		}
	}
}

// The Go runtime raises the soft limit of open files for itself. The program gets what its caller had.
func TestLimitOfOpenFilesIsTheCallers(t *testing.T) {
	argv := []string{"sh", "-c", "ulimit -Sn; ulimit -Hn"}
	want, err := exec.Command("/bin/sh", argv[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, output := start(t, "/bin/sh", argv).run(t); output != string(want) {
		t.Errorf("got %q, want %q", output, want)
	}
}

func TestSignalsAreTheCallers(t *testing.T) {
	argv := []string{"sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"}
	want, err := exec.Command("/bin/sh", argv[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, output := start(t, "/bin/sh", argv).run(t); output != string(want) {
		t.Errorf("got %q, want %q", output, want)
	}
}

func TestErrorOfExecveIsReported(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name, path string
		want       syscall.Errno
	}{
		{"missing", filepath.Join(dir, "missing"), syscall.ENOENT},
		{"not executable", file("plain", "#!/bin/sh\n", 0o644), syscall.EACCES},
		{"directory", dir, syscall.EACCES},
		{"no program", file("garbage", "hello", 0o755), syscall.ENOEXEC},
		{"no interpreter", file("script", "#!"+filepath.Join(dir, "missing")+"\n", 0o755), syscall.ENOENT},
		{"below a file", "/dev/null/x", syscall.ENOTDIR},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, code, output := start(t, tt.path, []string{"x"}).run(t)
			want := []byte{Ready, 0, 0, 0, byte(tt.want)}
			if !slices.Equal(answer, want) || code != exitFailed || output != "" {
				t.Errorf("got answer %v, exit status %d, output %q; want %v (%v)", answer, code, output, want, tt.want)
			}
		})
	}
}

// A program that is called without anything behind the mark is not at the barrier.
func TestOtherProcessesAreLeftAlone(t *testing.T) {
	if path := program(); path != "" {
		t.Errorf("this process: got %q", path)
	}
	long := strings.Repeat("x", 5000)
	for _, argv := range [][]string{
		{Argv0}, {Argv0, ""}, {Argv0, "x", "x"}, {Argv0 + "x", "x"}, {"/" + Argv0, "x"}, {Argv0, long},
	} {
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: argv, Env: []string{"BARRIER_TEST=1"}}
		if out, err := cmd.Output(); string(out) != "alone\n" {
			t.Errorf("%q: got %q, %v", argv, out, err)
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("BARRIER_TEST") != "" {
		fmt.Println("alone")
		return
	}
	os.Exit(m.Run())
}

func FuzzSplit(f *testing.F) {
	f.Add("a", "", "b c")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		want := []string{a, b, c}
		if slices.ContainsFunc(want, func(s string) bool { return strings.ContainsRune(s, 0) }) {
			t.Skip("no process can have such an argument")
		}
		message := Message(want[:1], want[1:])
		if got := split(message[headSize:]); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Program and Go runtime have environments of their own.
func TestEnvironmentIsTheProgramsOwn(t *testing.T) {
	t.Setenv("GOMAXPROCS", "7")
	t.Setenv("GODEBUG", "inittrace=1")
	argv := []string{"sh", "-c", "echo $GOMAXPROCS $GODEBUG $GOGC"}
	if _, _, output := start(t, "/bin/sh", argv).run(t); output != "7 inittrace=1\n" {
		t.Errorf("got %q", output)
	}
}

// The fewer threads wait, the smaller a scope can be; the launcher counts on fewer than 16.
func TestThreadsThatWait(t *testing.T) {
	w := start(t, "/bin/true", []string{"true"})
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d threads", len(threads))
	if len(threads) > 8 {
		t.Errorf("threads: got %d, want at most 8", len(threads))
	}
	w.run(t)
}
