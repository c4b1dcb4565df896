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
	place := slot{of: d.narrow}
	if err := place.take(ctx); err != nil {
		return err
	}
	defer place.leave()
	return d.settler.finish(ctx, led, true, nil)
}

// A slot is a place among as many as the channel has room for. It is its owner's alone.
type slot struct {
	of    chan struct{}
	taken bool
}

// take waits for the place.
func (s *slot) take(ctx context.Context) error {
	select {
	case s.of <- struct{}{}:
		s.taken = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave gives it to another, if it was taken.
func (s *slot) leave() {
	if s.taken {
		<-s.of
		s.taken = false
	}
}
