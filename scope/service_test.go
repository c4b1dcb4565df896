package scope

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func testService() ServiceSpec {
	return ServiceSpec{Run: testRun, Program: "/usr/bin/lictor", Args: []string{"lictor", "launch", string(testRun)},
		Description: "lictor: launcher\x1b[31m", Umask: 0o027, Nice: 5, OOMScore: -100, StopTimeout: 100 * time.Second,
		Limits: []Rlimit{{"NOFILE", 1024, 4000}, {"CPU", NoLimit, NoLimit}}}
}

// What systemd is told of a launcher is in testdata/service.golden.
func TestServiceProperties(t *testing.T) {
	var got strings.Builder
	for _, p := range serviceProperties(testService()) {
		value := p.Value.String()
		if p.Name == "SuccessExitStatus" {
			value = fmt.Sprintf("%s %d codes", p.Value.Signature(), len(anyStatus()))
		}
		fmt.Fprintf(&got, "%s %s\n", p.Name, value)
	}
	const golden = "testdata/service.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("not as in %s (-update writes it anew):\n%s", golden, got.String())
	}
}

// A launcher's unit is never taken for a run, nor for its ledger.
func TestServiceIsNoLedger(t *testing.T) {
	if id, ok := RunOfLedger(testRun.Service()); ok {
		t.Errorf("taken for the ledger of %q", id)
	}
}

// The unit has the name of the launcher.
func TestStartService(t *testing.T) {
	h := newHost(t)
	h.fake.OnUnit(nil)
	if err := h.l.StartService(t.Context(), testService()); err != nil {
		t.Fatal(err)
	}
	if calls := h.fake.Calls("StartTransientUnit"); len(calls) != 1 || calls[0].Unit() != testRun.Service() {
		t.Errorf("calls %v, want one for %s", calls, testRun.Service())
	}
}
