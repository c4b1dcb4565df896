package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FormatBytes writes n for people, in powers of 1024 as systemd and ls -h do: 512B, 4.0K, 310M, 2.0G. One decimal below
// ten of a unit, none above, rounded to the nearest.
func FormatBytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + "B"
	}
	const units = "KMGTPE"
	v := float64(n) / 1024
	for i := range len(units) {
		last := i == len(units)-1
		switch {
		case v < 9.95:
			return strconv.FormatFloat(v, 'f', 1, 64) + units[i:i+1]
		case v < 1023.5 || last:
			return strconv.FormatFloat(v, 'f', 0, 64) + units[i:i+1]
		}
		v /= 1024
	}
	panic("unreachable")
}

// FormatDuration writes d for people, as systemd does: 340ms, 1.5s, 12s, 1min 37s, 2h 5s, 1d 3h. Rounded to
// milliseconds below a second, to tenths below ten seconds and to seconds above. A negative d counts as 0.
func FormatDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond/2:
		return "0s"
	case d < time.Second-time.Millisecond/2:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + "ms"
	case d < 9950*time.Millisecond:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	}
	return wholeSeconds(d.Round(time.Second))
}

func wholeSeconds(d time.Duration) string {
	const day = 24 * time.Hour
	var parts []string
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := int64(d / u.unit); n > 0 {
			parts = append(parts, strconv.FormatInt(n, 10)+u.name)
			d %= u.unit
		}
	}
	return strings.Join(parts, " ")
}

// seconds is a duration of the records, which count seconds as numbers.
func seconds(s float64) time.Duration {
	const most = float64(1<<63 - 1)
	switch ns := s * float64(time.Second); {
	case ns != ns || ns < 0:
		return 0
	case ns >= most:
		return 1<<63 - 1
	default:
		return time.Duration(ns)
	}
}

// printable is s on one line for a terminal or a log: control characters and what is not UTF-8 are escaped, and what is
// longer than limit bytes is cut.
func printable(s string, limit int) string {
	q := strconv.QuoteToGraphic(truncate(s, limit))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// truncate cuts s to at most limit bytes, not within a character, and shows that it did.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	cut := max(limit-len(mark), 0)
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + mark
}

// plural is "1 process", "3 processes".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
