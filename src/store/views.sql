-- src/store/views.sql: views of all document tables that the role may read

CREATE VIEW docrep.conflicts AS
	SELECT t.tbl, c.id, c.rev, c.is_winner, c.deleted, c.doc, c.modified, c.origin
	FROM docrep.document_tables t, LATERAL docrep.conflicts(t.tbl) c
	WHERE docrep.table_stays(t.tbl::oid);
GRANT SELECT ON docrep.conflicts TO PUBLIC;
COMMENT ON VIEW docrep.conflicts IS
	'Every live revision, the winner included, of documents that have more than one; of tables that the role may read';
COMMENT ON COLUMN docrep.conflicts.is_winner IS 'is this the revision that the document table shows?';
COMMENT ON COLUMN docrep.conflicts.origin IS 'which node first wrote the revision: its uuid (docrep.node_uuid()), or the URL of a source that has none';

CREATE VIEW docrep.tables AS
	SELECT t.tbl, t.uuid,
		(i ->> 'doc_count')::bigint AS doc_count,
		(i ->> 'doc_del_count')::bigint AS doc_del_count,
		(i ->> 'update_seq')::bigint AS update_seq,
		COALESCE(s.revs_limit, 1000) AS revs_limit,
		COALESCE(s.conflict_policy, 'keep') AS conflict_policy,
		docrep.conflict_count(t.tbl) AS conflict_count,
		s.tombstone_max_age, s.not_replicated,
		s.revisions_keep, s.revisions_max_age
	FROM docrep.document_tables t
		LEFT JOIN docrep.table_settings s ON s.tbl = t.uuid,
		-- left out by the planner if no count is asked for; computed once for all of them
		LATERAL (SELECT docrep.info(t.tbl) AS i OFFSET 0) AS counted
	WHERE docrep.table_stays(t.tbl::oid)
		AND t.tbl IS DISTINCT FROM pg_catalog.to_regclass('docrep.replicator');
GRANT SELECT ON docrep.tables TO PUBLIC;
COMMENT ON VIEW docrep.tables IS
	'The document tables that the role may read, but for docrep.replicator; the counts are exact, of what it may see; those of documents cost a scan';
COMMENT ON COLUMN docrep.tables.conflict_count IS 'documents that have more than one live revision';
COMMENT ON COLUMN docrep.tables.tombstone_max_age IS 'docrep.set_tombstone_max_age()';
COMMENT ON COLUMN docrep.tables.not_replicated IS 'docrep.set_not_replicated()';
COMMENT ON COLUMN docrep.tables.revisions_keep IS 'docrep.set_revisions(); null: no former versions are kept';
COMMENT ON COLUMN docrep.tables.revisions_max_age IS 'docrep.set_revisions()';
