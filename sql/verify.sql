-- docrep.verify(): what is said of two tables of one database
SET client_min_messages = warning;
CREATE SCHEMA verify;
SET search_path = verify;
SELECT docrep.create_table('s'), docrep.create_table('t');

-- what differs, with its revisions' hashes made short; without a pause, as nothing moves
CREATE FUNCTION short(text) RETURNS text LANGUAGE sql AS
	$$SELECT regexp_replace($1, '([0-9a-f]{4})[0-9a-f]{28}', '\1', 'g')$$;
CREATE FUNCTION differences(options jsonb DEFAULT '{}')
RETURNS TABLE (id text, rev text, difference text, at_source text, at_target text) LANGUAGE sql AS $$
	SELECT id, short(rev), difference, short(at_source::text), short(at_target::text)
	FROM docrep.verify('s', 't', '{"settle": 0}' || options) ORDER BY id, difference, rev
$$;

-- empty, and equal
SELECT * FROM differences();
INSERT INTO s(_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 1200) i;
UPDATE s SET doc = doc || '{"edited": true}' WHERE (doc->>'n')::int % 3 = 0;
DELETE FROM s WHERE (doc->>'n')::int % 100 = 0;
SELECT docrep.bulk_docs('s', '[
	{"_id": "fight", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "who": "b"},
	{"_id": "fight", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "who": "c"},
	{"_id": "fight", "_rev": "3-d", "_revisions": {"start": 3, "ids": ["d", "x", "a"]}, "_deleted": true}]', false);
SELECT docrep.replicate('s', 't')->>'ok' AS ok;
SELECT * FROM differences();
SELECT * FROM differences('{"bodies": false}');
SELECT * FROM differences('{"ancestry": "full"}');

-- a document that only one side has
INSERT INTO s VALUES ('only s', '{}');
INSERT INTO t VALUES ('only t', '{}');
SELECT docrep.bulk_docs('t', '[{"_id": "only t too", "_rev": "1-x", "_deleted": true}]', false);
SELECT * FROM differences();
SELECT docrep.replicate('s', 't')->'ok' AS ok, docrep.replicate('t', 's')->'ok' AS ok;
SELECT * FROM differences();

-- one side is ahead, by an edit or a deletion
UPDATE s SET doc = '{"by": "s"}' WHERE _id = 'd1';
UPDATE t SET doc = '{"by": "t"}' WHERE _id = 'd2';
DELETE FROM t WHERE _id = 'd4';
SELECT * FROM differences();
-- both are: two leaves, one on each side
UPDATE t SET doc = '{"by": "t"}' WHERE _id = 'd1';
SELECT * FROM differences('{"doc_ids": ["d1"]}');
SELECT * FROM differences('{"doc_ids": ["d1", "d3", "fight", "no such", "d1"]}');
SELECT * FROM differences('{"doc_ids": []}');
SELECT docrep.replicate('s', 't')->'ok' AS ok, docrep.replicate('t', 's')->'ok' AS ok;
SELECT * FROM differences();

-- a leaf of a conflict is missing
SELECT docrep.purge('t', '{"fight": ["2-b"]}')->'purged' AS purged;
SELECT docrep.bulk_docs('t', '[{"_id": "fight", "_rev": "4-e", "_revisions": {"start": 4, "ids": ["e", "f", "g", "a"]}}]', false);
SELECT * FROM differences();
SELECT docrep.replicate('t', 's')->'ok' AS ok, docrep.purge('s', '{"fight": ["2-b"]}')->'purged' AS purged;
SELECT * FROM differences();

-- the same revision with another body, another flag, other ancestors: only forged ones are so
SELECT docrep.bulk_docs('s', '[
	{"_id": "body", "_rev": "1-a", "v": {"deep": [1, 2]}},
	{"_id": "equal", "_rev": "1-a", "v": 1.0, "w": 100, "s": "\u00E9"},
	{"_id": "flag", "_rev": "1-a"},
	{"_id": "path", "_rev": "3-a", "_revisions": {"start": 3, "ids": ["a", "b", "c"]}},
	{"_id": "stemmed", "_rev": "3-a", "_revisions": {"start": 3, "ids": ["a", "b", "c"]}}]', false);
SELECT docrep.bulk_docs('t', '[
	{"_id": "body", "_rev": "1-a", "v": {"deep": [[1], 2]}},
	{"_id": "equal", "_rev": "1-a", "s": "\u00e9", "w": 1e2, "v": 1},
	{"_id": "flag", "_rev": "1-a", "_deleted": true},
	{"_id": "path", "_rev": "3-a", "_revisions": {"start": 3, "ids": ["a", "x", "c"]}},
	{"_id": "stemmed", "_rev": "3-a", "_revisions": {"start": 3, "ids": ["a", "b"]}}]', false);
