package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ssh returns a command that runs script in the guest's shell of user. root's commands share the master connection.
func (g *guest) ssh(ctx context.Context, user string, opts []string, script ...string) *exec.Cmd {
	args := []string{
		"-F", "none", "-i", g.key, "-p", strconv.Itoa(g.Port), "-l", user,
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		// The guest is new and reached over the loopback: there is no key to compare.
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
	}
	if user == "root" {
		args = append(args, "-o", "ControlPath="+filepath.Join(g.Sockets, "root"))
	}
	args = append(append(args, opts...), "127.0.0.1")
	return exec.CommandContext(ctx, "ssh", append(args, script...)...)
}

// startMaster opens the connection that root's later commands share. It goes when the guest goes.
func (g *guest) startMaster(ctx context.Context) error {
	// Not CommandContext: the master of a kept guest stays.
	cmd := g.ssh(context.WithoutCancel(ctx), "root", []string{"-M", "-N", "-f"})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ssh master: %w: %s", err, out)
	}
	return nil
}

// output runs a script as root and returns what it printed, without the last newline.
func (g *guest) output(ctx context.Context, script string) (string, error) {
	cmd := g.ssh(ctx, "root", nil, script)
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("guest %q: command: %w: %s", g.Name, err, lastLine(stderr.Bytes()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// quote makes words into a command line for a shell.
func quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
