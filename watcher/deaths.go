package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// Deaths waits for the ends of many processes with one epoll(7) instance and one goroutine: a goroutine for each would cost more
// memory than all else that a run needs.
type Deaths struct {
	file *os.File

	mu     sync.Mutex
	fd     int // of file; -1 once closed
	last   uint64
	awaits map[uint64]func()
}

// NewDeaths returns a Deaths that waits for nobody yet.
func NewDeaths() (*Deaths, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("deaths: %w", os.NewSyscallError("epoll_create1", err))
	}
	_ = unix.SetNonblock(fd, true) // so that the runtime's poller waits for it; it cannot fail
	return &Deaths{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, awaits: map[uint64]func(){}}, nil
}

// Add has fn called once when the process has ended, which may be now. It must not block. Forget the id before p is closed.
func (d *Deaths) Add(p *cgroup.Process, fn func()) (id uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return 0, fmt.Errorf("deaths: %w", os.ErrClosed)
	}
	d.last++
	id = d.last
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	err = p.Control(func(fd int) error { return unix.EpollCtl(d.fd, unix.EPOLL_CTL_ADD, fd, &event) })
	if err != nil {
		return 0, fmt.Errorf("deaths: %w", err)
	}
	d.awaits[id] = fn
	return id, nil
}

// Forget takes back what Add was told. The kernel forgets a pidfd with its last descriptor.
func (d *Deaths) Forget(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.awaits, id)
}

// Run calls the functions until ctx is done or Close is called; then it returns nil.
func (d *Deaths) Run(ctx context.Context) error {
	conn, err := d.file.SyscallConn()
	if err != nil {
		return nil // closed
	}
	defer context.AfterFunc(ctx, func() { _ = d.file.SetReadDeadline(time.Unix(1, 0)) })()
	var events [64]unix.EpollEvent
	for {
		n := 0
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events[:], 0)
			if errors.Is(failed, unix.EINTR) {
				n, failed = 0, nil
			}
			return n > 0 || failed != nil
		})
		switch {
		case ctx.Err() != nil || d.closed(): // package os has an error of its own for a closed file here
			return nil
		case err == nil:
			err = failed
		}
		if err != nil {
			return fmt.Errorf("deaths: %w", err)
		}
		for _, e := range events[:n] {
			if fn := d.take(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32); fn != nil {
				fn()
			}
		}
	}
}

// take returns what is to be called, nil if that was taken back.
func (d *Deaths) take(id uint64) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn := d.awaits[id]
	delete(d.awaits, id)
	return fn
}

func (d *Deaths) closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fd < 0
}

// Close makes Run return.
func (d *Deaths) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fd = -1
	return d.file.Close()
}
