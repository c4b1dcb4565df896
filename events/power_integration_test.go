//go:build integration

package events_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// powerOff ends a file system as a power failure does: what is in the page cache only never gets to the disk (ext4's shutdown without
// flushing its journal, which xfstests uses for the same).
func powerOff(t *testing.T, dir string) {
	t.Helper()
	const (
		ext4Shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
		withoutLogging = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.IoctlSetPointerInt(fd, ext4Shutdown, withoutLogging))
}

// S2: the power fails in the middle of writing, 15 times, in the long test 50. Every record that was acknowledged is there afterwards, and the database is
// sound.
func TestS2(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	dir := t.TempDir()
	command := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	command("truncate", "-s", "64M", image)
	command("mkfs.ext4", "-q", image)
	command("modprobe", "loop")
	path := filepath.Join(dir, "state", "lictor.db")
	acknowledged := map[events.RunID]bool{}
	torn, rounds := 0, 15
	if os.Getenv("LICTOR_TEST_LONG") != "" {
		rounds = 50
	}
	for round := range rounds {
		command("mount", "-o", "loop", image, dir)
		writer := exec.Command(os.Args[0])
		writer.Env = append(os.Environ(), childStore+"="+path, childName+fmt.Sprintf("=%02d", round), childForever+"=1")
		out, err := writer.StdoutPipe()
		must(t, err)
		must(t, writer.Start())
		lines := make(chan events.RunID, 1000)
		go func() {
			defer close(lines)
			for s := bufio.NewScanner(out); s.Scan(); {
				lines <- events.RunID(s.Text())
			}
		}()
		first, ok := <-lines
		if !ok {
			t.Fatalf("round %d: the writer wrote nothing", round)
		}
		acknowledged[first] = true
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		powerOff(t, dir)
		if err := writer.Wait(); err != nil {
			torn++
		}
		for id := range lines {
			acknowledged[id] = true
		}
		command("umount", dir)

		command("mount", "-o", "loop", image, dir)
		s := openAt(t, path)
		must(t, s.Check(t.Context()))
		runs, err := s.Runs(t.Context(), events.RunQuery{States: []events.State{events.StateKilled}})
		must(t, err)
		there := map[events.RunID]bool{}
		for _, r := range runs {
			there[r.Run] = true
		}
		for id := range acknowledged {
			if !there[id] {
				t.Errorf("round %d: run %s was acknowledged and is not there", round, id)
			}
		}
		must(t, s.Close())
		command("umount", dir)
	}
	if torn < rounds*4/5 {
		t.Errorf("the power failed in the middle of writing %d times only", torn)
	}
	t.Logf("%d acknowledged runs", len(acknowledged))
}
