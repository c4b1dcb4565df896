//go:build integration

package events_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// The journald of this machine takes our entries, and `journalctl -u` shows them under the scope.
func TestJournalOfSystem(t *testing.T) {
	if _, err := os.Stat(events.JournalSocket); err != nil {
		t.Skip("no journald")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: journalctl -u believes OBJECT_SYSTEMD_UNIT= only from root")
	}
	r := eventstest.NewRun(events.RunID(fmt.Sprintf("test%x", time.Now().UnixNano())))
	r.AnalysisID = "two\nlines"
	ended, e := eventstest.Ended(r)
	j := events.NewJournal(events.JournalOptions{})
	j.Send(e, ended)
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "journalctl", "--sync").CombinedOutput(); err != nil {
		t.Fatalf("journalctl --sync: %v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "journalctl", "-u", r.Unit, "-o", "json", "--no-pager").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("journalctl -u %s: %v: %q", r.Unit, err, out)
	}
	for name, want := range map[string]string{"MESSAGE": ended.Summary(), "LICTOR_ANALYSIS_ID": "two\nlines", "PRIORITY": "4",
		"MESSAGE_ID": events.MessageIDs[events.KindEnded], "LICTOR_EVENT_ID": e.ID} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasPrefix(fmt.Sprint(got["_TRANSPORT"]), "journal") {
		t.Errorf("transport %v, want the native one", got["_TRANSPORT"])
	}
}
