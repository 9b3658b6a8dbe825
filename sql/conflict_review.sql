-- conflicts, where features meet: policies that change, purge, former versions, constraints, privileges
SET client_min_messages = warning;
CREATE SCHEMA conflict_review;
SET search_path = conflict_review, public;
-- conflicts that are there are resolved when the test says so
SET docrep.housekeeping = off;
CREATE FUNCTION incoming(tbl regclass, id text, rev text, body jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(b.error || ': ' || b.reason, ', '), 'ok') FROM docrep.bulk_docs(tbl, jsonb_build_array(body || jsonb_build_object('_id', id, '_rev', rev)), new_edits => false) b $$;
-- the live versions of a document, by what they say
CREATE FUNCTION live(tbl regclass, id text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg((o->'ok') - '_id' - '_rev') FROM jsonb_array_elements(docrep.get(tbl, id, open_revs => '"all"')) o WHERE NOT (o->'ok') ? '_deleted' $$;
CREATE FUNCTION kept(tbl regclass) RETURNS TABLE (id text, gen int, doc jsonb, was text) LANGUAGE sql AS $$
	SELECT id, docrep.rev_generation(rev), doc, was FROM docrep.revisions(tbl) ORDER BY id COLLATE "C", replaced_at, rev $$;

-- purging the winner leaves the version that said the same: it is the document now, and not deleted
SELECT docrep.create_table('t');
SELECT docrep.set_conflict_policy('t', 'identical');
SELECT incoming('t', 'a', '1-b', '{"n": 1}'), incoming('t', 'a', '1-a', '{"n": 1}');
SELECT docrep.purge('t', '{"a": ["1-b"]}')->'purged';
SELECT _id, _rev, doc FROM t;
SELECT id, problem FROM docrep.check('t');
-- of three
SELECT incoming('t', 'b', '1-c', '{"n": 1}'), incoming('t', 'b', '1-b', '{"n": 2}'), incoming('t', 'b', '1-a', '{"n": 1}');
SELECT docrep.purge('t', '{"b": ["1-c"]}')->'purged';
SELECT _rev, doc, live('t', 'b'), docrep.conflict_count('t') FROM t WHERE _id = 'b';

-- a marked row whose table has another policy meanwhile: the next UPDATE shows the document, and does not make the marker its body
SELECT docrep.create_table('m');
ALTER TABLE m ADD note text;
SELECT docrep.set_conflict_policy('m', 'mark');
SELECT incoming('m', id, '1-b', '{"n": 1}'), incoming('m', id, '1-a', '{"n": 2}') FROM unnest('{a,b}'::text[]) id;
SELECT incoming('m', 'empty', '1-b', '{}'), incoming('m', 'empty', '1-a', '{"n": 2}');
SELECT docrep.set_conflict_policy('m', 'keep');
UPDATE m SET note = 'x' WHERE _id IN ('a', 'empty');
SELECT _id, doc, note, live('m', _id) FROM m ORDER BY 1;
UPDATE m SET doc = '{"n": 3}' WHERE _id = 'b';
SELECT doc, live('m', _id) FROM m WHERE _id = 'b';
SELECT id, problem FROM docrep.check('m');

-- what is merged under a policy that merges no more is a conflict like any other, and closed by nobody but the user
SELECT docrep.create_table('u');
SELECT docrep.set_conflict_policy('u', 'identical');
SELECT incoming('u', id, '1-b', '{"n": 1}'), incoming('u', id, '1-a', '{"n": 1}') FROM unnest('{a,b}'::text[]) id;
SELECT docrep.set_conflict_policy('u', 'keep');
UPDATE u SET doc = '{"n": 2}' WHERE _id = 'a';
SELECT incoming('u', 'b', '1-z', '{"n": 3}');
SELECT docrep.rev_generation(docrep.delete('u', 'b', '1-b'));
SELECT _id, doc, live('u', _id) FROM u ORDER BY 1;
SELECT id, rev, doc FROM docrep.conflicts('u') WHERE NOT is_winner;
SELECT id, problem FROM docrep.check('u');

-- DELETE of a marked row with former versions: it works, and what it closes is kept as docrep.delete() keeps it
SELECT docrep.create_table('r');
SELECT docrep.set_conflict_policy('r', 'mark'), docrep.set_revisions('r', keep => 10);
SELECT incoming('r', id, '1-b', '{"n": 1}'), incoming('r', id, '1-a', '{"n": 2}') FROM unnest('{by DELETE,by function}'::text[]) id;
DELETE FROM r WHERE _id = 'by DELETE';
SELECT docrep.rev_generation(docrep.delete('r', 'by function', '1-b'));
SELECT * FROM kept('r');
SELECT docrep.get('r', 'by DELETE', rev => '1-b'), docrep.get('r', 'by DELETE', rev => '1-a');
SELECT id, problem FROM docrep.check('r');
-- and one that leaves a conflict, or goes with versions that said the same
SELECT docrep.set_conflict_policy('r', 'identical');
SELECT incoming('r', 'three', '1-c', '{"n": 1}'), incoming('r', 'three', '1-b', '{"n": 1}'), incoming('r', 'three', '1-a', '{"n": 2}');
DELETE FROM r WHERE _id = 'three';
SELECT _id, doc FROM r;
SELECT * FROM kept('r') WHERE id = 'three';
-- a version that is only found to say the same is not closed
SELECT docrep.set_conflict_policy('r', 'keep');
SELECT incoming('r', 'same', '1-b', '{"n": 1}'), incoming('r', 'same', '1-a', '{"n": 1}');
SELECT docrep.set_conflict_policy('r', 'identical');
SELECT resolved FROM docrep.resolve_conflicts('r');
SELECT docrep.conflict_count('r');
SELECT * FROM kept('r') WHERE id = 'same';

-- where a constraint refuses the marker, the document can still be edited and deleted
SELECT docrep.create_table('s');
ALTER TABLE s ADD note text, ADD CHECK (doc ? 'n');
SELECT docrep.set_conflict_policy('s', 'mark');
SELECT incoming('s', id, '1-b', '{"n": 1}'), incoming('s', id, '1-a', '{"n": 2}'), incoming('s', id, '1-0', '{"n": 3}') FROM unnest('{a,b,c,d}'::text[]) id;
UPDATE s SET note = 'x' WHERE _id = 'a';
UPDATE s SET doc = '{"n": 4}' WHERE _id = 'b';
SELECT docrep.rev_generation(docrep.put('s', '{"_id": "c", "_rev": "1-b", "n": 5}'));
DELETE FROM s WHERE _id = 'd';
SELECT _id, doc, live('s', _id) FROM s ORDER BY 1;
SELECT docrep.rev_generation(docrep.resolve('s', 'a', keep => '1-a'));
SELECT doc, live('s', 'a') FROM s WHERE _id = 'a';
SELECT id, problem FROM docrep.check('s');

-- DELETE and purge end a problem, too
SELECT incoming('s', id, '1-b', '{"n": 1}'), incoming('s', id, '1-a', '{"n": 2}') FROM unnest('{e,f}'::text[]) id;
SELECT id, sqlstate FROM docrep.resolution_problems WHERE tbl = 's'::regclass ORDER BY 1;
DELETE FROM s WHERE _id = 'e';
SELECT docrep.purge('s', '{"f": ["1-a", "1-b"]}')->'purged';
SELECT id, sqlstate FROM docrep.resolution_problems WHERE tbl = 's'::regclass ORDER BY 1;

-- a body that is made of the marker is none: nothing is lost by it
SELECT docrep.create_table('b');
ALTER TABLE b ADD note text;
SELECT docrep.set_conflict_policy('b', 'mark');
SELECT incoming('b', 'a', '1-b', '{"n": 1}'), incoming('b', 'a', '1-a', '{"n": 2}');
UPDATE b SET doc = doc || '{"x": 1}';
SELECT docrep.put('b', doc || '{"_id": "a", "_rev": "1-b", "x": 1}') FROM b;
SELECT docrep.put('b', doc || '{"_id": "a", "_rev": "1-b"}') FROM b;
SELECT error, reason FROM docrep.bulk_docs('b', (SELECT jsonb_build_array(doc || '{"_id": "a", "_rev": "1-b", "x": 1}') FROM b));
INSERT INTO b (_id, doc) VALUES ('a', '{"n": 3}') ON CONFLICT (_id) DO UPDATE SET doc = b.doc || EXCLUDED.doc;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.doc := NEW.doc || '{"stamp": 1}'; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION stamp();
UPDATE b SET note = 'x';
DROP TRIGGER stamp ON b;
UPDATE b SET note = 'x';
SELECT doc->'Conflicts'->>0 = _rev::text AS marked, note, live('b', 'a') FROM b;
UPDATE b SET doc = '{"Conflicts": ["of interest"], "n": 3}';
SELECT doc, live('b', 'a') FROM b;

-- a resolver that takes the document away: what came in is stored all the same, as are markers that a trigger drops
SELECT docrep.create_table('f');
CREATE FUNCTION takes_away(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF id = 'DELETE' THEN
		DELETE FROM conflict_review.f WHERE _id = 'DELETE';
	ELSE
		PERFORM docrep.purge('conflict_review.f', jsonb_build_object(id, '["1-b"]'::jsonb));
	END IF;
	RETURN '{"n": 3}';
END $$;
SELECT docrep.set_conflict_policy('f', 'function', 'takes_away(regclass, text, docrep.version[])');
SELECT incoming('f', id, '1-b', '{"n": 1}'), incoming('f', id, '1-a', '{"n": 2}') FROM unnest('{DELETE,purge}'::text[]) id;
SELECT _id, doc, live('f', _id) FROM f ORDER BY 1;
SELECT id, sqlstate, message FROM docrep.resolution_problems WHERE tbl = 'f'::regclass ORDER BY 1;
SELECT docrep.set_conflict_policy('f', 'mark');
CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.doc ? 'n' THEN NEW END; END $$;
CREATE TRIGGER drops BEFORE UPDATE OR INSERT ON f FOR EACH ROW EXECUTE FUNCTION drops();
SELECT incoming('f', 'dropped', '1-b', '{"n": 1}'), incoming('f', 'dropped', '1-a', '{"n": 2}'), incoming('f', 'dropped', '1-c', '{"m": 2}'), incoming('f', 'new', '1-c', '{"m": 2}');
SELECT _id, doc, live('f', _id) FROM f WHERE _id = 'dropped';
SELECT id, sqlstate, message FROM docrep.resolution_problems WHERE tbl = 'f'::regclass ORDER BY 1;
SELECT id, problem FROM docrep.check('f');

-- a resolver that raises: the conflict stays, and shows
CREATE FUNCTION fails(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no idea'; END $$;
SELECT docrep.create_table('g');
SELECT docrep.set_conflict_policy('g', 'mark', 'fails(regclass, text, docrep.version[])');
SELECT incoming('g', 'a', '1-b', '{"n": 1}'), incoming('g', 'a', '1-a', '{"n": 2}');
SELECT doc, live('g', 'a') FROM g;
SELECT id, sqlstate, message FROM docrep.resolution_problems WHERE tbl = 'g'::regclass;

-- it is mended: what it then resolves, or declines, is no problem any more
SELECT docrep.create_table('i');
SELECT docrep.set_conflict_policy('i', 'function', 'fails(regclass, text, docrep.version[])');
SELECT incoming('i', id, '1-b', '{"n": 1}'), incoming('i', id, '1-a', '{"n": 2}') FROM unnest('{again,arrives,declined,fails}'::text[]) id;
SELECT string_agg(id, ' ' ORDER BY id) FROM docrep.resolution_problems WHERE tbl = 'i'::regclass;
CREATE OR REPLACE FUNCTION fails(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF id = 'fails' THEN
		RAISE EXCEPTION 'still no idea';
	END IF;
	RETURN CASE WHEN id <> 'declined' THEN versions[2].doc END;
END $$;
SELECT incoming('i', 'arrives', '1-c', '{"n": 3}');
SELECT string_agg(id, ' ' ORDER BY id) FROM docrep.resolution_problems WHERE tbl = 'i'::regclass;
SELECT * FROM docrep.resolve_conflicts('i');
SELECT id, message FROM docrep.resolution_problems WHERE tbl = 'i'::regclass;
SELECT DISTINCT id FROM docrep.conflicts('i') ORDER BY 1;

-- a resolver that makes another conflict each time, of the document or of others, comes to an end, and harms nobody
CREATE FUNCTION more(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	other text := CASE WHEN id LIKE 'o%' THEN id || 'o' ELSE id END;
BEGIN
	PERFORM docrep.bulk_docs(tbl, jsonb_build_array(jsonb_build_object('_id', other, '_rev', '1-' || r || cardinality(versions), 'n', r)), new_edits => false) FROM unnest('{x,y}'::text[]) r;
	RETURN '{"n": 3}';
END $$;
SELECT docrep.create_table('h');
SELECT docrep.set_conflict_policy('h', 'function', 'more(regclass, text, docrep.version[])');
SET statement_timeout = '60s';
SELECT incoming('h', id, '1-b', '{"n": 1}'), incoming('h', id, '1-a', '{"n": 2}'), incoming('h', 'plain ' || id, '1-a', '{}') FROM unnest('{o,same}'::text[]) id;
RESET statement_timeout;
SELECT _id, doc, live('h', _id) FROM h ORDER BY 1;
SELECT id, sqlstate, message FROM docrep.resolution_problems WHERE tbl = 'h'::regclass ORDER BY 1;
SELECT id, problem FROM docrep.check('h');

-- what check() finds of a row that shows a conflict: the winner's body is gone, or the row has one, too
SELECT docrep.create_table('k');
SELECT docrep.set_conflict_policy('k', 'mark');
SELECT incoming('k', id, '1-b', '{"n": 1}'), incoming('k', id, '1-a', '{"n": 2}') FROM unnest('{a,b,c}'::text[]) id;
SELECT id, problem FROM docrep.check('k');
DO $$ BEGIN
	EXECUTE format('DELETE FROM docrep_data.leaf_%s WHERE _id = ''a'' AND rev = ''1-b''', replace((SELECT uuid::text FROM docrep.document_tables WHERE tbl = 'k'::regclass), '-', ''));
	ALTER TABLE k DISABLE TRIGGER ALL;
	UPDATE k SET doc = '{"n": 5}' WHERE _id = 'b';
END $$;
SELECT id, problem FROM docrep.check('k') WHERE id IS NOT NULL ORDER BY id;

SELECT docrep.drop_table(x::regclass) FROM unnest('{t,m,u,r,s,b,f,g,h,i,k}'::text[]) x;
DROP SCHEMA conflict_review CASCADE;
