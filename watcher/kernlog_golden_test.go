package watcher

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestKernelLogSamples reads what real kernels logged (Debian's, in the test bed): three kills at a cgroup's own limit,
// two of them of processes with names like the log's own lines; a group; a kill in a cgroup with such a name. What is in
// between is abridged.
func TestKernelLogSamples(t *testing.T) {
	samples, err := filepath.Glob("testdata/*.kmsg")
	if err != nil || len(samples) < 3 {
		t.Fatalf("samples %v, error %v", samples, err)
	}
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			log, err := os.ReadFile(sample)
			if err != nil {
				t.Fatal(err)
			}
			var join oomJoin
			for line := range bytes.Lines(log) {
				r, err := ParseKmsg(line)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				join.add(r)
			}
			got, err := json.MarshalIndent(join.take(), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(sample, ".kmsg")+".json", append(got, '\n'))
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
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
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", path, diff)
	}
}
