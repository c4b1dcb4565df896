package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

// An export and an import hold a page of the history at a time, however long it is.
func TestExportIsAStream(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peak := func(dir string, in, out string, args ...string) int64 {
		t.Helper()
		cmd := exec.Command(self, args...)
		cmd.Args[0] = "lictor" // testscript: the binary stands in for the command of its name
		cmd.Env = append(os.Environ(), "LICTOR_STATE_DIR="+dir, "LICTOR_HOST=none", "TEST_NOW=2026-11-23T15:10:00Z", "HOME="+dir,
			"GOGC=10") // the peak is of what is held, hardly of garbage
		if in != "" {
			f, err := os.Open(in)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdin = f
		}
		w, err := os.Create(out)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		for kib := int64(0); ; { // ru_maxrss begins with what the parent has
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				return kib
			case <-time.After(2 * time.Millisecond):
			}
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
				_, _ = fmt.Sscan(rest, &kib)
			}
		}
	}
	measure := func(runs int) (exported, imported int64) {
		t.Helper()
		dir := t.TempDir()
		s, err := events.OpenSQLite(t.Context(), filepath.Join(dir, "lictor.db"), migrations.SQLite)
		if err != nil {
			t.Fatal(err)
		}
		var list []*events.Run
		var es []events.Event
		flush := func() {
			if err := s.Import(t.Context(), list, es); err != nil {
				t.Fatal(err)
			}
			list, es = list[:0], es[:0]
		}
		for i := range runs {
			at := time.Date(2026, 11, 1, 0, 0, i, 0, time.UTC)
			r := &events.Run{Run: events.RunID(fmt.Sprintf("%012d", i)), State: events.StateKilled, Reason: events.ReasonOOM,
				Command: []string{"python3", "embed.py"}, StartedAt: at, EndedAt: &at}
			list = append(list, r)
			es = append(es, events.NewEvent(r, events.KindStarted, 0, at), events.NewEvent(r, events.KindEnded, 0, at))
			if len(list) == 5_000 {
				flush()
			}
		}
		flush()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "all.jsonl")
		exported = peak(dir, "", file, "export")
		imported = peak(t.TempDir(), file, os.DevNull, "import")
		return exported, imported
	}
	var few, fewIn int64
	for range 2 { // one may be over before it is looked at
		out, in := measure(1_000)
		few, fewIn = max(few, out), max(fewIn, in)
	}
	runs := 4_000 // decoded, they are 20 MiB and more
	if os.Getenv("LICTOR_TEST_LONG") != "" {
		runs = 500_000
	}
	many, manyIn := measure(runs)
	t.Logf("export: %d KiB for 2,000 events, %d KiB for %d; import: %d and %d KiB", few, many, 2*runs, fewIn, manyIn)
	if many > few+12<<10 || manyIn > fewIn+12<<10 {
		t.Errorf("export: %d KiB for 2,000 events, %d KiB for %d; import: %d and %d KiB", few, many, 2*runs, fewIn, manyIn)
	}
}
