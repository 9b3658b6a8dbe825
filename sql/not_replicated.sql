-- what a table keeps back from replications that read from it
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE SCHEMA kept;
SET search_path = kept, public;
CREATE ROLE kept_owner LOGIN;
SELECT docrep.create_table('src'), docrep.create_table('dst');
-- replicates, and shows what the target has
CREATE FUNCTION arrives(source text, target text, options jsonb DEFAULT '{}') RETURNS TABLE (ok jsonb, "read" jsonb, written jsonb)
	LANGUAGE sql AS $$ SELECT r->'ok', r->'history'->0->'docs_read', r->'history'->0->'docs_written' FROM docrep.replicate(source, target, options) r $$;
CREATE FUNCTION leaves(tbl regclass) RETURNS TABLE (id text, revs text) LANGUAGE sql AS $$
	SELECT id, (SELECT string_agg(split_part(c->>'rev', '-', 1) || CASE WHEN deleted THEN 'd' ELSE '' END, ' ') FROM jsonb_array_elements(changes) c)
	FROM docrep.changes(tbl, style => 'all_docs') ORDER BY id $$;

-- ids
INSERT INTO src SELECT id, '{}' FROM unnest(ARRAY['Raven/x', 'Raven/Hilo/users', 'raven/x', 'Raven', 'a', 'tmp:1']) id;
SELECT docrep.set_not_replicated('src', ARRAY['Raven/', 'tmp:'], ARRAY['Raven/Hilo/']);
SELECT not_replicated FROM docrep.tables WHERE tbl = 'src'::regclass;
SELECT * FROM arrives('src', 'dst');
SELECT * FROM leaves('dst');
-- their deletions neither, but what they are at the target stays
DELETE FROM src WHERE _id IN ('Raven/x', 'a');
SELECT * FROM arrives('src', 'dst');
SELECT * FROM leaves('dst');
-- whoever reads the table itself sees all of it
SELECT * FROM leaves('src');
-- by id, and with a selector
SELECT * FROM arrives('src', 'dst', '{"doc_ids": ["tmp:1", "Raven"], "use_checkpoints": false}');
SELECT * FROM arrives('src', 'dst', '{"selector": {"_id": {"$gt": "t"}}, "use_checkpoints": false}');
SELECT id FROM leaves('dst');

-- a member
SELECT docrep.set_not_replicated('src', member => 'Raven-Not-For-Replication');
INSERT INTO src VALUES ('m1', '{"Raven-Not-For-Replication": true, "n": 1}'), ('m2', '{"@metadata": {"Raven-Not-For-Replication": true}}'),
	('m3', '{"@metadata": {"Raven-Not-For-Replication": "True"}}'), ('m4', '{"Raven-Not-For-Replication": false}'),
	('m5', '{"Raven-Not-For-Replication": null, "@metadata": []}'), ('m6', '{"deep": {"Raven-Not-For-Replication": true}}'), ('m7', '{"Raven-Not-For-Replication": "truest"}');
SELECT * FROM arrives('src', 'dst');
SELECT id FROM leaves('dst') WHERE id LIKE 'm%';
-- what loses it travels with its next revision, with its history
UPDATE src SET doc = doc - 'Raven-Not-For-Replication' WHERE _id = 'm1';
SELECT * FROM arrives('src', 'dst');
SELECT doc, _rev = (SELECT _rev FROM src WHERE _id = 'm1') AS same FROM dst WHERE _id = 'm1';
SELECT jsonb_array_length(docrep.get('dst', 'm1', revs => true)->'_revisions'->'ids') AS revisions;
-- what gets it stays at the other side as it was
UPDATE src SET doc = doc || '{"Raven-Not-For-Replication": true, "n": 2}' WHERE _id = 'm1';
SELECT * FROM arrives('src', 'dst');
SELECT doc FROM dst WHERE _id = 'm1';
-- its deletion says nothing, so it goes; one that keeps the member does not
DELETE FROM src WHERE _id = 'm1';
SELECT docrep.put('src', docrep.get('src', 'm4') || '{"_deleted": true, "Raven-Not-For-Replication": true}') IS NOT NULL AS deleted;
SELECT * FROM arrives('src', 'dst');
SELECT * FROM leaves('dst') WHERE id IN ('m1', 'm4');

