package events_test

import (
	"testing"

	"github.com/scidex/lictor/events"
)

// These ids are in people's databases. If this test fails, a record that is written twice is no longer recognised.
func TestEventIDNeverChanges(t *testing.T) {
	for _, c := range []struct {
		run     events.RunID
		kind    events.Kind
		ordinal int
		want    string
	}{
		{"7f3k7m1d2c5h", events.KindEnded, 0, "d09f830e-ede9-50f2-8710-463d53cefa6e"},
		{"7f3k7m1d2c5h", events.KindOOM, 0, "3def5182-e6bc-589d-a941-c5155dffc1a6"},
		{"7f3k7m1d2c5h", events.KindOOM, 1, "d353a143-2b4a-52de-9ba2-db2a6db6361d"},
		{"7f3k9q2a0000", events.KindStarted, 12, "3ed1de6b-f7d7-5bb8-9ac7-6aa537c2672a"},
	} {
		if got := events.EventID(c.run, c.kind, c.ordinal); got != c.want {
			t.Errorf("EventID(%q, %q, %d) = %s, want %s", c.run, c.kind, c.ordinal, got, c.want)
		}
	}
}

func TestEventIDsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, run := range []events.RunID{"a", "a\x00b", "ab"} {
		for _, kind := range events.Kinds {
			for ordinal := range 12 {
				id := events.EventID(run, kind, ordinal)
				name := string(run) + "/" + string(kind)
				if other, ok := seen[id]; ok {
					t.Errorf("%s and %s/%d have the same id", other, name, ordinal)
				}
				seen[id] = name
			}
		}
	}
}
