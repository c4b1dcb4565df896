package api

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// files are descriptors that a caller has passed. They are neither read nor written here, so they stay numbers: an os.File would change
// the mode of what the caller shares.
type files struct {
	fds  []int
	done func() // nil: they do not count
}

func (f files) close() {
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
	if f.done != nil {
		f.done()
	}
}

// filesPerUser is how many passed descriptors of one user may be open at a time. Root has no such limit.
const filesPerUser = 64 * client.Descriptors

// Read implements net.Conn. Descriptors may come with the first byte; the kernel closes those that come later, as nobody asks for them.
func (c *peerConn) Read(b []byte) (int, error) {
	if c.begun {
		return c.UnixConn.Read(b)
	}
	c.begun = true
	control := make([]byte, unix.CmsgSpace(4*(client.Descriptors+1))) // one more is one too many, and seen
	n, m, _, _, err := c.ReadMsgUnix(b, control)
	if m > 0 {
		c.hold(Passed(control[:m]))
	}
	return n, err
}

// Passed are the descriptors in what recvmsg(2) has as control messages.
func Passed(control []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if rights, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, rights...)
		}
	}
	return fds
}

// hold keeps descriptors for the launch that they belong to, or closes them: the launch will miss them.
func (c *peerConn) hold(fds []int) {
	f, l, uid, n := files{fds: fds}, c.from, c.peer.UID, len(fds)
	l.mu.Lock()
	if uid != 0 && l.held[uid]+n > filesPerUser {
		l.mu.Unlock()
		f.close()
		return
	}
	if l.held == nil {
		l.held = map[uint32]int{}
	}
	l.held[uid] += n
	l.mu.Unlock()
	f.done = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[uid] -= n; l.held[uid] == 0 {
			delete(l.held, uid)
		}
	}
	c.mu.Lock()
	c.files = f
	c.mu.Unlock()
}

// take hands the descriptors over, once.
func (c *peerConn) take() files {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files
	c.files = files{}
	return f
}

type connKey struct{}

// takeFiles are the descriptors that came with the connection of a request. Who takes them closes them.
func takeFiles(ctx context.Context) files {
	if c, ok := ctx.Value(connKey{}).(*peerConn); ok {
		return c.take()
	}
	return files{}
}

// checkAttached says what is wrong with what a launch wants of its caller's process.
func checkAttached(l *client.Launch, p Peer, n int) error {
	bad := func(hint, format string, args ...any) error {
		return NewProblem(http.StatusBadRequest, fmt.Sprintf(format, args...), hint)
	}
	switch {
	case l.OnOwnerExit != "" && l.OnOwnerExit != "kill" && l.OnOwnerExit != "keep":
		return bad("", "on_owner_exit: %q is neither kill nor keep", l.OnOwnerExit)
	case p.TCP && (l.Attached || l.OnOwnerExit == "kill"):
		return bad("connect to the unix socket, or launch it detached", "over TCP nobody knows which process asks: a run can be attached to none, and have no owner")
	case l.Attached && n != client.Descriptors, !l.Attached && n > 0:
		return bad(fmt.Sprintf("an attached launch has standard input, output, error, and where the record goes, in SCM_RIGHTS with the first byte of a new "+
			"connection; at most %d launches of a user can be under way", filesPerUser/client.Descriptors), "%d descriptors came with the request, attached is %t", n, l.Attached)
	}
	return nil
}
