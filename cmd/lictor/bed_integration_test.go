//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// realName is the name under which the test binary is lictor itself, with nothing replaced.
const realName = "lictor-real"

func init() {
	if filepath.Base(os.Args[0]) == realName {
		app := newApp()
		app.tune = crashAt(os.Getenv("LICTOR_TEST_CRASH"))
		app.patience = 10 * time.Second
		if len(os.Args) > 1 && os.Args[1] == adoptAllCommand {
			adoptAll(app, os.Args[2:])
			os.Exit(0)
		}
		tellGoroutines()
		stop := profile(os.Getenv("LICTOR_TEST_PROFILE"))
		code := run(app, os.Args[1:])
		stop()
		os.Exit(code)
	}
}

// installed copies the test binary to where every user can execute it, once.
var installed = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("/run", "lictor-test-")
	must(err)
	must(os.Chmod(dir, 0o755))
	path := filepath.Join(dir, realName)
	in, err := os.Open("/proc/self/exe")
	must(err)
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	must(err)
	_, err = io.Copy(out, in)
	must(err)
	must(out.Close())
	return path
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// bed is one test's lictor: a manager, a user, a store of its own, and somebody else's processes that must not be touched.
type bed struct {
	*testing.T
	mode   Mode
	user   *user.User
	dir    string // scratch, owned by the user
	canary *exec.Cmd
	store  string
	host   string   // LICTOR_HOST of its commands
	keeper *process // the daemon that keeps its runs; nil: they are kept by their launchers
}

// eachManager runs a test in the system manager as root and in the user manager as an ordinary user.
func eachManager(t *testing.T, test func(*bed)) {
	t.Helper()
	for _, m := range []Mode{ModeSystem, ModeUser} {
		t.Run(string(m), func(t *testing.T) { test(newBed(t, m)) })
	}
}

// asRoot runs a test in the system manager.
func asRoot(t *testing.T, test func(*bed)) {
	t.Helper()
	t.Run(string(ModeSystem), func(t *testing.T) { test(newBed(t, ModeSystem)) })
}

// eachWay runs a test in both managers, and a third time as an ordinary user whose runs the daemon keeps in the system manager.
func eachWay(t *testing.T, test func(*bed)) {
	t.Helper()
	eachManager(t, test)
	throughDaemon(t, test)
}

// asRootAndDaemon is for tests that need a limit which an ordinary user's manager has not got.
func asRootAndDaemon(t *testing.T, test func(*bed)) {
	t.Helper()
	asRoot(t, test)
	throughDaemon(t, test)
}

// throughDaemon runs a test as an ordinary user whose runs the daemon keeps.
func throughDaemon(t *testing.T, test func(*bed)) {
	t.Helper()
	t.Run("daemon", func(t *testing.T) {
		b := newUserBed(t, ModeSystem, "alice")
		b.host = client.Path
		b.keeper = b.root().daemon()
		b.Cleanup(func() {
			if b.keeper.ProcessState == nil {
				b.root().end(b.keeper, syscall.SIGTERM)
			}
		})
		test(b)
	})
}

// root is the same bed in the hands of root.
func (b *bed) root() *bed {
	b.Helper()
	u, err := user.Lookup("root")
	if err != nil {
		b.Fatal(err)
	}
	root := *b
	root.user, root.host = u, noHost
	return &root
}

func newBed(t *testing.T, m Mode) *bed {
	t.Helper()
	if m == ModeUser {
		return newUserBed(t, m, "alice")
	}
	return newUserBed(t, m, "root")
}

func newUserBed(t *testing.T, m Mode, name string) *bed {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, mode: m, user: u, host: noHost}
	if b.dir, err = os.MkdirTemp("/var/tmp", "lictor-test-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(b.dir, b.uid(), b.gid()); err != nil {
		t.Fatal(err)
	}
	b.store = filepath.Join(b.dir, "state")
	t.Cleanup(b.wantUserManagers)
	b.canary = b.command("sleep", "1000")
	b.canary.Stdout, b.canary.Stderr = nil, nil
	if err := b.canary.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.finish)
	return b
}

