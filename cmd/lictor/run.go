package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

const runLong = `Run a command inside a systemd scope with limits that the kernel and systemd enforce: by default 2G of memory, no
swap, 30 minutes. It stays in the foreground: standard input and output, the terminal, signals and the exit status pass
through. When something forced the end, one line on stderr says so, and "lictor why" tells more.

With -d it returns as soon as the command runs, and the run goes on without the terminal and, if its user lingers (loginctl
enable-linger), without the login session. A service of systemd is then what "lictor run" is in the foreground: same
directory, environment, umask and limits, and to stop it is to stop the run. journald has the output ("lictor logs"), except
for empty lines, and as much of it as its rate limit allows; standard input is empty.

Exit status: the command's own; 124 time limit; 125 lictor itself failed or refused and nothing was run; 126 the command
cannot be executed; 127 it was not found; 137 it was killed for memory, whichever signal finished it, or by somebody's
SIGKILL; 128+n signal n.`

// runOptions are the flags of `lictor run`.
type runOptions struct {
	launchOptions
	detach, quiet, json bool
	resultFile          string
}

func newRunCommand(app *App) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARGUMENT…]",
		Short: "Run a command inside limits, and know why it ended",
		Long:  runLong,
		Example: `  lictor run -m 4G -t 2h -- python3 train.py --epochs 10
  lictor run --analysis-id SDA-117 -- make -j8
  lictor run -d -t 8h -- python3 train.py`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return refused(app.run(cmd.Context(), o, args))
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return refused(flagError(cmd, err)) })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command belongs to it
	o.add(flags)
	flags.BoolVarP(&o.detach, "detach", "d", false, "return once it runs, and print the run id; lictor logs has its output")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not say on stderr why it was forced to end")
	flags.BoolVar(&o.json, "json", false, "say it as the run record in JSON, on stderr: stdout is the command's; with -d, the run id in JSON")
	flags.StringVar(&o.resultFile, "result-file", "", "write the run record in JSON to this file when the run has ended")
	return cmd
}

// refused gives errors of lictor's own the exit status 125, unless they have one that a command could have had.
func refused(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) && exit.code != exitUsage {
		return err
	}
	return withCode(exitRefused, err)
}

func (a *App) run(ctx context.Context, o *runOptions, args []string) error {
	if len(args) == 0 {
		return withHint(errors.New("run: no command given"), "lictor run -- COMMAND")
	}
	if c := a.elsewhere(); c != nil {
		return a.launchElsewhere(ctx, c, o, args)
	}
	if o.detach && a.handed == nil {
		spec, _, err := a.spec(&o.launchOptions, args)
		if err != nil {
			return err
		}
		return a.detach(ctx, o, spec)
	}
	debug.SetGCPercent(-1) // a launch leaves no garbage worth collecting; shrink ends this
	result, err := openResult(o.resultFile)
	if err != nil {
		return err
	}
	defer result.discard()
	return a.keepRun(ctx, o, args, func(finished *events.Run, err error) error {
		if err != nil {
			a.talk("%v", err)
		}
		a.tellEnd(finished, o)
		if err := result.write(finished); err != nil {
			a.talk("result file: %v", err)
		}
		a.handed.record(finished)
		return exitStatus(finished)
	})
}

// keepRun runs a command in the daemon's hands, else in this process's. Ended is called with its record; the error is what it
// returns, or why the command was not started.
func (a *App) keepRun(ctx context.Context, o *runOptions, args []string, ended func(*events.Run, error) error) error {
	if c := a.client(); c != nil && !c.Remote() {
		run, err := a.handOverRun(ctx, c, o, args)
		switch {
		case run != nil:
			return ended(run, err)
		case !errors.Is(err, errNoDaemon):
			return err
		}
	}
	l, err := scope.NewLauncher(scope.Manager(a.Mode()))
	if err != nil {
		return explainLaunch(a.Mode(), err)
	}
	go func() { _ = l.Connect(ctx) }() // Launch waits for it, and reports its error
	spec, run, err := a.spec(&o.launchOptions, args)
	if err != nil {
		return err
	}
	k := a.newKeeping(l, run)
	defer k.close()
	signals := catchSignals()
	signals.stops = a.handed != nil
	defer signals.release()
	s, err := k.launch(ctx, spec)
	if err != nil {
		return explainLaunch(a.Mode(), err)
	}
	defer s.Close()
	a.handed.answer(nil)
	stop := k.calmDown()
	finished, err := k.keep(ctx, s, signals)
	stop()
	err = ended(finished, err)
	k.settleOthers(ctx)
	return err
}

