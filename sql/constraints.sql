-- users' columns, constraints and indexes on document tables
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE FUNCTION gen(docrep.rev) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT docrep.rev_generation($1)';
-- what a replication did, and what it rejected
CREATE FUNCTION run(source text, target text, options jsonb DEFAULT '{}',
	OUT written int, OUT failures int, OUT rejected text) LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := docrep.replicate(source, target, options);
BEGIN
	written := result->'docs_written';
	failures := result->'doc_write_failures';
	SELECT string_agg(id || ' ' || error, ', ' ORDER BY id COLLATE "C") INTO rejected
		FROM docrep.rejected_docs WHERE tbl = target::regclass;
END
$$;

-- generated columns, defaults, CHECK, UNIQUE on an expression, partial index: by plain DML and by functions
SELECT docrep.create_table('con');
ALTER TABLE con
	ADD total int GENERATED ALWAYS AS ((doc->>'total')::int) STORED,
	ADD loaded_by text DEFAULT 'somebody',
	ADD CONSTRAINT total_positive CHECK ((doc->>'total')::int > 0);
CREATE UNIQUE INDEX con_email ON con ((doc->>'email'));
CREATE INDEX con_big ON con (total) WHERE total > 100;
INSERT INTO con VALUES ('a', '{"total": 5, "email": "a@x"}') RETURNING total, loaded_by, gen(_rev) AS generation;
UPDATE con SET doc = doc || '{"total": 500}' RETURNING total;
UPDATE con SET loaded_by = 'me' RETURNING total, loaded_by, gen(_rev) AS generation;
INSERT INTO con VALUES ('b', '{"total": 0}');
INSERT INTO con VALUES ('b', '{"total": "x"}');
INSERT INTO con VALUES ('b', '{"email": "a@x"}');
UPDATE con SET doc = '{"total": -1}';
SELECT docrep.put('con', '{"_id": "b", "total": 0}');
SELECT docrep.put('con', '{"_id": "b", "email": "a@x"}');
SELECT id, rev IS NOT NULL AS rev, error, reason
	FROM docrep.bulk_docs('con', '[{"_id": "b", "total": 7}, {"_id": "c", "total": 0}, {"_id": "d", "email": "a@x"}, {"_id": "e", "total": "x"}, {"_id": "f"}]');
SELECT _id, doc, total, loaded_by, gen(_rev) AS generation FROM con ORDER BY _id;
SELECT id FROM docrep.changes('con') ORDER BY id;
-- another column keeps its value when a document is replicated over it
SELECT docrep.create_table('con_source');
INSERT INTO con_source VALUES ('a', '{"total": 5, "email": "a@x"}');
UPDATE con_source SET doc = doc || '{"total": 500}';
UPDATE con_source SET doc = doc;
UPDATE con_source SET doc = doc || '{"total": 501}';
SELECT * FROM run('con_source', 'con');
SELECT _id, doc, total, loaded_by, gen(_rev) AS generation FROM con WHERE _id = 'a';

-- replication: of 1,300 documents exactly the offending ones are rejected
INSERT INTO con_source SELECT 'ok' || i, jsonb_build_object('total', i, 'email', i || '@x') FROM generate_series(1, 1300) i;
INSERT INTO con_source VALUES ('ok100bad', '{"total": 0}'), ('ok1000bad', '{"email": "7@x"}'), ('zbad', '{"total": "many"}'),
	('ok0bad', '{"total": -5}'), ('ok2000twice', '{"email": "twice"}'), ('ok2000twice2', '{"email": "twice"}');
