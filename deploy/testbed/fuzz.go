package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// runFuzz runs every fuzzer of the packages on the host, one after the other: the go command takes one at a time.
func runFuzz(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("fuzz", flag.ExitOnError)
	each := fs.Duration("time", 10*time.Second, "how long each fuzzer runs")
	_ = fs.Parse(args)
	patterns := fs.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	packages, err := listPackages(ctx, patterns...)
	if err != nil {
		return err
	}
	var problems []error
	for _, pkg := range packages {
		names, err := pkg.testFuncs("Fuzz", false)
		if err != nil {
			return err
		}
		for _, name := range names {
			problems = append(problems, fuzz(ctx, pkg.ImportPath, name, *each))
		}
	}
	if len(problems) == 0 {
		return errors.New("fuzz: no fuzzer")
	}
	return errors.Join(problems...)
}

func fuzz(ctx context.Context, pkg, name string, each time.Duration) error {
	say("%s %s", pkg, name)
	cmd := exec.CommandContext(ctx, "go", "test", "-tags="+integrationTag, "-run=^$", "-fuzz=^"+name+"$", "-fuzztime="+each.String(), pkg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", pkg, name, err)
	}
	return nil
}
