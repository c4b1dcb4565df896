//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// TestX4DaemonKeeps: an ordinary user's run is in the system manager, its limits are root's, the daemon keeps it, and its user
// sees and rules it. Another user does neither (X4).
func TestX4DaemonKeeps(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		p := b.start("run", "--analysis-id", "mine", "-m", "64M", "--", "sleep", "600")
		id := b.live()
		if got := b.keeperOf(id); got != b.keeper.Process.Pid {
			b.Errorf("keeper %d, want the daemon, %d", got, b.keeper.Process.Pid)
		}
		limit := filepath.Join(b.scopeDir(id), "memory.max")
		if out, err := b.command("sh", "-c", "echo max > "+limit).CombinedOutput(); err == nil {
			b.Errorf("its user could raise the limit: %s", out)
		}
		for _, args := range [][]string{{"ps"}, {"status", "mine"}, {"show", "mine"}, {"events"}, {"tree", "mine"}} {
			if r := b.lictor(args...); r.code != 0 || !strings.Contains(r.stdout, string(id[:8])) {
				b.Errorf("%v: %+v, want the run in it", args, r)
			}
		}
		bob := newUserBed(b.T, ModeSystem, "bob")
		bob.host = b.host
		for _, args := range [][]string{{"show", string(id)}, {"stop", string(id)}, {"kill", string(id)}, {"set", string(id), "MemoryMax=1G"},
			{"release", string(id)}, {"why", "mine"}} {
			if r := bob.lictor(args...); r.code != 1 || !strings.Contains(r.stderr, "no such run") {
				b.Errorf("another user's %v: %+v, want no such run", args, r)
			}
		}
		if r := bob.lictor("ps", "-a"); strings.Contains(r.stdout, "sleep") {
			b.Errorf("another user sees the run: %s", r.stdout)
		}
		if r := bob.lictor("adopt", strconv.Itoa(b.members(id)[0])); r.code == 0 {
			b.Errorf("another user adopted a process of it: %+v", r)
		}
		if r := b.lictor("set", "mine", "MemoryMax=80M"); r.code != 0 {
			b.Errorf("set: %+v", r)
		}
		if text, _ := os.ReadFile(limit); strings.TrimSpace(string(text)) != strconv.Itoa(80<<20) {
			b.Errorf("memory.max is %q after set", text)
		}
		if r := b.lictor("release", "mine"); r.code != 1 || !strings.Contains(r.stderr, "waits for its end") {
			b.Errorf("release of a run whose launcher waits: %+v", r)
		}
		if r := b.lictor("kill", "-s", "USR1", "mine"); r.code != 0 {
			b.Errorf("kill: %+v", r)
		}
		b.want(b.finishCommand(p), 128+int(syscall.SIGUSR1), events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
		if r := b.lictor("why", "mine"); r.code != 0 || !strings.Contains(r.stdout, "uid "+b.user.Uid) {
			b.Errorf("why: %+v", r)
		}
		if r := b.lictor("kills"); !strings.Contains(r.stdout, string(id[:8])) {
			b.Errorf("kills: %+v", r)
		}
	})
}

// TestDaemonGoneMidRun: the daemon is killed while its runs live and end. The launchers find it again and bring the exit
// statuses; one launcher that was killed meanwhile has its run ended.
func TestDaemonGoneMidRun(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		ends := b.start("run", "--analysis-id", "ends", "--", "sh", "-c", "sleep 4; exit 3")
		lives := b.start("run", "--analysis-id", "lives", "--", "sh", "-c", "while ! test -e go; do sleep 0.2; done; exit 5")
		left := b.start("run", "--analysis-id", "left", "--", "sleep", "600")
		oom := b.start("run", "--analysis-id", "oom", "-m", "40M", "--", "python3", "-c", "import time\ntime.sleep(4)\n"+hog(80))
		b.eventually("all run", func() bool {
			n := 0
			for _, id := range b.ledgers() {
				n += min(1, len(b.members(id)))
			}
			return n == 4
		})
		b.root().end(b.keeper, syscall.SIGKILL)
		_ = left.Process.Kill()
		b.finishCommand(left)
		b.eventually("two have ended", func() bool {
			n := 0
			for _, id := range b.ledgers() {
				n += min(1, len(b.members(id)))
			}
			return n == 2
		})
		b.keeper = b.root().daemon()
		b.want(b.finishCommand(ends), 3, events.StateFailed, events.ReasonNone, "")
		b.want(b.finishCommand(oom), 137, events.StateKilled, events.ReasonOOM, "kernel")
		if err := os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o644); err != nil {
			b.Fatal(err)
		}
		b.want(b.finishCommand(lives), 5, events.StateFailed, events.ReasonNone, "")
		b.eventually("the run without a launcher is ended", b.released)
		for _, run := range b.runs() {
			if run.AnalysisID == "left" {
				b.wantRun(run, events.StateKilled, events.ReasonAbandoned, "lictor")
			}
		}
		b.root().end(b.keeper, syscall.SIGTERM)
	})
}

// TestDaemonAway: the daemon does not come back. The launcher waits a while, then says what it can prove itself.
func TestDaemonAway(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		p := b.start("run", "-m", "40M", "--", "python3", "-c", "import time\ntime.sleep(3)\n"+hog(80))
		b.live()
		b.root().end(b.keeper, syscall.SIGKILL)
		r := b.finishCommand(p)
		b.want(r, 137, events.StateKilled, events.ReasonOOM, "kernel")
		if !strings.Contains(r.stderr, "the daemon is away") {
			b.Errorf("stderr %q, want a word about the daemon", r.stderr)
		}
		b.keeper = b.root().daemon()
		b.eventually("it is recorded and released", b.released)
		b.wantRun(b.record(scope.RunID(r.run.Run)), events.StateKilled, events.ReasonOOM, "kernel")
		b.root().end(b.keeper, syscall.SIGTERM)
	})
}

