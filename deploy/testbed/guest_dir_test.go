package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// standIn is a guest whose qemu is some other program.
func standIn(t *testing.T, cmd *exec.Cmd) *guest {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	dir, err := guestsDir()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{Name: "one", Suite: "trixie", PID: cmd.Process.Pid, Sockets: t.TempDir(), dir: filepath.Join(dir, "one")}
	if g.Start, _, err = processStart(g.PID); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := g.save(); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGuestIsKilledAndForgotten(t *testing.T) {
	t.Setenv("LICTOR_TESTBED_CACHE", t.TempDir())
	cmd := exec.Command("sleep", "1000")
	g := standIn(t, cmd)
	found, err := readGuest(g.dir)
	if err != nil || found.PID != g.PID || !found.alive() {
		t.Fatalf("guest read back: %+v, %v, want %+v, alive", found, err, g)
	}
	found.kill()
	if g.alive() {
		t.Error("the process is alive after kill")
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory after kill: %v, want none", err)
	}
	if _, err := findGuest(context.Background(), "one"); !errors.Is(err, errNoGuest) {
		t.Errorf("findGuest after kill: %v, want %v", err, errNoGuest)
	}
}

func TestGuestIsNotAnotherProcessWithItsPID(t *testing.T) {
	t.Setenv("LICTOR_TESTBED_CACHE", t.TempDir())
	bystander := exec.Command("sleep", "1000")
	g := standIn(t, bystander)
	g.Start--
	if g.alive() {
		t.Error("a process with another start time is taken for the guest")
	}
	g.kill()
	if _, state, err := processStart(bystander.Process.Pid); err != nil || state == "Z" {
		t.Errorf("the bystander is dead: %q, %v", state, err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("second lock: %v, want %v", err, context.Canceled)
	}
	unlock()
	again, err := lock(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
