// Package events is what happened, kept: the run record, the events of a run, and the places where they are written.
//
// # Theory of operation
//
// A keeper (the process that watches a run) owns a Store and writes three things to it: a Run when an analysis is
// about to start, Events while it lives (an intent before every signal, out-of-memory kills, escalation steps), and the
// finished Run when it has ended. The Run is written twice and only twice: Begin inserts it, End completes it. Both are
// durable when they return (SQLite, write-ahead log, synchronous=FULL): the ledger cgroup that holds the kernel's own
// evidence is released only after End has returned without an error.
//
// Several processes write to one store at once (every `lictor run` is a keeper), and two of them may finish the same
// run. So all writes are idempotent: the id of an event is derived from (run, kind, ordinal), and the first End of a run
// wins; the second one is told so and changes nothing.
//
// Readers (`lictor ps`, `why`, `kills`, `events`) use the same Store, and wait for no writer. They can open a store that
// does not exist yet: it is empty.
//
// journald is told after the store has the record (Recorder), through a bounded queue and a goroutine of its own (Journal):
// a hung journald delays nobody. It holds a copy for people and their log tools; the store is the record.
//
//	keeper ── Begin/Append/End ─▶ Recorder ─┬─ 1. Store (SQLite: one transaction, one fdatasync) ─▶ readers
//	                                        │                  └─▶ Forwarder, in another process ─▶ PostgreSQL
//	                                        └─ 2. Journal: queue ─▶ Journal.Run ─▶ journald
//
// Where a PostgreSQL database is configured, the store is its spool. Events have positions in the order of their commits; the
// Forwarder sends those after the last one that the database has, with the rows of their runs, in batches, and notes how far it
// came. A batch whose fate is unknown is sent again: ids make that harmless. Postgres is a Store as well, behind the same
// contract (eventstest), for who reads what all hosts have sent.
//
// # What strangers write
//
// Command lines, names and analysis ids are bytes that other people chose. They are stored as text that every database
// takes (Clean: the byte ff becomes the characters \xff), compared in that form, cut where they are only shown, and never
// become part of a statement, a file name or the name of a journal field.
//
// # Files
//
// run, event and id are the words; store is the contract, which eventstest checks; sqlite_* is the embedded store; resolve
// is what a person means by a name; journal_* is journald's side; summary and format are the sentences for people; json and
// sanitize are the way to text and back.
//
// Words, reasons and the JSON are the contract "lictor/v1": bytes are integers, durations are seconds, times are RFC
// 3339 in UTC, and what is not known is null or absent, never 0.
package events
