package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A selection names a guest on the command line: kept guests are called by their suite unless told otherwise.
type selection struct {
	suite, name string
}

func (s *selection) flags(fs *flag.FlagSet) {
	fs.StringVar(&s.suite, "suite", "", "the Debian `suite` of the guest")
	fs.StringVar(&s.name, "name", "", "the `name` of the guest; the suite unless given")
}

func (s *selection) guestName() (string, error) {
	switch {
	case s.name != "":
		return s.name, nil
	case s.suite != "":
		return s.suite, checkSuite(s.suite)
	}
	return "", &hintError{errors.New("no guest named"), "add --suite bookworm, trixie or sid"}
}

func runUp(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("up", flag.ExitOnError)
	var sel selection
	sel.flags(fs)
	var h hardware
	h.flags(fs)
	_ = fs.Parse(args)
	name, err := sel.guestName()
	if err != nil {
		return err
	}
	g, err := keptGuest(ctx, name, sel.suite, h)
	if err != nil {
		return err
	}
	say("%s: running %s with %d MiB; stop it with: testbed down --name %s", g.Name, g.Suite, g.MiB, g.Name)
	return nil
}

func runDown(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("down", flag.ExitOnError)
	var sel selection
	sel.flags(fs)
	all := fs.Bool("all", false, "every kept guest")
	_ = fs.Parse(args)
	if !*all {
		name, err := sel.guestName()
		if err != nil {
			return err
		}
		return down(ctx, name)
	}
	guests, err := listGuests()
	if err != nil {
		return err
	}
	for _, g := range guests {
		if !g.Kept {
			continue // somebody's run, which ends it
		}
		if err := down(ctx, g.Name); err != nil {
			return err
		}
	}
	return nil
}

// down ends a guest if it runs. Its disk is thrown away, so there is nothing to shut down in an orderly way.
func down(ctx context.Context, name string) error {
	g, err := findGuest(ctx, name)
	if errors.Is(err, errNoGuest) {
		return nil
	}
	if err != nil {
		return err
	}
	g.kill()
	say("%s: off", name)
	return nil
}

func runSSH(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("ssh", flag.ExitOnError)
	var sel selection
	sel.flags(fs)
	user := fs.String("user", "root", "the guest's `user`: root, alice or bob")
	_ = fs.Parse(args)
	name, err := sel.guestName()
	if err != nil {
		return err
	}
	g, err := findGuest(ctx, name)
	if err != nil {
		return err
	}
	cmd := g.ssh(ctx, *user, nil, fs.Args()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return passExit(cmd.Run())
}

// passExit makes the exit status of a command ours.
func passExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exitError(exit.ExitCode())
	}
	return err
}

func runCopy(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("cp", flag.ExitOnError)
	var sel selection
	sel.flags(fs)
	_ = fs.Parse(args)
	name, err := sel.guestName()
	if err != nil {
		return err
	}
	if fs.NArg() < 2 {
		return errors.New("cp: sources and a destination directory wanted")
	}
	g, err := findGuest(ctx, name)
	if err != nil {
		return err
	}
	sources, to := fs.Args()[:fs.NArg()-1], fs.Arg(fs.NArg()-1)
	return g.copyTo(ctx, to, sources...)
}

// copyTo copies files and directories into a directory of the guest, which is made.
func (g *guest) copyTo(ctx context.Context, to string, sources ...string) error {
	args := []string{"-c", "--owner=0", "--group=0"}
	for _, source := range sources {
		abs, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		args = append(args, "-C", filepath.Dir(abs), filepath.Base(abs))
	}
	var stderr strings.Builder
	tar := exec.CommandContext(ctx, "tar", args...)
	tar.Stderr = &stderr
	data, err := tar.StdoutPipe()
	if err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	sendErr := g.send(ctx, data, "mkdir -p "+quote(to)+" && tar -xf - -C "+quote(to))
	_, _ = io.Copy(io.Discard, data) // lets tar end when the guest did not want it all
	if err := tar.Wait(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, stderr.String())
	}
	return sendErr
}