// wantUserManagers fails the test if it has lost the manager of a user, says what the journal knows of that, and starts it, so that the
// tests to come do not fail of it too.
func (b *bed) wantUserManagers() {
	b.Helper()
	for _, uid := range []string{"1000", "1001"} {
		if _, err := os.Stat("/run/user/" + uid + "/systemd/private"); err == nil {
			continue
		}
		unit := "user@" + uid + ".service"
		said := func(lines string, of ...string) string { // the kernel says much, which must not hide the rest
			out, _ := exec.Command("journalctl", append([]string{"-b", "-q", "-n", lines, "--no-pager", "-o", "short-monotonic"}, of...)...).Output()
			return string(out)
		}
		b.Errorf("%s is gone:\n%s%s%s", unit, said("3", "_COMM=earlyoom", "+", "_COMM=systemd-oomd"), said("5", "UNIT="+unit),
			said("5", "_TRANSPORT=kernel", "PRIORITY=3"))
		b.must("systemctl", "start", unit)
	}
}

func (b *bed) uid() int { n, _ := strconv.Atoi(b.user.Uid); return n }
func (b *bed) gid() int { n, _ := strconv.Atoi(b.user.Gid); return n }

// command is a command of the user, in an environment like that of a login.
func (b *bed) command(name string, args ...string) *exec.Cmd {
	state := b.store
	if b.host != noHost {
		state = filepath.Join(b.dir, "own") // the store is the daemon's
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + b.user.HomeDir, "LANG=C.UTF-8",
		"LICTOR_STATE_DIR=" + state, "LICTOR_HOST=" + b.host, "XDG_RUNTIME_DIR=/run/user/" + b.user.Uid, "USER=" + b.user.Username}
	if b.uid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(b.uid()), Gid: uint32(b.gid()),
			Groups: b.groups()}}
	}
	return cmd
}

func (b *bed) groups() (list []uint32) {
	ids, err := b.user.GroupIds()
	if err != nil {
		b.Fatal(err)
	}
	for _, id := range ids {
		n, _ := strconv.Atoi(id)
		list = append(list, uint32(n))
	}
	return list
}

// result is how a lictor command ended.
type result struct {
	code           int
	stdout, stderr string
	run            *events.Run // of `run` with --result-file
}

// lictor runs a command of lictor to its end.
func (b *bed) lictor(args ...string) result {
	b.Helper()
	return b.finishCommand(b.start(args...))
}

// process is a lictor command that is under way.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
	file     string // of --result-file
	log      string // of a daemon
}

func (b *bed) start(args ...string) *process {
	b.Helper()
	p := b.prepare(args...)
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	return p
}

func (b *bed) prepare(args ...string) *process {
	p := &process{Cmd: b.command(installed())}
	if args[0] == "run" {
		p.file = filepath.Join(b.dir, "result-"+string(scope.NewRunID()))
		args = append([]string{"run", "--result-file", p.file}, args[1:]...)
	}
	p.Args = append([]string{realName}, args...)
	p.Stdout, p.Stderr = &p.out, &p.err
	p.WaitDelay = time.Second // a left-over process may hold the pipe after a keeper that was killed
	return p
}

func (b *bed) finishCommand(p *process) result {
	b.Helper()
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		b.Fatal(err)
	}
	r := result{code: p.ProcessState.ExitCode(), stdout: p.out.String(), stderr: p.err.String()}
	if text, err := os.ReadFile(p.file); p.file != "" && err == nil {
		r.run = &events.Run{}
		if err := json.Unmarshal(text, r.run); err != nil {
			b.Errorf("result file: %v in %q", err, text)
		}
	}
	return r
}

// python runs a Python program under lictor.
func (b *bed) python(flags []string, program string) result {
	b.Helper()
	return b.lictor(b.pythonArgs(flags, program)...)
}

func (b *bed) pythonArgs(flags []string, program string) []string {
	return append(append([]string{"run"}, flags...), "--", "python3", "-c", program)
}

// want compares the verdict.
func (b *bed) want(r result, code int, state events.State, reason events.Reason, by string) *events.Run {
	b.Helper()
	if r.code != code {
		b.Errorf("exit status %d, want %d; stderr: %s", r.code, code, r.stderr)
	}
	if r.run == nil {
		b.Fatalf("no run record; exit status %d, stderr: %s", r.code, r.stderr)
	}
	b.wantRun(r.run, state, reason, by)
	return r.run
}

