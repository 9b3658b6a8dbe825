-- Attachments: what documents say of them, their contents, and what becomes of them.
\set VERBOSITY terse
SET timezone = 'UTC';
SELECT docrep.create_table('att');
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
-- rows of the companion: a file by the length of its content
DO $$
BEGIN
	EXECUTE format('CREATE VIEW files AS SELECT length, count(*) FILTER (WHERE part > 0) AS parts FROM
		(SELECT file, part, max(length) OVER (PARTITION BY file) AS length FROM docrep_data.att_%s) f GROUP BY file, length ORDER BY 1',
		(SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'att'::regclass));
END
$$;
-- the companion needs no TOAST table
SELECT c.relname ~ '^att_[0-9a-f]{32}$' AS companion, c.reltoastrelid FROM pg_class c
WHERE relnamespace = 'docrep_data'::regnamespace AND relkind = 'r' AND relname LIKE 'att\_%';

-- put and get
SELECT docrep.put('att', '{"_id": "a", "n": 1, "_attachments": {"x.txt": {"content_type": "text/plain", "data": "aGVsbG8="}, "é/ü": {"data": "aGV sbG8\n="}}}');
SELECT jsonb_pretty(docrep.get('att', 'a'));
SELECT jsonb_pretty(docrep.get('att', 'a', attachments => true)->'_attachments');
SELECT doc, _attachments - 'é/ü' #- '{x.txt,file}' AS att, _attachments->'x.txt'->'file' = _attachments->'é/ü'->'file' AS same FROM att;
SELECT * FROM files;
SELECT * FROM docrep.attachments('att');
SELECT doc FROM docrep.changes('att', include_docs => true);
SELECT docrep.bulk_get('att', '[{"id": "a"}]', attachments => true)->'results'->0->'docs'->0->'ok'->'_attachments'->'x.txt'->>'data' AS data;
SELECT docrep.get('att', 'a', open_revs => '"all"', attachments => true)->0->'ok'->'_attachments'->'x.txt'->>'data' AS data;
SELECT docrep.get_attachment('att', 'a', 'x.txt');

-- what is not taken; of a batch a wrong digest and a missing stub refuse one document each
SELECT attempt(format('SELECT docrep.put(''att'', %L)', jsonb_build_object('_id', 'b', '_attachments', atts::jsonb))) FROM (VALUES
	('{"": {"data": ""}}'), ('{"_x": {"data": ""}}'), ('{"x": 1}'), ('{"x": {}}'), ('{"x": {"data": 1}}'), ('{"x": {"data": "a"}}'),
	('{"x": {"data": "=="}}'), ('{"x": {"data": "YWJj="}}'), ('{"x": {"data": "YQ==YQ=="}}'), ('{"x": {"follows": true}}'), ('{"x": {"stub": true}}'),
	('{"x": {"data": "", "content_type": 1}}'), ('{"x": {"data": "", "revpos": -1}}'), ('{"x": {"data": "", "revpos": 3000000000}}'),
	('{"x": {"data": "", "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfw=="}}'), ('{"x": {"data": "", "digest": "md5-x"}}')) v(atts);
SELECT attempt(format('SELECT docrep.put(''att'', %L)', jsonb_build_object('_id', 'b', '_attachments', jsonb_build_object(repeat('é', 501), '{"data": ""}'::jsonb))));
SELECT id, rev IS NOT NULL AS stored, error, reason FROM docrep.bulk_docs('att', '[{"_id": "b1", "_attachments": {"x": {"data": "", "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfw=="}}},
	{"_id": "b2", "_attachments": {"x": {"stub": true}}}, {"_id": "b3", "_attachments": {"x": {"data": "", "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfg=="}}}]');
SELECT attempt($$SELECT docrep.put_local('att', 'l', '{"_attachments": {"x": {"data": ""}}}')$$);
SELECT attempt($$INSERT INTO att(_id, doc, _attachments) VALUES ('f', '{}', '{"x": {"file": 1}}') RETURNING _id$$),
	attempt($$UPDATE att SET _attachments = NULL WHERE _id = 'a' RETURNING _id$$),
	attempt($$UPDATE att SET _attachments = '{}' WHERE _id = 'b3' RETURNING _id$$);

