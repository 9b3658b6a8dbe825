-- Filters of the changes feed and of replication documents.  What selectors are
-- is the subject of another test.
SET client_min_messages = warning;
CREATE SCHEMA filters;
SET search_path = filters, public;

CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || SQLERRM || CASE WHEN detail = '' THEN '' ELSE ' (' || detail || ')' END;
END $$;

SELECT docrep.create_table('t');
INSERT INTO t (_id, doc) VALUES
	('orders/1', '{"type": "order", "n": 1}'), ('orders/2', '{"type": "order", "n": 2}'),
	('users-ann', '{"type": "user"}'), ('_design/app', '{"views": {}}'), ('gone', '{"type": "order", "n": 3}');
DELETE FROM t WHERE _id = 'gone';
-- a document whose winner is an order and whose other leaf is a user
SELECT docrep.bulk_docs('t', '[{"_id": "two", "_rev": "1-b", "type": "order"}, {"_id": "two", "_rev": "1-a", "type": "user"},
	{"_id": "owt", "_rev": "1-b", "type": "user"}, {"_id": "owt", "_rev": "1-a", "type": "order"}]', new_edits => false);

-- selector: the winner decides, and with all_docs every leaf for itself
SELECT id, changes FROM docrep.changes('t', selector => '{"type": "order"}') ORDER BY id;
SELECT id, jsonb_array_length(changes) AS n, changes->0->>'rev' IN ('1-a', '1-b') AS foreign_rev
	FROM docrep.changes('t', selector => '{"type": "order"}', style => 'all_docs') ORDER BY id;
SELECT changes FROM docrep.changes('t', selector => '{"type": "user"}', style => 'all_docs') WHERE id = 'two';
SELECT changes FROM docrep.changes('t', selector => '{"type": "order"}', style => 'all_docs') WHERE id = 'owt';
SELECT id FROM docrep.changes('t', selector => '{"_deleted": true}');
SELECT id, doc->>'n' AS n FROM docrep.changes('t', selector => '{"n": 2}', include_docs => true);
SELECT id FROM docrep.changes('t', selector => '{"type": "order"}', max_rows => 1, descending => true);
SELECT id FROM docrep.changes('t', filter => '_selector', selector => '{"n": 2}');
SELECT id FROM docrep.changes('t', filter => '_selector', query_params => '{"selector": {"n": 2}}');

-- built-in filters
SELECT id FROM docrep.changes('t', filter => '_design');
SELECT id FROM docrep.changes('t', filter => '_doc_ids', query_params => '{"doc_ids": ["two", "gone", "none", "two"]}') ORDER BY id;
SELECT id FROM docrep.changes('t', filter => '_doc_ids', query_params => '{"doc_ids": "[\"two\"]"}');

-- SQL functions
CREATE FUNCTION by_type(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
	$$SELECT coalesce(doc->>'type' = req->'query'->>'type', false)$$;
SELECT id FROM docrep.changes('t', filter => 'filters.by_type', query_params => '{"type": "user"}') ORDER BY id;
SELECT id FROM docrep.changes('t', filter => '"filters".by_type', query_params => '{"type": "user"}', style => 'all_docs') ORDER BY id;
SELECT count(*) FROM docrep.changes('t', filter => 'filters.by_type');
CREATE FUNCTION shows(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING '% %', doc - '_rev' || jsonb_build_object('rev', doc ? '_rev'), req;
	RETURN doc ? '_deleted';
END $$;
SELECT id FROM docrep.changes('t', filter => 'filters.shows', query_params => '{"a": [1]}');

-- how far was scanned, and what is left
SELECT docrep.changes_feed('t', filter => 'filters.by_type') = jsonb_build_object('results', '[]'::jsonb, 'pending', 0, 'last_seq', docrep.info('t')->'update_seq') AS scanned;
SELECT f->'pending' AS pending, f->'last_seq' = f->'results'->0->'seq' AS at_row FROM docrep.changes_feed('t', selector => '{"type": "user"}', max_rows => 1) f;

-- functions that are no good
CREATE FUNCTION raises(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RETURN 1 / coalesce((doc->>'n')::int, 1) > 0; END$$;
CREATE FUNCTION nothing(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT NULL::boolean$$;
CREATE FUNCTION number(doc jsonb, req jsonb) RETURNS int LANGUAGE sql AS $$SELECT 1$$;
CREATE FUNCTION many(doc jsonb, req jsonb) RETURNS SETOF boolean LANGUAGE sql AS $$SELECT true$$;
CREATE FUNCTION one_argument(doc jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
CREATE TABLE log (id text);
CREATE FUNCTION writes(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO log VALUES (doc->>'_id'); RETURN true; END$$;
CREATE FUNCTION sleeps(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_sleep(100); RETURN true; END$$;
INSERT INTO t (_id, doc) VALUES ('zero', '{"n": 0}');
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.raises')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.nothing')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.number')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.many')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.one_argument')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.writes')$$);
SELECT count(*) FROM log;
INSERT INTO log VALUES ('writing is possible again');
-- a cancel is not the filter's, wherever it comes
\set SHOW_CONTEXT never
SET statement_timeout = '200ms';
SELECT docrep.changes('t', filter => 'filters.sleeps');
RESET statement_timeout;
\set SHOW_CONTEXT errors
SELECT attempt($$SELECT docrep.changes('t', filter => 'no.such')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'by_type')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'a.b.c')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => 'app/by_type')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_view', query_params => '{"view": "app/v"}')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_nonsense')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_selector')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_doc_ids', query_params => '{"doc_ids": [1]}')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_design', selector => '{}')$$);
SELECT attempt($$SELECT docrep.changes('t', doc_ids => '{a}', selector => '{}')$$);
SELECT attempt($$SELECT docrep.changes('t', doc_ids => '{a}', filter => '_design')$$);
SELECT attempt($$SELECT docrep.changes('t', selector => '[]')$$);
SELECT attempt($$SELECT docrep.changes('t', filter => '_design', query_params => '1')$$);

