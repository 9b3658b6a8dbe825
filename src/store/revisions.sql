-- src/store/revisions.sql: former versions of documents

CREATE TABLE docrep.version_holds (
	tbl uuid NOT NULL,
	holder text NOT NULL,
	keep interval NOT NULL,
	renewed_at timestamptz NOT NULL,
	PRIMARY KEY (tbl, holder)
);
COMMENT ON TABLE docrep.version_holds IS 'Who needs replaced versions of a document table''s documents for a while, such as a delayed replication; a row that was not renewed for "keep" and a day counts no more';

CREATE TABLE docrep.revision_cleaning (
	tbl uuid PRIMARY KEY,
	done_to text NOT NULL
);
COMMENT ON TABLE docrep.revision_cleaning IS 'Document tables in which docrep.clean_revisions() has to look at all kept versions, and the id up to which it has';

CREATE FUNCTION docrep.set_revisions(tbl regclass, keep int DEFAULT 20,
									 max_age interval DEFAULT NULL,
									 keep_deleted boolean DEFAULT true)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_set_revisions';
COMMENT ON FUNCTION docrep.set_revisions(regclass, int, interval, boolean) IS
	'Keep former versions of a table''s documents: how many of each, how long, and whether those of deleted documents; keep NULL: none (owner only)';

CREATE FUNCTION docrep.revisions(tbl regclass, doc_id text DEFAULT NULL,
								 OUT id text, OUT rev docrep.rev, OUT doc jsonb,
								 OUT deleted boolean, OUT modified timestamptz, OUT origin text,
								 OUT replaced_at timestamptz, OUT was text,
								 OUT replicated boolean)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_revisions';
COMMENT ON FUNCTION docrep.revisions(regclass, text) IS
	'The former versions that are kept of a table''s documents, or of one document, oldest first';

CREATE FUNCTION docrep.clean_revisions(tbl regclass, max_rows int DEFAULT 10000) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_clean_revisions';
COMMENT ON FUNCTION docrep.clean_revisions(regclass, int) IS
	'Remove up to max_rows former versions that are beyond their bounds; returns how many, and fewer than that when there is no more to do (owner only)';

CREATE FUNCTION docrep.peer_hold_versions(tbl uuid, holder text, keep interval) RETURNS boolean
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_peer_hold_versions';
COMMENT ON FUNCTION docrep.peer_hold_versions(uuid, text, interval) IS
	'for replication peers: keep replaced versions at least that long for this holder, or, with NULL, no longer; false: not possible, or not for so long; needs SELECT on the table';

CREATE VIEW docrep.revisions AS
	SELECT t.tbl, r.id, r.rev, r.doc, r.deleted, r.modified, r.origin, r.replaced_at, r.was,
		r.replicated
	FROM docrep.document_tables t, LATERAL docrep.revisions(t.tbl) r
	WHERE docrep.table_stays(t.tbl::oid);
GRANT SELECT ON docrep.revisions TO PUBLIC;
COMMENT ON VIEW docrep.revisions IS
	'Former versions of documents that are kept, of the tables that the role may read';
COMMENT ON COLUMN docrep.revisions.modified IS 'when the version was made, by the clock of where it was made';
COMMENT ON COLUMN docrep.revisions.replaced_at IS 'when another took its place';
COMMENT ON COLUMN docrep.revisions.was IS 'winner, or conflict: a losing revision that was closed';
COMMENT ON COLUMN docrep.revisions.replicated IS 'brought by a replication; it was replaced there, and never stood here';

CREATE FUNCTION docrep.revert(tbl regclass, at timestamptz, ids text[] DEFAULT NULL) RETURNS jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_revert';
COMMENT ON FUNCTION docrep.revert(regclass, timestamptz, text[]) IS
	'Give all documents, or these, again what they were at a time, as new revisions; what was created since is deleted. Returns how many were changed';

CREATE FUNCTION docrep.peer_versions_have(tbl uuid, ids bytea) RETURNS bytea
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_versions_have';
COMMENT ON FUNCTION docrep.peer_versions_have(uuid, bytea) IS
	'for replication peers: which former versions of documents are kept, and how many the table keeps; needs SELECT on the table';

CREATE FUNCTION docrep.peer_versions_fetch(tbl uuid, have bytea, first integer, passed integer,
										   keep integer)
	RETURNS bytea
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_versions_fetch';
COMMENT ON FUNCTION docrep.peer_versions_fetch(uuid, bytea, integer, integer, integer) IS
	'for replication peers: former versions that a target lacks, some at a time; needs SELECT on the table';

CREATE FUNCTION docrep.peer_versions_write(tbl uuid, versions bytea) RETURNS void
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_versions_write';
COMMENT ON FUNCTION docrep.peer_versions_write(uuid, bytea) IS
	'for replication peers: keep former versions, within the table''s bounds; needs INSERT on the table';
