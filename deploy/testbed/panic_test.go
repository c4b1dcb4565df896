package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// ended is a guest whose process is gone and whose console said something.
func ended(t *testing.T, said string) *guest {
	t.Helper()
	g := &guest{Name: "g", dir: t.TempDir()}
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	g.PID = cmd.Process.Pid
	if err := os.WriteFile(g.console(), []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// Only a guest whose kernel has panicked is replaced, and not for ever.
func TestPanickedGuestIsReplaced(t *testing.T) {
	r := &report{suite: "trixie"}
	for name, err := range map[string]error{
		"power cut":      ended(t, "[ 1.0] reboot: Power down").gone(),
		"boot too long":  fmt.Errorf("boot: %w\n%w", errEnded, ended(t, "").gone()),
		"another error":  errors.New("no image"),
		"said by a test": errors.New("output: " + kernelPanic),
	} {
		if r.again(err) {
			t.Errorf("%s: replaced", name)
		}
	}
	panicked := fmt.Errorf("boot: %w\n%w", errEnded, ended(t, "[ 4.8] "+kernelPanic+": Fatal exception in interrupt").gone())
	for i := range maxPanics {
		if !r.again(panicked) {
			t.Errorf("panic %d: not replaced", i)
		}
	}
	if r.again(panicked) {
		t.Error("replaced for ever")
	}
}
