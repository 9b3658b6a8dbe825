-- Replication tasks: docrep.replicator, and what is known of each of its rows.

/*
 * A document table of the extension's own.  A row is a task; it belongs to the
 * role that wrote it and runs as that role.
 */
SELECT docrep.create_table('docrep.replicator');
ALTER TABLE docrep.replicator ADD COLUMN owner regrole NOT NULL;
COMMENT ON TABLE docrep.replicator IS
	'Replication tasks: a replication document a row, kept, restarted when it is updated, cancelled when it is deleted';
COMMENT ON COLUMN docrep.replicator.doc IS
	'the replication document, without credentials, and _replication_* members that say what became of it';
COMMENT ON COLUMN docrep.replicator.owner IS
	'whose task it is: by default of the role that inserts it; given by others than pg_dump, it is held until docrep.resume_tasks()';
SELECT pg_catalog.pg_extension_config_dump('docrep.replicator', '');

/* where a dump is restored, the table is another one: its numbers have a history of their own */
SELECT pg_catalog.pg_extension_config_dump('docrep.epochs',
	$$WHERE tbl IS DISTINCT FROM (SELECT pg_catalog.replace(pg_catalog.encode(tgargs, 'escape'), '\000', '')::pg_catalog.uuid
		FROM pg_catalog.pg_trigger WHERE tgrelid = 'docrep.replicator'::pg_catalog.regclass AND tgname = '~docrep_track')$$);

/*
 * What a row of docrep.replicator means, as its writer's session read it, and
 * what became of it.  flat and secrets hold credentials: nobody has privileges
 * here, and it is not dumped.
 */
