package cgroup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

// Each reader takes its number from its file and from no other.
func TestReaders(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	for file, content := range map[string]string{
		"memory.current":      "101",
		"memory.peak":         "102",
		"memory.max":          "103",
		"memory.high":         "104",
		"memory.swap.max":     "105",
		"memory.swap.current": "106",
		"memory.oom.group":    "1",
		"memory.events":       "low 0\nhigh 0\nmax 107\noom 0\noom_kill 0",
		"memory.events.local": "low 0\nhigh 0\nmax 108\noom 0\noom_kill 0",
		"pids.current":        "109",
		"pids.peak":           "110",
		"pids.max":            "111",
		"pids.events":         "max 112",
		"pids.events.local":   "max 113",
		"memory.stat":         "anon 114\nfile 115\nshmem 116\ninactive_file 117",
		"cpu.stat":            "usage_usec 118\nuser_usec 100\nsystem_usec 18",
		"cgroup.events":       "populated 1\nfrozen 1",
	} {
		tree.Write("/a", file, content)
	}
	check := func(name string, got any, err error, want string) {
		t.Helper()
		if s := fmt.Sprint(got); s != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", name, s, err, want)
		}
	}
	n, err := g.MemoryCurrent()
	check("MemoryCurrent", n, err, "101")
	v, err := g.MemoryPeak()
	check("MemoryPeak", v, err, "102")
	v, err = g.MemoryMax()
	check("MemoryMax", v, err, "103")
	v, err = g.MemoryHigh()
	check("MemoryHigh", v, err, "104")
	v, err = g.MemorySwapMax()
	check("MemorySwapMax", v, err, "105")
	n, err = g.MemorySwapCurrent()
	check("MemorySwapCurrent", n, err, "106")
	b, err := g.MemoryOOMGroup()
	check("MemoryOOMGroup", b, err, "true")
	e, err := g.MemoryEvents()
	check("MemoryEvents", e.Max, err, "107")
	e, err = g.MemoryEventsLocal()
	check("MemoryEventsLocal", e.Max, err, "108")
	n, err = g.PidsCurrent()
	check("PidsCurrent", n, err, "109")
	v, err = g.PidsPeak()
	check("PidsPeak", v, err, "110")
	v, err = g.PidsMax()
	check("PidsMax", v, err, "111")
	n, err = g.PidsEvents()
	check("PidsEvents", n, err, "112")
	v, err = g.PidsEventsLocal()
	check("PidsEventsLocal", v, err, "113")
	s, err := g.MemoryStat()
	check("MemoryStat", s, err, "{114 115 117 116}")
	d, err := g.CPUUsage()
	check("CPUUsage", d, err, "118µs")
	b, err = g.Populated()
	check("Populated", b, err, "true")
	b, err = g.Frozen()
	check("Frozen", b, err, "true")
	l, err := g.Limits()
	check("Limits", l, err, "{103 104 105 111}")
}

func TestReaderOfNumberRefusesMax(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Write("/a", "memory.current", "max")
	if n, err := g.MemoryCurrent(); err == nil {
		t.Errorf("got %d", n)
	}
}

func TestReadersRefuseEmptyFiles(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	for _, file := range []string{"memory.current", "memory.peak", "memory.events", "cgroup.events", "cpu.stat", "memory.stat", "pids.events"} {
		tree.Write("/a", file, "")
	}
	_, current := g.MemoryCurrent()
	_, peak := g.MemoryPeak()
	_, memory := g.MemoryEvents()
	_, events := g.Events()
	_, cpu := g.CPUUsage()
	_, stat := g.MemoryStat()
	_, pids := g.PidsEvents()
	for i, err := range []error{current, peak, memory, events, cpu, stat, pids} {
		if err == nil {
			t.Errorf("call %d: an empty file is no error", i)
		}
	}
}

// Files longer than the buffer on the stack are read to the end.
func TestLongFiles(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	var stat, procs strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&stat, "key_number_%d %d\n", i, i)
	}
	stat.WriteString("anon 1\nfile 2\nshmem 3\ninactive_file 4\n")
	tree.Write("/a", "memory.stat", stat.String())
	var want []int
	for pid := 1; pid <= 5000; pid++ {
		fmt.Fprintln(&procs, pid)
		want = append(want, pid)
	}
	tree.Write("/a", "cgroup.procs", procs.String())

	if s, err := g.MemoryStat(); s.InactiveFile != 4 || err != nil {
		t.Errorf("MemoryStat: %+v, %v", s, err)
	}
	if got, err := g.Procs(); !slices.Equal(got, want) || err != nil {
		t.Errorf("Procs: %d pids, %v; want %d", len(got), err, len(want))
	}
}

