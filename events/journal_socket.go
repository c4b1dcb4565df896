package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// journalTimeout bounds the sending of one entry to a journald that does not read.
const journalTimeout = 5 * time.Second

// journalSocket is a connection to journald's native socket (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
//
// It is not go-systemd's journal.Send, which cannot be bounded: that writes without a deadline on a global socket. On a
// connected one the kernel says when journald has room again, so a deadline works. Entries are small (see maxField), so the
// protocol's way for large ones, a sealed memfd, is not needed.
type journalSocket struct {
	path string

	mu     sync.Mutex // guards what follows, not the writing
	conn   *net.UnixConn
	closed bool
}

// send writes one entry. It connects first, and again when journald was restarted without its socket.
func (s *journalSocket) send(ctx context.Context, entry []byte) error {
	conn, fresh, err := s.connection()
	if err != nil {
		return err
	}
	err = write(ctx, conn, entry)
	if err == nil || fresh || ctx.Err() != nil || isTimeout(err) {
		return err
	}
	s.disconnect()
	if conn, _, err = s.connection(); err != nil {
		return err
	}
	return write(ctx, conn, entry)
}

func write(ctx context.Context, conn *net.UnixConn, entry []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(journalTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := conn.Write(entry)
	return err
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// connection returns the connection and whether it was made just now.
func (s *journalSocket) connection() (*net.UnixConn, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, fmt.Errorf("journald: %w", net.ErrClosed)
	}
	if s.conn != nil {
		return s.conn, false, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		return nil, false, err
	}
	s.conn = conn
	return conn, true, nil
}

func (s *journalSocket) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// close disconnects for good; a write that is going on ends with an error.
func (s *journalSocket) close() {
	s.disconnect()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
