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
	"github.com/scidex/lictor/scope"
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

// noQuota is what a test changes in the units that are shipped: systemd prepares the sandbox on the service's account, which takes a
// second in an emulated guest, and ten seconds if a tenth of a processor is all there is.
const noQuota = "CPUQuota="

// dropIn changes the units: the test binary is the one that is installed, and lines are added to the daemon's [Service].
func (b *bed) dropIn(lines ...string) {
	b.Helper()
	b.dropInOf("lictor.service", append([]string{"ExecStart=", "ExecStart=@/usr/bin/lictor " + realName + " --" + string(b.mode) + " watch"}, lines...)...)
	b.dropInOf("lictor-forward.service", "ExecStart=", "ExecStart=@/usr/bin/lictor "+realName+" --"+string(b.mode)+" db forward --follow", noQuota)
}

func (b *bed) dropInOf(unit string, lines ...string) {
	b.Helper()
	path := fmt.Sprintf("/run/systemd/%s/%s.d/test.conf", b.mode, unit)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(path)) })
	if err := os.WriteFile(path, []byte("[Service]\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		b.Fatal(err)
	}
}

// install installs lictor as `make install` does, and removes it with the test. What is asserted of the records after every
// test is asserted of those that the daemon wrote.
func (b *bed) install() {
	b.Helper()
	const records = "/var/lib/lictor"
	_ = os.RemoveAll(records) // of a test that was interrupted
	own := b.store
	b.store = records
	b.Cleanup(func() {
		b.script("uninstall")
		b.store = own
		if err := os.Rename(records, own); err != nil {
			b.Error(err)
		}
	})
	b.script("install")
}

// section is a part of a test that uses the same bed.
func (b *bed) section(name string, test func(*bed)) {
	b.Helper()
	b.Run(name, func(t *testing.T) {
		c := *b
		c.T = t
		test(&c)
	})
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

// TestDeploy: lictor is installed as it is shipped, does all that it is there for, and is removed.
func TestDeploy(t *testing.T) {
	asRoot(t, func(b *bed) {
		b.dropIn(noQuota, "WatchdogSec=10")
		b.install()
		b.section("units", func(b *bed) { b.verify(); b.confined("lictor.service", 2.5); b.confined("lictor-forward.service", 2.5) })
		b.section("capabilities", (*bed).capabilities)
		b.section("X22", (*bed).sockets)
		b.section("K1K13K21", (*bed).hardened)
		b.section("X17X18X19", (*bed).overTCP)
		b.section("attached", (*bed).attached)
		kept := b.left("kept", "-m", "64M", "--", "sleep", "600")
		b.section("W3", func(b *bed) { b.restarted(kept) })
		b.section("user", func(b *bed) { ofUser(newBed(b.T, ModeUser)) })
		b.section("W13", func(b *bed) { b.upgradedAndRemoved(kept) })
	})
}

// sockets: everybody can connect, nobody can read the records, and the daemon needs no socket.
func (b *bed) sockets() {
	const socket = "/run/lictor/api.sock"
	b.serve()
	b.permissions("/var/lib/lictor", 0o700)
	b.permissions("/run/lictor", 0o755)
	b.permissions(socket, 0o666)
	b.systemctl("stop", "lictor.service")
	b.permissions(socket, 0o666)
	b.systemctl("stop", "lictor.socket")
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		b.Errorf("the socket after its unit was stopped: %v", err)
	}
	b.systemctl("mask", "--runtime", "lictor.socket")
	defer b.systemctl("unmask", "--runtime", "lictor.socket")
	b.serve()
}

