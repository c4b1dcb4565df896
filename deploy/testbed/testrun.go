package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A testRun is one test binary to be run in a guest.
type testRun struct {
	shipment
	args    []string // -test.… flags, but for -test.v, and the test's own
	verbose bool
	raw     bool
	plain   bool // not in the way that a filter can read: benchmarks print better so
}

// runTests ships a test binary and runs it. It returns an exit status other than 0 when the binary did, and in CI
// when a test was skipped: there nothing may be.
func (g *guest) runTests(ctx context.Context, r *testRun, out io.Writer, signals <-chan os.Signal) (results, int, error) {
	if err := g.ship(ctx, &r.shipment); err != nil {
		return results{}, 0, err
	}
	f := &filter{out: out, verbose: r.verbose, raw: r.raw, printed: time.Now()}
	done := make(chan struct{}) // closed below
	go f.heartbeat(g.Name, done)
	argv := []string{r.guestBinary()}
	if !r.plain {
		argv = append(argv, "-test.v=test2json")
	}
	c := &remoteCommand{dir: r.guestDir(), env: g.testEnv(&r.shipment), argv: append(argv, r.args...)}
	status, err := g.run(ctx, c, f, signals)
	close(done)
	if flushErr := f.flush(); err == nil {
		err = flushErr
	}
	if err == nil && status == 0 && f.skipped > 0 && os.Getenv("CI") == "true" {
		fmt.Fprintf(out, "testbed: %d skipped, and in CI nothing may be\n", f.skipped)
		status = 1
	}
	return f.results, status, err
}

// testEnv is the environment of a test in the guest, besides that of a login shell.
func (g *guest) testEnv(s *shipment) []string {
	env := []string{
		"LICTOR_TESTBED=" + g.Suite,
		"LICTOR_REPO=" + s.guestTree(),
		// On the disk in every suite; /tmp is a tmpfs in some, whose files count as memory.
		"TMPDIR=/var/tmp",
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LICTOR_TEST_") || strings.HasPrefix(v, "CI=") {
			env = append(env, v)
		}
	}
	return env
}

// newTestRun reads a test binary and the checkout around its package's directory.
func newTestRun(ctx context.Context, binary, dir string) (*testRun, error) {
	t, err := treeAround(ctx, dir)
	if err != nil {
		return nil, err
	}
	return newTestRunIn(t, binary, dir)
}

func newTestRunIn(t *tree, binary, dir string) (*testRun, error) {
	rel, err := filepath.Rel(t.root, dir)
	if err != nil {
		return nil, fmt.Errorf("test binary %q: %w", binary, err)
	}
	b, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("test binary: %w", err)
	}
	return &testRun{shipment: shipment{tree: t, binary: b, name: filepath.Base(binary), dir: rel}}, nil
}
