package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// writeJSON writes v as indented JSON.
func writeJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

// writeJSONLine writes v as JSON on one line.
func writeJSONLine(w io.Writer, v any) error { return encodeJSON(w, v, "") }

// encodeJSON writes JSON that is harmless on a terminal, too: characters that inert would escape are written as \u202e,
// which JSON reads back as what they were. HTML is nothing special here.
func encodeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	text := b.String()
	if strings.ContainsFunc(text, needsEscape) {
		text = escapeJSON(text)
	}
	_, err := io.WriteString(w, text)
	return err
}

// needsEscape reports whether r, which the encoder left as it is, is better not sent to a terminal. Outside of strings JSON
// has nothing such but line feeds.
func needsEscape(r rune) bool { return r != '\n' && dangerous(r) }

func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		high, low := utf16.EncodeRune(r)
		switch {
		case !needsEscape(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