-- one leaf of several
SELECT * FROM docrep.bulk_docs('src', '[{"_id": "c", "_rev": "1-a", "x": 1}, {"_id": "c", "_rev": "1-b", "Raven-Not-For-Replication": true}, {"_id": "c", "_rev": "2-0", "y": 1, "_revisions": {"start": 2, "ids": ["0", "9"]}}]', false);
SELECT * FROM arrives('src', 'dst');
SELECT changes FROM docrep.changes('dst', style => 'all_docs') WHERE id = 'c';
-- the winner is the one that is kept back
SELECT * FROM docrep.bulk_docs('src', '[{"_id": "w", "_rev": "1-a", "x": 1}, {"_id": "w", "_rev": "2-b", "Raven-Not-For-Replication": true, "_revisions": {"start": 2, "ids": ["b", "9"]}}]', false);
SELECT * FROM arrives('src', 'dst', '{"winning_revs_only": true}');
SELECT changes FROM docrep.changes('dst', style => 'all_docs') WHERE id = 'w';
SELECT * FROM arrives('src', 'dst');
SELECT changes FROM docrep.changes('dst', style => 'all_docs') WHERE id = 'w';

-- a selector
SELECT docrep.set_not_replicated('src', matching => '{"private": {"$gt": 5}}');
INSERT INTO src VALUES ('s1', '{"private": 6}'), ('s2', '{"private": 5}'), ('s3', '{}');
SELECT * FROM arrives('src', 'dst');
SELECT id FROM leaves('dst') WHERE id LIKE 's%';
DELETE FROM src WHERE _id = 's1';
SELECT docrep.put('src', docrep.get('src', 's2') || '{"_deleted": true, "private": 7}') IS NOT NULL AS deleted;
SELECT * FROM arrives('src', 'dst');
SELECT * FROM leaves('dst') WHERE id LIKE 's%';

-- all at once; any of them is enough
SELECT docrep.set_not_replicated('src', ARRAY['p/'], ARRAY['p/q/', 'p/r/'], 'secret', '{"type": {"$in": ["log", "draft"]}}');
SELECT not_replicated FROM docrep.tables WHERE tbl = 'src'::regclass;
INSERT INTO src VALUES ('p/1', '{}'), ('p/q/1', '{}'), ('p/q/2', '{"secret": true}'), ('p/r/1', '{"type": "draft"}'), ('t1', '{"type": "log"}'), ('t2', '{"type": "order", "secret": false}');
SELECT * FROM arrives('src', 'dst');
SELECT id FROM leaves('dst') WHERE id LIKE 'p%' OR id LIKE 't_';
-- verify compares what travels
SELECT id, difference FROM docrep.verify('src', 'dst') WHERE id LIKE 'p%' OR id LIKE 't_' ORDER BY id;

-- many in a row: they fill no batch and stop nothing
SELECT docrep.set_not_replicated('src', ARRAY['many/']);
INSERT INTO src SELECT 'many/' || i, jsonb_build_object('pad', repeat('x', 100)) FROM generate_series(1, 25000) i;
INSERT INTO src VALUES ('zz', '{}');
SELECT * FROM arrives('src', 'dst');
SELECT count(*) FILTER (WHERE _id LIKE 'many/%') AS kept_back, count(*) FILTER (WHERE _id = 'zz') AS others FROM dst;

-- without a rule all travels, as soon as it changes
SELECT docrep.set_not_replicated('src');
SELECT not_replicated FROM docrep.tables WHERE tbl = 'src'::regclass;
UPDATE src SET doc = '{"n": 2}' WHERE _id IN ('many/1', 't1');
SELECT * FROM arrives('src', 'dst');
SELECT _id, doc FROM dst WHERE _id IN ('many/1', 'many/2', 't1');

-- nonsense, and not one's own
\set VERBOSITY default
SELECT docrep.set_not_replicated('src', ARRAY['a', '']);
SELECT docrep.set_not_replicated('src', ARRAY['a', NULL]);
SELECT docrep.set_not_replicated('src', except_prefixes => ARRAY['a']);
SELECT docrep.set_not_replicated('src', member => '');
SELECT docrep.set_not_replicated('src', member => '_id');
SELECT docrep.set_not_replicated('src', matching => '{"a": {"$no": 1}}');
SELECT docrep.set_not_replicated('src', matching => '[]');
SELECT docrep.set_not_replicated(NULL);
SELECT docrep.set_not_replicated('pg_class', ARRAY['a']);
\set VERBOSITY terse
GRANT ALL ON src TO kept_owner;
GRANT USAGE ON SCHEMA kept TO kept_owner;
SET ROLE kept_owner;
SELECT docrep.set_not_replicated('src', ARRAY['a']);
RESET ROLE;
SELECT not_replicated IS NULL AS unchanged FROM docrep.tables WHERE tbl = 'src'::regclass;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA kept CASCADE;
DROP ROLE kept_owner;