// restarted: the daemon is started again when it is killed or stands still, and its stop touches no run.
func (b *bed) restarted(kept scope.RunID) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} { // SIGSTOP: the watchdog ends it
		main := b.property("MainPID")
		pid, err := strconv.Atoi(main)
		if err != nil || syscall.Kill(pid, sig) != nil {
			b.Fatalf("main pid %d: %v", pid, err)
		}
		b.eventually("it was started again", func() bool {
			now := b.property("MainPID")
			return now != main && now != "0" && b.property("SubState") == "running"
		})
		b.keptByService(kept)
	}
	b.systemctl("stop", "lictor.service")
	if len(b.members(kept)) != 1 {
		b.Error("the stop of the daemon ended a run")
	}
	b.serve()
}

// keptByService waits until the daemon keeps a run.
func (b *bed) keptByService(id scope.RunID) {
	b.Helper()
	b.eventually("it keeps the run", func() bool { return strconv.Itoa(b.keeperOf(id)) == b.property("MainPID") })
}

// upgradedAndRemoved: neither an upgrade nor the removal of everything ends a run or changes its limits, and a configuration
// that was changed is kept.
func (b *bed) upgradedAndRemoved(kept scope.RunID) {
	b.changeConfig()
	b.systemctl("restart", "lictor.service")
	b.keptByService(kept)
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
}

// ofUser: the unit of a user's own manager.
func ofUser(b *bed) {
	b.dropIn(noQuota, "Environment=LICTOR_STATE_DIR="+b.store)
	b.systemctl("daemon-reload")
	b.verify()
	b.serve()
	defer b.systemctl("stop", "lictor.service")
	p := b.start("run", "--", "sleep", "600")
	id := b.live()
	_ = p.Process.Kill()
	b.finishCommand(p)
	b.wantRun(b.ended(id), events.StateKilled, events.ReasonAbandoned, "lictor")
}

// verify has systemd read every unit; it complains about what it does not know.
func (b *bed) verify() {
	b.Helper()
	args := []string{"verify", "--man=no"}
	if b.mode == ModeUser {
		args = append([]string{"--user"}, args...)
	}
	units, _ := filepath.Glob("/usr/lib/systemd/" + string(b.mode) + "/lictor*.s*")
	if want := map[Mode]int{ModeSystem: 5, ModeUser: 3}[b.mode]; len(units) != want {
		b.Errorf("units %v, want %d", units, want)
	}
	if out, err := b.command("systemd-analyze", append(args, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		b.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// confined compares how exposed systemd thinks a unit is, from 0 to 10.
func (b *bed) confined(unit string, most float64) {
	b.Helper()
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", unit).CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for ` + unit + `: ([0-9.]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("systemd-analyze security: %v: %s", err, out)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > most {
		b.Errorf("exposure level %s %v, want at most %g: %s", m[1], err, most, out)
	}
	b.Logf("%s", m[0])
}

// wantRead asserts that a source could be consulted about the end of a run.
func (b *bed) wantRead(run *events.Run, source string) {
	b.Helper()
	if i := slices.IndexFunc(run.Evidence, func(e events.Evidence) bool { return e.Source == source }); i < 0 || !run.Evidence[i].Read {
		b.Errorf("evidence: %s; want %s read", evidence(run), source)
	}
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

// hardened: in its sandbox the daemon does all that it is there for. K1: an OOM kill in a run that it took over, with the
// victim's name from the kernel log. K21: a run of processes of another user whose launcher was killed. K13: a left-over of
// another user. The latter two are deaf to SIGTERM.
func (b *bed) hardened() {
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
	shot := b.left("shot", "--", "sleep", "600")
	b.keptByService(oom)
	b.keptByService(shot)
	b.must("kill", "-9", strconv.Itoa(b.members(shot)[0]))
	_ = abandoned.Process.Kill()
	b.finishCommand(abandoned)
	if err := os.WriteFile(path("go"), nil, 0o644); err != nil {
		b.Fatal(err)
	}

	run := b.ended(oom)
	b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
	b.wantRead(run, "kernel-log")
	b.wantRead(b.ended(shot), "journal") // in which another killer might have said that it was the one
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

// capabilities: of those in the unit every one is needed, for what its comment says, and they are enough.
func (b *bed) capabilities() {
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
}
