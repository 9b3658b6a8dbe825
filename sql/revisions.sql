-- Former versions of documents: keeping, reading, bounds, reverting.
SET client_min_messages = warning;
SET docrep.housekeeping = off;		-- it would clean, too
CREATE SCHEMA revisions;
SET search_path = revisions, public;

CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
-- a companion of a table
CREATE FUNCTION kept(tbl regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM docrep_data.rev_%s', replace((SELECT uuid::text FROM docrep.document_tables d WHERE d.tbl = kept.tbl), '-', '')) INTO n;
	RETURN n;
END $$;
CREATE FUNCTION sql(tbl regclass, statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE replace(statement, 'REV', 'docrep_data.rev_' || replace((SELECT uuid::text FROM docrep.document_tables d WHERE d.tbl = sql.tbl), '-', ''));
END $$;
-- what is kept, in words
CREATE VIEW history AS SELECT tbl, id, docrep.rev_generation(rev) AS gen, doc, deleted, was, replicated,
	replaced_at >= modified AS in_order FROM docrep.revisions;
CREATE TABLE moments (name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());

-- ---- off: nothing is kept

SELECT docrep.create_table('t');
INSERT INTO t VALUES ('a', '{"v": 1}');
UPDATE t SET doc = '{"v": 2}';
SELECT kept('t'), (SELECT count(*) FROM docrep.revisions('t'));
SELECT docrep.get('t', 'a', rev => '1-0c0d770f8c9e27e85ec1cb5ee6fc3759');
SELECT attempt($$SELECT docrep.revert('t', now())$$);

-- ---- on: every way in which a winner is replaced

SELECT docrep.set_revisions('t', keep => 50);
UPDATE t SET doc = '{"v": 3}';
SELECT docrep.put('t', docrep.get('t', 'a') || '{"v": 4}') IS NOT NULL;
DELETE FROM t;
-- over the tombstone, with INSERT and with put
INSERT INTO t VALUES ('a', '{"v": 5}');
DELETE FROM t;
SELECT docrep.put('t', '{"_id": "a", "v": 6}') IS NOT NULL;
SELECT id, gen, doc, deleted, was, in_order FROM history WHERE tbl = 't'::regclass;
-- another _id
UPDATE t SET _id = 'b' WHERE _id = 'a';
SELECT id, gen, doc, deleted FROM history WHERE tbl = 't'::regclass AND gen > 6;
SELECT * FROM docrep.check('t');
-- a winner from elsewhere, its deletion, and closed losers
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "c", "_rev": "1-a", "v": "a"}]', new_edits => false);
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "c", "_rev": "1-b", "v": "b"}, {"_id": "c", "_rev": "1-0", "v": "0"}]', new_edits => false);
SELECT id, rev, doc, was FROM docrep.revisions('t', 'c');
SELECT docrep.delete('t', 'c', '1-0') IS NOT NULL;
SELECT id, rev, doc, was FROM docrep.revisions('t', 'c');
DELETE FROM t WHERE _id = 'c';
SELECT id, rev, doc, was FROM docrep.revisions('t', 'c');
SELECT _id, doc FROM t WHERE _id = 'c';
UPDATE t SET doc = '{"v": "resolved"}' WHERE _id = 'c';
SELECT id, rev, doc, was FROM docrep.revisions('t', 'c');
SELECT * FROM docrep.check('t');
-- a batch with several documents, and one rolled back
BEGIN;
SELECT * FROM docrep.bulk_docs('t', (SELECT jsonb_agg(docrep.get('t', _id) || '{"v": "batch"}') FROM t)) WHERE error IS NOT NULL;
SELECT count(*) FROM docrep.revisions('t');
ROLLBACK;
SELECT count(*) FROM docrep.revisions('t');

-- ---- reading them, as CouchDB does what was not compacted

