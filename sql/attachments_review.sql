-- Attachments: what a review has found
\set VERBOSITY terse
SELECT docrep.create_table('att_review');
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN 'ok: ' || result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;

-- a stub that says which it means must mean the parent's; DR412 as in CouchDB, where revpos counts
SELECT docrep.put('att_review', '{"_id": "a", "_attachments": {"x": {"data": "aGVsbG8="}}}') AS rev \gset
CREATE FUNCTION stub(rev text, stub jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT attempt(format('SELECT left(docrep.put(''att_review'', %L)::text, 2)',
		jsonb_build_object('_id', 'a', '_rev', rev, '_attachments', jsonb_build_object('x', stub)))) $$;
SELECT stub(:'rev', '{"stub": true, "revpos": 7}'), stub(:'rev', '{"stub": true, "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfg=="}'),
	stub(:'rev', '{"stub": true, "revpos": 1, "digest": "md5-XUFAKrxLKna5cZ2REBfFkg=="}');
SELECT attempt($$UPDATE att_review SET doc = '{"_attachments": {"x": {"stub": true, "revpos": 2}}}' RETURNING _id$$),
	attempt($$UPDATE att_review SET doc = '{"_attachments": {"x": {"stub": true, "revpos": 1}}}' RETURNING _id$$);
-- an edit's digest is ours; one that cannot be compared is not taken over, unless the revision is another server's
SELECT docrep.put('att_review', '{"_id": "b", "_attachments": {"x": {"data": "aGVsbG8=", "digest": "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00="}, "y": {"data": "aGVsbG8=", "digest": "nonsense"}}}') IS NOT NULL AS put;
SELECT docrep.bulk_docs('att_review', '[{"_id": "c", "_rev": "1-c", "_attachments": {"x": {"data": "aGVsbG8=", "digest": "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00="}}}]', false);
SELECT id, name, digest FROM docrep.attachments('att_review') WHERE id IN ('b', 'c');

-- names that are something elsewhere
SELECT left(docrep.put('att_review', jsonb_build_object('_id', 'names', '_attachments',
	(SELECT jsonb_object_agg(name, '{"data": "eA=="}'::jsonb) FROM unnest(ARRAY['a/b', '../x', '😀', ' ', 'constructor', '%2F', 'a"b', E'tab\there', repeat('n', 1000)]) name)))::text, 2);
SELECT left(name, 20) AS name FROM docrep.attachments('att_review', 'names') WHERE docrep.get_attachment('att_review', id, attachments.name) = 'x';
SELECT attempt($$SELECT docrep.put('att_review', '{"_id": "p", "_attachments": {"__proto__": {"data": ""}}}')$$);

-- subtransactions: what is rolled back is not there; what follows does not build on it
DO $$
DECLARE
	up bigint;
	big bytea := convert_to(repeat('0123456789', 5000), 'UTF8');
BEGIN
	BEGIN
		PERFORM docrep.put_attachment('att_review', 's', 'x', NULL, big);
		RAISE 'undone';
	EXCEPTION WHEN raise_exception THEN
	END;
	PERFORM docrep.put_attachment('att_review', 's', 'x', NULL, big);
	up := docrep.begin_attachment('att_review');
	BEGIN
		PERFORM docrep.append_attachment('att_review', up, big);
		RAISE 'undone';
	EXCEPTION WHEN raise_exception THEN
	END;
	BEGIN
		PERFORM docrep.append_attachment('att_review', up, 'x');
	EXCEPTION WHEN SQLSTATE 'DR412' THEN
		RAISE NOTICE '%', SQLERRM;
	END;
	BEGIN
		up := docrep.begin_attachment('att_review');
		PERFORM docrep.append_attachment('att_review', up, big || 'x');
	EXCEPTION WHEN OTHERS THEN
		RAISE;
	END;
	BEGIN
		PERFORM docrep.put_attachment('att_review', 's2', 'x', NULL, upload => up);
	EXCEPTION WHEN OTHERS THEN
		RAISE;
	END;
END
$$;
SELECT id, length, length(docrep.get_attachment('att_review', id, name)) FROM docrep.attachments('att_review') WHERE id LIKE 's%';

-- ON CONFLICT and MERGE
INSERT INTO att_review(doc) VALUES ('{"_id": "s", "_attachments": {"n": {"data": "bmV3"}}}') ON CONFLICT (_id) DO NOTHING;
INSERT INTO att_review(doc) VALUES ('{"_id": "s", "v": 2}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc || '{"_attachments": {"x": {"stub": true}, "n": {"data": "bmV3"}}}';
SELECT id, name, length, revpos FROM docrep.attachments('att_review', 's');
SELECT attempt($$INSERT INTO att_review(doc) VALUES ('{"_id": "s", "_attachments": {"n": {"data": "b3RoZXI="}}}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc, _attachments = EXCLUDED._attachments RETURNING _id$$);

-- 10,000 in one document: what is linear a document and not an attachment
SELECT docrep.put('att_review', jsonb_build_object('_id', 'many', '_attachments', (SELECT jsonb_object_agg('n' || g, jsonb_build_object('data', encode(convert_to('c' || g, 'UTF8'), 'base64'))) FROM generate_series(1, 10000) g))) IS NOT NULL AS put;
SELECT left(docrep.put('att_review', docrep.get('att_review', 'many'))::text, 2) AS rev;
SELECT rev FROM docrep.bulk_docs('att_review', jsonb_build_array(docrep.get('att_review', 'many') || '{"_rev": "9-abc"}'), false);
SELECT count(*), count(DISTINCT digest) AS digests FROM docrep.attachments('att_review', 'many');
-- and of those that do not travel with their document each was looked for in a document read anew: minutes, and all of the memory
SELECT docrep.put('att_review', jsonb_build_object('_id', 'lots', '_attachments', (SELECT jsonb_object_agg('n' || g, jsonb_build_object('data', encode(convert_to(repeat('c' || g, 150), 'UTF8'), 'base64'))) FROM generate_series(1, 6000) g))) AS rev \gset
SELECT docrep.create_table('att_review_copy');
SELECT docrep.replicate('att_review', 'att_review_copy')->'ok' AS ok;
SELECT left(docrep.put_attachment('att_review', 'lots', 'one', 'text/plain', 'more', :'rev')::text, 2) AS rev;
SET statement_timeout = '60s';
SELECT docrep.replicate('att_review', 'att_review_copy')->'ok' AS ok;
RESET statement_timeout;
SELECT name, length, revpos FROM docrep.attachments('att_review_copy', 'lots') WHERE name IN ('n1', 'n6000', 'one');
SELECT * FROM docrep.verify('att_review', 'att_review_copy');
SELECT * FROM docrep.check('att_review_copy');
-- what no jsonb can hold is refused when it is too much, not when all of it is in memory
SELECT count(docrep.put('att_review', jsonb_build_object('_id', 'wide' || d, '_attachments',
	(SELECT jsonb_object_agg('n' || g, jsonb_build_object('data', encode(convert_to(repeat('0123456789', 300000), 'UTF8'), 'base64'))) FROM generate_series(1, 14) g)))) FROM generate_series(1, 6) d;
SELECT attempt($$SELECT docrep.bulk_get('att_review', '[{"id": "wide1"}, {"id": "wide2"}, {"id": "wide3"}, {"id": "wide4"}, {"id": "wide5"}, {"id": "wide6"}]', attachments => true)$$);
SELECT docrep.compact('att_review', '0') IS NOT NULL AS compacted;
SELECT * FROM docrep.check('att_review');
DROP TABLE att_review, att_review_copy;
DROP FUNCTION stub, attempt;

-- an upsert that would lose attachments without a word
SELECT docrep.create_table('up');
INSERT INTO up(_id, doc) VALUES ('a', '{"_attachments": {"x": {"data": "eA=="}}}');
INSERT INTO up(_id, doc) VALUES ('a', '{"n": 2, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc;
INSERT INTO up(_id, doc) VALUES ('b', '{"n": 1, "_attachments": {"y": {"data": "eQ=="}}}'), ('a', '{"n": 2, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc;
-- none are lost
INSERT INTO up(_id, doc) VALUES ('b', '{"n": 1, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc;
INSERT INTO up(_id, doc) VALUES ('c', '{"_attachments": {"y": {"data": "eQ=="}}}'), ('a', '{"n": 3}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc;
INSERT INTO up(_id, doc) VALUES ('a', '{"n": 4, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc || '{"_attachments": {"z": {"data": "eg=="}}}';
INSERT INTO up(_id, doc) VALUES ('a', '{"n": 5, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc WHERE up.doc ? 'never';
INSERT INTO up(_id, doc) VALUES ('a', '{"n": 6, "_attachments": {"y": {"data": "eQ=="}}}') ON CONFLICT DO NOTHING;
UPDATE up SET doc = doc || '{"m": 1}';
SELECT _id, doc, (SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(_attachments) key) AS attachments FROM up ORDER BY 1;
-- names are quoted once
SELECT docrep.replicate('none', 'up');
SELECT docrep.replicate('public.none', 'up');
SELECT docrep.drop_table('up');
