-- The store is the spool of a PostgreSQL database, if there is one: events go there in the order of their positions, with the rows
-- of their runs.

-- +goose Up

-- How far a database has what is here. `target` is the name that it has given itself.
CREATE TABLE forwarded (
    target   TEXT    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL, -- of the last event that is there, or is a dead letter
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that a database refused, for a reason that will not pass. They are not deleted from watchdog_events before a person has
-- seen them, unless the store is at its cap.
CREATE TABLE dead_letters (
    target   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    error    TEXT    NOT NULL,
    at       INTEGER NOT NULL, -- of the last try
    tries    INTEGER NOT NULL,
    PRIMARY KEY (target, position)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 2;