SELECT * FROM differences();
SELECT * FROM differences('{"bodies": false}');
SELECT id, difference FROM differences('{"ancestry": false}');
SELECT id, difference, at_source, at_target FROM differences('{"ancestry": "full"}');
SELECT count(*) FROM differences('{"max_differences": 2}');
SELECT docrep.purge('s', '{"body": ["1-a"], "flag": ["1-a"], "path": ["3-a"]}')->'purge_seq',
	docrep.purge('t', '{"body": ["1-a"], "flag": ["1-a"], "path": ["3-a"]}')->'purge_seq';
SELECT * FROM differences();

-- attachments: names, types, lengths, digests
SELECT docrep.bulk_docs('s', '[
	{"_id": "att same", "_rev": "1-a", "_attachments": {"a": {"content_type": "text/plain", "data": "aGVsbG8="}, "b": {"data": ""}}},
	{"_id": "att content", "_rev": "1-a", "_attachments": {"a": {"data": "aGVsbG8="}, "b": {"data": "aGVsbG8="}}},
	{"_id": "att name", "_rev": "1-a", "_attachments": {"a": {"data": "aGVsbG8="}, "c": {"data": "aGVsbG8="}}},
	{"_id": "att none", "_rev": "1-a"},
	{"_id": "att type", "_rev": "1-a", "_attachments": {"a": {"content_type": "text/plain", "data": "aGVsbG8="}}}]', false);
SELECT docrep.bulk_docs('t', '[
	{"_id": "att same", "_rev": "1-a", "_attachments": {"b": {"data": ""}, "a": {"content_type": "text/plain", "data": "aGVsbG8="}}},
	{"_id": "att content", "_rev": "1-a", "_attachments": {"a": {"data": "aGVsbG8="}, "b": {"data": "SGVsbG8="}}},
	{"_id": "att name", "_rev": "1-a", "_attachments": {"a": {"data": "aGVsbG8="}, "b": {"data": "aGVsbG8="}}},
	{"_id": "att none", "_rev": "1-a", "_attachments": {"a": {"data": "aGVsbG8="}}},
	{"_id": "att type", "_rev": "1-a", "_attachments": {"a": {"content_type": "text/html", "data": "aGVsbG8="}}}]', false);
SELECT * FROM differences();
SELECT id, difference FROM differences('{"attachments": "digests"}');
SELECT * FROM differences('{"attachments": false}');
SELECT kind, n, bytes, detail IS NOT NULL AS explained FROM docrep.preflight('t', '{"large_attachment": 5}') WHERE kind LIKE '%attachment%' AND id IS NULL;
SELECT id, detail, bytes FROM docrep.preflight('t', '{"large_attachment": 5, "max_per_kind": 2}') WHERE kind = 'large_attachment' AND id IS NOT NULL;
SELECT count(docrep.purge(t.tbl, d.revs)) FROM (VALUES ('s'::regclass), ('t')) t(tbl),
	(SELECT jsonb_object_agg(id, '["1-a"]'::jsonb) AS revs FROM (VALUES ('att content'), ('att name'), ('att none'), ('att type')) v(id)) d;
SELECT * FROM differences();

-- one side has compressed: digests are of what is stored, and contents decide; small ones come
-- along with the document, large ones are read.  Only a peer stores such contents, so
-- they are forged here.
SELECT docrep.bulk_docs('s', jsonb_build_array(
	jsonb_build_object('_id', 'zip', '_rev', '1-a', '_attachments', jsonb_build_object(
		'large', jsonb_build_object('data', encode(convert_to(repeat('x', 300000), 'UTF8'), 'base64')),
		'small', jsonb_build_object('data', encode('hello hello hello hello hello', 'base64')))),
	jsonb_build_object('_id', 'zip other', '_rev', '1-a', '_attachments', jsonb_build_object(
		'large', jsonb_build_object('data', encode(convert_to(repeat('x', 299999) || 'y', 'UTF8'), 'base64')),
		'small', jsonb_build_object('data', encode('hello hello hello hello jello', 'base64'))))), false);
SELECT docrep.bulk_docs('t', jsonb_agg(jsonb_build_object('_id', id, '_rev', '1-a', '_attachments', jsonb_build_object(
	'large', jsonb_build_object('data', encode('\x1f8b08000000000002ffedc1010d000000c2a0da8f6f0f07140000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000fc18cd2ac8b3e0930400', 'base64')),
	'small', jsonb_build_object('data', encode('\x1f8b08000000000002ffcb48cdc9c957c8c04e0200f6d253381d000000', 'base64'))))), false)
FROM (VALUES ('zip'), ('zip other')) v(id);
SELECT count(*) FROM differences();
ALTER TABLE t DISABLE TRIGGER USER;
UPDATE t SET _attachments = jsonb_build_object(
	'large', _attachments->'large' || jsonb_build_object('encoding', 'gzip', 'encoded_length', _attachments->'large'->'length', 'length', 300000),
	'small', _attachments->'small' || jsonb_build_object('encoding', 'gzip', 'encoded_length', _attachments->'small'->'length', 'length', 29))
