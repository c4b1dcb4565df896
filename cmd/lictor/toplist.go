package main

import (
	"slices"
	"strings"
)

// topColumn is a column of ps, or the bar, and when it is left out: the lower the rank, the earlier. What has no rank stays.
type topColumn struct {
	column
	index int // of the cell
	rank  int
}

// barTitle is the column that ps has not.
const barTitle = "USED"

// topColumns are the columns in their order. Their least widths are those of usual values, so that they do not jump about
// when one value gets a digit more.
func (m topModel) topColumns() []topColumn {
	least := map[string]int{"  RUN": 10, "STATE": 7, "REASON": 7, "MEM": 4, "PEAK": 4, "LIMIT": 5, "CPU%": 4, "AGE": 6, "LEFT": 6, barTitle: 6}
	if m.wide() {
		least[barTitle] = 10
	}
	least[m.sortedTitle()] = max(5, least[m.sortedTitle()]) // for the arrow
	ranks := map[string]int{"PEAK": 1, "AGE": 2, "LIMIT": 3, "ANALYSIS": 4, "COMMAND": 5, "CPU%": 6, barTitle: 7, "LEFT": 8, "MEM": 9}
	titles := slices.Insert(psColumns(), memoryColumn+1, column{title: barTitle})
	columns := make([]topColumn, len(titles))
	for i, c := range titles {
		c.width = least[c.title]
		columns[i] = topColumn{c, i, ranks[c.title]}
	}
	return columns
}

// memoryColumn is the index of MEM in psColumns.
const memoryColumn = 4

// topCells are the cells of a row, for topColumns.
func (a *App) topCells(m topModel, r topRow) []cell {
	row := a.psRow(r.listed, m.ids[r.Run.Run], m.sample.at, percentOr(r.cpu, r.cpuKnown))
	width := 6
	if m.wide() {
		width = 10
	}
	return slices.Insert(row, memoryColumn+1, a.bar(r.memory(), r.Limits.MemoryMaxBytes, width))
}

// topList is the table: titles, and the rows for which there is room.
func (a *App) topList(m topModel) []string {
	room := m.room()
	if m.sample == nil {
		return make([]string, min(room+1, max(m.height()-1, 0)))
	}
	t := table{}
	for _, c := range m.topColumns() {
		t.columns = append(t.columns, c.column)
	}
	for _, r := range m.rows {
		t.add(a.topCells(m, r)...)
	}
	columns := m.chosen(t.widths(true))
	lines := []string{a.paint(bold, a.titles(m, columns))}
	for i := m.offset; i < min(m.offset+room, len(t.rows)); i++ {
		lines = append(lines, a.topLine(m, columns, t.rows[i], m.rows[i].Run.Run == m.cursor))
	}
	if len(m.rows) == 0 && room > 0 {
		lines = append(lines, a.fit("  no run is alive; lictor run starts one", m.width()))
	}
	lines = append(lines, make([]string, max(room+1-len(lines), 0))...)
	return lines[:min(len(lines), max(m.height()-1, 0))]
}

// commandLeast is what is left of a command line before other columns give way.
const commandLeast = 10

// chosen are the columns that fit, with their widths. A long analysis id is cut; RUN, STATE and REASON are never, until the
// screen is narrower than they are.
func (m topModel) chosen(widths []int) []topColumn {
	columns := m.topColumns()
	for i := range columns {
		columns[i].width = widths[i]
		switch columns[i].title {
		case "ANALYSIS":
			columns[i].width = min(widths[i], max(12, m.width()/6))
		case "COMMAND":
			columns[i].width = commandLeast
		}
	}
	for {
		needs := len(cursorMark) - len(m.gap())
		least := -1
		for i, c := range columns {
			needs += c.width + len(m.gap())
			if c.rank > 0 && (least < 0 || c.rank < columns[least].rank) {
				least = i
			}
		}
		if needs <= m.width() || least < 0 {
			if last := len(columns) - 1; columns[last].title == "COMMAND" {
				columns[last].width += m.width() - needs
			}
			return columns
		}
		columns = slices.Delete(columns, least, least+1)
	}
}

// gap is the space between columns.
func (m topModel) gap() string {
	if m.wide() {
		return gap
	}
	return " "
}

// cursorMark is in front of the row under the cursor, so that it can be told without colours.
const cursorMark = ">"

func (m topModel) sortedTitle() string {
	return map[topOrder]string{byMemory: "MEM", byCPU: "CPU%", byAge: "AGE", byLeft: "LEFT", byPeak: "PEAK"}[m.order]
}

// titles is the header. The column that the list is sorted by has an arrow, where there is room for it.
func (a *App) titles(m topModel, columns []topColumn) string {
	arrow := "v"
	if m.reverse != (m.order == byLeft) {
		arrow = "^"
	}
	if a.unicode() {
		arrow = map[string]string{"v": "▼", "^": "▲"}[arrow]
	}
	cells := make([]cell, len(columns))
	for i, c := range columns {
		cells[i].text = c.title
		if c.title == m.sortedTitle() && len(c.title) < c.width {
			cells[i].text += arrow
		}
	}
	return a.compose(m, " ", columns, cells, false)
}

func (a *App) topLine(m topModel, columns []topColumn, row []cell, selected bool) string {
	cells := make([]cell, len(columns))
	for i, c := range columns {
		cells[i] = row[c.index]
	}
	if !selected {
		return a.compose(m, " ", columns, cells, true)
	}
	line := a.compose(m, cursorMark, columns, cells, false)
	return a.paint(reverse, line+strings.Repeat(" ", max(m.width()-textWidth(line), 0)))
}

// compose puts cells side by side. Whatever they hold, the line is not wider than the screen.
func (a *App) compose(m topModel, mark string, columns []topColumn, cells []cell, colours bool) string {
	var b strings.Builder
	left := m.width()
	put := func(text string, c colour) {
		text = a.fit(text, left)
		left -= textWidth(text)
		if colours {
			text = a.paint(c, text)
		}
		b.WriteString(text)
	}
	put(mark, plain)
	for i, c := range columns {
		if i > 0 {
			put(m.gap(), plain)
		}
		text := a.fit(cells[i].text, c.width)
		pad := strings.Repeat(" ", c.width-textWidth(text))
		if c.right {
			put(pad, plain)
			put(text, cells[i].colour)
			continue
		}
		put(text, cells[i].colour)
		put(pad, plain)
	}
	return strings.TrimRight(b.String(), " ")
}
