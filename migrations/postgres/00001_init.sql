-- One database for many hosts. `record` and `event` are the JSON of lictor/v1; the other columns are what is searched by.
-- timestamptz has microseconds; the columns that end in _ns have the nanoseconds since 1970 that the record has. `label` is
-- the analysis id as the run was given it: it stays when the analysis is deleted. Ids compare by their bytes (COLLATE "C").
--
-- roles.sql has a role that writes and one that reads.

-- +goose Up
CREATE TABLE lictor_database (
    id      uuid        NOT NULL DEFAULT gen_random_uuid(), -- tells a spool whether it has met this database before
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO lictor_database DEFAULT VALUES;

CREATE TABLE analyses (
    analysis_id text        NOT NULL PRIMARY KEY,
    first_seen  timestamptz NOT NULL
);

CREATE TABLE watchdog_processes (
    run                 text COLLATE "C" NOT NULL PRIMARY KEY,
    analysis_id         text             REFERENCES analyses ON DELETE SET NULL,
    label               text             NOT NULL,
    name                text             NOT NULL,
    unit                text             NOT NULL,
    host                text             NOT NULL,
    boot_id             text             NOT NULL,
    uid                 bigint           NOT NULL,
    leader_pid          bigint,
    command             jsonb            NOT NULL, -- an array
    memory_max_bytes    bigint,
    runtime_max_seconds double precision,
    memory_peak_bytes   bigint,
    state               text             NOT NULL,
    reason              text             NOT NULL,
    started_at          timestamptz      NOT NULL,
    started_ns          bigint           NOT NULL,
    ended_at            timestamptz,
    ended               boolean          NOT NULL, -- the end record is there
    record              jsonb            NOT NULL
);

CREATE INDEX watchdog_processes_started ON watchdog_processes (started_ns, run);
CREATE INDEX watchdog_processes_live ON watchdog_processes (started_ns) WHERE NOT ended;
CREATE INDEX watchdog_processes_label ON watchdog_processes (label, started_ns);
CREATE INDEX watchdog_processes_name ON watchdog_processes (name, started_ns) WHERE name <> '';
CREATE INDEX watchdog_processes_command ON watchdog_processes USING hash (command);

CREATE TABLE watchdog_events (
    position    bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of commits: writers take turns
    id          uuid             NOT NULL UNIQUE,                          -- derived from run, kind and ordinal
    run         text COLLATE "C" NOT NULL,                                 -- no reference: an event may be all that is left of a run
    analysis_id text             REFERENCES analyses ON DELETE SET NULL,
    label       text             NOT NULL,
    host        text             NOT NULL,
    boot_id     text             NOT NULL,
    uid         bigint,                                                    -- of the run; null if that is not known
    kind        text             NOT NULL,
    ordinal     integer          NOT NULL,
    at          timestamptz      NOT NULL,
    at_ns       bigint           NOT NULL,
    state       text             NOT NULL,
    reason      text             NOT NULL,
    is_kill     boolean          NOT NULL,
    event       jsonb            NOT NULL
);

CREATE INDEX watchdog_events_run ON watchdog_events (run);
CREATE INDEX watchdog_events_at ON watchdog_events (at);
CREATE INDEX watchdog_events_label ON watchdog_events (label);
CREATE INDEX watchdog_events_kills ON watchdog_events (at) WHERE is_kill;