WHERE _id LIKE 'zip%';
ALTER TABLE t ENABLE TRIGGER USER;
SELECT id, difference, at_source, at_target FROM differences();
SELECT id, difference FROM differences('{"attachments": "digests"}');
SELECT count(docrep.purge(tbl, '{"zip other": ["1-a"]}')) FROM (VALUES ('s'::regclass), ('t')) t(tbl);
SELECT * FROM differences();

-- a document that the target has refused says why it is missing
ALTER TABLE t ADD CONSTRAINT positive CHECK ((doc->>'n')::int > 0);
INSERT INTO s VALUES ('refused', '{"n": -1}');
SELECT docrep.replicate('s', 't')->'doc_write_failures' AS failures;
SELECT id, difference, at_target FROM differences();
DELETE FROM s WHERE _id = 'refused';
SELECT docrep.replicate('s', 't')->'ok' AS ok;
SELECT * FROM differences();

-- requests that are wrong
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT attempt(format('SELECT count(*) FROM docrep.%s', call)) FROM unnest(ARRAY[
	$$verify('s', 's')$$,
	$$verify('s', 'never there')$$,
	$$verify('s', 'never_there')$$,
	$$verify(NULL, 't')$$,
	$$verify('s', 't', NULL)$$,
	$$verify('s', 't', '[]')$$,
	$$verify('s', 't', '{"max_per_kind": 1}')$$,
	$$verify('s', 't', '{"bodies": "no"}')$$,
	$$verify('s', 't', '{"attachments": "bytes"}')$$,
	$$verify('s', 't', '{"ancestry": 1}')$$,
	$$verify('s', 't', '{"max_differences": 0}')$$,
	$$verify('s', 't', '{"settle": 1.5}')$$,
	$$verify('s', 't', '{"doc_ids": "d1"}')$$,
	$$verify('s', 't', '{"doc_ids": [1]}')$$,
	$$preflight('never_there')$$,
	$$preflight(NULL)$$,
	$$preflight('s', '{"settle": 1}')$$]) call;
BEGIN;
INSERT INTO s VALUES ('not seen', '{}');
SELECT attempt($$SELECT count(*) FROM docrep.verify('s', 't')$$), attempt($$SELECT count(*) FROM docrep.preflight('s')$$);
ROLLBACK;
BEGIN READ ONLY;
SELECT attempt($$SELECT count(*) FROM docrep.verify('s', 't')$$);
ROLLBACK;

-- preflight of what jsonb holds already
SELECT docrep.bulk_docs('s', '[
	{"_id": "fight", "_rev": "9-z", "who": "z"},
	{"_id": "gone", "_rev": "1-z", "_deleted": true, "why": "so"},
	{"_id": "_design/app", "_rev": "1-a", "language": "javascript", "views": {"a": {}, "b": {}}, "validate_doc_update": "function() {}"}]', false);
INSERT INTO s VALUES ('large', jsonb_build_object('text', repeat('x', 3000)));
SELECT kind, id, rev, detail, n FROM docrep.preflight('s', '{"large_document": 3000}');
SELECT kind, id, detail, n FROM docrep.preflight('s', '{"large_document": 3000, "max_per_kind": 0}') WHERE id IS NOT NULL OR kind LIKE 'large%';
SELECT kind, n FROM docrep.preflight('s', '{"doc_ids": ["gone", "fight"]}') WHERE n > 0;

-- nobody may who was not granted it, and then as who they are
CREATE ROLE regress_verify LOGIN;
GRANT USAGE ON SCHEMA verify TO regress_verify;
SET ROLE regress_verify;
SELECT attempt($$SELECT count(*) FROM docrep.verify('verify.s', 'verify.t')$$), attempt($$SELECT count(*) FROM docrep.preflight('verify.s')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION docrep.verify(text, text, jsonb), docrep.preflight(text, jsonb) TO regress_verify;
GRANT SELECT ON s TO regress_verify;
SET ROLE regress_verify;
SELECT attempt($$SELECT count(*) FROM docrep.verify('verify.s', 'verify.t')$$), attempt($$SELECT count(*) > 5 FROM docrep.preflight('verify.s')$$);
RESET ROLE;
GRANT SELECT ON t TO regress_verify;
SET ROLE regress_verify;
SELECT count(*) FROM docrep.verify('verify.s', 'verify.t', '{"settle": 0}');
RESET ROLE;

DROP SCHEMA verify CASCADE;
REVOKE ALL ON FUNCTION docrep.verify(text, text, jsonb), docrep.preflight(text, jsonb) FROM regress_verify;
DROP ROLE regress_verify;
