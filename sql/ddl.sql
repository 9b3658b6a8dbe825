-- making, changing and dropping document tables, and the extension
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- all that docrep keeps for tables
CREATE FUNCTION ddl_kept(OUT companions bigint, OUT local_docs bigint, OUT epochs bigint, OUT settings bigint, OUT rejected bigint) LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'docrep_data'::regnamespace),
		(SELECT count(*) FROM docrep.local_docs), (SELECT count(*) FROM docrep.epochs),
		(SELECT count(*) FROM docrep.table_settings), (SELECT count(*) FROM docrep.rejected);
$$;
SELECT * FROM ddl_kept();

-- names
CREATE SCHEMA ddl;
CREATE SCHEMA "Ddl 2";
SELECT docrep.create_table('ddl_plain'), docrep.create_table('ddl.qualified'), docrep.create_table('"Ddl 2"."Or""ders"'),
	docrep.create_table('DDL_Folded'), docrep.create_table(' ddl . spaced '), docrep.create_table('ddl."select"', 7), docrep.create_table('ddl.größe');
SELECT tbl FROM docrep.document_tables ORDER BY tbl::text COLLATE "C";
INSERT INTO "Ddl 2"."Or""ders" VALUES ('a', '{}') RETURNING docrep.rev_generation(_rev) AS generation;
SELECT docrep.put('ddl."select"', '{"_id": "x"}') IS NOT NULL AS put;
CREATE FUNCTION ddl_bad(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN docrep.create_table(name);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE VIEW ddl.a_view AS SELECT 1 AS one;
SELECT n, ddl_bad(n) FROM unnest(ARRAY['ddl_plain', 'ddl.qualified', 'ddl.a_view', '', ' ', '.', 'a.', '"a', 'a b', 'nowhere.t', 'a.b.c', 'a.b.c.d',
	'pg_temp.t', 'pg_catalog.t', 'ddl."select"']) WITH ORDINALITY u(n, i) ORDER BY i;
SELECT docrep.create_table('ddl.limit0', 0);
SELECT to_regclass('ddl.limit0');
SELECT docrep.create_table(NULL);
-- a name that is too long is cut, as by CREATE TABLE
SELECT docrep.create_table('ddl.' || repeat('n', 70)) AS name;
SELECT ddl_bad('ddl.' || repeat('n', 70));
-- what is no document table
CREATE TABLE ddl.bare (_id text PRIMARY KEY, doc jsonb);
SELECT docrep.drop_table('ddl.bare');
SELECT docrep.get('ddl.bare', 'x');
SELECT docrep.info('ddl.a_view');
SELECT docrep.put('nowhere', '{}');
SELECT docrep.get(0::regclass, 'x');
-- a trigger of ours elsewhere
CREATE TRIGGER mine BEFORE INSERT ON ddl.bare FOR EACH ROW EXECUTE FUNCTION docrep.track_change('x');
INSERT INTO ddl.bare VALUES ('x', '{}');
DROP TRIGGER mine ON ddl.bare;
-- partitions and children of a document table are not document tables
CREATE TABLE ddl.child () INHERITS (ddl.qualified);
SELECT docrep.info('ddl.child');
DROP TABLE ddl.child;
-- what a crash empties is refused
ALTER TABLE ddl.qualified SET UNLOGGED;
SELECT relpersistence FROM pg_class WHERE oid = 'ddl.qualified'::regclass;

-- dropping leaves nothing, either way
DROP SCHEMA ddl CASCADE;
SELECT docrep.drop_table('"Ddl 2"."Or""ders"');
DROP TABLE ddl_plain, ddl_folded;
DROP SCHEMA "Ddl 2";
SELECT * FROM ddl_kept();
SELECT docrep.create_table('ddl_a', 5), docrep.create_table('ddl_b');
ALTER TABLE ddl_b ADD CHECK (doc <> '{}');
INSERT INTO ddl_a VALUES ('good', '{"n": 1}'), ('bad', '{}'), ('gone', '{}');
DELETE FROM ddl_a WHERE _id = 'gone';
SELECT docrep.put_local('ddl_a', 'mine', '{}');
SELECT r->'doc_write_failures' AS failures FROM docrep.replicate('ddl_a', 'ddl_b') r;
SELECT companions, local_docs > 1 AS local_docs, epochs > 0 AS epochs, settings, rejected FROM ddl_kept();
BEGIN;
SELECT docrep.drop_table('ddl_b');
DROP TABLE ddl_a;
SELECT * FROM ddl_kept();
ROLLBACK;
SELECT companions, local_docs > 1 AS local_docs, epochs > 0 AS epochs, settings, rejected FROM ddl_kept();
SELECT * FROM docrep.check('ddl_a') UNION ALL SELECT * FROM docrep.check('ddl_b');
-- a view holds on to it: as DROP TABLE
CREATE VIEW ddl_view AS SELECT _id FROM ddl_b;
SELECT docrep.drop_table('ddl_b');
DROP VIEW ddl_view;
-- a table of the same name knows nothing of the one before
DROP TABLE ddl_b;
SELECT docrep.create_table('ddl_b');
SELECT count(*) FROM docrep.changes('ddl_b');
SELECT count(*) FROM docrep.rejected_docs;
SELECT r->'docs_written' AS written FROM docrep.replicate('ddl_a', 'ddl_b') r;

-- RENAME and SET SCHEMA: the table stays itself, checkpoints too
ALTER TABLE ddl_a RENAME TO ddl_renamed;
CREATE SCHEMA ddl;
ALTER TABLE ddl_b SET SCHEMA ddl;
INSERT INTO ddl_renamed VALUES ('gone', '{"back": 1}') RETURNING docrep.rev_generation(_rev) AS generation;
SELECT r->'docs_read' AS read, r->'docs_written' AS written FROM docrep.replicate('ddl_renamed', 'ddl.ddl_b') r;
ALTER SCHEMA ddl RENAME TO ddl2;
UPDATE ddl_renamed SET doc = doc || '{"v": 2}';
SELECT r->'docs_read' AS read, r->'docs_written' AS written FROM docrep.replicate('ddl_renamed', 'ddl2.ddl_b') r;
SELECT _id, doc, docrep.rev_generation(_rev) AS generation FROM ddl2.ddl_b ORDER BY _id;
SELECT docrep.get_local('ddl_renamed', 'mine');
SELECT * FROM docrep.check('ddl_renamed') UNION ALL SELECT * FROM docrep.check('ddl2.ddl_b');

-- columns come and go, ours cannot be spared
ALTER TABLE ddl_renamed ADD note text DEFAULT 'n', ADD n int GENERATED ALWAYS AS ((doc->>'n')::int) STORED;
ALTER TABLE ddl_renamed DROP note, ADD note2 text;
UPDATE ddl_renamed SET note2 = 'x' RETURNING _id, n, note2, docrep.rev_generation(_rev) AS generation;
SELECT r->'docs_written' AS written FROM docrep.replicate('ddl_renamed', 'ddl2.ddl_b') r;
ALTER TABLE ddl2.ddl_b ADD note2 text DEFAULT 'd';
UPDATE ddl_renamed SET doc = doc || '{"v": 3}';
SELECT r->'docs_written' AS written FROM docrep.replicate('ddl_renamed', 'ddl2.ddl_b') r;
SELECT _id, note2 FROM ddl2.ddl_b ORDER BY _id;
BEGIN;
ALTER TABLE ddl_renamed RENAME _seq TO seq;
ROLLBACK;
BEGIN;
ALTER TABLE ddl_renamed DROP CONSTRAINT ddl_a_pkey;
UPDATE ddl_renamed SET doc = '{}';
ROLLBACK;
BEGIN;
ALTER TABLE ddl_renamed DROP _tree CASCADE;
ROLLBACK;
-- rewritten tables, other indexes
ALTER TABLE ddl_renamed ALTER note2 TYPE varchar(20);
CLUSTER ddl_renamed USING ddl_a_pkey;
VACUUM FULL ddl_renamed;
REINDEX TABLE ddl_renamed;
UPDATE ddl_renamed SET doc = doc || '{"v": 4}' WHERE _id = 'good' RETURNING docrep.rev_generation(_rev) AS generation;
SELECT * FROM docrep.check('ddl_renamed');

-- the extension: not without CASCADE, and with it plain tables stay
CREATE FUNCTION ddl_drop() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	DROP EXTENSION docrep;
	RETURN 'dropped';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
SELECT ddl_drop();
SET client_min_messages = warning;
DROP EXTENSION docrep CASCADE;
RESET client_min_messages;
\d ddl_renamed
SELECT _id, doc FROM ddl2.ddl_b ORDER BY _id;
INSERT INTO ddl_renamed VALUES ('plain', '[]');
UPDATE ddl_renamed SET doc = '{"_foo": 1}' WHERE _id = 'good';
TRUNCATE ddl2.ddl_b;
SELECT to_regnamespace('docrep'), to_regnamespace('docrep_data'), (SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'docrep%') AS event_triggers;
CREATE EXTENSION docrep;
SELECT count(*) FROM docrep.document_tables;
SELECT docrep.create_table('ddl_again');
INSERT INTO ddl_again SELECT _id, doc FROM ddl_renamed WHERE _id LIKE 'g%' AND NOT doc ? '_foo';
SELECT _id, doc, docrep.rev_generation(_rev) AS generation FROM ddl_again;
SELECT r->'docs_written' AS written FROM docrep.replicate('ddl_again', 'ddl_again2', '{"create_target": true}') r;
DROP TABLE ddl_renamed, ddl2.ddl_b, ddl_again, ddl_again2;
DROP SCHEMA ddl2;
SELECT * FROM ddl_kept();
DROP FUNCTION ddl_kept, ddl_bad, ddl_drop;
