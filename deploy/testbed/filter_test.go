package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testOutput is what a binary run with -test.v=test2json writes; ^ stands for the mark.
const testOutput = `main begins
^=== RUN   TestA
    a_test.go:4: said by A
no newline^=== RUN   TestA/sub
    a_test.go:4: said by the subtest
^--- PASS: TestA/sub (0.00s)
^=== NAME  TestA
^--- PASS: TestA (0.10s)
^=== NAME  
^=== RUN   TestB
^=== PAUSE TestB
^=== NAME  
^=== RUN   TestC
^=== PAUSE TestC
^=== NAME  
^=== RUN   TestD
    a_test.go:7: no such device
^--- SKIP: TestD (0.00s)
^=== NAME  
^=== CONT  TestB
    a_test.go:5: bad
^=== CONT  TestC
^=== RUN   TestC/s1
    a_test.go:6: not here
^--- SKIP: TestC/s1 (0.00s)
^=== NAME  TestC
--- FAIL: TestFake (0.00s)
^--- PASS: TestC (0.00s)
^=== NAME  TestB
^--- FAIL: TestB (0.00s)
^FAIL
main ends
`

func filtered(t *testing.T, f *filter, input string) string {
	t.Helper()
	var out strings.Builder
	f.out = &out
	input = strings.ReplaceAll(input, "^", string(mark))
	for _, b := range []byte(input) { // in the smallest pieces a stream can come in
		if _, err := f.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFilterShowsWhatMatters(t *testing.T) {
	f := &filter{}
	got := filtered(t, f, testOutput)
	const want = `main begins
--- PASS: TestA (0.10s)
    a_test.go:7: no such device
--- SKIP: TestD (0.00s)
    a_test.go:6: not here
--- SKIP: TestC/s1 (0.00s)
--- FAIL: TestFake (0.00s)
--- PASS: TestC (0.00s)
    a_test.go:5: bad
--- FAIL: TestB (0.00s)
FAIL
main ends
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if got, want := f.tally, (tally{passed: 3, failed: 1, skipped: 2}); got != want {
		t.Errorf("tally is %v, want %v", got, want)
	}
	failures := []failure{{test: "TestB", said: "    a_test.go:5: bad\n"}}
	if diff := cmp.Diff(failures, f.failures, cmp.AllowUnexported(failure{})); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestFilterVerbose(t *testing.T) {
	got := filtered(t, &filter{verbose: true}, testOutput)
	want := strings.ReplaceAll(strings.ReplaceAll(testOutput, "newline^", "newline\n"), "^", "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestFilterRawChangesNothing(t *testing.T) {
	f := &filter{verbose: true, raw: true}
	got := filtered(t, f, testOutput)
	if want := strings.ReplaceAll(testOutput, "^", string(mark)); got != want {
		t.Errorf("output (-want +got):\n%s", cmp.Diff(want, got))
	}
	if got, want := f.tally, (tally{passed: 3, failed: 1, skipped: 2}); got != want {
		t.Errorf("tally is %v, want %v", got, want)
	}
}

func TestFilterShowsWhatAnEndInTheMiddleLeft(t *testing.T) {
	f := &filter{}
	got := filtered(t, f, "^=== RUN   TestA\n    a_test.go:4: waiting\npanic: out of patience")
	const want = "--- no result: TestA\n    a_test.go:4: waiting\npanic: out of patience\n"
	if got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	failures := []failure{{test: "TestA", said: "    a_test.go:4: waiting\npanic: out of patience\n"}}
	if diff := cmp.Diff(failures, f.failures, cmp.AllowUnexported(failure{})); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if n := f.ran(); n != 0 {
		t.Errorf("%d tests ran, want 0", n)
	}
}

func TestFilterCountsBenchmarks(t *testing.T) {
	f := &filter{verbose: true}
	filtered(t, f, "^=== RUN   BenchmarkX\nBenchmarkX\nBenchmarkX-2   \t 100\t 2.3 ns/op\n^PASS\n")
	if f.benchmarks != 1 {
		t.Errorf("%d benchmarks, want 1", f.benchmarks)
	}
}
