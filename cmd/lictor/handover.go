package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// A detached run is launched by a service that systemd starts for it. Caller and service talk over a socket pair, of which
// the service gets one end as standard input, through systemd:
//
//	caller  ── handover: run id, command line, environment, directory ──▶ service: lictor launch
//	caller  ◀── answer: it runs, or the error and its exit status ──────── service
//
// Nothing of it is a property of the unit, which everybody could read over D-Bus, an argument, which everybody could see in
// /proc, or a file, which could be left behind: environments hold secrets. Whoever of the two dies, the other reads end of
// file.

// handover is what the caller tells the service. Bytes, not strings: what a process inherits need not be UTF-8, and JSON
// must not mend it.
type handover struct {
	Run  scope.RunID `json:"run"`
	Args [][]byte    `json:"args"` // the whole command line of lictor, without argv[0]
	Env  [][]byte    `json:"env"`
	Dir  []byte      `json:"dir"`

	Files int   `json:"files,omitempty"` // 0, or client.Descriptors, which come with the first byte
	fds   []int // they, on the caller's side
}

// answer is what the service tells the caller: nothing if the analysis runs, else the error as it is to be reported.
type answer struct {
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`

	Status int `json:"status,omitempty"` // of the daemon's problem, if it is one
}

// newHandover describes this process.
func newHandover(run scope.RunID, args []string) (handover, error) {
	dir, err := os.Getwd()
	if err != nil {
		return handover{}, fmt.Errorf("working directory: %w", err)
	}
	return handover{Run: run, Args: toBytes(args), Env: toBytes(os.Environ()), Dir: []byte(dir)}, nil
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// answerOf is an error as an answer, and nil as none.
func answerOf(err error) answer {
	if err == nil {
		return answer{}
	}
	a := answer{Code: codeOf(err), Error: err.Error(), Hint: hintOf(err)}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		a.Status = p.Status
	}
	return a
}

// err is the reverse of answerOf.
func (a answer) err() error {
	if a == (answer{}) {
		return nil
	}
	err := errors.New(a.Error)
	if a.Status != 0 {
		err = client.NewProblem(a.Status, a.Error, a.Hint)
	}
	err = withCode(a.Code, err)
	if a.Hint == "" {
		return err
	}
	return withHint(err, a.Hint)
}

// socketPair returns two ends of a private connection. Neither is inherited by accident.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	_ = unix.SetNonblock(fds[0], true) // so that deadlines work; it cannot fail
	return os.NewFile(uintptr(fds[0]), "handover"), os.NewFile(uintptr(fds[1]), "handover"), nil
}

// errNoAnswer says that the service ended, or was ended, before it could say how the launch went.
var errNoAnswer = errors.New("the launcher service ended before it had started the run")

// converse tells the service what to launch and returns its answer, or ctx's error when that is done first.
func converse(ctx context.Context, conn *os.File, h handover) error {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var a answer
	err := send(conn, h)
	if err == nil {
		err = json.NewDecoder(conn).Decode(&a)
	}
	switch {
	case err == nil:
		return a.err()
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return errNoAnswer
	}
	return fmt.Errorf("launcher service: %w", err)
}

// send writes a handover, its descriptors with the first byte.
func send(conn *os.File, h handover) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(h.fds) > 0 {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		n, failed := 0, error(nil)
		err = raw.Write(func(fd uintptr) bool {
			n, failed = unix.SendmsgN(int(fd), text, unix.UnixRights(h.fds...), nil, unix.MSG_NOSIGNAL)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		text = text[n:]
	}
	_, err = conn.Write(text)
	return err
}

// handed is the service's side of a handover.
type handed struct {
	handover
	conn    *os.File // nil once it has been answered
	streams []int    // standard input, output and error of an attached run; numbers, as an os.File could change their mode
	result  *os.File // where its record goes
}

// receive reads a handover.
func receive(conn *os.File) (*handed, error) {
	h := &handed{conn: conn}
	text, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*client.Descriptors))
	n, m, _, _, err := unix.Recvmsg(int(conn.Fd()), text, control, unix.MSG_CMSG_CLOEXEC)
	if err == nil {
		err = json.NewDecoder(io.MultiReader(bytes.NewReader(text[:n]), conn)).Decode(&h.handover)
	}
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if !h.Run.Valid() {
		return nil, fmt.Errorf("handover: %q is no run id", h.Run)
	}
	fds := api.Passed(control[:m])
	if len(fds) != h.Files || h.Files != 0 && h.Files != client.Descriptors {
		return nil, fmt.Errorf("handover: %d descriptors, want %d", len(fds), h.Files)
	}
	if len(fds) > 0 {
		h.streams, h.result = fds[:3], os.NewFile(uintptr(fds[3]), "result")
	}
	return h, nil
}

// record tells the caller of an attached run how it ended.
func (h *handed) record(run *events.Run) {
	if h != nil && h.result != nil {
		_ = writeJSON(h.result, run) // a caller that is gone has no use for it
		_ = h.result.Close()
	}
}

// answer tells the caller how the launch went. Only the first one counts; a caller that is gone misses it, and the run
// goes on: it is on record.
func (h *handed) answer(err error) {
	if h == nil || h.conn == nil {
		return
	}
	_ = json.NewEncoder(h.conn).Encode(answerOf(err))
	_ = h.conn.Close()
	h.conn = nil
}
