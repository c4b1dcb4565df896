package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// output is stdout. It remembers the first error of a write (a full disk, a closed pipe), so that commands need not check
// every line and the exit status still tells.
type output struct {
	w   io.Writer
	err error
}

func newOutput(w io.Writer) *output { return &output{w: w} }

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("write output: %w", err)
	}
	return n, err
}

// Err returns the first error of a write.
func (o *output) Err() error { return o.err }

// terminal returns the terminal behind a stream, nil if it is something else.
func terminal(stream any) *os.File {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// Width returns the number of columns if this is a terminal, else 0: what a program reads is never cut.
func (o *output) Width() int {
	f := terminal(o.w)
	if f == nil {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// talk tells a person something on stderr that is neither data nor an error.
func (a *App) talk(format string, args ...any) {
	fmt.Fprintf(a.Stderr, "lictor: %s\n", inert(fmt.Sprintf(format, args...)))
}

// unicode reports whether the locale is UTF-8 (locale(7): the first of LC_ALL, LC_CTYPE and LANG that is set).
func (a *App) unicode() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// colour reports whether escape sequences may be written: only to a terminal, and not where NO_COLOR (no-color.org) or
// TERM=dumb forbids it.
func (a *App) colour() bool {
	return a.Stdout.Width() > 0 && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
}
