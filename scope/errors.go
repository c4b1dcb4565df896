package scope

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Errors that callers branch on. Each says what to do.
var (
	// ErrNoManager says that no systemd answers for this kind of manager. Run `lictor doctor`.
	ErrNoManager = errors.New("no systemd manager answers")
	// ErrNotConfined says that the scope that systemd made is not the one asked for. The analysis was not started.
	ErrNotConfined = errors.New("the scope does not hold what was asked for")
	// ErrDisconnected says that the connection to systemd ended during a call. The call may or may not have been carried out.
	ErrDisconnected = errors.New("the connection to systemd was lost")
	// ErrNoUnit says that systemd knows no such unit (any more).
	ErrNoUnit = errors.New("no such unit")
	// ErrUnitExists says that the unit name is taken. Take another run id.
	ErrUnitExists = errors.New("the unit exists already")
	// ErrUnknownProperty says that this systemd does not know one of the properties.
	ErrUnknownProperty = errors.New("a property is unknown to this systemd")
	// ErrDied says that the child was killed while it waited at the barrier. Nothing of the analysis ran.
	ErrDied = errors.New("the process died before it was let go")
)

// errJobFailed says that systemd could not start a unit. Why is in its log.
var errJobFailed = errors.New("the job ended")

// ErrNotChild says that the exit status and the signals of a run are not ours: its main process has a parent of its own.
var ErrNotChild = errors.New("the process is not our child")

// AdoptError is a process that cannot be adopted. Nothing was done, or all of it was undone.
type AdoptError struct {
	PID  int
	Why  string
	Hint string // what helps; may be empty
}

func (e *AdoptError) Error() string { return fmt.Sprintf("process %d: %s", e.PID, e.Why) }

// SpecError is a Spec that cannot be launched. Nothing was done.
type SpecError struct {
	Field string // the field, in words a person typed: MemoryMax, RuntimeMaxSec, …
	Value string
	Want  string // what to write
}

func (e *SpecError) Error() string {
	return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Want)
}

// ExecError is a program that cannot be executed: not found, not executable, argument list too long. Nothing of it ran.
type ExecError struct {
	Path string
	Err  error // a syscall.Errno for what execve said
}

func (e *ExecError) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }
func (e *ExecError) Unwrap() error { return e.Err }

// Code is the exit status that shells give: 127 for a program that is not there, 126 for one that cannot be executed.
func (e *ExecError) Code() int {
	if errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, syscall.ENOENT) {
		return 127
	}
	return 126
}

// oneLine is errors.Join for people, who get an error as one line.
func oneLine(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return &lineError{err}
	}
	return nil
}

type lineError struct{ err error }

func (e *lineError) Error() string { return strings.ReplaceAll(e.err.Error(), "\n", "; ") }
func (e *lineError) Unwrap() error { return e.err }
