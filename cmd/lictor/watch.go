package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// exitActed is the exit status of `watch --once` that found something to do and did it.
const exitActed = 3

func newWatchCommand(app *App) *cobra.Command {
	var once bool
	var sweep string
	var at listening
	cmd := &cobra.Command{
		Use:   "watch [--once]",
		Short: "Look after every run that nobody else keeps",
		Long: `Look after every run that nobody else keeps, as a daemon: the one whose keeper (its lictor run) has died is terminated if
it was not to live on without it, else it is watched until its end; the record is completed from the evidence that the
kernel holds, and the units are released. The daemon may be killed at any time: limits and time limits are the kernel's and
systemd's, and the next daemon begins where it ended.

With --once it looks once at everything, acts, reports and exits: 0 nothing was to be done, 3 something was and is done, 1
something went wrong.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if once {
				return app.watchOnce(cmd)
			}
			pause, infinite, err := ParseTimespan("sweep", sweep)
			if err != nil || infinite || pause < minSweep {
				return errors.Join(err, withHint(usageError("sweep %q: must be a time of at least 1s", sweep), "write it like 30s"))
			}
			return app.watch(cmd.Context(), pause, at)
		},
	}
	cmd.Flags().StringVar(&sweep, "sweep", "30s", "pause between two looks at everything, besides those that the kernel asks for")
	cmd.Flags().StringVar(&at.socket, "socket", client.Path, "answer launchers and commands here (the system's daemon only), or none")
	cmd.Flags().StringVar(&at.tcp, "listen", "", "answer programs with a token and browsers at this `address`, too: 127.0.0.1:7717")
	cmd.Flags().BoolVar(&once, "once", false, "look once, act, report, exit")
	return cmd
}

func (a *App) watchOnce(cmd *cobra.Command) error {
	l, err := a.actor()
	if err != nil {
		return err
	}
	defer l.Disconnect()
	s := a.newSettler(l)
	s.act = true
	acted := false
	s.report = func(line string) {
		acted = true
		fmt.Fprintln(a.Stdout, inert(line))
	}
	defer s.close()
	if err := errors.Join(s.all(cmd.Context(), 0), s.escapes(cmd.Context())); err != nil {
		return err
	}
	if acted {
		return withCode(exitActed, nil)
	}
	return nil
}
