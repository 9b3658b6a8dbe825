-- bulk_docs, bulk_get, revs_diff, purge
SET client_min_messages = warning;
CREATE SCHEMA documents_bulk;
SET search_path = documents_bulk;
SELECT docrep.create_table('t');

CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- a row a document, in the order given and not in that of ids
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "c", "n": 1}, {"_id": "a", "n": 2}, {"_id": "b", "n": 3}]');
-- conflicts are rows; the others are written
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "c", "n": 4}, {"_id": "d", "n": 5}, {"_id": "a", "_rev": "1-x", "n": 6}]');
SELECT _id, doc FROM t ORDER BY _id;
-- the same id twice: the second is a conflict
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "e", "n": 1}, {"_id": "e", "n": 2}]');
SELECT doc FROM t WHERE _id = 'e';
-- ids are made where there are none, and can be read back
SELECT count(*), count(DISTINCT b.id), bool_and(b.rev IS NOT NULL) AS written
FROM docrep.bulk_docs('t', '[{"made": 1}, {"made": 2}, {"made": 3}]') b;
SELECT count(*), bool_and(docrep.get('t', _id)->'made' = doc->'made') AS readable FROM t WHERE doc ? 'made';
-- deletions, and documents that are born deleted
SELECT id, rev, error FROM docrep.bulk_docs('t', jsonb_build_array(
	jsonb_build_object('_id', 'e', '_rev', (SELECT _rev FROM t WHERE _id = 'e'), '_deleted', true),
	'{"_id": "never", "_deleted": true}'::jsonb));
SELECT docrep.get('t', 'e') IS NULL AS e, docrep.get('t', 'never') IS NULL AS never;
-- the body of CouchDB's request
SELECT * FROM docrep.bulk_docs('t', '{"docs": [{"_id": "f", "n": 1}]}');
SELECT * FROM docrep.bulk_docs('t', '{"new_edits": false, "docs": [{"_id": "g", "_rev": "1-a", "n": 1}]}');
SELECT docrep.get('t', 'g');
SELECT count(*) FROM docrep.bulk_docs('t', '[]');

-- what constraints and triggers refuse is a row too
ALTER TABLE t ADD CHECK (doc->>'n' <> '13');
CREATE FUNCTION no_14() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.doc->>'n' = '14' THEN RAISE 'fourteen is not welcome'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER no_14 BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION no_14();
SELECT id, rev, error, reason FROM docrep.bulk_docs('t', '[{"_id": "h1", "n": 12}, {"_id": "h2", "n": 13}, {"_id": "h3", "n": 14}, {"_id": "h4", "n": 15}]');
SELECT id, rev, error, reason FROM docrep.bulk_docs('t', '[{"_id": "i1", "_rev": "1-a", "n": 12}, {"_id": "i2", "_rev": "1-a", "n": 13}, {"_id": "i3", "_rev": "1-a", "n": 14}, {"_id": "i4", "_rev": "1-a", "n": 15}]', false);
SELECT _id, _rev, doc FROM t WHERE _id ~ '^[hi]' ORDER BY _id;
SELECT attempt($$SELECT docrep.put('t', '{"_id": "h5", "n": 13}')$$), attempt($$SELECT docrep.put('t', '{"_id": "h5", "n": 14}')$$);

-- revisions as they are: only failures are rows; what is known is a success and stays as it is
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "r", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}, "v": "first"}]', false);
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "r", "_rev": "3-c", "v": "other body"}]', false);
SELECT docrep.get('t', 'r', revs => true);
-- several revisions of one document in one batch
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "s", "_rev": "1-a", "v": 1}, {"_id": "s", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "v": 2},
	{"_id": "s", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "v": 3}]', false);
SELECT docrep.get('t', 's', conflicts => true, revs => true);

-- bulk_get
SELECT jsonb_pretty(docrep.bulk_get('t', '[{"id": "s"}, {"id": "s", "rev": "2-b"}, {"id": "s", "rev": "1-a"}, {"id": "none"}, {"id": "none", "rev": "1-a"}]'));
SELECT jsonb_pretty(docrep.bulk_get('t', '{"docs": [{"id": "s", "rev": "1-a"}]}', latest => true, revs => true));
SELECT docrep.bulk_get('t', '[]');
-- a deleted document without a revision: its tombstone
SELECT docrep.bulk_get('t', '[{"id": "never"}]');

-- revs_diff
SELECT docrep.revs_diff('t', '{"s": ["1-a", "2-b", "2-c"], "r": ["1-a", "2-b", "3-c"]}');
SELECT docrep.revs_diff('t', '{"s": ["3-x", "2-b", "1-z"], "r": ["3-d"], "none": ["1-a", "2-b"], "c": []}');
SELECT docrep.revs_diff('t', '{"r": ["4-D", "4-00112233445566778899AABBCCDDEEFF"]}');
SELECT docrep.revs_diff('t', '{}');
-- a history longer than what is kept inline
SELECT * FROM docrep.bulk_docs('t', jsonb_build_array(jsonb_build_object('_id', 'long', '_revisions',
	jsonb_build_object('start', 500, 'ids', (SELECT jsonb_agg('r' || n ORDER BY n DESC) FROM generate_series(1, 500) n)))), false);
SELECT docrep.revs_diff('t', jsonb_build_object('long', (SELECT jsonb_agg(n || '-r' || n) FROM generate_series(1, 500) n)));
SELECT docrep.revs_diff('t', '{"long": ["1-x", "300-x", "501-r501"]}');
SELECT jsonb_array_length(docrep.get('t', 'long', revs => true)->'_revisions'->'ids');
SELECT docrep.get('t', 'long', rev => '3-r3', latest => true)->'_rev' AS latest, docrep.get('t', 'long', rev => '3-r3') IS NULL AS body_gone;

-- purge
SELECT docrep.purge('t', '{"s": ["2-c", "1-a", "9-z"], "none": ["1-a"], "r": ["3-c"]}');
SELECT docrep.get('t', 's', conflicts => true, revs => true);
SELECT docrep.get('t', 'r', open_revs => '"all"') IS NULL AS forgotten, docrep.revs_diff('t', '{"r": ["3-c"]}');
SELECT count(*) FROM docrep.changes('t', doc_ids => '{r}');
-- purged and sent again, it is back
SELECT * FROM docrep.bulk_docs('t', '[{"_id": "r", "_rev": "3-c", "v": "back"}]', false);
SELECT docrep.get('t', 'r', revs => true);
SELECT docrep.purge('t', '{}');

DROP SCHEMA documents_bulk CASCADE;