SELECT * FROM run('con_source', 'con');
SELECT count(*) FROM con;
SELECT id, error, reason FROM docrep.rejected_docs ORDER BY id COLLATE "C";
SELECT count(*) FROM con JOIN con_source USING (_id) WHERE con._rev <> con_source._rev;
-- they stay rejected, until the cause is gone: one is mended at the source, one constraint is dropped
SELECT docrep.retry_rejected('con');
UPDATE con_source SET doc = '{"total": 9}' WHERE _id = 'zbad';
SELECT * FROM run('con_source', 'con');
ALTER TABLE con DROP CONSTRAINT total_positive;
SELECT docrep.retry_rejected('con');
SELECT id, error FROM docrep.rejected_docs ORDER BY id COLLATE "C";
DROP INDEX con_email;
SELECT docrep.retry_rejected('con');
SELECT id, error FROM docrep.rejected_docs ORDER BY id COLLATE "C";
SELECT _id FROM con JOIN con_source USING (_id) WHERE con._rev <> con_source._rev;
SELECT * FROM docrep.check('con');

-- a losing revision is not in the table, so a CHECK does not see it before it wins
SELECT docrep.create_table('con_losing');
ALTER TABLE con_losing ADD CONSTRAINT n CHECK ((doc->>'n')::int > 0);
SELECT * FROM docrep.bulk_docs('con_losing', '[{"_id": "x", "_rev": "1-b", "n": 1}, {"_id": "x", "_rev": "1-a", "n": 0}]', new_edits => false);
SELECT doc, _rev, _tree FROM con_losing;
DELETE FROM con_losing;
SELECT gen(docrep.delete('con_losing', 'x', '1-a')) AS generation;
DELETE FROM con_losing;
SELECT count(*) FROM con_losing;

-- foreign keys, both ways: documents to a table, a table to documents, documents to documents
CREATE TABLE con_country (code text PRIMARY KEY);
INSERT INTO con_country VALUES ('de'), ('fr');
SELECT docrep.create_table('con_parent'), docrep.create_table('con_child');
ALTER TABLE con_parent ADD country text GENERATED ALWAYS AS (doc->>'country') STORED REFERENCES con_country;
ALTER TABLE con_child ADD parent text COLLATE "C" GENERATED ALWAYS AS (doc->>'parent') STORED
	REFERENCES con_parent ON DELETE CASCADE;
CREATE TABLE con_note (id int PRIMARY KEY, parent text COLLATE "C" REFERENCES con_parent ON DELETE SET NULL);
INSERT INTO con_parent VALUES ('p1', '{"country": "de"}'), ('p2', '{"country": "fr"}');
INSERT INTO con_parent VALUES ('p3', '{"country": "xx"}');
INSERT INTO con_child VALUES ('c1', '{"parent": "p1"}'), ('c2', '{"parent": "p1"}'), ('c3', '{"parent": "p2"}');
INSERT INTO con_child VALUES ('c4', '{"parent": "p4"}');
INSERT INTO con_note VALUES (1, 'p1');
DELETE FROM con_country WHERE code = 'de';
UPDATE con_parent SET _id = 'p9' WHERE _id = 'p1';
-- ON DELETE CASCADE leaves tombstones
DELETE FROM con_parent WHERE _id = 'p1';
SELECT _id FROM con_child;
SELECT * FROM con_note;
SELECT id, gen((changes->0->>'rev')::docrep.rev) AS generation, deleted FROM docrep.changes('con_child') ORDER BY id;
SELECT docrep.delete('con_parent', 'p2', _rev::text) IS NOT NULL AS deleted FROM con_parent;
SELECT id, deleted FROM docrep.changes('con_child') ORDER BY id;
SELECT * FROM docrep.check('con_parent') UNION ALL SELECT * FROM docrep.check('con_child');
-- a replicated deletion cascades too
SELECT docrep.create_table('con_psource');
SELECT * FROM run('con_parent', 'con_psource');
INSERT INTO con_psource VALUES ('p1', '{"country": "fr"}');
SELECT * FROM run('con_psource', 'con_parent');
INSERT INTO con_child VALUES ('c1', '{"parent": "p1"}');
DELETE FROM con_psource;
SELECT * FROM run('con_psource', 'con_parent');
SELECT id, gen((changes->0->>'rev')::docrep.rev) AS generation, deleted FROM docrep.changes('con_child') ORDER BY id;
-- one that a row of the user's holds on to is rejected, and goes on once it is let go
INSERT INTO con_psource VALUES ('p7', '{"country": "fr"}'), ('p8', '{"country": "fr"}');
SELECT * FROM run('con_psource', 'con_parent');
CREATE TABLE con_hold (parent text COLLATE "C" REFERENCES con_parent);
INSERT INTO con_hold VALUES ('p7');
DELETE FROM con_psource;
SELECT * FROM run('con_psource', 'con_parent');
SELECT _id FROM con_parent;
DROP TABLE con_hold;
SELECT docrep.retry_rejected('con_parent');
SELECT _id FROM con_parent;

