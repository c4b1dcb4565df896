package scope

import (
	"math"
	"strings"
	"testing"
)

func TestNewRunID(t *testing.T) {
	if 256%len(alphabet) != 0 {
		t.Error("a byte modulo the length of the alphabet is not uniform")
	}
	const n = 20_000
	seen := make(map[RunID]bool, n)
	var counts [256]int
	for range n {
		id := NewRunID()
		if len(id) != RunIDLen || !id.Valid() || seen[id] {
			t.Fatalf("got %q; seen before: %t", id, seen[id])
		}
		seen[id] = true
		for _, c := range []byte(id) {
			counts[c]++
		}
	}
	mean := float64(n*RunIDLen) / float64(len(alphabet))
	for _, c := range []byte(alphabet) {
		if d := math.Abs(float64(counts[c]) - mean); d > 8*math.Sqrt(mean) {
			t.Errorf("%q came %d times, %.0f is the mean", c, counts[c], mean)
		}
	}
}

func TestRunOfLedger(t *testing.T) {
	tests := []struct {
		unit string
		want RunID
	}{
		{"lictor-0123456789ab.slice", "0123456789ab"},
		{"lictor-0123456789ab.scope", ""},
		{"lictor.slice", ""},
		{"lictor-.slice", ""},
		{"lictor-0123456789a.slice", ""},
		{"lictor-0123456789abc.slice", ""},
		{"lictor-0123456789aB.slice", ""},
		{"lictor-0123456789al.slice", ""}, // there is no l
		{"lictor-012345-789ab.slice", ""},
		{"lictor-0123456789ab.slice.slice", ""},
		{"lictor-0123456789ab.slice\n", ""},
		{"xlictor-0123456789ab.slice", ""},
		{"user.slice", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got, ok := RunOfLedger(tt.unit); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%q: got %q, %t; want %q", tt.unit, got, ok, tt.want)
		}
	}
}

func FuzzRunOfLedger(f *testing.F) {
	for _, s := range []string{"lictor-0123456789ab.slice", "lictor-a-b.slice", "user.slice", "../x", "lictor-.slice.slice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, unit string) {
		id, ok := RunOfLedger(unit)
		if !ok {
			return
		}
		if id.Ledger() != unit || !id.Valid() || strings.ContainsAny(string(id), "-./\x00") {
			t.Errorf("%q gives %q, whose ledger is %q", unit, id, id.Ledger())
		}
		if _, ok := RunOfLedger(id.Scope()); ok {
			t.Errorf("%q is taken for a ledger", id.Scope())
		}
	})
}