-- edits: stubs stay, what is not listed goes, new data gets a new revpos
SELECT docrep.put('att', jsonb_set(docrep.get('att', 'a'), '{_attachments,new}', '{"data": "bmV3"}')) AS rev \gset
SELECT name, length, revpos FROM docrep.attachments('att', 'a');
SELECT docrep.put('att', docrep.get('att', 'a') #- '{_attachments,x.txt}') AS rev \gset
SELECT name, length, revpos FROM docrep.attachments('att', 'a');
-- what was read with its data can be written back
SELECT docrep.put('att', docrep.get('att', 'a', attachments => true)) AS rev \gset
SELECT name, length, revpos FROM docrep.attachments('att', 'a');
-- atts_since: what is newer than the newest of these
SELECT key, value ? 'data' AS data FROM jsonb_each(docrep.get('att', 'a', atts_since => jsonb_build_array(:'rev'))->'_attachments');
SELECT docrep.put('att', jsonb_set(docrep.get('att', 'a'), '{_attachments,zz}', '{"data": "enp6"}')) IS NOT NULL AS put;
SELECT key, value ? 'data' AS data FROM jsonb_each(docrep.get('att', 'a', atts_since => jsonb_build_array(:'rev', '1-unknown'))->'_attachments');
SELECT key, value ? 'data' AS data FROM jsonb_each(docrep.get('att', 'a', atts_since => '["1-unknown"]')->'_attachments');
SELECT attempt($$SELECT docrep.get('att', 'a', atts_since => '{}')$$);
-- plain SQL: UPDATE keeps them, unless the body speaks of them; a new _id takes them along; DELETE leaves none
UPDATE att SET doc = doc || '{"n": 2}' WHERE _id = 'a' RETURNING doc, (SELECT array_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(_attachments) k) AS names;
UPDATE att SET doc = '{"n": 3, "_attachments": {"zz": {"stub": true}, "y": {"data": "eQ=="}}}' WHERE _id = 'a' RETURNING doc;
SELECT name, length, revpos FROM docrep.attachments('att', 'a');
UPDATE att SET _id = 'renamed' WHERE _id = 'a';
SELECT id, name, length, revpos FROM docrep.attachments('att');
UPDATE att SET doc = '{"_attachments": {}}' WHERE _id = 'b3' RETURNING doc, _attachments;
DELETE FROM att WHERE _id = 'renamed';
SELECT docrep.get('att', 'renamed', open_revs => '"all"') #- '{0,ok,_rev}' AS deleted;
INSERT INTO att(doc) VALUES ('{"_id": "renamed", "_attachments": {"i": {"data": "aQ=="}}}');
SELECT id, name, length, revpos FROM docrep.attachments('att');
COPY att(doc) FROM STDIN;
{"_id": "copied", "_attachments": {"c": {"content_type": "text/plain", "data": "Yw=="}}}
\.
SELECT docrep.get_attachment('att', 'copied', 'c');
SELECT attempt($$INSERT INTO att(doc) VALUES ('{"_id": "stub", "_attachments": {"c": {"stub": true}}}') RETURNING _id$$);
SELECT * FROM docrep.check('att');

-- The same edit is the same revision; another content, name, type makes another.
SELECT count(DISTINCT docrep.put('att', jsonb_build_object('_id', 'h' || n, '_attachments', a::jsonb))) FROM (VALUES (1, '{"x": {"data": "YQ=="}}'), (2, '{"x": {"data": "YQ==", "revpos": 7}}')) v(n, a);
SELECT count(DISTINCT docrep.put('att', jsonb_build_object('_id', 'i' || n, '_attachments', a::jsonb))) FROM (VALUES (1, '{"x": {"data": "YQ=="}}'), (2, '{"x": {"data": "Yg=="}}'),
	(3, '{"y": {"data": "YQ=="}}'), (4, '{"x": {"data": "YQ==", "content_type": "a/b"}}'), (5, '{"x": {"data": "YQ=="}, "y": {"data": "YQ=="}}'), (6, '{}')) v(n, a);
SELECT docrep.put('att', '{"_id": "fixed", "_attachments": {"x": {"data": "YQ==", "content_type": "text/plain"}}}');
SELECT (SELECT _rev FROM att WHERE _id = 'i6') = docrep.put('att', '{"_id": "none"}') AS none_as_before;

-- single attachments
SELECT docrep.put_attachment('att', 's', 'one', 'text/plain', 'first') AS rev \gset
SELECT attempt($$SELECT docrep.put_attachment('att', 's', 'two', 'text/plain', 'x')$$), attempt($$SELECT docrep.put_attachment('att', 's', 'two', 'text/plain', 'x', '1-0')$$),
	attempt($$SELECT docrep.put_attachment('att', 'nobody', 'two', 'text/plain', 'x', '1-0')$$), attempt($$SELECT docrep.put_attachment('att', 's', '_two', 'text/plain', 'x')$$),
	attempt($$SELECT docrep.put_attachment('att', 's', 'two', 'text/plain')$$), attempt($$SELECT docrep.put_attachment('att', '_s', 'two', 'text/plain', 'x')$$);
SELECT docrep.put_attachment('att', 's', 'two', NULL, 'second', :'rev') AS rev \gset
SELECT docrep.put_attachment('att', 's', 'one', 'text/html', 'third', :'rev') AS rev2 \gset
SELECT name, content_type, length, revpos FROM docrep.attachments('att', 's');
SELECT docrep.get_attachment('att', 's', 'one'), docrep.get_attachment('att', 's', 'two', :'rev2');
SELECT attempt(format('SELECT docrep.get_attachment(''att'', ''s'', ''one'', %L)', :'rev')), attempt($$SELECT docrep.get_attachment('att', 's', 'three')$$),
	attempt($$SELECT docrep.get_attachment('att', 'nobody', 'one')$$);
SELECT attempt($$SELECT docrep.delete_attachment('att', 's', 'one', NULL)$$), attempt(format('SELECT docrep.delete_attachment(''att'', ''s'', ''one'', %L)', :'rev')),
	attempt(format('SELECT docrep.delete_attachment(''att'', ''s'', ''three'', %L)', :'rev2'));
SELECT docrep.delete_attachment('att', 's', 'one', :'rev2') IS NOT NULL AS deleted;
SELECT name, content_type, length, revpos FROM docrep.attachments('att', 's');
DELETE FROM att WHERE _id = 's';
SELECT attempt($$SELECT docrep.get_attachment('att', 's', 'two')$$);
SELECT left(docrep.put_attachment('att', 's', 'again', NULL, 'x')::text, 2) AS goes_on;

-- contents of every length about the size of a part, at once and piece by piece; equal ones are one file
DELETE FROM att;
SELECT docrep.compact('att', '0') ->> 'incomplete_removed' AS incomplete;
SELECT * FROM files;
CREATE TABLE lengths AS SELECT n, convert_to(left(repeat('0123456789', 4000), n), 'UTF8') AS data
FROM unnest(ARRAY[0, 1, 7999, 8000, 8001, 15999, 16000, 16001, 24001]) n;
SELECT count(docrep.put_attachment('att', 'l' || n, 'x', NULL, data)) FROM lengths;
SELECT * FROM files;
SELECT n, docrep.get_attachment('att', 'l' || n, 'x') = data AS same,
	(SELECT string_agg(docrep.get_attachment_part('att', 'l' || n, 'x', o, 3000), '' ORDER BY o) FROM generate_series(0, n, 3000) o) = data AS in_parts,
	docrep.get_attachment_part('att', 'l' || n, 'x', n, 10) AS beyond FROM lengths;
SELECT attempt($$SELECT docrep.get_attachment_part('att', 'l1', 'x', -1, 1)$$), attempt($$SELECT docrep.get_attachment_part('att', 'l1', 'x', 0, -1)$$);
DO $$
DECLARE
	l lengths;
	up bigint;
BEGIN
	FOR l IN SELECT * FROM lengths LOOP
		FOR step IN 1..4 LOOP
			up := docrep.begin_attachment('att');
			PERFORM docrep.append_attachment('att', up, substr(l.data, 1 + o * s, s))
				FROM (SELECT (ARRAY[1000, 7999, 8000, 20000])[step] AS s) x, generate_series(0, 24) o;
			PERFORM docrep.put_attachment('att', format('u%s-%s', l.n, step), 'x', NULL, upload => up);
			-- and one that is nowhere yet
			up := docrep.begin_attachment('att');
			PERFORM docrep.append_attachment('att', up, convert_to(step::text, 'UTF8') || substr(l.data, 1 + o * s, s))
				FROM (SELECT (ARRAY[1000, 7999, 8000, 20000])[step] AS s) x, generate_series(0, 24) o;
			PERFORM docrep.put_attachment('att', format('v%s-%s', l.n, step), 'x', NULL, upload => up);
			IF docrep.get_attachment('att', format('v%s-%s', l.n, step), 'x') <> (SELECT string_agg(convert_to(step::text, 'UTF8') || substr(l.data, 1 + o * s, s), '' ORDER BY o)
				FROM (SELECT (ARRAY[1000, 7999, 8000, 20000])[step] AS s) x, generate_series(0, 24) o) THEN
				RAISE 'other bytes: % %', l.n, step;
			END IF;
		END LOOP;
	END LOOP;
END
$$;
DELETE FROM att WHERE _id LIKE 'v%';
SELECT count(*), count(DISTINCT _attachments->'x'->'file') AS files FROM att;
SELECT (docrep.compact('att', '0')->>'files_removed')::int AS removed;
SELECT * FROM files;

-- an upload is the session's, and one of whose transactions was rolled back is spoiled
SELECT docrep.begin_attachment('att') AS up \gset
SELECT docrep.append_attachment('att', :up, 'kept ');
BEGIN;
SELECT docrep.append_attachment('att', :up, 'lost');
ROLLBACK;
SELECT attempt(format('SELECT docrep.append_attachment(''att'', %s, ''x'')', :up)), attempt(format('SELECT docrep.put_attachment(''att'', ''up'', ''x'', NULL, upload => %s)', :up));
SELECT docrep.begin_attachment('att') AS up \gset
BEGIN;
SAVEPOINT s;
SELECT docrep.append_attachment('att', :up, 'in a savepoint');
RELEASE s;
SELECT docrep.put_attachment('att', 'up', 'x', NULL, upload => :up) IS NOT NULL AS put;
COMMIT;
SELECT docrep.get_attachment('att', 'up', 'x'), attempt(format('SELECT docrep.put_attachment(''att'', ''up'', ''x'', NULL, upload => %s)', :up)),
	attempt($$SELECT docrep.put_attachment('att', 'up', 'x', NULL, upload => 123456)$$), attempt($$SELECT docrep.put_attachment('att', 'up', 'x', NULL, 'both', upload => 1)$$);
SELECT docrep.create_table('att_other');
SELECT docrep.begin_attachment('att') AS up \gset
SELECT attempt(format('SELECT docrep.append_attachment(''att_other'', %s, ''x'')', :up));
SELECT docrep.append_attachment('att', :up, 'of nobody else');
SELECT docrep.compact('att') AS young, docrep.compact('att', '0') AS all;
SELECT attempt(format('SELECT docrep.put_attachment(''att'', ''gone'', ''x'', NULL, upload => %s)', :up));

-- Revisions as they are: stubs of what any leaf has, contents that move with bodies.
DELETE FROM att;
SELECT docrep.bulk_docs('att', '[{"_id": "c", "_rev": "1-a", "_attachments": {"x": {"content_type": "text/plain", "revpos": 1, "data": "b25l", "digest": "md5-+XxdKZQb+xsv2rCHSQargg=="}}}]', false);
SELECT docrep.bulk_docs('att', '[{"_id": "c", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "_attachments": {"x": {"content_type": "text/plain", "revpos": 1, "stub": true, "digest": "md5-+XxdKZQb+xsv2rCHSQargg=="}, "y": {"data": "dHdv"}}},
	{"_id": "c", "_rev": "2-a", "_revisions": {"start": 2, "ids": ["a", "a"]}, "_attachments": {"z": {"content_type": "text/html", "stub": true, "digest": "md5-+XxdKZQb+xsv2rCHSQargg=="}}},
	{"_id": "c", "_rev": "2-0", "_revisions": {"start": 2, "ids": ["0", "a"]}, "_attachments": {"x": {"stub": true}}, "_deleted": true},
	{"_id": "c", "_rev": "1-a", "_attachments": {"nothing": {"stub": true}}}]', false);
SELECT id, rev, error, reason FROM docrep.bulk_docs('att', '[{"_id": "c", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "_attachments": {"x": {"stub": true, "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfg=="}}},
	{"_id": "c", "_rev": "2-d", "_revisions": {"start": 2, "ids": ["d", "a"]}, "_attachments": {"x": {"stub": true, "revpos": 2}}},
	{"_id": "c", "_rev": "2-e", "_revisions": {"start": 2, "ids": ["e", "a"]}, "_attachments": {"x": {"data": "eA==", "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfg=="}}},
	{"_id": "c", "_rev": "2-9", "_revisions": {"start": 2, "ids": ["9", "a"]}}]', false);
SELECT item->'ok'->'_rev' AS rev, item->'ok'->'_attachments' AS atts FROM jsonb_array_elements(docrep.get('att', 'c', open_revs => '"all"', attachments => true)) item;
-- the winner goes, the next comes to light with its own; and back again
DELETE FROM att WHERE _id = 'c';
SELECT _rev, jsonb_object_keys(_attachments) FROM att;
SELECT docrep.delete('att', 'c', '2-a') IS NOT NULL AS deleted;
SELECT _rev, _attachments FROM att;
SELECT docrep.delete('att', 'c', '2-9') IS NOT NULL AS deleted;
SELECT * FROM docrep.check('att');
SELECT docrep.bulk_docs('att', '[{"_id": "c", "_rev": "9-z", "_attachments": {"w": {"revpos": 4, "stub": true, "digest": "md5-+XxdKZQb+xsv2rCHSQargg=="}}}]', false);
SELECT _rev, _attachments->'w'->'revpos' AS revpos, docrep.get_attachment('att', 'c', 'w') FROM att;
-- an edit of a losing leaf takes that one's
SELECT docrep.bulk_docs('att', '[{"_id": "e", "_rev": "2-b", "_attachments": {"of b": {"data": "Yg=="}}}, {"_id": "e", "_rev": "2-a", "_attachments": {"of a": {"data": "YQ=="}}}]', false);
SELECT attempt($$SELECT docrep.put('att', '{"_id": "e", "_rev": "2-a", "_attachments": {"of b": {"stub": true}}}')$$);
SELECT left(docrep.put('att', '{"_id": "e", "_rev": "2-a", "_attachments": {"of a": {"stub": true}, "new": {"data": ""}}}')::text, 2) AS rev;
SELECT name, length, revpos FROM docrep.attachments('att', 'e');
SELECT docrep.get_attachment('att', 'e', 'of b', '2-b');
-- revisions of one batch find what came before them in it; so do edits
SELECT docrep.bulk_docs('att', '[{"_id": "chain", "_rev": "1-a", "_attachments": {"x": {"data": "eA=="}}},
	{"_id": "chain", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "_attachments": {"x": {"stub": true}}}]', false);
SELECT docrep.get_attachment('att', 'chain', 'x', '2-b');
SELECT docrep.put('att', '{"_id": "pair2", "_attachments": {"x": {"data": "eA=="}}}') AS rev \gset
SELECT id, error FROM docrep.bulk_docs('att', jsonb_build_array('{"_id": "pair", "_attachments": {"x": {"data": "eA=="}}}'::jsonb,
	jsonb_build_object('_id', 'pair', '_rev', :'rev', '_attachments', '{"x": {"stub": true}, "y": {"data": ""}}'::jsonb)));
SELECT name, length, revpos FROM docrep.attachments('att', 'pair');
-- one content in two documents
SELECT count(rev) FROM docrep.bulk_docs('att', '[{"_id": "twice", "_attachments": {"x": {"data": "eA=="}}}, {"_id": "twice2", "_attachments": {"x": {"data": "eA=="}}}]');
SELECT * FROM docrep.check('att');

-- what no revision uses goes; what a losing leaf or a tombstone has, stays
SELECT docrep.put('att', '{"_id": "tomb", "_deleted": true, "_attachments": {"t": {"data": "dG9tYg=="}}}') IS NOT NULL AS put;
DELETE FROM att WHERE _id IN ('twice', 'twice2');
SELECT docrep.compact('att', '0') IS NOT NULL AS compacted;
SELECT * FROM docrep.check('att');
SELECT docrep.get('att', 'tomb', open_revs => '"all"', attachments => true)->0->'ok'->'_attachments'->'t'->'data' AS of_tombstone;
SELECT docrep.purge('att', jsonb_build_object('e', jsonb_build_array('2-b'), 'tomb', jsonb_build_array((SELECT changes->0->>'rev' FROM docrep.changes('att') WHERE id = 'tomb')))) IS NOT NULL AS purged;
SELECT docrep.compact('att', '0');
SELECT * FROM docrep.check('att');

-- a user's trigger that changes the body: the revision follows, with the attachments
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.doc := NEW.doc || '{"stamped": true}';
	RETURN NEW;
END
$$;
CREATE TRIGGER stamp BEFORE INSERT ON att FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT docrep.put('att', '{"_id": "t1", "_attachments": {"x": {"data": "eA=="}}}') IS NOT NULL AS put;
DROP TRIGGER stamp ON att;
SELECT docrep.put('att', '{"_id": "t2", "stamped": true, "_attachments": {"x": {"data": "eA=="}}}') IS NOT NULL AS put;
SELECT count(*), count(DISTINCT _rev) AS revs, count(DISTINCT doc) AS docs FROM att WHERE _id IN ('t1', 't2');

-- stored as gzip, as CouchDB may send it: users get what was in it
SELECT docrep.put_attachment('att', 'zip', 'z', 'text/plain', '\x1f8b08000000000002034bccc9514854485248560000df6bb4f10a000000') IS NOT NULL AS put;
ALTER TABLE att DISABLE TRIGGER "~docrep_track";
UPDATE att SET _attachments = jsonb_set(_attachments, '{z}', _attachments->'z' || '{"encoding": "gzip", "length": 10, "encoded_length": 30}') WHERE _id = 'zip';
ALTER TABLE att ENABLE ALWAYS TRIGGER "~docrep_track";
SELECT attempt($$SELECT convert_from(docrep.get_attachment('att', 'zip', 'z'), 'UTF8')$$);

-- privileges and policies
CREATE ROLE regress_att_reader;
GRANT USAGE ON SCHEMA docrep TO regress_att_reader;
GRANT SELECT ON att TO regress_att_reader;
SET ROLE regress_att_reader;
SELECT docrep.get_attachment('att', 't1', 'x');
SELECT attempt($$SELECT docrep.put_attachment('att', 'r', 'x', NULL, 'x')$$), attempt($$SELECT docrep.begin_attachment('att')$$),
	attempt($$SELECT docrep.delete_attachment('att', 't1', 'x', '1-a')$$), attempt($$SELECT docrep.compact('att')$$), attempt($$SELECT docrep.get_attachment('att_other', 't1', 'x')$$);
RESET ROLE;
ALTER TABLE att ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON att FOR SELECT USING (_id <> 't1');
SET ROLE regress_att_reader;
SELECT attempt($$SELECT docrep.get_attachment('att', 't1', 'x')$$), docrep.get_attachment('att', 't2', 'x'), (SELECT count(*) FROM docrep.attachments('att', 't1')) AS listed;
RESET ROLE;
REVOKE ALL ON att FROM regress_att_reader;
REVOKE ALL ON SCHEMA docrep FROM regress_att_reader;
DROP ROLE regress_att_reader;

-- a content that has gone is an error, and told
DO $$
BEGIN
	EXECUTE format('DELETE FROM docrep_data.att_%s WHERE part = 0', (SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'att'::regclass));
END
$$;
SELECT attempt($$SELECT docrep.get_attachment('att', 't2', 'x')$$), attempt($$SELECT docrep.get('att', 't2', attachments => true)$$);
SELECT * FROM docrep.check('att') WHERE id LIKE 't_';
DROP VIEW files;
DROP TABLE att, att_other, lengths;
DROP FUNCTION attempt, stamp;
