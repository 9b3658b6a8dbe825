-- The views and functions that watch replications: shapes, states, who sees what.
-- Task states are put into docrep.task_state in a transaction that is rolled back.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA watching;
SET search_path = watching;
CREATE ROLE watching_owner;
CREATE ROLE watching_other;
CREATE ROLE watching_monitor;
GRANT pg_monitor TO watching_monitor;

SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute
	WHERE attrelid = 'docrep.scheduler_docs'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute
	WHERE attrelid = 'docrep.scheduler_jobs'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute
	WHERE attrelid = 'docrep.sources'::regclass AND attnum > 0 ORDER BY attnum;
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
	WHERE attrelid = 'docrep.active_tasks'::regclass AND attnum > 0;

-- nothing there
SET ROLE watching_owner;
SELECT docrep.scheduler_docs_json(), docrep.scheduler_jobs_json();
SELECT docrep.scheduler_docs_json(skip => 7, max_rows => 0)->'offset' AS "offset", docrep.scheduler_jobs_json(NULL, NULL)->'offset' AS "offset";
RESET ROLE;

-- bad requests
\set VERBOSITY sqlstate
SELECT docrep.scheduler_docs_json('running,walking');
SELECT docrep.scheduler_docs_json('');
SELECT docrep.scheduler_docs_json('running,');
SELECT docrep.scheduler_docs_json('Running');
SELECT docrep.scheduler_docs_json(max_rows => -1);
SELECT docrep.scheduler_docs_json(skip => -1);
SELECT docrep.scheduler_jobs_json(-1);
SELECT docrep.scheduler_jobs_json(1, -1);
SELECT docrep.scheduler_doc_json('no such task');
SELECT docrep.scheduler_doc_json(NULL);
SELECT docrep.scheduler_job_json('no such job');
SELECT docrep.scheduler_job_json(NULL);
\set VERBOSITY default
SELECT docrep.scheduler_docs_json('running,walking');

-- the states
SELECT docrep.create_table('src'), docrep.create_table('tgt');
BEGIN;
CREATE FUNCTION pg_temp.task(name text, owner regrole, flat text, state text, reason text, disabled bool DEFAULT false,
		stats jsonb DEFAULT NULL, errors int DEFAULT 0) RETURNS void LANGUAGE sql AS $$
	INSERT INTO docrep.task_state (id, owner, role, database, version, flat, replication_id, source, target, proxy, continuous, disabled,
		retry_cycles, state, reason, error_count, start_time, last_updated, retry_at, stats)
	SELECT name, owner, owner, d.oid, 1, flat, md5(name) || '+continuous', 'src', 'http://there:5984/db', 'http://proxy:3128', true, disabled,
		false, state, reason, errors, '2026-11-10 06:50:35.7Z', '2026-11-10 06:51:19.2Z', CASE WHEN state = 'error' THEN timestamptz '2026-11-10 07:00Z' END, stats
	FROM pg_database d WHERE datname = current_database() $$;
SELECT pg_temp.task('e', 'watching_owner', '{}', NULL, NULL),
	pg_temp.task('d', 'watching_owner', '{}', 'error', 'no such filter', errors => 3),
	pg_temp.task('c', 'watching_owner', '{}', 'failed', 'bad URL'),
	pg_temp.task('b', 'watching_owner', '{}', 'completed', NULL, stats => '{"docs_written": 12}'),
	pg_temp.task('a', 'watching_owner', NULL, 'held', 'it comes from a dump'),
	pg_temp.task('f', 'watching_owner', '{"secret": "hunter2"}', NULL, NULL, true),
	pg_temp.task('other''s', 'watching_other', '{}', 'failed', 'x');
SET ROLE watching_owner;
SELECT doc_id, id = md5(doc_id) || '+continuous' AS id, node, source, target, state, info, error_count, start_time, last_updated, proxy, continuous, disabled, user_name, next_start
	FROM docrep.scheduler_docs ORDER BY doc_id;
SELECT jsonb_pretty(docrep.scheduler_docs_json('completed, failed'));
-- total_rows counts what the other states have, too
SELECT j->'total_rows' AS total, j->'offset' AS "offset", jsonb_path_query_array(j, '$.docs[*].doc_id') AS ids
	FROM (VALUES (docrep.scheduler_docs_json()), (docrep.scheduler_docs_json(NULL, 2)), (docrep.scheduler_docs_json(NULL, 2, 5)),
		(docrep.scheduler_docs_json('failed,failed', 1, 1)), (docrep.scheduler_docs_json('crashing')), (docrep.scheduler_docs_json(skip => 100))) AS v(j);
