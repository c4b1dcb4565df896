//go:build integration

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// script is deploy/install.sh of the checkout.
func (b *bed) script(verb string) string {
	b.Helper()
	cmd := exec.Command("sh", filepath.Join(os.Getenv("LICTOR_REPO"), "deploy/install.sh"), verb)
	cmd.Env = append(os.Environ(), "LICTOR="+installed())
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v: %s", verb, err, out)
	}
	return string(out)
}

// install installs lictor as `make install` does; the test binary is the one installed. The units are those that are
// shipped, but for what the lines in service change, and for CPUQuota: systemd prepares the sandbox on the service's account,
// which takes a second in an emulated guest, and ten if a tenth of a processor is all there is. With the test everything is
// removed again.
func (b *bed) install(service ...string) {
	b.Helper()
	dropIn := fmt.Sprintf("/run/systemd/%s/lictor.service.d/test.conf", b.mode)
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		b.Fatal(err)
	}
	lines := append([]string{"[Service]", "CPUQuota=", "ExecStart=",
		fmt.Sprintf("ExecStart=@/usr/bin/lictor %s --%s watch", realName, b.mode)}, service...)
	if err := os.WriteFile(dropIn, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	if b.mode == ModeSystem {
		_ = os.RemoveAll("/var/lib/lictor") // of a test that was interrupted
		b.store = "/var/lib/lictor"
	}
	b.Cleanup(func() {
		if b.mode == ModeUser {
			b.systemctl("stop", "lictor.service")
		}
		b.script("uninstall")
		_ = os.RemoveAll(filepath.Dir(dropIn))
		b.systemctl("daemon-reload")
		if b.mode == ModeSystem { // what is asserted after every test is asserted of it there
			b.store = filepath.Join(b.dir, "state")
			if err := os.Rename("/var/lib/lictor", b.store); err != nil {
				b.Error(err)
			}
		}
	})
	b.script("install")
	b.systemctl("daemon-reload")
}

// property is a property of the daemon's unit.
func (b *bed) property(name string) string {
	b.Helper()
	return strings.TrimSpace(b.systemctl("show", "-P", name, "lictor.service"))
}

// serve starts the unit; it returns when the daemon is ready.
func (b *bed) serve() {
	b.Helper()
	b.systemctl("start", "lictor.service")
	if b.property("SubState") != "running" {
		b.Fatalf("not running: %s", b.systemctl("status", "--no-pager", "lictor.service"))
	}
}

// TestDeployW13: what is shipped is accepted by systemd without a word, the unit of the daemon is well confined, everybody can
// connect to the socket and nobody can read the records, a configuration that was changed is kept, and neither an upgrade
// nor the removal of everything ends a run or changes its limits.
func TestDeployW13(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.install()
		b.verify()
		b.confined(2.5)
		b.systemctl("start", "lictor.socket")
		b.serve()
		b.permissions("/var/lib/lictor", 0o700)
		b.permissions("/run/lictor", 0o755)
		b.permissions("/run/lictor/api.sock", 0o666)
		kept := b.left("kept", "-m", "64M", "--", "sleep", "600")
		b.systemctl("stop", "lictor.service")
		b.permissions("/run/lictor/api.sock", 0o666)
		b.systemctl("stop", "lictor.socket")
		if _, err := os.Stat("/run/lictor/api.sock"); !errors.Is(err, fs.ErrNotExist) {
			b.Errorf("the socket after its unit was stopped: %v", err)
		}
		b.serve() // without the socket
		b.changeConfig()
		b.systemctl("restart", "lictor.service")
		b.eventually("the new daemon keeps it", func() bool { return strconv.Itoa(b.keeperOf(kept)) == b.property("MainPID") })

		b.script("uninstall")
		if left, _ := filepath.Glob("/usr/lib/systemd/*/lictor*"); len(left) > 0 || b.property("ActiveState") != "inactive" {
			b.Errorf("after its removal: files %v, the daemon %s", left, b.property("ActiveState"))
		}
		limit, err := os.ReadFile(filepath.Join(b.scopeDir(kept), "memory.max"))
		if err != nil || string(limit) != "67108864\n" || len(b.members(kept)) != 1 {
			b.Errorf("a run after the removal of lictor: memory.max %q %v, processes %v", limit, err, b.members(kept))
		}
		b.lictor("stop", string(kept))
		b.lictor("watch", "--once")
		b.wantRun(b.ended(kept), events.StateKilled, events.ReasonStop, "uid 0")
	})
}

