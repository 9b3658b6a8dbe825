-- housekeeping: what the settings ask for, and who may ask; that it is done is tested in TAP 068
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE keeping_owner LOGIN;
CREATE ROLE keeping_other LOGIN;
CREATE SCHEMA keeping;
GRANT CREATE, USAGE ON SCHEMA keeping TO keeping_owner, keeping_other;
SET search_path = keeping, public;
SET ROLE keeping_owner;
SELECT docrep.create_table('t');
SELECT docrep.create_table('other');
RESET ROLE;

-- within a transaction nobody does anything yet
BEGIN;
SET ROLE keeping_owner;
SELECT docrep.set_revs_limit('t', 10);
SELECT count(*) AS nothing FROM docrep.housekeeping;
SELECT docrep.set_tombstone_max_age('t', '30 days');
SELECT tbl, kind, state, done, total, progress, started_at, finished_at, next_at IS NOT NULL AS due, error_count, last_sqlstate, last_error FROM docrep.housekeeping;
RESET ROLE;
UPDATE docrep.table_settings SET conflict_policy = 'latest', revisions_keep = 5 WHERE tbl = (docrep.info('t')->>'uuid')::uuid;
SELECT kind, state FROM docrep.housekeeping ORDER BY kind;
-- what is asked for again begins anew; what is not stays as it is
UPDATE docrep.table_jobs SET state = 'running', position = '7', done = 3, failures = 2, error = 'x';
UPDATE docrep.table_settings SET revs_limit = 11, revisions_keep = 6 WHERE tbl = (docrep.info('t')->>'uuid')::uuid;
SELECT kind, version, state, position, done, failures, error FROM docrep.table_jobs ORDER BY kind;
-- back to the default is a change of policy, too
UPDATE docrep.table_settings SET conflict_policy = 'keep', revisions_keep = NULL WHERE tbl = (docrep.info('t')->>'uuid')::uuid;
SELECT kind, version, state, position FROM docrep.table_jobs ORDER BY kind;
-- a row that says nothing but the defaults asks for nothing
INSERT INTO docrep.table_settings (tbl, resolver) VALUES ('00000000-0000-0000-0000-000000000001', 'public.f'), ('00000000-0000-0000-0000-000000000002', NULL);
INSERT INTO docrep.table_settings (tbl, conflict_policy) VALUES ('00000000-0000-0000-0000-000000000003', 'latest');
SELECT tbl, kind FROM docrep.table_jobs WHERE tbl::text LIKE '0000%' ORDER BY tbl;
-- of tables that are not here nothing is shown
SELECT count(*) FROM docrep.housekeeping;
-- cancelling and starting
SET ROLE keeping_owner;
SELECT docrep.cancel_housekeeping('t', 'tombstones');
SELECT docrep.cancel_housekeeping('t', 'tombstones'), docrep.cancel_housekeeping('t'), docrep.cancel_housekeeping('other');
SELECT kind, state, next_at FROM docrep.housekeeping ORDER BY kind;
SELECT docrep.start_housekeeping('t', 'conflicts'), docrep.start_housekeeping('t'), docrep.start_housekeeping('other');
SELECT kind, state, next_at IS NOT NULL AS due FROM docrep.housekeeping ORDER BY kind;
-- the table's settings go with it, and so does this
RESET ROLE;
DROP TABLE t;
SELECT tbl, kind FROM docrep.table_jobs ORDER BY tbl;
ROLLBACK;

-- a setting that is taken back
SELECT docrep.set_tombstone_max_age('t', NULL);
SELECT count(*) FROM docrep.table_jobs;
-- even where triggers are told to keep still
BEGIN;
SET LOCAL session_replication_role = replica;
SELECT docrep.set_tombstone_max_age('t', '1 day');
SELECT kind FROM docrep.table_jobs;
ROLLBACK;

-- a session that does not want any to be started
BEGIN;
SET LOCAL docrep.housekeeping = off;
SELECT docrep.set_tombstone_max_age('t', '1 day');
SELECT docrep.set_conflict_policy('t', 'latest');
SELECT kind, state, next_at FROM docrep.housekeeping ORDER BY kind;
SELECT docrep.start_housekeeping('t', 'tombstones');
SELECT kind, state FROM docrep.housekeeping ORDER BY kind;
ROLLBACK;

-- not for others, and nonsense
SET ROLE keeping_other;
SELECT docrep.set_tombstone_max_age('t', '1 day');
SELECT docrep.start_housekeeping('t');
SELECT docrep.cancel_housekeeping('t');
SELECT * FROM docrep.table_jobs;
RESET ROLE;
BEGIN;
SELECT docrep.set_tombstone_max_age('t', '1 day');
SET ROLE keeping_other;
SELECT count(*) AS of_others FROM docrep.housekeeping;
RESET ROLE;
GRANT pg_read_all_stats TO keeping_other;
SET ROLE keeping_other;
SELECT count(*) AS to_monitors FROM docrep.housekeeping;
ROLLBACK;
SELECT docrep.set_tombstone_max_age('t', '-1 day');
SELECT docrep.set_tombstone_max_age(NULL, '1 day');
SELECT docrep.set_tombstone_max_age('pg_class', '1 day');
SELECT docrep.start_housekeeping('t', 'spring cleaning');
SELECT docrep.start_housekeeping('t', 'tombstones');
SELECT docrep.cancel_housekeeping('t', 'x');
SELECT docrep.start_housekeeping(NULL);

-- steps of what is done
INSERT INTO t SELECT 'd' || i, '{}' FROM generate_series(1, 5) i;
DELETE FROM t;
SELECT * FROM docrep.remove_tombstones('t', NULL, now(), max_rows => 2);
SELECT * FROM docrep.remove_tombstones('t', NULL, now(), 7, 2);
SELECT * FROM docrep.remove_tombstones('t', 9, now(), 9, 2);
SELECT * FROM docrep.remove_tombstones('t', NULL, now() - interval '1 day', 9, 2);
SELECT * FROM docrep.remove_tombstones('t', NULL, now(), 9, 1);
SELECT * FROM docrep.remove_tombstones('t', NULL, now(), 0, 0);
SELECT docrep.info('t')->'doc_del_count' AS dead;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA keeping CASCADE;
DROP ROLE keeping_owner, keeping_other;
