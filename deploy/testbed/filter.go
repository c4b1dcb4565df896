package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A tally counts the results of tests and their subtests.
type tally struct {
	passed, failed, skipped, benchmarks int
}

func (t tally) ran() int { return t.passed + t.failed + t.benchmarks }

func (t *tally) add(u tally) {
	t.passed += u.passed
	t.failed += u.failed
	t.skipped += u.skipped
	t.benchmarks += u.benchmarks
}

func (t tally) String() string {
	s := fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
	if t.benchmarks > 0 {
		s += fmt.Sprintf(", %d benchmarks", t.benchmarks)
	}
	return s
}

// A filter reads the output of a test binary run with -test.v=test2json, in which the lines of the testing package
// begin with the byte 0x16 so that nothing a test prints can be taken for them (cmd/internal/test2json).
//
// It counts results, and prints one line for each test of the top level: what a test that passed has logged is not
// shown. A verbose filter shows everything as it comes.
type filter struct {
	out     io.Writer
	verbose bool
	raw     bool // verbose, and lines keep their marks: somebody upstream reads them

	mu      sync.Mutex // of what follows
	running string     // the test heard of last, with its subtest
	printed time.Time  // when something was last printed
	results
	rest    []byte
	current string                   // the top-level test that unmarked lines belong to
	held    map[string]*bytes.Buffer // what unfinished tests have said
}

// The results of a test binary.
type results struct {
	tally
	failures []failure
}

// A failure is a test of the top level that failed, or ended without a result.
type failure struct {
	test string
	said string // by it and its subtests; nothing when the filter is verbose
}

const mark = '\x16'

func (f *filter) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = append(f.rest, b...)
	for {
		i := bytes.IndexByte(f.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := string(f.rest[:i+1])
		f.rest = f.rest[i+1:]
		if err := f.line(line); err != nil {
			return 0, err
		}
	}
}

// line takes a line with its newline. A mark in its middle follows output that did not end its line.
func (f *filter) line(line string) error {
	said, event, marked := strings.Cut(line, string(mark))
	if f.raw {
		if err := f.print(line); err != nil {
			return err
		}
	}
	if !marked {
		return f.say(said)
	}
	if said != "" {
		if err := f.say(said + "\n"); err != nil {
			return err
		}
	}
	return f.event(event)
}

// say passes on what a test said, or keeps it until the test has a result.
func (f *filter) say(line string) error {
	if strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "/op") {
		f.benchmarks++
	} else if !f.verbose && f.current != "" {
		f.hold(line)
		return nil
	}
	return f.show(line)
}

// show prints a line, without its mark, unless the raw one has been.
func (f *filter) show(line string) error {
	if f.raw {
		return nil
	}
	return f.print(line)
}

func (f *filter) hold(line string) {
	if f.held == nil {
		f.held = make(map[string]*bytes.Buffer)
	}
	if f.held[f.current] == nil {
		f.held[f.current] = new(bytes.Buffer)
	}
	f.held[f.current].WriteString(line)
}

// event handles a line of the testing package: "=== VERB Name", "--- RESULT: Name (0.00s)", or the last one, "PASS"
// or "FAIL". NAME without a name says that what follows belongs to no test.
func (f *filter) event(line string) error {
	words := append(strings.Fields(line), "", "", "")
	kind, verb, name := words[0], strings.TrimSuffix(words[1], ":"), words[2]
	top, _, isSub := strings.Cut(name, "/")
	switch kind {
	case "===":
		f.current, f.running = top, name
	case "---":
		f.count(verb)
		if verb == "FAIL" && !isSub {
			f.failures = append(f.failures, failure{test: top, said: f.saidBy(top)})
		}
		if !f.verbose {
			f.current = top
			f.hold(line)
			if isSub {
				return nil
			}
			return f.finish(verb, line)
		}
	default:
		return f.show(line)
	}
	if !f.verbose {
		return nil
	}
	return f.show(line)
}

func (f *filter) saidBy(test string) string {
	if b := f.held[test]; b != nil {
		return b.String()
	}
	return ""
}

func (f *filter) count(result string) {
	switch result {
	case "PASS":
		f.passed++
	case "FAIL":
		f.failed++
	case "SKIP":
		f.skipped++
	}
}

// finish prints the result of the current test, with all it said unless it passed and all of it ran.
func (f *filter) finish(result, line string) error {
	said := f.held[f.current].String()
	delete(f.held, f.current)
	f.current = ""
	if result == "PASS" && !strings.Contains(said, "--- SKIP: ") {
		return f.print(line)
	}
	return f.print(said)
}

// flush prints what tests without a result have said: the binary ended in their middle.
func (f *filter) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rest) > 0 {
		if err := f.line(string(f.rest) + "\n"); err != nil {
			return err
		}
	}
	f.rest = nil
	for _, name := range slices.Sorted(maps.Keys(f.held)) {
		said := f.saidBy(name)
		f.failures = append(f.failures, failure{test: name, said: said})
		if err := f.print("--- no result: " + name + "\n" + said); err != nil {
			return err
		}
	}
	f.held = nil
	return nil
}

func (f *filter) print(s string) error {
	f.printed = time.Now()
	_, err := io.WriteString(f.out, s)
	return err
}
