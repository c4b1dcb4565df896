package events_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// Many launchers start at once on a store that does not exist yet, while somebody reads it all the time.
func TestSQLiteProcesses(t *testing.T) {
	const processes = 20
	path := filepath.Join(t.TempDir(), "state", "lictor.db")
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	readers.Go(func() { readUntil(t, path, stop) })
	for p := range processes {
		writers.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childStore+"="+path, childName+fmt.Sprintf("=p%02d", p))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v: %s", p, err, out)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()

	s := openAt(t, path)
	runs, err := s.Runs(t.Context(), events.RunQuery{States: []events.State{events.StateKilled}})
	if err != nil {
		t.Fatal(err)
	}
	kills, err := s.KillsSince(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if want := processes * childRuns; len(runs) != want || kills != want {
		t.Errorf("%d ended runs and %d kills, want %d", len(runs), kills, want)
	}
}

// Several handles in one process, on a store that does not exist yet.
func TestSQLiteHandles(t *testing.T) {
	for round := range 10 {
		path := filepath.Join(t.TempDir(), fmt.Sprint(round), "lictor.db")
		var wg sync.WaitGroup
		for h := range 8 {
			wg.Go(func() {
				if err := launch(t.Context(), path, fmt.Sprintf("h%d", h), io.Discard); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func readUntil(t *testing.T, path string, stop <-chan struct{}) {
	s, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	position := int64(0)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := s.Events(t.Context(), events.EventQuery{After: position, Cursor: &position}); err != nil {
			t.Errorf("reader: %v", err)
			return
		}
	}
}

// A process that is killed somewhere between two records leaves every acknowledged one, and a database in order.
func TestSQLiteKilledWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	s := openAt(t, path)
	for round := range 20 {
		for _, id := range killedAfter(t, path, round) {
			r, err := s.Run(t.Context(), events.RunID(id))
			if err != nil || r.State != events.StateKilled {
				t.Errorf("run %s was acknowledged, then its process was killed: %+v, %v", id, r, err)
			}
		}
	}
}

// killedAfter starts a child, kills it a little after its first runs were acknowledged, and returns all that were.
func killedAfter(t *testing.T, path string, round int) (acknowledged []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childStore+"="+path, childName+fmt.Sprintf("=r%02d", round))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for len(acknowledged) < 1+round%(childRuns-1) && lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
	}
	if len(acknowledged) == 0 {
		t.Errorf("round %d: the child ended before its first run", round)
	}
	<-time.After(time.Duration(round) * 300 * time.Microsecond) // to hit another place each time
	cmd.Process.Kill()
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
	}
	cmd.Wait()
	return acknowledged
}
