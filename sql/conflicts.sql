-- documents in conflict: as rows, counted, found through an index, and resolved by hand
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE ROLE regress_docrep_reader LOGIN;
CREATE ROLE regress_docrep_writer LOGIN;
SELECT docrep.create_table('c');
-- a revision as another database would have sent it: parent NULL for a first one
CREATE FUNCTION incoming(tbl regclass, id text, rev text, body jsonb, parent text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(b.error || ': ' || b.reason, ', '), 'ok') FROM docrep.bulk_docs(tbl, jsonb_build_array(body || jsonb_build_object('_id', id, '_rev', rev)
		|| CASE WHEN parent IS NULL THEN '{}' ELSE jsonb_build_object('_revisions', jsonb_build_object('start', split_part(rev, '-', 1)::int,
			'ids', jsonb_build_array(split_part(rev, '-', 2), split_part(parent, '-', 2)))) END), new_edits => false) b $$;
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE command INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END $$;

SELECT incoming('c', 'plain', '1-a', '{"v": 1}'), incoming('c', 'two', '1-a', '{"v": "loser"}'), incoming('c', 'two', '1-b', '{"v": "winner"}'),
	incoming('c', 'three', '1-a', '{"v": 1}'), incoming('c', 'three', '2-b', '{"v": 2}', '1-x'), incoming('c', 'three', '2-c', '{}', '1-y'),
	incoming('c', 'tombstone', '1-a', '{"v": 1}'), incoming('c', 'tombstone', '2-b', '{"_deleted": true}', '1-x'),
	incoming('c', 'tombstones', '1-a', '{"_deleted": true, "why": 1}'), incoming('c', 'tombstones', '1-b', '{"_deleted": true}');
SELECT id, rev, is_winner, deleted, doc, modified > now() - interval '1 hour' AS recent, origin = docrep.node_uuid()::text AS own FROM docrep.conflicts('c') ORDER BY id COLLATE "C", rev DESC;
SELECT conflict_count, conflict_policy FROM docrep.tables WHERE tbl = 'c'::regclass;
SELECT docrep.conflict_count('c'), (SELECT count(DISTINCT id) FROM docrep.conflicts WHERE tbl = 'c'::regclass);
-- the policy keep changes nothing, CouchDB's trees stay as they came
SELECT _id, _rev, _tree FROM c ORDER BY _id;

