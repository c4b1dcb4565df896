// Package watcher looks at runs, decides what happened, acts where it must, and tells.
//
// # Theory of operation
//
// A keeper watches one run from the moment its scope exists until its end is on record. It sits in the launcher's process
// when there is no daemon. It needs no privileges of its own beyond reading the run's two cgroups (and, for the names of
// victims, the kernel log); whoever made the scope may signal it.
//
//	kernel ── inotify on the ledger's memory.events, cgroup.events, pids.events ──▶ look: read the counters, compare
//	parent ── wait status of the main process ─────────────────────────────────────▶ the end begins
//	clock  ── timerfd on CLOCK_BOOTTIME ───────────────────────────────────────────▶ second line behind RuntimeMaxSec
//	systemd── PropertiesChanged of the scope ──────────────────────────────────────▶ somebody stops it
//
// Notifications are only speed: they mean "look again". What is believed are the counters of the ledger, a slice around
// the scope that outlives it, read after it is empty.
//
// Decisions are pure functions: Decide (verdict.go) turns evidence into a verdict, Escalation (escalate.go) says what
// comes after SIGTERM, findings (delta.go) turns two samples into incidents. Effects are thin: enforce.go signals and
// kills by the open directory of the ledger, never by number, and writes an intent before each.
//
// The end of a run is: main process gone → left-over processes ended → scope empty → ledger read → verdict → record on
// disk → ledger released. If the keeper dies anywhere in between, the ledger is still there with all that is needed, and
// Finish does the rest in whatever process looks next.
package watcher