// verify has systemd read every unit; it complains about what it does not know.
func (b *bed) verify() {
	b.Helper()
	args := []string{"verify", "--man=no"}
	if b.mode == ModeUser {
		args = append([]string{"--user"}, args...)
	}
	units, _ := filepath.Glob("/usr/lib/systemd/" + string(b.mode) + "/lictor.*")
	if want := map[Mode]int{ModeSystem: 3, ModeUser: 2}[b.mode]; len(units) != want {
		b.Errorf("units %v, want %d", units, want)
	}
	if out, err := b.command("systemd-analyze", append(args, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		b.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// confined compares how exposed systemd thinks the daemon is, from 0 to 10.
func (b *bed) confined(most float64) {
	b.Helper()
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "lictor.service").CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for lictor.service: ([0-9.]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("systemd-analyze security: %v: %s", err, out)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > most {
		b.Errorf("exposure level %s %v, want at most %g: %s", m[1], err, most, out)
	}
	b.Logf("%s", m[0])
}

// permissions compares the permissions of a file, and that it is root's.
func (b *bed) permissions(path string, want fs.FileMode) {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Error(err)
		return
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; info.Mode().Perm() != want || owner != 0 {
		b.Errorf("%s: mode %#o of uid %d, want %#o of root", path, info.Mode().Perm(), owner, want)
	}
}

// changeConfig installs a second time, over a configuration that was changed.
func (b *bed) changeConfig() {
	b.Helper()
	const path, mine = "/etc/lictor/lictor.toml", "grace = 5\n"
	if err := os.WriteFile(path, []byte(mine), 0o644); err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(path))
	out := b.script("install")
	if text, _ := os.ReadFile(path); string(text) != mine {
		b.Errorf("a changed configuration after an upgrade: %q", text)
	}
	for _, want := range []string{path + " was changed and is kept", "systemctl restart lictor"} {
		if !strings.Contains(out, want) {
			b.Errorf("the upgrade said %q, want %q in it", out, want)
		}
	}
}

// awaitBecome is the beginning of a Python program: become makes the process alice's and deaf to SIGTERM, and says so in a
// file.
const awaitBecome = `
import os, pwd, signal, time
def become(path):
	signal.signal(signal.SIGTERM, signal.SIG_IGN)
	done, alice = open(path, "w"), pwd.getpwnam("alice")
	os.setgroups([])
	os.setgid(alice.pw_gid)
	os.setuid(alice.pw_uid)
	print("ready", file=done, flush=True)
def await_file(path):
	while not os.path.exists(path):
		time.sleep(0.05)
`

// TestDeployK1K13K21: under the hardened unit the daemon does all that it is there for. K1: an OOM kill in a run that it took
// over, with the victim's name from the kernel log. K21: a run of processes of another user whose launcher was killed.
// K13: a left-over of another user. The latter two are deaf to SIGTERM.
func TestDeployK1K13K21(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.install()
		b.serve()
		path := func(name string) string { return filepath.Join(b.dir, name) }
		program := func(text string) []string { return []string{"--", "python3", "-c", awaitBecome + text} }
		oom := b.left("oom", append([]string{"-m", "40M"}, program(fmt.Sprintf("await_file(%q)\n", path("go"))+hog(80))...)...)
		leftOver := b.left("left-over", append([]string{"--grace", "1"}, program(fmt.Sprintf(`
if os.fork() == 0:
	os.setsid()
	become(%q)
	time.sleep(600)
await_file(%q)
`, path("left-over"), path("go")))...)...)
		abandoned := b.start(append([]string{"run", "--analysis-id", "abandoned", "--grace", "1"},
			program(fmt.Sprintf("become(%q)\ntime.sleep(600)", path("abandoned")))...)...)
		for _, name := range []string{"left-over", "abandoned"} {
			b.eventually(name+" is alice's", func() bool { text, _ := os.ReadFile(path(name)); return len(text) > 0 })
		}
		b.eventually("the daemon keeps the oom run", func() bool { return strconv.Itoa(b.keeperOf(oom)) == b.property("MainPID") })
		_ = abandoned.Process.Kill()
		b.finishCommand(abandoned)
		if err := os.WriteFile(path("go"), nil, 0o644); err != nil {
			b.Fatal(err)
		}

		run := b.ended(oom)
		b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
		if i := slices.IndexFunc(run.Evidence, func(e events.Evidence) bool { return e.Source == "kernel-log" }); i < 0 || !run.Evidence[i].Read {
			b.Errorf("evidence: %s; want the kernel log read", evidence(run))
		}
		if len(run.Victims) == 0 || run.Victims[0].Comm != "python3" {
			b.Errorf("victims %+v, want python3", run.Victims)
		}
		b.ended(leftOver)
		orphans := b.events(events.RunID(leftOver), events.KindOrphans)
		if len(orphans) != 1 || len(b.members(leftOver)) != 0 {
			b.Errorf("left-overs: events %+v, processes %v", orphans, b.members(leftOver))
		}
		b.eventually("all have ended", func() bool {
			return !slices.ContainsFunc(b.runs(), func(r *events.Run) bool { return !r.State.Final() })
		})
		for _, run := range b.runs() {
			if run.AnalysisID == "abandoned" {
				b.wantRun(run, events.StateKilled, events.ReasonAbandoned, "lictor")
				b.steps(run, "term", "kill", "empty")
			}
			b.inJournal(run)
		}
	})
}

