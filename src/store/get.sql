-- src/store/get.sql: reading documents

CREATE FUNCTION docrep.get(tbl regclass, id text, rev text DEFAULT NULL,
						   revs boolean DEFAULT false, revs_info boolean DEFAULT false,
						   conflicts boolean DEFAULT false,
						   deleted_conflicts boolean DEFAULT false,
						   open_revs jsonb DEFAULT NULL, latest boolean DEFAULT false,
						   attachments boolean DEFAULT false, atts_since jsonb DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_get';
COMMENT ON FUNCTION docrep.get(regclass, text, text, boolean, boolean, boolean, boolean, jsonb, boolean, boolean, jsonb) IS
	'A document with _id and _rev, as CouchDB''s GET /db/id; NULL if it is missing or deleted';

CREATE FUNCTION docrep.bulk_get(tbl regclass, docs jsonb, revs boolean DEFAULT false,
								attachments boolean DEFAULT false, latest boolean DEFAULT false)
	RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_bulk_get';
COMMENT ON FUNCTION docrep.bulk_get(regclass, jsonb, boolean, boolean, boolean) IS
	'Many revisions at once, as CouchDB''s POST /db/_bulk_get; docs is [{"id": ..., "rev": ...}, ...]';

CREATE FUNCTION docrep.revs_diff(tbl regclass, revs jsonb) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_revs_diff';
COMMENT ON FUNCTION docrep.revs_diff(regclass, jsonb) IS
	'Which of these revisions are not here, as CouchDB''s POST /db/_revs_diff; revs is {"id": ["rev", ...], ...}';
