-- docrep.conflicts and docrep.tables
SET client_min_messages = warning;
CREATE SCHEMA contract_views;
SET search_path = contract_views;
SELECT docrep.create_table('t'), docrep.create_table('u', 7), docrep.create_table('hidden');
INSERT INTO t VALUES ('plain', '{}'), ('gone', '{}');
DELETE FROM t WHERE _id = 'gone';
SELECT * FROM docrep.bulk_docs('t', '[
	{"_id": "c", "_rev": "1-a", "v": 1}, {"_id": "c", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "x"]}, "v": 2},
	{"_id": "c", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "x"]}, "_deleted": true, "why": "with a body"},
	{"_id": "empty", "_rev": "1-a"}, {"_id": "empty", "_rev": "1-b"}, {"_id": "empty", "_rev": "1-c"},
	{"_id": "loser deleted", "_rev": "1-a"}, {"_id": "loser deleted", "_rev": "1-b", "_deleted": true, "why": "with a body"},
	{"_id": "all deleted", "_rev": "1-a", "_deleted": true, "b": 1}, {"_id": "all deleted", "_rev": "1-b", "_deleted": true, "b": 2}]', false);
SELECT * FROM docrep.bulk_docs('hidden', '[{"_id": "h", "_rev": "1-a"}, {"_id": "h", "_rev": "1-b"}]', false);

SELECT tbl, id, rev, is_winner, deleted, doc, modified > now() - interval '1 hour' AS recent, origin = docrep.node_uuid()::text AS own FROM docrep.conflicts WHERE tbl::text !~ '\.' ORDER BY tbl::text, id, rev DESC;
SELECT tbl, uuid = (docrep.info(tbl)->>'uuid')::uuid AS uuid, doc_count, doc_del_count, update_seq = (docrep.info(tbl)->>'update_seq')::bigint AS seq, revs_limit, conflict_policy, conflict_count
	FROM docrep.tables WHERE tbl::text !~ '\.' ORDER BY tbl::text;
-- what needs no count of documents does not count them
CREATE FUNCTION counts_documents(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
		IF line LIKE '%docrep.info(%' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END $$;
SELECT q, counts_documents('SELECT ' || q || ' FROM docrep.tables') FROM unnest('{conflict_count,"tbl, uuid, conflict_policy, revs_limit",doc_count,*}'::text[]) q;
-- only this table is read
SELECT id, rev FROM docrep.conflicts WHERE tbl = 'hidden'::regclass;
SELECT id, is_winner FROM docrep.conflicts('hidden');
-- a resolution takes the document out, and a rollback brings it back
BEGIN;
DELETE FROM t WHERE _id = 'c';
SELECT count(*) FROM docrep.conflicts WHERE id = 'c';
SELECT conflict_count FROM docrep.tables WHERE tbl = 't'::regclass;
ROLLBACK;
SELECT count(*) FROM docrep.conflicts WHERE id = 'c';

-- privileges and policies
CREATE ROLE contract_views_reader;
GRANT USAGE ON SCHEMA contract_views TO contract_views_reader;
GRANT SELECT ON t TO contract_views_reader;
SET ROLE contract_views_reader;
SELECT DISTINCT tbl FROM docrep.conflicts;
SELECT tbl, doc_count, conflict_count FROM docrep.tables;
SELECT * FROM docrep.conflicts('hidden');
SELECT docrep.conflict_count('hidden');
RESET ROLE;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_but_c ON t USING (_id <> 'c');
SET ROLE contract_views_reader;
SELECT DISTINCT tbl, id FROM docrep.conflicts;
SELECT tbl, doc_count, doc_del_count, conflict_count FROM docrep.tables;
RESET ROLE;

DROP SCHEMA contract_views CASCADE;
DROP ROLE contract_views_reader;
