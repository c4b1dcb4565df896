//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// TestPythonClient: clients/python does its own tests, with a lictor run that keeps its runs itself and with a daemon.
func TestPythonClient(t *testing.T) {
	t.Run("user", func(t *testing.T) { newBed(t, ModeUser).testPython([]string{"LICTOR_COMMAND=" + installed()}) })
	throughDaemon(t, func(b *bed) { b.testPython([]string{"LICTOR_COMMAND=" + installed(), "LICTOR_TEST_DAEMON=1"}) })
}

// testPython runs tests of the Python module, all unless some are named.
func (b *bed) testPython(env []string, names ...string) {
	b.Helper()
	cmd := b.command("python3", append([]string{"-B", filepath.Join(os.Getenv("LICTOR_REPO"), "clients/python/test_lictor.py")}, names...)...)
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "\nOK") {
		b.Errorf("%v: %s", err, out)
	}
}

// attached: the daemon as it is shipped takes an analysis of a Python program for a child of that, without a lictor command.
func (b *bed) attached() {
	b.serve()
	alice := newUserBed(b.T, ModeSystem, "alice")
	alice.host = client.Path
	alice.testPython([]string{"LICTOR_COMMAND=/nowhere/lictor", "LICTOR_TEST_DAEMON=1"},
		"Run.test_done", "Run.test_inherited", "Run.test_memory", "Run.test_owner", "Run.test_no_command")
}