SELECT docrep.scheduler_doc_json('d');
SAVEPOINT s;
SELECT docrep.scheduler_doc_json('other''s');
ROLLBACK TO s;
SELECT * FROM docrep.task_state;
ROLLBACK TO s;
-- a role sees what it may, a monitor all
SET ROLE watching_other;
SELECT doc_id FROM docrep.scheduler_docs;
SET ROLE watching_monitor;
SELECT count(*) FROM docrep.scheduler_docs WHERE user_name LIKE 'watching\_%';
RESET ROLE;
GRANT watching_other TO watching_owner;
SET ROLE watching_owner;
SELECT count(*) FROM docrep.scheduler_docs;
RESET ROLE;
SELECT count(*) FROM docrep.scheduler_docs d WHERE d::text LIKE '%hunter2%' OR docrep.scheduler_doc_json(doc_id)::text LIKE '%hunter2%';
-- 200 rows for others than administrators
SELECT pg_temp.task('many ' || i, 'watching_owner', '{}', 'failed', 'x') IS NULL AS done FROM generate_series(1, 250) i GROUP BY 1;
SET ROLE watching_owner;
SELECT jsonb_array_length(docrep.scheduler_docs_json()->'docs') AS without, jsonb_array_length(docrep.scheduler_docs_json(max_rows => 240)->'docs') AS "240",
	jsonb_array_length(docrep.scheduler_docs_json(max_rows => 199)->'docs') AS "199", docrep.scheduler_docs_json()->'total_rows' AS total;
SET ROLE watching_monitor;
SELECT jsonb_array_length(docrep.scheduler_docs_json(max_rows => 240)->'docs') AS "240", jsonb_array_length(docrep.scheduler_docs_json()->'docs') > 250 AS "all";
RESET ROLE;
ROLLBACK;

-- sources: checkpoints that say that the table is their target; forged ones do no harm
SELECT docrep.put_local('tgt', md5('1'), jsonb_build_object('session_id', 's', 'source_last_seq', '7-aa', 'history', '[]'::jsonb, 'source', 'http://there:5984/db',
	'target_uuid', docrep.info('tgt')->>'uuid', 'recorded_at_ms', 1700000000000)) IS NOT NULL AS ok;
SELECT docrep.put_local('tgt', md5('2'), jsonb_build_object('session_id', 's', 'source_last_seq', '9-aa', 'history', '[]'::jsonb, 'source', 'http://there:5984/db',
	'target_uuid', docrep.info('tgt')->>'uuid', 'recorded_at_ms', 1700000001000)) IS NOT NULL AS ok;
SELECT docrep.put_local('tgt', md5('3'), jsonb_build_object('session_id', 's', 'source_last_seq', '{}'::jsonb, 'history', 'x', 'source', 5, 'source_uuid', 'no uuid',
	'target_uuid', docrep.info('tgt')->>'uuid', 'recorded_at_ms', '1e400'::jsonb)) IS NOT NULL AS ok;
SELECT docrep.put_local('tgt', md5('4'), '{"session_id": "s", "source_last_seq": "1", "history": [], "source": "not here", "target_uuid": null}') IS NOT NULL AS ok;
SELECT * FROM docrep.sources WHERE tbl = 'tgt'::regclass ORDER BY source;
SET ROLE watching_other;
SELECT * FROM docrep.sources WHERE tbl::text LIKE '%tgt';
RESET ROLE;

-- who holds tombstones back
CREATE FUNCTION mark(name text, seq text, at timestamptz) RETURNS bool LANGUAGE sql AS $$
	SELECT docrep.put_local('src', md5(name), jsonb_build_object('session_id', 's', 'source_last_seq', seq, 'history', '[]'::jsonb, 'target', name,
		'source_uuid', docrep.info('src')->>'uuid', 'recorded_at_ms', extract(epoch FROM at) * 1000)) IS NOT NULL $$;
INSERT INTO src SELECT 'd' || i, '{}' FROM generate_series(1, 6) i;
DELETE FROM src WHERE _id IN ('d1', 'd2');
SELECT docrep.clean_tombstones('src', '1 hour') AS too_young, docrep.clean_tombstones('src') AS nobody_reads;
SELECT docrep.info('src')->'doc_del_count' AS dead;
DELETE FROM src WHERE _id = 'd3';
SELECT mark('peer', '9', '2026-01-01Z'), mark('malformed', 'x', '2026-01-01Z');
SELECT tbl, doc_id, target, passed, tombstones, since > now() - interval '1 hour' AS recent, disabled, counts FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass ORDER BY target;
SELECT docrep.clean_tombstones('src') AS purged;
SELECT docrep.delete_local('src', md5('malformed'));
SELECT docrep.clean_tombstones('src') AS purged, docrep.info('src')->'doc_del_count' AS dead;
DELETE FROM src WHERE _id IN ('d4', 'd5');
SELECT mark('peer', '10', '2026-01-01Z');
SELECT docrep.clean_tombstones('src') AS purged;
SELECT passed, tombstones FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass;
-- a disabled task that never ran
BEGIN;
INSERT INTO docrep.task_state (id, owner, role, database, version, flat, source, target, continuous, disabled, retry_cycles, error_count, start_time, last_updated)
	SELECT 'holder', r.oid, r.oid, d.oid, 1, jsonb_build_object('id', md5('new'), 'source', jsonb_build_object('kind', 'local', 'spec', docrep.info('src')->>'uuid'))::text,
		'src', 'far', true, true, false, 0, now() - interval '3 days', now() FROM pg_database d, pg_roles r WHERE datname = current_database() AND rolname = current_user;
