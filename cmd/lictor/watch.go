package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// exitActed is the exit status of `watch --once` that found something to do and did it.
const exitActed = 3

func newWatchCommand(app *App) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "watch --once",
		Short: "Look at every run once: end what nobody keeps, finish records",
		Long: `Look at every run once. A run whose keeper (its lictor run) has died is terminated if it still lives, its record is
completed from the evidence that the kernel holds, and its units are released.

Exit status: 0 nothing was to be done, 3 something was and is done, 1 something went wrong.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !once {
				return withHint(errors.New("watch: only one look at a time is there so far"), "lictor watch --once")
			}
			return app.watchOnce(cmd)
		},
	}
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
	defer s.close()
	err = s.all(cmd.Context(), 0)
	for _, line := range s.acted {
		fmt.Fprintln(a.Stdout, inert(line))
	}
	if err != nil {
		return err
	}
	if len(s.acted) > 0 {
		return withCode(exitActed, nil)
	}
	return nil
}
