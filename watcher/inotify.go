package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// rearmAfter is the least time between two notices of a file that changes again at once. A cgroup at its limit changes
	// memory.events every 10 ms for as long as it thrashes: it is told of ever more seldom, down to once in rearmMost.
	rearmAfter = 500 * time.Millisecond
	rearmMost  = 2 * time.Second

	// rearmCrowd is how many such files there may be before each is told of more seldom still, so that they cost no more than this
	// many, down to once in rearmCap. That a run has ended is told by another file, and at once.
	rearmCrowd = 32
	rearmCap   = 30 * time.Second

	// batchGap is the least time between batches when they come thick and fast, so that many runs that thrash at once cost
	// few wake-ups.
	batchGap = 50 * time.Millisecond
)

// WatchID names a watch of one Notifier. It is never reused.
type WatchID uint64

// NoticeKind says what a Notice is about.
type NoticeKind uint8

// The kinds of notices. All of them mean "look again": none says how often something happened.
const (
	NoticeChanged  NoticeKind = iota // the file Name may have changed
	NoticeCreated                    // a directory Name was made below the watched one
	NoticeRemoved                    // the directory Name below the watched one was removed
	NoticeGone                       // what was watched is gone; Linux says so since 7.1 or so
	NoticeOverflow                   // notices were lost: look at everything. ID and Name are unset
)

// Notice is one reason to look again.
type Notice struct {
	ID   WatchID
	Kind NoticeKind
	Name string
}

// Notifier is one inotify instance with many watches on cgroup directories and their files. Add, AddChildren, Remove and
// Close may be called from any goroutine, Run from one.
//
// A watch on a cgroup directory reports every change of every file in it, and there is no filter by name; memory.events
// of a thrashing run alone would wake its reader a hundred times a second; and the kernel reports a file of a watched
// directory only while that file's inode happens to be cached. So the files are watched one by one, which pins them, those
// that can change that often with IN_ONESHOT: the kernel drops the watch with its first event, and nothing is sent,
// queued or woken until Run puts it back: at once the first time, after a pause when it fires again. The notice follows
// the watch, so no change goes unseen. cgroup.events, which says that the last process has gone, is told at once and
// always.
type Notifier struct {
	file *os.File
	fd   int // of file; used under mu while !closed
	born time.Time

	mu      sync.Mutex
	closed  bool
	last    WatchID
	watches map[WatchID]*watch
	byWD    map[int32]*subject
	spent   []spentFile // one-shot watches that have fired, in the order of due
}

type watch struct {
	dir  int // O_PATH: a removed cgroup's name can be used again, its directory cannot
	path string
	wds  []int32
}

type subject struct {
	id      WatchID
	name    string // "" for a watch on the directory
	oneShot bool

	// Of a one-shot watch.
	told  time.Time     // when the last notice was made
	pause time.Duration // until it was put back the last time
}

type spentFile struct {
	*subject
	due time.Time
}

// NewNotifier returns a Notifier without watches. It needs no privileges. EMFILE in the error means that the user has
// too many inotify instances (fs.inotify.max_user_instances).
func NewNotifier() (*Notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", os.NewSyscallError("inotify_init1", err))
	}
	return &Notifier{
		file:    os.NewFile(uintptr(fd), "inotify"), // non-blocking, so the runtime's poller waits for it
		fd:      fd,
		born:    time.Now(),
		watches: map[WatchID]*watch{},
		byWD:    map[int32]*subject{},
	}, nil
}

// Add watches the named files of a cgroup directory, each with NoticeChanged. dir may be /proc/self/fd/N; it is opened
// here and then held until Remove, so a later cgroup of the same name is not mistaken for it. A file that does not exist
// (its controller is off) is left out; if none exists the error wraps os.ErrNotExist. A file that is already
// watched is refused with os.ErrExist.
func (n *Notifier) Add(dir string, files ...string) (WatchID, error) {
	return n.add(dir, func(id WatchID, w *watch) error {
		for _, name := range files {
			s := &subject{id: id, name: name, oneShot: name != "cgroup.events"}
			err := n.arm(w, s, unix.IN_MASK_CREATE)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if len(w.wds) == 0 {
			return fmt.Errorf("watch %q: %w", dir, os.ErrNotExist)
		}
		return nil
	})
}

// AddChildren watches a cgroup directory for the creation and removal of cgroups directly below it. Nothing that happens
// inside those wakes anybody.
func (n *Notifier) AddChildren(dir string) (WatchID, error) {
	return n.add(dir, func(id WatchID, w *watch) error {
		return n.arm(w, &subject{id: id}, unix.IN_MASK_CREATE)
	})
}

func (n *Notifier) add(dir string, arm func(WatchID, *watch) error) (WatchID, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("watch: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, errors.Join(fmt.Errorf("watch %q: %w", dir, os.ErrClosed), unix.Close(fd))
	}
	n.last++
	id, w := n.last, &watch{dir: fd, path: dir}
	n.watches[id] = w
	if err := arm(id, w); err != nil {
		n.drop(id)
		return 0, err
	}
	return id, nil
}

// arm adds the kernel's watch for s. The caller holds mu.
func (n *Notifier) arm(w *watch, s *subject, flags uint32) error {
	path := "/proc/self/fd/" + strconv.Itoa(w.dir)
	switch {
	case s.name == "":
		flags |= unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	case s.oneShot:
		flags |= unix.IN_MODIFY | unix.IN_ONESHOT
	default:
		flags |= unix.IN_MODIFY | unix.IN_DELETE_SELF
	}
	if s.name != "" {
		path += "/" + s.name
	}
	wd, err := unix.InotifyAddWatch(n.fd, path, flags)
	if err != nil {
		return fmt.Errorf("watch: %w", &os.PathError{Op: "inotify_add_watch", Path: w.path + "/" + s.name, Err: err})
	}
	if _, known := n.byWD[int32(wd)]; !known {
		w.wds = append(w.wds, int32(wd))
	}
	n.byWD[int32(wd)] = s
	return nil
}

// Remove ends a watch. The watched thing may be gone already, or the id removed.
func (n *Notifier) Remove(id WatchID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(id)
}

func (n *Notifier) drop(id WatchID) {
	w := n.watches[id]
	if w == nil {
		return
	}
	delete(n.watches, id)
	for _, wd := range w.wds {
		delete(n.byWD, wd)
		if !n.closed {
			_, _ = unix.InotifyRmWatch(n.fd, uint32(wd)) // EINVAL: a one-shot watch that has fired, or a removed file
		}
	}
	_ = unix.Close(w.dir) // O_PATH: nothing to lose
	n.spent = slices.DeleteFunc(n.spent, func(f spentFile) bool { return f.id == id })
}

// Close ends all watches and makes Run return.
func (n *Notifier) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return os.ErrClosed
	}
	n.closed = true
	for id := range n.watches {
		n.drop(id)
	}
	return n.file.Close()
}

// Run sends batches of notices, each without duplicates, until ctx is done or the Notifier is closed; then it returns
// nil. Nothing wakes it while nothing happens. A receiver that lets it wait delays notices and loses none. A batch may
// still tell of a watch that was removed while the batch was under way.
func (n *Notifier) Run(ctx context.Context, out chan<- []Notice) error {
	stop := context.AfterFunc(ctx, func() { _ = n.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64<<10)
	var last time.Time
	for {
		batch, err := n.read(ctx, buf)
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		select {
		case out <- batch:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		if now.Sub(last) < batchGap {
			pause(ctx, batchGap)
		}
		last = now
	}
}
