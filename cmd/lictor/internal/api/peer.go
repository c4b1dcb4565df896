package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a connection, as the kernel says, or a token.
type Peer struct {
	PID      int
	UID, GID uint32
	Admin    bool // it is in the group AdminGroup
	TCP      bool // not the kernel says so, but a token: PID is 0

	token string // id of that
}

// AdminGroup is the group of those who see and stop the runs of all users.
const AdminGroup = "lictor-admin"

// All reports whether the peer may see the runs of all users, and do something to them.
func (p Peer) All() bool { return p.UID == 0 || p.Admin }

// only is whose runs the peer may see, nil for all.
func (p Peer) only() *uint32 {
	if p.All() {
		return nil
	}
	return &p.UID
}

// peerOf asks the kernel who connected, with which groups (SO_PEERGROUPS, since Linux 4.13).
func peerOf(conn *net.UnixConn, admins *adminGroup) (p Peer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed != nil {
			failed = fmt.Errorf("SO_PEERCRED: %w", failed)
			return
		}
		p = Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}
		if gid, ok := admins.gid(); ok && p.UID != 0 {
			groups, err := peerGroups(fd)
			p.Admin = err == nil && (p.GID == gid || slices.Contains(groups, gid)) // who cannot be asked is none
		}
	})
	return p, errors.Join(err, failed)
}

// peerGroups are the supplementary groups that the peer had when it connected.
func peerGroups(fd uintptr) ([]uint32, error) {
	for n := uint32(64); ; {
		groups, size := make([]uint32, n), 4*n
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return groups[:size/4], nil
		case e != unix.ERANGE || size/4 <= n:
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", e)
		}
		n = size / 4
	}
}

// adminGroup is the number of AdminGroup, which may be made, or not be there, while the daemon runs.
type adminGroup struct {
	mu    sync.Mutex
	known uint32
	ok    bool
	at    time.Time
}

// adminAge is how old that knowledge may be.
const adminAge = 10 * time.Second

func (a *adminGroup) gid() (gid uint32, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at.IsZero() || time.Since(a.at) > adminAge {
		a.at, a.ok = time.Now(), false
		if g, err := user.LookupGroup(AdminGroup); err == nil {
			n, err := strconv.ParseUint(g.Gid, 10, 32)
			a.known, a.ok = uint32(n), err == nil
		}
	}
	return a.known, a.ok
}

type peerKey struct{}

func peerFrom(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer) // always there: listener makes no other connections
	return p
}

// peerConn is an accepted connection.
type peerConn struct {
	*net.UnixConn
	peer  Peer
	from  *listener
	once  sync.Once
	begun bool // something was read

	mu    sync.Mutex
	files files // that came with the first byte
}

func (c *peerConn) Close() error {
	c.once.Do(func() {
		c.take().close()
		c.from.leave(c.peer.UID)
	})
	return c.UnixConn.Close()
}

// listener accepts connections and refuses those above the quota of their uid: whoever opens thousands and leaves them lying takes
// nothing from others. Root has none.
type listener struct {
	*net.UnixListener
	perUser int
	refused *atomic.Uint64
	admins  adminGroup

	mu   sync.Mutex
	open map[uint32]int
	held map[uint32]int // descriptors that came with connections
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(conn, &l.admins)
		if err != nil || !l.admit(peer.UID) {
			l.refused.Add(1)
			_ = conn.Close()
			continue
		}
		return &peerConn{UnixConn: conn, peer: peer, from: l}, nil
	}
}

func (l *listener) admit(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 && l.open[uid] >= l.perUser {
		return false
	}
	l.open[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// Absent reports whether err says that there is no daemon for the caller: nobody listens at the socket, or the administrator
// lets only others connect.
func Absent(err error) bool {
	for _, no := range []unix.Errno{unix.ENOENT, unix.ECONNREFUSED, unix.ENOTDIR, unix.EACCES} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
