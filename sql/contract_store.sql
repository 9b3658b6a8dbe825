-- corners of the interface that are easy to get wrong
SET client_min_messages = warning;
CREATE SCHEMA contract_store;
SET search_path = contract_store;
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT docrep.create_table('t');

-- a NULL that must be given is an error, and not a call that does nothing
SELECT attempt('SELECT docrep.create_table(NULL)'), attempt($$SELECT docrep.create_table('x', NULL)$$);
SELECT attempt('SELECT docrep.drop_table(NULL)'), attempt($$SELECT docrep.set_revs_limit('t', NULL)$$);
SELECT attempt('SELECT docrep.set_revs_limit(NULL, 1)'), attempt('SELECT docrep.reset_identity(NULL)'), attempt('SELECT docrep.retry_rejected(NULL)');

-- revs_limit 1: what is made again over a tombstone replaces it, although its tree does not say so
SELECT docrep.create_table('one', 1);
INSERT INTO one VALUES ('a', '{"n": 1}'), ('z', '{"n": 1}');
DELETE FROM one;
INSERT INTO one VALUES ('a', '{"n": 2}');
SELECT l->'ok'->>'_rev' LIKE '3-%' AS created_again, l->'ok'->'_deleted' AS deleted FROM jsonb_array_elements(docrep.get('one', 'a', open_revs => '"all"')) l;
UPDATE one SET _id = 'z' WHERE _id = 'a';
SELECT l->'ok'->>'_rev' LIKE '3-%' AS created_again, l->'ok'->'_deleted' AS deleted FROM jsonb_array_elements(docrep.get('one', 'z', open_revs => '"all"')) l;
SELECT count(*) FROM docrep.changes('one');
SELECT * FROM docrep.check('one');

-- bulk_get: what is wrong with one member is said of that one
INSERT INTO t VALUES ('a', '{}');
SELECT d->'id' AS id, d->'docs' AS docs FROM jsonb_array_elements(docrep.bulk_get('t', '[{"id": "a", "rev": "x"}, {"rev": "1-a"}, {}, {"id": "a"}]')->'results') d;

-- deleting a local document needs DELETE, in whatever words
CREATE ROLE contract_store_writer;
GRANT USAGE ON SCHEMA contract_store TO contract_store_writer;
GRANT SELECT, INSERT, UPDATE ON t TO contract_store_writer;
SET ROLE contract_store_writer;
SELECT docrep.put_local('t', 'l', '{"a": 1}');
SELECT attempt($$SELECT docrep.put_local('t', 'l', '{"_deleted": true}')$$), attempt($$SELECT docrep.delete_local('t', 'l')$$);
SELECT docrep.get_local('t', 'l');
RESET ROLE;
SELECT docrep.put_local('t', 'l', '{"_deleted": true}'), docrep.get_local('t', 'l');

-- many conflicts of one document cost in proportion
SELECT count(*) FROM docrep.bulk_docs('t', (SELECT jsonb_agg(jsonb_build_object('_id', 'c', '_rev', '1-' || md5(g::text), 'g', g)) FROM generate_series(1, 5000) g), false);
SET statement_timeout = '60s';
SELECT jsonb_array_length(docrep.get('t', 'c', conflicts => true)->'_conflicts');
SELECT count(DISTINCT l->'ok'->'g') FROM jsonb_array_elements(docrep.get('t', 'c', open_revs => '"all"')) l;
DELETE FROM t WHERE _id = 'c';
SELECT jsonb_array_length(docrep.get('t', 'c', conflicts => true)->'_conflicts');
SELECT jsonb_array_length(docrep.purge('t', (SELECT jsonb_build_object('c', jsonb_agg('1-' || md5(g::text))) FROM generate_series(1, 4000) g))->'purged'->'c');
SELECT * FROM docrep.check('t');
RESET statement_timeout;

DROP SCHEMA contract_store CASCADE;
DROP ROLE contract_store_writer;
