package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/scidex/lictor/events"
)

// Chart is memory over time.
type Chart struct {
	Points []Point
	Limit  float64 // bytes, 0 is none
	Peak   float64 // bytes, 0 is not known
	Marks  []Mark
	Live   bool // the right edge is now, else the end
}

// Point is a reading: seconds before the right edge (0 or less), and bytes.
type Point struct{ X, Y float64 }

// Mark is something that happened.
type Mark struct {
	X    float64 // seconds, as in Point
	Text string
}

// The size of a chart in its own units; the page scales it.
const (
	chartWidth, chartHeight                  = 720.0, 240.0
	plotLeft, plotTop, plotRight, plotBottom = 66.0, 14.0, 708.0, 206.0
)

// SVG draws the chart. It has no text of strangers' but what html/template would escape in the same way.
func (c Chart) SVG() template.HTML {
	if len(c.Points) == 0 {
		return ""
	}
	left := math.Min(c.Points[0].X, -10)
	for _, m := range c.Marks {
		left = math.Min(left, m.X)
	}
	top := math.Max(c.Limit, c.Peak)
	for _, p := range c.Points {
		top = math.Max(top, p.Y)
	}
	top, steps := niceBytes(top * 1.08)
	x := func(s float64) float64 { return plotRight + s/(-left)*(plotRight-plotLeft) }
	y := func(b float64) float64 { return plotBottom - b/top*(plotBottom-plotTop) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(c.describe()))
	for i := range steps + 1 {
		v := top * float64(i) / float64(steps)
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="axis" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, plotRight, y(v), y(v), plotLeft-6, y(v)+4, events.FormatBytes(uint64(v)))
	}
	end := "end"
	if c.Live {
		end = "now"
	}
	for i := range 5 {
		s, anchor := left*float64(4-i)/4, "middle"
		text := ago(-s)
		switch i {
		case 0:
			anchor = "start"
		case 4:
			text, anchor = end, "end"
		}
		fmt.Fprintf(&b, `<text class="axis" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x(s), plotBottom+20, anchor, text)
	}
	var line strings.Builder
	for i, p := range c.Points {
		op := "L"
		if i == 0 {
			op = "M"
		}
		fmt.Fprintf(&line, "%s%.1f %.1f", op, x(p.X), y(p.Y))
	}
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	fmt.Fprintf(&b, `<path class="area" d="%sL%.1f %.1fL%.1f %.1fZ"/><path class="line" d="%s"/>`, &line, x(last.X), y(0), x(first.X), y(0), &line)
	if len(c.Points) == 1 {
		fmt.Fprintf(&b, `<circle class="dot" cx="%.1f" cy="%.1f" r="3"/>`, x(last.X), y(last.Y))
	}
	if c.Limit > 0 {
		level(&b, "limit", "limit "+events.FormatBytes(uint64(c.Limit)), y(c.Limit), y(c.Limit)-4)
	}
	if c.Peak > 0 && (c.Limit == 0 || y(c.Peak)-y(c.Limit) > 16) { // at the limit, it is the limit
		level(&b, "peak", "peak "+events.FormatBytes(uint64(c.Peak)), y(c.Peak), y(c.Peak)-4)
	}
	for i, m := range c.Marks {
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="marktext" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			x(m.X), x(m.X), plotTop, plotBottom, x(m.X)-4, plotTop+24+float64(i%3)*14, template.HTMLEscapeString(m.Text))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // numbers, and escaped text
}

func level(b *strings.Builder, class, text string, at, textAt float64) {
	fmt.Fprintf(b, `<line class="%s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="%stext" x="%.1f" y="%.1f">%s</text>`,
		class, plotLeft, plotRight, at, at, class, plotLeft+6, textAt, text)
}

func (c Chart) describe() string {
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	text := fmt.Sprintf("Memory: %s %s ago, %s at the last reading", events.FormatBytes(uint64(first.Y)), ago(-first.X), events.FormatBytes(uint64(last.Y)))
	if c.Limit > 0 {
		text += ", limit " + events.FormatBytes(uint64(c.Limit))
	}
	for _, m := range c.Marks {
		text += "; " + m.Text
	}
	return text
}

// ago is a span for an axis.
func ago(s float64) string {
	switch {
	case s < 100:
		return fmt.Sprintf("%.0fs", s)
	case s < 100*60:
		return fmt.Sprintf("%.0fm", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%.1fh", s/3600)
	}
	return fmt.Sprintf("%.0fd", s/86400)
}

// niceBytes is the next number of bytes that is a whole number of steps, each of which reads well.
func niceBytes(n float64) (top float64, steps int) {
	for top = 4096; ; top *= 2 {
		if top >= n {
			return top, 4
		}
		if top*1.5 >= n {
			return top * 1.5, 3
		}
	}
}

// hoursSVG draws kills per hour.
func hoursSVG(hours []Hour) template.HTML {
	const width, height, bottom, top = 720.0, 132.0, 104.0, 28.0
	most, total := 0, 0
	for _, h := range hours {
		most, total = max(most, h.Kills), total+h.Kills
	}
	if total == 0 {
		return ""
	}
	step := width / float64(len(hours))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="%d kills in %d hours, at most %d in one">`, width, height, total, len(hours), most)
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="%g" y1="%g" y2="%g"/>`, width, bottom, bottom)
	for i, h := range hours {
		left := float64(i) * step
		if h.Kills > 0 {
			high := math.Max(2, float64(h.Kills)/float64(most)*(bottom-top))
			fmt.Fprintf(&b, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s: %d</title></rect><text class="axis" x="%.1f" y="%.1f" text-anchor="middle">%d</text>`,
				left+2, bottom-high, step-4, high, h.Start.Format("15:04"), h.Kills, left+step/2, bottom-high-4, h.Kills)
		}
		if h.Start.Hour()%6 == 0 {
			fmt.Fprintf(&b, `<text class="axis" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, math.Min(math.Max(left+step/2, 30), width-30), bottom+21, h.Start.Format("15:04"))
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // numbers
}

// barSVG draws an amount against its limit. It is as wide as its place.
func barSVG(used, of float64) template.HTML {
	if of <= 0 {
		return ""
	}
	share := math.Min(used/of, 1) * 100
	class := "ok"
	switch {
	case share >= 90:
		class = "high"
	case share >= 70:
		class = "warm"
	}
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers
		`<svg class="meter %s" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="%.0f %%"><rect class="rail" width="100" height="8"/><rect class="fill" width="%.1f" height="8"/></svg>`,
		class, share, share))
}
