//go:build integration

package events_test

import "testing"

// TestContracts: both stores keep their contract on the file system and with the PostgreSQL of this Debian, too.
func TestContracts(t *testing.T) {
	t.Run("SQLite", TestSQLiteContract)
	t.Run("PostgreSQL", TestPostgresContract)
}
