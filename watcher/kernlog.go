package watcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

const (
	kmsgPath = "/dev/kmsg"

	// kmsgRecordMax is above the longest record that any kernel hands out (CONSOLE_EXT_LOG_MAX, 8192). A record that
	// does not fit the buffer is EINVAL and lost.
	kmsgRecordMax = 16 << 10

	// kmsgBatchMax bounds one call of Kills when something floods the kernel log faster than it can be read.
	kmsgBatchMax = 200_000

	// kmsgSettle is how long Kills waits for the line that may follow a kill of which nothing else tells the cgroup. It
	// comes after microseconds, or as long as a serial console takes for a line.
	kmsgSettle = 50 * time.Millisecond
)

// KernelKills tells the out-of-memory kills since it was last asked; see [KernelLog.Kills].
type KernelKills interface {
	Kills() (kills []KernelKill, lost bool, err error)
}

// KernelLog is a position in /dev/kmsg, the kernel's log ring. It costs one descriptor, and nothing else, until Kills is
// called. Its methods may be called from several goroutines.
//
// Pids, uids and cgroup paths in the log are those of the initial namespaces: in a container they are not ours.
type KernelLog struct {
	mu      sync.Mutex
	fd      int
	oldest  time.Duration // kills that the log dates earlier are not reported
	skipped bool          // there are records before the position that nobody has asked about yet
	join    oomJoin
}

// OpenKernelLog opens the kernel log at its end: Kills reports what is logged from now on. Without the right to read it
// (CAP_SYSLOG, unless kernel.dmesg_restrict is 0) the error wraps os.ErrPermission.
func OpenKernelLog() (*KernelLog, error) {
	k, err := openKmsg()
	if err != nil {
		return nil, err
	}
	if _, err := unix.Seek(k.fd, 0, io.SeekEnd); err != nil {
		return nil, errors.Join(fmt.Errorf("kernel log: seek to the end: %w", err), k.Close())
	}
	k.skipped = true
	return k, nil
}

// OpenKernelLogSince opens the kernel log so that Kills reports what was logged after the given time on CLOCK_BOOTTIME,
// as far as the ring still holds it. It is for a process that comes later than the run that it asks about.
//
// The log is dated by the scheduler's clock, which like CLOCK_MONOTONIC stands still in suspend and, unlike it, is not
// disciplined by NTP. So the bound is generous: a thousandth of the uptime and a second, plus every suspend since boot.
// A kill in that margin may belong to an earlier process with the same pid: match by cgroup path first.
func OpenKernelLogSince(boottime time.Duration) (*KernelLog, error) {
	k, err := openKmsg()
	if err != nil {
		return nil, err
	}
	k.oldest = kmsgBound(boottime, cgroup.Boottime(), monotonic())
	return k, nil
}

func openKmsg() (*KernelLog, error) {
	fd, err := unix.Open(kmsgPath, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: kmsgPath, Err: err}
	}
	return &KernelLog{fd: fd}, nil
}

// kmsgBound translates a time on CLOCK_BOOTTIME into the earliest date that the log can have given it.
func kmsgBound(at, boottime, monotonic time.Duration) time.Duration {
	suspended := boottime - monotonic
	return max(0, at-suspended-monotonic/1000-time.Second)
}

func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: every kernel has this clock
	return time.Duration(ts.Nano())
}

// Kills returns the out-of-memory kills that were logged since the last call, oldest first. Lost says that the kernel
// overwrote records before they were read: there may have been kills that nobody reports, and those around the gap may
// lack their cgroup. A call takes longer than reading only when the last line is a kill without a cgroup, and then at
// most 50 ms.
//
// The kernel notifies memory.events before it has logged the rest of a group: call again when the cgroup is empty.
func (k *KernelLog) Kills() (kills []KernelKill, lost bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var settled time.Time
	buf := make([]byte, kmsgRecordMax)
	for range kmsgBatchMax {
		n, err := unix.Read(k.fd, buf)
		switch {
		case err == unix.EAGAIN || err == nil && n == 0:
			if !k.join.unsettled() {
				return k.take(), lost, nil
			}
			if settled.IsZero() {
				settled = time.Now().Add(kmsgSettle)
			}
			if !k.more(time.Until(settled)) {
				return k.take(), lost, nil
			}
		case err == unix.EINTR:
		case err == unix.EPIPE:
			lost = true
			k.join.forget()
		case err != nil:
			return k.take(), lost, fmt.Errorf("kernel log: %w", &os.PathError{Op: "read", Path: kmsgPath, Err: err})
		default:
			k.record(buf[:n])
		}
	}
	return k.take(), lost, nil
}

// more waits for another record, and reports whether it is worth trying to read it.
func (k *KernelLog) more(wait time.Duration) bool {
	if wait <= 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1)
	return n > 0 || err == unix.EINTR
}

func (k *KernelLog) record(b []byte) {
	r, err := ParseKmsg(b)
	if err != nil {
		return // not in the kernel's format, so not the kernel's
	}
	if k.skipped && ofOOM(r) {
		k.skipped = false
		k.join.past = func() oomDumps { return dumpsBefore(r.Seq) }
	}
	k.join.add(r)
}

// dumpsBefore goes through the whole ring, up to the record seq, for the dump lines in it. That takes a system call for
// each record, so it is done only when they matter: whether later ones can have been suppressed depends on how many there
// were. Failing to do it costs knowledge, not truth.
func dumpsBefore(seq uint64) (dumps oomDumps) {
	past, err := openKmsg()
	if err != nil {
		return oomDumps{}
	}
	defer past.Close()
	buf := make([]byte, kmsgRecordMax)
	for range kmsgBatchMax {
		n, err := unix.Read(past.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EPIPE:
			dumps.started = false
		case err != nil:
			return dumps
		default:
			r, err := ParseKmsg(buf[:n])
			if err == nil && r.Seq >= seq {
				return dumps
			}
			if err == nil {
				dumps.begin(r)
			}
			if err == nil && isOOMDump(r) {
				dumps.note(r.At)
			}
		}
	}
	return dumps
}

func (k *KernelLog) take() []KernelKill {
	var recent []KernelKill
	for _, kill := range k.join.take() {
		if kill.At >= k.oldest {
			recent = append(recent, kill)
		}
	}
	return recent
}

// Close closes the log. Kills then returns an error.
func (k *KernelLog) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fd := k.fd
	k.fd = -1
	if fd < 0 {
		return os.ErrClosed
	}
	return unix.Close(fd)
}
