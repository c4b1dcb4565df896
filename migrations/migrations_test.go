package migrations

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

func TestVersionIsLastFile(t *testing.T) {
	for dir, want := range map[string]int{"sqlite": SQLiteVersion, "postgres": PostgresVersion} {
		entries, err := fs.ReadDir(files, dir)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, e := range entries {
			number, _, _ := strings.Cut(e.Name(), "_")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Errorf("migration %q: no number in front of its name", e.Name())
			}
			got = max(got, n)
		}
		if got != want {
			t.Errorf("last file in %s/ has number %d, the version is %d", dir, got, want)
		}
	}
}
