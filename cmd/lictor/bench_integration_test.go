//go:build integration

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchBinary is the lictor that is measured: the real one, if it was built and shipped, since a test binary is larger.
func benchBinary() string {
	if path := os.Getenv("LICTOR_TEST_BINARY"); path != "" {
		return path
	}
	return installed()
}

// timed runs a command and returns how long it took.
func timed(b *testing.B, name string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.Command(name, args...)
	if name == installed() {
		cmd.Args[0] = realName
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v: %s", name, err, stderr.String())
	}
	return time.Since(start)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// benchDaemon starts a daemon for the time of a benchmark and returns its socket.
func benchDaemon(b *testing.B) (socket string) {
	b.Helper()
	socket = filepath.Join(b.TempDir(), "s")
	cmd := exec.Command(benchBinary(), "watch", "--socket", socket)
	if cmd.Path == installed() {
		cmd.Args[0] = realName
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for range 600 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatal("the daemon does not listen")
	return ""
}

// BenchmarkRunTrue compares `lictor run -q -- /bin/true`, by itself and in the hands of a daemon, with what systemd-run does for
// the same limits, in turn, and with starting nothing but the binary. The first run, which creates the database, is not counted.
func BenchmarkRunTrue(b *testing.B) {
	state := b.TempDir()
	b.Setenv("LICTOR_STATE_DIR", state)
	lictor := benchBinary()
	b.Setenv("LICTOR_HOST", noHost)
	timed(b, lictor, "run", "-q", "--", "/bin/true")
	socket := benchDaemon(b)
	var ours, handed, theirs, start, ratios, handedRatios []time.Duration
	pair := func() {
		a := timed(b, lictor, "run", "-q", "--", "/bin/true")
		b.Setenv("LICTOR_HOST", socket)
		d := timed(b, lictor, "run", "-q", "--", "/bin/true")
		b.Setenv("LICTOR_HOST", noHost)
		s := timed(b, "systemd-run", "--scope", "--quiet", "-p", "MemoryMax=2G", "-p", "RuntimeMaxSec=1800", "/bin/true")
		ours, theirs = append(ours, a), append(theirs, s)
		handed = append(handed, d)
		ratios = append(ratios, time.Duration(float64(a)/float64(s)*1e6))
		handedRatios = append(handedRatios, time.Duration(float64(d)/float64(s)*1e6))
		start = append(start, timed(b, lictor, "version"))
	}
	for b.Loop() {
		for range 30 { // a median of one is none
			pair()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(ours)), "ms/lictor-run")
	b.ReportMetric(ms(median(theirs)), "ms/systemd-run")
	b.ReportMetric(ms(median(start)), "ms/lictor-version")
	b.ReportMetric(float64(median(ratios))/1e6, "ratio")
	b.ReportMetric(ms(median(handed)), "ms/daemon-run")
	b.ReportMetric(float64(median(handedRatios))/1e6, "ratio-daemon")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkIdle reports what a launcher costs while its analysis sleeps: private memory, and wake-ups (voluntary context
// switches of all its threads) and processor time per minute.
func BenchmarkIdle(b *testing.B) {
	b.Setenv("LICTOR_STATE_DIR", b.TempDir())
	timed(b, benchBinary(), "run", "-q", "--", "/bin/true") // creates the database
	cmd, pid := startLauncher(b, "--", "sleep", "600")
	defer endLauncher(cmd)
	second, _ := startLauncher(b, "--", "sleep", "600") // with one alone the pages of the executable are private, too
	defer endLauncher(second)
	time.Sleep(10 * time.Second) // it calms down after a while
	for b.Loop() {
		switches, cpu := contextSwitches(b, pid), cpuTicks(b, pid)
		time.Sleep(30 * time.Second)
		b.ReportMetric(2*float64(contextSwitches(b, pid)-switches), "wakeups/min")
		b.ReportMetric(2*float64(cpuTicks(b, pid)-cpu)*10, "cpu-ms/min")
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(privateMiB(b, pid), "MiB-private")
}

// BenchmarkThrash reports which part of a processor the launcher of a run needs that sits at its memory limit.
func BenchmarkThrash(b *testing.B) {
	b.Setenv("LICTOR_STATE_DIR", b.TempDir())
	file := filepath.Join("/var/tmp", "lictor-bench-data")
	// The pages of the file must not stay in memory in the name of who wrote it.
	script := "dd if=/dev/zero of=" + file + " bs=1M count=96 conv=fsync && echo 1 >/proc/sys/vm/drop_caches"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	defer os.Remove(file)
	// Reading a file that is larger than the limit again and again: page cache is charged and reclaimed all the time.
	cmd, pid := startLauncher(b, "-m", "32M", "--", "sh", "-c", "while :; do cat "+file+" >/dev/null; done")
	defer endLauncher(cmd)
	time.Sleep(5 * time.Second)
	for b.Loop() {
		before, touched := cpuTicks(b, pid), limitTouched()
		start := time.Now()
		time.Sleep(30 * time.Second)
		elapsed := time.Since(start)
		b.ReportMetric(float64(cpuTicks(b, pid)-before)/100/elapsed.Seconds()*100, "%-of-a-core")
		b.ReportMetric(float64(limitTouched()-touched)/elapsed.Seconds(), "max/s")
	}
	b.ReportMetric(0, "ns/op")
}

func startLauncher(b *testing.B, args ...string) (*exec.Cmd, int) {
	b.Helper()
	cmd := exec.Command(benchBinary(), append([]string{"run", "-q"}, args...)...)
	if cmd.Path == installed() {
		cmd.Args[0] = realName
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for len(limitFiles()) == 0 {
		if time.Now().After(deadline) {
			b.Fatal("the run did not start")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return cmd, cmd.Process.Pid
}

func endLauncher(cmd *exec.Cmd) {
	_ = exec.Command("sh", "-c", "echo 1 | tee /sys/fs/cgroup/lictor.slice/lictor-*.slice/cgroup.kill").Run()
	_ = cmd.Wait()
}

func limitFiles() []string {
	list, _ := filepath.Glob("/sys/fs/cgroup/lictor.slice/lictor-*.slice/lictor-*.scope/memory.events")
	return list
}

// limitTouched is the max counter of memory.events of all live runs.
func limitTouched() (n int) {
	for _, file := range limitFiles() {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "max "); ok {
				i, _ := strconv.Atoi(strings.TrimSpace(v))
				n += i
			}
		}
	}
	return n
}

func contextSwitches(b *testing.B, pid int) (n int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				i, _ := strconv.Atoi(strings.TrimSpace(v))
				n += i
			}
		}
	}
	return n
}

// cpuTicks is user and system time of a process in hundredths of a second, proc_pid_stat(5).
func cpuTicks(b testing.TB, pid int) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// privateMiB is what a process alone keeps in memory: Private_Clean and Private_Dirty of smaps_rollup, and the same without
// the clean pages of its executable.
func privateMiB(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	clean, dirty := 0, 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Private_Clean:":
			clean += n
		case "Private_Dirty:":
			dirty += n
		}
	}
	b.ReportMetric(float64(dirty)/1024, "MiB-private-dirty")
	return float64(clean+dirty) / 1024
}
