-- everything malformed is DR400, names what is wrong, and writes nothing
SET client_min_messages = warning;
CREATE SCHEMA documents_bad_input;
SET search_path = documents_bad_input;
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

CREATE TABLE bad (n int GENERATED ALWAYS AS IDENTITY, doc jsonb);
INSERT INTO bad (doc) VALUES
	('[]'), ('"text"'), ('1'), ('null'), ('[{"_id": "x"}]'),
	('{"_id": ""}'), ('{"_id": 1}'), ('{"_id": null}'), ('{"_id": "_x"}'), ('{"_id": "_"}'), ('{"_id": "_design/"}'),
	('{"_id": "_design"}'), ('{"_id": "_local/x"}'), (jsonb_build_object('_id', repeat('é', 1001))),
	('{"_id": "x", "_foo": 1}'), ('{"_id": "x", "_": 1}'), ('{"_id": "x", "_ID": "y"}'), ('{"_id": "x", "_attachmentsé": {}}'),
	('{"_id": "x", "_rev": 1}'), ('{"_id": "x", "_rev": null}'), ('{"_id": "x", "_rev": ""}'), ('{"_id": "x", "_rev": "abc"}'),
	('{"_id": "x", "_rev": "-a"}'), ('{"_id": "x", "_rev": "1-"}'), ('{"_id": "x", "_rev": "0-a"}'), ('{"_id": "x", "_rev": "-1-a"}'),
	('{"_id": "x", "_rev": "99999999999-a"}'), ('{"_id": "x", "_rev": "1-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}'),
	('{"_id": "x", "_deleted": 1}'), ('{"_id": "x", "_deleted": "true"}'), ('{"_id": "x", "_deleted": null}'),
	('{"_id": "x", "_revisions": []}'), ('{"_id": "x", "_revisions": {}}'), ('{"_id": "x", "_revisions": {"start": 1}}'),
	('{"_id": "x", "_revisions": {"ids": ["a"]}}'), ('{"_id": "x", "_revisions": {"start": "1", "ids": ["a"]}}'),
	('{"_id": "x", "_revisions": {"start": 1.5, "ids": ["a"]}}'), ('{"_id": "x", "_revisions": {"start": 1e40, "ids": ["a"]}}'),
	('{"_id": "x", "_revisions": {"start": 3000000000, "ids": ["a"]}}'), ('{"_id": "x", "_revisions": {"start": -1, "ids": ["a"]}}'),
	('{"_id": "x", "_revisions": {"start": 1, "ids": "a"}}'), ('{"_id": "x", "_revisions": {"start": 1, "ids": [1]}}'),
	('{"_id": "x", "_revisions": {"start": 1, "ids": ["b", "a"]}}'), ('{"_id": "x", "_revisions": {"start": 1, "ids": []}}'),
	('{"_id": "x", "_revisions": {"start": 1, "ids": [""]}}'),
	('{"_id": "x", "_revisions": {"start": 2, "ids": ["b", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"]}}'),
	('{"_id": "x", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["b", "a"]}}'),
	('{"_id": "x", "_rev": "3-b", "_revisions": {"start": 2, "ids": ["b", "a"]}}'),
	('{"_id": "x", "_rev": "1-b", "_revisions": {"start": 0, "ids": []}}'),
	('{"_id": "x", "_attachments": []}'), ('{"_id": "x", "_attachments": {"a": {"data": "?"}}}');
SELECT left(doc::text, 90) AS doc, attempt(format('SELECT docrep.put(''t'', %L)', doc)) AS put FROM bad ORDER BY n;
-- bulk_docs says the same, for both values of new_edits, and so does a plain INSERT
SELECT n, doc FROM bad
WHERE attempt(format('SELECT docrep.put(''t'', %L)', doc))
	<> attempt(format('SELECT docrep.bulk_docs(''t'', jsonb_build_array(%L::jsonb))', doc)) ORDER BY n;
SELECT n, left(doc::text, 90), attempt(format('SELECT docrep.bulk_docs(''t'', jsonb_build_array(%L::jsonb), false)', doc)) FROM bad
WHERE attempt(format('SELECT docrep.put(''t'', %L)', doc))
	<> attempt(format('SELECT docrep.bulk_docs(''t'', jsonb_build_array(%L::jsonb), false)', doc)) ORDER BY n;
SELECT n, left(doc::text, 90), attempt(format('INSERT INTO t(doc) VALUES (%L) RETURNING _id', doc)) FROM bad
WHERE attempt(format('SELECT docrep.put(''t'', %L)', doc))
	<> attempt(format('INSERT INTO t(doc) VALUES (%L) RETURNING _id', doc)) ORDER BY n;
