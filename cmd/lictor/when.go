package main

import (
	"strconv"
	"strings"
	"time"
)

const whenSyntax = `write it like "-1h", "2h ago", today, yesterday, "2026-11-23 15:04" or 2026-11-23T15:04:05Z`

// parseWhen reads a point in time in the syntax of systemd.time(7), as journalctl --since takes it, or RFC 3339. What has no
// zone is in the zone of now; what has no date is today, what has no time is midnight.
func parseWhen(flag, text string, now time.Time) (time.Time, error) {
	trimmed := strings.TrimSpace(text)
	if t, ok := namedTime(trimmed, now); ok {
		return t, nil
	}
	if t, ok := relativeTime(trimmed, now); ok {
		return t, nil
	}
	if t, ok := absoluteTime(trimmed, now); ok {
		return t, nil
	}
	return time.Time{}, &limitError{flag, text, "not a point in time", whenSyntax}
}

func namedTime(text string, now time.Time) (time.Time, bool) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, true
	case "today":
		return midnight, true
	case "yesterday":
		return midnight.AddDate(0, 0, -1), true
	case "tomorrow":
		return midnight.AddDate(0, 0, 1), true
	}
	return time.Time{}, false
}

// relativeTime reads "-1h", "+5min", "1h ago" and "5min left".
func relativeTime(text string, now time.Time) (time.Time, bool) {
	past, isPast := strings.CutPrefix(text, "-")
	if !isPast {
		past, isPast = strings.CutSuffix(text, " ago")
	}
	future, isFuture := strings.CutPrefix(text, "+")
	if !isFuture {
		future, isFuture = strings.CutSuffix(text, " left")
	}
	switch {
	case isPast:
		d, infinite, err := ParseTimespanOrZero("", past)
		return now.Add(-d), err == nil && !infinite
	case isFuture:
		d, infinite, err := ParseTimespanOrZero("", future)
		return now.Add(d), err == nil && !infinite
	}
	return time.Time{}, false
}

func absoluteTime(text string, now time.Time) (time.Time, bool) {
	if seconds, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseInt(seconds, 10, 64)
		return time.Unix(n, 0).In(now.Location()), err == nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, true
	}
	text, zone := cutZone(withoutWeekday(text), now.Location())
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, true
		}
	}
	today := now.In(zone).Format("2006-01-02 ")
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, today+text, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// withoutWeekday drops "Mon " in front: what `lictor why` prints can be pasted back.
func withoutWeekday(text string) string {
	if word, rest, ok := strings.Cut(text, " "); ok {
		if _, err := time.Parse("Mon", word); err == nil {
			return rest
		}
	}
	return text
}

// cutZone splits "UTC", or the name of the own zone, off the end.
func cutZone(text string, own *time.Location) (string, *time.Location) {
	if s, ok := strings.CutSuffix(text, " UTC"); ok {
		return s, time.UTC
	}
	if i := strings.LastIndexByte(text, ' '); i > 0 && text[i+1:] == own.String() {
		return text[:i], own
	}
	return text, own
}