// inJournal waits for the end of a run in the journal, as an entry of the daemon's.
func (b *bed) inJournal(run *events.Run) {
	b.Helper()
	match := []string{"-q", "-o", "cat", "LICTOR_RUN=" + string(run.Run), "LICTOR_KIND=ended", "_SYSTEMD_UNIT=lictor.service"}
	b.eventually("the end of "+run.AnalysisID+" is in the journal", func() bool {
		out, _ := exec.Command("journalctl", match...).Output()
		return len(out) > 0
	})
}

// TestDeployUserK21: the unit of a user's own manager.
func TestDeployUserK21(t *testing.T) {
	t.Run(string(ModeUser), func(t *testing.T) {
		b := newBed(t, ModeUser)
		b.install("Environment=LICTOR_STATE_DIR=" + b.store)
		b.verify()
		b.serve()
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		_ = p.Process.Kill()
		b.finishCommand(p)
		b.wantRun(b.ended(id), events.StateKilled, events.ReasonAbandoned, "lictor")
	})
}

// probeName is the name under which the test binary tries what the daemon needs capabilities for, on the process in its
// argument. Its exit status is the sum of what failed.
const probeName = "lictor-probe"

const (
	cannotSignal = 1 << iota
	cannotReadEnviron
	cannotReadKernelLog
)

func init() {
	if filepath.Base(os.Args[0]) == probeName {
		os.Exit(probeCapabilities(os.Args[1]))
	}
}

func probeCapabilities(pid string) (failed int) {
	n, _ := strconv.Atoi(pid)
	if fd, err := unix.PidfdOpen(n, 0); err != nil || unix.PidfdSendSignal(fd, 0, nil, 0) != nil {
		failed |= cannotSignal
	}
	if text, err := os.ReadFile("/proc/" + pid + "/environ"); err != nil || len(text) == 0 {
		failed |= cannotReadEnviron
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		_, err = unix.Read(fd, make([]byte, 8192))
	}
	if err != nil {
		failed |= cannotReadKernelLog
	}
	return failed
}

// TestDeployCapabilities: of the capabilities in the unit every one is needed, for what its comment says, and they are
// enough.
func TestDeployCapabilities(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.install()
		alice, err := user.Lookup("alice")
		if err != nil {
			b.Fatal(err)
		}
		other := &bed{T: b.T, user: alice, dir: b.dir}
		process := other.command("sleep", "600")
		process.Dir = "/"
		if err := process.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = process.Process.Kill(); _ = process.Wait() }()
		text, err := os.ReadFile("/usr/lib/systemd/system/lictor.service")
		if err != nil {
			b.Fatal(err)
		}
		want := map[string]int{"NOTHING": 0, "CAP_KILL": cannotSignal, "CAP_SYSLOG": cannotReadKernelLog,
			"CAP_SYS_PTRACE": cannotReadEnviron, "CAP_DAC_READ_SEARCH": cannotReadEnviron}
		start := []string{"start"}
		for without := range want {
			path := "/run/systemd/system/probe-" + without + ".service"
			start = append(start, filepath.Base(path))
			probe := fmt.Sprintf(`%s
[Service]
Type=oneshot
RemainAfterExit=yes
SuccessExitStatus=1 2 3 4 5 6 7
Restart=no
WatchdogSec=0
CPUQuota=
ExecStart=
ExecStart=@/usr/bin/lictor %s %d
`, text, probeName, process.Process.Pid)
			if without != "NOTHING" {
				probe += "CapabilityBoundingSet=~" + without + "\n"
			}
			if err := os.WriteFile(path, []byte(probe), 0o644); err != nil {
				b.Fatal(err)
			}
			defer func() { b.systemctl("stop", filepath.Base(path)); _ = os.Remove(path) }()
		}
		b.systemctl("daemon-reload")
		b.systemctl(start...)
		for without, want := range want {
			got := b.systemctl("show", "-p", "ActiveState,ExecMainStatus", "probe-"+without+".service")
			if !strings.Contains(got, "ActiveState=active\n") || !strings.Contains(got, fmt.Sprintf("ExecMainStatus=%d\n", want)) {
				b.Errorf("without %s: %s; want status %d", without, got, want)
			}
		}
	})
}
