package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A report is what came of the packages in one suite.
type report struct {
	suite string
	start time.Time
	took  time.Duration
	err   error // of the guest; a failed test is none

	mu     sync.Mutex // of guests that share the tests
	tally  tally
	failed []packageFailure
	panics int // kernels of guests that panicked
}

func (r *report) add(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.add(o.tally)
	if o.failed != nil {
		r.failed = append(r.failed, *o.failed)
	}
}

// A packageFailure is a package whose test binary did not end well.
type packageFailure struct {
	pkg   string
	why   error // exit status, no build
	tests []failure
}

// failureLines bounds what the summary repeats of what a failed test said: the end of a log is often all that is kept.
const failureLines = 8

// String says it all again in few lines: whoever reads only the end of a long log is told what failed and how.
func (f packageFailure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", f.pkg, f.why)
	for _, t := range f.tests {
		fmt.Fprintf(&b, "\n  %s", t.test)
		lines := 0
		for line := range strings.Lines(t.said) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "--- ") {
				continue
			}
			if lines++; lines > failureLines {
				break
			}
			fmt.Fprintf(&b, "\n    %.300s", line)
		}
	}
	return b.String()
}

// problem says why the suite is not well, or nothing.
func (r *report) problem() error {
	switch {
	case r.err != nil:
		return fmt.Errorf("%s: %w", r.suite, r.err)
	case len(r.failed) > 0:
		var all []string
		for _, f := range r.failed {
			all = append(all, f.String())
		}
		return fmt.Errorf("%s: failed: %s", r.suite, strings.Join(all, "\n"))
	case r.tally.ran() == 0:
		return fmt.Errorf("%s: no test ran", r.suite)
	}
	return nil
}

// summary prints a line for each suite and returns their problems.
func summary(reports []*report) error {
	var problems []error
	for _, r := range reports {
		say("%s: %v, in %.0fs", r.suite, r.tally, r.took.Seconds())
		problems = append(problems, r.problem())
	}
	return errors.Join(problems...)
}

// A prefixWriter writes whole lines with a prefix each, so that two suites can share the output.
type prefixWriter struct {
	out    io.Writer
	prefix string
}

// Write takes whole lines: filters and Fprintln give nothing else.
func (w *prefixWriter) Write(b []byte) (int, error) {
	var prefixed bytes.Buffer
	for line := range bytes.Lines(b) {
		prefixed.WriteString(w.prefix)
		prefixed.Write(line)
	}
	if _, err := w.out.Write(prefixed.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
