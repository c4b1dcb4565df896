package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// runExec is the program for "go test -exec": the go command calls it in the package's directory with a test binary
// and its arguments.
func runExec(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("exec", flag.ExitOnError)
	var sel selection
	sel.flags(fs)
	_ = fs.Parse(args)
	name, err := sel.guestName()
	if err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("exec: test binary wanted")
	}
	signals := make(chan os.Signal, 4) // a few, so that none is lost while one is passed on
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	// A signal is passed on to the test, which has its grace; it does not end ctx.
	ctx = context.WithoutCancel(ctx)
	g, err := findGuest(ctx, name)
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	r, err := newTestRun(ctx, fs.Arg(0), dir)
	if err != nil {
		return err
	}
	r.takeArgs(fs.Args()[1:])
	_, status, err := g.runTests(ctx, r, os.Stdout, signals)
	if err == nil && status != 0 {
		return exitError(status)
	}
	return err
}

// takeArgs takes the arguments of a test binary. The go command asks for -test.v=test2json when it was called with
// -json, and for -test.v=true with -v.
func (r *testRun) takeArgs(args []string) {
	for _, arg := range args {
		switch {
		case arg == "-test.v=test2json":
			r.raw, r.verbose = true, true
		case arg == "-test.v=true":
			r.verbose = true
		case strings.HasPrefix(arg, "-test.testlogfile="):
			// A file of the host, for the go command's cache of results.
		default:
			r.args = append(r.args, arg)
		}
	}
}
