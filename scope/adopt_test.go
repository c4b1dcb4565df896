package scope

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/scope/scopetest"
)

// stray starts a process outside of every scope of the played host.
func (h *host) stray() int {
	h.t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	h.tree.Make("/user.slice/session-1.scope")
	h.tree.Join("/user.slice/session-1.scope", cmd.Process.Pid)
	return cmd.Process.Pid
}

func adoptSpec(pid int) AdoptSpec {
	return AdoptSpec{Spec: Spec{Args: []string{"sleep", "600"}, AnalysisID: "SDA-117"}, PID: pid}
}

func TestAdopt(t *testing.T) {
	h := newHost(t)
	pid := h.stray()
	s, err := h.l.Adopt(t.Context(), adoptSpec(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	led, err := h.l.Ledger(s.Spec.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer led.Group.Close()
	f := led.Facts
	if !f.Adopted || f.Leader.PID != pid || f.OwnerExit != OwnerKeep || f.Owner != (ProcessID{}) || f.UID != uint32(os.Getuid()) ||
		f.AnalysisID != "SDA-117" || f.Deadline == nil || *f.Deadline != s.Started+DefaultRuntimeMax {
		t.Errorf("facts %+v", f)
	}
	if led.Keeper.Alive() || !f.Leader.Alive() {
		t.Errorf("keeper %v, leader %v", led.Keeper, f.Leader)
	}
	if _, err := s.Wait(t.Context()); !errors.Is(err, ErrNotChild) {
		t.Errorf("wait: %v", err)
	}
	if err := s.Signal(os.Interrupt); !errors.Is(err, ErrNotChild) {
		t.Errorf("signal: %v", err)
	}
}

// Whatever goes wrong, the process lives on and no unit of the run is left.
func TestAdoptTakesBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(*host)
	}{
		{"the job fails", func(h *host) { h.fake.JobsEnd("failed") }},
		{"systemd refuses", func(h *host) {
			h.fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply {
				return scopetest.Fail("org.freedesktop.DBus.Error.AccessDenied", "no")
			})
		}},
		{"another limit", func(h *host) {
			h.makes = func(ledger string, _ int) {
				unit := strings.Replace(path.Base(ledger), ".slice", ".scope", 1)
				h.tree.Write(ledger+"/"+unit, "memory.max", "max")
			}
		}},
		{"no facts can be written", func(h *host) {
			h.makes = func(ledger string, _ int) { _ = os.Chmod(h.tree.Dir(ledger), 0o555) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "no facts can be written" && os.Getuid() == 0 {
				t.Skip("nothing is forbidden to root")
			}
			h := newHost(t)
			pid := h.stray()
			h.fake.Handle("Abandon", func(scopetest.Call) scopetest.Reply { return scopetest.Reply{} })
			tt.play(h)
			made := h.makes
			h.makes = func(ledger string, pid int) {
				if strings.Contains(ledger, "/lictor-") && made != nil {
					made(ledger, pid)
				}
			}
			if h.fake.OnUnit(nil); tt.name != "the job fails" { // then nobody was moved
				h.fake.OnUnit(h.leaving(pid))
			}
			if _, err := h.l.Adopt(t.Context(), adoptSpec(pid)); err == nil {
				t.Error("no error")
			}
			if err := exec.Command("kill", "-0", strconv.Itoa(pid)).Run(); err != nil {
				t.Error("the process was ended")
			}
			for _, unit := range h.fake.Units() {
				if strings.HasSuffix(unit, ".slice") { // with which a real systemd stops the scope in it
					t.Errorf("unit left: %s", unit)
				}
			}
		})
	}
}

// leaving plays systemd, for which a process that is put into a scope leaves where it was.
func (h *host) leaving(pid int) func(string, map[string]dbus.Variant) {
	return func(unit string, ps map[string]dbus.Variant) {
		h.tree.Leave(pid)
		if strings.HasPrefix(unit, prefix) {
			h.makeCgroups(unit, ps)
			return
		}
		h.tree.Make("/app.slice/" + unit)
		h.tree.Join("/app.slice/"+unit, pid)
	}
}

func TestAdoptEnded(t *testing.T) {
	h := newHost(t)
	for _, pid := range []int{-1, 0, 4 << 20} {
		var refused *AdoptError
		if _, err := h.l.Adopt(t.Context(), adoptSpec(pid)); !errors.As(err, &refused) || refused.Why != "no such process" {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if calls := h.fake.Calls("StartTransientUnit"); len(calls) != 0 {
		t.Errorf("systemd was asked for %d units", len(calls))
	}
}
