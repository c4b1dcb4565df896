package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// packageDeadline ends a package's tests in one guest with a dump of their goroutines.
func packageDeadline() time.Duration {
	if os.Getenv("LICTOR_TEST_LONG") != "" {
		return 4 * time.Hour
	}
	return time.Hour
}

// A runPlan says what is run where.
type runPlan struct {
	suites   []string
	patterns []string // of packages
	run      string   // regular expressions of tests and benchmarks, empty for none
	bench    string
	count    int
	mib      int
	keep     bool // use the kept guest of each suite
	together bool // the guests run at the same time
	verbose  bool
}

func parseRunPlan(args []string) (*runPlan, error) {
	p := &runPlan{}
	fs := flag.NewFlagSet("run", flag.ExitOnError)
	suiteList := fs.String("suite", "", "the `suites`, separated by commas")
	fs.StringVar(&p.run, "run", "", "run the tests that match `regexp`, with a build tag or not; default: all with the integration tag")
	fs.StringVar(&p.bench, "bench", "", "run the benchmarks that match `regexp`, and no tests")
	fs.IntVar(&p.count, "count", 1, "run each test `n` times")
	fs.IntVar(&p.mib, "mem", defaultMiB, "memory of the guests in `MiB`")
	fs.BoolVar(&p.keep, "keep", false, "use the kept guest, and boot it if there is none")
	fs.BoolVar(&p.together, "together", false, "run the suites at the same time")
	fs.BoolVar(&p.verbose, "v", false, "show all that tests say")
	_ = fs.Parse(args)
	if p.patterns = fs.Args(); len(p.patterns) == 0 {
		p.patterns = []string{"./..."}
	}
	if *suiteList == "" {
		return nil, &hintError{errors.New("run: no suite named"), "add --suite bookworm,trixie"}
	}
	p.suites = strings.Split(*suiteList, ",")
	for _, suite := range p.suites {
		if err := checkSuite(suite); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func runRun(ctx context.Context, args []string) error {
	plan, err := parseRunPlan(args)
	if err != nil {
		return err
	}
	dieWithParent()
	packages, err := plan.packages(ctx)
	if err != nil {
		return err
	}
	// Images first: two builds at once help nobody.
	for _, suite := range plan.suites {
		if _, err := ensureImage(ctx, suite); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "testbed-run-")
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithCancel(ctx)
	built := startBuild(ctx, work, packages)
	defer built.wg.Wait()
	defer cancel()
	return summary(plan.inSuites(ctx, built))
}

// inSuites runs the packages in a guest of each suite.
func (p *runPlan) inSuites(ctx context.Context, built *builds) []*report {
	reports := make([]*report, len(p.suites))
	var wg sync.WaitGroup
	for i, suite := range p.suites {
		reports[i] = &report{suite: suite, start: time.Now()}
		do := func() { reports[i].err = p.inSuite(ctx, reports[i], built) }
		if p.together {
			wg.Go(do)
		} else {
			do()
		}
	}
	wg.Wait()
	return reports
}

func (p *runPlan) inSuite(ctx context.Context, r *report, built *builds) error {
	defer func() { r.took = time.Since(r.start) }()
	g, err := p.guest(ctx, r)
	if err != nil {
		return err
	}
	defer func() {
		if g != nil && !p.keep {
			g.kill()
		}
	}()
	for _, b := range built.list {
		if err := b.wait(ctx); err != nil {
			return err
		}
		for {
			tally, failed := r.tally, len(r.failed)
			err := p.inGuest(ctx, g, b, r)
			if err == nil {
				break
			}
			if p.keep || !r.again(err) {
				return err
			}
			r.tally, r.failed = tally, r.failed[:failed]
			g.kill()
			if g, err = p.guest(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxPanics is how often a guest is booted anew in a run because its kernel has panicked.
const maxPanics = 2

// again reports whether a guest that is gone is to be replaced by a fresh one, in which its package runs anew: its kernel has panicked. That
// happens when emulation on several threads executes an instruction that another processor of the guest is about to patch (a
// static key, see jump_label in the kernel); nothing that is tested here can do that.
func (r *report) again(err error) bool {
	if !errors.Is(err, errPanicked) || r.panics == maxPanics {
		return false
	}
	r.panics++
	fmt.Printf("testbed: %s: the kernel of the guest panicked, which emulation makes it do now and then; again, in a fresh one\n%v\n", r.suite, err)
	return true
}

func (p *runPlan) guest(ctx context.Context, r *report) (*guest, error) {
	if p.keep {
		return keptGuest(ctx, r.suite, r.suite, p.mib)
	}
	for {
		g, err := boot(ctx, r.suite+"-"+strconv.Itoa(os.Getpid()), r.suite, p.mib, false)
		if err == nil || !r.again(err) {
			return g, err
		}
	}
}

// inGuest runs one package's tests and prints what "go test" would have. Its error is that of the guest: a failed
// test is in the report.
func (p *runPlan) inGuest(ctx context.Context, g *guest, b *build, r *report) error {
	out := &prefixWriter{out: os.Stdout, prefix: r.suite + "  "}
	start := time.Now()
	res, err := p.runBuild(ctx, g, b, out)
	took := time.Since(start).Seconds()
	r.tally.add(res.tally)
	if err == nil {
		fmt.Fprintf(out, "ok  \t%s\t%.1fs\n", b.pkg.ImportPath, took)
		return nil
	}
	fmt.Fprintf(out, "FAIL\t%s\t%.1fs\t%v\n", b.pkg.ImportPath, took, err)
	r.failed = append(r.failed, packageFailure{pkg: b.pkg.ImportPath, why: err, tests: res.failures})
	if g.alive() && !g.panicked() {
		return context.Cause(ctx)
	}
	return fmt.Errorf("guest %q: gone: %w", g.Name, g.gone())
}

func (p *runPlan) runBuild(ctx context.Context, g *guest, b *build, out io.Writer) (results, error) {
	if b.err != nil {
		return results{}, b.err
	}
	tr, err := newTestRunIn(b.tree, b.binary, b.pkg.Dir)
	if err != nil {
		return results{}, err
	}
	tr.verbose, tr.plain, tr.args = p.verbose, p.bench != "" && !p.verbose, p.testArgs(b.names)
	res, status, err := g.runTests(ctx, tr, out, nil)
	switch {
	case err != nil:
		return res, err
	case status != 0:
		return res, fmt.Errorf("exit status %d", status)
	case res.ran() == 0 && p.run == "":
		return res, errors.New("no test ran")
	}
	return res, nil
}

// testArgs are the flags of a test binary.
func (p *runPlan) testArgs(names []string) []string {
	run := p.run
	switch {
	case p.bench != "":
		return []string{"-test.run=^$", "-test.bench=" + p.bench, "-test.benchmem", "-test.count=" + strconv.Itoa(p.count)}
	case run == "":
		run = "^(" + strings.Join(names, "|") + ")$"
	}
	return []string{
		"-test.run=" + run, "-test.count=" + strconv.Itoa(p.count),
		"-test.timeout=" + packageDeadline().String(), "-test.paniconexit0",
	}
}
