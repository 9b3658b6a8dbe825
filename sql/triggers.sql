-- users' triggers on document tables
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT docrep.create_table('trg');
CREATE FUNCTION gen(docrep.rev) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT docrep.rev_generation($1)';

-- a BEFORE trigger that rewrites doc: the revision is that of the body that is stored
CREATE FUNCTION trg_total() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.doc := NEW.doc || jsonb_build_object('total', (NEW.doc->>'price')::int * 2);
	RETURN NEW;
END
$$;
CREATE TRIGGER total BEFORE INSERT OR UPDATE ON trg FOR EACH ROW WHEN (NEW.doc ? 'price') EXECUTE FUNCTION trg_total();
SELECT docrep.create_table('trg_plain');
INSERT INTO trg VALUES ('a', '{"price": 2}'), ('b', '{"n": 1}');
INSERT INTO trg_plain VALUES ('a', '{"price": 2, "total": 4}'), ('b', '{"n": 1}');
UPDATE trg SET doc = '{"price": 3}';
UPDATE trg_plain SET doc = '{"price": 3, "total": 6}';
SELECT docrep.put('trg', jsonb_build_object('_id', 'a', '_rev', _rev, 'price', 4)) IS NOT NULL FROM trg WHERE _id = 'a';
SELECT docrep.put('trg_plain', jsonb_build_object('_id', 'a', '_rev', _rev, 'price', 4, 'total', 8)) IS NOT NULL FROM trg_plain WHERE _id = 'a';
SELECT id, rev IS NOT NULL AS rev, error FROM docrep.bulk_docs('trg', '[{"_id": "d", "price": 6}, {"_id": "e"}]');
SELECT id, rev IS NOT NULL AS rev, error FROM docrep.bulk_docs('trg_plain', '[{"_id": "d", "price": 6, "total": 12}, {"_id": "e"}]');
SELECT _id, t.doc, t.doc = p.doc AS same_doc, t._rev = p._rev AS same_rev, t._tree::text IS NOT DISTINCT FROM p._tree::text AS same_tree
	FROM trg t JOIN trg_plain p USING (_id) ORDER BY _id;
-- put returns the revision that is stored
SELECT docrep.put('trg', '{"_id": "c", "price": 5}') AS rev \gset
SELECT _rev = :'rev' AS same_rev, doc FROM trg WHERE _id = 'c';

-- what a trigger makes of a document is looked at as what a user writes
CREATE FUNCTION trg_make_doc() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.doc := nullif(NEW.doc->'becomes', 'null');
	RETURN NEW;
END
$$;
CREATE TRIGGER make BEFORE INSERT OR UPDATE ON trg FOR EACH ROW WHEN (NEW.doc ? 'becomes') EXECUTE FUNCTION trg_make_doc();
INSERT INTO trg VALUES ('m', '{"becomes": []}');
SELECT docrep.put('trg', '{"_id": "m", "becomes": []}');
INSERT INTO trg VALUES ('m', '{"becomes": {"_foo": 1}}');
SELECT docrep.put('trg', '{"_id": "m", "becomes": {"_foo": 1}}');
SELECT docrep.put('trg', '{"_id": "m", "becomes": {"_id": "n"}}');
INSERT INTO trg VALUES ('m', '{"becomes": null}');
SELECT docrep.put('trg', '{"_id": "m", "becomes": null}');
SELECT count(*) FROM trg WHERE _id = 'm';
-- neither can it forge what docrep keeps
CREATE FUNCTION trg_forge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW._trunk := '\x00';
	NEW._seq := -1;
	NEW._tree := '9-a <- 8-b';
	NEW._rev := '9-a';
	RETURN NEW;
END
$$;
CREATE TRIGGER forge BEFORE INSERT OR UPDATE ON trg FOR EACH ROW WHEN (NEW.doc ? 'forge') EXECUTE FUNCTION trg_forge();
INSERT INTO trg VALUES ('m', '{"forge": 1}');
SELECT gen(docrep.put('trg', '{"_id": "m", "forge": 1}')) AS generation;
SELECT gen(docrep.put('trg', jsonb_build_object('_id', 'm', '_rev', _rev, 'forge', 2))) AS generation FROM trg WHERE _id = 'm';
SELECT _trunk, _seq > 0 AS seq, gen(_rev) AS generation FROM trg WHERE _id = 'm';
SELECT * FROM docrep.check('trg');
DROP TRIGGER forge ON trg;
DROP TRIGGER make ON trg;

