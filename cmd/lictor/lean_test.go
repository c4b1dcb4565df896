package main

import "testing"

func TestLavish(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name string
		use  heapUse
		want bool
	}{
		{"before the first collection of a small heap", heapUse{objects: 2 * mib}, false},
		{"garbage", heapUse{live: 10 * mib, objects: 15 * mib}, true},
		{"little garbage", heapUse{live: 10 * mib, objects: 12 * mib}, false},
		{"little for so much", heapUse{live: 40 * mib, objects: 46 * mib, free: 2 * mib}, false},
		{"free", heapUse{live: 10 * mib, objects: 10 * mib, free: 8 * mib}, true},
		{"less than was live", heapUse{live: 10 * mib, objects: 4 * mib, free: mib}, false},
	} {
		if got := tt.use.lavish(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
