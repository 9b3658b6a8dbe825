/* Replicated documents that could not be stored. */
CREATE TABLE docrep.rejected (
	tbl uuid NOT NULL,
	raw_id bytea NOT NULL,
	rev text NOT NULL,
	id text,
	replication_id text,
	source text,
	error text NOT NULL,
	reason text NOT NULL,
	raw bytea NOT NULL,
	path bytea NOT NULL,
	deleted boolean NOT NULL,
	modified timestamptz,
	at timestamptz NOT NULL DEFAULT now(),
	attachments jsonb,
	unreadable boolean NOT NULL DEFAULT false,
	origin uuid
);
CREATE UNIQUE INDEX rejected_revision ON docrep.rejected (tbl, pg_catalog.md5(raw_id), pg_catalog.md5(rev));
-- a publication FOR ALL TABLES holds this one too
ALTER TABLE docrep.rejected REPLICA IDENTITY FULL;
CREATE INDEX rejected_retry ON docrep.rejected (tbl, error);
COMMENT ON TABLE docrep.rejected IS 'Revisions that replication could not store, with what the source sent; read it through docrep.rejected_docs';
COMMENT ON COLUMN docrep.rejected.path IS 'The revision and its ancestors, newest first, packed';
COMMENT ON COLUMN docrep.rejected.attachments IS 'As _attachments of a document table; the files are in the table''s att_<uuid>, where docrep.compact() leaves them';
COMMENT ON COLUMN docrep.rejected.origin IS 'Which node first wrote the revision, if that is known';
COMMENT ON COLUMN docrep.rejected.unreadable IS 'The source could not read it as a document: raw is what came, and trying again is of no use';
SELECT pg_catalog.pg_extension_config_dump('docrep.rejected', '');

CREATE VIEW docrep.rejected_docs WITH (security_barrier) AS
	SELECT r.replication_id, c.tbl, r.source, r.id, r.raw_id, r.rev, r.error, r.reason, r.raw, r.at
	FROM docrep.rejected r
	JOIN docrep.document_tables c ON c.uuid = r.tbl
	WHERE pg_catalog.has_table_privilege(c.tbl, 'SELECT')
		AND NOT pg_catalog.row_security_active(c.tbl);
COMMENT ON VIEW docrep.rejected_docs IS 'Revisions that replication could not store, of tables that the role may read (all rows of)';
GRANT SELECT ON docrep.rejected_docs TO PUBLIC;

CREATE FUNCTION docrep.retry_rejected(tbl regclass) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_retry_rejected';
COMMENT ON FUNCTION docrep.retry_rejected(regclass) IS 'Try to store the rejected revisions of a table again; returns how many it took';
