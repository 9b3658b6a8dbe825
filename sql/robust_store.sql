-- What owners, triggers and odd statements do to a document table.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA robust;
SET search_path = robust;
SELECT docrep.create_table('t');
CREATE FUNCTION attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE query INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ': ' || regexp_replace(sqlerrm, '[0-9a-f]{32}', 'UUID');
END $$;

-- Known revisions and conflicts change nothing, also of a document of one revision.
INSERT INTO t(_id, doc) VALUES ('one', '{}');
SELECT _seq AS seq FROM t WHERE _id = 'one' \gset
SELECT id, error FROM docrep.bulk_docs('t', '[{"_id": "one"}]');
SELECT docrep.bulk_docs('t', (SELECT jsonb_build_array(jsonb_build_object('_id', _id, '_rev', _rev)) FROM t), false);
SELECT _seq = :seq AS unmoved FROM t WHERE _id = 'one';

-- A long history survives a trigger that changes bodies, over tombstones too.
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN NEW.doc = NEW.doc || '{"stamped": true}'; RETURN NEW; END $$;
DO $$
DECLARE r text;
BEGIN
	FOR i IN 1..40 LOOP
		r := docrep.put('t', '{"_id": "long"}');
		r := docrep.delete('t', 'long', r);
	END LOOP;
END $$;
CREATE TRIGGER a_stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
DO $$
DECLARE r text;
BEGIN
	FOR i IN 1..60 LOOP
		r := docrep.put('t', jsonb_build_object('_id', 'long', 'i', i));
		r := docrep.put('t', jsonb_build_object('_id', 'long', 'i', -i, '_rev', r));
		r := docrep.delete('t', 'long', r);
	END LOOP;
	r := docrep.put('t', '{"_id": "long"}');
