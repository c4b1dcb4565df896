package events_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// The catalog explains every kind of event and nothing else, and names only fields that every such entry has: journalctl
// prints the bare name of a field that is missing.
func TestCatalog(t *testing.T) {
	b, err := os.ReadFile("../deploy/lictor.catalog")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, kind := range events.Kinds {
		id := events.MessageIDs[kind]
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("MESSAGE_ID of %s: %q", kind, id)
		}
		want = append(want, id)
	}
	if len(events.MessageIDs) != len(events.Kinds) {
		t.Errorf("%d message ids for %d kinds", len(events.MessageIDs), len(events.Kinds))
	}
	entries := strings.Split(string(b), "\n-- ")[1:]
	var got []string
	for _, entry := range entries {
		id, rest, _ := strings.Cut(entry, "\n")
		got = append(got, id)
		if head, text, ok := strings.Cut(rest, "\n\n"); !ok || !strings.HasPrefix(head, "Subject: ") || strings.TrimSpace(text) == "" {
			t.Errorf("entry %s has no subject or no text", id)
		}
		always := []string{"@LICTOR_RUN@"}
		if id == events.MessageIDs[events.KindEnded] {
			always = append(always, "@LICTOR_STATE@")
		}
		for _, field := range regexp.MustCompile(`@\w+@`).FindAllString(rest, -1) {
			if !slices.Contains(always, field) {
				t.Errorf("entry %s names %s, which not every entry has", id, field)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ids (-code +catalog):\n%s", diff)
	}
}

// journalctl itself accepts the file.
func TestCatalogCompiles(t *testing.T) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("no journalctl")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "usr", "lib", "systemd", "catalog")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../deploy/lictor.catalog")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lictor.catalog"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{"--update-catalog", "--list-catalog"} {
		out, err := exec.CommandContext(t.Context(), "journalctl", "--root="+root, arg).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl %s: %v: %s", arg, err, out)
		}
		if n := strings.Count(string(out), " lictor: "); arg == "--list-catalog" && n != len(events.Kinds) {
			t.Errorf("journalctl knows %d entries, want %d:\n%s", n, len(events.Kinds), out)
		}
	}
}
