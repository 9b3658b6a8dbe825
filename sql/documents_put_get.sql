-- put, get, delete, local documents
SET client_min_messages = warning;
CREATE SCHEMA documents_put_get;
SET search_path = documents_put_get;
SELECT docrep.create_table('t');

-- what an error looks like to a program
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- the same document makes the same revision everywhere, so these are fixed
SELECT docrep.put('t', '{"_id": "a", "n": 1}') AS rev1 \gset
SELECT :'rev1' AS rev1;
SELECT docrep.get('t', 'a');
SELECT _id, doc, _rev FROM t;
SELECT docrep.put('t', jsonb_build_object('_id', 'a', '_rev', :'rev1', 'n', 2)) AS rev2 \gset
SELECT :'rev2' AS rev2;
SELECT docrep.get('t', 'a'), docrep.get('t', 'a', rev => :'rev2') = docrep.get('t', 'a') AS by_rev;
-- the body of an ancestor is not kept
SELECT docrep.get('t', 'a', rev => :'rev1') IS NULL AS gone, docrep.get('t', 'a', rev => '9-z') IS NULL AS unknown;
-- a revision is text, or what a column _rev or a function has
SELECT docrep.get('t', _id, _rev) = docrep.get('t', 'a') AS positional, docrep.get('t', _id, rev => _rev, revs => true) ? '_revisions' AS named,
	docrep.get('t', _id, NULL) = docrep.get('t', 'a') AS neither, docrep.get('t', _id, NULL::docrep.rev) = docrep.get('t', 'a') AS null FROM t;
BEGIN;
SELECT attempt($$SELECT docrep.delete('t', 'a', '1-a')$$), attempt($$SELECT docrep.delete('t', 'a', '1-a'::docrep.rev)$$);
SELECT docrep.put_attachment('t', _id, 'f', 'text/plain', 'one', _rev) AS rev FROM t;
SELECT docrep.get_attachment('t', _id, 'f', _rev), docrep.get_attachment_part('t', _id, 'f', 1, 2, _rev) FROM t;
SELECT docrep.delete('t', 'a', docrep.delete_attachment('t', _id, 'f', _rev)) FROM t;
ROLLBACK;
SELECT docrep.get('t', 'a', revs => true);
SELECT docrep.get('t', 'a', revs_info => true);
SELECT docrep.get('t', 'a', conflicts => true, deleted_conflicts => true);

-- what put refuses
SELECT attempt($$SELECT docrep.put('t', '{"_id": "a", "n": 3}')$$);
SELECT attempt(format($$SELECT docrep.put('t', '{"_id": "a", "_rev": "%s", "n": 3}')$$, :'rev1'));
SELECT attempt($$SELECT docrep.put('t', '{"_id": "a", "_rev": "2-abc", "n": 3}')$$);
SELECT docrep.get('t', 'a')->'n' AS unchanged;
-- a _rev for an id that is not there is taken as CouchDB does
SELECT docrep.put('t', '{"_id": "new", "_rev": "4-abc", "n": 3}');
SELECT docrep.get('t', 'new', revs => true);
-- _revisions alone give the parent
SELECT docrep.put('t', '{"_id": "new2", "_revisions": {"start": 2, "ids": ["b", "a"]}}');

-- without an id one is made
SELECT docrep.put('t', '{"made": 1}') IS NOT NULL AS made;
SELECT docrep.put('t', '{"made": 2}') IS NOT NULL AS made;
SELECT count(*), count(DISTINCT _id), bool_and(_id ~ '^[0-9a-f]{32}$') FROM t WHERE doc ? 'made';

-- members that are ignored, and never part of the body or the revision
SELECT docrep.put('t', '{"_id": "i", "x": 1, "_conflicts": ["1-a"], "_deleted_conflicts": 3, "_revs_info": [], "_local_seq": 7,
	"_replication_id": "x", "_replication_state": "triggered", "_replication_state_time": "now",
	"_replication_state_reason": "none", "_replication_stats": {}, "_access": [], "_attachments": {}, "_deleted": false}') AS rev \gset
