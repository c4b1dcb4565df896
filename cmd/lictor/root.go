package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `lictor runs each analysis in a systemd scope of its own, with memory and time limits that the kernel and systemd
enforce, and says afterwards why it ended.

Runs are named by their id, an unambiguous prefix of it, or the analysis id (then the latest run of it is meant).`

// newRootCommand returns the command tree.
func newRootCommand(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:           "lictor",
		Short:         "Run analyses inside hard limits, and know why they ended",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		Version:       readBuild(debug.ReadBuildInfo()).String(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2, // edits between what was typed and a command
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	root.SetIn(app.Stdin)
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&app.system, "system", false, "the system's manager (default for root)")
	root.PersistentFlags().BoolVar(&app.user, "user", false, "the own user manager (default for everybody else)")
	root.PersistentFlags().StringVar(&app.host, "host", "", "the daemon: path of its socket, http://127.0.0.1:PORT (LICTOR_TOKEN), or none; LICTOR_HOST")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Name() == "run" {
			return refused(oneManager(app))
		}
		return errors.Join(oneManager(app), notElsewhere(app, cmd))
	}
	root.AddCommand(commands(app)...)
	return root
}

func oneManager(app *App) error {
	if app.system && app.user {
		return withHint(usageError("--system and --user: choose one"), "--system is root's, --user is your own")
	}
	return app.checkHost()
}

// notElsewhere refuses the commands that are about files and processes of this machine.
func notElsewhere(app *App, cmd *cobra.Command) error {
	for ; cmd.HasParent(); cmd = cmd.Parent() {
		switch cmd.Name() {
		case "adopt", "db", "doctor", "export", "import", "logs", "watch":
			return app.onlyHere(cmd.Name(), "ssh to that machine and do it there")
		}
	}
	return nil
}

// unknownCommand refuses words that are no command, with the nearest ones as a hint.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usageError("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return withHint(err, "lictor "+strings.Join(near, ", lictor "))
	}
	return withHint(err, "lictor help lists the commands")
}

// flagError is what cobra calls for a flag that it cannot read.
func flagError(cmd *cobra.Command, err error) error {
	return withHint(withCode(exitUsage, err), cmd.CommandPath()+" --help lists the flags")
}

// noArguments, exactlyOne, atMost and atLeast count arguments. They are cobra's, with our words and exit status.
func noArguments(cmd *cobra.Command, args []string) error {
	return atMost(0, "no arguments")(cmd, args)
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return argsError(cmd, args, "needs "+what)
	}
}

func atMost(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return argsError(cmd, args, "takes "+what)
	}
}

func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return argsError(cmd, args, "needs "+what)
	}
}

func argsError(cmd *cobra.Command, args []string, problem string) error {
	got := "got nothing"
	if len(args) > 0 {
		got = fmt.Sprintf("got %q", args)
	}
	return withHint(usageError("%s %s, %s", cmd.Name(), problem, got), cmd.CommandPath()+" --help")
}
