package main

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/scope"
)

// A run that is kept costs the daemon about six descriptors, one whose keeper lives costs one. Some are always left free for
// what cannot be done without: to read a ledger, signal its processes and write down their end.
const (
	spareFiles = 48
	// settlers is how many runs are settled at once from the spare descriptors.
	settlers = 4
)

// room reports whether there are descriptors to keep one more run. Without, runs are looked at every now and then: they are
// ended and recorded as ever, only later. That is said once, and once when it is over.
func (d *daemon) room() bool {
	limit, ok := room()
	if d.short.Swap(!ok) == ok {
		if ok {
			d.log.Info("there are descriptors again")
		} else {
			d.log.Error("the limit of open files is reached: more runs are not watched, but looked at every few seconds",
				"RLIMIT_NOFILE", limit, "runs", d.fleet.Len(), "hint", "raise LimitNOFILE= of lictor.service")
		}
	}
	return ok
}

// room reports whether more than the spare descriptors are free. The kernel gives out the lowest number that is.
func room() (limit uint64, ok bool) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, true
	}
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return lim.Cur, err != unix.EMFILE
	}
	_ = unix.Close(fd)
	return lim.Cur, uint64(fd)+spareFiles < lim.Cur
}

// settle ends and records a run without watching it. One that is to live on is left alone.
func (d *daemon) settle(ctx context.Context, led *scope.Ledger) error {
	select {
	case d.narrow <- struct{}{}:
		defer func() { <-d.narrow }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.settler.finish(ctx, led, true, nil)
}