-- resolve: one of three ways, of a document in conflict
SELECT docrep.resolve('c', 'two');
SELECT docrep.resolve('c', 'two', keep => '1-a', delete => true);
SELECT docrep.resolve('c', 'two', keep => '1-a', doc => '{}');
SELECT docrep.resolve('c', 'missing', keep => '1-a');
SELECT docrep.resolve('c', 'tombstones', delete => true);
SELECT docrep.resolve('c', 'plain', delete => true);
SELECT docrep.resolve('c', 'plain', doc => '{}');
SELECT docrep.resolve('c', 'plain', keep => '1-b');
SELECT docrep.resolve('c', 'plain', keep => docrep.get('c', 'plain') ->> '_rev') AS as_text, docrep.resolve('c', 'plain', keep => _rev) AS as_revision FROM c WHERE _id = 'plain';
SELECT docrep.resolve('c', 'plain', keep => '1-a') AS nothing_to_do;
SELECT docrep.resolve('c', 'two', keep => '1-c');
SELECT docrep.resolve('c', 'two', doc => '[]');
SELECT docrep.resolve('c', 'two', doc => '{"_id": "other"}');
SELECT docrep.resolve('c', 'two', doc => '{"_rev": "1-a"}');
SELECT docrep.resolve(NULL, 'two', delete => true);
SELECT docrep.resolve('c', NULL, delete => true);
SELECT docrep.resolve('pg_class', 'x', delete => true);
SELECT count(*) AS still_in_conflict FROM docrep.conflicts('c') WHERE id = 'two';
-- keeping the winner makes no revision of it
SELECT docrep.resolve('c', 'two', keep => '1-b');
SELECT _rev, doc, _tree FROM c WHERE _id = 'two';
SELECT docrep.resolve('c', 'two', keep => '1-b') AS again, docrep.resolve('c', 'tombstone', keep => '1-a') AS no_conflict_with_a_tombstone;
-- keeping a loser gives its body to the winner's next revision, which is the hash that any edit has
SELECT docrep.resolve('c', 'three', keep => '1-a') AS rev \gset
SELECT _rev = :'rev' AS returned, doc, docrep.rev_generation(_rev) FROM c WHERE _id = 'three';
SELECT docrep.create_table('c_edit');
SELECT incoming('c_edit', 'three', '2-c', '{}', '1-y');
UPDATE c_edit SET doc = '{"v": 1}';
SELECT _rev = :'rev' AS as_an_edit FROM c_edit;
-- a merged body; deletion of all
SELECT incoming('c', 'merge', '1-a', '{"v": 1}'), incoming('c', 'merge', '1-b', '{"v": 2}'), incoming('c', 'del', '1-a', '{"v": 1}'), incoming('c', 'del', '1-b', '{"v": 2}'), incoming('c', 'del', '1-c', '{"v": 3}');
SELECT docrep.rev_generation(docrep.resolve('c', 'merge', doc => '{"v": 12, "_rev": "1-b", "_id": "merge"}')), docrep.rev_generation(docrep.resolve('c', 'del', delete => true));
SELECT doc FROM c WHERE _id IN ('merge', 'del');
SELECT docrep.get('c', 'merge', open_revs => '"all"')->0->'ok'->'v' AS v, jsonb_array_length(docrep.get('c', 'del', open_revs => '"all"')) AS tombstones, docrep.get('c', 'del');
SELECT id FROM docrep.conflicts('c');
-- CouchDB's way: an edit of the winner, then deletion of the others
SELECT incoming('c', 'couch', '1-a', '{"v": 1}'), incoming('c', 'couch', '1-b', '{"v": 2}');
UPDATE c SET doc = '{"v": 3}' WHERE _id = 'couch';
SELECT id, rev = '1-a' AS loser FROM docrep.conflicts('c') ORDER BY rev DESC;
SELECT docrep.rev_generation(docrep.delete('c', 'couch', '1-a'));
SELECT docrep.conflict_count('c'), (SELECT doc FROM c WHERE _id = 'couch');
-- attachments go with the version that is kept
SELECT incoming('c', 'att', '1-a', '{"v": 1, "_attachments": {"x": {"data": "YWFh", "content_type": "text/plain"}}}'), incoming('c', 'att', '1-b', '{"v": 2, "_attachments": {"y": {"data": "YmJi"}}}');
SELECT docrep.rev_generation(docrep.resolve('c', 'att', keep => '1-a'));
SELECT doc, jsonb_object_keys(_attachments), convert_from(docrep.get_attachment('c', 'att', 'x'), 'UTF8') FROM c WHERE _id = 'att';
SELECT incoming('c', 'att2', '1-a', '{"v": 1}'), incoming('c', 'att2', '1-b', '{"v": 2, "_attachments": {"y": {"data": "YmJi"}}}');
SELECT docrep.rev_generation(docrep.resolve('c', 'att2', doc => '{"v": 3, "_attachments": {"y": {"stub": true}, "z": {"data": "enp6"}}}'));
SELECT convert_from(docrep.get_attachment('c', 'att2', 'y'), 'UTF8') AS y, convert_from(docrep.get_attachment('c', 'att2', 'z'), 'UTF8') AS z;
SELECT * FROM docrep.check('c');
-- design documents are documents
SELECT incoming('c', '_design/d', '1-a', '{"language": "a"}'), incoming('c', '_design/d', '1-b', '{"language": "b"}');
SELECT docrep.rev_generation(docrep.resolve('c', '_design/d', keep => '1-a'));
SELECT doc FROM c WHERE _id = '_design/d';