CREATE TABLE docrep.task_state (
	id text COLLATE "C" PRIMARY KEY,
	owner oid NOT NULL,
	role oid NOT NULL,
	database oid NOT NULL,
	version bigint NOT NULL,
	flat text,
	secrets jsonb,
	replication_id text COLLATE "C",
	source text,
	target text,
	proxy text,
	continuous boolean NOT NULL,
	disabled boolean NOT NULL,
	retry_cycles boolean NOT NULL,
	held_since text,
	delay bigint NOT NULL DEFAULT 0,
	keeps_looking boolean NOT NULL DEFAULT false,
	state text CHECK (state IN ('completed', 'failed', 'error', 'held')),
	reason text,
	error_count int NOT NULL,
	start_time timestamptz NOT NULL,
	last_updated timestamptz NOT NULL,
	retry_at timestamptz,
	stats jsonb,
	shown text,
	CHECK (flat IS NOT NULL OR state IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX task_state_live ON docrep.task_state (id) WHERE state IS NULL OR state = 'error';
CREATE INDEX task_state_replication_id ON docrep.task_state (replication_id);
COMMENT ON TABLE docrep.task_state IS 'What is known of each task; holds credentials; kept by docrep';
COMMENT ON COLUMN docrep.task_state.role IS 'whom the task runs as';
COMMENT ON COLUMN docrep.task_state.database IS 'where it was written: a copy of the database does not start it';
COMMENT ON COLUMN docrep.task_state.version IS '_seq of the row of docrep.replicator: names this definition';
COMMENT ON COLUMN docrep.task_state.flat IS 'the parsed replication; null if it has not been read yet (held) or cannot be (failed)';
COMMENT ON COLUMN docrep.task_state.secrets IS 'members of the document as they were given, of those that held credentials';
COMMENT ON COLUMN docrep.task_state.state IS 'null: live, its job says how it is; error: no job could be made, tried again at retry_at; held: waits for docrep.resume_tasks()';
COMMENT ON COLUMN docrep.task_state.held_since IS 'since when docrep.hold() keeps it from replicating anything, as its document says; null: it is not held';
COMMENT ON COLUMN docrep.task_state.delay IS 'of its document, in ms';
COMMENT ON COLUMN docrep.task_state.keeps_looking IS 'has a job while it is held, too, which only notes when changes of the source are seen';
COMMENT ON COLUMN docrep.task_state.error_count IS 'how often in a row no job could be made';
COMMENT ON COLUMN docrep.task_state.shown IS 'what doc says as _replication_state; null: nothing yet';

/* ids of tasks that were written and not looked at by the keeper yet */
CREATE TABLE docrep.task_news (id text COLLATE "C" NOT NULL);
COMMENT ON TABLE docrep.task_news IS 'Tasks that were written since the keeper looked; kept by docrep';

CREATE FUNCTION docrep.task_check() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_task_check';
COMMENT ON FUNCTION docrep.task_check() IS 'Trigger of docrep.replicator: checks a replication document and takes its credentials out';

CREATE FUNCTION docrep.task_note() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_task_note';
COMMENT ON FUNCTION docrep.task_note() IS 'Trigger of docrep.replicator: keeps docrep.task_state in step';

/* by its name before ~docrep_track, which must see the row as it will be stored */
CREATE TRIGGER "~docrep_task_check" BEFORE INSERT OR UPDATE ON docrep.replicator
	FOR EACH ROW EXECUTE FUNCTION docrep.task_check();
CREATE TRIGGER "~docrep_task_note" AFTER INSERT OR UPDATE OR DELETE ON docrep.replicator
	FOR EACH ROW EXECUTE FUNCTION docrep.task_note();
ALTER TABLE docrep.replicator ENABLE ALWAYS TRIGGER "~docrep_task_check",
	ENABLE ALWAYS TRIGGER "~docrep_task_note";

/* a role sees and changes the tasks of roles whose privileges it has */
ALTER TABLE docrep.replicator ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tasks ON docrep.replicator
	USING (pg_catalog.pg_has_role(owner::oid, 'USAGE'))
	WITH CHECK (pg_catalog.pg_has_role(owner::oid, 'USAGE'));
CREATE POLICY monitoring ON docrep.replicator FOR SELECT
	USING (pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
COMMENT ON POLICY own_tasks ON docrep.replicator IS 'tasks of roles whose privileges the reader or writer has';
COMMENT ON POLICY monitoring ON docrep.replicator IS 'members of pg_read_all_stats see all tasks';

CREATE FUNCTION docrep.start(id text, source text, target text, options jsonb DEFAULT '{}') RETURNS docrep.rev
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_start';
REVOKE ALL ON FUNCTION docrep.start(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.start(text, text, text, jsonb) IS
	'Start a replication task, as an INSERT into docrep.replicator does; options are the other members of its document';

CREATE FUNCTION docrep.cancel(id text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_cancel';
REVOKE ALL ON FUNCTION docrep.cancel(text) FROM PUBLIC;
COMMENT ON FUNCTION docrep.cancel(text) IS
	'End a replication task, as a DELETE from docrep.replicator does, and wait for its process';

CREATE FUNCTION docrep.hold(id text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_hold';
REVOKE ALL ON FUNCTION docrep.hold(text) FROM PUBLIC;
COMMENT ON FUNCTION docrep.hold(text) IS
	'Keep a replication task from writing anything more to its target, at once and until docrep.release()';

CREATE FUNCTION docrep.release(id text) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_release';
REVOKE ALL ON FUNCTION docrep.release(text) FROM PUBLIC;
COMMENT ON FUNCTION docrep.release(text) IS
	'Let a replication task that docrep.hold() has stopped go on from where it was';

CREATE FUNCTION docrep.clean_tasks(older_than interval DEFAULT '7 days', states text[] DEFAULT '{completed,failed}')
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_clean_tasks';
REVOKE ALL ON FUNCTION docrep.clean_tasks(interval, text[]) FROM PUBLIC;
COMMENT ON FUNCTION docrep.clean_tasks(interval, text[]) IS
	'Delete tasks that have been over for that long, in one of these states: completed, failed, held; returns how many';

CREATE FUNCTION docrep.resume_tasks(ids text[] DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_resume_tasks';
REVOKE ALL ON FUNCTION docrep.resume_tasks(text[]) FROM PUBLIC;
COMMENT ON FUNCTION docrep.resume_tasks(text[]) IS
	'Start tasks that are held since they were restored or copied with their database; returns how many';

CREATE FUNCTION docrep.set_destinations(tbl regclass, destinations jsonb) RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_set_destinations';
REVOKE ALL ON FUNCTION docrep.set_destinations(regclass, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.set_destinations(regclass, jsonb) IS
	'Replicate a document table to the destinations of a RavenDB destinations document, and no longer to others';
