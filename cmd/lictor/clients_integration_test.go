//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPythonClient: clients/python does its own tests, with a lictor run that keeps its runs itself and with one that hands them over.
func TestPythonClient(t *testing.T) {
	test := func(b *bed, env ...string) {
		cmd := b.command("python3", "-B", filepath.Join(os.Getenv("LICTOR_REPO"), "clients/python/test_lictor.py"))
		cmd.Env = append(append(cmd.Env, "LICTOR_COMMAND="+installed()), env...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "\nOK") {
			b.Errorf("%v: %s", err, out)
		}
	}
	t.Run("user", func(t *testing.T) { test(newBed(t, ModeUser)) })
	throughDaemon(t, func(b *bed) { test(b, "LICTOR_TEST_DAEMON=1") })
}
