package main

import (
	"bufio"
	"fmt"
	"strings"
	"unicode"
)

// cell is one field of a table. Text is inert already.
type cell struct {
	text   string
	colour colour
}

// column describes one column of a table.
type column struct {
	title string
	right bool // aligned
	width int  // at least
}

// table is printed with columns as wide as their contents; only the last column is ever cut, and only on a terminal.
type table struct {
	columns []column
	rows    [][]cell
}

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// texts makes plain cells.
func texts(fields ...string) []cell {
	cells := make([]cell, len(fields))
	for i, f := range fields {
		cells[i].text = f
	}
	return cells
}

// print writes the table to stdout, with its header unless the person wants none.
func (t *table) print(a *App, legend bool) {
	widths := t.widths(legend)
	last := 0 // columns left for the last field, 0 for no bound
	if screen := a.Stdout.Width(); screen > 0 {
		last = screen
		for _, w := range widths[:len(widths)-1] {
			last -= w + len(gap)
		}
		last = max(last, 1)
	}
	w := bufio.NewWriter(a.Stdout)
	defer w.Flush() // a.Stdout keeps the error
	if legend {
		header := make([]cell, len(t.columns))
		for i, c := range t.columns {
			header[i] = cell{c.title, bold}
		}
		fmt.Fprintln(w, t.line(a, header, widths, last))
	}
	for _, row := range t.rows {
		fmt.Fprintln(w, t.line(a, row, widths, last))
	}
}

const gap = "  "

func (t *table) widths(legend bool) []int {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = c.width
		if legend {
			widths[i] = max(widths[i], textWidth(c.title))
		}
		for _, row := range t.rows {
			widths[i] = max(widths[i], textWidth(row[i].text))
		}
	}
	return widths
}

func (t *table) line(a *App, row []cell, widths []int, last int) string {
	var b strings.Builder
	for i, c := range row {
		if i == len(row)-1 && last > 0 {
			c.text = a.cut(c.text, last)
		}
		pad := strings.Repeat(" ", max(widths[i]-textWidth(c.text), 0))
		switch {
		case t.columns[i].right:
			b.WriteString(pad + a.paint(c.colour, c.text))
		case i == len(row)-1:
			b.WriteString(a.paint(c.colour, c.text))
		default:
			b.WriteString(a.paint(c.colour, c.text) + pad)
		}
		if i < len(row)-1 {
			b.WriteString(gap)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// cut shortens text to width columns and shows that it did.
func (a *App) cut(text string, width int) string {
	if textWidth(text) <= width {
		return text
	}
	mark := "..."
	if a.unicode() {
		mark = "…"
	}
	room := max(width-textWidth(mark), 0)
	for i, r := range text {
		if room -= runeWidth(r); room < 0 {
			return text[:i] + mark
		}
	}
	return text
}

// textWidth is how many columns inert text takes on a terminal.
func textWidth(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is 2 for characters that terminals draw double (Unicode Standard Annex 11, W and F, by script), 0 for marks
// that sit on the one before.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0x3000 && r <= 0x303e, r >= 0xff01 && r <= 0xff60, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}