-- a trigger that would fire after ours
CREATE TRIGGER "~docrep_z" BEFORE UPDATE ON trg FOR EACH ROW EXECUTE FUNCTION trg_total();
\set VERBOSITY default
UPDATE trg SET doc = '{}' WHERE _id = 'a';
\set VERBOSITY terse
SELECT docrep.put('trg', '{"_id": "late"}');
SELECT problem FROM docrep.check('trg');
ALTER TABLE trg DISABLE TRIGGER "~docrep_z";
UPDATE trg SET doc = doc WHERE _id = 'b' RETURNING gen(_rev) AS generation;
ALTER TRIGGER "~docrep_z" ON trg RENAME TO "z";
ALTER TABLE trg ENABLE TRIGGER "z";
UPDATE trg SET doc = doc WHERE _id = 'b' RETURNING gen(_rev) AS generation, doc;
DROP TRIGGER "z" ON trg;
-- AFTER triggers may have any name
CREATE FUNCTION trg_say() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE INFO '% %: generation % to %', TG_OP, coalesce(NEW._id, OLD._id), gen(OLD._rev), gen(NEW._rev);
	RETURN NULL;
END
$$;
CREATE TRIGGER "~zzz" AFTER INSERT OR UPDATE OR DELETE ON trg FOR EACH ROW EXECUTE FUNCTION trg_say();
INSERT INTO trg VALUES ('said', '{}');
UPDATE trg SET doc = '{"n": 1}' WHERE _id = 'said';
DELETE FROM trg WHERE _id = 'said';
INSERT INTO trg VALUES ('said', '{}');
DROP TRIGGER "~zzz" ON trg;

-- switching triggers off and on
ALTER TABLE trg ENABLE TRIGGER ALL;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'trg'::regclass AND tgname LIKE '~%' ORDER BY tgname COLLATE "C";
ALTER TABLE trg DISABLE TRIGGER "~docrep_track";
INSERT INTO trg VALUES ('unseen', '{}');
SELECT problem FROM docrep.check('trg');
ALTER TABLE trg ENABLE TRIGGER "~docrep_track";
SELECT * FROM docrep.check('trg');
-- triggers that are users' do not fire in this role, ours do, and what the row brings is not taken over
SET session_replication_role = replica;
INSERT INTO trg(_id, doc, _rev, _seq, _modified, _tree, _trunk)
	VALUES ('native', '{"price": 1}', '7-abc', 1, '2000-01-01', '7-abc <- 6-def', '\x00')
	RETURNING doc, gen(_rev) AS generation, _seq > 1 AS seq, _modified > '2020-01-01' AS modified, _tree, _trunk;
UPDATE trg SET doc = '{"n": 2}', _rev = '8-abc', _seq = 2, _trunk = '\x00' WHERE _id = 'native'
	RETURNING doc, gen(_rev) AS generation, _seq > 2 AS seq, gen(_rev), _trunk;
DELETE FROM trg WHERE _id = 'native';
RESET session_replication_role;
SELECT id, deleted FROM docrep.changes('trg') WHERE id = 'native';
SELECT * FROM docrep.check('trg');

-- a trigger that writes another document of the same table, by every way to write
CREATE FUNCTION trg_log() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	INSERT INTO trg VALUES ('log-' || NEW._id, '{"n": 1}')
		ON CONFLICT (_id) DO UPDATE SET doc = jsonb_build_object('n', (trg.doc->>'n')::int + 1);
	RETURN NEW;
END
$$;
CREATE TRIGGER log BEFORE INSERT OR UPDATE ON trg FOR EACH ROW WHEN (NEW._id LIKE 'r%') EXECUTE FUNCTION trg_log();
INSERT INTO trg VALUES ('r1', '{}'), ('r2', '{}');
UPDATE trg SET doc = '{"v": 2}' WHERE _id IN ('r1', 'r2');
SELECT gen(docrep.put('trg', '{"_id": "r3"}')) AS generation;
SELECT _id, doc, gen(_rev) AS generation FROM trg WHERE _id LIKE '%r_' ORDER BY _id;
-- ... one that the batch writes too: in the end both are there
SELECT id, rev IS NOT NULL AS rev, error, reason FROM docrep.bulk_docs('trg', '[{"_id": "log-r4", "own": 1}, {"_id": "r4"}, {"_id": "s4"}]');
SELECT docrep.create_table('trg_source');
INSERT INTO trg_source VALUES ('r5', '{}'), ('log-r5', '{"from": "source"}'), ('s5', '{}');
UPDATE trg_source SET doc = doc || '{"v": 2}';
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('trg_source', 'trg') r;
SELECT _id, doc, regexp_replace(_tree::text, '-[0-9a-f]{32}', '', 'g') AS tree FROM trg WHERE _id LIKE '%r4' OR _id LIKE '%5' ORDER BY _id;
UPDATE trg_source SET doc = doc || '{"v": 3}';
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('trg_source', 'trg') r;
SELECT _id, doc, regexp_replace(_tree::text, '-[0-9a-f]{32}', '', 'g') AS tree FROM trg WHERE _id LIKE '%5' ORDER BY _id;
SELECT id, error, reason FROM docrep.rejected_docs WHERE tbl = 'trg'::regclass;
SELECT * FROM docrep.check('trg');
DROP TRIGGER log ON trg;

