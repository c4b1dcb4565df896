package events

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// maxField cuts the value of a journal field. Values come from strangers; a whole entry stays far below the kernel's
// default limit for a datagram (208 KiB).
const maxField = 4096

// Priorities of syslog(3).
const (
	priorityErr     = 3
	priorityWarning = 4
	priorityInfo    = 6
)

// journalEntry is e in journald's native format. Field names are constants of this file.
func journalEntry(e *Event, r *Run) []byte {
	if r == nil {
		r = &Run{Run: e.Run, AnalysisID: e.AnalysisID, State: e.State, Reason: e.Reason}
	}
	b := make(fields, 0, 768)
	b.add("MESSAGE", message(e, r))
	b.add("MESSAGE_ID", MessageIDs[e.Kind])
	b.add("PRIORITY", strconv.Itoa(priority(e)))
	b.add("SYSLOG_IDENTIFIER", "lictor")
	b.addUnit(r)
	b.add("LICTOR_RUN", string(e.Run))
	b.add("LICTOR_ANALYSIS_ID", e.AnalysisID)
	b.add("LICTOR_KIND", string(e.Kind))
	b.add("LICTOR_REASON", string(e.Reason))
	b.add("LICTOR_STATE", string(e.State))
	b.add("LICTOR_EVENT_ID", eventID(e))
	b.addNumbers(e, r)
	return b
}

func priority(e *Event) int {
	switch {
	case e.Kind == KindSurvived, e.Kind == KindStoreReplaced: // nothing but a person can help
		return priorityErr
	case e.IsKill():
		return priorityWarning
	}
	return priorityInfo
}

// fields is an entry that is being put together.
type fields []byte

// add appends a field, unless its value is empty. A value with a newline is preceded by its length instead of "=".
func (b *fields) add(name, value string) {
	if value == "" {
		return
	}
	value = truncate(value, maxField)
	*b = append(*b, name...)
	if strings.ContainsRune(value, '\n') {
		*b = append(*b, '\n')
		*b = binary.LittleEndian.AppendUint64(*b, uint64(len(value)))
	} else {
		*b = append(*b, '=')
	}
	*b = append(*b, value...)
	*b = append(*b, '\n')
}

// addUnit names the scope so that `journalctl -u` shows the entry with the scope's own output. Under the system manager
// journalctl believes UNIT= only from PID 1, and OBJECT_SYSTEMD_UNIT= from root (systemd, src/shared/logs-show.c,
// add_matches_for_unit); under a user manager it believes USER_UNIT= from the same user.
func (b *fields) addUnit(r *Run) {
	if r.Manager == "user" {
		b.add("USER_UNIT", r.Unit)
		return
	}
	b.add("UNIT", r.Unit)
	b.add("OBJECT_SYSTEMD_UNIT", r.Unit)
}

// addNumbers adds what is known; bytes are integers, durations are seconds.
func (b *fields) addNumbers(e *Event, r *Run) {
	pid, peak, duration := e.PID, e.MemoryBytes, e.DurationSeconds
	if e.Kind == KindEnded {
		pid, peak, duration = first(pid, r.LeaderPID), first(peak, r.Usage.MemoryPeakBytes), first(duration, r.Usage.WallSeconds)
	}
	if pid != nil {
		b.add("LICTOR_PID", strconv.Itoa(*pid))
	}
	if peak != nil {
		b.add("LICTOR_MEMORY_PEAK", strconv.FormatUint(*peak, 10))
	}
	if max := r.Limits.MemoryMaxBytes; max != nil {
		b.add("LICTOR_MEMORY_MAX", strconv.FormatUint(*max, 10))
	}
	if duration != nil {
		b.add("LICTOR_DURATION_SEC", strconv.FormatFloat(*duration, 'f', -1, 64))
	}
}

// first returns the first pointer that is not nil.
func first[T any](ps ...*T) *T {
	for _, p := range ps {
		if p != nil {
			return p
		}
	}
	return nil
}