END $$;
SELECT docrep.get('t', 'long') - '_rev' AS doc,
	jsonb_array_length(docrep.get('t', 'long', revs => true) #> '{_revisions,ids}') AS revisions;
SELECT * FROM docrep.check('t');
DROP TRIGGER a_stamp ON t;

-- Refused documents of a batch: each is named, the others are stored.
ALTER TABLE t ADD CONSTRAINT small CHECK ((doc ->> 'n')::int < 5);
SELECT count(*) AS refused, count(DISTINCT id) AS ids, min(error) AS error
	FROM docrep.bulk_docs('t', (SELECT jsonb_agg(jsonb_build_object('_id', 'b' || g, 'n', g % 7))
		FROM generate_series(1, 700) g)) WHERE error IS NOT NULL;
SELECT count(*) AS stored FROM t WHERE _id ~ '^b\d';
SELECT count(*) AS wrong FROM t WHERE (doc ->> 'n')::int >= 5;
SELECT count(*) AS refused FROM docrep.bulk_docs('t', (SELECT jsonb_agg(jsonb_build_object('_id', 'c' || g, 'n', 9))
		FROM generate_series(1, 300) g)) WHERE error IS NOT NULL;
SELECT count(*) AS refused FROM docrep.bulk_docs('t', (SELECT jsonb_agg(jsonb_build_object('_id', 'd' || g,
		'n', CASE g WHEN 77 THEN 9 ELSE 1 END)) FROM generate_series(1, 300) g)) WHERE error IS NOT NULL;
ALTER TABLE t DROP CONSTRAINT small;

-- Rows that were written behind docrep's back are reported and crash nothing.
ALTER TABLE t DISABLE TRIGGER ALL;
ALTER TABLE t ALTER _rev DROP NOT NULL, ALTER _seq DROP NOT NULL, ALTER _modified DROP NOT NULL;
INSERT INTO t(_id, doc) VALUES ('bare', '{}');
INSERT INTO t(_id, doc, _rev, _seq, _modified, _tree) VALUES ('stump', '{}', '1-a', 1000000, now(), '');
INSERT INTO t(_id, doc, _rev, _seq, _modified, _tree, _trunk)
	SELECT 'rotten', doc, _rev, 1000001, _modified, _tree, '\xdeadbeef' FROM t WHERE _id = 'long';
ALTER TABLE t ENABLE TRIGGER ALL;
SELECT attempt(format('SELECT docrep.get(''t'', %L, revs => true)', id)) FROM unnest('{bare,stump,rotten}'::text[]) id;
SELECT attempt(format('SELECT docrep.put(''t'', jsonb_build_object(''_id'', %L))', id)) FROM unnest('{bare,stump}'::text[]) id;
SELECT attempt(format('UPDATE t SET doc = ''{"a": 1}'' WHERE _id = %L', id)) FROM unnest('{bare,stump}'::text[]) id;
SELECT attempt(format('DELETE FROM t WHERE _id = %L', id)) FROM unnest('{bare,stump}'::text[]) id;
SELECT * FROM docrep.check('t') ORDER BY id;
ALTER TABLE t DISABLE TRIGGER ALL;
DELETE FROM t WHERE _id IN ('bare', 'stump', 'rotten');
ALTER TABLE t ENABLE TRIGGER ALL;
ALTER TABLE t ALTER _rev SET NOT NULL, ALTER _seq SET NOT NULL, ALTER _modified SET NOT NULL;

-- Indexes that would answer wrongly are not used.
SELECT docrep.create_table('odd');
ALTER TABLE odd DROP CONSTRAINT odd__seq_key;
CREATE UNIQUE INDEX ON odd (_seq DESC);
SELECT attempt($$INSERT INTO odd(_id, doc) VALUES ('a', '{}') RETURNING _id$$);
CREATE UNIQUE INDEX ON odd (_seq);
SELECT attempt($$INSERT INTO odd(_id, doc) VALUES ('a', '{}') RETURNING _id$$);
CREATE FUNCTION alter_companion(kind text, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT format('ALTER TABLE docrep_data.%I %s', kind || replace(uuid::text, '-', ''), what)
			 FROM docrep.document_tables WHERE tbl = 'odd'::regclass);
END $$;
SELECT alter_companion('dead_', 'ALTER _id TYPE text COLLATE "POSIX"');
SELECT attempt($$SELECT docrep.get('odd', 'a')$$);
SELECT alter_companion('dead_', 'ALTER _id TYPE text COLLATE "C"');
SELECT alter_companion('leaf_', 'ADD n int');
SELECT attempt($$SELECT docrep.get('odd', 'a')$$);
DROP TABLE odd;
SELECT docrep.create_table('odd');
INSERT INTO odd(_id, doc) VALUES ('a', '{}');

-- A document table as a partition, as a child, and copied.
SELECT docrep.create_table('part');
CREATE TABLE whole (LIKE part) PARTITION BY RANGE (_id);
ALTER TABLE whole ATTACH PARTITION part FOR VALUES FROM ('a') TO ('n');
INSERT INTO whole(_id, doc) VALUES ('b', '{"n": 1}') RETURNING _rev IS NOT NULL AS rev;
UPDATE whole SET doc = '{"n": 2}' WHERE _id = 'b';
DELETE FROM whole WHERE _id = 'b';
INSERT INTO whole(_id, doc) VALUES ('b', '{"n": 3}');
SELECT (docrep.get('part', 'b') ->> '_rev')::docrep.rev > ('3-' || repeat('0', 32))::docrep.rev AS third_or_later;
SELECT * FROM docrep.check('part');
CREATE TABLE copied (LIKE part INCLUDING ALL);
SELECT attempt($$SELECT docrep.get('copied', 'b')$$);
CREATE TABLE base (_id text COLLATE "C" NOT NULL);
ALTER TABLE odd INHERIT base;
INSERT INTO odd(_id, doc) VALUES ('c', '{}');
SELECT _id FROM base ORDER BY 1;
CREATE TABLE child () INHERITS (odd);
INSERT INTO child(_id, doc, _rev, _seq, _modified) VALUES ('d', '{}', '1-a', 1, now());
SELECT docrep.get('odd', 'd') IS NULL AS not_ours, docrep.info('odd') -> 'doc_count' AS count;

-- The same statement over and over, across DDL.
PREPARE ins(text, jsonb) AS INSERT INTO odd(_id, doc) VALUES ($1, $2)
	ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc RETURNING _id, doc;
EXECUTE ins('p', '{"n": 1}');
ALTER TABLE odd ADD COLUMN n int GENERATED ALWAYS AS ((doc ->> 'n')::int) STORED;
EXECUTE ins('p', '{"n": 2}');
ALTER TABLE odd DROP COLUMN n;
EXECUTE ins('p', '{"n": 3}');
SELECT docrep.get('odd', 'p') -> 'n' AS n;
INSERT INTO odd(_id, doc) SELECT _id || '2', doc FROM ONLY odd;
SELECT _id FROM ONLY odd ORDER BY 1;

-- A cursor on the feed outlives writes; savepoints and upserts mix.
BEGIN;
DECLARE feed CURSOR FOR SELECT id FROM docrep.changes('odd');
FETCH 1 FROM feed;
SAVEPOINT s;
INSERT INTO odd(_id, doc) VALUES ('p', '{"n": 4}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
DELETE FROM ONLY odd WHERE _id = 'a';
ROLLBACK TO s;
DELETE FROM ONLY odd WHERE _id = 'p';
INSERT INTO odd(_id, doc) VALUES ('p', '{"n": 5}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
FETCH 1 FROM feed;
COMMIT;
SELECT docrep.get('odd', 'p') -> 'n' AS n;
SELECT * FROM docrep.check('odd');

DROP SCHEMA robust CASCADE;