-- privileges: as UPDATE and DELETE, and SELECT
SELECT incoming('c', 'priv', '1-a', '{"v": 1}'), incoming('c', 'priv', '1-b', '{"v": 2}'), incoming('c', 'priv2', '1-a', '{"v": 1}'), incoming('c', 'priv2', '1-b', '{"v": 2}');
GRANT SELECT, INSERT, DELETE ON c TO regress_docrep_reader;
GRANT SELECT, UPDATE ON c TO regress_docrep_writer;
SET ROLE regress_docrep_reader;
SELECT attempt($$SELECT docrep.resolve('c', 'priv', keep => '1-a')$$), attempt($$SELECT docrep.resolve('c', 'priv', keep => '1-b')$$), attempt($$SELECT docrep.resolve('c', 'priv', doc => '{}')$$);
SELECT docrep.rev_generation(docrep.resolve('c', 'priv', delete => true));
SET ROLE regress_docrep_writer;
SELECT attempt($$SELECT docrep.resolve('c', 'priv2', delete => true)$$);
SELECT docrep.rev_generation(docrep.resolve('c', 'priv2', keep => '1-a'));
SELECT attempt($$SELECT docrep.resolve_conflicts('c')$$), attempt($$SELECT docrep.set_conflict_policy('c', 'latest')$$);
RESET ROLE;
-- row security: what a role does not see it cannot resolve
SELECT incoming('c', 'rls', '1-a', '{"owner": "nobody"}'), incoming('c', 'rls', '1-b', '{"owner": "nobody"}');
ALTER TABLE c ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON c USING (doc->>'owner' = CURRENT_USER);
SET ROLE regress_docrep_writer;
SELECT attempt($$SELECT docrep.resolve('c', 'rls', keep => '1-a')$$), (SELECT count(*) FROM docrep.conflicts('c')), docrep.conflict_count('c');
RESET ROLE;
ALTER TABLE c DISABLE ROW LEVEL SECURITY;
SELECT docrep.conflict_count('c');
-- a read-only transaction
BEGIN READ ONLY;
SELECT docrep.resolve('c', 'rls', keep => '1-a');
ROLLBACK;
-- in a transaction that is rolled back
BEGIN;
SELECT docrep.rev_generation(docrep.resolve('c', 'rls', keep => '1-a'));
SELECT docrep.conflict_count('c');
ROLLBACK;
SELECT docrep.conflict_count('c');
-- a user's trigger that changes what is written
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.doc := NEW.doc || '{"stamped": true}'; RETURN NEW; END $$;
CREATE TRIGGER a_stamp BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT docrep.rev_generation(docrep.resolve('c', 'rls', doc => '{"v": 1}'));
SELECT docrep.conflict_count('c');
SELECT doc FROM c WHERE _id = 'rls';
DROP TRIGGER a_stamp ON c;
SELECT * FROM docrep.check('c');

-- one conflict among many documents with deleted losers is found through the index of open ones
SELECT docrep.create_table('many');
SELECT count(*) FROM docrep.bulk_docs('many', (SELECT jsonb_agg(jsonb_build_object('_id', 'd' || i, '_rev', '1-' || r, 'n', i, '_deleted', r = 'a')) FROM generate_series(1, 3000) i, unnest('{a,b}'::text[]) r), new_edits => false);
SELECT incoming('many', 'd1500', '1-c', '{}');
BEGIN;
SELECT id, rev FROM docrep.conflicts('many') ORDER BY rev;
SELECT coalesce(seq_tup_read, 0) AS read, idx_tup_fetch <= 5 AS few FROM pg_stat_xact_all_tables JOIN docrep.document_tables d ON relid = ('docrep_data.leaf_' || replace(d.uuid::text, '-', ''))::regclass WHERE d.tbl = 'many'::regclass;
COMMIT;

-- bookkeeping cannot be forged
SELECT attempt($$INSERT INTO c (_id, doc, _origin) VALUES ('f', '{}', docrep.node_uuid()) RETURNING _id$$), attempt($$UPDATE c SET _origin = docrep.node_uuid() WHERE _id = 'plain' RETURNING _id$$);

-- a deletion made again: the first one's tombstone is there, but that it followed 1-b has been forgotten
SELECT docrep.create_table('cut', 1);
SELECT incoming('cut', 'd', '1-a', '{"n": 1}'), incoming('cut', 'd', '1-b', '{"n": 2}');
DELETE FROM cut;
SELECT incoming('cut', 'd', '1-b', '{"n": 2}');
SELECT _rev, doc FROM cut;
DELETE FROM cut;
SELECT _rev, doc FROM cut;
SELECT * FROM docrep.check('cut');

SELECT docrep.drop_table('c'), docrep.drop_table('c_edit'), docrep.drop_table('many'), docrep.drop_table('cut');
DROP FUNCTION incoming, attempt, stamp;
DROP ROLE regress_docrep_reader, regress_docrep_writer;
