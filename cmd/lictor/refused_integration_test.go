//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestK19: commands that cannot be executed. An argument list that is too long for the command is too long for lictor, too: that
// case is tested in package scope.
func TestK19(t *testing.T) {
	eachManager(t, func(b *bed) {
		notExecutable := filepath.Join(b.dir, "data.txt")
		badFormat := filepath.Join(b.dir, "bad-format")
		noInterpreter := filepath.Join(b.dir, "no-interpreter")
		for path, text := range map[string]string{notExecutable: "x", badFormat: "\x7fnot a program", noInterpreter: "#!/no/such/interpreter\n"} {
			mode := os.FileMode(0o755)
			if path == notExecutable {
				mode = 0o644
			}
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				b.Fatal(err)
			}
		}
		for _, tt := range []struct {
			code int
			args []string
		}{
			{127, []string{"no-such-command-anywhere"}},
			{127, []string{"/no/such/file"}},
			{126, []string{notExecutable}},
			{126, []string{b.dir}},
			{126, []string{badFormat}},
			{127, []string{noInterpreter}},
		} {
			r := b.lictor(append([]string{"run", "--"}, tt.args...)...)
			if r.code != tt.code || !strings.Contains(r.stderr, "hint: ") {
				b.Errorf("%.40q: exit status %d, want %d; stderr %.300s", tt.args, r.code, tt.code, r.stderr)
			}
		}
		if kills := b.lictor("kills", "--no-legend"); strings.TrimSpace(kills.stdout) != "" {
			b.Errorf("kill records: %s", kills.stdout)
		}
	})
}

// TestK20: the child is killed while it waits at the barrier.
func TestK20(t *testing.T) {
	asRoot(t, func(b *bed) {
		hit := 0
		for range 10 {
			p := b.start("run", "--", "sleep", "600")
			killed := b.killAtBarrier(p.Process.Pid)
			if !killed {
				b.lictor("stop", string(b.live()))
				b.finishCommand(p)
				continue
			}
			hit++
			r := b.finishCommand(p)
			if r.code != exitRefused || !strings.HasPrefix(r.stderr, "lictor: ") {
				b.Errorf("exit status %d, stderr %q: want 125 and an error", r.code, r.stderr)
			}
			b.nothingLeft()
		}
		if hit == 0 {
			b.Error("no child was caught at the barrier")
		}
		b.Logf("%d of 10 children were killed at the barrier", hit)
	})
}

// killAtBarrier kills the child of a launcher while it waits; false if it got away.
func (b *bed) killAtBarrier(launcher int) bool {
	for range 100000 {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", launcher))
		if err != nil || len(out) == 0 {
			return false
		}
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", launcher))
		for _, file := range threads {
			text, _ := os.ReadFile(file)
			for _, f := range strings.Fields(string(text)) {
				cmdline, _ := os.ReadFile("/proc/" + f + "/cmdline")
				if strings.HasPrefix(string(cmdline), "sleep") {
					return false
				}
				var pid int
				if _, err := fmt.Sscan(f, &pid); err == nil && strings.HasPrefix(string(cmdline), "lictor-barrier") {
					return syscall.Kill(pid, syscall.SIGKILL) == nil
				}
			}
		}
	}
	return false
}
