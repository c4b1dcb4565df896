package watcher

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// These tests use ordinary directories: inotify is the same there. What is special about cgroups is in
// inotify_integration_test.go.

const eventually = 30 * time.Second

// A runningNotifier is a Notifier with its Run, stopped at the end of the test.
type runningNotifier struct {
	*Notifier
	out    chan []Notice
	cancel context.CancelFunc
	done   chan error
	rest   []Notice // of the last batch
}

func runNotifier(t *testing.T) *runningNotifier {
	t.Helper()
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &runningNotifier{Notifier: n, out: make(chan []Notice), cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx, r.out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := n.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
		goleak.VerifyNone(t, goleak.IgnoreCurrent())
	})
	return r
}

// until returns the notices up to one that equals want.
func (r *runningNotifier) until(t *testing.T, want Notice) []Notice {
	t.Helper()
	var all []Notice
	late := time.After(eventually)
	for {
		for i, n := range r.rest {
			all = append(all, n)
			if n == want {
				r.rest = r.rest[i+1:]
				return all
			}
		}
		select {
		case r.rest = <-r.out:
		case <-late:
			t.Fatalf("no %+v after %v; got %+v", want, eventually, all)
		}
	}
}

// quiet returns the notices of a while.
func (r *runningNotifier) quiet(while time.Duration) []Notice {
	all := r.rest
	r.rest = nil
	end := time.After(while)
	for {
		select {
		case batch := <-r.out:
			all = append(all, batch...)
		case <-end:
			return all
		}
	}
}

func (r *runningNotifier) mustAdd(t *testing.T, dir string, files ...string) WatchID {
	t.Helper()
	id, err := r.Add(dir, files...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func groupDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cgroup.events", "memory.events", "pids.events"} {
		change(t, dir, name)
	}
	return dir
}

func change(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNotifierChanged(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events", "pids.events", "no.such.file")
	other := n.mustAdd(t, groupDir(t), "cgroup.events")
	for _, name := range []string{"cgroup.events", "memory.events", "pids.events", "memory.events"} {
		change(t, dir, name)
		for _, got := range n.until(t, Notice{ID: id, Name: name}) {
			if got.ID == other || got.Kind != NoticeChanged {
				t.Errorf("notice %+v", got)
			}
		}
	}
}

// TestNotifierStorm: a file that changes without end gives a few notices a second, and its neighbour is not delayed.
func TestNotifierStorm(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = os.WriteFile(filepath.Join(dir, "memory.events"), []byte("x"), 0o600)
			}
		}
	}()
	const periods = 4
	storm := n.quiet(periods * rearmAfter)
	if len(storm) < periods/2 || len(storm) > 2*periods {
		t.Errorf("%d notices in %v, want about %d", len(storm), periods*rearmAfter, periods)
	}
	change(t, dir, "cgroup.events")
	n.until(t, Notice{ID: id, Name: "cgroup.events"})
	close(stop)
	<-stopped
}

// TestNotifierLastChange: the last of many changes is always followed by a notice.
func TestNotifierLastChange(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "memory.events")
	path := filepath.Join(dir, "memory.events")
	for round := range 5 {
		last := strconv.Itoa(round)
		for _, text := range []string{"a", "b", last} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for {
			n.until(t, Notice{ID: id, Name: "memory.events"})
			if b, err := os.ReadFile(path); err == nil && string(b) == last {
				break
			}
		}
	}
}

