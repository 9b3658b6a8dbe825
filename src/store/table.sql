/* Histories of the update sequences; see README.md of src/store, "Identity". */
CREATE TABLE docrep.epochs (
	tbl uuid NOT NULL,
	start_seq bigint NOT NULL,
	epoch text NOT NULL,
	system text NOT NULL,
	timeline bigint NOT NULL,
	db oid NOT NULL,
	PRIMARY KEY (tbl, start_seq)
);
COMMENT ON TABLE docrep.epochs IS 'Which server and timeline handed out which stretch of a document table''s sequence numbers';
SELECT pg_catalog.pg_extension_config_dump('docrep.epochs', '');

CREATE TABLE docrep.table_settings (
	tbl uuid PRIMARY KEY,
	revs_limit int NOT NULL DEFAULT 1000 CHECK (revs_limit >= 1),
	conflict_policy text NOT NULL DEFAULT 'keep',
	resolver text,
	validator text,
	revisions_keep int,
	revisions_max_age interval,
	revisions_keep_deleted boolean,
	revisions_since timestamptz,
	tombstone_max_age interval,
	not_replicated jsonb
);
COMMENT ON TABLE docrep.table_settings IS 'Settings of document tables, by uuid; a missing row means the defaults';
COMMENT ON COLUMN docrep.table_settings.resolver IS 'Signature of a function, qualified: a name would not survive as an oid in a dump';
COMMENT ON COLUMN docrep.table_settings.revisions_keep IS 'How many former versions of a document are kept; NULL: that is off';
COMMENT ON COLUMN docrep.table_settings.revisions_since IS 'Since when they have been kept without a break';
SELECT pg_catalog.pg_extension_config_dump('docrep.table_settings', '');

/* the triggers of document tables */
CREATE FUNCTION docrep.track_change() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_track_change';
COMMENT ON FUNCTION docrep.track_change() IS 'Trigger of document tables: keeps revisions';

CREATE FUNCTION docrep.insert_unsettled(tbl oid, id text, rev docrep.rev) RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'docrep_insert_unsettled';
COMMENT ON FUNCTION docrep.insert_unsettled(oid, text, docrep.rev) IS 'Condition of a trigger of document tables: does a new row meet a tombstone?';

CREATE FUNCTION docrep.delete_unsettled(tbl oid, id text, tree docrep.revtree) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_delete_unsettled';
COMMENT ON FUNCTION docrep.delete_unsettled(oid, text, docrep.revtree) IS 'Condition of a trigger of document tables: does a deletion bring a conflict to light?';

CREATE FUNCTION docrep.settle_insert() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_settle_insert';
COMMENT ON FUNCTION docrep.settle_insert() IS 'Trigger of document tables: a new row takes over its tombstone';

CREATE FUNCTION docrep.settle_delete() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_settle_delete';
COMMENT ON FUNCTION docrep.settle_delete() IS 'Trigger of document tables: a deleted winner gives way to a live conflict';

CREATE FUNCTION docrep.refuse_truncate() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_refuse_truncate';
COMMENT ON FUNCTION docrep.refuse_truncate() IS 'Trigger of document tables: TRUNCATE would leave no tombstones';

CREATE FUNCTION docrep.batch_rows(action "char", OUT id text, OUT doc jsonb) RETURNS SETOF record
LANGUAGE C VOLATILE STRICT ROWS 500 AS 'MODULE_PATHNAME', 'docrep_batch_rows';
COMMENT ON FUNCTION docrep.batch_rows("char") IS 'The rows of the batch that this session is writing; none for anybody else';

/*
 * The registry is the tracking trigger, together with a companion that depends
 * on the table: anybody may name any uuid in a trigger, but only docrep makes
 * companions.
 */
CREATE VIEW docrep.document_tables AS
	SELECT t.tgrelid::regclass AS tbl,
		CASE WHEN c.relname ~ '^dead_[0-9a-f]{32}$' THEN pg_catalog.substr(c.relname, 6)::uuid END AS uuid
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass
		AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'a'
		AND d.refclassid = 'pg_catalog.pg_class'::regclass
	JOIN pg_catalog.pg_trigger t ON t.tgrelid = d.refobjid
		AND t.tgname = '~docrep_track' AND t.tgfoid = 'docrep.track_change'::regproc
	WHERE c.relnamespace = 'docrep_data'::regnamespace AND c.relkind = 'r'
		AND c.relname ~ '^dead_[0-9a-f]{32}$'
		AND pg_catalog.lower(pg_catalog.replace(pg_catalog.encode(t.tgargs, 'escape'), '-', ''))
			= pg_catalog.substr(c.relname, 6) || '\000';
COMMENT ON VIEW docrep.document_tables IS 'The document tables of this database, with their identities';
GRANT SELECT ON docrep.document_tables TO PUBLIC;

/* tables */
CREATE FUNCTION docrep.create_table(name text, revs_limit int DEFAULT 1000) RETURNS regclass
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_create_table';
COMMENT ON FUNCTION docrep.create_table(text, int) IS 'Create a document table, owned by the current role; the name may be schema-qualified';

CREATE FUNCTION docrep.drop_table(tbl regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_drop_table';
COMMENT ON FUNCTION docrep.drop_table(regclass) IS 'Drop a document table and everything kept for it, as DROP TABLE does';

CREATE FUNCTION docrep.set_revs_limit(tbl regclass, max_revs int) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_set_revs_limit';
COMMENT ON FUNCTION docrep.set_revs_limit(regclass, int) IS 'How many revisions of each branch a document''s tree keeps (owner only)';

CREATE FUNCTION docrep.reset_identity(tbl regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_reset_identity';
COMMENT ON FUNCTION docrep.reset_identity(regclass) IS 'Tell peers that from here on this table''s history is its own: after a clone of the server or a restored copy (owner only)';

/* event triggers: companions and rows by uuid stay with their table */
CREATE FUNCTION docrep.on_ddl_end() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_on_ddl_end';
COMMENT ON FUNCTION docrep.on_ddl_end() IS 'Event trigger: keeps the companions of document tables with them';
CREATE FUNCTION docrep.on_drop() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_on_drop';
COMMENT ON FUNCTION docrep.on_drop() IS 'Event trigger: removes what was kept for a dropped document table';
CREATE EVENT TRIGGER docrep_ddl_end ON ddl_command_end
	WHEN TAG IN ('CREATE TRIGGER', 'ALTER TABLE') EXECUTE FUNCTION docrep.on_ddl_end();
CREATE EVENT TRIGGER docrep_drop ON sql_drop EXECUTE FUNCTION docrep.on_drop();
COMMENT ON EVENT TRIGGER docrep_ddl_end IS 'Keeps the companions of document tables with them';
COMMENT ON EVENT TRIGGER docrep_drop IS 'Removes what was kept for a dropped document table';

CREATE FUNCTION docrep.check(tbl regclass, OUT id text, OUT problem text) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_check';
COMMENT ON FUNCTION docrep.check(regclass) IS 'What is wrong with a document table; no rows if nothing is (owner only)';