// tellEnd says on stderr why a run was forced to end, and nothing otherwise.
func (a *App) tellEnd(run *events.Run, o *runOptions) {
	switch {
	case o.json && a.handed == nil:
		_ = writeJSON(a.Stderr, run)
	case !o.quiet && run.Reason != events.ReasonNone:
		a.talk("%s. lictor why %s tells more", run.Summary(), shortID(run.Run))
	}
}

// exitStatus passes the end of the command on, as VERDICTS and a shell would.
func exitStatus(run *events.Run) error {
	var code int
	switch x := run.Exit; {
	case run.Reason == events.ReasonTimeout:
		code = exitTimeout
	case run.Reason.OutOfMemory() && x != nil && x.Signal != nil: // systemd's SIGTERM can be there before the kernel's SIGKILL
		code = exitKilled
	case x != nil && x.Code != nil:
		code = *x.Code
	case x != nil && x.Signal != nil:
		code = 128 + signalNumber(*x.Signal)
	default:
		return withCode(exitFailure, fmt.Errorf("run %s: how the command ended is not known", shortID(run.Run)))
	}
	if code == 0 {
		return nil
	}
	return withCode(code, nil)
}

// explainLaunch adds the exit status and what helps to the errors of a launch.
func explainLaunch(mode Mode, err error) error {
	var spec *scope.SpecError
	var exec *scope.ExecError
	switch {
	case errors.As(err, &exec):
		hint := "is it installed, and in PATH?"
		if exec.Code() == 126 {
			hint = "is it a program that you may execute? file and ls -l tell"
		}
		return withHint(withCode(exec.Code(), err), hint)
	case errors.As(err, &spec):
		return withHint(err, "lictor run --help")
	case errors.Is(err, cgroup.ErrNotUnified):
		return withHint(err, "lictor doctor tells what this machine lacks")
	case errors.Is(err, scope.ErrDied):
		return withHint(err, "its time limit counts from a moment before that: was it too short? Else somebody killed it; journalctl -b tells more")
	case errors.Is(err, scope.ErrNoManager) && mode == ModeUser:
		return withHint(fmt.Errorf("no user manager answers: %w", err), "loginctl enable-linger, or log in properly; lictor doctor tells more")
	}
	return withHint(err, "lictor doctor tells what this machine lacks")
}

// calmAfter is how long a launcher keeps what a short run needs again at its end.
const calmAfter = 2 * time.Second

// resultFile is the file of --result-file. It is made before the run, so that a path that cannot be written is refused
// while nothing has been done, and replaced in one step at the end.
type resultFile struct {
	path string
	tmp  *os.File
}

func openResult(path string) (*resultFile, error) {
	if path == "" {
		return nil, nil
	}
	tmp, err := os.CreateTemp(dirOf(path), ".lictor-result-*")
	if err != nil {
		return nil, withHint(fmt.Errorf("result file: %w", err), "choose a path in a directory that you can write to")
	}
	return &resultFile{path, tmp}, nil
}

func (r *resultFile) write(run *events.Run) error {
	if r == nil {
		return nil
	}
	defer r.discard()
	if err := writeJSON(r.tmp, run); err != nil {
		return err
	}
	if err := r.tmp.Chmod(0o644 &^ umask()); err != nil {
		return err
	}
	if err := r.tmp.Close(); err != nil {
		return err
	}
	return os.Rename(r.tmp.Name(), r.path)
}

// discard removes what was not renamed.
func (r *resultFile) discard() {
	if r != nil {
		_ = r.tmp.Close()
		_ = os.Remove(r.tmp.Name())
	}
}
