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

-- A column _rev is no text, and has no implicit cast to it: as text it would be ordered otherwise.
CREATE FUNCTION docrep.get(tbl regclass, id text, rev docrep.rev,
						   revs boolean DEFAULT false, revs_info boolean DEFAULT false,
						   conflicts boolean DEFAULT false,
						   deleted_conflicts boolean DEFAULT false,
						   open_revs jsonb DEFAULT NULL, latest boolean DEFAULT false,
						   attachments boolean DEFAULT false, atts_since jsonb DEFAULT NULL)
	RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE
	RETURN docrep.get(tbl, id, rev::text, revs, revs_info, conflicts, deleted_conflicts, open_revs,
					  latest, attachments, atts_since);
COMMENT ON FUNCTION docrep.get(regclass, text, docrep.rev, boolean, boolean, boolean, boolean, jsonb, boolean, boolean, jsonb) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';

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