func TestAllProcs(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Make("/a/b/c")
	tree.Make("/a/d")
	tree.Make("/other")
	tree.Join("/a", 30)
	tree.Join("/a/b/c", 10, 20)
	tree.Join("/a/d", 40)
	tree.Join("/other", 50)

	own, err := g.Procs()
	if !slices.Equal(own, []int{30}) || err != nil {
		t.Errorf("Procs: got %v, %v", own, err)
	}
	all, err := g.AllProcs()
	if !slices.Equal(all, []int{10, 20, 30, 40}) || err != nil {
		t.Errorf("AllProcs: got %v, %v", all, err)
	}
}

func TestHiddenProcs(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Make("/a/b")
	tree.Write("/a", "cgroup.procs", "7")
	tree.Write("/a/b", "cgroup.procs", "0\n8\n0")
	pids, err := g.AllProcs()
	if !slices.Equal(pids, []int{7, 8}) || !errors.Is(err, cgroup.ErrHidden) {
		t.Errorf("got %v, %v; want 7, 8 and ErrHidden", pids, err)
	}
}

func TestUsage(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.Write("/a", "cpu.stat", "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 5")
	tree.Write("/a", "memory.current", "4096")
	tree.Write("/a", "memory.peak", "8192")
	tree.Write("/a", "memory.stat", "anon 1\nfile 2\nkernel 5\nshmem 3\ninactive_file 4")
	tree.Write("/a", "io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=2 rios=1 wios=2 dbytes=0 dios=0")
	got, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	want := cgroup.Usage{
		CPU: 3 * time.Millisecond, User: 2 * time.Millisecond, System: time.Millisecond, Throttled: 5 * time.Microsecond,
		MemoryCurrent: cgroup.Bytes(4096),
		MemoryPeak:    cgroup.Bytes(8192),
		MemoryStat:    cgroup.MemoryStat{Anon: 1, File: 2, InactiveFile: 4, Shmem: 3},
		IORead:        cgroup.Bytes(11),
		IOWritten:     cgroup.Bytes(22),
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(cgroup.Value{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestUsageWithoutControllers(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	tree.WithoutController("/a", "memory")
	tree.WithoutController("/a", "io")
	got, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if got.MemoryCurrent.IsSet() || got.MemoryPeak.IsSet() || got.IORead.IsSet() || got.IOWritten.IsSet() {
		t.Errorf("got %+v, want memory and io unset", got)
	}
}

// The library behind Usage reads by path; it must not find the cgroup that took over the name.
func TestUsageOfReusedName(t *testing.T) {
	tree := cgrouptest.New(t)
	old := tree.Open("/a")
	tree.Remove("/a")
	tree.Make("/a")
	if u, err := old.Usage(); !errors.Is(err, cgroup.ErrGone) {
		t.Errorf("got %+v, %v; want ErrGone", u, err)
	}
}

func BenchmarkReads(b *testing.B) {
	tree := cgrouptest.New(b)
	g := tree.Open("/a")
	for name, call := range map[string]func() error{
		"MemoryEvents":  func() error { _, err := g.MemoryEvents(); return err },
		"MemoryCurrent": func() error { _, err := g.MemoryCurrent(); return err },
		"MemoryStat":    func() error { _, err := g.MemoryStat(); return err },
		"Events":        func() error { _, err := g.Events(); return err },
		"CPUUsage":      func() error { _, err := g.CPUUsage(); return err },
		"Procs":         func() error { _, err := g.Procs(); return err },
		"Pressure":      func() error { _, err := g.MemoryPressure(); return err },
		"Usage":         func() error { _, err := g.Usage(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The hot path allocates the name for the kernel and nothing else.
func TestReadsAreCheap(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	for name, call := range map[string]func(){
		"MemoryEvents":   func() { g.MemoryEvents() },
		"MemoryCurrent":  func() { g.MemoryCurrent() },
		"MemoryStat":     func() { g.MemoryStat() },
		"Events":         func() { g.Events() },
		"CPUUsage":       func() { g.CPUUsage() },
		"MemoryPressure": func() { g.MemoryPressure() },
		"PidsEvents":     func() { g.PidsEvents() },
	} {
		if n := testing.AllocsPerRun(100, call); n > 2 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
