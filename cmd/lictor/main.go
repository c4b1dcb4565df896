// Command lictor runs each analysis in a systemd scope of its own, with limits that the kernel and systemd enforce, and
// says afterwards why it ended.
//
// # Theory of operation
//
// One binary, several roles, told apart by the command word; each command is one file here. `run` is the launcher and,
// when there is no daemon, also the keeper of that one run; `run -d` has it executed by a service of systemd (handover.go).
// `watch` is the daemon. `stop` and `kill` act on live runs.
// `top` shows what ps, why and tree say, and stops what it is told to.
// All the others only read: the store (an SQLite file that every keeper writes to), the kernel's cgroup tree for what is
// alive at this moment, and, for `doctor`, the machine.
//
// A reading command needs neither the daemon nor systemd: with nothing but the database file it still lists and
// explains. It opens the file read-only and never creates one. Before it lists, it settles: runs whose keeper has died are
// finished from their ledger, so that a reader never shows as alive what has ended.
//
// main builds an App (wire.go: streams, environment, clock, doors to the outside; connect.go: what stands behind the
// doors), root.go builds the command tree on it, and the error that comes back decides the exit status (exit.go). Data
// goes to stdout, talk to stderr. Text that came from outside, such as command lines and analysis ids, is made inert
// (inert.go) before a terminal sees it. What is said of a run is decided by pure functions: explain.go for people, list.go
// for tables, diagnose.go for the machine.
//
// Nothing here is initialised at package level beyond constants and small tables: `lictor run` is started as often as
// the commands that it wraps.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(newApp(), os.Args[1:]))
}

// run is main without the process: it executes one command line and returns the exit status.
func run(app *App, args []string) int {
	root := newRootCommand(app)
	root.SetArgs(args)
	app.args = args
	err := root.ExecuteContext(context.Background())
	if err == nil {
		err = app.Stdout.Err()
	}
	return report(app.Stderr, err)
}
