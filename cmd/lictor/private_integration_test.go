//go:build integration

package main

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// TestX22: what lictor keeps of one user, and of all, is nothing that another user can read or change: databases, their WAL, locks, tokens,
// the directory of the socket, and what the daemon has open. Whoever starts lictor with no umask at all changes nothing about that.
func TestX22(t *testing.T) {
	asRoot(t, func(b *bed) {
		defer syscall.Umask(syscall.Umask(0))
		b.dropIn(noQuota)
		b.install()
		b.systemctl("start", "lictor-http.socket") // or there are no tokens
		defer b.systemctl("stop", "lictor-http.socket")
		b.serve()
		bob := newUserBed(b.T, ModeSystem, "bob")

		own := newUserBed(b.T, ModeUser, "alice") // keeps her runs and their records herself
		must(os.Chmod(own.dir, 0o755))            // so that it is lictor's own doing if nobody can look inside
		p := own.start("run", "--analysis-id", "own", "--", "sleep", "600")
		own.live()

		alice := newUserBed(b.T, ModeSystem, "alice")
		alice.host = client.Path
		handed := alice.start("run", "--analysis-id", "handed", "--", "sleep", "600")
		alice.live()

		if r := alice.lictor("token", "create"); r.code != 0 {
			b.Errorf("token: %+v", r)
		}

		closed := append(b.closed("/var/lib/lictor", "lictor.db", "lictor.db-wal", "watch.lock", "tokens.json"), own.closed(own.store, "lictor.db", "lictor.db-wal")...)
		for _, path := range closed {
			if out, err := bob.command("head", "-c", "1", path).CombinedOutput(); err == nil {
				b.Errorf("bob reads %s: %q", path, out)
			}
		}
		for _, dir := range []string{"/var/lib/lictor", own.store} {
			if out, err := bob.command("ls", dir).CombinedOutput(); err == nil {
				b.Errorf("bob lists %s: %s", dir, out)
			}
		}
		main := b.property("MainPID")
		for _, args := range [][]string{{"cat", "/proc/" + main + "/environ"}, {"ls", "/proc/" + main + "/fd"}} {
			if out, err := bob.command(args[0], args[1:]...).Output(); err == nil || len(out) > 0 {
				b.Errorf("bob: %v: %q", args, out)
			}
		}
		out, _ := bob.command("find", "/run/lictor", "-writable", "-not", "-name", "api.sock").CombinedOutput()
		readable, _ := bob.command("find", "/run/lictor", "-type", "f", "-readable").CombinedOutput()
		if len(out)+len(readable) > 0 {
			b.Errorf("in /run/lictor bob can write %q and read %q", out, readable)
		}
		if out, err := bob.command("sh", "-c", "mv /run/lictor/api.sock /run/lictor/x || rm -f /run/lictor/api.sock || ln -s /tmp/x /run/lictor/y").CombinedOutput(); err == nil {
			b.Errorf("bob changes the socket directory: %s", out)
		}
		for _, p := range []*process{handed, p} {
			_ = p.Process.Signal(syscall.SIGTERM)
			b.finishCommand(p)
		}
	})
}

// TestX22Environment: the environment of a run that is started over HTTP is in none of the properties of its units.
func TestX22Environment(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		const secret = "secret-5d21"
		status, run := b.post(`{"command":["sleep","600"],"env":{"PASSWORD":"`+secret+`"}}`, "")
		if status != http.StatusCreated {
			b.Fatalf("status %d", status)
		}
		id, bob := scope.RunID(run.Run), newUserBed(b.T, ModeSystem, "bob")
		for _, unit := range []string{id.Scope(), id.Ledger(), id.Service()} {
			for who, cmd := range map[string]*exec.Cmd{"bob": bob.root().command("systemctl", "show", unit), "root": b.root().command("systemctl", "show", unit)} {
				out, err := cmd.Output()
				if err != nil || !strings.Contains(string(out), "LoadState=loaded\n") || strings.Contains(string(out), secret) {
					b.Errorf("what %s sees of %s: %v, %d bytes, the secret: %v", who, unit, err, len(out), strings.Contains(string(out), secret))
				}
			}
		}
		if r := b.lictor("stop", string(id)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		b.wantRun(b.ended(id), events.StateKilled, events.ReasonStop, b.me())
	})
}

// closed are the files below a directory, which must have those that are named, and each of which must be closed to others by its own
// permissions. It is not enough that one above it is.
func (b *bed) closed(dir string, names ...string) (files []string) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 || info.Sys().(*syscall.Stat_t).Uid != uint32(b.uid()) {
			b.Errorf("%s is %v of uid %d", path, info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
		}
		if info.Mode().IsRegular() {
			if _, err := os.ReadFile(path); err != nil { // for root; else the test would show nothing
				b.Error(err)
			}
			files = append(files, path)
		}
		return nil
	})
	must(err)
	for _, name := range names {
		if !slices.Contains(files, filepath.Join(dir, name)) {
			b.Errorf("no %s in %v", name, files)
		}
	}
	return files
}
