package migrations

import (
	"testing"
)

func TestVersionIsLastFile(t *testing.T) {
	got, err := latest(files, "sqlite")
	if err != nil {
		t.Fatal(err)
	}
	if got != SQLiteVersion {
		t.Errorf("last file in sqlite/ has number %d, SQLiteVersion is %d", got, SQLiteVersion)
	}
}
