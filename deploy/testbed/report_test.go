package main

import (
	"errors"
	"strings"
	"testing"
)

func TestPackageFailureNamesTestsAndReasons(t *testing.T) {
	f := packageFailure{
		pkg: "example.org/p",
		why: errors.New("exit status 1"),
		tests: []failure{
			{test: "TestA", said: "    --- PASS: TestA/fine (0.00s)\n\n    a_test.go:4: got 1, want 2\n"},
			{test: "TestB", said: strings.Repeat("    b_test.go:5: again\n", failureLines+1)},
		},
	}
	want := "example.org/p: exit status 1\n  TestA\n    a_test.go:4: got 1, want 2\n  TestB" +
		strings.Repeat("\n    b_test.go:5: again", failureLines)
	if got := f.String(); got != want {
		t.Errorf("failure is %q, want %q", got, want)
	}
}
