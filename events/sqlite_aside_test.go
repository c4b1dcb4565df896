package events_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// damage overwrites a part of a file.
func damage(t *testing.T, path string, at, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(strings.Repeat("garbage!", n/8)), int64(at))
	must(t, err)
}

// wantAside checks that there are as many files that were set aside, and an alarm for each.
func wantAside(t *testing.T, s *events.SQLite, path string, n int) {
	t.Helper()
	files, err := filepath.Glob(path + ".damaged-*Z")
	must(t, err)
	if len(files) != n {
		t.Errorf("set aside: %q, want %d", files, n)
	}
	es, err := s.Events(t.Context(), events.EventQuery{Kinds: []events.Kind{events.KindStoreReplaced}})
	must(t, err)
	if len(es) != n || n > 0 && !strings.Contains(string(es[0].Detail), files[0]) {
		t.Errorf("alarms %v, want %d that names %v", es, n, files)
	}
}

// S3: whatever is in the file, lictor runs on with a new one, and says so.
func TestS3(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) { damage(t, path, 0, 4096) },
		"first page":  func(t *testing.T, path string) { damage(t, path, 100, 3900) },
		"cut off":     func(t *testing.T, path string) { must(t, os.Truncate(path, 5000)) },
		"text":        func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("hello, world\n"), 0o600)) },
		"everything but the first page": func(t *testing.T, path string) {
			fi, err := os.Stat(path)
			must(t, err)
			damage(t, path, 4096, int(fi.Size())-4096)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lictor.db")
			s, err := events.OpenSQLite(t.Context(), path, migrations.SQLite)
			must(t, err)
			fillStore(t, s, "a", 20)
			must(t, s.Close())
			must(t, os.Remove(path+"-wal")) // the log would repair it
			spoil(t, path)
			s = openAt(t, path)
			fillStore(t, s, "b", 3)
			runs, err := s.Runs(t.Context(), events.RunQuery{Prefix: "b"})
			must(t, err)
			if len(runs) != 3 {
				t.Errorf("%d runs, want 3", len(runs))
			}
			wantAside(t, s, path, 1)
			if err := s.Check(t.Context()); err != nil {
				t.Errorf("the new one: %v", err)
			}
		})
	}
}

// S3: damage where nobody looks is found by Check.
func TestS3Check(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	s := openAt(t, path)
	fillStore(t, s, "a", 50)
	must(t, s.Check(t.Context()))
	must(t, s.Close())
	must(t, os.Remove(path+"-wal"))
	fi, err := os.Stat(path)
	must(t, err)
	damage(t, path, int(fi.Size())-3*4096, 4096)
	s = openAt(t, path)
	err = s.Check(t.Context())
	if !errors.Is(err, events.ErrDamaged) {
		t.Fatalf("check: %v, want ErrDamaged", err)
	}
	must(t, s.Replace(t.Context(), err))
	must(t, s.Check(t.Context()))
	wantAside(t, s, path, 1)
}

// Handles of other processes notice that the file was set aside, or removed, before a write counts.
func TestS3Moved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	other := openAt(t, path)
	fillStore(t, other, "a", 2)
	s := openAt(t, path)
	must(t, s.Replace(t.Context(), errors.New("a test")))
	must(t, other.Begin(t.Context(), eventstest.NewRun("bbbbbbbbbbbb")))
	if runs, err := s.Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 {
		t.Errorf("in the new file are %d runs, %v; want the one that was begun after", len(runs), err)
	}
	if runs, err := other.Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 {
		t.Errorf("the other handle reads %d runs, %v", len(runs), err)
	}
	wantAside(t, s, path, 1)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		must(t, os.Remove(path+suffix))
	}
	must(t, other.Begin(t.Context(), eventstest.NewRun("cccccccccccc")))
	if runs, err := s.Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 || runs[0].Run != "cccccccccccc" {
		t.Errorf("after the file was removed: %d runs, %v", len(runs), err)
	}
}

// Many handles find the damage at once: one file is set aside, and nothing that was acknowledged afterwards is lost.
func TestS3AtOnce(t *testing.T) {
	for round := range 5 {
		path := filepath.Join(t.TempDir(), "lictor.db")
		must(t, os.WriteFile(path, []byte(strings.Repeat("no database. ", 1000)), 0o600))
		var wg sync.WaitGroup
		for h := range 8 {
			wg.Go(func() {
				s, err := events.OpenSQLite(t.Context(), path, migrations.SQLite)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if err := s.Begin(t.Context(), eventstest.NewRun(events.RunID(fmt.Sprintf("h%d", h)))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := openAt(t, path)
		runs, err := s.Runs(t.Context(), events.RunQuery{})
		must(t, err)
		if len(runs) != 8 {
			t.Errorf("round %d: %d runs, want 8", round, len(runs))
		}
		wantAside(t, s, path, 1)
	}
}
