package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A remoteCommand runs as root in the guest, in a scope of its own.
type remoteCommand struct {
	dir  string
	env  []string // name=value
	argv []string
}

// exitMark begins the line that ends a remote command's output. The same byte marks the lines of the testing package
// (see filter).
const exitMark = "\x16testbed exit "

// script is what runs the command in the guest. Its standard input is open as long as somebody on the host cares:
// the end of it, even by a SIGKILL there, kills what is in the scope. The scope does not end when one of its
// processes is OOM-killed, and has no limit but the guest's. The shell's own words about a killed child are dropped.
func (c *remoteCommand) script(scope string) string {
	return fmt.Sprintf(`exec 2>&1 3<&0 </dev/null
{ cat <&3; systemctl kill --signal=KILL %[1]s; } >/dev/null 2>&1 &
mkdir -p %[2]s && cd %[2]s && { # a package without data files has no directory yet
env %[3]s systemd-run --quiet --scope --collect --unit=%[1]s -p OOMPolicy=continue -p TasksMax=infinity -- %[4]s 2>&1 3<&-
} 2>/dev/null
printf '\026testbed exit %%d\n' $?`,
		scope, quote(c.dir), quote(c.env...), quote(c.argv...))
}

// grace is how long a command has to end after a signal before its scope is killed.
const grace = 10 * time.Second

// run runs the command and writes its output, without the exit mark, to out. Signals from the channel are passed on;
// SIGINT, SIGTERM and SIGHUP also start the grace. The end of ctx kills it at once.
func (g *guest) run(ctx context.Context, c *remoteCommand, out io.Writer, signals <-chan os.Signal) (status int, err error) {
	scope := "testbed-" + strings.ToLower(rand.Text()) + ".scope"
	// Not ctx: the stream is wanted to the end, and the open input is what keeps the command alive.
	cmd := g.ssh(context.WithoutCancel(ctx), "root", nil, c.script(scope))
	// Ctrl-C at the terminal is for us; our own death is seen by the guest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("guest %q: run: %w", g.Name, err)
	}
	defer alive.Close()
	marks := &markWriter{out: out, seen: make(chan int, 1)}
	cmd.Stdout, cmd.Stderr = marks, marks
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("guest %q: run: %w", g.Name, err)
	}
	ended := make(chan ending, 1) // one slot: the goroutine ends with ssh even when nobody waits any more
	go func() { ended <- ending{cmd.Wait()} }()
	return g.attend(ctx, scope, cmd, alive, marks.seen, ended, signals)
}

// An ending is what ssh came to.
type ending struct{ err error }

// attend waits for the end of a running command: the exit mark and then the end of ssh.
func (g *guest) attend(ctx context.Context, scope string, cmd *exec.Cmd, alive io.Closer, seen <-chan int, ended <-chan ending, signals <-chan os.Signal) (int, error) {
	var late <-chan time.Time // fires grace after the first request to end
	for {
		select {
		case sig := <-signals:
			g.signal(ctx, scope, sig.(syscall.Signal))
			if late == nil && sig != syscall.SIGQUIT {
				late = time.After(grace)
			}
		case <-late:
			_ = alive.Close() // may be closed already, by the end of ssh
		case <-ctx.Done():
			g.abandon(cmd, ended)
			return 0, context.Cause(ctx)
		case status := <-seen:
			return status, g.drain(scope, cmd, alive, ended)
		case end := <-ended:
			select {
			case status := <-seen:
				return status, nil
			default:
				return 0, fmt.Errorf("guest %q: connection lost: %w", g.Name, end.err)
			}
		}
	}
}

// signal passes a signal on to everything in a scope.
func (g *guest) signal(ctx context.Context, scope string, sig syscall.Signal) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if _, err := g.output(ctx, fmt.Sprintf("systemctl kill --signal=%d %s", sig, scope)); err != nil {
		say("%s: %v not passed on: %v", g.Name, sig, err)
	}
}

// errHeldOpen says that the command has ended, but something it started outside its scope has not.
var errHeldOpen = errors.New("output held open by a process left over")

// drain waits for the end of the output.
func (g *guest) drain(scope string, cmd *exec.Cmd, alive io.Closer, ended <-chan ending) error {
	_ = alive.Close()
	select {
	case <-ended:
		return nil
	case <-time.After(grace):
		g.abandon(cmd, ended)
		return fmt.Errorf("guest %q: %s: %w", g.Name, scope, errHeldOpen)
	}
}

// abandon ends our end of the connection.
func (g *guest) abandon(cmd *exec.Cmd, ended <-chan ending) {
	_ = cmd.Process.Kill()
	<-ended
}

// A markWriter passes whole lines on, and takes the exit mark out.
type markWriter struct {
	out  io.Writer
	rest []byte
	seen chan int // gets the exit status, once
}

func (w *markWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, found := strings.Cut(string(w.rest), "\n")
		if !found {
			return len(b), nil
		}
		w.rest = []byte(rest)
		if err := w.line(line); err != nil {
			return 0, err
		}
	}
}

func (w *markWriter) line(line string) error {
	before, mark, found := strings.Cut(line, exitMark)
	if !found {
		_, err := io.WriteString(w.out, line+"\n")
		return err
	}
	var status int
	if _, err := fmt.Sscan(mark, &status); err != nil {
		return fmt.Errorf("exit mark %q: %w", mark, err)
	}
	if before != "" {
		if _, err := io.WriteString(w.out, before+"\n"); err != nil {
			return err
		}
	}
	w.seen <- status
	return nil
}
