package events

import (
	"strconv"

	"github.com/google/uuid"
)

// namespace is the name space of event ids (RFC 9562, version 5). It must never change: a record written twice is
// recognised by its id.
var namespace = uuid.MustParse("4b0f7f0e-6c9c-5f0c-9d0b-3d1d3c1f7a55")

// EventID returns the id of the ordinal-th event of a kind in a run.
func EventID(run RunID, kind Kind, ordinal int) string {
	return uuid.NewSHA1(namespace, []byte(string(run)+"\x00"+string(kind)+"\x00"+strconv.Itoa(ordinal))).String()
}

// eventID returns the id of e, which follows from its identity when it was not set.
func eventID(e *Event) string {
	if e.ID != "" {
		return e.ID
	}
	return EventID(e.Run, e.Kind, e.Ordinal)
}
