package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
	"golang.org/x/sys/unix"
)

// killerJournal is the watcher.Killers of one run: the entries of systemd-oomd and earlyoom in the journal.
type killerJournal struct {
	run    scope.RunID
	fs     cgroup.FS
	reader *killerReader
}

// killerReader reads what other killers have said, one reading at a time, for all who have asked before it began: where somebody kills a
// hundred runs at once a journalctl for each would be more than the daemon may have, in processes and in memory.
type killerReader struct {
	read func(context.Context) ([]journalEntry, error)

	mu   sync.Mutex
	busy bool
	next *killerReading // has not begun; nil: nobody waits for it
}

type killerReading struct {
	done    chan struct{} // closed when the rest is there
	entries []journalEntry
	err     error
}

// newKillerReader reads for the runs of a manager, the system's or one's own.
func newKillerReader(a *App) *killerReader {
	return &killerReader{read: func(ctx context.Context) (list []journalEntry, err error) {
		ctx, cancel := context.WithTimeout(ctx, killersTimeout)
		defer cancel()
		boot, err := cgroup.BootID()
		if err != nil {
			return nil, err
		}
		err = readJournal(ctx, killerMatches(a.Mode(), a.UID, boot), func(e journalEntry) error {
			list = append(list, e)
			return nil
		})
		return list, err
	}}
}

// entries are those of a reading that begins now, or when the one that is under way has ended.
func (r *killerReader) entries(ctx context.Context) ([]journalEntry, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &killerReading{done: make(chan struct{})}
	}
	mine := r.next
	if !r.busy {
		r.busy = true
		go r.work(context.WithoutCancel(ctx)) // others wait for it, too
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.entries, mine.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// work reads until nobody waits.
func (r *killerReader) work(ctx context.Context) {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.busy = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.entries, now.err = r.read(ctx)
		close(now.done)
	}
}

// The units of other killers. _SYSTEMD_UNIT is journald's own word; only root can run something in a unit of the system.
const (
	oomdUnit     = "systemd-oomd.service"
	earlyoomUnit = "earlyoom.service"
)

// oomdKill is the MESSAGE_ID of the entry that systemd writes about a unit of which it finds, when its cgroup is empty, that
// systemd-oomd has killed it (SD_MESSAGE_UNIT_OOMD_KILL, since systemd 248).
const oomdKill = "d989611b15e44c9dbf31e3c81256e4ed"

// killersTimeout bounds one reading of the journal.
const killersTimeout = 10 * time.Second

// maxKillerEntries is how many of the last entries are read.
const maxKillerEntries = 4000

// Active implements watcher.Killers. The cgroup of a service is there while it runs.
func (k killerJournal) Active() bool {
	for _, unit := range []string{oomdUnit, earlyoomUnit} {
		if g, err := k.fs.Open(path.Join("/system.slice", unit)); err == nil {
			g.Close()
			return true
		}
	}
	return false
}

// Entries implements watcher.Killers.
func (k killerJournal) Entries(ctx context.Context) ([]watcher.KillerEntry, error) {
	all, err := k.reader.entries(ctx)
	if err != nil {
		return nil, err
	}
	var list []watcher.KillerEntry
	suspended := cgroup.Boottime() - monotonic()
	for _, e := range all {
		text, err := e.text()
		if err != nil {
			return nil, err
		}
		if entry, ok := k.entry(e, string(text)); ok {
			entry.At = e.monotonic() + suspended
			list = append(list, entry)
		}
	}
	if len(list) == 0 {
		return nil, systemJournal()
	}
	return list, nil
}

// killerMatches is the command line that reads what could be about a run of a manager, of one boot.
func killerMatches(m Mode, uid int, bootID string) []string {
	boot := "_BOOT_ID=" + strings.ReplaceAll(bootID, "-", "")
	args := []string{"--quiet", "--no-pager", "--all", "--output=json", "--lines=" + strconv.Itoa(maxKillerEntries),
		"--output-fields=MESSAGE,MESSAGE_ID,_SYSTEMD_UNIT,UNIT,USER_UNIT", "_SYSTEMD_UNIT=" + oomdUnit, boot, "+", "_SYSTEMD_UNIT=" + earlyoomUnit,
		boot, "+", "MESSAGE_ID=" + oomdKill, boot}
	if m == ModeUser {
		return append(args, "_UID="+strconv.Itoa(uid))
	}
	return append(args, "_PID=1")
}

// entry reads what another killer has written. ok is false if it is about something else.
func (k killerJournal) entry(e journalEntry, text string) (entry watcher.KillerEntry, ok bool) {
	entry.Message = text
	switch {
	case e.MessageID == oomdKill:
		entry.By, entry.Signal = watcher.KillerOomd, syscall.SIGKILL
		return entry, cmp.Or(e.About, e.AboutUser) == k.run.Scope()
	case e.Unit == oomdUnit:
		entry.By, entry.Signal = watcher.KillerOomd, syscall.SIGKILL
		return entry, oomdKilled(text, "/"+k.run.Ledger()+"/"+k.run.Scope())
	case e.Unit == earlyoomUnit:
		entry.By = watcher.KillerEarlyoom
		entry.PID, entry.Signal, ok = earlyoomSent(text)
	}
	return entry, ok
}

// oomdKilled reports whether systemd-oomd says that it has killed the cgroup whose path ends like this:
//
//	Killed /lictor.slice/lictor-abc.slice/lictor-abc.scope due to memory pressure for /lictor.slice being 60.02% > …
func oomdKilled(text, suffix string) bool {
	rest, ok := strings.CutPrefix(text, "Killed ")
	if !ok {
		return false
	}
	killed, _, ok := strings.Cut(rest, " due to ")
	return ok && strings.HasSuffix(killed, suffix)
}

// earlyoomLine is what earlyoom says when it sends a signal. The name of the process comes after, and is anybody's.
//
//	sending SIGTERM to process 1234 uid 1000 "python3": badness 812, VmRSS 1514 MiB
var earlyoomLine = regexp.MustCompile(`^sending (SIG[A-Z]+) to process ([0-9]+)[ :]`)

func earlyoomSent(text string) (pid int, sig syscall.Signal, ok bool) {
	m := earlyoomLine.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(m[2])
	sig = unix.SignalNum(m[1])
	return pid, sig, err == nil && sig != 0
}

// systemJournal says why the journal of the system cannot be read, where nothing found in it proves nothing.
func systemJournal() error {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, dir := range []string{"/var/log/journal", "/run/log/journal"} {
		f, openErr := os.Open(path.Join(dir, strings.TrimSpace(string(id)), "system.journal"))
		if openErr == nil {
			return f.Close()
		}
		if !errors.Is(openErr, os.ErrNotExist) || err == nil {
			err = openErr
		}
	}
	return fmt.Errorf("journal of the system: %w", err)
}

func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: every kernel has this clock
	return time.Duration(ts.Nano())
}
