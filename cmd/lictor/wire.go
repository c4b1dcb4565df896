package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// Mode is whose systemd the scopes are made in.
type Mode string

// The modes. System means PID 1: limits are root's, a real boundary for an analysis of another uid. User means
// `systemd --user`: no privileges are needed, and a process of the same uid can undo its own limits.
const (
	ModeSystem Mode = "system"
	ModeUser   Mode = "user"
)

// App is what every command gets: the streams, environment and clock of the process, and the doors to the outside. The
// commands use nothing global besides it, so that a test can replace any one thing. It is set up by newApp and not changed
// once the command line has been read.
type App struct {
	Stdin  io.Reader
	Stdout *output   // data
	Stderr io.Writer // talk
	Getenv func(string) string
	Now    func() time.Time
	UID    int
	EtcDir string // of the administrator's configuration, /etc/lictor

	// Scopes tells which runs are alive at this moment. Nil: nothing can be known, the store alone speaks.
	Scopes liveSource
	// Settle finishes the records of runs whose keeper has died. It is called before any listing. An error is talk: the
	// listing goes on with what the store has. Nil: nothing to do.
	Settle func(context.Context, *App) error
	// Processes describes processes for people. Nil: nothing is known about them.
	Processes processTable
	// Box looks at the machine. Nil: nothing is known.
	Box func(context.Context, *App) box
	// Probe looks at the machine for doctor.
	Probe func(context.Context, *App) probe
	// Systemd returns the version of the manager of the current mode, such as "257.8-1". Nil or an error: not known.
	Systemd func(context.Context, Mode) (string, error)

	newID func() scope.RunID
	tune  func(*watcher.Keeper) // looks at a keeper before it begins; nil but in tests of its death

	patience time.Duration // of a launcher whose daemon is away

	args   []string // the command line, without argv[0]
	handed *handed  // what the caller of `run -d` handed over; nil but in the service that launches such a run

	killers *killerReader // reads what other killers say

	system, user bool   // flags --system and --user
	host         string // flag --host
}

// newApp returns the App of this process.
func newApp() *App {
	app := &App{
		Stdin:  os.Stdin,
		Stdout: newOutput(os.Stdout),
		Stderr: os.Stderr,
		Getenv: os.Getenv,
		Now:    time.Now,
		UID:    os.Geteuid(),
		EtcDir: "/etc/lictor",
		newID:  scope.NewRunID,

		patience: endPatience,
	}
	app.killers = newKillerReader(app)
	connect(app)
	return app
}

// Mode returns the manager that the command is about: what --system or --user says, else the system's for root and the
// own one for everybody else.
func (a *App) Mode() Mode {
	switch {
	case a.system:
		return ModeSystem
	case a.user:
		return ModeUser
	case a.UID == 0:
		return ModeSystem
	}
	return ModeUser
}

// StateDir returns the directory of the database: LICTOR_STATE_DIR, else what file-hierarchy(7) has for the mode.
func (a *App) StateDir() (string, error) {
	if dir := a.Getenv("LICTOR_STATE_DIR"); dir != "" {
		return dir, nil
	}
	if a.Mode() == ModeSystem {
		return "/var/lib/lictor", nil
	}
	if dir := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lictor"), nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", withHint(errors.New("state directory: HOME is not set"), "set HOME, XDG_STATE_HOME or LICTOR_STATE_DIR")
	}
	return filepath.Join(home, ".local/state/lictor"), nil
}

// StorePath returns the path of the SQLite file.
func (a *App) StorePath() (string, error) {
	dir, err := a.StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "lictor.db"), nil
}

// hostname is how the records name this machine, empty if it has no name.
func (*App) hostname() string {
	host, _ := os.Hostname()
	return host
}

// settle calls the hook before a listing.
func (a *App) settle(ctx context.Context) {
	if a.Settle == nil || a.elsewhere() != nil {
		return
	}
	if err := a.Settle(ctx, a); err != nil {
		a.talk("unfinished runs were not settled: %v", err)
	}
}
