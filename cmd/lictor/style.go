package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/scidex/lictor/events"
)

// colour is an SGR parameter (ECMA-48), empty for none.
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

// paint is text in a colour, if the terminal takes colours. Colour only repeats what a glyph and a word say.
func (a *App) paint(c colour, text string) string {
	if c == plain || !a.colour() {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// glyph is the mark in front of a run.
func (a *App) glyph(s events.State) string {
	mark, ascii := glyphs(s)
	if a.unicode() {
		return mark
	}
	return ascii
}

func glyphs(s events.State) (mark, ascii string) {
	switch s {
	case events.StateGrace:
		return "◐", "~"
	case events.StateDone:
		return "✓", "+"
	case events.StateKilled, events.StateFailed, events.StateLost:
		return "✗", "x"
	case events.StateEnded:
		return "○", "o"
	}
	return "●", "*"
}

func stateColour(s events.State) colour {
	switch s {
	case events.StateGrace:
		return yellow
	case events.StateKilled, events.StateFailed, events.StateLost:
		return red
	case events.StateEnded:
		return plain
	}
	return green
}

// shortAge writes a duration in a table: 12s, 4m12s, 2h05m, 3d04h.
func shortAge(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// seconds is a number of seconds in a record as a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// bytesOr writes n for people, or what stands for nil.
func bytesOr(n *uint64, none string) string {
	if n == nil {
		return none
	}
	return events.FormatBytes(*n)
}

// orDash is s, inert, or a dash.
func orDash[T ~string](s T) string { return cmp.Or(inert(string(s)), "-") }

// quoteCommand writes a command line so that a shell reads it back as the same arguments; what a terminal must not see is
// written as $'\x1b'.
func quoteCommand(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

func quote(arg string) string {
	const safe = "%+,-./:=@_"
	special := func(r rune) bool {
		return r > 0x7f || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(safe, r)
	}
	switch {
	case arg == "":
		return "''"
	case strings.ContainsFunc(arg, dangerous):
		arg = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(arg)
		return "$'" + inert(arg) + "'"
	case strings.ContainsFunc(arg, special):
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return arg
}