-- an AFTER trigger that writes the row again, or deletes it, before ours has settled it with its tombstone
CREATE FUNCTION trg_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.doc ? 'delete' THEN
		DELETE FROM trg WHERE _id = NEW._id;
	ELSIF NOT NEW.doc ? 'seen' THEN
		UPDATE trg SET doc = doc || '{"seen": true}' WHERE _id = NEW._id;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER again AFTER INSERT ON trg FOR EACH ROW WHEN (NEW._id LIKE 'again%') EXECUTE FUNCTION trg_again();
INSERT INTO trg VALUES ('again1', '{}'), ('again2', '{"delete": 1}');
DELETE FROM trg WHERE _id = 'again1';
INSERT INTO trg VALUES ('again1', '{}'), ('again2', '{"delete": 1}');
SELECT _id, doc, gen(_rev) AS generation FROM trg WHERE _id LIKE 'again%';
SELECT id, deleted, gen((changes->0->>'rev')::docrep.rev) AS generation FROM docrep.changes('trg', style => 'all_docs') WHERE id LIKE 'again%' ORDER BY id;
SELECT * FROM docrep.check('trg');
DROP TRIGGER again ON trg;

-- replication: a trigger that edits, drops, renames or refuses rows; exactly those are rejected
CREATE FUNCTION trg_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE NEW.doc->>'do'
		WHEN 'edit' THEN NEW.doc := NEW.doc || '{"edited": true}';
		WHEN 'drop' THEN RETURN NULL;
		WHEN 'rename' THEN NEW._id := 'renamed-' || NEW._id;
		WHEN 'refuse' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
		ELSE NULL;
	END CASE;
	RETURN NEW;
END
$$;
SELECT docrep.create_table('trg_target');
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON trg_target FOR EACH ROW EXECUTE FUNCTION trg_guard();
DELETE FROM trg_source;
INSERT INTO trg_source SELECT 'g' || i || d, jsonb_build_object('do', d, 'i', i)
	FROM generate_series(1, 3) i, unnest(ARRAY['edit', 'drop', 'rename', 'refuse', 'nothing', 'keep']) d;
INSERT INTO trg_source SELECT 'plain' || i, '{}' FROM generate_series(1, 600) i;
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('trg_source', 'trg_target') r;
SELECT doc->>'do' AS did, count(*) FROM trg_target GROUP BY 1 ORDER BY 1;
SELECT id, error, reason, convert_from(raw, 'UTF8') AS raw FROM docrep.rejected_docs WHERE tbl = 'trg_target'::regclass ORDER BY id COLLATE "C";
-- a second run says the same and doubles nothing; updates of what is there go the same way
UPDATE trg_source SET doc = doc || '{"do": "edit"}' WHERE _id IN ('plain1', 'plain2');
UPDATE trg_source SET doc = doc || '{"do": "rename"}' WHERE _id = 'plain3';
UPDATE trg_source SET doc = doc || '{"do": "drop"}' WHERE _id = 'plain4';
UPDATE trg_source SET doc = doc || '{"v": 2}' WHERE _id IN ('plain5', 'plain6');
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('trg_source', 'trg_target', '{"use_checkpoints": false}') r;
SELECT count(*), count(*) FILTER (WHERE id LIKE 'plain%') AS plain FROM docrep.rejected_docs WHERE tbl = 'trg_target'::regclass;
SELECT _id, doc, gen(_rev) AS generation FROM trg_target WHERE _id ~ 'plain[1-7]$' ORDER BY _id;
SELECT docrep.retry_rejected('trg_target');
-- once the cause is gone
DROP TRIGGER guard ON trg_target;
SELECT docrep.retry_rejected('trg_target');
SELECT count(*) FROM docrep.rejected_docs WHERE tbl = 'trg_target'::regclass;
SELECT count(*), bool_and(t.doc = s.doc AND t._rev = s._rev) FROM trg_target t FULL JOIN trg_source s USING (_id);
SELECT * FROM docrep.check('trg_target');

DROP TABLE trg, trg_plain, trg_source, trg_target;
DROP FUNCTION trg_total, trg_make_doc, trg_forge, trg_say, trg_log, trg_again, trg_guard, gen;
