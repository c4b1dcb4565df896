//go:build integration

package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// The tests of this file run in a guest and check that it is what the tests of the other packages take it for.

// suite is the suite of the guest we are in.
func suite(t *testing.T) string {
	t.Helper()
	s := os.Getenv("LICTOR_TESTBED")
	if s == "" {
		t.Fatal("LICTOR_TESTBED is not set: this test belongs in a guest, make vm-test PKG=./deploy/testbed")
	}
	return s
}

// run returns what a program prints.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestGuestRunsSystemdAsInit(t *testing.T) {
	if got, want := read(t, "/proc/1/comm"), "systemd"; got != want {
		t.Errorf("PID 1 is %q, want %q", got, want)
	}
	words := strings.Fields(run(t, "systemctl", "--version"))
	major, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatalf("systemctl --version: %q", words)
	}
	want := suites[suite(t)]
	if want != 0 && major != want || major < suites["bookworm"] {
		t.Errorf("systemd is %d, want %d", major, want)
	}
	if got := run(t, "systemctl", "is-system-running"); got != "running" {
		t.Errorf("system is %q, want running; failed: %s", got, run(t, "systemctl", "--failed"))
	}
}

func TestGuestHasCgroup2AtTheUsualPlace(t *testing.T) {
	if got, want := run(t, "stat", "--file-system", "--format=%T", "/sys/fs/cgroup"), "cgroup2fs"; got != want {
		t.Errorf("/sys/fs/cgroup is %q, want %q", got, want)
	}
	controllers := strings.Fields(read(t, "/sys/fs/cgroup/cgroup.controllers"))
	for _, want := range []string{"cpu", "io", "memory", "pids"} {
		if !strings.Contains(" "+strings.Join(controllers, " ")+" ", " "+want+" ") {
			t.Errorf("controller %s is not there, only %v", want, controllers)
		}
	}
	for line := range strings.Lines(read(t, "/proc/self/mounts")) {
		if strings.Contains(line, " cgroup2 ") && strings.Contains(line, "memory_localevents") {
			t.Errorf("memory.events is not hierarchical: %s", line)
		}
	}
}

func TestGuestHasUserManagers(t *testing.T) {
	for user, uid := range map[string]string{"alice": "1000", "bob": "1001"} {
		got := run(t, "runuser", "-u", user, "--", "env", "XDG_RUNTIME_DIR=/run/user/"+uid,
			"systemctl", "--user", "is-system-running")
		if got != "running" {
			t.Errorf("manager of %s is %q, want running", user, got)
		}
		delegated := read(t, "/sys/fs/cgroup/user.slice/user-"+uid+".slice/user@"+uid+".service/cgroup.controllers")
		for _, want := range []string{"memory", "pids"} {
			if !strings.Contains(delegated, want) {
				t.Errorf("manager of %s has %q delegated, want %s too", user, delegated, want)
			}
		}
	}
}

func TestGuestRunsPythonDemos(t *testing.T) {
	const program = `
import ctypes, multiprocessing, os, subprocess, sys
def work(n): return n * n
if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.getpid() == os.getpid()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, range(4))))
    subprocess.run([sys.executable, "-c", ""], check=True)
`
	if got, want := run(t, "python3", "-c", program), "14"; got != want {
		t.Errorf("python3 printed %q, want %q", got, want)
	}
}

func TestGuestHasPressureAndNoSwap(t *testing.T) {
	if got := read(t, "/proc/pressure/memory"); !strings.HasPrefix(got, "some avg10=") {
		t.Errorf("/proc/pressure/memory is %q", got)
	}
	if got := strings.Split(read(t, "/proc/swaps"), "\n"); len(got) != 1 {
		t.Errorf("swap is on: %q", got)
	}
}

func TestGuestKeepsTheWholeJournal(t *testing.T) {
	const lines = 2000
	marker := "testbed-" + strconv.Itoa(os.Getpid())
	run(t, "systemd-run", "--quiet", "--wait", "--unit="+marker, "seq", "--format="+marker+"-%.0f", strconv.Itoa(lines))
	run(t, "journalctl", "--sync")
	got := strings.Count(run(t, "journalctl", "--quiet", "--output=cat", "--unit="+marker, "SYSLOG_IDENTIFIER=seq")+"\n", "\n")
	if got != lines {
		t.Errorf("journal has %d of %d lines", got, lines)
	}
}

func TestGuestHasTheTree(t *testing.T) {
	if _, err := os.Stat(os.Getenv("LICTOR_REPO") + "/deploy/testbed/recipe/packages.txt"); err != nil {
		t.Error(err)
	}
	dir, err := os.Getwd()
	if want := os.Getenv("LICTOR_REPO") + "/deploy/testbed"; err != nil || dir != want {
		t.Errorf("working directory is %q, %v, want %q", dir, err, want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
