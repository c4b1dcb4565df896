package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// packages returns what is to be built: the packages that have something to run in a guest, with the names of the
// tests or benchmarks.
func (p *runPlan) packages(ctx context.Context) ([]*build, error) {
	listed, err := listPackages(ctx, p.patterns...)
	if err != nil {
		return nil, err
	}
	prefix, onlyIntegration := "Test", true
	if p.bench != "" {
		prefix, onlyIntegration = "Benchmark", false
	}
	var found []*build
	for _, pkg := range listed {
		names, err := pkg.testFuncs(prefix, onlyIntegration)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			found = append(found, &build{pkg: pkg, names: names})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("run: no package of %s has an integration test", strings.Join(p.patterns, " "))
	}
	return found, nil
}

// A build is a package's test binary in the making.
type build struct {
	pkg    testPackage
	names  []string // of the tests to run
	tree   *tree
	binary string
	done   chan struct{} // closed by the builder when err and binary are set
	err    error
}

// builds are compiled in the order of the list.
type builds struct {
	list []*build
	wg   sync.WaitGroup // the builder
}

// startBuild compiles the test binaries, one after the other, while guests boot. The builder ends with ctx.
func startBuild(ctx context.Context, work string, list []*build) *builds {
	all := &builds{list: list}
	for _, b := range list {
		b.done = make(chan struct{})
	}
	all.wg.Go(func() {
		tree, err := treeAround(ctx, list[0].pkg.Dir)
		for i, b := range list {
			b.tree, b.err = tree, err
			if err == nil {
				b.compile(ctx, filepath.Join(work, strconv.Itoa(i)))
			}
			close(b.done)
		}
	})
	return all
}

// compile links without symbols for a debugger, a third of the bytes to be copied.
func (b *build) compile(ctx context.Context, dir string) {
	b.binary = filepath.Join(dir, filepath.Base(b.pkg.Dir)+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags="+integrationTag, "-ldflags=-s -w", "-o", b.binary, b.pkg.ImportPath)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.err = fmt.Errorf("package %s: %w\n%s", b.pkg.ImportPath, err, out)
	}
}

// wait returns when the binary is there, or could not be built.
func (b *build) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
