-- Watching replications: views, and what CouchDB's /_scheduler endpoints answer.

CREATE FUNCTION docrep.active_tasks(
	OUT pid int, OUT replication_id text, OUT doc_id text, OUT source text, OUT target text,
	OUT continuous boolean, OUT changes_pending bigint, OUT checkpointed_source_seq text,
	OUT source_seq text, OUT through_seq text, OUT docs_read bigint, OUT docs_written bigint,
	OUT doc_write_failures bigint, OUT missing_revisions_found bigint, OUT revisions_checked bigint,
	OUT bulk_get_attempts bigint, OUT bulk_get_docs bigint, OUT started_on timestamptz,
	OUT updated_on timestamptz, OUT progress int, OUT state text, OUT role oid,
	OUT error_count int, OUT last_error text, OUT next_start timestamptz,
	OUT kind text, OUT database text, OUT node text, OUT delayed jsonb)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'docrep_active_tasks';
COMMENT ON FUNCTION docrep.active_tasks() IS
	'the rows of the view docrep.active_tasks, with the role as an oid';

CREATE VIEW docrep.active_tasks AS
SELECT pid, replication_id, doc_id, source, target, continuous, changes_pending,
	checkpointed_source_seq, source_seq, through_seq, docs_read, docs_written,
	doc_write_failures, missing_revisions_found, revisions_checked, bulk_get_attempts,
	bulk_get_docs, started_on, updated_on, progress, state,
	pg_catalog.pg_get_userbyid(role) AS user_name, error_count, last_error, next_start, kind,
	database, node, delayed
FROM docrep.active_tasks();
GRANT SELECT ON docrep.active_tasks TO PUBLIC;
COMMENT ON VIEW docrep.active_tasks IS
	'replication jobs of this database: one''s own, all of them for members of pg_read_all_stats';
COMMENT ON COLUMN docrep.active_tasks.pid IS 'process that runs the job; null while it has none';
COMMENT ON COLUMN docrep.active_tasks.state IS
	'pending (waits for a process), starting, running, idle (continuous and caught up), parked (the same, and without a process), crashing (failed; is started again at next_start)';
COMMENT ON COLUMN docrep.active_tasks.progress IS 'percent of the changes known of; null if not known';
COMMENT ON COLUMN docrep.active_tasks.kind IS 'replication, verify, preflight or housekeeping';
COMMENT ON COLUMN docrep.active_tasks.error_count IS 'runs that failed in a row';
COMMENT ON COLUMN docrep.active_tasks.doc_id IS 'the row of docrep.replicator that asked for the job; null: a function did';
COMMENT ON COLUMN docrep.active_tasks.delayed IS
	'of a delayed replication: delay_ms, how many changes are waiting until they are old enough, until when the first of them (by this server''s clock), clock_skew_ms of the source''s';
COMMENT ON COLUMN docrep.active_tasks.node IS 'docrep.node_name';

CREATE FUNCTION docrep.job_rows(finished boolean, with_history boolean,
	OUT doc_id text, OUT version bigint, OUT id text, OUT pid int, OUT source text, OUT target text,
	OUT role oid, OUT state text, OUT continuous boolean, OUT start_time timestamptz,
	OUT last_updated timestamptz, OUT stats jsonb, OUT error text, OUT error_count int,
	OUT next_start timestamptz, OUT history jsonb)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000
AS 'MODULE_PATHNAME', 'docrep_job_rows';
COMMENT ON FUNCTION docrep.job_rows(boolean, boolean) IS
	'Beneath docrep.scheduler_jobs and docrep.scheduler_docs: the replications among the jobs that the role may see';

CREATE VIEW docrep.scheduler_jobs AS
SELECT pg_catalog.current_database()::text AS database, id, doc_id, pid,
	COALESCE(NULLIF(pg_catalog.current_setting('docrep.node_name', true), ''), 'nonode@nohost') AS node,
	source, target, pg_catalog.pg_get_userbyid(role)::text AS user_name, history, start_time,
	CASE WHEN state IN ('crashing', 'error') THEN pg_catalog.jsonb_build_object('error', error) ELSE stats END AS info,
	state, error_count, next_start
FROM docrep.job_rows(false, true);
GRANT SELECT ON docrep.scheduler_jobs TO PUBLIC;
COMMENT ON VIEW docrep.scheduler_jobs IS
	'replications of this database that are not over, as CouchDB''s /_scheduler/jobs: one''s own, all of them for members of pg_read_all_stats';
COMMENT ON COLUMN docrep.scheduler_jobs.doc_id IS 'the row of docrep.replicator that asked for the job; null: docrep.replicate() did';
COMMENT ON COLUMN docrep.scheduler_jobs.history IS 'what happened to the job, newest first, at most 20 events: added, started, stopped, crashed';
COMMENT ON COLUMN docrep.scheduler_jobs.info IS 'counts of this run, or {"error": ...} while it is crashing';
COMMENT ON COLUMN docrep.scheduler_jobs.state IS 'pending, running, crashing, or error (its filter is missing)';

