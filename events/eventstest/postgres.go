package eventstest

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Postgres is a PostgreSQL server of a test's own, from the machine's packages. It listens on a socket in a private directory
// only. As root it is run as the user postgres, because it refuses to be root.
type Postgres struct {
	bin, dir string
	settings []string
	user     *syscall.Credential // nil: as who we are
	server   *exec.Cmd
	exited   chan struct{}
	made     atomic.Int64
}

// patience bounds the wait for the server. An emulated one takes seconds to start.
const patience = 2 * time.Minute

// StartPostgres starts a server, which ends with the test. Settings are those of postgresql.conf (name=value); without any, it
// does not sync: its data need not outlive the machine. migrate makes the tables that a database of Database has.
func StartPostgres(tb testing.TB, migrate func(url string) error, settings ...string) *Postgres {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pg") // short, because it is part of the path of a socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if len(settings) == 0 {
		settings = []string{"fsync=off"}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for clients that are somebody else
		tb.Fatal(err)
	}
	p := &Postgres{bin: postgresBin(tb), dir: dir, settings: settings}
	if os.Geteuid() == 0 {
		p.user = serverUser(tb)
		if err := os.Chown(dir, int(p.user.Uid), int(p.user.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	p.tool(tb, "initdb", "-D", p.data(), "-U", "lictor", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	p.Start(tb)
	tb.Cleanup(func() {
		if p.server != nil {
			p.Kill(tb)
		}
	})
	p.SQL(tb, "postgres", "CREATE DATABASE empty TEMPLATE template0")
	if migrate != nil {
		p.SQL(tb, "postgres", "CREATE DATABASE migrated TEMPLATE empty")
		if err := migrate(p.URL("migrated")); err != nil {
			tb.Fatal(err)
		}
	}
	return p
}

// postgresBin returns the directory of the newest server that is installed.
func postgresBin(tb testing.TB) string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	if len(dirs) == 0 {
		tb.Fatal("no PostgreSQL: apt-get install postgresql")
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return version(a) - version(b) })
}

func serverUser(tb testing.TB) *syscall.Credential {
	u, err := user.Lookup("postgres")
	if err != nil {
		tb.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = "/" // one that the user may enter
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.user, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (p *Postgres) tool(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v: %s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Start starts the server again, after Stop or Kill, and waits until it answers.
func (p *Postgres) Start(tb testing.TB) {
	tb.Helper()
	args := []string{"-D", p.data(), "-k", p.dir, "-c", "listen_addresses=", "-c", "shared_buffers=16MB"}
	for _, s := range p.settings {
		args = append(args, "-c", s)
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if p.server == nil {
			p.launch(tb, log, args)
		}
		if p.command("pg_isready", "-q", "-h", p.dir).Run() == nil {
			return
		}
		select {
		case <-p.exited: // what an earlier one shared is still in use
			p.server = nil
		default:
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			tb.Fatalf("PostgreSQL does not start: %s", text)
		}
	}
}

func (p *Postgres) launch(tb testing.TB, log *os.File, args []string) {
	server := p.command("postgres", args...)
	server.SysProcAttr.Pdeathsig = 0 // it is that of a thread, which may end
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = server.Wait()
		close(exited)
	}()
	p.server, p.exited = server, exited
}

// URL is the connection URL of a database.
func (p *Postgres) URL(database string) string {
	return "postgres://lictor@/" + database + "?" + url.Values{"host": {p.dir}}.Encode()
}

// Socket is the path of the socket that the server listens on.
func (p *Postgres) Socket() string { return filepath.Join(p.dir, ".s.PGSQL.5432") }

// Database makes a new database with lictor's tables and returns its name.
func (p *Postgres) Database(tb testing.TB) string {
	tb.Helper()
	return p.make(tb, "migrated")
}

// Empty makes a new database without tables.
func (p *Postgres) Empty(tb testing.TB) string {
	tb.Helper()
	return p.make(tb, "empty")
}

func (p *Postgres) make(tb testing.TB, template string) string {
	tb.Helper()
	name := fmt.Sprintf("t%d", p.made.Add(1))
	p.SQL(tb, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+template)
	return name
}

// SQL runs a statement as the superuser and returns what it printed, fields separated by |.
func (p *Postgres) SQL(tb testing.TB, database, stmt string) string {
	tb.Helper()
	out, err := p.Query(database, stmt)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Query is SQL for a server that may be away.
func (p *Postgres) Query(database, stmt string) (string, error) {
	out, err := p.command("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", p.dir, "-U", "lictor", "-c", stmt, database).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Stop stops the server as its administrator would: clients are disconnected.
func (p *Postgres) Stop(tb testing.TB) {
	tb.Helper()
	p.end(tb, syscall.SIGINT)
}

// Kill kills the server and every process of it.
func (p *Postgres) Kill(tb testing.TB) {
	tb.Helper()
	children := p.children()
	p.end(tb, syscall.SIGKILL)
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (p *Postgres) end(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	_ = p.server.Process.Signal(s)
	select {
	case <-p.exited:
		p.server = nil
	case <-time.After(patience):
		tb.Fatal("PostgreSQL does not end")
	}
}

// Hang stops every process of the server until Resume, as a machine that is out of memory or of disks does.
func (p *Postgres) Hang() { p.signal(syscall.SIGSTOP) }

// Resume undoes Hang.
func (p *Postgres) Resume() { p.signal(syscall.SIGCONT) }

func (p *Postgres) signal(s syscall.Signal) {
	for _, pid := range append(p.children(), p.server.Process.Pid) {
		_ = syscall.Kill(pid, s)
	}
}

// children are the processes of the server, each a session of its own.
func (p *Postgres) children() (pids []int) {
	parent := strconv.Itoa(p.server.Process.Pid)
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == parent {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}
