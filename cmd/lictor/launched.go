package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// launchCommand is what the service of a detached run executes: `lictor launch RUN`, with the handover as standard input.
const launchCommand = "launch"

// The first and the last line that a launcher service writes begin like this. By the first `logs` learns which stream of
// journald is the run's, and at the last it knows that it has everything.
const (
	firstLine = "launching "
	lastLine  = "ended "
)

func newLaunchCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:    launchCommand + " RUN",
		Short:  "Launch a detached run (for the service that run -d starts)",
		Args:   exactlyOne("the id of a run"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return refused(app.launchHanded(cmd.Context(), args[0]))
		},
	}
}

// launchHanded becomes what the caller of `run -d` is, as far as that can be handed over, and runs its command line.
func (a *App) launchHanded(ctx context.Context, run string) error {
	conn, err := takeStdin()
	if err != nil {
		return err
	}
	h, err := receive(conn)
	if err != nil {
		return withHint(err, "lictor run -d -- COMMAND starts a detached run")
	}
	err = h.become()
	if err == nil && string(h.Run) != run {
		err = fmt.Errorf("handover: it is of run %s, not %q", h.Run, run)
	}
	if err == nil {
		err = a.attach(h)
	}
	if err == nil {
		a.talk(firstLine+"%s", h.Run)
		defer a.talk(lastLine+"%s", h.Run)
		a.handed = h
		root := newRootCommand(a)
		root.SetArgs(toStrings(h.Args))
		err = root.ExecuteContext(ctx)
	}
	h.answer(err)
	return err
}

// takeStdin puts /dev/null in the place of standard input, which the analysis inherits, and returns what was there.
func takeStdin() (*os.File, error) {
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	conn := os.NewFile(uintptr(fd), "handover")
	null, err := os.Open(os.DevNull)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), 0, 0); err != nil {
		conn.Close()
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return conn, nil
}

// attach gives the standard streams to an attached run. What lictor says still goes to the service's.
func (a *App) attach(h *handed) error {
	if len(h.streams) == 0 {
		return nil
	}
	own, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("standard error: %w", err)
	}
	a.Stderr = os.NewFile(uintptr(own), "journal")
	a.Stdout = newOutput(a.Stderr)
	for i, fd := range h.streams {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return fmt.Errorf("standard streams: %w", err)
		}
		_ = unix.Close(fd)
	}
	return nil
}

// become takes over the caller's directory and environment. Nothing of the service's own environment stays: it is the
// manager's, with the names of systemd's sockets for this service.
func (h *handover) become() error {
	if err := os.Chdir(string(h.Dir)); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	os.Clearenv()
	for _, kv := range toStrings(h.Env) {
		if key, value, ok := strings.Cut(kv, "="); ok && key != "" {
			if err := os.Setenv(key, value); err != nil {
				return fmt.Errorf("environment: %q: %w", key, err)
			}
		}
	}
	return nil
}
