-- Replication jobs: starting, cancelling, watching.

CREATE FUNCTION docrep.replicate(request jsonb) RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_replicate';
REVOKE ALL ON FUNCTION docrep.replicate(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.replicate(jsonb) IS
	'run the replication that a replication document describes: one-shot ones are waited for and return their statistics, continuous ones return when they run; with "cancel": true end it';

CREATE FUNCTION docrep.replicate(source text, target text, options jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_replicate_endpoints';
REVOKE ALL ON FUNCTION docrep.replicate(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.replicate(text, text, jsonb) IS
	'run a replication from source to target; options are the other members of a replication document';

CREATE FUNCTION docrep.active_tasks(
	OUT pid int, OUT replication_id text, OUT doc_id text, OUT source text, OUT target text,
	OUT continuous boolean, OUT changes_pending bigint, OUT checkpointed_source_seq text,
	OUT source_seq text, OUT through_seq text, OUT docs_read bigint, OUT docs_written bigint,
	OUT doc_write_failures bigint, OUT missing_revisions_found bigint, OUT revisions_checked bigint,
	OUT bulk_get_attempts bigint, OUT bulk_get_docs bigint, OUT started_on timestamptz,
	OUT updated_on timestamptz, OUT progress int, OUT state text, OUT role oid,
	OUT error_count int, OUT last_error text, OUT next_start timestamptz,
	OUT kind text)
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
	pg_catalog.pg_get_userbyid(role) AS user_name, error_count, last_error, next_start, kind
FROM docrep.active_tasks();
GRANT SELECT ON docrep.active_tasks TO PUBLIC;
COMMENT ON VIEW docrep.active_tasks IS
	'replication jobs of this database: one''s own, all of them for members of pg_read_all_stats';
COMMENT ON COLUMN docrep.active_tasks.pid IS 'process that runs the job; null while it has none';
COMMENT ON COLUMN docrep.active_tasks.state IS
	'pending (waits for a process), starting, running, idle (continuous and caught up), parked (idle, without a process), crashing (failed; is started again at next_start)';
COMMENT ON COLUMN docrep.active_tasks.progress IS 'percent of the changes known of; null if not known';
COMMENT ON COLUMN docrep.active_tasks.kind IS 'replication, verify or preflight';
COMMENT ON COLUMN docrep.active_tasks.error_count IS 'runs that failed in a row';
