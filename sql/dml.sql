-- plain DML on a document table: every row gets its revision
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT docrep.create_table('dml');
-- the tombstones of a table, which is a companion named by its uuid
CREATE FUNCTION dml_dead(tbl regclass) RETURNS TABLE (id text, rev text, tree text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE (SELECT format('SELECT _id, regexp_replace(_rev::text, ''-.*'', ''''),'
		' regexp_replace(_tree::text, ''-[0-9a-f]{32}'', '''', ''g'') FROM docrep_data.dead_%s ORDER BY _id',
		replace(t.uuid::text, '-', '')) FROM docrep.document_tables t WHERE t.tbl = dml_dead.tbl);
END
$$;

-- INSERT: id in the column, in the body, in both; RETURNING
INSERT INTO dml(_id, doc) VALUES ('a', '{"n": 1}') RETURNING _id, doc, _rev, _seq;
INSERT INTO dml(doc) VALUES ('{"_id": "b", "n": 1}') RETURNING _id, doc, _rev, _seq;
INSERT INTO dml(_id, doc) VALUES ('c', '{"_id": "c", "n": 1}') RETURNING _id, doc, _rev, _seq;
INSERT INTO dml VALUES ('d', '{"n": 1}'), ('e', '{}'), ('_design/views', '{"language": "sql"}')
	RETURNING _id, doc, _rev, _seq, _tree IS NULL AS no_tree, _modified BETWEEN now() AND clock_timestamp() AS now;
-- what a GET adds is not part of the body
INSERT INTO dml(doc) VALUES ('{"_id": "f", "_conflicts": ["1-x"], "_attachments": {}, "_deleted": false, "n": 1}')
	RETURNING _id, doc, _rev;
DELETE FROM dml WHERE _id IN ('e', 'f', '_design/views');

-- UPDATE: one that leaves doc as it is makes a revision too
UPDATE dml SET doc = doc || '{"paid": true}' WHERE _id = 'a' RETURNING _id, doc, _rev, _seq, _tree;
UPDATE dml SET doc = doc WHERE _id = 'a' RETURNING _rev;
UPDATE dml SET _id = _id WHERE _id = 'a' RETURNING docrep.rev_generation(_rev) AS generation;
UPDATE dml SET doc = '{"n": 2}' WHERE _id <> 'a' RETURNING _id, docrep.rev_generation(_rev) AS generation, _seq;
-- _rev in the column or in the body must be the current one
UPDATE dml SET doc = '{"n": 3}', _rev = _rev WHERE _id = 'b' RETURNING docrep.rev_generation(_rev) AS generation;
UPDATE dml SET doc = jsonb_build_object('_rev', _rev, 'n', 4) WHERE _id = 'b'
	RETURNING docrep.rev_generation(_rev) AS generation, doc;

-- DELETE leaves a tombstone; a document of its id goes on from it
WITH gone AS (DELETE FROM dml WHERE _id IN ('b', 'c') RETURNING *)
	SELECT _id, docrep.rev_generation(_rev) AS generation FROM gone ORDER BY _id;
SELECT * FROM dml_dead('dml');
INSERT INTO dml VALUES ('c', '{"n": 5}') RETURNING _rev, regexp_replace(_tree::text, '-[0-9a-f]{32}', '', 'g') AS tree;
SELECT id FROM dml_dead('dml');
DELETE FROM dml WHERE _id = 'c';
-- ... also when its _rev is given, which must be the tombstone's
SELECT '{"_id": "c", "n": 6}'::jsonb || jsonb_build_object('_rev', changes->0->'rev') AS doc
	FROM docrep.changes('dml') WHERE id = 'c' \gset
INSERT INTO dml(doc) VALUES (:'doc') RETURNING docrep.rev_generation(_rev) AS generation, doc;
-- delete and insert again in one statement, and in one transaction
WITH gone AS (DELETE FROM dml WHERE _id = 'd' RETURNING _id)
	INSERT INTO dml SELECT _id || '2', '{}' FROM gone RETURNING _id, docrep.rev_generation(_rev) AS generation;
BEGIN;
INSERT INTO dml VALUES ('d', '{"again": 1}') RETURNING docrep.rev_generation(_rev) AS generation;
DELETE FROM dml WHERE _id = 'd';
INSERT INTO dml VALUES ('d', '{"again": 2}') RETURNING docrep.rev_generation(_rev) AS generation;
SAVEPOINT s;
DELETE FROM dml WHERE _id = 'd';
ROLLBACK TO s;
UPDATE dml SET doc = '{"again": 3}' WHERE _id = 'd' RETURNING docrep.rev_generation(_rev) AS generation;
COMMIT;
SELECT id, rev FROM dml_dead('dml');

-- another _id: the old document is deleted, the new one begins
UPDATE dml SET _id = 'moved' WHERE _id = 'd' RETURNING _id, doc, docrep.rev_generation(_rev) AS generation;
SELECT * FROM dml_dead('dml') WHERE id IN ('d', 'moved');
-- ... and over a tombstone it goes on from that
UPDATE dml SET _id = 'd', doc = '{"back": true}' WHERE _id = 'moved' RETURNING _id, doc, docrep.rev_generation(_rev) AS generation;
SELECT id, rev FROM dml_dead('dml') WHERE id IN ('d', 'moved');
UPDATE dml SET _id = 'a' WHERE _id = 'd';	-- taken
-- several at once
INSERT INTO dml SELECT 'many' || i, '{}' FROM generate_series(1, 3) i;
UPDATE dml SET _id = 'x' || _id WHERE _id LIKE 'many%';
SELECT _id, docrep.rev_generation(_rev) AS generation FROM dml WHERE _id LIKE '%many%' ORDER BY _id;
SELECT id, rev FROM dml_dead('dml') WHERE id LIKE 'many%';
DELETE FROM dml WHERE _id LIKE '%many%';

-- ON CONFLICT
INSERT INTO dml VALUES ('up', '{"v": 1}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc RETURNING doc, docrep.rev_generation(_rev) AS generation;
INSERT INTO dml VALUES ('up', '{"v": 2}') ON CONFLICT (_id) DO UPDATE SET doc = dml.doc || EXCLUDED.doc RETURNING doc, docrep.rev_generation(_rev) AS generation;
INSERT INTO dml VALUES ('up', '{"v": 3}') ON CONFLICT DO NOTHING RETURNING doc;
INSERT INTO dml(doc) VALUES ('{"_id": "up", "v": 4}'), ('{"_id": "up2", "v": 4}')
	ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc WHERE dml._id = 'up2' RETURNING _id, doc;
-- ... with the _rev that the document has now, or has no longer
INSERT INTO dml(doc) SELECT jsonb_build_object('_id', _id, '_rev', _rev, 'v', 5) FROM dml WHERE _id = 'up'
	ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc RETURNING doc, docrep.rev_generation(_rev) AS generation;
INSERT INTO dml(doc) VALUES ('{"_id": "up", "_rev": "2-abc", "v": 6}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
-- ... over a tombstone, whether or not the row is then thrown away
DELETE FROM dml WHERE _id = 'up';
INSERT INTO dml VALUES ('up', '{"v": 7}') ON CONFLICT DO NOTHING RETURNING doc, docrep.rev_generation(_rev) AS generation;
INSERT INTO dml VALUES ('up', '{"v": 8}') ON CONFLICT DO NOTHING RETURNING doc;
SELECT doc, docrep.rev_generation(_rev) AS generation FROM dml WHERE _id = 'up';

-- COPY
COPY dml(doc) FROM STDIN;
{"_id": "copied1", "name": "één"}
{"_id": "copied2", "list": [1, "two", null]}
{"_id": "up2", "already": "there"}
\.
COPY dml(doc) FROM STDIN;
{"_id": "copied1", "name": "één"}
{"_id": "copied2", "list": [1, "two", null]}
\.
COPY dml(_id, doc) FROM STDIN;
copied3	{"n": 3}
copied4	{"n": 4, "_id": "copied4"}
\.
SELECT _id, doc, _rev FROM dml WHERE _id LIKE 'copied%' ORDER BY _id;
-- \copy takes no variables: its command's shell does
\set file `mktemp`
\setenv DML_FILE :file
\copy (SELECT jsonb_build_object('_id', 'line' || i, 'n', i) FROM generate_series(1, 1000) i) TO PROGRAM 'cat > "$DML_FILE"'
\copy dml(doc) FROM PROGRAM 'cat "$DML_FILE"'
SELECT count(*), count(DISTINCT _seq), min(doc->>'n'), sum((doc->>'n')::int) FROM dml WHERE _id LIKE 'line%';
\copy (SELECT 'bin' || i, jsonb_build_object('n', i) FROM generate_series(1, 10) i) TO PROGRAM 'cat > "$DML_FILE"' (FORMAT binary)
\copy dml(_id, doc) FROM PROGRAM 'cat "$DML_FILE"' (FORMAT binary)
\! rm "$DML_FILE"
SELECT count(*), bool_and(docrep.rev_generation(_rev) = 1) FROM dml WHERE _id LIKE 'bin%';
DELETE FROM dml WHERE _id LIKE 'line%' OR _id LIKE 'bin%';

-- MERGE and other ways to write exist; row locks and cursors work
DO $$
BEGIN
	IF current_setting('server_version_num')::int >= 150000 THEN
		EXECUTE $m$MERGE INTO dml t USING (VALUES ('copied1', '{"merged": 1}'::jsonb), ('merged', '{"merged": 2}')) v(id, doc)
			ON t._id = v.id WHEN MATCHED THEN UPDATE SET doc = v.doc WHEN NOT MATCHED THEN INSERT (_id, doc) VALUES (v.id, v.doc)$m$;
	ELSE
		INSERT INTO dml VALUES ('copied1', '{"merged": 1}'), ('merged', '{"merged": 2}')
			ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
	END IF;
END
$$;
SELECT _id, doc, docrep.rev_generation(_rev) AS generation FROM dml WHERE doc ? 'merged' ORDER BY _id;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM dml WHERE _id = 'copied2' FOR UPDATE;
FETCH 1 FROM c \gset
UPDATE dml SET doc = '{"by": "cursor"}' WHERE CURRENT OF c RETURNING doc, docrep.rev_generation(_rev) AS generation;
COMMIT;

-- the same edits on two tables make the same revisions, however they are written
SELECT docrep.create_table('dml1'), docrep.create_table('dml2');
INSERT INTO dml1 VALUES ('n', '{"a": 1.0, "b": [1e2, -0.0, 0.10]}'), ('k', '{"x": 1, "yy": {"p": null, "q": ""}}');
INSERT INTO dml2 VALUES ('n', '{"b": [100, 0, 0.1000], "a": 1.00}'), ('k', '{"yy": {"q": "", "p": null}, "x": 1}');
UPDATE dml1 SET doc = doc || '{"big": 123456789012345678901234567890.50}';
UPDATE dml2 SET doc = doc || '{"big": 123456789012345678901234567890.5}';
SELECT _id, dml1._rev = dml2._rev AS same_rev, dml1._tree::text = dml2._tree::text AS same_tree FROM dml1 JOIN dml2 USING (_id) ORDER BY _id;
DELETE FROM dml1;
DELETE FROM dml2;
INSERT INTO dml1 VALUES ('n', '{}');
INSERT INTO dml2 VALUES ('n', '{"_id": "n"}');
SELECT dml1._rev = dml2._rev AS same_rev, docrep.rev_generation(dml1._rev) AS generation FROM dml1, dml2;
-- ... and other edits others
INSERT INTO dml1 VALUES ('1', '{"a": 1}'), ('2', '{"a": "1"}'), ('3', '{"a": [1]}'), ('4', '{"a": true}'), ('5', '{"b": 1}'),
	('6', '{"a": null}'), ('7', '{"a": {}}'), ('8', '{"a": []}'), ('9', '{"a": -1}'), ('10', '{"a": 10000}'), ('11', '{"a": 0.0001}');
SELECT count(DISTINCT _rev) FROM dml1 WHERE _id <> 'n';
SELECT * FROM docrep.check('dml1');

-- thousands of updates of one document, at several limits
DO $$
DECLARE
	max_revs int;
BEGIN
	FOREACH max_revs IN ARRAY ARRAY[1, 5, 1000] LOOP
		PERFORM docrep.create_table('dml_limit' || max_revs, max_revs);
		EXECUTE format('INSERT INTO %I VALUES (''x'', ''{"n": 0}'')', 'dml_limit' || max_revs);
		FOR i IN 1..1205 LOOP
			EXECUTE format('UPDATE %I SET doc = jsonb_build_object(''n'', %s)', 'dml_limit' || max_revs, i);
		END LOOP;
	END LOOP;
END
$$;
SELECT a._rev = b._rev AND b._rev = c._rev AS same_rev, docrep.rev_generation(a._rev) AS generation, c.doc,
	a._trunk IS NULL AS no_trunk_1, b._trunk IS NULL AS no_trunk_5, c._trunk IS NOT NULL AS trunk_1000,
	jsonb_array_length(docrep.get('dml_limit1', 'x', revs => true)->'_revisions'->'ids') AS revs_1,
	jsonb_array_length(docrep.get('dml_limit5', 'x', revs => true)->'_revisions'->'ids') AS revs_5,
	jsonb_array_length(docrep.get('dml_limit1000', 'x', revs => true)->'_revisions'->'ids') AS revs_1000,
	docrep.get('dml_limit1000', 'x', revs => true)->'_revisions'->'start' AS start
FROM dml_limit1 a, dml_limit5 b, dml_limit1000 c;
-- the history goes with the document into the tombstone and back
DELETE FROM dml_limit1000;
INSERT INTO dml_limit1000 VALUES ('x', '{"back": 1}') RETURNING docrep.rev_generation(_rev) AS generation;
SELECT jsonb_array_length(r->'ids') AS revs, r->'start' AS start, r#>'{ids,1}' <> r#>'{ids,999}' AS differ
	FROM (SELECT docrep.get('dml_limit1000', 'x', revs => true)->'_revisions' AS r) s;
SELECT docrep.set_revs_limit('dml_limit1000', 10);
UPDATE dml_limit1000 SET doc = '{"short": 1}';
SELECT jsonb_array_length(docrep.get('dml_limit1000', 'x', revs => true)->'_revisions'->'ids') AS revs;
UPDATE dml_limit1000 SET _id = 'y';
SELECT rev FROM dml_dead('dml_limit1000');
SELECT t.tbl, c.* FROM docrep.document_tables t, docrep.check(t.tbl) c WHERE t.tbl::text LIKE 'dml%';

DROP TABLE dml, dml1, dml2, dml_limit1, dml_limit5, dml_limit1000;
DROP FUNCTION dml_dead;