CREATE VIEW docrep.scheduler_docs WITH (security_barrier) AS
SELECT pg_catalog.current_database()::text AS database, s.id AS doc_id,
	COALESCE(j.id, s.replication_id) AS id,
	COALESCE(NULLIF(pg_catalog.current_setting('docrep.node_name', true), ''), 'nonode@nohost') AS node,
	s.source, s.target, x.state,
	CASE WHEN s.state = 'completed' THEN s.stats
		WHEN s.state IS NOT NULL THEN pg_catalog.jsonb_build_object('error', s.reason)
		WHEN s.held_since IS NOT NULL THEN pg_catalog.jsonb_build_object('held', true, 'since', s.held_since)
			|| pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('delayed', j.stats -> 'delayed'))
		WHEN s.disabled THEN '{"disabled": true}'
		WHEN x.state IN ('crashing', 'error', 'failed') OR (x.state = 'pending' AND j.error IS NOT NULL)
			THEN pg_catalog.jsonb_build_object('error', j.error)
		ELSE j.stats END AS info,
	CASE WHEN s.state IS NULL THEN COALESCE(j.error_count, 0) ELSE s.error_count END AS error_count,
	s.start_time, GREATEST(s.last_updated, j.last_updated) AS last_updated, s.proxy,
	s.continuous, s.disabled, pg_catalog.pg_get_userbyid(s.owner)::text AS user_name,
	COALESCE(j.next_start, s.retry_at) AS next_start
FROM docrep.task_state s
	LEFT JOIN docrep.job_rows(true, false) j
		ON s.state IS NULL AND j.doc_id = s.id COLLATE "C" AND j.version = s.version
	CROSS JOIN LATERAL (SELECT CASE
		WHEN s.state = 'held' THEN 'failed'
		WHEN s.state IS NOT NULL THEN s.state
		WHEN s.disabled OR s.held_since IS NOT NULL THEN 'pending'
		ELSE COALESCE(j.state, 'initializing') END) AS x(state)
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE')
	OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
GRANT SELECT ON docrep.scheduler_docs TO PUBLIC;
COMMENT ON VIEW docrep.scheduler_docs IS
	'the rows of docrep.replicator and how each is, as CouchDB''s /_scheduler/docs: one''s own, all of them for members of pg_read_all_stats';
COMMENT ON COLUMN docrep.scheduler_docs.state IS 'initializing, error, pending, running, crashing, completed or failed';
COMMENT ON COLUMN docrep.scheduler_docs.info IS
	'counts; or {"error": ...} in the states error, crashing and failed, and of a pending one that failed or found no process; or {"disabled": true}; or {"held": true, "since": ...} from docrep.hold() to docrep.release()';
COMMENT ON COLUMN docrep.scheduler_docs.next_start IS 'when it is tried again';

CREATE FUNCTION docrep.scheduler_docs_json(states text DEFAULT NULL, max_rows int DEFAULT NULL, skip int DEFAULT 0)
RETURNS jsonb LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS 'MODULE_PATHNAME', 'docrep_scheduler_docs_json';
COMMENT ON FUNCTION docrep.scheduler_docs_json(text, int, int) IS
	'What CouchDB''s /_scheduler/docs answers; states is a comma-separated list. At most 200 rows for others than administrators';

CREATE FUNCTION docrep.scheduler_doc_json(id text)
RETURNS jsonb LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS 'MODULE_PATHNAME', 'docrep_scheduler_doc_json';
COMMENT ON FUNCTION docrep.scheduler_doc_json(text) IS
	'What CouchDB''s /_scheduler/docs/_replicator/ID answers';

CREATE FUNCTION docrep.scheduler_jobs_json(max_rows int DEFAULT 25, skip int DEFAULT 0)
RETURNS jsonb LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS 'MODULE_PATHNAME', 'docrep_scheduler_jobs_json';
COMMENT ON FUNCTION docrep.scheduler_jobs_json(int, int) IS
	'What CouchDB''s /_scheduler/jobs answers. At most 200 rows for others than administrators';

CREATE FUNCTION docrep.scheduler_job_json(id text)
RETURNS jsonb LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS 'MODULE_PATHNAME', 'docrep_scheduler_job_json';
COMMENT ON FUNCTION docrep.scheduler_job_json(text) IS
	'What CouchDB''s /_scheduler/jobs/ID answers';

/*
 * What was received from where: checkpoints at tables that are their targets.
 * What looks like one may have been written by anybody with put_local, so
 * nothing is cast without a look.
 */
CREATE VIEW docrep.sources WITH (security_barrier) AS
SELECT DISTINCT ON (t.tbl, COALESCE(l.doc ->> 'source_uuid', l.doc ->> 'source'))
	t.tbl,
	l.doc ->> 'source_uuid' AS source_uuid,
	l.doc ->> 'source' AS source,
	l.doc ->> 'source_last_seq' AS last_seq,
	docrep.checkpoint_time(l.doc) AS at
FROM docrep.local_docs l
	JOIN docrep.document_tables t ON t.uuid = l.tbl
WHERE l.id ~ '^[0-9a-f]{32}$'
	AND l.doc ?& '{session_id,source_last_seq,history}'::text[]
	AND l.doc ->> 'target_uuid' = l.tbl::text
	AND pg_catalog.has_table_privilege(t.tbl::oid, 'SELECT')
ORDER BY t.tbl, COALESCE(l.doc ->> 'source_uuid', l.doc ->> 'source'), at DESC NULLS LAST, l.id;
GRANT SELECT ON docrep.sources TO PUBLIC;
COMMENT ON VIEW docrep.sources IS
	'What was last received from which server, at tables of this database that the role may read';
COMMENT ON COLUMN docrep.sources.source_uuid IS 'identity of the source''s table; null if it has none (CouchDB)';
COMMENT ON COLUMN docrep.sources.last_seq IS 'the source''s sequence up to which the table has everything';
COMMENT ON COLUMN docrep.sources.at IS 'when that was recorded';
