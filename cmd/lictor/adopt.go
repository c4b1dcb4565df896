package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

const adoptLong = `Put a process that runs already, and all its descendants, into a scope of its own. The limits hold from then on, and
the time limit counts from then on. Memory that it holds already stays charged to where it was: the memory limit counts
what it allocates from now on.

The id of the run is printed and lictor exits. Nobody needs to keep the run: the kernel and systemd enforce its limits,
and whoever looks next (lictor ps, lictor watch --once) finishes its record. The exit status of a process is told to its
parent only, so a run that ends by itself is recorded as "ended", with an unknown exit status.

An ordinary user adopts processes of their own. If anything goes wrong the processes live on where they were.`

func newAdoptCommand(app *App) *cobra.Command {
	o := &launchOptions{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "adopt [flags] PID",
		Short: "Put a running process tree inside limits",
		Long:  adoptLong,
		Example: `  lictor adopt --analysis-id SDA-117 -m 4G -t 2h 48213
  lictor adopt $(pgrep -nf embed.py)`,
		Args: exactlyOne("a process id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.adopt(cmd.Context(), o, args[0], asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.addBox(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the run record in JSON")
	return cmd
}

func (a *App) adopt(ctx context.Context, o *launchOptions, text string, asJSON bool) error {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return withHint(usageError("pid %q: not a process id", text), "pgrep -af NAME finds it")
	}
	spec, run, err := a.spec(o, a.commandOf(ctx, pid))
	if err != nil {
		return err
	}
	if c := a.remote(ctx); c != nil {
		run, err = c.Adopt(ctx, &client.Adoption{PID: pid, Run: run, Properties: o.properties})
		err = explainProblem(err)
	} else {
		err = a.adoptHere(ctx, spec, run, pid)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.Stdout, run)
	}
	_, err = fmt.Fprintln(a.Stdout, run.Run)
	return err
}

// adoptHere adopts by this process.
func (a *App) adoptHere(ctx context.Context, spec scope.Spec, run *events.Run, pid int) error {
	l, err := a.actor()
	if err != nil {
		return err
	}
	defer l.Disconnect()
	tell := a.startTelling("", nil)
	defer tell.close()
	rec, err := tell.recorder() // before anything is moved: without a store nothing is adopted
	if err != nil {
		return err
	}
	return adoptProcess(ctx, l, rec, scope.AdoptSpec{Spec: spec, PID: pid}, run)
}

func adoptProcess(ctx context.Context, l *scope.Launcher, rec *recorder, spec scope.AdoptSpec, run *events.Run) error {
	s, err := l.Adopt(ctx, spec)
	if err != nil {
		return explainAdopt(Mode(l.Manager()), err)
	}
	defer s.Close()
	if err := beginAdopted(ctx, rec, run, s); err != nil {
		return errors.Join(err, s.GiveBack(ctx))
	}
	return nil
}

// adopt adopts a process of a caller's.
func (b *backend) adopt(ctx context.Context, peer api.Peer, o *client.Adoption) (*events.Run, error) {
	if o.Run == nil {
		return nil, client.NewProblem(http.StatusBadRequest, "adopt: no run", "lictor adopt PID")
	}
	run, spec, err := b.app.readRun(o.Run, o.Properties, peer.UID)
	if err != nil {
		return nil, err
	}
	rec, err := b.settler.recorder("")
	if err != nil {
		return nil, err
	}
	who := newCaller(scope.ProcessID{}, peer.UID)
	if err := b.admit(ctx, rec, spec.Run, who); err != nil {
		return nil, err
	}
	defer func() { // nobody waits for the end of an adopted run; the look for new ledgers keeps it
		b.forget(spec.Run)
		b.attended(spec.Run)
		b.look <- spec.Run
	}()
	err = adoptProcess(ctx, b.launcher, rec, scope.AdoptSpec{Spec: spec, PID: o.PID, Asker: scope.Asker{PID: peer.PID, UID: peer.UID}}, run)
	return run, err
}

// commandOf is the command line of a process, or its name in brackets. What cannot be read is told by its number.
func (a *App) commandOf(ctx context.Context, pid int) []string {
	if a.Processes != nil {
		switch p := a.Processes.Describe(ctx, []int{pid})[0]; {
		case len(p.Cmdline) > 0 && p.Cmdline[0] != "":
			return p.Cmdline
		case p.Comm != "":
			return []string{"[" + p.Comm + "]"}
		}
	}
	return []string{"[pid " + strconv.Itoa(pid) + "]"}
}

// beginAdopted writes the record of a run that has just been adopted.
func beginAdopted(ctx context.Context, rec *recorder, run *events.Run, s *scope.Scope) error {
	begun(run, s)
	run.Adopted, run.State, run.Degraded = true, events.StateRunning, s.Degraded
	run.UID, run.Cwd = s.UID(), ""
	if dir, err := os.Readlink("/proc/" + strconv.Itoa(s.Leader.PID) + "/cwd"); err == nil {
		run.Cwd = dir
	}
	if err := rec.Begin(ctx, run); err != nil {
		return err
	}
	ev := events.NewEvent(run, events.KindAdopted, 0, run.StartedAt)
	ev.PID = run.LeaderPID
	return rec.Append(ctx, ev)
}

// explainAdopt adds what helps to the errors of an adoption.
func explainAdopt(mode Mode, err error) error {
	if refused, ok := errors.AsType[*scope.AdoptError](err); ok {
		if refused.Hint == "" {
			return err
		}
		return withHint(err, refused.Hint)
	}
	if errors.Is(err, cgroup.ErrNoProcess) {
		return withHint(err, "processes of it end as fast as they are looked at; try again")
	}
	return explainLaunch(mode, err)
}
