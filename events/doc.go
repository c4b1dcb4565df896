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
// Readers (`lictor ps`, `why`, `kills`, `events`) use the same Store.
//
// journald is told after the store has the record, through a bounded queue in a goroutine of its own: a hung journald
// delays nobody.
//
// Words, reasons and the JSON are the contract "lictor/v1": bytes are integers, durations are seconds, times are RFC
// 3339 in UTC, and what is not known is null or absent, never 0.
package events
