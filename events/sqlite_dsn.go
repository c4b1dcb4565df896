package events

import (
	"net/url"
	"strconv"
)

// The settings of a connection. What is the same in every SQLite build, or is remembered by the file (the write-ahead
// log), is not asked for again: each setting is a statement at every start of `lictor run`.
const (
	// cacheKiB limits the page cache of a connection. The store is written in small transactions at the end of a B-tree.
	cacheKiB = 256
	// checkpointPages is how long the log gets (4 KiB pages) before a writer copies it into the database. Short, because a
	// process that finds no other one with the store open reads the whole log first.
	checkpointPages = 128
)

// writerDSN is the data source name for writing to the database at an absolute path.
func writerDSN(path string) string {
	return dsn(path, url.Values{
		"mode":          {"rw"}, // createFile has created it
		"_txlock":       {"immediate"},
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_foreign_keys": {"on"},
		"_synchronous":  {"full"},
		"_pragma":       {"cache_size = -" + strconv.Itoa(cacheKiB), "wal_autocheckpoint = " + strconv.Itoa(checkpointPages)},
	})
}

// readerDSN is the data source name for queries. The file is opened for writing all the same: a reader of a write-ahead
// log takes part in its locks, and may have to recover it.
func readerDSN(path string) string {
	return dsn(path, url.Values{
		"mode":          {"rw"},
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_query_only":   {"on"},
		"_pragma":       {"cache_size = -" + strconv.Itoa(cacheKiB)},
	})
}

// dsn escapes the path, in which ?, # and % would mean something else (https://sqlite.org/uri.html).
func dsn(path string, params url.Values) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: params.Encode()}
	return u.String()
}