// TestNotifierWaitsForIgnored: a one-shot watch is put back when the kernel has taken it away, not when it fires.
func TestNotifierWaitsForIgnored(t *testing.T) {
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	id, err := n.Add(groupDir(t), "memory.events")
	if err != nil {
		t.Fatal(err)
	}
	wd := n.watches[id].wds[0]
	var batch noticeBatch
	n.event(inotifyEvent{wd: wd, mask: unix.IN_MODIFY}, time.Now(), &batch)
	if len(batch.notices) != 0 {
		t.Errorf("notices %+v before the watch is gone, want none", batch.notices)
	}
	n.event(inotifyEvent{wd: wd, mask: unix.IN_IGNORED}, time.Now(), &batch)
	if diff := cmp.Diff([]Notice{{ID: id, Name: "memory.events"}}, batch.notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

// TestNotifierManyStorms: after any number of changes, every watch is still there.
func TestNotifierManyStorms(t *testing.T) {
	n := runNotifier(t)
	byID := map[WatchID]string{}
	var writers sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 4*rearmAfter)
	defer cancel()
	for range 20 {
		dir := groupDir(t)
		byID[n.mustAdd(t, dir, "memory.events")] = dir
		writers.Go(func() {
			for ctx.Err() == nil {
				change(t, dir, "memory.events")
				time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			}
		})
	}
	n.quiet(4 * rearmAfter)
	writers.Wait()
	n.quiet(2 * rearmAfter)
	for id, dir := range byID {
		change(t, dir, "memory.events")
		n.until(t, Notice{ID: id, Name: "memory.events"})
	}
}

func TestNotifierQuiet(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	n.mustAdd(t, dir, "cgroup.events", "memory.events")
	if _, err := n.AddChildren(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	change(t, dir, "pids.events")
	if _, err := os.ReadFile(filepath.Join(dir, "memory.events")); err != nil {
		t.Fatal(err)
	}
	if got := n.quiet(100 * time.Millisecond); len(got) > 0 {
		t.Errorf("notices %+v, want none", got)
	}
}

func TestNotifierChildren(t *testing.T) {
	n, dir := runNotifier(t), t.TempDir()
	id, err := n.AddChildren(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(t, dir, "a file")
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := n.until(t, Notice{ID: id, Kind: NoticeCreated, Name: "run"})
	if err := os.Remove(filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	all = append(all, n.until(t, Notice{ID: id, Kind: NoticeRemoved, Name: "run"})...)
	if len(all) != 2 {
		t.Errorf("notices %+v, want two", all)
	}
}

func TestNotifierRemove(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events")
	change(t, dir, "memory.events")
	n.until(t, Notice{ID: id, Name: "memory.events"}) // now it waits for its time
	n.Remove(id)
	n.Remove(id)
	change(t, dir, "memory.events")
	change(t, dir, "cgroup.events")
	if got := n.quiet(2 * rearmAfter); len(got) > 0 {
		t.Errorf("notices %+v after Remove, want none", got)
	}
	if w := watches(t, n.Notifier); w != 0 {
		t.Errorf("%d watches after Remove, want none", w)
	}
	n.mustAdd(t, dir, "cgroup.events", "memory.events")
}

// TestNotifierHoldsDirectory: a directory that takes a removed one's name is another one, also for what is put back.
func TestNotifierHoldsDirectory(t *testing.T) {
	n, root := runNotifier(t), t.TempDir()
	dir := filepath.Join(root, "run")
	if err := os.Rename(groupDir(t), dir); err != nil {
		t.Fatal(err)
	}
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events")
	if err := os.Rename(dir, filepath.Join(root, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(groupDir(t), dir); err != nil {
		t.Fatal(err)
	}
	change(t, dir, "memory.events")
	if got := n.quiet(100 * time.Millisecond); len(got) > 0 {
		t.Errorf("notices %+v about a namesake", got)
	}
	for range 3 { // the second and third after the watch was put back
		change(t, filepath.Join(root, "gone"), "memory.events")
		n.until(t, Notice{ID: id, Name: "memory.events"})
	}
	change(t, dir, "memory.events")
	if got := n.quiet(2 * rearmAfter); len(got) > 0 {
		t.Errorf("notices %+v about a namesake", got)
	}
}

func TestNotifierGone(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events")
	change(t, dir, "memory.events")
	n.until(t, Notice{ID: id, Name: "memory.events"})
	if err := os.Remove(filepath.Join(dir, "memory.events")); err != nil {
		t.Fatal(err)
	}
	n.until(t, Notice{ID: id, Kind: NoticeGone, Name: "memory.events"})
	if err := os.Remove(filepath.Join(dir, "cgroup.events")); err != nil {
		t.Fatal(err)
	}
	n.until(t, Notice{ID: id, Kind: NoticeGone, Name: "cgroup.events"})
	n.Remove(id)
}

func TestNotifierRefuses(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	n.mustAdd(t, dir, "cgroup.events")
	before := openFiles(t)
	tests := []struct {
		name  string
		dir   string
		files []string
		want  error
	}{
		{"no directory", filepath.Join(dir, "x"), []string{"cgroup.events"}, os.ErrNotExist},
		{"no file", dir, []string{"x"}, os.ErrNotExist},
		{"a file as directory", filepath.Join(dir, "cgroup.events"), nil, unix.ENOTDIR},
		{"twice", dir, []string{"memory.events", "cgroup.events"}, os.ErrExist},
	}
	for _, tt := range tests {
		if id, err := n.Add(tt.dir, tt.files...); !errors.Is(err, tt.want) {
			t.Errorf("%s: id %d, error %v, want %v", tt.name, id, err, tt.want)
		}
	}
	if w := watches(t, n.Notifier); w != 1 {
		t.Errorf("%d watches, want the first one", w)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Add(dir, "memory.events"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Add after Close: %v, want os.ErrClosed", err)
	}
}

func TestNotifierOverflow(t *testing.T) {
	n, dir := runNotifier(t), groupDir(t)
	id := n.mustAdd(t, dir, "cgroup.events", "memory.events")
	var batch noticeBatch
	n.mu.Lock()
	n.event(inotifyEvent{wd: -1, mask: unix.IN_Q_OVERFLOW}, time.Now(), &batch)
	n.mu.Unlock()
	if diff := cmp.Diff([]Notice{{Kind: NoticeOverflow}, {ID: id, Name: "memory.events"}}, batch.notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
	change(t, dir, "memory.events")
	n.until(t, Notice{ID: id, Name: "memory.events"})
	if w := watches(t, n.Notifier); w > 2 {
		t.Errorf("%d watches, want at most 2", w)
	}
}

func TestNotifierRunAgain(t *testing.T) {
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if err := n.Run(ctx, nil); err != nil {
			t.Fatalf("Run: %v", err)
		}
	}
}

func TestNotifierClose(t *testing.T) {
	before := openFiles(t)
	n := runNotifier(t)
	for range 10 {
		n.mustAdd(t, groupDir(t), "cgroup.events", "memory.events")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-n.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	n.done <- nil
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if err := n.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v, want os.ErrClosed", err)
	}
}

// watches returns how many watches the kernel has for n.
func watches(t *testing.T, n *Notifier) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(n.fd))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "inotify wd:")
}

func TestParseInotify(t *testing.T) {
	event := func(wd int32, mask uint32, name string, size int) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
		b = binary.NativeEndian.AppendUint32(b, mask)
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(size))
		return append(b, append([]byte(name), make([]byte, max(0, size-len(name)))...)...)
	}
	two := append(event(1, unix.IN_MODIFY, "", 0), event(-1, unix.IN_CREATE, "run", 16)...)
	want := []inotifyEvent{{wd: 1, mask: unix.IN_MODIFY}, {wd: -1, mask: unix.IN_CREATE, name: "run"}}
	if diff := cmp.Diff(want, parseInotify(two), cmp.AllowUnexported(inotifyEvent{})); diff != "" {
		t.Errorf("parseInotify (-want +got):\n%s", diff)
	}
	if got := parseInotify(two[:len(two)-1]); len(got) != 1 {
		t.Errorf("a broken event: %+v, want the one before it", got)
	}
}

func FuzzParseInotify(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00run\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range parseInotify(b) {
			if strings.Contains(e.name, "\x00") {
				t.Errorf("name %q", e.name)
			}
		}
	})
}