SELECT docrep.create_table('g', 3);
SELECT docrep.set_revisions('g', 100);
INSERT INTO g VALUES ('a', '{"v": 1}');
UPDATE g SET doc = '{"v": 2}';
UPDATE g SET doc = '{"v": 3}';
SELECT docrep.get('g', 'a', rev => r.rev::text, revs => true) - '_revisions' - '_rev' AS doc,
	jsonb_array_length(docrep.get('g', 'a', rev => r.rev::text, revs => true)->'_revisions'->'ids') AS n,
	docrep.get('g', 'a', rev => r.rev::text)->>'_rev' = r.rev::text AS same_rev
	FROM docrep.revisions('g', 'a') r;
SELECT o->'ok'->'v' AS v, o ? 'missing' AS missing FROM jsonb_array_elements(docrep.get('g', 'a',
	open_revs => (SELECT jsonb_agg(rev::text) || '["2-ff"]' FROM docrep.revisions('g', 'a')))) o;
-- with latest: the leaf that it has become
SELECT o->'ok'->'v' AS v FROM jsonb_array_elements(docrep.get('g', 'a', latest => true,
	open_revs => (SELECT jsonb_agg(rev::text) FROM docrep.revisions('g', 'a')))) o;
SELECT jsonb_array_length(docrep.get('g', 'a', open_revs => '"all"'));
SELECT d->'docs'->0->'ok'->'v' AS v FROM jsonb_array_elements(docrep.bulk_get('g',
	(SELECT jsonb_agg(jsonb_build_object('id', 'a', 'rev', rev)) FROM docrep.revisions('g', 'a')))->'results') d;
SELECT i->'status' AS status FROM jsonb_array_elements(docrep.get('g', 'a', revs_info => true)->'_revs_info') i;
-- revisions that the tree has forgotten
UPDATE g SET doc = '{"v": 4}';
UPDATE g SET doc = '{"v": 5}';
SELECT docrep.get('g', 'a', rev => rev::text, revs => true, conflicts => true) - '_rev' - '_revisions' AS doc FROM docrep.revisions('g', 'a');
DELETE FROM g;
SELECT docrep.put('g', '{"_id": "a", "v": 7}') IS NOT NULL;
SELECT i->'status' AS status FROM jsonb_array_elements(docrep.get('g', 'a', revs_info => true)->'_revs_info') i;
SELECT docrep.get('g', 'a', rev => rev::text) - '_rev' FROM docrep.revisions('g', 'a') WHERE deleted;
-- what a replication asks for is what it was: missing is what the tree does not have
SELECT docrep.revs_diff('g', '{"a": ["1-0c0d770f8c9e27e85ec1cb5ee6fc3759"]}') ? 'a';

-- ---- bounds

SELECT docrep.create_table('k');
SELECT docrep.set_revisions('k', 3);
INSERT INTO k VALUES ('a', '{"v": 1}'), ('b', '{"v": 1}');
DO $$ BEGIN FOR i IN 2..10 LOOP UPDATE k SET doc = jsonb_build_object('v', i); END LOOP; END $$;
SELECT id, doc FROM docrep.revisions('k');
SELECT docrep.set_revisions('k', 2);
SELECT docrep.clean_revisions('k', 1), docrep.clean_revisions('k'), docrep.clean_revisions('k');
SELECT id, doc FROM docrep.revisions('k');
-- by age
SELECT docrep.set_revisions('k', 5, '1 day');
SELECT docrep.clean_revisions('k'), kept('k');
SELECT sql('k', $$UPDATE REV SET replaced_at = replaced_at - interval '25 hours' WHERE doc = '{"v": 8}'$$);
SELECT docrep.clean_revisions('k', 1), docrep.clean_revisions('k', 1), docrep.clean_revisions('k', 1);
SELECT id, doc FROM docrep.revisions('k');
-- not those of deleted documents
SELECT docrep.set_revisions('k', 5, keep_deleted => false);
DELETE FROM k WHERE _id = 'a';
SELECT id, doc FROM docrep.revisions('k');
INSERT INTO k VALUES ('a', '{"v": "again"}');
UPDATE k SET doc = '{"v": "and again"}' WHERE _id = 'a';
SELECT id, doc, deleted FROM docrep.revisions('k', 'a');
-- off: not shown any more, and cleaned
SELECT docrep.set_revisions('k', keep => NULL);
SELECT count(*), kept('k') > 0 AS there FROM docrep.revisions('k');
SELECT docrep.clean_revisions('k') > 0, kept('k');
UPDATE k SET doc = '{}';
SELECT kept('k');
SELECT attempt($$SELECT docrep.set_revisions('k', 0)$$), attempt($$SELECT docrep.set_revisions('k', 5, '-1 day')$$),
	attempt($$SELECT docrep.clean_revisions('k', 0)$$), attempt($$SELECT docrep.set_revisions(NULL)$$);

