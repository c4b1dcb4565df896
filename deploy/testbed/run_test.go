package main

import (
	"slices"
	"strconv"
	"testing"
)

// Where guests share the tests, large packages are cut up: every test is in one part, and their order is kept.
func TestParts(t *testing.T) {
	small, large := &build{names: []string{"TestA", "TestB"}}, &build{}
	for i := range 2*partSize + 1 {
		large.names = append(large.names, "Test"+strconv.Itoa(i))
	}
	for _, tt := range []struct {
		plan runPlan
		want []int // tests in each part
	}{
		{runPlan{guests: 1}, []int{2, 2*partSize + 1}},
		{runPlan{guests: 2}, []int{2, partSize, partSize, 1}},
		{runPlan{guests: 2, run: "TestA"}, []int{2, 2*partSize + 1}},
	} {
		var sizes []int
		var names []string
		for _, p := range tt.plan.parts([]*build{small, large}) {
			sizes, names = append(sizes, len(p.names)), append(names, p.names...)
		}
		if !slices.Equal(sizes, tt.want) || !slices.Equal(names, slices.Concat(small.names, large.names)) {
			t.Errorf("%+v: parts of %d, want %d; all: %q", tt.plan, sizes, tt.want, names)
		}
	}
}

// Only the guests of the last suite have several processors if there are not enough for all.
func TestHardwareOf(t *testing.T) {
	suites := []string{"bookworm", "trixie"}
	for _, tt := range []struct {
		plan       runPlan
		processors int
		want       []int
	}{
		{runPlan{suites: suites, guests: 1}, 2, []int{2, 2}},
		{runPlan{suites: suites, guests: 1, together: true}, 2, []int{1, 2}},
		{runPlan{suites: suites, guests: 1, together: true}, 4, []int{2, 2}},
		{runPlan{suites: suites, guests: 2, together: true}, 4, []int{1, 2}},
		{runPlan{suites: suites[:1], guests: 1, together: true}, 1, []int{2}},
	} {
		tt.plan.hardware = usual
		var got []int
		for _, suite := range tt.plan.suites {
			got = append(got, tt.plan.hardwareOf(suite, tt.processors).CPUs)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v on %d: %d processors, want %d", tt.plan, tt.processors, got, tt.want)
		}
	}
}

// A host with little memory, or few processors, has few guests.
func TestRoomFor(t *testing.T) {
	for _, tt := range []struct{ available, processors, want int }{{0, 8, 0}, {4096, 8, 0}, {8192, 8, 2}, {24576, 8, 8}, {24576, 2, 2}} {
		if got := max(0, roomFor(2048, tt.available, tt.processors)); got != tt.want {
			t.Errorf("%+v: room for %d", tt, got)
		}
	}
	if availableMiB() == 0 {
		t.Error("MemAvailable is not known")
	}
}
