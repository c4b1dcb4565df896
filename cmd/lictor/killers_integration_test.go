//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
)

// runtimeFile writes a file that configures systemd or one of its services, and takes it away after the test.
func (b *bed) runtimeFile(path, text string) {
	b.Helper()
	b.must("install", "-D", "-m", "644", "/dev/null", path)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.Remove(path) })
}

// oomd starts systemd-oomd, which kills what causes memory pressure in the slice of all runs. It is stopped after the test. Debian has it
// guard whole user managers as well: where a run of one before has left pressure, and no longer lives, it takes the manager itself.
func (b *bed) oomd() {
	b.Helper()
	units := []string{"systemd-oomd.service", "systemd-oomd.socket"}
	b.runtimeFile("/run/systemd/system/user@.service.d/10-oomd-user-service-defaults.conf", "")
	b.must("systemctl", "daemon-reload")
	b.runtimeFile("/etc/systemd/oomd.conf.d/lictor-test.conf", "[OOM]\nDefaultMemoryPressureDurationSec=1s\n")
	b.must("systemctl", append([]string{"unmask", "-q"}, units...)...) // the images mask it
	b.Cleanup(func() {
		b.systemctl("set-property", "--runtime", "lictor.slice", "ManagedOOMMemoryPressure=auto")
		b.must("systemctl", append([]string{"stop"}, units...)...)
		b.must("systemctl", append([]string{"mask", "-q"}, units...)...)
	})
	b.must("systemctl", "start", "systemd-oomd.service")
	b.systemctl("set-property", "--runtime", "lictor.slice", "ManagedOOMMemoryPressure=kill", "ManagedOOMMemoryPressureLimit=1%")
}

// thrashing needs more memory than it may have, for ever. Reading a file makes the kernel reclaim: without swap it does not look
// at other memory, and systemd-oomd kills only where it does.
const thrashing = "import os\nfd = os.open('sparse', os.O_RDWR | os.O_CREAT)\nos.truncate('sparse', 1 << 30)\n" +
	"x = b'x' * (40 << 20)\nwhile True:\n if not os.read(fd, 1 << 20): os.lseek(fd, 0, 0)\n"

// TestK22Oomd: systemd-oomd kills a run. A keeper that lives finds its mark on the cgroup; one that comes later has the journal.
func TestK22Oomd(t *testing.T) {
	// Where nothing was reclaimed in the second in which it looks, systemd-oomd waits for 15 s before it looks again.
	flags := []string{"-m", "1G", "-t", "240", "--memory-high", "30M"}
	t.Run("keeper", func(t *testing.T) {
		b := newBed(t, ModeUser)
		b.oomd()
		run := b.want(b.python(flags, thrashing), 137, events.StateKilled, events.ReasonOomd, "systemd-oomd")
		if proof := evidenceOf(run, "scope"); proof != `{"user.oomd_ooms":true}` {
			b.Errorf("evidence %s, want the mark: %s", proof, evidence(run))
		}
	})
	t.Run("nobody", func(t *testing.T) {
		b := newBed(t, ModeSystem)
		b.oomd()
		id := b.left("thrash", append(flags, "--", "python3", "-c", thrashing)...)
		for patience := 3; patience > 0 && len(b.members(id)) > 0; patience-- {
			b.perhaps(func() bool { return len(b.members(id)) == 0 })
		}
		b.eventually("its end is on record", func() bool {
			b.lictor("watch", "--once")
			return b.record(id).State.Final()
		})
		run := b.record(id)
		b.wantRun(run, events.StateKilled, events.ReasonOomd, "systemd-oomd")
		if proof := evidenceOf(run, "journal"); !strings.Contains(proof, id.Scope()) {
			b.Errorf("evidence %s, want the entry that names the scope", proof)
		}
	})
}

// earlyoom starts it so that it kills when a sixth less of the memory is available than is now. It is stopped after the test.
// By oom_score alone it would take the user managers, which have an oom_score_adj of 100, before a run that has not yet grown.
func (b *bed) earlyoom() {
	b.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	var total, free, available uint64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB\nMemFree: %d kB\nMemAvailable: %d kB", &total, &free, &available); err != nil {
		b.Fatal(err)
	}
	percent := 100*available/total - 15
	b.runtimeFile("/run/systemd/system/earlyoom.service.d/lictor-test.conf",
		fmt.Sprintf("[Service]\nEnvironmentFile=\nEnvironment=\"EARLYOOM_ARGS=-m %d,%d -r 3600 --prefer ^python3 --avoid ^.?(systemd|sd-pam)\"\n",
			percent, percent/2))
	b.must("systemctl", "daemon-reload")
	b.Cleanup(func() { b.must("systemctl", "stop", "earlyoom.service") })
	b.must("systemctl", "start", "earlyoom.service")
}

// growing takes less than half of the memory, slowly enough for a killer that polls.
const growing = "import time\nn, x = int(open('/proc/meminfo').read().split()[1]) >> 10, []\n" +
	"for i in range(n * 45 // 100 // 16):\n x.append(b'x' * (16 << 20))\n time.sleep(.05)\ntime.sleep(600)"

// TestK22Earlyoom: earlyoom kills the biggest process, which is the main process of a run.
func TestK22Earlyoom(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.earlyoom()
		r := b.python([]string{"-m", "infinity", "-t", "30"}, growing)
		run := b.want(r, 143, events.StateKilled, events.ReasonSignal, "earlyoom")
		if proof := evidenceOf(run, "journal"); !strings.Contains(proof, fmt.Sprintf("sending SIGTERM to process %d ", *run.LeaderPID)) {
			b.Errorf("evidence %s, want the line that names it", proof)
		}
		if r := b.lictor("why", string(run.Run)); !strings.Contains(r.stdout, "earlyoom sent it SIGTERM") {
			b.Errorf("why: %+v", r)
		}

		// That it runs is no evidence: the next one is killed by somebody else.
		p := b.start("run", "--", "sleep", "600")
		pid := b.members(b.live())[0]
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		run = b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonSignal, "unknown")
		if proof := evidenceOf(run, "journal"); proof == "" {
			b.Error("the journal was not consulted")
		}
		if out, err := exec.Command("systemctl", "is-active", "earlyoom.service").Output(); err != nil {
			b.Errorf("earlyoom is %s: %v", out, err)
		}
	})
}