-- ---- purge forgets them

SELECT docrep.create_table('p');
SELECT docrep.set_revisions('p');
INSERT INTO p VALUES ('a', '{"v": 1}'), ('b', '{"v": 1}'), ('c', '{"v": 1}');
UPDATE p SET doc = '{"v": 2}';
SELECT docrep.purge('p', jsonb_build_object('a', jsonb_build_array((SELECT _rev FROM p WHERE _id = 'a')))) #> '{purged,a,0}' IS NOT NULL;
-- only one branch
SELECT * FROM docrep.bulk_docs('p', '[{"_id": "b", "_rev": "3-x", "v": "x", "_revisions": {"start": 3, "ids": ["x", "y"]}}]', new_edits => false);
SELECT docrep.purge('p', '{"b": ["3-x"]}') #> '{purged,b,0}';
SELECT id, doc FROM docrep.revisions('p');
SELECT _id, doc FROM p ORDER BY _id;
DELETE FROM p WHERE _id = 'c';
SELECT docrep.remove_tombstones('p', NULL, now() + interval '1 day');
SELECT id, doc FROM docrep.revisions('p');
SELECT * FROM docrep.check('p');

-- ---- attachments

SELECT docrep.create_table('att');
SELECT docrep.set_revisions('att');
SELECT docrep.put('att', '{"_id": "a", "v": 1, "_attachments": {"x": {"data": "aGVsbG8=", "content_type": "text/plain"}}}') IS NOT NULL;
SELECT docrep.put('att', docrep.get('att', 'a') - '_attachments') IS NOT NULL;
SELECT docrep.compact('att', '0');
SELECT docrep.get('att', 'a', rev => rev::text, attachments => true)->'_attachments'->'x'->>'data' AS data,
	convert_from(docrep.get_attachment('att', 'a', 'x', rev::text), 'UTF8') AS content FROM docrep.revisions('att', 'a');
SELECT * FROM docrep.check('att');
SELECT docrep.set_revisions('att', NULL);
SELECT docrep.clean_revisions('att'), docrep.compact('att', '0')->'files_removed';

-- ---- revert

