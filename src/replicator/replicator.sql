/* When a checkpoint was recorded; null if it does not say so in a way that could be. */
CREATE FUNCTION docrep.checkpoint_time(doc jsonb) RETURNS timestamptz
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN jsonb_typeof(doc -> 'recorded_at_ms') = 'number'
			AND (doc -> 'recorded_at_ms')::numeric BETWEEN 0 AND 100000000000000
		THEN to_timestamp((doc -> 'recorded_at_ms')::float8 / 1000) END
$$;
COMMENT ON FUNCTION docrep.checkpoint_time(jsonb) IS 'Beneath views: when a checkpoint document was recorded';

/*
 * Where replications are, as this database knows it: of a replication between
 * two local tables, the newer of both checkpoints.  What looks like one may have
 * been written by anybody with put_local, so nothing is cast without a look.
 */
CREATE VIEW docrep.checkpoints WITH (security_barrier) AS
	SELECT DISTINCT ON (l.id)
		l.id AS replication_id,
		l.doc ->> 'source' AS source,
		l.doc ->> 'target' AS target,
		l.doc ->> 'source_last_seq' AS source_seq,
		l.doc ->> 'session_id' AS session_id,
		docrep.checkpoint_time(l.doc) AS recorded_at,
		t.tbl
	FROM docrep.local_docs l
		JOIN docrep.document_tables t ON t.uuid = l.tbl
	WHERE l.id ~ '^[0-9a-f]{32}$'
		AND l.doc ?& '{session_id,source_last_seq,history}'::text[]
		AND pg_catalog.has_table_privilege(t.tbl::oid, 'SELECT')
	ORDER BY l.id, recorded_at DESC NULLS LAST, t.tbl;
GRANT SELECT ON docrep.checkpoints TO PUBLIC;
COMMENT ON VIEW docrep.checkpoints IS
	'How far replications have got whose checkpoints lie at tables of this database that the role may read';
COMMENT ON COLUMN docrep.checkpoints.source_seq IS 'the source''s sequence up to which the target has everything';
COMMENT ON COLUMN docrep.checkpoints.tbl IS 'the table at which the newest checkpoint lies';
