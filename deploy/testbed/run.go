package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
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
	hardware hardware
	guests   int  // of each suite, which share its tests
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
	p.hardware.flags(fs)
	fs.IntVar(&p.guests, "guests", 1, "share the tests of a suite among at most `n` guests, as far as there are processors and memory for them")
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
	if p.keep || p.bench != "" {
		p.guests = 1
	}
	p.guests = max(1, min(p.guests, roomFor(p.hardware.MiB, availableMiB(), runtime.NumCPU())/len(p.suites)))
	return p, nil
}

// roomFor is how many guests of mib MiB there is room for. qemu takes some memory for itself, and so does the compiler. An emulated guest
// keeps a processor busy: four on two were slower than two, and tests ran out of patience.
func roomFor(mib, available, processors int) int { return min((available-2048)/(mib+512), processors) }

// availableMiB is MemAvailable, see proc_meminfo(5).
func availableMiB() int {
	text, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	var kB int
	_, _ = fmt.Sscan(rest, &kB)
	return kB >> 10
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

// A part is some tests of a package, for one guest.
type part struct {
	*build
	names []string
	n, of int // which of how many
}

func (p part) String() string {
	if p.of == 1 {
		return p.pkg.ImportPath
	}
	return fmt.Sprintf("%s (%d of %d)", p.pkg.ImportPath, p.n, p.of)
}

// partSize is how many tests a part has, where guests share them: enough that a guest is not often waited for at the end.
const partSize = 20

// parts are the tests in their order. The last ones treat a guest worst: nothing but their like comes after them.
func (p *runPlan) parts(list []*build) []part {
	var parts []part
	for _, b := range list {
		size := len(b.names)
		if p.guests > 1 && p.run == "" {
			size = partSize
		}
		chunks := slices.Collect(slices.Chunk(b.names, size))
		for i, names := range chunks {
			parts = append(parts, part{b, names, i + 1, len(chunks)})
		}
	}
	return parts
}

// inSuite shares the tests among the suite's guests: each takes the next part when it is through with one.
func (p *runPlan) inSuite(ctx context.Context, r *report, built *builds) error {
	defer func() { r.took = time.Since(r.start) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make(chan part)
	var guests sync.WaitGroup
	for i := range p.guests {
		guests.Go(func() {
			if err := p.inGuests(ctx, r, i, parts); err != nil {
				cancel(err)
			}
		})
	}
	for _, next := range p.parts(built.list) {
		select {
		case parts <- next:
		case <-ctx.Done(): // of a guest that is gone, or of everything
		}
	}
	close(parts)
	guests.Wait()
	return context.Cause(ctx)
}

// inGuests runs parts in a guest, and in those that take its place.
func (p *runPlan) inGuests(ctx context.Context, r *report, number int, parts <-chan part) error {
	g, err := p.guest(ctx, r, number)
	if err != nil {
		return err
	}
	defer func() {
		if g != nil && !p.keep {
			g.kill()
		}
	}()
	for next := range parts {
		if err := next.wait(ctx); err != nil {
			return err
		}
		for {
			o, err := p.inGuest(ctx, g, next, r.suite)
			if err == nil {
				r.add(o)
				break
			}
			if p.keep || !r.again(err) {
				r.add(o)
				return err
			}
			g.kill()
			if g, err = p.guest(ctx, r, number); err != nil {
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if !errors.Is(err, errPanicked) || r.panics == maxPanics {
		return false
	}
	r.panics++
	fmt.Printf("testbed: %s: the kernel of the guest panicked, which emulation makes it do now and then; again, in a fresh one\n%v\n", r.suite, err)
	return true
}

// hardwareOf is the hardware of a suite's guests. Guests at the same time that have more processors than there are wait for each other:
// one that holds a lock is not running. Two such guests of two processors were a third slower than with one each. So all suites but
// the last have one each then, which is a machine that exists, too, and in the last one things happen truly at once.
func (p *runPlan) hardwareOf(suite string, processors int) hardware {
	h := p.hardware
	if p.together && processors < len(p.suites)*p.guests*h.CPUs && suite != p.suites[len(p.suites)-1] {
		h.CPUs = 1
	}
	return h
}

func (p *runPlan) guest(ctx context.Context, r *report, number int) (*guest, error) {
	if p.keep {
		return keptGuest(ctx, r.suite, r.suite, p.hardware)
	}
	name := r.suite + "-" + strconv.Itoa(os.Getpid())
	if number > 0 {
		name += "-" + strconv.Itoa(number+1)
	}
	for {
		g, err := boot(ctx, name, r.suite, p.hardwareOf(r.suite, runtime.NumCPU()), false)
		if err == nil || !r.again(err) {
			return g, err
		}
	}
}

// An outcome is what came of a part.
type outcome struct {
	tally  tally
	failed *packageFailure // nil: it did not
}

// inGuest runs a part and prints what "go test" would have. Its error is that of the guest: a failed test is in the outcome.
func (p *runPlan) inGuest(ctx context.Context, g *guest, b part, suite string) (outcome, error) {
	out := &prefixWriter{out: os.Stdout, prefix: suite + "  "}
	start := time.Now()
	res, err := p.runPart(ctx, g, b, out)
	took := time.Since(start).Seconds()
	if err == nil {
		fmt.Fprintf(out, "ok  \t%v\t%.1fs\n", b, took)
		return outcome{tally: res.tally}, nil
	}
	fmt.Fprintf(out, "FAIL\t%v\t%.1fs\t%v\n", b, took, err)
	o := outcome{res.tally, &packageFailure{pkg: b.String(), why: err, tests: res.failures}}
	if g.alive() && !g.panicked() {
		return o, context.Cause(ctx)
	}
	return o, fmt.Errorf("guest %q: gone: %w", g.Name, g.gone())
}

func (p *runPlan) runPart(ctx context.Context, g *guest, b part, out io.Writer) (results, error) {
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
