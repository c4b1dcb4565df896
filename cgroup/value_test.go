package cgroup_test

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/scidex/lictor/cgroup"
)

func TestValueStates(t *testing.T) {
	for _, tt := range []struct {
		name       string
		v          cgroup.Value
		text       string
		n          uint64
		ok         bool
		max, isSet bool
	}{
		{"unset", cgroup.Unset, "unset", 0, false, false, false},
		{"zero value", cgroup.Value{}, "unset", 0, false, false, false},
		{"max", cgroup.Max, "max", 0, false, true, true},
		{"nought", cgroup.Bytes(0), "0", 0, true, false, true},
		{"2G", cgroup.Bytes(2 << 30), "2147483648", 2 << 30, true, false, true},
		{"all ones", cgroup.Number(math.MaxUint64), "18446744073709551615", math.MaxUint64, true, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := tt.v.Uint64()
			if tt.v.String() != tt.text || n != tt.n || ok != tt.ok || tt.v.IsMax() != tt.max || tt.v.IsSet() != tt.isSet {
				t.Errorf("got %v, Uint64 %d %t, IsMax %t, IsSet %t", tt.v, n, ok, tt.v.IsMax(), tt.v.IsSet())
			}
		})
	}
	if cgroup.Unset == cgroup.Bytes(0) || cgroup.Max == cgroup.Bytes(0) || cgroup.Max == cgroup.Bytes(math.MaxUint64) {
		t.Error("unset, max and numbers are not told apart")
	}
}

func TestValueRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(
			rapid.Just(cgroup.Unset),
			rapid.Just(cgroup.Max),
			rapid.Map(rapid.Uint64(), cgroup.Bytes),
		).Draw(t, "value")
		parsed, err := cgroup.ParseValue(v.String())
		if err != nil || parsed != v {
			t.Fatalf("ParseValue(%q) = %v, %v", v, parsed, err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back := cgroup.Bytes(1)
		if err := json.Unmarshal(text, &back); err != nil || back != v {
			t.Fatalf("%s: got %v, %v", text, back, err)
		}
	})
}

func TestParseValueRejects(t *testing.T) {
	for _, s := range []string{"-1", "+1", "1 2", "1.5", "0x10", "1_000", "MAX", "max max", " 1", "1\n\n", "\n", "2G", "18446744073709551616"} {
		if v, err := cgroup.ParseValue(s); err == nil {
			t.Errorf("ParseValue(%q) = %v, want an error", s, v)
		}
	}
}

func TestUnmarshalKeepsOnError(t *testing.T) {
	v := cgroup.Max
	if err := v.UnmarshalText([]byte("nonsense")); err == nil || v != cgroup.Max {
		t.Errorf("got %v, %v", v, err)
	}
}

func FuzzParseValue(f *testing.F) {
	for _, s := range []string{"max\n", "0\n", "18446744073709551615", "", "unset", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := cgroup.ParseValue(s)
		if err != nil {
			if v != cgroup.Unset {
				t.Errorf("%q: %v beside an error", s, v)
			}
			return
		}
		again, err := cgroup.ParseValue(v.String())
		if err != nil || again != v {
			t.Errorf("%q: %v came back as %v, %v", s, v, again, err)
		}
	})
}
