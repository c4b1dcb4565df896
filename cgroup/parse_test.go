package cgroup_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
)

const (
	memoryEvents61  = "low 0\nhigh 12\nmax 1137\noom 6\noom_kill 3\noom_group_kill 1\n"
	memoryEvents516 = "low 0\nhigh 0\nmax 1\noom 1\noom_kill 1\n"
)

func TestParseMemoryEvents(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     cgroup.MemoryEvents
		fails    bool
	}{
		{name: "6.1", in: memoryEvents61, want: cgroup.MemoryEvents{High: 12, Max: 1137, OOM: 6, OOMKill: 3, OOMGroupKill: 1, HasGroupKill: true}},
		{name: "5.16", in: memoryEvents516, want: cgroup.MemoryEvents{Max: 1, OOM: 1, OOMKill: 1}},
		{name: "a newer key", in: memoryEvents61 + "sock_throttled 5\n", want: cgroup.MemoryEvents{High: 12, Max: 1137, OOM: 6, OOMKill: 3, OOMGroupKill: 1, HasGroupKill: true}},
		{name: "group kill 0", in: memoryEvents516 + "oom_group_kill 0\n", want: cgroup.MemoryEvents{Max: 1, OOM: 1, OOMKill: 1, HasGroupKill: true}},
		{name: "empty", in: "", fails: true},
		{name: "no oom_kill", in: "low 0\nhigh 0\nmax 1\noom 1\n", fails: true},
		{name: "negative", in: "low 0\nhigh 0\nmax -1\noom 1\noom_kill 1\n", fails: true},
		{name: "no number", in: "low 0\nhigh\nmax 1\noom 1\noom_kill 1\n", fails: true},
		{name: "two spaces", in: "low  0\nhigh 0\nmax 1\noom 1\noom_kill 1\n", fails: true},
		{name: "three words", in: "low 0 0\nhigh 0\nmax 1\noom 1\noom_kill 1\n", fails: true},
		{name: "cut short", in: "low 0\nhigh 0\nmax 1\noom 1\noom_ki", fails: true},
		{name: "empty line", in: memoryEvents516 + "\n", fails: true},
		{name: "too large", in: "low 0\nhigh 0\nmax 18446744073709551616\noom 1\noom_kill 1\n", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := cgroup.ParseMemoryEvents(strings.NewReader(tt.in))
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %t", err, tt.fails)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseMemoryStat(t *testing.T) {
	const in = "anon 1048576\nfile 4096\nkernel 65536\nkernel_stack 16384\nshmem 12\ninactive_anon 1\nactive_anon 2\ninactive_file 4000\nactive_file 96\nworkingset_refault_anon 0\n"
	got, err := cgroup.ParseMemoryStat(strings.NewReader(in))
	want := cgroup.MemoryStat{Anon: 1048576, File: 4096, InactiveFile: 4000, Shmem: 12}
	if got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "anon 1\nfile 2\nshmem 3\n", "anon x\n"} {
		if got, err := cgroup.ParseMemoryStat(strings.NewReader(bad)); err == nil || got != (cgroup.MemoryStat{}) {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
}

func TestParseEvents(t *testing.T) {
	for in, want := range map[string]cgroup.Events{
		"populated 1\nfrozen 0\n":        {Populated: true},
		"populated 0\nfrozen 1\n":        {Frozen: true},
		"populated 1\nfrozen 1\nnew 7\n": {Populated: true, Frozen: true},
	} {
		got, err := cgroup.ParseEvents(strings.NewReader(in))
		if got != want || err != nil {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "populated 1\n", "frozen 0\n", "populated 2\nfrozen 0\n", "populated 0\nfrozen 9\n", "populated yes\nfrozen 0\n"} {
		if got, err := cgroup.ParseEvents(strings.NewReader(in)); err == nil || got != (cgroup.Events{}) {
			t.Errorf("%q: got %+v, %v; want an error", in, got, err)
		}
	}
}

func TestParsePressure(t *testing.T) {
	const in = "some avg10=0.50 avg60=1.24 avg300=0.37 total=1234567\nfull avg10=0.00 avg60=0.61 avg300=0.12 total=765432\n"
	want := cgroup.Pressure{
		Some: cgroup.PressureLine{Avg10: 0.5, Avg60: 1.24, Avg300: 0.37, Total: 1234567 * time.Microsecond},
		Full: cgroup.PressureLine{Avg60: 0.61, Avg300: 0.12, Total: 765432 * time.Microsecond},
	}
	got, err := cgroup.ParsePressure(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, bad := range []string{
		"",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		strings.Replace(in, "avg60=1.24 ", "", 1),
		strings.Replace(in, "1.24", "NaN", 1),
		strings.Replace(in, "1.24", "-1", 1),
		strings.Replace(in, "1.24", "100.01", 1),
		strings.Replace(in, "1234567", "18446744073709551615", 1),
		strings.Replace(in, "1234567", "", 1),
	} {
		if got, err := cgroup.ParsePressure(strings.NewReader(bad)); err == nil || got != (cgroup.Pressure{}) {
			t.Errorf("%q: got %+v, %v; want an error", bad, got, err)
		}
	}
}

func TestParsePidsEvents(t *testing.T) {
	if n, err := cgroup.ParsePidsEvents(strings.NewReader("max 4\nforkfail 1\n")); n != 4 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "forkfail 1\n", "max\n", "max max\n"} {
		if _, err := cgroup.ParsePidsEvents(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseCPUStat(t *testing.T) {
	d, err := cgroup.ParseCPUStat(strings.NewReader("usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n"))
	if d != 1234567*time.Microsecond || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
	for _, bad := range []string{"", "user_usec 1\n", "usage_usec -1\n", "usage_usec 18446744073709551615\n"} {
		if _, err := cgroup.ParseCPUStat(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseProcs(t *testing.T) {
	for _, tt := range []struct {
		in     string
		pids   []int
		hidden int
		fails  bool
	}{
		{in: ""},
		{in: "4711\n4712\n", pids: []int{4711, 4712}},
		{in: "9\n3\n9\n", pids: []int{3, 9}}, // neither sorted nor unique, as the document warns
		{in: "0\n4711\n0\n", pids: []int{4711}, hidden: 2},
		{in: "4711", pids: []int{4711}},
		{in: "-1\n", fails: true},
		{in: "4711\n\n", fails: true},
		{in: "2147483648\n", fails: true},
		{in: "x\n", fails: true},
	} {
		pids, hidden, err := cgroup.ParseProcs(strings.NewReader(tt.in))
		if !slices.Equal(pids, tt.pids) || hidden != tt.hidden || (err != nil) != tt.fails {
			t.Errorf("%q: got %v, %d, %v", tt.in, pids, hidden, err)
		}
	}
}

// The parsers say what the reader says, and do not take in a file without end.
func TestParsersReadErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, parse := range parsers {
		if err := parse(iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want the reader's error", name, err)
		}
		if err := parse(neverEnds{}); err == nil {
			t.Errorf("%s: no error for a file without end", name)
		}
	}
}

type neverEnds struct{}

func (neverEnds) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "1\n"[i%2]
	}
	return len(p), nil
}

var parsers = map[string]func(io.Reader) error{
	"ParseMemoryEvents": func(r io.Reader) error { _, err := cgroup.ParseMemoryEvents(r); return err },
	"ParseMemoryStat":   func(r io.Reader) error { _, err := cgroup.ParseMemoryStat(r); return err },
	"ParseEvents":       func(r io.Reader) error { _, err := cgroup.ParseEvents(r); return err },
	"ParsePressure":     func(r io.Reader) error { _, err := cgroup.ParsePressure(r); return err },
	"ParsePidsEvents":   func(r io.Reader) error { _, err := cgroup.ParsePidsEvents(r); return err },
	"ParseCPUStat":      func(r io.Reader) error { _, err := cgroup.ParseCPUStat(r); return err },
	"ParseProcs":        func(r io.Reader) error { _, _, err := cgroup.ParseProcs(r); return err },
}

func FuzzParseMemoryEvents(f *testing.F) {
	f.Add([]byte(memoryEvents61))
	f.Add([]byte(memoryEvents516))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := cgroup.ParseMemoryEvents(bytes.NewReader(b))
		switch {
		case err != nil && e != cgroup.MemoryEvents{}:
			t.Errorf("%q: %+v beside an error", b, e)
		case err == nil && !bytes.Contains(b, []byte("oom_kill ")):
			t.Errorf("%q: oom_kill %d out of nothing", b, e.OOMKill)
		case err == nil && e.HasGroupKill != hasKey(b, "oom_group_kill"):
			t.Errorf("%q: HasGroupKill %t", b, e.HasGroupKill)
		}
	})
}

func hasKey(b []byte, key string) bool {
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte(key+" ")) {
			return true
		}
	}
	return false
}

func FuzzParseMemoryStat(f *testing.F) {
	f.Add([]byte("anon 1\nfile 2\nkernel 5\nshmem 3\ninactive_file 4\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cgroup.ParseMemoryStat(bytes.NewReader(b))
		if err != nil && s != (cgroup.MemoryStat{}) {
			t.Errorf("%q: %+v beside an error", b, s)
		}
	})
}

func FuzzParseEvents(f *testing.F) {
	f.Add([]byte("populated 1\nfrozen 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := cgroup.ParseEvents(bytes.NewReader(b))
		if err == nil && (!hasKey(b, "populated") || !hasKey(b, "frozen")) {
			t.Errorf("%q: got %+v", b, e)
		}
	})
}

func FuzzParsePressure(f *testing.F) {
	f.Add([]byte("some avg10=0.00 avg60=1.24 avg300=0.37 total=1234567\nfull avg10=0.00 avg60=0.61 avg300=0.12 total=765432\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := cgroup.ParsePressure(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, l := range []cgroup.PressureLine{p.Some, p.Full} {
			for _, avg := range []float64{l.Avg10, l.Avg60, l.Avg300} {
				if !(avg >= 0 && avg <= 100) {
					t.Errorf("%q: %v percent", b, avg)
				}
			}
			if l.Total < 0 {
				t.Errorf("%q: total %v", b, l.Total)
			}
		}
	})
}

func FuzzParsePidsEvents(f *testing.F) {
	f.Add([]byte("max 4\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := cgroup.ParsePidsEvents(bytes.NewReader(b)); err == nil && !hasKey(b, "max") {
			t.Errorf("%q: got %d", b, n)
		}
	})
}

func FuzzParseCPUStat(f *testing.F) {
	f.Add([]byte("usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := cgroup.ParseCPUStat(bytes.NewReader(b)); err == nil && (d < 0 || !hasKey(b, "usage_usec")) {
			t.Errorf("%q: got %v", b, d)
		}
	})
}

func FuzzParseProcs(f *testing.F) {
	f.Add([]byte("4711\n0\n4712\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pids, hidden, err := cgroup.ParseProcs(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(pids)+hidden > bytes.Count(b, []byte("\n"))+1 {
			t.Errorf("%q: %v and %d hidden", b, pids, hidden)
		}
		for _, pid := range pids {
			if pid <= 0 {
				t.Errorf("%q: pid %d", b, pid)
			}
		}
	})
}
