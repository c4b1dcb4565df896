//go:build integration

package watcher

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const blockedHelper = "LICTOR_TEST_BLOCKED"

// TestDescribeBlocking: processes whose command line cannot be read, because one of their threads writes to a page of a
// frozen file system and another one waits to unmap it. Nobody waits for them, what else is known is told, and the
// readers are free again when the processes are.
func TestDescribeBlocking(t *testing.T) {
	if file := os.Getenv(blockedHelper); file != "" {
		blockOwnMemory(file)
	}
	inTestBed(t)
	var pids []int
	var start []io.Writer
	for range describeWorkers + 2 {
		pid, in := startBlocked(t)
		pids, start = append(pids, pid), append(start, in)
	}
	thaw := freeze(t, "/")
	defer thaw()
	for i, in := range start {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		wait(t, "two threads in uninterruptible sleep", func() bool { return threadsInD(pids[i]) >= 2 })
	}

	table := NewProcessTable()
	before := time.Now()
	got := table.Describe(t.Context(), append(pids, os.Getpid()))
	took := time.Since(before)
	thaw()
	t.Logf("%d descriptions in %v, %d skipped", len(got), took, table.Skipped())
	if took > 2*describeAllTime {
		t.Errorf("it took %v, want about %v at most", took, describeAllTime)
	}
	if table.Skipped() < uint64(len(pids)) {
		t.Errorf("%d skipped, want %d", table.Skipped(), len(pids))
	}
	for i, p := range got {
		if p.Comm == "" || p.State == "" || p.PPID == nil || p.RSSBytes == nil || i < len(pids) && p.Cmdline != nil {
			t.Errorf("%+v, want what does not block", p)
		}
	}
	wait(t, "free places", func() bool { return len(table.places) == 0 })
	if p := table.Describe(t.Context(), []int{os.Getpid()})[0]; p.Cmdline == nil {
		t.Errorf("%+v, want ourselves with a command line", p)
	}
}

// inTestBed is for tests that no other machine should suffer.
func inTestBed(t *testing.T) {
	t.Helper()
	if os.Getenv("LICTOR_TESTBED") == "" {
		t.Skip("only in the test bed: make vm-test")
	}
}

func startBlocked(t *testing.T) (pid int, start io.Writer) {
	t.Helper()
	t.Setenv("TMPDIR", "/var/tmp")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDescribeBlocking$")
	// With one processor the second thread would wait for the first, which hangs in a page fault.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=4", blockedHelper+"="+filepath.Join(t.TempDir(), "file"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("helper: %q, %v", line, err)
	}
	return cmd.Process.Pid, in
}

// blockOwnMemory is the helper: it gets stuck once it is told to.
func blockOwnMemory(file string) {
	f, err := os.Create(file)
	if err != nil {
		panic(err)
	}
	if err := f.Truncate(4096); err != nil {
		panic(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	go func() { mem[0] = 1 }()
	time.Sleep(time.Second) // the write must be in the kernel; the unmapping then waits for it and everybody for that
	_ = unix.Munmap(mem)
	time.Sleep(time.Hour)
}

// freeze stops all writing to a file system. The test must not write there before it calls thaw, which may be called
// twice; another process does it if the test cannot.
func freeze(t *testing.T, path string) (thaw func()) {
	t.Helper()
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	net := exec.Command("sh", "-c", `sleep 100; fsfreeze -u "$1"`, "sh", path)
	if err := net.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = net.Process.Kill()
		_ = net.Wait()
	})
	unix.Sync()
	if err := unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0); err != nil {
		t.Fatal(err)
	}
	return func() { _ = unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0) }
}

func threadsInD(pid int) int {
	n := 0
	tasks, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/stat")
		if strings.Contains(string(b), ") D ") {
			n++
		}
	}
	return n
}
