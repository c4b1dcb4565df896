package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scidex/lictor/events"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file in testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got, -update accepts):\n%s", path, diff)
	}
}

func indent(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// testdata/run.json is the example of lictor/v1 in the documentation: what it says must survive.
func TestRunJSON(t *testing.T) {
	example, err := os.ReadFile("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	var r events.Run
	d := json.NewDecoder(bytes.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	got, err := events.EncodeRun(&r)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "run.golden.json", indent(t, got))
	wantSubset(t, "", decode(t, example), decode(t, got))
	again, err := events.DecodeRun(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&r, again); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// wantSubset checks that everything in want is in got with the same value.
func wantSubset(t *testing.T, path string, want, got any) {
	t.Helper()
	w, ok := want.(map[string]any)
	if !ok {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		return
	}
	g, _ := got.(map[string]any)
	for k, v := range w {
		gv, ok := g[k]
		if !ok {
			t.Errorf("%s.%s is missing", path, k)
			continue
		}
		wantSubset(t, path+"."+k, v, gv)
	}
}

// A record of which nothing is known says null and [], never 0 and never null for a list.
func TestEmptyRunJSON(t *testing.T) {
	got, err := events.EncodeRun(&events.Run{Run: "7f3k7m1d2c5h"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "empty.golden.json", indent(t, got))
}

func TestRunJSONIsUTC(t *testing.T) {
	east := time.FixedZone("east", 3600)
	at := time.Date(2026, 11, 23, 16, 0, 0, 0, east)
	r := events.Run{StartedAt: at, EndedAt: &at, Escalation: []events.Step{{Step: "term", At: at}}}
	for name, v := range map[string]any{"value": r, "pointer": &r} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte(`"2026-11-23T15:00:00Z"`)); n != 3 {
			t.Errorf("%s: %d of 3 times are in UTC: %s", name, n, b)
		}
	}
	if r.EndedAt.Location() != east || r.Escalation[0].At.Location() != east {
		t.Error("marshalling changed the record")
	}
}

func TestEventJSON(t *testing.T) {
	r := &events.Run{Run: "7f3k7m1d2c5h", AnalysisID: "SDA-117", State: events.StateKilled, Reason: events.ReasonOOM}
	e := events.NewEvent(r, events.KindEnded, 0, time.Date(2026, 11, 23, 15, 4, 38, 250e6, time.UTC))
	e.PID, e.MemoryBytes, e.DurationSeconds = ptr(48213), ptr(uint64(2147479552)), ptr(97.2)
	e.Detail = json.RawMessage(`{"kills":1}`)
	got, err := events.EncodeEvent(&e)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "event.golden.json", indent(t, got))
	again, err := events.DecodeEvent(got, e.Ordinal)
	if err != nil {
		t.Fatal(err)
	}
	again.Detail = json.RawMessage(`{"kills":1}`)
	if diff := cmp.Diff(e, again); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func TestIsKill(t *testing.T) {
	for _, c := range []struct {
		event events.Event
		want  bool
	}{
		{events.Event{Kind: events.KindEnded, State: events.StateKilled}, true},
		{events.Event{Kind: events.KindEnded, State: events.StateDone}, false},
		{events.Event{Kind: events.KindEnded, State: events.StateFailed}, false},
		{events.Event{Kind: events.KindEnded, State: events.StateLost}, false},
		{events.Event{Kind: events.KindOrphans}, true},
		{events.Event{Kind: events.KindOOM, Detail: json.RawMessage(`{"terminal":false}`)}, true},
		{events.Event{Kind: events.KindOOM, Detail: json.RawMessage(`{"terminal":true}`)}, false},
		{events.Event{Kind: events.KindKill}, false},
		{events.Event{Kind: events.KindTerm}, false},
		{events.Event{Kind: events.KindIntent}, false},
	} {
		if got := c.event.IsKill(); got != c.want {
			t.Errorf("IsKill of %s %s %s = %t, want %t", c.event.Kind, c.event.State, c.event.Detail, got, c.want)
		}
	}
}

// Whatever bytes a record holds, what is stored is JSON that any database takes, and storing it again changes nothing.
func TestEncodeIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Custom(func(t *rapid.T) string {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "bytes"))
		})
		r := &events.Run{
			AnalysisID: text.Draw(t, "analysis"),
			Command:    rapid.SliceOf(text).Draw(t, "command"),
			Labels:     rapid.MapOf(text, text).Draw(t, "labels"),
			Evidence:   []events.Evidence{{Values: json.RawMessage(text.Draw(t, "values"))}},
		}
		b, err := events.EncodeRun(r)
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, b)
		again, err := events.DecodeRun(b)
		if err != nil {
			t.Fatal(err)
		}
		b2, err := events.EncodeRun(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, b2) {
			t.Errorf("stored again it is different:\n%s\n%s", b, b2)
		}
	})
}

func checkSafe(t rapid.TB, b []byte) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil || !utf8.Valid(b) {
		t.Errorf("not JSON in UTF-8: %q (%v)", b, err)
	}
	walk(v, func(s string) {
		if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			t.Errorf("unsafe string %q in %q", s, b)
		}
	})
}

func walk(v any, visit func(string)) {
	switch v := v.(type) {
	case string:
		visit(v)
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	case map[string]any:
		for k, e := range v {
			visit(k)
			walk(e, visit)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00", "\xff", "\xed\xa0\x80", "日本", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := events.Clean(s)
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, 0) && got != s {
			t.Errorf("Clean(%q) = %q, want it unchanged", s, got)
		}
		if events.Clean(got) != got {
			t.Errorf("Clean(%q) is not stable", s)
		}
	})
}

// FuzzDetail stores any detail: it comes from our own code, but also from other versions of it.
func FuzzDetail(f *testing.F) {
	for _, s := range []string{`{"a":"\u0000"}`, `{"a":"\ud800"}`, `{"\u0000":1}`, `{"a":1e999}`, `{"a":123456789012345678901234567890}`, `{`, "", "\xff", `[1] [2]`, `{"a":"\ud83e\udd80"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, detail []byte) {
		e := events.Event{Run: "r", Kind: events.KindOOM, Detail: detail}
		b, err := events.EncodeEvent(&e)
		if err != nil {
			t.Fatalf("detail %q: %v", detail, err)
		}
		if !utf8.Valid(b) || !json.Valid(b) {
			t.Fatalf("detail %q gives %q", detail, b)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		walk(v, func(s string) {
			if strings.ContainsRune(s, 0) {
				t.Errorf("detail %q keeps a NUL: %q", detail, b)
			}
		})
	})
}
