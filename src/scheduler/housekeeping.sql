-- Housekeeping: what is done with document tables in the background; see README.md, "Housekeeping".

CREATE TABLE docrep.table_jobs (
	tbl uuid NOT NULL,
	kind text NOT NULL CHECK (kind IN ('conflicts', 'revisions', 'tombstones')),
	version bigint NOT NULL DEFAULT 1,
	state text NOT NULL CHECK (state IN ('waiting', 'starting', 'running', 'error', 'done', 'cancelled')),
	position text,
	done bigint NOT NULL DEFAULT 0,
	total bigint,
	started_at timestamptz,
	finished_at timestamptz,
	updated_at timestamptz NOT NULL,
	next_at timestamptz,
	failures int NOT NULL DEFAULT 0,
	sqlstate text,
	error text,
	PRIMARY KEY (tbl, kind)
);
CREATE INDEX table_jobs_next_at ON docrep.table_jobs (next_at) WHERE next_at IS NOT NULL;
COMMENT ON TABLE docrep.table_jobs IS 'What there is to do in the background with document tables, by uuid, and how far it is; follows docrep.table_settings';
COMMENT ON COLUMN docrep.table_jobs.version IS 'moves when somebody asks for something else; what is done for an older one is not recorded';
COMMENT ON COLUMN docrep.table_jobs.position IS 'where the next step goes on; null: at the beginning';
COMMENT ON COLUMN docrep.table_jobs.next_at IS 'when a process is to be started for it; while it has one: when to look after it should that be gone';

CREATE FUNCTION docrep.settings_noted() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_settings_noted';
COMMENT ON FUNCTION docrep.settings_noted() IS 'Trigger of docrep.table_settings: what is to be done because of them';
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON docrep.table_settings
	FOR EACH ROW EXECUTE FUNCTION docrep.settings_noted();
ALTER TABLE docrep.table_settings ENABLE ALWAYS TRIGGER noted;
COMMENT ON TRIGGER noted ON docrep.table_settings IS 'Housekeeping follows the settings';

CREATE FUNCTION docrep.hold_noted() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_hold_noted';
COMMENT ON FUNCTION docrep.hold_noted() IS 'Trigger of docrep.version_holds: what is kept because of them is to be removed one day';
CREATE TRIGGER noted AFTER INSERT ON docrep.version_holds
	FOR EACH ROW EXECUTE FUNCTION docrep.hold_noted();
ALTER TABLE docrep.version_holds ENABLE ALWAYS TRIGGER noted;
COMMENT ON TRIGGER noted ON docrep.version_holds IS 'Housekeeping follows who needs former versions';

CREATE VIEW docrep.housekeeping WITH (security_barrier) AS
SELECT t.tbl, j.kind,
	CASE WHEN j.state IN ('starting', 'running') AND pg_catalog.current_setting('docrep.paused', true) = 'on'
		THEN 'paused' ELSE j.state END AS state,
	j.done, j.total,
	CASE WHEN j.state = 'done' THEN 100
		WHEN j.total > 0 THEN LEAST(j.done * 100 / j.total, 99)::int END AS progress,
	j.started_at, j.finished_at, j.updated_at, j.next_at,
	-- a process that is just being started counts as a failure until it has done something
	CASE WHEN j.state = 'starting' THEN j.failures - 1 ELSE j.failures END AS error_count,
	j.sqlstate AS last_sqlstate, j.error AS last_error
FROM docrep.table_jobs j
	JOIN docrep.document_tables t ON t.uuid = j.tbl
	JOIN pg_catalog.pg_class c ON c.oid = t.tbl
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
GRANT SELECT ON docrep.housekeeping TO PUBLIC;
COMMENT ON VIEW docrep.housekeeping IS
	'What docrep does by itself with document tables, and how far it is; of one''s own tables, of all for members of pg_read_all_stats';
COMMENT ON COLUMN docrep.housekeeping.kind IS
	'conflicts: resolving those there are again, after a change of policy; revisions, tombstones: removing those beyond their bounds';
COMMENT ON COLUMN docrep.housekeeping.state IS
	'waiting (until next_at), starting, running, paused (docrep.paused), error (tried again at next_at), done, cancelled';
COMMENT ON COLUMN docrep.housekeeping.done IS 'documents, revisions or tombstones, of this round or the last one';
COMMENT ON COLUMN docrep.housekeeping.total IS 'how many there were to do when the round began; null: not known';
COMMENT ON COLUMN docrep.housekeeping.progress IS 'percent; null if not known';

CREATE FUNCTION docrep.start_housekeeping(tbl regclass, kind text DEFAULT NULL) RETURNS int
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_start_housekeeping';
COMMENT ON FUNCTION docrep.start_housekeeping(regclass, text) IS
	'Do what there is to do with a table now, from the beginning, cancelled or not; kind null: all kinds. Returns how many kinds that are (owner only)';

CREATE FUNCTION docrep.cancel_housekeeping(tbl regclass, kind text DEFAULT NULL) RETURNS int
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_cancel_housekeeping';
COMMENT ON FUNCTION docrep.cancel_housekeeping(regclass, text) IS
	'Stop it after the step that is under way, until start_housekeeping() or a change of the settings; kind null: all kinds. Returns how many kinds were stopped (owner only)';
