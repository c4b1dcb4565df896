package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a connection, as the kernel says.
type Peer struct {
	PID      int
	UID, GID uint32
}

// Root reports whether the peer may see and do everything.
func (p Peer) Root() bool { return p.UID == 0 }

func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Peer{}, err
	}
	if failed != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", failed)
	}
	return Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}, nil
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
	close func()
	once  sync.Once
}

func (c *peerConn) Close() error {
	c.once.Do(c.close)
	return c.UnixConn.Close()
}

// listener accepts connections and refuses those above the quota of their uid: whoever opens thousands and leaves them lying takes
// nothing from others. Root has none.
type listener struct {
	*net.UnixListener
	perUser int
	refused *atomic.Uint64

	mu   sync.Mutex
	open map[uint32]int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(conn)
		if err != nil || !l.admit(peer.UID) {
			l.refused.Add(1)
			_ = conn.Close()
			continue
		}
		return &peerConn{UnixConn: conn, peer: peer, close: func() { l.leave(peer.UID) }}, nil
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
