package watcher

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// read waits for events or for the time to put a one-shot watch back, and returns what there is to look at.
func (n *Notifier) read(ctx context.Context, buf []byte) ([]Notice, error) {
	err := n.file.SetReadDeadline(n.nextDue())
	if ctx.Err() != nil { // the deadline that Run's AfterFunc sets may have been overwritten just now
		return nil, nil
	}
	size := 0
	if err == nil {
		size, err = n.file.Read(buf)
	}
	var batch noticeBatch
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, os.ErrClosed
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	for _, e := range parseInotify(buf[:size]) {
		n.event(e, now, &batch)
	}
	n.rearmDue(now, &batch)
	return batch.notices, nil
}

func (n *Notifier) nextDue() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.spent) == 0 {
		return time.Time{}
	}
	return n.spent[0].due
}

func (n *Notifier) event(e inotifyEvent, now time.Time, batch *noticeBatch) {
	if e.mask&unix.IN_Q_OVERFLOW != 0 {
		n.overflow(now, batch)
		return
	}
	s, ok := n.byWD[e.wd]
	if !ok {
		return // removed
	}
	switch {
	case s.oneShot:
		// Its IN_MODIFY comes before the kernel takes the watch away, and a watch put back in between goes with it (seen
		// once in 300 times, under emulation mostly). The IN_IGNORED comes after.
		if e.mask&unix.IN_IGNORED != 0 {
			n.forget(e.wd, s.id)
			n.fired(s, now, batch)
		}
	case e.mask&unix.IN_MODIFY != 0:
		batch.add(Notice{ID: s.id, Kind: NoticeChanged, Name: s.name})
	case e.mask&unix.IN_CREATE != 0 && e.mask&unix.IN_ISDIR != 0:
		batch.add(Notice{ID: s.id, Kind: NoticeCreated, Name: e.name})
	case e.mask&unix.IN_DELETE != 0 && e.mask&unix.IN_ISDIR != 0:
		batch.add(Notice{ID: s.id, Kind: NoticeRemoved, Name: e.name})
	case e.mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0:
		batch.add(Notice{ID: s.id, Kind: NoticeGone, Name: s.name})
		if e.mask&unix.IN_IGNORED != 0 {
			n.forget(e.wd, s.id)
		}
	}
}

func (n *Notifier) forget(wd int32, id WatchID) {
	delete(n.byWD, wd)
	if w := n.watches[id]; w != nil {
		for i, have := range w.wds {
			if have == wd {
				w.wds = append(w.wds[:i], w.wds[i+1:]...)
				break
			}
		}
	}
}

// fired puts a one-shot watch back, now or, if it had just been put back, later.
func (n *Notifier) fired(s *subject, now time.Time, batch *noticeBatch) {
	if s.pause = nextPause(s.pause, now.Sub(s.told), len(n.spent)); s.pause > 0 {
		n.postpone(s, onGrid(n.born, now.Add(s.pause), s.pause))
		return
	}
	n.rearm(s, now, batch)
}

// nextPause is for how long a one-shot watch is left off that was put back after the last pause and has fired again after the given
// time, beside so many others: longer and longer, until the file has been quiet for as long as that.
func nextPause(last, after time.Duration, others int) time.Duration {
	if after >= max(rearmAfter, last) {
		return 0
	}
	most := min(rearmMost*time.Duration(1+others/rearmCrowd), rearmCap)
	return min(max(2*last, rearmAfter), most)
}

// onGrid is the time nearest to t that is a multiple of pause after born: many files that change without end are put back, and looked
// at, together.
func onGrid(born, t time.Time, pause time.Duration) time.Time {
	return born.Add(t.Sub(born).Round(pause))
}

func (n *Notifier) postpone(s *subject, due time.Time) {
	i, _ := slices.BinarySearchFunc(n.spent, due, func(f spentFile, t time.Time) int { return f.due.Compare(t) })
	n.spent = slices.Insert(n.spent, i, spentFile{subject: s, due: due})
}

// rearmDue puts the one-shot watches back whose time has come, or will have within the next gap.
func (n *Notifier) rearmDue(now time.Time, batch *noticeBatch) {
	horizon := now.Add(batchGap)
	for len(n.spent) > 0 && !n.spent[0].due.After(horizon) {
		s := n.spent[0].subject
		n.spent = n.spent[1:]
		n.rearm(s, now, batch)
	}
}

// rearm puts a watch back and then says to look: whoever looks sees what happened before, and the watch what happens
// after.
func (n *Notifier) rearm(s *subject, now time.Time, batch *noticeBatch) {
	w := n.watches[s.id]
	if w == nil {
		return
	}
	kind := NoticeChanged
	if err := n.arm(w, s, 0); errors.Is(err, os.ErrNotExist) {
		kind = NoticeGone
	} else if err != nil { // ENOSPC, ENOMEM: go on by looking at it, and try again
		n.postpone(s, now.Add(rearmAfter))
	}
	s.told = now
	batch.add(Notice{ID: s.id, Kind: kind, Name: s.name})
}

// overflow is told that events are lost. A one-shot watch whose events were lost is gone, so all of them are put back.
func (n *Notifier) overflow(now time.Time, batch *noticeBatch) {
	batch.add(Notice{Kind: NoticeOverflow})
	for wd, s := range maps.Clone(n.byWD) {
		if s.oneShot {
			n.forget(wd, s.id)
			n.rearm(s, now, batch)
		}
	}
}

// noticeBatch keeps notices in order and each of them once.
type noticeBatch struct {
	notices []Notice
	seen    map[Notice]struct{}
}

func (b *noticeBatch) add(n Notice) {
	if _, ok := b.seen[n]; ok {
		return
	}
	if b.seen == nil {
		b.seen = map[Notice]struct{}{}
	}
	b.seen[n] = struct{}{}
	b.notices = append(b.notices, n)
}

type inotifyEvent struct {
	wd   int32
	mask uint32
	name string
}

// parseInotify takes apart what one read(2) returned. The kernel never breaks an event; a rest that is not one is
// dropped.
func parseInotify(b []byte) []inotifyEvent {
	var events []inotifyEvent
	for len(b) >= unix.SizeofInotifyEvent {
		e := inotifyEvent{wd: int32(binary.NativeEndian.Uint32(b)), mask: binary.NativeEndian.Uint32(b[4:])}
		size := uint64(binary.NativeEndian.Uint32(b[12:]))
		b = b[unix.SizeofInotifyEvent:]
		if size > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		e.name, b = string(name), b[size:]
		events = append(events, e)
	}
	return events
}