SELECT docrep.get('t', 'i');
SELECT docrep.put('t', '{"_id": "j", "x": 1}') = :'rev' AS same_revision;

-- numbers count by value; everything else in the body counts too
CREATE TABLE pairs (a jsonb, b jsonb);
INSERT INTO pairs VALUES
	('{"n": 1}', '{"n": 1.0}'), ('{"n": 1}', '{"n": 1.000}'), ('{"n": 100}', '{"n": 1e2}'),
	('{"n": 0}', '{"n": -0.00}'), ('{"n": 12345678901234567890}', '{"n": 12345678901234567890.0}'),
	('{"n": 0.0001}', '{"n": 1e-4}'), ('{"n": 1e300}', '{"n": 10e299}'), ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}'),
	('{"n": 1}', '{"n": "1"}'), ('{"n": 1}', '{"n": -1}'), ('{"n": 1}', '{"n": 10000}'),
	('{"n": 1.5}', '{"n": 15}'), ('{"n": 0.0001}', '{"n": 1}'), ('{"n": [1]}', '{"n": 1}'),
	('{"n": [1, 2]}', '{"n": [2, 1]}'), ('{"n": [[1], 2]}', '{"n": [[1, 2]]}'), ('{"n": {}}', '{"n": []}'),
	('{"n": null}', '{}'), ('{"n": null}', '{"n": false}'), ('{"n": true}', '{"n": false}'),
	('{"ab": "c"}', '{"a": "bc"}'), ('{"n": ["ab", "c"]}', '{"n": ["a", "bc"]}'), ('{"n": ""}', '{"n": null}');
SELECT docrep.create_table('h1'), docrep.create_table('h2');
INSERT INTO h1 (_id, doc) SELECT a::text || b::text, a FROM pairs;
INSERT INTO h2 (_id, doc) SELECT a::text || b::text, b FROM pairs;
SELECT left(a::text, 30) AS a, left(b::text, 30) AS b, a = b AS same_json, h1._rev = h2._rev AS same_revision
FROM pairs JOIN h1 ON h1._id = a::text || b::text JOIN h2 ON h2._id = h1._id
ORDER BY same_json DESC, a::text COLLATE "C", b::text COLLATE "C";
-- fixed revisions: another architecture or another PostgreSQL must give these
TRUNCATE pairs;
INSERT INTO h1 (_id, doc) VALUES ('fixed1', '{"s": "é", "n": [-1.5, 12345.678, 0, 1e20], "o": {"t": true, "f": false, "z": null}}'), ('fixed2', '{}');
SELECT _id, _rev FROM h1 WHERE _id LIKE 'fixed%' ORDER BY _id;

-- documents are put together as the server itself would: same bytes, every member found
CREATE TABLE wide AS SELECT jsonb_object_agg(repeat('k', n % 7) || n, CASE n % 6
	WHEN 0 THEN to_jsonb(n * 1000.25) WHEN 1 THEN to_jsonb(repeat('é', n)) WHEN 2 THEN jsonb_build_object('n', n, 'l', jsonb_build_array(n, 'x', null))
	WHEN 3 THEN 'true' WHEN 4 THEN 'null' ELSE '[]' END) AS doc FROM generate_series(1, 150) n;
SELECT docrep.put('t', doc || '{"_id": "wide", "_deleted": false}') IS NOT NULL AS put FROM wide;
SELECT t.doc = wide.doc AS body, pg_column_size(docrep.get('t', 'wide')) = pg_column_size(docrep.get('t', 'wide')::text::jsonb) AS size,
	docrep.get('t', 'wide') = wide.doc || jsonb_build_object('_id', 'wide', '_rev', t._rev) AS document