-- an id of the longest length is fine, and so are revisions at the edge
SELECT attempt(format('SELECT docrep.put(''t'', %L)', jsonb_build_object('_id', repeat('é', 1000))));
SELECT attempt($$SELECT count(*) FROM docrep.bulk_docs('t', '[{"_id": "edge", "_rev": "2147483647-a"}, {"_id": "1", "_revisions": {"start": 0, "ids": []}, "_rev": "1-a"}]', false)$$);
SELECT attempt($$SELECT count(*) FROM docrep.bulk_docs('t', '[{"_id": "edge", "_rev": "2147483647-a"}]', false)$$);
SELECT _id, _rev FROM t WHERE length(_id) < 100;

-- with new_edits false an id and a revision are needed
SELECT attempt($$SELECT docrep.bulk_docs('t', '[{"_rev": "1-a"}]', false)$$);
SELECT attempt($$SELECT docrep.bulk_docs('t', '[{"a": 1}]', false)$$);
SELECT attempt($$SELECT docrep.bulk_docs('t', '[{"_id": "x"}]', false)$$);
SELECT attempt($$SELECT docrep.bulk_docs('t', '[{"_id": "x", "_revisions": {"start": 0, "ids": []}}]', false)$$);

-- one malformed document fails the batch; the message says which
SELECT docrep.bulk_docs('t', '[{"_id": "good"}, {"_id": "bad", "_foo": 1}, {"_id": "good2"}]');
SELECT count(*) FROM t WHERE _id LIKE 'good%';
SELECT attempt($$SELECT docrep.bulk_docs('t', '{}')$$), attempt($$SELECT docrep.bulk_docs('t', '"docs"')$$);
SELECT attempt($$SELECT docrep.bulk_docs('t', '{"docs": 1}')$$), attempt($$SELECT docrep.bulk_docs('t', '{"docs": [], "new_edits": 1}')$$);
SELECT attempt($$SELECT docrep.bulk_docs('t', '[1]')$$), attempt($$SELECT docrep.bulk_docs('t', '[[]]')$$);

-- the column and the member must agree
SELECT attempt($$INSERT INTO t(_id, doc) VALUES ('x', '{"_id": "y"}')$$);
SELECT attempt($$INSERT INTO t(_id, doc) VALUES ('', '{}')$$), attempt($$INSERT INTO t(_id, doc) VALUES ('_x', '{}')$$);
SELECT attempt($$UPDATE t SET doc = '[]' WHERE _id = 'edge'$$), attempt($$UPDATE t SET doc = doc || '{"_foo": 1}' WHERE _id = 'edge'$$);

-- the other functions
SELECT attempt($$SELECT docrep.delete('t', '', '1-a')$$), attempt($$SELECT docrep.delete('t', '_x', '1-a')$$);
SELECT attempt($$SELECT docrep.delete('t', 'edge', 'x')$$);
SELECT attempt($$SELECT docrep.get('t', 'x', rev => '1')$$);
SELECT attempt($$SELECT docrep.get('t', 'x', open_revs => '"none"')$$), attempt($$SELECT docrep.get('t', 'x', open_revs => '{}')$$);
SELECT attempt($$SELECT docrep.get('t', 'x', open_revs => '[1]')$$), attempt($$SELECT docrep.get('t', 'x', open_revs => '["x"]')$$);
SELECT attempt($$SELECT docrep.get('t', 'x', open_revs => '1')$$);
SELECT attempt($$SELECT docrep.revs_diff('t', '[]')$$), attempt($$SELECT docrep.revs_diff('t', '{"a": 1}')$$);
SELECT attempt($$SELECT docrep.revs_diff('t', '{"a": [1]}')$$), attempt($$SELECT docrep.revs_diff('t', '{"a": ["x"]}')$$);
SELECT attempt($$SELECT docrep.bulk_get('t', '{}')$$), attempt($$SELECT docrep.bulk_get('t', '[1]')$$);
SELECT attempt($$SELECT docrep.bulk_get('t', '[{"rev": "1-a"}]')$$), attempt($$SELECT docrep.bulk_get('t', '[{"id": "a", "rev": "x"}]')$$);
SELECT attempt($$SELECT docrep.bulk_get('t', '[{"id": "a", "rev": 1}]')$$);
SELECT attempt($$SELECT docrep.purge('t', '[]')$$), attempt($$SELECT docrep.purge('t', '{"a": "1-a"}')$$), attempt($$SELECT docrep.purge('t', '{"a": ["x"]}')$$);
SELECT attempt($$SELECT docrep.changes('t', style => 'both')$$), attempt($$SELECT docrep.changes('t', max_rows => -1)$$);
SELECT attempt($$SELECT docrep.changes('t', doc_ids => ARRAY[NULL])$$), attempt($$SELECT docrep.changes('t', filter => '_doc_ids')$$);
SELECT attempt($$SELECT docrep.changes('t', selector => '[]')$$), attempt($$SELECT docrep.changes('t', filter => 'd/f')$$), attempt($$SELECT docrep.changes_feed('t', query_params => '[]')$$);

DROP SCHEMA documents_bad_input CASCADE;
