package main

import "testing"

func TestStandingNext(t *testing.T) {
	tests := []struct {
		name string
		s    standing
		want waitStep
	}{
		{"on record", standing{recorded: true}, waitOver},
		{"on record, its keeper has not ended yet", standing{recorded: true, kept: true}, waitOver},
		{"on record, with survivors", standing{recorded: true, populated: true}, waitOver},
		{"kept", standing{kept: true, populated: true}, waitEmpty},
		{"kept, nobody left", standing{kept: true}, waitRecord},
		{"somebody else records it meanwhile", standing{kept: true, settled: true}, waitRecord},
		{"keeper dead, analysis alive", standing{populated: true}, waitEmpty},
		{"keeper and analysis dead", standing{}, waitSettle},
		{"settling was in vain", standing{settled: true}, waitGiveUp},
	}
	for _, tt := range tests {
		if got := tt.s.next(); got != tt.want {
			t.Errorf("%s: got step %d, want %d", tt.name, got, tt.want)
		}
	}
}
