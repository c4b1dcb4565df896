package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit statuses of lictor's own making. `lictor run` passes on the status of the command it ran, except for these.
const (
	exitFailure = 1   // the command could not do what was asked
	exitUsage   = 2   // the command line makes no sense
	exitTimeout = 124 // lictor run: the time limit
	exitRefused = 125 // lictor run: lictor itself failed or refused; nothing was run
	exitKilled  = 137 // lictor run: the kernel's OOM killer; a status of the command's own too, 128 + SIGKILL
)

// exitError asks for an exit status. With a nil err the status says it all and nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withCode makes err end the process with code. An outer code wins over an inner one.
func withCode(code int, err error) error {
	return &exitError{code: code, err: err}
}

// usageError says that the command line makes no sense.
func usageError(format string, args ...any) error {
	return withCode(exitUsage, fmt.Errorf(format, args...))
}

// hintError carries what helps: usually a command to type.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint adds the command that helps to an error. The outermost hint is the one that is shown.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hintError{err: err, hint: hint}
}

// report tells a person what went wrong and returns the exit status: 0 for nil, 1 unless err asks for another. Errors that
// were joined (one per argument) are told one by one; the first of them decides.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err, list.Unwrap()) {
		code := 0
		for _, e := range list.Unwrap() {
			code = cmp.Or(code, report(stderr, e))
		}
		return code
	}
	code := codeOf(err)
	if exit, asked := errors.AsType[*exitError](err); asked && exit.err == nil {
		return code
	}
	fmt.Fprintf(stderr, "lictor: %s\n", inert(err.Error()))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", inert(hint))
	}
	return code
}

// codeOf returns the exit status that an error asks for.
func codeOf(err error) int {
	if exit, asked := errors.AsType[*exitError](err); asked {
		return exit.code
	}
	return exitFailure
}

// hintOf returns what helps: the outermost hint, else how to write the value that was refused.
func hintOf(err error) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.hint
	}
	if l, ok := errors.AsType[*limitError](err); ok {
		return l.Syntax
	}
	return ""
}

// isJoin tells what errors.Join made from what fmt.Errorf made with several %w.
func isJoin(err error, parts []error) bool {
	texts := make([]string, len(parts))
	for i, e := range parts {
		texts[i] = e.Error()
	}
	return err.Error() == strings.Join(texts, "\n")
}
