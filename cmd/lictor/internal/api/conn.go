package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// A Conn is the connection between a launcher and the daemon that keeps its run: messages in JSON, one per line.
//
//	launcher ── Offer ─────▶ daemon   a child of mine waits at the barrier; here is what it is to become, and in what box
//	launcher ◀─ Confined ── daemon    it is in its scope: let it go   (or Refused: it is not, and nothing is left)
//	launcher ── Opening ───▶ daemon   from here on the analysis may have run, whatever becomes of me
//	launcher ── Opened ────▶ daemon   it runs                          (or Failed: it could not be executed)
//	launcher ── Pass, Stop ▶ daemon   a signal came that is meant for it
//	launcher ── Exit ──────▶ daemon   its wait status
//	launcher ◀─ Ended ───── daemon    the finished record
//
// The connection may break at any point: the daemon was started anew. Then the launcher says Resume on another one.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader

	mu sync.Mutex // of writers
}

// FromLauncher is a message of the launcher. Exactly one field is set.
type FromLauncher struct {
	Offer   *Offer   `json:"offer,omitempty"`
	Resume  *Resume  `json:"resume,omitempty"`
	Opening bool     `json:"opening,omitempty"`
	Opened  bool     `json:"opened,omitempty"`
	Failed  *Failure `json:"failed,omitempty"`
	Pass    *Pass    `json:"pass,omitempty"`
	Stop    bool     `json:"stop,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
}

// Process identifies a process beyond the reuse of its number, within one boot.
type Process struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // field 22 of /proc/PID/stat
}

// Offer describes a run that is about to start.
type Offer struct {
	Run         *events.Run `json:"run"` // as its launcher would begin it
	Properties  []string    `json:"properties,omitempty"`
	OnOwnerExit string      `json:"on_owner_exit,omitempty"`
	Owner       Process     `json:"owner,omitzero"`  // zero: the launcher
	Child       Process     `json:"child"`           // which waits at the barrier
	Nonce       string      `json:"nonce,omitempty"` // of processes that are killed when they leave the scope
}

// Resume says that the launcher of a run is back, with what happened meanwhile.
type Resume struct {
	Run    events.RunID `json:"run"`
	Passed []Pass       `json:"passed,omitempty"` // signals that were passed on, without anybody to tell
	Exit   *Exit        `json:"exit,omitempty"`
}

// Failure says why the analysis could not be executed.
type Failure struct {
	Error string `json:"error"`
	Code  int    `json:"code,omitempty"` // 126 or 127; 0: not execve's fault
}

// Pass is a signal that reached the launcher and is meant for the main process. What came from the terminal has reached it.
type Pass struct {
	Signal       int  `json:"signal"`
	FromTerminal bool `json:"from_terminal,omitempty"`
}

// Exit is a wait status: Signal if that is not 0, else Code.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// ToLauncher is a message of the daemon. Exactly one field is set.
type ToLauncher struct {
	Confined *Confined   `json:"confined,omitempty"`
	Refused  *Problem    `json:"refused,omitempty"`
	Resumed  bool        `json:"resumed,omitempty"`
	Ended    *events.Run `json:"ended,omitempty"`
}

// Confined says that the child is in its scope, with the limits that were asked for.
type Confined struct {
	Degraded []string `json:"degraded,omitempty"`
}

// The sizes of the longest messages. An offer has the command line in it, which is at most 6 MiB (execve(2)) and may double in
// JSON; what follows is short.
const (
	maxOffer   = 16 << 20
	maxMessage = 64 << 10
	connBuffer = 512 // thousands of them wait
)

var errTooLong = errors.New("message too long")

func newConn(conn net.Conn, buffered io.Reader) *Conn {
	return &Conn{conn: conn, in: bufio.NewReaderSize(buffered, connBuffer)}
}

// Connect opens a connection on which nothing has been said yet. Absent(err) says that there is no daemon.
func Connect(ctx context.Context, c *client.Client) (*Conn, error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(conn, conn), nil
}

// Begin says the first message and returns when the daemon listens. An error may be a *Problem.
func (c *Conn) Begin(ctx context.Context, first FromLauncher) error {
	text, err := json.Marshal(first)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	const head = "POST /api/v1/keep HTTP/1.1\r\nHost: lictor\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\nContent-Length: 0\r\n\r\n"
	if _, err := c.conn.Write(append([]byte(head), append(text, '\n')...)); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return client.ReadProblem(answer)
	}
	return nil
}

// Close ends the connection.
func (c *Conn) Close() { _ = c.conn.Close() }

// SetReadDeadline bounds the next reads; the zero time is no bound.
func (c *Conn) SetReadDeadline(t time.Time) { _ = c.conn.SetReadDeadline(t) }

// read reads one message of at most limit bytes.
func (c *Conn) read(limit int, into any) error {
	var line []byte
	for {
		part, err := c.in.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return errTooLong
		}
		line = append(line, part...)
		if err == nil {
			return json.Unmarshal(line, into)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// writeTimeout bounds a write: a launcher that does not read has its connection closed.
const writeTimeout = 10 * time.Second

func (c *Conn) write(message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = c.conn.Write(append(text, '\n'))
	return err
}

// First reads the first message of a launcher.
func (c *Conn) First() (m FromLauncher, err error) {
	err = c.read(maxOffer, &m)
	return m, err
}

// Next reads a later one.
func (c *Conn) Next() (m FromLauncher, err error) {
	err = c.read(maxMessage, &m)
	return m, err
}

// Tell writes to the launcher.
func (c *Conn) Tell(m ToLauncher) error { return c.write(m) }

// Say writes to the daemon.
func (c *Conn) Say(m FromLauncher) error { return c.write(m) }

// Hear reads what the daemon says.
func (c *Conn) Hear() (m ToLauncher, err error) {
	err = c.read(maxOffer, &m)
	return m, err
}
