package scope

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

// RunID names one run and its units: RunIDLen characters of alphabet. It has no dash, because a dash in the name of a
// slice means nesting.
type RunID string

// RunIDLen is the length of every RunID.
const RunIDLen = 12

// alphabet is Crockford's base 32 in lower case: no i, l, o, u, so that ids survive being read aloud.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// prefix begins the name of every unit of ours.
const prefix = "lictor-"

// FleetSlice is the slice that holds all runs; deploy/ ships a unit that caps it.
const FleetSlice = "lictor.slice"

// NewRunID returns a random id (60 bits).
func NewRunID() RunID {
	var b [RunIDLen]byte
	_, _ = rand.Read(b[:]) // never fails (documented since Go 1.24)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return RunID(b[:])
}

// DeriveRunID returns the id that follows from a text, always the same one. It is as unlikely as NewRunID to meet another's.
func DeriveRunID(text string) RunID {
	sum := sha256.Sum256([]byte(text))
	id := make([]byte, RunIDLen)
	for i := range id {
		id[i] = alphabet[int(sum[i])%len(alphabet)]
	}
	return RunID(id)
}

// Valid reports whether id could have come from NewRunID.
func (id RunID) Valid() bool {
	return len(id) == RunIDLen && strings.Trim(string(id), alphabet) == ""
}

// Scope returns the name of the unit that holds the analysis.
func (id RunID) Scope() string { return prefix + string(id) + ".scope" }

// Ledger returns the name of the slice around the scope, which outlives it and keeps the kernel's counters.
func (id RunID) Ledger() string { return prefix + string(id) + ".slice" }

// Service returns the name of the unit that holds the launcher of a detached run.
func (id RunID) Service() string { return prefix + "launch-" + string(id) + ".service" }

// RunOfLedger is the reverse of Ledger; ok is false for units that are not ours.
func RunOfLedger(unit string) (id RunID, ok bool) { return runOf(unit, ".slice") }

func runOf(unit, suffix string) (id RunID, ok bool) {
	s, ok := strings.CutPrefix(unit, prefix)
	if !ok {
		return "", false
	}
	s, ok = strings.CutSuffix(s, suffix)
	return RunID(s), ok && RunID(s).Valid()
}