FROM wide, t WHERE _id = 'wide';
SELECT count(*), bool_and(docrep.get('t', 'wide')->key = value) AS found FROM wide, jsonb_each(doc);
SELECT docrep.put('t', '{"_id": "wide2", "_rev": "1-a", "_deleted": true}'::jsonb || doc) IS NOT NULL AS put FROM wide;
SELECT pg_column_size(feed) = pg_column_size(feed::text::jsonb) AS size, feed = feed::text::jsonb AS same
FROM docrep.changes_feed('t', include_docs => true) feed;

-- put and plain INSERT make the same revision
INSERT INTO t (_id, doc) VALUES ('k', '{"x": 1}') RETURNING _rev = :'rev' AS same_revision;

-- delete
SELECT attempt($$SELECT docrep.delete('t', 'nothing', '1-a')$$);
SELECT attempt($$SELECT docrep.delete('t', 'a', NULL)$$);
SELECT attempt(format($$SELECT docrep.delete('t', 'a', '%s')$$, :'rev1'));
SELECT docrep.delete('t', 'a', :'rev2') AS rev3 \gset
SELECT :'rev3' AS rev3;
SELECT docrep.get('t', 'a') IS NULL AS gone, (SELECT count(*) FROM t WHERE _id = 'a') AS n;
SELECT docrep.get('t', 'a', rev => :'rev3');
SELECT attempt(format($$SELECT docrep.delete('t', 'a', '%s')$$, :'rev3'));
-- a tombstone keeps the body of the edit that made it
SELECT attempt($$SELECT docrep.put('t', '{"_id": "j", "_rev": "1-x", "_deleted": true}')$$);
SELECT docrep.put('t', jsonb_build_object('_id', 'j', '_rev', :'rev', '_deleted', true, 'why', 'gone')) AS rev \gset
SELECT docrep.get('t', 'j', rev => :'rev');
-- written again, the document goes on from its tombstone
SELECT docrep.put('t', '{"_id": "a", "again": true}') AS rev4 \gset
SELECT docrep.get('t', 'a', revs_info => true);

-- design documents are documents, local ones are not
SELECT docrep.put('t', '{"_id": "_design/d", "views": {}}');
SELECT docrep.get('t', '_design/d');
SELECT docrep.put_local('t', 'cp', '{"seq": 1}'), docrep.put_local('t', 'cp', '{"_id": "_local/cp", "_rev": "0-1", "seq": 2}');
SELECT docrep.get_local('t', 'cp'), docrep.get('t', '_local/cp') = docrep.get_local('t', 'cp') AS same;
SELECT docrep.get_local('t', 'none') IS NULL AS none, docrep.get('t', '_local/none') IS NULL AS none;
SELECT attempt($$SELECT docrep.put_local('t', 'cp', '[]')$$), attempt($$SELECT docrep.put_local('t', '', '{}')$$);
SELECT attempt($$SELECT docrep.put_local('t', 'cp', '{"_foo": 1}')$$);
SELECT count(*) FROM docrep.changes('t') WHERE id LIKE '%cp';
SELECT docrep.put_local('t', 'cp', '{"_deleted": true}');
SELECT docrep.get_local('t', 'cp') IS NULL AS gone;
SELECT docrep.put_local('t', 'cp', '{}'), docrep.delete_local('t', 'cp'), docrep.delete_local('t', 'cp');

-- info
SELECT docrep.info('t') - 'uuid' - 'sizes';
SELECT docrep.info('t')->>'uuid' ~ '^[0-9a-f-]{36}$' AS uuid, (docrep.info('t')->'sizes'->>'file')::bigint > 0 AS size;
SELECT docrep.info('t')->'doc_count' = to_jsonb(count(*)) AS exact FROM t;
SET search_path = public;
SELECT docrep.info('documents_put_get.t')->'db_name';
SET search_path = documents_put_get;

-- NULL where something is needed
SELECT attempt($$SELECT docrep.put(NULL, '{}')$$), attempt($$SELECT docrep.put('t', NULL)$$);
SELECT attempt($$SELECT docrep.get('t', NULL)$$), attempt($$SELECT docrep.get('t', 'a', rev => 'x')$$);
-- not a document table
SELECT attempt($$SELECT docrep.put('pairs', '{}')$$), attempt($$SELECT docrep.get('pairs', 'a')$$);
SELECT attempt($$SELECT docrep.info('pairs')$$), attempt($$SELECT * FROM docrep.changes('pairs')$$);