// TestAdoptThroughDaemon: an ordinary user puts an own process under limits that are root's, and lets it go again.
func TestAdoptThroughDaemon(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		task := b.command("sleep", "600")
		if err := task.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = task.Process.Kill(); _ = task.Wait() }()
		pid := strconv.Itoa(task.Process.Pid)
		if r := b.lictor("adopt", "--analysis-id", "adopted", "-m", "64M", pid); r.code != 0 {
			b.Fatalf("adopt: %+v", r)
		}
		id := b.live()
		b.eventually("the daemon keeps it", func() bool { return b.keeperOf(id) == b.keeper.Process.Pid })
		if r := b.lictor("adopt", strconv.Itoa(b.keeper.Process.Pid)); r.code == 0 {
			b.Errorf("it adopted the daemon: %+v", r)
		}
		if r := b.lictor("release", "adopted"); r.code != 0 {
			b.Errorf("release: %+v", r)
		}
		b.eventually("its ledger is gone", b.released)
		if syscall.Kill(task.Process.Pid, 0) != nil {
			b.Error("the release ended the process")
		}
		run := b.ended(id)
		b.wantRun(run, events.StateEnded, events.ReasonNone, "uid "+b.user.Uid)
		if r := b.lictor("why", "adopted"); !strings.Contains(r.stdout, "was released") {
			b.Errorf("why: %+v", r)
		}
	})
}

// TestX16Strangers: offers that are lies, garbage and floods of connections change nothing.
func TestX16Strangers(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		const liar = `
import json, os, socket, subprocess, sys, time
def ticks(pid): return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19])
def offer(child, **more):
    s = socket.socket(socket.AF_UNIX); s.connect("/run/lictor/api.sock")
    run = {"api": "lictor/v1", "run": "aaaaaaaaaaaa", "command": ["sleep"], "uid": 0, "limits": {"memory_max_bytes": 1 << 30, "memory_swap_max_bytes": 0, "grace_seconds": 10, "oom_policy": "kill"}}
    run.update(more)
    message = {"offer": {"run": run, "child": {"pid": child, "start_ticks": ticks(child)}}}
    s.sendall(b"POST /api/v1/keep HTTP/1.1\r\nHost: x\r\nX-Uid: 0\r\nConnection: Upgrade\r\nUpgrade: lictor-keep/1\r\n\r\n" + json.dumps(message).encode() + b"\n")
    s.settimeout(30)
    data = b""
    while b"\n" not in data.split(b"\r\n\r\n", 1)[-1]:
        more = s.recv(65536)
        if not more: break
        data += more
    return data.decode()
for pid in [1, os.getppid(), os.getpid(), int(sys.argv[1])]:
    print("refused" if '"status":403' in offer(pid) else "TAKEN", pid)
own = subprocess.Popen(["sleep", "60"])
print("refused" if '"status":409' in offer(own.pid, run=sys.argv[2]) else "TAKEN", "run id")
print("refused" if '"status":400' in offer(own.pid, command=[]) else "TAKEN", "no command")
print("refused" if '"status":400' in offer(own.pid, run="../../etc") else "TAKEN", "path")
own.kill()
many = []
for i in range(3000):
    s = socket.socket(socket.AF_UNIX); s.setblocking(False)
    try:
        s.connect("/run/lictor/api.sock"); s.send([b"", b"GET / HTTP/1.1\r\n", b"\xff" * 4096, b"POST /api/v1/keep HTTP/1.1\r\nHost: x\r\nUpgrade: lictor-keep/1\r\n\r\n{{{\n"][i % 4])
    except OSError: pass
    many.append(s)
print("flooded", flush=True)
time.sleep(600)
`
		p := b.start("run", "--analysis-id", "victim", "--", "sleep", "600")
		id := b.live()
		flood := b.command("python3", "-c", "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"+liar, strconv.Itoa(b.keeper.Process.Pid), string(id))
		out, err := flood.StdoutPipe()
		flood.Stderr = os.Stderr
		if err == nil {
			err = flood.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = flood.Process.Kill(); _ = flood.Wait() }()
		said := ""
		for buf := make([]byte, 4096); !strings.Contains(said, "flooded"); {
			n, err := out.Read(buf)
			said += string(buf[:n])
			if err != nil {
				b.Fatalf("the flood ended: %v: %s", err, said)
			}
		}
		if strings.Contains(said, "TAKEN") || strings.Count(said, "refused") != 7 {
			b.Errorf("offers: %s", said)
		}
		bob := newUserBed(b.T, ModeSystem, "bob")
		bob.host = b.host
		begin := time.Now()
		if r := bob.lictor("run", "--", "sh", "-c", "exit 4"); r.code != 4 {
			b.Errorf("a run of another user during the flood: %+v", r)
		}
		b.Logf("a run of another user took %v during the flood", time.Since(begin))
		if n := openFiles(b.T, b.keeper.Process.Pid); n > 1400 {
			b.Errorf("the daemon has %d open files", n)
		}
		_ = flood.Process.Kill()
		if text, err := exec.Command("sh", "-c", fmt.Sprintf("grep VmHWM /proc/%d/status", b.keeper.Process.Pid)).Output(); err == nil {
			b.Logf("the daemon: %s", strings.TrimSpace(string(text)))
		}
		b.lictor("stop", "victim")
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}
