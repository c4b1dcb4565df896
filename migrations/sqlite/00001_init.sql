-- Times are nanoseconds since 1970 in UTC. `record` and `event` are the whole JSON of lictor/v1; the other columns are
-- what is searched by. `label` is the analysis id as the run was given it: it stays when the analysis is deleted.
--
-- There is no index beyond what a question needs (deleting an analysis, which is rare, scans): the schema is parsed at
-- every start of `lictor run`, and each index is one more page in every transaction.

-- +goose Up
CREATE TABLE analyses (
    analysis_id TEXT    NOT NULL PRIMARY KEY,
    first_seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE watchdog_processes (
    run                 TEXT    NOT NULL PRIMARY KEY,
    analysis_id         TEXT    REFERENCES analyses (analysis_id) ON DELETE SET NULL,
    label               TEXT    NOT NULL,
    name                TEXT    NOT NULL,
    unit                TEXT    NOT NULL,
    host                TEXT    NOT NULL,
    uid                 INTEGER NOT NULL,
    leader_pid          INTEGER,
    command             TEXT    NOT NULL, -- a JSON array
    memory_max_bytes    INTEGER,
    runtime_max_seconds REAL,
    memory_peak_bytes   INTEGER,
    state               TEXT    NOT NULL,
    reason              TEXT    NOT NULL,
    started_at          INTEGER NOT NULL,
    ended_at            INTEGER,
    ended               INTEGER NOT NULL CHECK (ended IN (0, 1)), -- the end record is there
    record              TEXT    NOT NULL CHECK (json_valid(record))
) STRICT;

CREATE INDEX watchdog_processes_started ON watchdog_processes (started_at);
CREATE INDEX watchdog_processes_live ON watchdog_processes (started_at) WHERE ended = 0;
CREATE INDEX watchdog_processes_label ON watchdog_processes (label, started_at);
CREATE INDEX watchdog_processes_name ON watchdog_processes (name, started_at) WHERE name <> '';

CREATE TABLE watchdog_events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of commits; never used twice
    id          TEXT    NOT NULL UNIQUE,           -- derived from run, kind and ordinal
    run         TEXT    NOT NULL,                  -- no reference: an event may be all that is left of a run
    analysis_id TEXT    REFERENCES analyses (analysis_id) ON DELETE SET NULL,
    label       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    ordinal     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    is_kill     INTEGER NOT NULL CHECK (is_kill IN (0, 1)),
    event       TEXT    NOT NULL CHECK (json_valid(event))
) STRICT;

CREATE INDEX watchdog_events_run ON watchdog_events (run);
CREATE INDEX watchdog_events_at ON watchdog_events (at);
CREATE INDEX watchdog_events_label ON watchdog_events (label);
CREATE INDEX watchdog_events_kills ON watchdog_events (at) WHERE is_kill = 1;

PRAGMA user_version = 1;