SELECT docrep.create_table('r');
INSERT INTO r VALUES ('before', '{"v": 1}'), ('cut', '{"v": 1}');
SELECT docrep.set_revisions('r', 3);
INSERT INTO moments (name) VALUES ('start');
SELECT docrep.put('r', '{"_id": "att", "v": 1, "_attachments": {"x": {"data": "aGVsbG8=", "content_type": "text/plain"}, "y": {"data": "AA=="}}}') IS NOT NULL;
INSERT INTO r VALUES ('a', '{"v": 1}'), ('b', '{"v": 1}'), ('c', '{"v": 1}'), ('d', '{"v": 1}'), ('twice', '{"v": 1}'), ('conflict', '{"v": 1}');
DELETE FROM r WHERE _id = 'd';
UPDATE r SET doc = '{"v": 2}' WHERE _id = 'twice';
INSERT INTO moments (name) VALUES ('good');
UPDATE r SET doc = '{"v": "bad"}' WHERE _id IN ('a', 'before', 'twice');
DELETE FROM r WHERE _id = 'b';
INSERT INTO r VALUES ('new', '{}'), ('d', '{"v": 2}');
SELECT docrep.put('r', docrep.get('r', 'att') #- '{_attachments,x}' || '{"v": 2}') IS NOT NULL;
SELECT * FROM docrep.bulk_docs('r', '[{"_id": "conflict", "_rev": "9-ff", "v": "elsewhere"}, {"_id": "new", "_rev": "1-ff"},
	{"_id": "stranger", "_rev": "9-ff", "v": 1}]', new_edits => false);
-- a document in conflict that was not there
INSERT INTO r VALUES ('both', '{"v": 1}');
SELECT * FROM docrep.bulk_docs('r', (SELECT jsonb_agg(jsonb_build_object('_id', 'both', '_rev', '2-' || h, 'v', h, '_revisions',
	jsonb_build_object('start', 2, 'ids', jsonb_build_array(h, docrep.rev_hash_part(_rev))))) FROM r, unnest('{fe,ff}'::text[]) h WHERE _id = 'both'), new_edits => false);
DO $$ BEGIN FOR i IN 2..10 LOOP UPDATE r SET doc = jsonb_build_object('v', i) WHERE _id = 'cut'; END LOOP; END $$;
INSERT INTO moments (name) VALUES ('bad');
SELECT docrep.revert('r', at) FROM moments WHERE name = 'good';
SELECT _id, doc, docrep.rev_generation(_rev) AS gen, (SELECT jsonb_object_agg(key, value->'revpos') FROM jsonb_each(_attachments)) AS atts FROM r ORDER BY _id;
SELECT convert_from(docrep.get_attachment('r', 'att', 'x'), 'UTF8');
-- again: nothing to do
SELECT docrep.revert('r', at) - 'unknown_ids' - 'refused_ids' FROM moments WHERE name = 'good';
-- and back, of some
SELECT docrep.revert('r', at, '{a, b, nobody, a, new}') FROM moments WHERE name = 'bad';
SELECT _id, doc FROM r WHERE _id IN ('a', 'b', 'new') ORDER BY _id;
-- what is refused is told, and stops nobody
ALTER TABLE r ADD CHECK (doc <> '{"v": 1}') NOT VALID;
UPDATE r SET doc = '{"v": "free"}' WHERE _id IN ('c', 'twice');
SELECT docrep.revert('r', at, '{c, twice}') FROM moments WHERE name = 'good';
SELECT _id, doc FROM r WHERE _id IN ('c', 'twice') ORDER BY _id;
-- what others are in the way of comes after them; a circle is refused
SELECT docrep.create_table('single') AS single \gset
SELECT docrep.set_revisions('single');
CREATE UNIQUE INDEX ON single ((doc->>'u'));
INSERT INTO single (_id, doc) VALUES ('a', '{"u": "1"}'), ('b', '{"u": "2"}'), ('c', '{"u": "3"}'), ('d', '{"u": "4"}'), ('e', '{"u": "5"}'), ('f', '{"u": "6"}');
INSERT INTO moments (name) VALUES ('single');
DELETE FROM single WHERE _id = 'a';
INSERT INTO single (_id, doc) VALUES ('z', '{"u": "1"}');
UPDATE single SET doc = '{"u": "9"}' WHERE _id = 'b';
UPDATE single SET doc = '{"u": "2"}' WHERE _id = 'c';
UPDATE single SET doc = '{"u": "3"}' WHERE _id = 'd';
UPDATE single SET doc = '{"u": "7"}' WHERE _id = 'e';
UPDATE single SET doc = '{"u": "5"}' WHERE _id = 'f';
UPDATE single SET doc = '{"u": "6"}' WHERE _id = 'e';
SELECT docrep.revert('single', at) FROM moments WHERE name = 'single';
SELECT _id, doc FROM single ORDER BY _id;
SELECT docrep.drop_table('single');
SELECT attempt($$SELECT docrep.revert('r', now() + interval '1 day')$$), attempt($$SELECT docrep.revert('r', NULL)$$),
	attempt($$SELECT docrep.revert('r', now(), '{NULL}')$$);
SELECT * FROM docrep.check('r');
-- a time in which nothing was kept is not made up
SELECT docrep.create_table('gap');
SELECT docrep.set_revisions('gap');
INSERT INTO gap VALUES ('a', '{"v": 1}');
UPDATE gap SET doc = '{"v": 2}';
SELECT docrep.set_revisions('gap', NULL);
UPDATE gap SET doc = '{"v": 3}';
INSERT INTO moments (name) VALUES ('gap');
UPDATE gap SET doc = '{"v": 4}';
SELECT docrep.set_revisions('gap');
UPDATE gap SET doc = '{"v": 5}';
SELECT docrep.revert('gap', at)->'unknown_ids' FROM moments WHERE name = 'gap';

-- ---- holds: versions are kept, and shown to nobody who did not ask for them

SELECT docrep.create_table('h');
INSERT INTO h VALUES ('a', '{"v": 1}');
SELECT docrep.peer_hold_versions(uuid, 'somebody', '30 minutes') FROM docrep.document_tables WHERE tbl = 'h'::regclass;
UPDATE h SET doc = '{"v": 2}';
DELETE FROM h;
SELECT kept('h'), (SELECT count(*) FROM docrep.revisions('h')) AS shown;
SELECT docrep.clean_revisions('h'), kept('h');
-- a hold outlasts the owner's bounds
SELECT docrep.set_revisions('h', 1, keep_deleted => false);
INSERT INTO h VALUES ('a', '{"v": 3}');
UPDATE h SET doc = '{"v": 4}';
DELETE FROM h;
SELECT docrep.clean_revisions('h'), kept('h');
SELECT sql('h', $$UPDATE REV SET replaced_at = replaced_at - interval '31 minutes'$$);
UPDATE docrep.version_holds SET renewed_at = renewed_at - interval '2 days' WHERE holder = 'somebody';
SELECT docrep.clean_revisions('h'), kept('h');
SELECT count(*) AS holds FROM docrep.version_holds WHERE holder = 'somebody';
SELECT docrep.peer_hold_versions(uuid, 'somebody', '400 days') FROM docrep.document_tables WHERE tbl = 'h'::regclass;
SELECT keep FROM docrep.version_holds WHERE holder = 'somebody';
SELECT docrep.peer_hold_versions(uuid, 'somebody', NULL) FROM docrep.document_tables WHERE tbl = 'h'::regclass;
SELECT count(*) FROM docrep.version_holds WHERE holder = 'somebody';
SELECT attempt($$SELECT docrep.peer_hold_versions(uuid, '', '1 day') FROM docrep.document_tables WHERE tbl = 'h'::regclass$$);

-- ---- privileges and row security

CREATE ROLE revisions_reader;
CREATE ROLE revisions_writer;
GRANT USAGE ON SCHEMA revisions TO revisions_reader, revisions_writer;
GRANT SELECT ON t TO revisions_reader;
GRANT SELECT, INSERT ON t TO revisions_writer;
SET ROLE revisions_reader;
SELECT count(*) > 0 FROM docrep.revisions('t');
SELECT attempt($$SELECT docrep.set_revisions('t', 5)$$), attempt($$SELECT docrep.clean_revisions('t')$$),
	attempt($$SELECT docrep.revert('t', now())$$), attempt($$SELECT count(*) FROM docrep.revisions('k')$$),
	attempt($$SELECT * FROM docrep.version_holds$$);
SELECT count(*) FROM docrep.revisions WHERE tbl <> 't'::regclass;
RESET ROLE;
-- reverting needs what the edits need
UPDATE t SET doc = '{"v": "last"}' WHERE _id = 'b';
SET ROLE revisions_writer;
SELECT attempt($$SELECT docrep.revert('revisions.t', (SELECT max(replaced_at) - interval '1 microsecond' FROM docrep.revisions('revisions.t')))$$);
RESET ROLE;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_document ON t TO revisions_reader USING (_id = 'b');
SET ROLE revisions_reader;
SELECT DISTINCT id FROM docrep.revisions('t');
SELECT count(*) FROM docrep.revisions('t', 'c');
RESET ROLE;

-- ---- and nothing stays

SELECT docrep.drop_table('h');
DROP TABLE t, g, k, p, att, r, gap;
SELECT count(*) FROM docrep.revisions;
SELECT count(*) FROM docrep.revision_cleaning;
SELECT count(*) FROM docrep.version_holds;
SET client_min_messages = error;
DROP SCHEMA revisions CASCADE;
DROP ROLE revisions_reader;
DROP ROLE revisions_writer;
