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

/*
 * Which changes of a source were seen when, by delayed replications from sources that do
 * not say when a change was made.  Not dumped: where it is missing, the wait begins anew.
 */
CREATE TABLE docrep.delay_marks (
	replication_id text COLLATE "C" NOT NULL,
	number bigint NOT NULL,
	first_seen timestamptz NOT NULL,
	seen timestamptz NOT NULL,
	since_seq text COLLATE "C" NOT NULL,
	through_seq text COLLATE "C" NOT NULL,
	changes int NOT NULL,
	entries bytea NOT NULL,
	PRIMARY KEY (replication_id, number)
);
CREATE INDEX delay_marks_seen ON docrep.delay_marks (seen);
COMMENT ON TABLE docrep.delay_marks IS
	'When changes of CouchDB sources were seen first, for delayed replications: ids and revisions, no bodies; kept by docrep';
COMMENT ON COLUMN docrep.delay_marks.seen IS 'since when all of these changes have been known: what their age is counted from';
COMMENT ON COLUMN docrep.delay_marks.since_seq IS 'sequence of the source that they follow';
COMMENT ON COLUMN docrep.delay_marks.through_seq IS 'sequence of the source at which they end';
COMMENT ON COLUMN docrep.delay_marks.entries IS 'the changes, packed (src/store/wire_format.h)';