-- documents that refer to documents of their table: a child that comes before its parent arrives in the end
SELECT docrep.create_table('con_tree');
ALTER TABLE con_tree ADD parent text COLLATE "C" GENERATED ALWAYS AS (doc->>'parent') STORED;
ALTER TABLE con_tree ADD CONSTRAINT tree_fk FOREIGN KEY (parent) REFERENCES con_tree;
SELECT docrep.create_table('con_tsource');
INSERT INTO con_tsource SELECT 'child' || i, '{"parent": "root"}' FROM generate_series(1, 150) i;
INSERT INTO con_tsource VALUES ('orphan', '{"parent": "nobody"}');
INSERT INTO con_tsource SELECT 'grandchild' || i, jsonb_build_object('parent', 'child' || i) FROM generate_series(1, 150) i;
INSERT INTO con_tsource VALUES ('root', '{}');
SELECT written > 0 AS written, failures > 0 AS failures, rejected FROM run('con_tsource', 'con_tree', '{"worker_batch_size": 20}');
SELECT count(*) FROM con_tree;
INSERT INTO con_tsource VALUES ('nobody', '{}');
SELECT * FROM run('con_tsource', 'con_tree');
SELECT count(*) FROM con_tree t JOIN con_tsource s USING (_id, _rev);
-- the same with a deferred key: it counts at once in a replication, and at the end elsewhere
ALTER TABLE con_tree DROP CONSTRAINT tree_fk;
ALTER TABLE con_tree ADD CONSTRAINT tree_fk FOREIGN KEY (parent) REFERENCES con_tree DEFERRABLE INITIALLY DEFERRED;
INSERT INTO con_tsource VALUES ('orphan2', '{"parent": "nobody2"}'), ('fine', '{"parent": "root"}');
SELECT * FROM run('con_tsource', 'con_tree');
SELECT _id FROM con_tree WHERE _id IN ('orphan2', 'fine');
BEGIN;
INSERT INTO con_tree VALUES ('orphan3', '{"parent": "nobody3"}');
INSERT INTO con_tree VALUES ('nobody3', '{}');
COMMIT;
BEGIN;
SELECT gen(docrep.put('con_tree', '{"_id": "orphan4", "parent": "nobody4"}')) AS generation;
COMMIT;
SELECT _id FROM con_tree WHERE _id ~ '[2-9]$' AND _id !~ 'child' ORDER BY _id;
SELECT * FROM docrep.check('con_tree');

-- a deferrable unique constraint lets two documents swap
SELECT docrep.create_table('con_swap'), docrep.create_table('con_wsource');
ALTER TABLE con_swap ADD place int GENERATED ALWAYS AS ((doc->>'place')::int) STORED UNIQUE DEFERRABLE;
INSERT INTO con_wsource VALUES ('x', '{"place": 1}'), ('y', '{"place": 2}');
SELECT * FROM run('con_wsource', 'con_swap');
UPDATE con_wsource SET doc = jsonb_build_object('place', 3 - (doc->>'place')::int);
SELECT * FROM run('con_wsource', 'con_swap');
SELECT _id, place FROM con_swap ORDER BY _id;

DROP TABLE con_note, con_child, con_parent, con_country, con, con_source, con_losing, con_psource, con_tree, con_tsource, con_swap, con_wsource;
SELECT count(*) FROM docrep.rejected;
DROP FUNCTION run, gen;
