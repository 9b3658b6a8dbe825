-- the changes feed in one session; what concurrent ones see is in test/isolation
SET client_min_messages = warning;
CREATE SCHEMA feed;
SET search_path = feed;
SELECT docrep.create_table('t');

SELECT * FROM docrep.changes('t');
SELECT docrep.changes_feed('t');
INSERT INTO t (_id, doc) VALUES ('a', '{"n": 1}'), ('b', '{"n": 2}'), ('c', '{"n": 3}');
SELECT * FROM docrep.changes('t');
-- a document is in the feed once, at its last change
UPDATE t SET doc = '{"n": 4}' WHERE _id = 'a';
DELETE FROM t WHERE _id = 'b';
SELECT seq, id, changes, deleted, doc IS NULL AS no_doc FROM docrep.changes('t');
SELECT max(seq) AS last FROM docrep.changes('t') \gset
-- since, max_rows, descending
SELECT id FROM docrep.changes('t', since => 3);
SELECT count(*) FROM docrep.changes('t', since => :last);
SELECT (SELECT count(*) FROM docrep.changes('t', since => 1000000)) AS beyond, (SELECT count(*) FROM docrep.changes('t', since => NULL)) AS from_null, (SELECT count(*) FROM docrep.changes('t', since => -5)) AS negative;
SELECT seq, id FROM docrep.changes('t', max_rows => 2);
SELECT count(*) FROM docrep.changes('t', max_rows => 0);
SELECT seq, id FROM docrep.changes('t', descending => true);
SELECT seq, id FROM docrep.changes('t', descending => true, max_rows => 1);
SELECT seq, id FROM docrep.changes('t', descending => true, since => 3);
-- documents; a tombstone's too
SELECT id, doc FROM docrep.changes('t', include_docs => true);
-- style, conflicts
SELECT count(*) FROM docrep.bulk_docs('t', '[{"_id": "x", "_rev": "1-a"}, {"_id": "x", "_rev": "2-b", "v": 1}, {"_id": "x", "_rev": "2-c", "v": 2}, {"_id": "x", "_rev": "3-d", "_deleted": true}]', false);
SELECT id, changes, deleted, doc FROM docrep.changes('t', since => :last);
SELECT id, changes, deleted, doc FROM docrep.changes('t', since => :last, style => 'all_docs');
SELECT id, doc FROM docrep.changes('t', since => :last, include_docs => true, conflicts => true);
SELECT id, doc FROM docrep.changes('t', since => :last, include_docs => true, conflicts => false);
-- only some documents, in order of seq
SELECT seq > 0 AS seq, id FROM docrep.changes('t', doc_ids => '{x,c,none,b,c}');
SELECT id FROM docrep.changes('t', doc_ids => '{x,c,none,b}', max_rows => 1, filter => '_doc_ids');
SELECT id FROM docrep.changes('t', doc_ids => '{x,c,none,b}', descending => true);
SELECT id FROM docrep.changes('t', doc_ids => '{x,c,none,b}', since => 3);
SELECT count(*) FROM docrep.changes('t', doc_ids => '{}');

-- as an object
SELECT docrep.changes_feed('t', max_rows => 2);
SELECT docrep.changes_feed('t', since => (docrep.changes_feed('t', max_rows => 2)->>'last_seq')::bigint, include_docs => true, conflicts => true, style => 'all_docs');
SELECT docrep.changes_feed('t', max_rows => 0);
-- last_seq says how far was scanned, although nothing passed
SELECT docrep.changes_feed('t', doc_ids => '{none}') = jsonb_build_object('results', '[]'::jsonb, 'pending', 0, 'last_seq', docrep.info('t')->'update_seq') AS scanned;
SELECT docrep.changes_feed('t', doc_ids => '{x,c,none,b}', max_rows => 1)->'pending' AS pending;
-- a feed that is read in pieces gives what it gives at once
WITH RECURSIVE piece(n, feed) AS (
	SELECT 1, docrep.changes_feed('t', max_rows => 1)
	UNION ALL
	SELECT n + 1, docrep.changes_feed('t', since => (feed->>'last_seq')::bigint, max_rows => 1) FROM piece WHERE (feed->>'pending')::int > 0)
SELECT jsonb_agg(feed->'results'->0 ORDER BY n) = docrep.changes_feed('t')->'results' AS same, array_agg(feed->>'pending' ORDER BY n) AS pending FROM piece;

-- a transaction sees its own changes, as in any query; others do once it commits
SELECT max(seq) AS last FROM docrep.changes('t') \gset
BEGIN;
INSERT INTO t (_id, doc) VALUES ('own', '{}');
SELECT count(*) FROM docrep.changes('t', since => :last);
COMMIT;
SELECT id FROM docrep.changes('t', since => :last);
-- rolled back ones never
BEGIN;
INSERT INTO t (_id, doc) VALUES ('undone', '{}');
SAVEPOINT s;
INSERT INTO t (_id, doc) VALUES ('undone2', '{}');
ROLLBACK TO s;
INSERT INTO t (_id, doc) VALUES ('undone3', '{}');
ROLLBACK;
SELECT max(seq) AS last FROM docrep.changes('t') \gset
BEGIN;
SAVEPOINT s;
INSERT INTO t (_id, doc) VALUES ('undone', '{}');
ROLLBACK TO s;
INSERT INTO t (_id, doc) VALUES ('done', '{}');
COMMIT;
SELECT id FROM docrep.changes('t', since => :last);

-- many rows, through the tuplestore's file too
SET work_mem = '64kB';
SELECT max(seq) AS last FROM docrep.changes('t') \gset
INSERT INTO t (_id, doc) SELECT 'm' || n, jsonb_build_object('n', n, 'pad', repeat('x', 300)) FROM generate_series(1, 3000) n;
SELECT count(*), count(DISTINCT seq), min(id), bool_and(id = 'm' || (doc->>'n')), bool_and(doc->>'_rev' = changes->0->>'rev')
FROM docrep.changes('t', since => :last, include_docs => true);
SELECT array_agg(seq) = array_agg(seq ORDER BY seq) AS ordered FROM docrep.changes('t');
SELECT (docrep.changes_feed('t', since => :last, max_rows => 1000)->>'pending')::int AS pending;
RESET work_mem;

DROP SCHEMA feed CASCADE;