func (b *bed) wantRun(run *events.Run, state events.State, reason events.Reason, by string) {
	b.Helper()
	if run.State != state || run.Reason != reason || run.By != by {
		text, _ := json.MarshalIndent(run, "", " ")
		b.Errorf("verdict %s %q by %q, want %s %q by %q: %s\n%s", run.State, run.Reason, run.By, state, reason, by,
			evidence(run), text)
	}
}

// evidence is the evidence of a record in one line.
func evidence(run *events.Run) string {
	var list []string
	for _, e := range run.Evidence {
		list = append(list, e.Source+" "+e.Why+strings.ReplaceAll(string(e.Values), `"`, ""))
	}
	return strings.Join(list, "; ")
}

// open reads the store of the test.
func (b *bed) open() events.Store {
	b.Helper()
	s, err := events.OpenSQLiteReadOnly(filepath.Join(b.store, "lictor.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func (b *bed) runs() []*events.Run {
	b.Helper()
	s := b.open()
	defer s.Close()
	runs, err := s.Runs(context.Background(), events.RunQuery{})
	if err != nil {
		b.Fatal(err)
	}
	return runs
}

func (b *bed) events(run events.RunID, kinds ...events.Kind) []events.Event {
	b.Helper()
	s := b.open()
	defer s.Close()
	list, err := s.Events(context.Background(), events.EventQuery{Run: run, Kinds: kinds})
	if err != nil {
		b.Fatal(err)
	}
	return list
}

// eventually waits for a condition with a generous deadline: emulation is slow.
func (b *bed) eventually(what string, ok func() bool) {
	b.Helper()
	if !b.perhaps(ok) {
		b.Fatalf("not in time: %s", what)
	}
}

// perhaps waits for as long as anything here should take, and reports whether it was enough. It leaves most of the time to what it waits
// for, because a guest can have one processor, but not so much that it could miss what lasts a second.
func (b *bed) perhaps(ok func() bool) bool {
	for deadline := time.Now().Add(90 * time.Second); ; {
		began := time.Now()
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(min(max(20*time.Millisecond, 2*time.Since(began)), 200*time.Millisecond))
	}
}

// live waits until exactly one run of the test is alive and returns its ledger's path below the cgroup root.
func (b *bed) live() scope.RunID {
	b.Helper()
	var id scope.RunID
	b.eventually("a run is alive", func() bool {
		ids := b.ledgers()
		if len(ids) != 1 {
			return false
		}
		id = ids[0]
		return len(b.members(id)) > 0
	})
	return id
}

func (b *bed) fleet() string {
	if b.mode == ModeSystem {
		return "/sys/fs/cgroup/lictor.slice"
	}
	return fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%[1]d.slice/user@%[1]d.service/lictor.slice", b.uid())
}

func (b *bed) ledgers() (ids []scope.RunID) {
	entries, _ := os.ReadDir(b.fleet())
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), "lictor-"); ok && e.IsDir() {
			ids = append(ids, scope.RunID(strings.TrimSuffix(name, ".slice")))
		}
	}
	return ids
}

// scopeDir is the cgroup of a run's scope.
func (b *bed) scopeDir(id scope.RunID) string {
	return filepath.Join(b.fleet(), id.Ledger(), id.Scope())
}

// members are the processes of a run that have passed the barrier.
func (b *bed) members(id scope.RunID) (pids []int) {
	text, _ := os.ReadFile(filepath.Join(b.scopeDir(id), "cgroup.procs"))
	for _, f := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(f)
		if cmdline, err := os.ReadFile("/proc/" + f + "/cmdline"); err == nil && !bytes.HasPrefix(cmdline, []byte("lictor-barrier")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// systemctl runs systemctl in the manager of the test.
func (b *bed) systemctl(args ...string) string {
	b.Helper()
	if b.mode == ModeUser {
		args = append([]string{"--user"}, args...)
	}
	if b.mode == ModeSystem {
		b = b.root()
	}
	cmd := b.command("systemctl", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Logf("systemctl %v: %v: %s", args, err, out)
	}
	return string(out)
}
