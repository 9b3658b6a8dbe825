-- Mango selectors: each operator with its edges, malformed ones, docrep.find
SET client_min_messages = warning;
CREATE SCHEMA selector;
SET search_path = selector;

CREATE FUNCTION attempt(doc jsonb, selector jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN docrep.matches(doc, selector)::text;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- Which of some values, each as the member "v" of a document, match a condition on it?
CREATE TABLE vals (n int GENERATED ALWAYS AS IDENTITY, v jsonb);
INSERT INTO vals (v) VALUES ('null'), ('false'), ('true'), ('-1'), ('0'), ('1'), ('1.5'), ('2.0'), ('""'), ('"a"'), ('"A"'), ('"b"'), ('"ab"'),
	('[]'), ('[1]'), ('[1, 2]'), ('[[1]]'), ('["a", null]'), ('[{"x": 1}]'), ('{}'), ('{"x": 1}'), ('{"x": {"y": 1}}');
CREATE FUNCTION matching(condition jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(v::text, ' ' ORDER BY n) FILTER (WHERE docrep.matches(jsonb_build_object('v', v), jsonb_build_object('v', condition))), '')
		|| CASE WHEN docrep.matches('{}', jsonb_build_object('v', condition)) THEN ' missing' ELSE '' END FROM vals
$$;

SELECT c, matching(c) FROM unnest(ARRAY[
	-- order across types, ICU's order of strings
	'{"$lt": null}', '{"$lte": null}', '{"$gt": null}', '{"$lt": true}', '{"$gte": true}', '{"$lt": 1}', '{"$lte": 1}', '{"$gt": 1}', '{"$gte": 2}',
	'{"$lt": ""}', '{"$lt": "A"}', '{"$lte": "a"}', '{"$gt": "a"}', '{"$gt": "b"}', '{"$lt": []}', '{"$gt": [1]}', '{"$lt": [1, 2]}', '{"$gte": {}}', '{"$gt": {"x": 1}}',
	-- equality
	'1', 'null', '"a"', '[1]', '{"$eq": [1]}', '{"$eq": 2}', '{"$eq": {"x": 1}}', '{"x": 1}', '{}', '{"$ne": 1}', '{"$ne": {"x": 1}}', '{"$ne": null}',
	-- sets
	'{"$in": []}', '{"$in": [1, "a", null]}', '{"$in": [[1]]}', '{"$in": [2.00]}', '{"$in": [{"x": 1}]}', '{"$nin": []}', '{"$nin": [1, "a", null]}', '{"$nin": [[1]]}',
	-- presence and types
	'{"$exists": true}', '{"$exists": false}', '{"$type": "null"}', '{"$type": "boolean"}', '{"$type": "number"}', '{"$type": "string"}',
	'{"$type": "array"}', '{"$type": "object"}', '{"$type": "date"}',
	-- arrays
	'{"$size": 0}', '{"$size": 2}', '{"$size": 2.0}', '{"$size": 99999999999999999999}', '{"$all": []}', '{"$all": [1]}', '{"$all": [1, 2]}', '{"$all": [[1]]}', '{"$all": [[1], 1]}', '{"$all": [null, "a"]}',
	'{"$elemMatch": {"$eq": 1}}', '{"$elemMatch": {"x": 1}}', '{"$elemMatch": {"$gt": 1, "$lt": 3}}', '{"$elemMatch": {}}', '{"$allMatch": {"$lte": 1}}', '{"$allMatch": {"x": 1}}',
	'{"$elemMatch": {"$elemMatch": {"$eq": 1}}}', '{"$elemMatch": {"$not": {"$eq": 1}}}', '{"$elemMatch": {"y": {"$exists": false}}}',
	'{"$keyMapMatch": {"$eq": "x"}}', '{"$keyMapMatch": {"$gt": "a"}}', '{"$keyMapMatch": {"$regex": "y"}}',
	-- strings
	'{"$regex": "^a"}', '{"$regex": "(?i)^a"}', '{"$regex": "^$"}', '{"$regex": "\\bb"}', '{"$beginsWith": "a"}', '{"$beginsWith": ""}',
	-- arithmetic
	'{"$mod": [2, 0]}', '{"$mod": [2, 1]}', '{"$mod": [2, -1]}', '{"$mod": [-2, 1]}', '{"$mod": [100000000000000000000, 1]}',
	-- combinations
	'{"$and": []}', '{"$or": []}', '{"$nor": []}', '{"$and": [1, 1]}', '{"$and": [{"$gt": 0}, {"$lt": 2}]}', '{"$or": [{"$gt": {}}, null]}', '{"$gt": 0, "$lt": 2}',
	'{"$nor": [{"$gt": 0}, null]}',
	-- negation is of the operator, and the field must be there
	'{"$not": {"$eq": 1}}', '{"$not": {"$gt": 1}}', '{"$not": {"$lte": 1}}', '{"$not": {"$in": [1]}}', '{"$not": {"$nin": [1]}}', '{"$not": {"$exists": true}}', '{"$not": {"$exists": false}}',
	'{"$not": {"$type": "number"}}', '{"$not": {"$regex": "a"}}', '{"$not": {"$not": {"$eq": 1}}}', '{"$not": {"$and": [{"$gt": 0}, {"$lt": 2}]}}', '{"$not": {"$or": []}}',
	'{"$not": {"$elemMatch": {"$eq": 1}}}', '{"$not": {"$elemMatch": {"$not": {"$eq": 1}}}}', '{"$not": {"$elemMatch": {"$nor": [{"$eq": 1}]}}}', '{"$not": {"$elemMatch": {"x": {"$not": {"$eq": 1}}}}}',
	'{"$not": {"$all": [1]}}', '{"$not": {"$mod": [2, 1]}}', '{"$not": {"$size": 1}}', '{"$not": {"$beginsWith": "a"}}'
	]::jsonb[]) WITH ORDINALITY AS u (c, n) ORDER BY n;

-- paths: nested, indexes, escaped dots; where one ends, $exists false does not hold unless it is a member that lacks
CREATE TABLE docs (n int GENERATED ALWAYS AS IDENTITY, doc jsonb);
INSERT INTO docs (doc) VALUES ('{"a": {"b": {"c": 1}}}'), ('{"a.b": {"c": 1}}'), ('{"a": {"b.c": 1}}'), ('{"a": [{"b": 1}, 5, [7]]}'), ('{"a": {"0": {"b": 1}}}'),
	('{"$x": 1, "a\\": 1, "": 1}'), ('{"a": 1}'), ('{}'), ('{"_x": 1, "_id": "i", "_rev": "1-a"}');
SELECT s, string_agg(n::text, ' ' ORDER BY n) FILTER (WHERE docrep.matches(doc, s)) AS "documents" FROM docs,
	unnest(ARRAY['{"a.b.c": 1}', '{"a": {"b": {"c": 1}}}', '{"a.b": {"c": 1}}', '{"a": {"b.c": 1}}', '{"a\\.b.c": 1}', '{"a\\.b": {"c": 1}}', '{"a.b\\.c": 1}', '{"a": {"b\\.c": 1}}',
	'{"a\\.b": {"$eq": {"c": 1}}}', '{"a.0.b": 1}', '{"a.00.b": 1}', '{"a.+0.b": 1}', '{"a.-0.b": 1}', '{"a.1": 5}', '{"a.2.0": 7}', '{"a.-1": 5}', '{"a.9": {"$exists": false}}',
	'{"\\$x": 1}', '{"a\\\\": 1}', '{"\\": 1}', '{"a": {"$exists": false}}', '{"a.b": {"$exists": false}}', '{"a.b.c": {"$exists": false}}', '{"a": {"$not": {"b": {"c": 2}}}}', '{"$not": {"a": {"b": {"c": 2}}}}',
	'{"_x": 1}', '{"_id": "i"}', '{"_id": {"$gt": null}}', '{"_rev": {"$regex": "^1-"}}', '{"_deleted": {"$exists": false}}', '{"$and": [{}]}', '{"$and": [{"$type": "object"}]}', '{"$or": [{"$keyMapMatch": {"$eq": "_id"}}, {"a": 1}]}',
	'{"a.b.c.d": 1}', '{"a": {"$elemMatch": {"b": 1}}, "x": {"$exists": false}}']::jsonb[]) WITH ORDINALITY AS u (s, m)
	GROUP BY s, m ORDER BY m;

-- numbers beyond double are exact
SELECT docrep.matches('{"n": 9007199254740993}', '{"n": 9007199254740992}') AS eq,
	docrep.matches('{"n": 9007199254740993}', '{"n": {"$gt": 9007199254740992}}') AS gt,
	docrep.matches('{"n": 1e400}', '{"n": {"$gt": 1e399}}') AS beyond,
	docrep.matches('{"n": 0.1}', '{"n": 0.1000000000000000000000000001}') AS fraction,
	docrep.matches('{"n": 100000000000000000000000000000000000001}', '{"n": {"$mod": [100, 1]}}') AS mod,
	docrep.matches('{"n": 1.10}', '{"n": {"$in": [3, 1.1, "x"]}}') AS "in",
	docrep.matches('{"n": [1.10]}', '{"n": {"$all": [1.1]}}') AS "all";

-- strings: ICU's order, equality by bytes; _id by bytes
SELECT docrep.matches('{"s": "é"}', '{"s": {"$gt": "e", "$lt": "f"}}') AS accent, docrep.matches('{"s": "B"}', '{"s": {"$gt": "a"}}') AS "case",
	docrep.matches('{"_id": "B"}', '{"_id": {"$gt": "a"}}') AS id_case, docrep.matches('{"x": {"_id": "B"}}', '{"x._id": {"$gt": "a"}}') AS nested_id,
	docrep.matches(jsonb_build_object('s', U&'e\0301'), jsonb_build_object('s', U&'\00e9')) AS composed,
	docrep.matches('{"_id": "a"}', '{"_id": {"$gt": []}}') AS id_array, docrep.matches('{"s": "a"}', '{"s": {"$gt": []}}') AS array,
	docrep.matches('{"_id": "a"}', '{"_id": {"$in": ["b", "a", 1]}}') AS id_in;
-- $regex is of bytes, as in CouchDB
SELECT docrep.matches('{"s": "é"}', '{"s": {"$regex": "^.$"}}') AS one, docrep.matches('{"s": "é"}', '{"s": {"$regex": "^..$"}}') AS two,
	docrep.matches('{"s": "a\n"}', '{"s": {"$regex": "^a$"}}') AS line, docrep.matches('{"s": "x1"}', '{"s": {"$regex": "\\d(?<=x1)"}}') AS behind;
-- catastrophic backtracking ends, as no match
SELECT docrep.matches(jsonb_build_object('s', repeat('a', 60) || '!'), '{"s": {"$regex": "^(a+)+$"}}') AS catastrophe;

-- malformed: DR400, naming operator and path
SELECT s, attempt('{"a": 1}', s) FROM unnest(ARRAY['[]', '1', 'null', '"a"', '{"$gt": 1}', '{"$foo": 1}', '{"a": {"$foo": 1}}', '{"a.b": {"c": {"$foo": 1}}}', '{"$and": 1}', '{"$or": {}}',
	'{"a": {"$nor": 1}}', '{"$not": []}', '{"a": {"$not": 1}}', '{"a": {"$in": 1}}', '{"a": {"$nin": {}}}', '{"a": {"$exists": 1}}', '{"a": {"$type": 1}}', '{"a": {"$size": -1}}', '{"a": {"$size": 1.5}}',
	'{"a": {"$size": "1"}}', '{"a": {"$mod": 1}}', '{"a": {"$mod": [1]}}', '{"a": {"$mod": [1, 2, 3]}}', '{"a": {"$mod": [1.5, 0]}}', '{"a": {"$mod": [2, "0"]}}', '{"a": {"$mod": [0, 0]}}',
	'{"a": {"$regex": 1}}', '{"a": {"$regex": "("}}', '{"b": {"a": {"$regex": "a{2,1}"}}}', '{"a": {"$beginsWith": 1}}', '{"a": {"$all": 1}}', '{"a": {"$elemMatch": 1}}', '{"a": {"$allMatch": []}}',
	'{"a": {"$keyMapMatch": "x"}}', '{"a": {"$elemMatch": {"b": {"$in": 1}}}}', '{"a": {"$elemMatch": {"$allMatch": {"b": {"$foo": 1}}}}}', '{"": 1}', '{"a": {"": 1}}', '{"a..b": 1}', '{".a": 1}', '{"a.": 1}', '{"$text": "x"}', '{"$where": "x"}', '{"a": {"$default": 1}}',
	'{"a": [1, {"$foo": 1}]}', '{"a": {"$eq": {"$foo": 1}}}', '{"a": 1, "$elemMatch": {}}']::jsonb[]) WITH ORDINALITY AS u (s, n) ORDER BY n;
SELECT attempt('{}', (repeat('{"a":', 300) || '1' || repeat('}', 300))::jsonb) AS deep, attempt('{}', (repeat('{"$not":', 300) || '{"a":1}' || repeat('}', 300))::jsonb) AS deep_not,
	attempt('{}', ('{"a":' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb) AS deep_value, attempt((repeat('{"a":', 3000) || '1' || repeat('}', 3000))::jsonb, '{"a.a.a": {"$gt": {"a": 1}}}') AS deep_document;
SELECT attempt('[]', '{}'), attempt('1', '{"a": 1}');
SELECT docrep.matches(NULL, '{}') IS NULL AND docrep.matches('{}', NULL) IS NULL AS strict;

-- a selector that changes from call to call, in one expression
DO $$
DECLARE
	s jsonb;
	doc jsonb := '{"a": 1}';
	results text := '';
BEGIN
	FOR i IN 1 .. 3 LOOP
		s := jsonb_build_object('a', i % 2);
		results := results || docrep.matches(doc, s) || ' ';
	END LOOP;
	RAISE WARNING '%', results;
END $$;

-- ---------- find ----------
SELECT docrep.create_table('t');
INSERT INTO t (_id, doc) SELECT 'd' || g, jsonb_build_object('n', g, 's', 'x' || g % 100, 'o', jsonb_build_object('p', g % 7), 'tags', jsonb_build_array('t' || g % 50, g % 3)) FROM generate_series(1, 5000) g;
INSERT INTO t (_id, doc) VALUES ('a%b_c', '{"n": "text", "s": "Ä", "l": [{"k": "v", "w": [1, 2]}, {"k": "u"}]}'), ('a.b', '{"n": null, "s": "z"}'), ('e''s\"', '{"n": [1], "it''s \\": 1}'), ('none', '{}');
CREATE INDEX t_doc ON t USING gin (doc jsonb_path_ops);
CREATE INDEX t_n ON t ((doc -> 'n'));
VACUUM ANALYZE t;

-- the plan of a selector, without what does not matter
CREATE FUNCTION plan_of(s jsonb) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || docrep.find_query('t', s) LOOP
		IF line ~ '(Scan|Cond)' THEN
			RETURN NEXT line;
		END IF;
	END LOOP;
END $$;
SELECT plan_of('{"s": "x5", "o": {"p": 3}}');
SELECT plan_of('{"_id": "d17"}');
SELECT plan_of('{"_id": {"$in": ["d17", "d18", 1]}, "n": {"$gt": 1}}');
SELECT plan_of('{"_id": {"$gte": "d17", "$lt": "d18"}}');
SELECT plan_of('{"_id": {"$beginsWith": "a%b_"}}');
SELECT plan_of('{"n": {"$gte": 10, "$lt": 20}}');
SELECT plan_of('{"$or": [{"s": "Ä"}, {"tags": {"$in": ["t7"]}, "n": {"$lt": 100}}]}');
SELECT plan_of('{"l": {"$elemMatch": {"k": "v", "w": {"$all": [1]}}}}');
SELECT plan_of('{"s": {"$ne": "x5"}}');

-- what a statement asks of the documents, it asks of those that match
SELECT docrep.create_table('mixed');
INSERT INTO mixed (_id, doc) VALUES ('a', '{"v": 7}'), ('b', '{"v": "abc"}');
SELECT f ->> '_id' AS id FROM docrep.find('mixed', '{"v": {"$type": "number"}}') f WHERE (f ->> 'v')::int > 5;
DROP TABLE mixed;
-- EXPLAIN of a statement that calls find shows the same, where the arguments are constants
CREATE FUNCTION plan_with(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
		IF line ~ '(Function Scan|Index Cond)' THEN
			RETURN NEXT trim(line);
		END IF;
	END LOOP;
END $$;
SELECT plan_with($$SELECT * FROM docrep.find('t', '{"s": "x5"}')$$);
SELECT plan_with($$SELECT f -> 'n' FROM docrep.find(selector => '{"n": {"$gte": 10, "$lt": 20}}', tbl => 't', max_rows => 3) f WHERE f -> 's' > '"x12"' LIMIT 1$$);
SELECT plan_with($$SELECT (SELECT count(*) FROM docrep.find('t', '{"_id": {"$beginsWith": "d1"}}')), (WITH a AS (SELECT FROM docrep.find('t', '{"_id": "d1"}')) SELECT count(*) FROM a)$$);
SELECT plan_with($$SELECT * FROM (VALUES ('x5')) v(s), docrep.find('t', jsonb_build_object('s', v.s))$$);
SELECT plan_with($$SELECT * FROM docrep.find('t', '{"s": "x5"}') WITH ORDINALITY$$);
SELECT f -> 'n' FROM docrep.find(selector => '{"n": {"$gte": 10, "$lt": 20}}', tbl => 't', max_rows => 3) f WHERE f -> 's' > '"x10"' LIMIT 1;
SELECT count(f), count(*) FROM docrep.find('t', '{"n": {"$lt": 10}}') f, docrep.find('t', '{"_id": {"$in": ["d1", "d2"]}}');
SELECT f.f -> 'n', f.ordinality FROM docrep.find('t', '{"n": {"$gte": 10, "$lt": 12}}') WITH ORDINALITY f;
BEGIN;
WITH u AS (UPDATE t SET doc = doc || '{"u": 1}' FROM docrep.find('t', '{"n": {"$in": [3, 4]}}') f WHERE f ->> '_id' = t._id RETURNING t._id, f -> 'n')
SELECT * FROM u ORDER BY _id;
ROLLBACK;
-- operators and functions are those of find, whatever the search_path
CREATE FUNCTION hostile(jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$;
CREATE OPERATOR selector.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = hostile);
SET search_path = selector, pg_catalog;
SELECT count(*) FROM docrep.find('t', '{"s": "x5"}');
SET search_path = selector;
DROP FUNCTION hostile CASCADE;

-- with and without the conditions for indexes the same is found
CREATE TABLE selectors (s jsonb);
INSERT INTO selectors VALUES ('{}'), ('{"s": "x5", "o": {"p": 3}}'), ('{"_id": "d17"}'), ('{"_id": {"$in": ["d17", "d18", 1]}}'), ('{"_id": {"$in": [1]}}'), ('{"\\_id": {"$gt": "D4990", "$lt": "d4999"}}'), ('{"_id": {"$beginsWith": "a%b_"}}'), ('{"_id": {"$beginsWith": "d1"}}'),
	('{"_id": {"$gt": "d17", "$lte": "d20"}}'), ('{"_id": {"$gt": 5}}'), ('{"_id": {"$lt": []}, "n": {"$lt": 2}}'), ('{"_id": {"$gte": "B", "$lt": "d10"}}'),  ('{"_id": {"$lt": 5}}'), ('{"_id": "e''s\\\""}'), ('{"it''s \\\\": 1}'), ('{"n": {"$gte": 10, "$lt": 20}}'), ('{"n": {"$gt": 4990}}'), ('{"n": {"$lt": 3}}'),
	('{"n": [1]}'), ('{"n": {"$in": [1, 2]}}'), ('{"n": {"$in": []}}'), ('{"n.0": 1}'), ('{"tags.1": 2, "n": {"$lt": 30, "$gt": 3}}'), ('{"tags": {"$all": ["t7", 1]}}'), ('{"tags": {"$all": [["t7", 1]]}}'), ('{"tags": {"$all": []}}'),
	('{"tags": {"$elemMatch": {"$in": ["t7", "t9"]}}}'), ('{"tags": {"$elemMatch": {"$eq": "t7"}}}'), ('{"l": {"$elemMatch": {"k": "v", "w": {"$all": [1]}}}}'), ('{"l": {"$elemMatch": {"$or": [{"k": "u"}, {"k": {"$gt": "u"}}]}}}'),
	('{"$or": [{"s": "Ä"}, {"tags": {"$in": ["t7"]}, "n": {"$lt": 100}}]}'), ('{"$nor": [{"s": {"$ne": "x5"}}, {"n": {"$gt": 2000}}]}'), ('{"$or": []}'), ('{"$and": []}'), ('{"$not": {"n": {"$type": "number"}}}'), ('{"_rev": {"$beginsWith": "1-"}, "n": 7}'),
	('{"_deleted": true}'), ('{"$and": [{"$keyMapMatch": {"$eq": "_rev"}}, {"n": 8}]}'), ('{"n": null}'), ('{"s": {"$eq": null}}'), ('{"$or": [{"n": {"$gte": 1, "$lte": 3}}, {"_id": "none"}]}');
CREATE FUNCTION found_by(s jsonb) RETURNS text LANGUAGE sql AS $$ SELECT count(*) || ' ' || coalesce(left(string_agg(f ->> '_id', ',' ORDER BY f ->> '_id' COLLATE "C"), 30), '') FROM docrep.find('t', s) f $$;
SELECT s, found_by(s) FROM selectors;
SELECT s FROM selectors WHERE ARRAY(SELECT f ->> '_id' FROM docrep.find('t', s) f) IS DISTINCT FROM
	ARRAY(SELECT _id FROM t WHERE docrep.matches(doc || jsonb_build_object('_id', _id, '_rev', _rev::text), s) ORDER BY _id);

-- fields, sort, limits
SELECT docrep.find('t', '{"n": {"$in": [3, 4]}}') - '_rev' AS "whole";
SELECT docrep.find('t', '{"n": 3}', fields => '{_id,o.p,tags.1,missing,o.q,s}');
SELECT docrep.find('t', '{"n": 3}', fields => '{o,o.p}'), docrep.find('t', '{"n": 3}', fields => '{}') - '_rev' AS "all", docrep.find('t', '{"n": 3}', fields => '{_rev}') ->> '_rev' ~ '^1-' AS rev;
SELECT docrep.find('t', '{"_id": {"$regex": "^[^d]"}}', fields => '{_id,n}', sort => '["n"]');
SELECT docrep.find('t', '{"n": {"$gt": 4997}}', fields => '{_id,n}', sort => '[{"n": "desc"}]');
SELECT docrep.find('t', '{"n": {"$type": "number"}}', fields => '{n}', sort => '[{"o.p": "asc"}, {"_id": "desc"}]', max_rows => 2, skip => 1);
SELECT docrep.find('t', '{}', fields => '{s}', sort => '[{"s": "desc"}]', max_rows => 3);
SELECT docrep.find('t', '{}', fields => '{_id}', max_rows => 2);
SELECT count(*) FROM docrep.find('t', '{}', max_rows => 0);
SELECT count(*) FROM docrep.find('t', NULL);
CREATE FUNCTION attempt_find(arguments text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT count(*) FROM docrep.find(' || arguments || ')';
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT a, attempt_find(a) FROM unnest(ARRAY[$$'t', '[]'$$, $$'t', '{"a": {"$in": 1}}'$$, $$'t', '{}', sort => '{}'$$, $$'t', '{}', sort => '[1]'$$, $$'t', '{}', sort => '[{"a": "up"}]'$$, $$'t', '{}', sort => '[{"a": "asc", "b": "asc"}]'$$,
	$$'t', '{}', sort => '["a..b"]'$$, $$'t', '{}', sort => '["_rev"]'$$, $$'t', '{}', sort => '[""]'$$, $$'t', '{}', fields => '{a..b}'$$, $$'t', '{}', fields => '{NULL}'$$, $$'t', '{}', max_rows => -1$$, $$'t', '{}', skip => -1$$,
	$$'vals', '{}'$$, $$'nowhere', '{}'$$]) WITH ORDINALITY AS u (a, n) ORDER BY n;

-- selectors that mean the same are the same replication: the second goes on where the first was
SELECT docrep.create_table('source');
SELECT docrep.create_table('target');
INSERT INTO source (_id, doc) SELECT 'd' || g, jsonb_build_object('n', g) FROM generate_series(1, 10) g;
CREATE FUNCTION run(s jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN r ? 'no_changes' THEN 'goes on' ELSE 'begins' END
	FROM docrep.replicate('source', 'target', jsonb_build_object('selector', s)) r $$;
SELECT run('{"n": {"$gt": 3, "$lt": 8.0}, "x": {"$exists": false}}');
SELECT run('{"$and": [{"x": {"$not": {"$exists": true}}}, {"n": {"$lt": 8}}, {"n": {"$not": {"$lte": 3.00}}}]}');
SELECT run('{"$nor": [{"x": {"$exists": true}}, {"n": {"$lte": 3}}, {"n": {"$gte": 8}}]}');
SELECT run('{"n": {"$gt": 2, "$lt": 8}, "x": {"$exists": false}}');
SELECT run('{"n": {"$in": [9, 10, 9]}}');
SELECT run('{"n": {"$in": [10.0, 9]}}');
SELECT run('{"n": {"$nin": [9, 10]}}');

-- attachments are shown as stubs
SELECT docrep.put_attachment('t', 'none', 'a.txt', 'text/plain', 'hello', docrep.get('t', 'none') ->> '_rev') IS NOT NULL AS put;
SELECT docrep.find('t', '{"_id": "none"}') - '_rev';

-- ... which selectors see as stubs, like CouchDB's, also in feeds; of losing leaves their own
SELECT count(*) AS refused FROM docrep.bulk_docs('t', '[
	{"_id": "two", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "_attachments": {"b": {"content_type": "image/png", "data": "AAAA", "revpos": 2}}},
	{"_id": "two", "_rev": "2-a", "_revisions": {"start": 2, "ids": ["a", "a"]}, "_attachments": {"a.txt": {"content_type": "text/plain", "data": "AAAA", "revpos": 2}}}]', false);
CREATE TEMP TABLE about_atts (s jsonb);
INSERT INTO about_atts VALUES ('{"_attachments": {"$exists": true}}'), ('{"_attachments": {"a\\.txt": {"content_type": "text/plain"}}}'), ('{"_attachments.b.length": {"$gt": 2}}'),
	('{"_attachments": {"$keyMapMatch": {"$eq": "b"}}}'), ('{"_attachments.b.stub": true, "_attachments.b.revpos": 2}'), ('{"$and": [{"$keyMapMatch": {"$eq": "_attachments"}}, {"_attachments.a\\.txt.digest": {"$regex": "^md5-"}}]}'),
	('{"_attachments": {"$not": {"$size": 0}}, "_id": "two"}'), ('{"_attachments.b.data": {"$exists": true}}'), ('{"_revisions": {"$exists": true}}');
SELECT s, ARRAY(SELECT f ->> '_id' FROM docrep.find('t', s) f) AS found,
	ARRAY(SELECT c.id FROM docrep.changes('t', selector => s) c ORDER BY 1) AS winners,
	ARRAY(SELECT c.id || ' ' || c.changes::text FROM docrep.changes('t', selector => s, style => 'all_docs') c WHERE c.id = 'two') AS leaves
	FROM about_atts ORDER BY s::text COLLATE "C";

-- privileges and row security are those of the caller
CREATE ROLE selector_user;
GRANT USAGE ON SCHEMA selector TO selector_user;
SET ROLE selector_user;
SELECT attempt_find($$'t', '{}'$$);
RESET ROLE;
GRANT SELECT ON t TO selector_user;
CREATE POLICY two ON t FOR SELECT TO selector_user USING (_id IN ('d1', 'd2'));
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
SET ROLE selector_user;
SELECT docrep.find('t', '{}', fields => '{_id}');
-- a plan that is kept is good for the role that it was made for
PREPARE two AS SELECT count(*) FROM docrep.find('t', '{"_id": {"$in": ["d1", "d2", "d3"]}}');
EXECUTE two;
RESET ROLE;
EXECUTE two;
SET ROLE selector_user;
EXECUTE two;
RESET ROLE;
REVOKE SELECT ON t FROM selector_user;
SET ROLE selector_user;
EXECUTE two;
RESET ROLE;
GRANT SELECT ON t TO selector_user;
BEGIN;
REVOKE EXECUTE ON FUNCTION docrep.find FROM PUBLIC;
SET ROLE selector_user;
SELECT attempt_find($$'t', '{}'$$);
RESET ROLE;
ROLLBACK;
DROP SCHEMA selector CASCADE;
DROP ROLE selector_user;