-- as whom: privileges, row security
CREATE ROLE filters_joe;
GRANT USAGE ON SCHEMA filters TO filters_joe;
GRANT SELECT ON t TO filters_joe;
REVOKE EXECUTE ON FUNCTION by_type FROM PUBLIC;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY users_only ON t FOR SELECT TO filters_joe USING (doc->>'type' = 'user');
SET ROLE filters_joe;
SELECT attempt($$SELECT docrep.changes('t', filter => 'filters.by_type')$$);
SELECT id FROM docrep.changes('t', filter => 'filters.shows');
SELECT id FROM docrep.changes('t', selector => '{"type": "user"}') ORDER BY id;
SELECT id FROM docrep.changes('t', selector => '{"type": "order"}');
RESET ROLE;
ALTER TABLE t DISABLE ROW LEVEL SECURITY;

-- many ids, and few
SELECT docrep.create_table('many_docs');
INSERT INTO many_docs (_id, doc) SELECT 'd' || i, jsonb_build_object('i', i) FROM generate_series(1, 5000) i;
SELECT count(*), min(doc->>'i'), max((doc->>'i')::int) FROM docrep.changes('many_docs', include_docs => true,
	doc_ids => (SELECT array_agg('d' || i) FROM generate_series(4001, 9000) i));
SELECT count(*) FROM docrep.changes('many_docs', filter => '_doc_ids',
	query_params => (SELECT jsonb_build_object('doc_ids', jsonb_agg('d' || i)) FROM generate_series(1, 3000) i));

-- replication documents
SELECT docrep.create_table('u');
CREATE FUNCTION refused(fields text) RETURNS text LANGUAGE sql AS $$
	SELECT attempt(format('SELECT docrep.replicate(%L::jsonb || %L)', '{"source": "t", "target": "u"}', fields)) $$;
SELECT f, refused(f) FROM unnest(ARRAY[
	'{"filter": "app/f"}', '{"filter": "_view"}', '{"filter": "_view", "query_params": {"view": "app/v"}}', '{"filter": "_none"}',
	'{"filter": "no.such"}', '{"filter": "plain"}', '{"filter": 1}', '{"selector": "x"}', '{"selector": {"$nonsense": 1}}',
	'{"doc_ids": ["a"], "filter": "_design"}', '{"doc_ids": ["a"], "selector": {}}', '{"selector": {}, "filter": "_design"}',
	'{"query_params": {"a": 1}}', '{"paths": "a"}', '{"paths": [1]}', '{"paths": ["a*"]}', '{"paths": ["*"]}', '{"paths": [""]}',
	'{"prevent_deletions": "yes"}', '{"source": "http://127.0.0.1:1/db", "filter": "filters.by_type"}',
	'{"source": "http://127.0.0.1:1/db", "filter": "a/b", "query_params": {"since": 5}}',
	'{"filter": "a/b/c"}', '{"filter": "/b"}', '{"filter": "a/"}', '{"filter": "_view", "query_params": {"view": "a"}}']) f;

DROP OWNED BY filters_joe;
DROP ROLE filters_joe;
SELECT docrep.drop_table('t'), docrep.drop_table('u'), docrep.drop_table('many_docs');
DROP SCHEMA filters CASCADE;
