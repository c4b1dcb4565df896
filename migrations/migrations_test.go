package migrations

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

func TestVersionIsLastFile(t *testing.T) {
	entries, err := fs.ReadDir(files, "sqlite")
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
	if got != SQLiteVersion {
		t.Errorf("last file in sqlite/ has number %d, SQLiteVersion is %d", got, SQLiteVersion)
	}
}
