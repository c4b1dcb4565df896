-- Roles for the PostgreSQL database of lictor, for whoever administers it:
--
--     psql -v ON_ERROR_STOP=1 -f postgres-roles.sql "$DATABASE_URL"      after `lictor db migrate`, as the owner of the tables
--
-- The owner of the database migrates and prunes. lictor_writer is for the hosts that forward records: it can neither delete a
-- record nor change one that is complete but by going around lictor. lictor_reader is for people and dashboards. Both are
-- groups: CREATE ROLE box1 LOGIN PASSWORD '…' IN ROLE lictor_writer.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lictor_reader') THEN CREATE ROLE lictor_reader NOLOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lictor_writer') THEN CREATE ROLE lictor_writer NOLOGIN; END IF;
END
$$;

GRANT SELECT ON lictor_database, goose_db_version, analyses, watchdog_processes, watchdog_events TO lictor_reader, lictor_writer;
GRANT INSERT ON analyses, watchdog_processes, watchdog_events TO lictor_writer;
GRANT UPDATE ON watchdog_processes TO lictor_writer; -- the end of a run completes its row
