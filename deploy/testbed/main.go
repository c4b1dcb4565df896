// Command testbed makes throw-away Debian guests with a real systemd and cgroup v2, and runs Go tests in them.
//
// # Theory of operation
//
// An image is a Debian root file system on ext4 with its kernel and initrd beside it, made by mmdebstrap from the
// recipe directory embedded in this program. It is kept in the cache under a hash of the recipe, so a changed recipe
// is a new image and two builders of one image take turns on a lock.
//
// A guest is one qemu process, by default under software emulation, whose writes to the disk go to a temporary
// overlay. Everything known about it is a directory in the cache (state.json, console, qemu's own output), so that
// any later invocation finds it by name. A fresh guest dies with the process that booted it (PR_SET_PDEATHSIG); a
// kept one lives until "down".
//
// Commands reach the guest over ssh to a port forwarded from 127.0.0.1, through one master connection per guest: the
// key exchange costs a second under emulation, a further command on the same connection a tenth of that. Files do not
// go over ssh, whose ciphers are slow there, but over a TCP connection that the guest opens to the host (10.0.2.2)
// and that carries one stream.
//
// "run" is what make calls: it lists the packages with integration tests, each after those that it is made of, compiles
// their test binaries on the host while the guests boot, ships one after the other into each guest, runs it there as root
// in a scope of its own, streams its output, and says at the very end what failed. With --guests several
// guests of a suite share its tests, where there are processors for that; with --together the suites run at the same time, and where there
// are not processors enough for all of them, only the last one's guests have more than one. "exec" is the same for one binary, for
// "go test -exec".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// A command is one word of the command line.
type command struct {
	name  string
	args  string
	about string
	run   func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"image", "SUITE", "build the disk image of a suite unless the cache has it, and print its directory", runImage},
		{"run", "--suite S[,S…] [PACKAGE…]", "run the integration tests of packages in guests; see testbed run --help", runRun},
		{"demo", "", "run demo/run.sh with bin/lictor, on the host if it will do, else in a guest", runDemo},
		{"browse", "[--suite S]", "install bin/lictor in a guest and look at its dashboard with a browser of the host", runBrowse},
		{"fuzz", "[--time D] [PACKAGE…]", "run every fuzzer for a while, on the host", runFuzz},
		{"power", "[--suite S] [--rounds N]", "kill machines while they write records, and look for those at the next boot", runPower},
		{"need", "PROGRAM…", "install the host packages of these programs if they are missing", runNeed},
		{"up", "--suite S [--name N] [--mem MIB]", "boot a guest and keep it running", runUp},
		{"down", "--suite S | --name N | --all", "power kept guests off", runDown},
		{"ssh", "--suite S [--user U] [-- COMMAND…]", "open a shell, or run a command, in a kept guest", runSSH},
		{"exec", "--suite S BINARY [ARGUMENT…]", "run a test binary in a kept guest: go test -exec 'testbed exec --suite S'", runExec},
		{"cp", "--suite S SOURCE… DESTINATION", "copy files of the host into a directory of the guest", runCopy},
	}
}

// An exitError ends the program with the status of something it ran, which has said everything itself.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// A hintError carries the command or setting that helps.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := dispatch(ctx, os.Args[1:])
	stop()
	os.Exit(explain(err))
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(ctx, args[1:])
			}
		}
	}
	tw := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "usage:")
	for _, c := range commands() {
		fmt.Fprintf(tw, "  testbed %s %s\t%s\n", c.name, c.args, c.about)
	}
	tw.Flush()
	return exitError(2)
}

// explain tells a person what went wrong and returns the exit status for it.
func explain(err error) int {
	if err == nil {
		return 0
	}
	var status exitError
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintln(os.Stderr, "testbed: error:", err)
	var hint *hintError
	if errors.As(err, &hint) {
		fmt.Fprintln(os.Stderr, "testbed: hint:", hint.hint)
	}
	return 1
}