SELECT mark('peer', '12', now());
SELECT doc_id, target, passed, tombstones, disabled, counts FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass ORDER BY target;
SELECT docrep.clean_tombstones('src') AS purged;
-- a limit: since the tombstone is young it is not too far behind yet
SET LOCAL docrep.tombstone_hold_limit = '1h';
SELECT target, counts FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass ORDER BY target;
-- older tombstones
SELECT * FROM docrep.bulk_docs('src', '[{"_id": "old", "_rev": "1-a", "_deleted": true}]', false);
DO $$ BEGIN
	EXECUTE format('UPDATE docrep_data.dead_%s SET _modified = now() - interval ''2 days''', replace(docrep.info('src')->>'uuid', '-', ''));
END $$;
SELECT target, tombstones, since = now() - interval '2 days' AS since, counts FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass ORDER BY target;
SELECT docrep.clean_tombstones('src') AS those_that_peer_has;
SELECT docrep.clean_tombstones('src', beyond_holders => true, older_than => '3 days') AS none, docrep.clean_tombstones('src', beyond_holders => true) AS rest;
ROLLBACK;
-- leaves go with their tombstone, and a new document begins anew
SELECT * FROM docrep.bulk_docs('src', '[{"_id": "two", "_rev": "5-a", "_deleted": true, "b": 1}, {"_id": "two", "_rev": "5-b", "_deleted": true, "b": 2}]', false);
SELECT docrep.clean_tombstones('src', beyond_holders => true) AS purged;
SELECT * FROM docrep.check('src');
INSERT INTO src VALUES ('two', '{}') RETURNING (_rev::text LIKE '1-%') AS begins_anew;
SELECT docrep.get('src', 'two', rev => '5-a');

-- privileges and nonsense
GRANT USAGE ON SCHEMA watching TO watching_owner;
GRANT ALL ON src TO watching_owner;
SET ROLE watching_owner;
SELECT docrep.clean_tombstones('src');
SELECT docrep.clean_tombstones('src', beyond_holders => true);
SELECT docrep.remove_tombstones('src', NULL, now());
SELECT docrep.tombstones_after('src', '0');
SELECT * FROM docrep.tombstone_holders WHERE tbl = 'src'::regclass;
RESET ROLE;
\set VERBOSITY sqlstate
SELECT docrep.clean_tombstones('src', NULL);
SELECT docrep.clean_tombstones(NULL);
SELECT docrep.clean_tombstones('pg_class');
SELECT docrep.tombstones_after('src', 'x');
SELECT docrep.tombstones_after('src', NULL);

-- explain
SELECT * FROM docrep.explain('no such task', 'src', 'd1');
SELECT * FROM docrep.explain(NULL, 'src', 'd1');
SELECT * FROM docrep.explain('x', NULL, 'd1');
SELECT * FROM docrep.explain('x', 'src', NULL);
SELECT * FROM docrep.explain('x', 'pg_class', 'd1');
\set VERBOSITY default
GRANT USAGE ON SCHEMA watching TO watching_monitor;
BEGIN;
INSERT INTO docrep.replicator (_id, doc) VALUES ('watching ids', '{"source": "src", "target": "http://user:hunter2@127.0.0.1:1/db", "doc_ids": ["d6"], "continuous": true}');
UPDATE docrep.task_state SET state = 'failed', reason = 'bad URL' WHERE id = 'watching ids';
SELECT * FROM docrep.explain('watching ids', 'src', 'd1');
UPDATE docrep.task_state SET state = NULL, disabled = true WHERE id = 'watching ids';
SELECT step, verdict, regexp_replace(detail, '[0-9a-f]{32}| of [0-9].*', '...', 'g') AS detail FROM docrep.explain('watching ids', 'src', 'd6');
SELECT step, verdict FROM docrep.explain((SELECT replication_id FROM docrep.task_state WHERE id = 'watching ids'), 'src', 'two');
SAVEPOINT s;
SELECT * FROM docrep.explain('watching ids', 'tgt', 'd1');
ROLLBACK TO s;
SET ROLE watching_owner;
SELECT * FROM docrep.explain('watching ids', 'src', 'd6');
ROLLBACK TO s;
SET ROLE watching_monitor;
SELECT * FROM docrep.explain('watching ids', 'src', 'd6');
ROLLBACK;

DROP SCHEMA watching CASCADE;
DROP ROLE watching_owner, watching_other, watching_monitor;
