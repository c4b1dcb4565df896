package scope

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/scope/scopetest"
)

func pointer[T any](v T) *T { return &v }

func TestChangeProperties(t *testing.T) {
	weight, err := ParseProperty("CPUWeight=50")
	if err != nil {
		t.Fatal(err)
	}
	c := Change{MemoryMax: pointer(uint64(1 << 30)), MemoryHigh: pointer(uint64(NoLimit)), TasksMax: pointer(uint64(7)),
		CPUQuota: pointer(1.5), Properties: []Property{weight}}
	got := map[string]any{}
	for _, p := range c.properties() {
		got[p.Name] = p.Value.Value()
	}
	want := map[string]any{"MemoryMax": uint64(1 << 30), "MemoryHigh": uint64(NoLimit), "TasksMax": uint64(7),
		"CPUQuotaPerSecUSec": uint64(1500000), "CPUWeight": uint64(50)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ps := (Change{CPUQuota: pointer(0.0)}).properties(); len(ps) != 1 || ps[0].Value.Value() != uint64(NoLimit) {
		t.Errorf("no quota: got %v, want infinity", ps)
	}
}

func TestChangeValidate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		c     Change
		field string // empty: fine
	}{
		{"nothing", Change{}, ""},
		{"lifted", Change{MemoryMax: pointer(uint64(NoLimit)), CPUQuota: pointer(0.0)}, ""},
		{"too little memory", Change{MemoryMax: pointer(uint64(4096))}, "MemoryMax"},
		{"no memory is not the default", Change{MemoryMax: pointer(uint64(0))}, "MemoryMax"},
		{"too little before throttling", Change{MemoryHigh: pointer(uint64(0))}, "MemoryHigh"},
		{"a quota below 0", Change{CPUQuota: pointer(-1.0)}, "CPUQuota"},
		{"a property that is not on the list", Change{Properties: []Property{property("Slice", "system.slice")}}, "property"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.validate()
			var spec *SpecError
			if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &spec) || spec.Field != tt.field) {
				t.Errorf("got %v, want an error about %q", err, tt.field)
			}
		})
	}
}

func TestFactsApply(t *testing.T) {
	before := Facts{MemoryMax: 100, SwapMax: 0, MemoryHigh: 50, TasksMax: 10, CPUQuota: 2}
	for _, tt := range []struct {
		name string
		c    Change
		want Facts
	}{
		{"nothing", Change{}, before},
		{"memory", Change{MemoryMax: pointer(uint64(200)), MemorySwapMax: pointer(uint64(NoLimit))},
			Facts{MemoryMax: 200, SwapMax: NoLimit, MemoryHigh: 50, TasksMax: 10, CPUQuota: 2}},
		{"lifted", Change{MemoryMax: pointer(uint64(NoLimit)), MemoryHigh: pointer(uint64(NoLimit)), TasksMax: pointer(uint64(NoLimit)),
			CPUQuota: pointer(0.0)}, Facts{MemoryMax: NoLimit}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, before.apply(tt.c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What somebody else has changed is told from what the kernel rounds and from what was never asked for.
func TestFactsDiffering(t *testing.T) {
	asked := Facts{MemoryMax: 100<<20 + 17, TasksMax: 50}
	for _, tt := range []struct {
		name  string
		facts Facts
		files map[string]string
		want  Facts
	}{
		{"rounded down to pages", asked, map[string]string{"memory.max": "104857600", "pids.max": "50"}, asked},
		{"raised", asked, map[string]string{"memory.max": "209715200", "pids.max": "60"}, Facts{MemoryMax: 200 << 20, TasksMax: 60}},
		{"lifted", asked, map[string]string{"memory.max": "max", "pids.max": "max"}, Facts{MemoryMax: NoLimit, TasksMax: NoLimit}},
		{"known to be lifted", Facts{MemoryMax: NoLimit, TasksMax: NoLimit}, map[string]string{"memory.max": "max", "pids.max": "max"},
			Facts{MemoryMax: NoLimit, TasksMax: NoLimit}},
		{"the manager's default of tasks", Facts{MemoryMax: NoLimit}, map[string]string{"memory.max": "max", "pids.max": "4915"}, Facts{MemoryMax: NoLimit}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.tree.Make("/a")
			for file, text := range tt.files {
				h.tree.Write("/a", file, text)
			}
			g := h.tree.Open("/a")
			got, foreign, err := tt.facts.Foreign(g)
			if err != nil || foreign != (tt.want.MemoryMax != tt.facts.MemoryMax || tt.want.TasksMax != tt.facts.TasksMax) {
				t.Errorf("foreign: %v, %v", foreign, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			ours := tt.facts
			if ours.Setter, err = Self(); err != nil {
				t.Fatal(err)
			}
			if _, foreign, err := ours.Foreign(g); foreign || err != nil {
				t.Errorf("while one of ours is at it: %v, %v", foreign, err)
			}
		})
	}
}

// A change that systemd refuses, or that the kernel does not have afterwards, leaves the ledger's words as they were.
func TestSetLimitsTakesItsWordsBack(t *testing.T) {
	h := newHost(t)
	s, err := h.l.Launch(t.Context(), shell("sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer func() { _, _ = s.Wait(t.Context()) }()
	defer func() { _ = s.Signal(syscall.SIGKILL) }()
	led, err := h.l.Ledger(s.Spec.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer led.Group.Close()
	change := Change{MemoryMax: pointer(uint64(64 << 20))}
	for name, reply := range map[string]scopetest.Reply{
		"refused":         scopetest.Fail("org.freedesktop.DBus.Error.AccessDenied", "no"),
		"done by halves":  {}, // systemd says yes, and the kernel's file is as it was
		"no such unit":    scopetest.Fail("org.freedesktop.systemd1.NoSuchUnit", "gone"),
		"unknown setting": scopetest.Fail("org.freedesktop.DBus.Error.PropertyReadOnly", "no"),
	} {
		h.fake.Handle("SetUnitProperties", func(scopetest.Call) scopetest.Reply { return reply })
		if err := h.l.SetLimits(t.Context(), led, change); err == nil {
			t.Errorf("%s: no error", name)
		}
		facts, _, _, err := ReadFacts(led.Group)
		if err != nil || facts.MemoryMax != DefaultMemoryMax || facts.Setter != (ProcessID{}) {
			t.Errorf("%s: the ledger says %d, set by %v, %v", name, facts.MemoryMax, facts.Setter, err)
		}
	}
	h.fake.Handle("SetUnitProperties", func(scopetest.Call) scopetest.Reply {
		h.tree.Write(s.Group.Path(), "memory.max", "67108864")
		return scopetest.Reply{}
	})
	if err := h.l.SetLimits(t.Context(), led, change); err != nil {
		t.Error(err)
	}
	if facts, _, _, err := ReadFacts(led.Group); err != nil || facts.MemoryMax != 64<<20 || facts.Setter != (ProcessID{}) {
		t.Errorf("the ledger says %+v, %v", facts, err)
	}
}
