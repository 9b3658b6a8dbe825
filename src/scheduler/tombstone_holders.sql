-- Who still needs a table's tombstones, and removing those that nobody does.

/*
 * A task holds back what comes after its checkpoint, disabled or not; so does
 * every checkpoint that lies at a table as the source's.  Nothing is cast
 * without a look: whoever may write to the table may write local documents.
 */
CREATE VIEW docrep.tombstone_holders WITH (security_barrier) AS
WITH points AS (
	-- tasks whose source is a table here
	SELECT s.id AS doc_id,
		COALESCE(pg_catalog.split_part(s.replication_id, '+', 1), f.flat ->> 'id') COLLATE "C" AS replication_id,
		f.flat #>> '{source,spec}' AS uuid, s.target, s.disabled, s.state, s.start_time
	FROM docrep.task_state s, LATERAL (SELECT s.flat::jsonb) AS f(flat)
	WHERE f.flat #>> '{source,kind}' = 'local'
), marks AS (
	-- checkpoints at tables that are their source: of tasks, of replicate(), of other servers
	SELECT l.tbl AS uuid, l.id, l.doc ->> 'target' AS target, docrep.checkpoint_time(l.doc) AS at,
		CASE WHEN l.doc ->> 'source_last_seq' ~ '^[0-9]{1,18}(-[0-9a-f]{16})?$'
			THEN l.doc ->> 'source_last_seq' ELSE '0' END AS seq
	FROM docrep.local_docs l
	WHERE l.id ~ '^[0-9a-f]{32}$'
		AND l.doc ?& '{session_id,source_last_seq,history}'::text[]
		AND (l.doc ->> 'source_uuid' = l.tbl::text
			-- written before checkpoints named their source: the sequence tells
			OR NOT l.doc ? 'source_uuid' AND EXISTS (
				SELECT FROM docrep.epochs e WHERE e.tbl = l.tbl
					AND e.epoch = pg_catalog.split_part(l.doc ->> 'source_last_seq', '-', 2)))
), holders AS (
	SELECT COALESCE(p.uuid, m.uuid::text) AS uuid, p.doc_id,
		COALESCE(p.replication_id, m.id) AS replication_id,
		COALESCE(p.target, m.target) AS target, COALESCE(p.disabled, false) AS disabled,
		COALESCE(m.seq, '0') AS seq, COALESCE(m.at, p.start_time) AS at
	FROM points p
		FULL JOIN marks m ON m.id = p.replication_id AND m.uuid::text = p.uuid
	-- what is over and left no checkpoint goes on from nowhere
	WHERE m.id IS NOT NULL OR p.state IS DISTINCT FROM 'completed'
)
SELECT d.tbl, h.doc_id, h.replication_id, h.target, (d.behind).passed, (d.behind).tombstones,
	CASE WHEN (d.behind).tombstones > 0 THEN GREATEST((d.behind).oldest, h.at) END AS since, h.disabled,
	l.max_age IS NULL OR (d.behind).tombstones = 0
		OR GREATEST((d.behind).oldest, h.at) >= pg_catalog.now() - l.max_age AS counts
-- counted once for all that stand at the same place: a volatile function is not moved out of here
FROM (SELECT p.tbl, p.uuid, p.seq, docrep.tombstones_after(p.tbl, p.seq) AS behind
		FROM (SELECT DISTINCT t.tbl, h.uuid, h.seq
			FROM holders h
				JOIN docrep.document_tables t ON t.uuid::text = h.uuid
				JOIN pg_catalog.pg_class c ON c.oid = t.tbl
			WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
				OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')) AS p) AS d
	JOIN holders h ON h.uuid = d.uuid AND h.seq = d.seq
	CROSS JOIN (SELECT NULLIF(pg_catalog.current_setting('docrep.tombstone_hold_limit', true), '0')::interval) AS l(max_age);
GRANT SELECT ON docrep.tombstone_holders TO PUBLIC;
COMMENT ON VIEW docrep.tombstone_holders IS
	'Replications that read from a table here, and how many of its tombstones each has yet to see; for the table''s owner and members of pg_read_all_stats';
COMMENT ON COLUMN docrep.tombstone_holders.doc_id IS 'row of docrep.replicator; null: replicate(), or a task of another server';
COMMENT ON COLUMN docrep.tombstone_holders.passed IS 'the table''s sequence number up to which the target has everything';
COMMENT ON COLUMN docrep.tombstone_holders.tombstones IS 'how many come after that';
COMMENT ON COLUMN docrep.tombstone_holders.since IS 'since when the oldest of them waits; null: there are none';
COMMENT ON COLUMN docrep.tombstone_holders.counts IS 'does it keep tombstones? Not if it is further behind than docrep.tombstone_hold_limit';

CREATE FUNCTION docrep.clean_tombstones(tbl regclass, older_than interval DEFAULT '0', beyond_holders boolean DEFAULT false)
RETURNS bigint LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS $$
	SELECT (docrep.remove_tombstones($1,
		CASE WHEN $3 THEN NULL ELSE
			(SELECT pg_catalog.min(h.passed) FROM docrep.tombstone_holders h WHERE h.tbl = $1 AND h.counts) END,
		pg_catalog.now() - $2)).removed
$$;
COMMENT ON FUNCTION docrep.clean_tombstones(regclass, interval, boolean) IS
	'Forget tombstones that were made so long ago and that everybody who reads from the table has seen; beyond_holders: whoever has seen them. Returns how many (owner only)';