-- privileges are those of the table
CREATE ROLE documents_reader;
CREATE ROLE documents_writer;
GRANT USAGE ON SCHEMA documents_put_get TO documents_reader, documents_writer;
GRANT SELECT ON t TO documents_reader;
GRANT INSERT, UPDATE, DELETE ON t TO documents_writer;
SET ROLE documents_reader;
SELECT attempt($$SELECT docrep.get('t', '_design/d')->'_id'$$), attempt($$SELECT docrep.put('t', '{"_id": "p"}')$$);
SELECT attempt($$SELECT docrep.delete('t', 'k', '1-a')$$), attempt($$SELECT docrep.put_local('t', 'x', '{}')$$);
SELECT attempt($$SELECT docrep.delete_local('t', 'x')$$), attempt($$SELECT docrep.purge('t', '{"k": ["1-a"]}')$$);
SELECT attempt($$SELECT error FROM docrep.bulk_docs('t', '[{"_id": "p"}]')$$);
SET ROLE documents_writer;
SELECT attempt($$SELECT docrep.get('t', 'k')$$), attempt($$SELECT docrep.revs_diff('t', '{}')$$);
SELECT attempt($$SELECT docrep.bulk_get('t', '[]')$$), attempt($$SELECT count(*) FROM docrep.changes('t')$$);
SELECT attempt($$SELECT docrep.changes_feed('t')$$), attempt($$SELECT docrep.info('t')$$);
SELECT attempt($$SELECT docrep.get_local('t', 'x')$$), attempt($$SELECT docrep.put_local('t', 'x', '{}')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p"}')$$);
RESET ROLE;
SELECT docrep.get('t', 'p');

-- row security: what a role may not see is not there for it
SELECT docrep.create_table('guarded');
SELECT count(*) FROM docrep.bulk_docs('guarded', '[{"_id": "mine", "owner": "documents_reader"}, {"_id": "other", "owner": "x"},
	{"_id": "dead", "owner": "documents_reader", "_deleted": true}]') WHERE error IS NULL;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded USING (doc->>'owner' = current_user);
GRANT ALL ON guarded TO documents_reader;
SET ROLE documents_reader;
SELECT docrep.get('guarded', 'mine')->>'_id' AS mine, docrep.get('guarded', 'other') IS NULL AS other,
	docrep.get('guarded', 'other', open_revs => '"all"') IS NULL AS other_leaves, docrep.get('guarded', 'dead', open_revs => '"all"') IS NULL AS dead;
SELECT id FROM docrep.changes('guarded');
SELECT docrep.changes_feed('guarded', max_rows => 0)->'pending' AS pending;
SELECT docrep.bulk_get('guarded', '[{"id": "other"}]')->'results'->0->'docs'->0 ? 'error' AS hidden;
SELECT docrep.revs_diff('guarded', '{"other": ["1-a", "2-b"]}');
SELECT docrep.info('guarded')->'doc_count' AS doc_count, docrep.info('guarded')->'doc_del_count' AS doc_del_count;
SELECT attempt($$SELECT docrep.delete('guarded', 'other', '1-a')$$);
SELECT attempt($$SELECT docrep.put('guarded', '{"_id": "new", "owner": "x"}')$$);
SELECT id, rev IS NOT NULL AS written, error, reason FROM docrep.bulk_docs('guarded', '[{"_id": "new", "owner": "x"}, {"_id": "new2", "owner": "documents_reader"}]');
RESET ROLE;
SELECT docrep.info('guarded')->'doc_count' AS doc_count, docrep.info('guarded')->'doc_del_count' AS doc_del_count;

DROP SCHEMA documents_put_get CASCADE;
DROP ROLE documents_reader, documents_writer;
