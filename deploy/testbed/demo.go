package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// demoSuite is what the demo runs on where the host will not do.
const demoSuite = "trixie"

// runDemo runs demo/run.sh with bin/lictor in its PATH: here where the host has systemd and cgroup v2, else in a guest
// that is thrown away.
func runDemo(ctx context.Context, args []string) error {
	if len(args) != 0 {
		return errors.New("demo: no argument wanted")
	}
	const binary, script = "bin/lictor", "demo/run.sh"
	for _, path := range []string{binary, script} {
		if _, err := os.Stat(path); err != nil {
			return &hintError{fmt.Errorf("demo: %w", err), "run make demo at the top of the checkout"}
		}
	}
	if hostWillDo() {
		return demoHere(ctx, filepath.Dir(binary), script)
	}
	say("demo: no systemd with cgroup v2 here, so in a guest of %s", demoSuite)
	return demoInGuest(ctx, binary)
}

// hostWillDo reports whether PID 1 is systemd (sd_booted(3)) and the cgroup tree is that of version 2.
func hostWillDo() bool {
	if info, err := os.Stat("/run/systemd/system"); err != nil || !info.IsDir() {
		return false
	}
	var fs unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

func demoHere(ctx context.Context, bin, script string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cmd := exec.CommandContext(ctx, script)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return passExit(cmd.Run())
}

func demoInGuest(ctx context.Context, binary string) error {
	dieWithParent()
	g, err := boot(ctx, "demo-"+strconv.Itoa(os.Getpid()), demoSuite, usual, false)
	if err != nil {
		return err
	}
	defer g.kill()
	if err := g.copyTo(ctx, "/usr/local/bin", binary); err != nil {
		return err
	}
	if err := g.copyTo(ctx, "/srv/lictor", "demo"); err != nil {
		return err
	}
	c := &remoteCommand{dir: "/srv/lictor", env: demoEnv(), argv: []string{"demo/run.sh"}}
	status, err := g.run(ctx, c, os.Stdout, nil)
	if err == nil && status != 0 {
		return exitError(status)
	}
	return err
}

// demoEnv says what the terminal is like.
func demoEnv() []string {
	env := []string{"LICTOR_TESTBED=" + demoSuite}
	for _, name := range []string{"TERM", "COLUMNS", "NO_COLOR", "CI"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
