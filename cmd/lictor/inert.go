package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// inert makes text from strangers harmless for a terminal: control characters, escape sequences, bytes that are not UTF-8
// and characters that reorder or hide text are shown as Go escapes (\x1b, \u202e). The result is one line.
func inert(s string) string {
	if !strings.ContainsFunc(s, dangerous) {
		return s
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		r, width := utf8.DecodeRuneInString(rest)
		writeInert(&b, r, rest[:width])
		rest = rest[width:]
	}
	return b.String()
}

// inertLine is inert for a line of output, in which tabs are columns and no danger.
func inertLine(s string) string {
	parts := strings.Split(s, "\t")
	for i, p := range parts {
		parts[i] = inert(p)
	}
	return strings.Join(parts, "\t")
}

func writeInert(b *strings.Builder, r rune, raw string) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		fmt.Fprintf(b, `\x%02x`, raw[0])
	case !dangerous(r):
		b.WriteRune(r)
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\t':
		b.WriteString(`\t`)
	case r == '\r':
		b.WriteString(`\r`)
	case r < utf8.RuneSelf:
		fmt.Fprintf(b, `\x%02x`, r)
	case r < 0x10000:
		fmt.Fprintf(b, `\u%04x`, r)
	default:
		fmt.Fprintf(b, `\U%08x`, r)
	}
}

// dangerous reports whether a terminal could act on r or a reader be misled by it: controls (C0, DEL, C1), line and
// paragraph separators, format characters (bidi overrides and isolates, zero-width characters, tags), and anything
// else that does not print. RuneError stands for bytes that are not UTF-8.
func dangerous(r rune) bool {
	return r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r)
}
