// Package migrations is the schema of lictor's databases and how it gets there.
//
// # Theory of operation
//
// Each database has a directory of numbered SQL files, embedded into the binary and applied by goose, each in a
// transaction of its own. The last statement of a SQLite migration sets user_version to its number, so one cheap query
// tells whether there is anything to do at all, and goose is started only when there is: opening the store is on the way
// of every `lictor run`.
//
// Several processes open a new store at once. A lock file next to the database lets one of them migrate; the others wait
// for it and find the work done. PostgreSQL has advisory locks for that, and is migrated only when somebody says so
// (`lictor db migrate`): it is shared. A database that is newer than the binary is refused: an older lictor must not write
// records that a newer one would misread.
//
// A migration, once released, is never edited; it only gets successors. They must be additive, because an older lictor
// may still have the database open.
package migrations

import "embed"

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS
