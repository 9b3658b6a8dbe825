-- what a table does about conflicts by itself: each policy, in order, with errors and privileges
\set VERBOSITY default
\set SHOW_CONTEXT never
-- conflicts that are there are resolved when the test says so
SET docrep.housekeeping = off;
CREATE ROLE regress_docrep_owner LOGIN;
CREATE ROLE regress_docrep_other LOGIN;
GRANT CREATE ON SCHEMA public TO regress_docrep_owner;
CREATE FUNCTION incoming(tbl regclass, id text, rev text, body jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(b.error || ': ' || b.reason, ', '), 'ok') FROM docrep.bulk_docs(tbl, jsonb_build_array(body || jsonb_build_object('_id', id, '_rev', rev)), new_edits => false) b $$;
-- two versions that meet: a is the loser and older, b the winner; then what is there
CREATE FUNCTION meet(tbl regclass, id text, a jsonb, b jsonb, OUT rev text, OUT doc jsonb, OUT live bigint, OUT closed bigint, OUT in_conflict bigint) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM incoming(tbl, id, '1-b', b);
	PERFORM incoming(tbl, id, '1-a', a);
	EXECUTE format('SELECT CASE WHEN docrep.rev_generation(_rev) = 1 THEN _rev::text ELSE docrep.rev_generation(_rev) || ''-...'' END, doc FROM %s WHERE _id = $1', tbl) INTO rev, doc USING id;
	SELECT count(*) FILTER (WHERE NOT o->'ok' ? '_deleted'), count(*) FILTER (WHERE o->'ok' ? '_deleted') INTO live, closed FROM jsonb_array_elements(docrep.get(tbl, id, open_revs => '"all"')) o;
	SELECT count(*) INTO in_conflict FROM docrep.conflicts(tbl) c WHERE c.id = meet.id;
END $$;
SELECT docrep.create_table('p');
CREATE VIEW problems AS SELECT tbl, id, rounds, policy, sqlstate, message FROM docrep.resolution_problems ORDER BY tbl::text, id;
GRANT SELECT ON problems TO PUBLIC;
-- what a resolver might leave behind
CREATE TABLE parents (i int PRIMARY KEY);
CREATE TABLE deferred (i int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);

-- what can be set
SELECT docrep.set_conflict_policy('p', 'what');
SELECT docrep.set_conflict_policy('p', '');
SELECT docrep.set_conflict_policy('p', 'latest,latest');
SELECT docrep.set_conflict_policy('p', 'keep,mark');
SELECT docrep.set_conflict_policy('p', 'function');
SELECT docrep.set_conflict_policy('p', 'function,latest');
SELECT docrep.set_conflict_policy('p', NULL);
SELECT docrep.set_conflict_policy('pg_class', 'latest');
CREATE FUNCTION largest(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT v.doc FROM unnest(versions) v WHERE v.doc ? 'n' ORDER BY (v.doc->>'n')::numeric DESC LIMIT 1 $$;
CREATE FUNCTION no_resolver(tbl regclass, id text, versions jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT versions';
CREATE FUNCTION no_resolver_2(tbl regclass, id text, versions docrep.version[]) RETURNS text LANGUAGE sql AS 'SELECT id';
SELECT docrep.set_conflict_policy('p', 'function', 'no_resolver');
SELECT docrep.set_conflict_policy('p', 'function', 'no_resolver(regclass, text, jsonb)');
SELECT docrep.set_conflict_policy('p', 'function', 'no_resolver_2(regclass, text, docrep.version[])');
SELECT docrep.set_conflict_policy('p', 'keep', 'largest(regclass, text, docrep.version[])');
SELECT docrep.set_conflict_policy('p', 'identical,latest', 'largest(regclass, text, docrep.version[])');
SELECT docrep.set_conflict_policy('p', 'latest , Identical'), (SELECT conflict_policy FROM docrep.tables WHERE tbl = 'p'::regclass);
SELECT conflict_policy, resolver FROM docrep.table_settings JOIN docrep.document_tables d ON d.uuid = table_settings.tbl WHERE d.tbl = 'p'::regclass;

-- keep
SELECT docrep.set_conflict_policy('p', 'keep');
SELECT * FROM meet('p', 'keep same', '{"n": 1}', '{"n": 1}');
SELECT * FROM meet('p', 'keep', '{"n": 2}', '{"n": 1}');

-- identical: by value, whatever the order of members; attachments count, and what differs is a conflict
SELECT docrep.set_conflict_policy('p', 'identical');
SELECT * FROM meet('p', 'same', '{"n": 1, "m": [1.0, {"b": 1, "a": 2}]}', '{"m": [1, {"a": 2, "b": 1}], "n": 1.00}');
SELECT * FROM meet('p', 'empty', '{}', '{}');
SELECT * FROM meet('p', 'differs', '{"n": 1}', '{"n": 2}');
SELECT * FROM meet('p', 'same atts', '{"_attachments": {"x": {"data": "YWFh"}}}', '{"_attachments": {"x": {"data": "YWFh"}}}');
SELECT rev, live, in_conflict FROM meet('p', 'other atts', '{"_attachments": {"x": {"data": "YWFh"}}}', '{"_attachments": {"x": {"data": "YmJi"}}}');
SELECT rev, live, in_conflict FROM meet('p', 'other name', '{"_attachments": {"x": {"data": "YWFh"}}}', '{"_attachments": {"y": {"data": "YWFh"}}}');
SELECT rev, live, in_conflict FROM meet('p', 'other type', '{"_attachments": {"x": {"data": "YWFh", "content_type": "a/b"}}}', '{"_attachments": {"x": {"data": "YWFh"}}}');
SELECT docrep.conflict_count('p');
-- tombstone against tombstone is no conflict, nor is tombstone against live
SELECT rev, live, closed, in_conflict FROM meet('p', 'tombstones', '{"_deleted": true}', '{"_deleted": true, "why": 1}');
SELECT rev, live, closed, in_conflict FROM meet('p', 'tombstone', '{"_deleted": true}', '{"n": 1}');
-- an edit ends the version that said the same; so does a deletion; a third version is a conflict
UPDATE p SET doc = '{"n": 9}' WHERE _id = 'same' RETURNING docrep.rev_generation(_rev), doc;
DELETE FROM p WHERE _id = 'empty';
SELECT id, count(*) FILTER (WHERE o->'ok' ? '_deleted') AS closed, count(*) AS leaves FROM unnest('{same,empty}'::text[]) id, jsonb_array_elements(docrep.get('p', id, open_revs => '"all"')) o GROUP BY id ORDER BY id;
SELECT * FROM meet('p', 'put', '{"n": 1}', '{"n": 1}');
SELECT docrep.rev_generation(docrep.put('p', '{"_id": "put", "_rev": "1-b", "n": 2}'));
SELECT count(*) FILTER (WHERE o->'ok' ? '_deleted') AS closed, count(*) AS leaves FROM jsonb_array_elements(docrep.get('p', 'put', open_revs => '"all"')) o;
SELECT * FROM meet('p', 'third', '{"n": 1}', '{"n": 1}');
SELECT incoming('p', 'third', '1-c', '{"n": 3}');
SELECT rev, is_winner, doc FROM docrep.conflicts('p') WHERE id = 'third' ORDER BY rev DESC;
SELECT incoming('p', 'third', '1-d', '{"n": 1}');
SELECT rev, is_winner, doc FROM docrep.conflicts('p') WHERE id = 'third' ORDER BY rev DESC;
-- the winner goes on elsewhere: what said the same goes with it
SELECT * FROM meet('p', 'remote', '{"n": 1}', '{"n": 1}');
SELECT count(*) FROM docrep.bulk_docs('p', '[{"_id": "remote", "_rev": "2-z", "n": 5, "_revisions": {"start": 2, "ids": ["z", "b"]}}]', new_edits => false);
SELECT _rev, doc, docrep.conflict_count('p') FROM p WHERE _id = 'remote';
SELECT * FROM docrep.check('p');

-- latest: by the time of modification; here the one that arrived last, so a, which loses in CouchDB's order
SELECT docrep.set_conflict_policy('p', 'latest');
SELECT * FROM meet('p', 'latest', '{"n": 1}', '{"n": 2}');
SELECT incoming('p', 'latest winner', '1-a', '{"n": 1}'), incoming('p', 'latest winner', '1-b', '{"n": 2}');
SELECT _rev, doc FROM p WHERE _id = 'latest winner';
SELECT * FROM meet('p', 'latest same', '{"n": 1}', '{"n": 1}');
-- with its attachments
SELECT rev, live, closed FROM meet('p', 'latest atts', '{"n": 1, "_attachments": {"x": {"data": "YWFh"}}}', '{"n": 2}');
SELECT doc, convert_from(docrep.get_attachment('p', _id, 'x'), 'UTF8') FROM p WHERE _id = 'latest atts';
-- both at once; the revision is what an edit would be, and arrival in the other order changes nothing
SELECT count(*) FROM docrep.bulk_docs('p', '[{"_id": "at once", "_rev": "1-a", "n": 1}, {"_id": "at once", "_rev": "1-b", "n": 2}, {"_id": "at once", "_rev": "1-c", "n": 3}]', new_edits => false);
SELECT docrep.rev_generation(_rev), doc FROM p WHERE _id = 'at once';
SELECT docrep.conflict_count('p') AS of_before;
-- existing conflicts, in batches
CREATE FUNCTION batches() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE r record; after text;
BEGIN
	LOOP
		SELECT * INTO r FROM docrep.resolve_conflicts('p', 3, after);
		RETURN NEXT format('%s examined, %s resolved, %s unresolved, last %s', r.examined, r.resolved, r.unresolved, r.last);
		after := r.last;
		EXIT WHEN after IS NULL;
	END LOOP;
END $$;
SELECT batches();
SELECT docrep.conflict_count('p');
SELECT docrep.resolve_conflicts('p', 0);
SELECT id, problem FROM docrep.check('p');

-- function: asked with all live versions, the winner first
CREATE FUNCTION spy(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('tbl', tbl, 'id', id, 'who', CURRENT_USER, 'path', current_setting('search_path'),
		'versions', (SELECT jsonb_agg(jsonb_build_object('rev', v.rev, 'doc', v.doc, 'deleted', v.deleted, 'own', v.origin = docrep.node_uuid(), 'recent', v.modified > now() - interval '1 hour') ORDER BY ord) FROM unnest(versions) WITH ORDINALITY v(rev, doc, deleted, modified, origin, ord))) $$;
SELECT docrep.set_conflict_policy('p', 'function', 'spy(regclass, text, docrep.version[])');
SELECT jsonb_pretty(doc - 'who'), doc->>'who' = CURRENT_USER AS owner FROM meet('p', 'spy', '{"n": 1}', '{"n": 2}');
SELECT docrep.set_conflict_policy('p', 'function', 'largest(regclass, text, docrep.version[])');
SELECT * FROM meet('p', 'f winner', '{"n": 1}', '{"n": 2}');
SELECT * FROM meet('p', 'f loser', '{"n": 2, "_attachments": {"x": {"data": "YWFh"}}}', '{"n": 1}');
SELECT doc, jsonb_object_keys(_attachments) FROM p WHERE _id = 'f loser';
SELECT * FROM meet('p', 'f same', '{"n": 2}', '{"n": 2}');
SELECT * FROM meet('p', 'f declines', '{"m": 2}', '{"m": 1}');
-- a body of its own has the winner's attachments
CREATE FUNCTION merge(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('merged', jsonb_agg(v.doc ORDER BY v.rev)) FROM unnest(versions) v $$;
SELECT docrep.set_conflict_policy('p', 'function', 'merge(regclass, text, docrep.version[])');
SELECT * FROM meet('p', 'merge', '{"n": 2, "_attachments": {"x": {"data": "YWFh"}}}', '{"n": 1, "_attachments": {"y": {"data": "YWFh"}}}');
SELECT doc, jsonb_object_keys(_attachments) FROM p WHERE _id = 'merge';
-- deletion
CREATE FUNCTION remove(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"_deleted": true}'::jsonb $$;
SELECT docrep.set_conflict_policy('p', 'function', 'remove(regclass, text, docrep.version[])');
SELECT * FROM meet('p', 'removed', '{"n": 2}', '{"n": 1}');
SELECT docrep.get('p', 'removed');
SELECT * FROM problems;
-- what is no answer, and errors: the conflict stays, the policy's later steps are not taken, and it is reported
CREATE FUNCTION bad(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE id
		WHEN 'array' THEN RETURN '[]';
		WHEN 'scalar' THEN RETURN '1';
		WHEN 'jnull' THEN RETURN 'null';
		WHEN 'id' THEN RETURN '{"_id": "x"}';
		WHEN 'rev' THEN RETURN '{"_rev": "1-a"}';
		WHEN 'atts' THEN RETURN '{"_attachments": {}}';
		WHEN 'member' THEN RETURN '{"_member": 1}';
		WHEN 'raises' THEN RAISE EXCEPTION 'no idea' USING ERRCODE = 'P0123';
		WHEN 'zero' THEN RETURN jsonb_build_object('n', 1 / (versions[1].doc->>'zero')::int);
		WHEN 'role' THEN SET LOCAL ROLE regress_docrep_other;
		WHEN 'session' THEN SET SESSION AUTHORIZATION regress_docrep_other;
		WHEN 'reset' THEN RESET SESSION AUTHORIZATION;
		WHEN 'deferred' THEN INSERT INTO public.deferred VALUES (1);
		WHEN 'same table' THEN UPDATE public.p SET doc = '{"by": "resolver"}' WHERE _id = 'same table';
		WHEN 'ok' THEN RETURN '{"ok": true, "_deleted": false}';
		ELSE RETURN NULL;
	END CASE;
	RETURN '{"done": true}';
END $$;
SELECT docrep.set_conflict_policy('p', 'latest', 'bad(regclass, text, docrep.version[])');
SELECT id, (m).rev, (m).doc, (m).in_conflict FROM unnest('{array,scalar,jnull,id,rev,atts,member,raises,zero,role,session,reset,deferred,"same table",ok,declined}'::text[]) id, meet('p', id, '{"zero": 0}', '{"zero": 0, "b": 1}') m;
SELECT * FROM problems;
-- a row that a constraint refuses is the resolution's fault, and the revision is stored all the same
ALTER TABLE p ADD CHECK (NOT doc ? 'done');
SELECT * FROM meet('p', 'refused', '{"n": 2}', '{"n": 1}');
CREATE OR REPLACE FUNCTION remove(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"done": true}'::jsonb $$;
SELECT docrep.set_conflict_policy('p', 'function', 'remove(regclass, text, docrep.version[])');
SELECT * FROM problems;
SELECT * FROM meet('p', 'refused2', '{"n": 2}', '{"n": 1}');
SELECT * FROM problems;
DELETE FROM docrep.resolutions;
SELECT unresolved FROM docrep.resolve_conflicts('p');
SELECT id, sqlstate FROM problems;
-- a function that is gone
SELECT docrep.set_conflict_policy('p', 'function', 'bad(regclass, text, docrep.version[])');
DROP FUNCTION bad;
SELECT in_conflict FROM meet('p', 'gone', '{"n": 2}', '{"n": 1}');
SELECT * FROM problems;
-- a cancel is not the resolver's
CREATE FUNCTION slow(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT pg_sleep(60); SELECT '{}'::jsonb $$;
SELECT docrep.set_conflict_policy('p', 'function', 'slow(regclass, text, docrep.version[])');
SET statement_timeout = '200ms';
SELECT * FROM meet('p', 'slow', '{"n": 2}', '{"n": 1}');
RESET statement_timeout;
SELECT count(*) FROM p WHERE _id = 'slow';
-- resolving by hand ends a problem, as a change of the policy does
SELECT docrep.set_conflict_policy('p', 'function', 'no_resolver_3');
CREATE FUNCTION raise(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT docrep.set_conflict_policy('p', 'function', 'raise(regclass, text, docrep.version[])');
SELECT in_conflict FROM meet('p', 'x', '{"n": 2}', '{"n": 1}'), LATERAL (SELECT 1) y;
SELECT in_conflict FROM meet('p', 'y', '{"n": 2}', '{"n": 1}');
SELECT id, message FROM problems;
SELECT docrep.rev_generation(docrep.resolve('p', 'x', keep => '1-a'));
SELECT id FROM problems;
SELECT docrep.set_conflict_policy('p', 'keep');
SELECT id FROM problems;

-- constraints look at what the row shows: where one refuses a marker, the conflict is stored unmarked, and that is reported
SELECT docrep.create_table('strict');
ALTER TABLE strict ADD CHECK (doc ? 'n');
SELECT docrep.set_conflict_policy('strict', 'mark');
SELECT * FROM meet('strict', 'a', '{"n": 1}', '{"n": 2}');
SELECT * FROM problems;
SELECT docrep.drop_table('strict');

-- mark
SELECT docrep.create_table('m');
SELECT docrep.set_conflict_policy('m', 'mark');
SELECT incoming('m', 'a', '1-a', '{"n": 1}'), incoming('m', 'a', '1-b', '{"n": 2}'), incoming('m', 'a', '1-c', '{"n": 2}'), incoming('m', 'a', '1-d', '{"n": 2}');
SELECT _id, _rev, doc FROM m;
SELECT docrep.get('m', 'a');
SELECT docrep.get('m', 'a', conflicts => true), docrep.get('m', 'a', rev => '1-a'), docrep.get('m', 'a', rev => '1-d');
SELECT docrep.get('m', 'a', open_revs => '"all"');
SELECT id, rev, is_winner, doc FROM docrep.conflicts('m') ORDER BY rev DESC;
SELECT doc FROM docrep.changes('m', include_docs => true, conflicts => true);
SELECT docrep.bulk_get('m', '[{"id": "a"}]')#>'{results,0,docs,0,ok}';
SELECT docrep.create_table('m_copy');
SELECT docrep.replicate('m', 'm_copy')->'docs_written';
SELECT docrep.get('m_copy', 'a', open_revs => '"all"') = docrep.get('m', 'a', open_revs => '"all"') AS same, (SELECT doc FROM m_copy) AS shown;
-- columns of the user's own can be written; doc stays a conflict
ALTER TABLE m ADD note text;
UPDATE m SET note = 'hello' RETURNING doc->'Conflicts'->>0 = _rev::text AS marked, note;
SELECT docrep.get('m', 'a', conflicts => true) - '_rev';
UPDATE m SET _id = 'b';
-- put, UPDATE and DELETE resolve
UPDATE m SET doc = '{"n": "resolved"}' RETURNING doc;
SELECT docrep.get('m', 'a') - '_rev', docrep.conflict_count('m');
SELECT incoming('m', 'put', '1-a', '{"n": 1}'), incoming('m', 'put', '1-b', '{"n": 2}');
SELECT docrep.rev_generation(docrep.put('m', '{"_id": "put", "_rev": "1-b", "n": 3}'));
SELECT docrep.get('m', 'put') - '_rev', docrep.conflict_count('m');
SELECT incoming('m', 'del', '1-a', '{"n": 1}'), incoming('m', 'del', '1-b', '{"n": 2}');
DELETE FROM m WHERE _id = 'del';
SELECT docrep.get('m', 'del'), docrep.conflict_count('m'), jsonb_array_length(docrep.get('m', 'del', open_revs => '"all"')) AS tombstones;
SELECT incoming('m', 'del2', '1-a', '{"n": 1}'), incoming('m', 'del2', '1-b', '{"n": 2}');
SELECT docrep.rev_generation(docrep.delete('m', 'del2', '1-b'));
SELECT docrep.get('m', 'del2'), docrep.conflict_count('m');
-- deleting a loser, purging, and resolving show the document again
SELECT incoming('m', 'loser', '1-a', '{"n": 1}'), incoming('m', 'loser', '1-b', '{"n": 2}'), incoming('m', 'purge', '1-a', '{"n": 1}'), incoming('m', 'purge', '1-b', '{"n": 2}'),
	incoming('m', 'purge all', '1-a', '{"n": 1}'), incoming('m', 'purge all', '1-b', '{"n": 2}'), incoming('m', 'keep', '1-a', '{"n": 1}'), incoming('m', 'keep', '1-b', '{"n": 2}');
SELECT docrep.rev_generation(docrep.delete('m', 'loser', '1-a')), docrep.purge('m', '{"purge": ["1-b"], "purge all": ["1-a", "1-b"]}') IS NOT NULL AS purged, docrep.resolve('m', 'keep', keep => '1-b');
SELECT _id, doc FROM m WHERE _id IN ('loser', 'purge', 'purge all', 'keep') ORDER BY 1;
-- another winner comes in
SELECT incoming('m', 'more', '1-a', '{"n": 1}'), incoming('m', 'more', '1-b', '{"n": 2}'), incoming('m', 'more', '1-z', '{"n": 3}');
SELECT doc FROM m WHERE _id = 'more';
SELECT docrep.get('m', 'more', open_revs => '"all"');
-- attachments of a marked row
SELECT incoming('m', 'att', '1-a', '{"n": 1}'), incoming('m', 'att', '1-b', '{"n": 2, "_attachments": {"x": {"data": "YWFh"}}}');
SELECT convert_from(docrep.get_attachment('m', 'att', 'x'), 'UTF8');
SELECT id, problem FROM docrep.check('m');
-- another policy shows them again, and back
SELECT docrep.set_conflict_policy('m', 'keep');
SELECT examined, resolved, unresolved FROM docrep.resolve_conflicts('m');
SELECT _id, doc FROM m WHERE _id IN ('more', 'att') ORDER BY 1;
SELECT max(_seq) AS seq FROM m \gset
SELECT docrep.set_conflict_policy('m', 'mark');
SELECT examined, resolved, unresolved FROM docrep.resolve_conflicts('m');
SELECT _id, doc FROM m WHERE _id IN ('more', 'att') ORDER BY 1;
SELECT max(_seq) = :seq AS nothing_to_replicate FROM m;
SELECT docrep.set_conflict_policy('m', 'function,latest,mark', 'largest(regclass, text, docrep.version[])');
SELECT examined, resolved, unresolved FROM docrep.resolve_conflicts('m');
SELECT _id, doc FROM m WHERE _id IN ('more', 'att') ORDER BY 1;
SELECT id, problem FROM docrep.check('m');
SELECT id, problem FROM docrep.check('p');

-- the resolver runs as the table's owner, whoever writes
SET ROLE regress_docrep_owner;
SELECT docrep.create_table('o');
CREATE FUNCTION evil(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF id = 'super' THEN
		ALTER ROLE regress_docrep_owner SUPERUSER;
	ELSIF id = 'role' THEN
		SET ROLE NONE;
	ELSIF id = 'set' THEN
		PERFORM set_config('role', 'none', false);
	ELSIF id = 'other' THEN
		SET ROLE regress_docrep_other;
	END IF;
	RETURN jsonb_build_object('user', CURRENT_USER);
END $$;
SELECT docrep.set_conflict_policy('o', 'function', 'evil(regclass, text, docrep.version[])');
GRANT SELECT, INSERT, UPDATE ON o TO regress_docrep_other;
RESET ROLE;
SELECT id, (m).doc, (m).in_conflict FROM unnest('{plain,super,role,set,other}'::text[]) id, meet('o', id, '{"n": 1}', '{"n": 2}') m;
-- what is said of "super" depends on the version of PostgreSQL
SELECT tbl, id, rounds, policy, sqlstate, CASE WHEN id <> 'super' THEN message END AS message FROM problems;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_docrep_owner';
SET ROLE regress_docrep_other;
SELECT * FROM meet('o', 'as other', '{"n": 1}', '{"n": 2}');
SELECT CURRENT_USER, count(*) FROM docrep.resolution_problems GROUP BY 1;
SELECT docrep.set_conflict_policy('o', 'keep');
RESET ROLE;
-- a function that the owner may not call is none of the owner's
CREATE FUNCTION secret(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
REVOKE EXECUTE ON FUNCTION secret FROM PUBLIC;
SET ROLE regress_docrep_owner;
SELECT docrep.set_conflict_policy('o', 'function', 'secret(regclass, text, docrep.version[])');
RESET ROLE;
SELECT docrep.set_conflict_policy('o', 'function', 'secret(regclass, text, docrep.version[])');

SELECT docrep.create_table('n');
CREATE FUNCTION raise_limit(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT jsonb_build_object('x', clock_timestamp()) $$;
-- rounds: a resolution that is answered each time ends
SELECT docrep.set_conflict_policy('n', 'function', 'raise_limit(regclass, text, docrep.version[])');
\set VERBOSITY terse
SELECT count(incoming('n', 'ping', '9-' || i, jsonb_build_object('i', i))) FROM generate_series(1, 40) i;
\set VERBOSITY default
SELECT rounds, sqlstate, message FROM problems WHERE id = 'ping';
SELECT count(*) > 2 AS in_conflict FROM docrep.conflicts('n');
SELECT count(incoming('n', 'ping', '9-' || i, jsonb_build_object('i', i))) AS no_second_warning FROM generate_series(41, 42) i;
UPDATE n SET doc = '{}';
SELECT count(*) FROM problems WHERE id = 'ping';
SELECT incoming('n', 'ping', '99-a', '{}');
SELECT docrep.conflict_count('n'), (SELECT rounds FROM docrep.resolutions WHERE id = 'ping');

-- counts that have come to rest go after a week, but for those that report a problem
\c -
SET docrep.housekeeping = off;
SET client_min_messages = error;
INSERT INTO docrep.resolutions (tbl, id, rounds, policy, sqlstate, at)
	SELECT uuid, v.id, 1, 'latest', v.sqlstate, now() - v.age FROM docrep.document_tables,
		(VALUES ('old', NULL, interval '8 days'), ('recent', NULL, '6 days'), ('problem', 'DR409', '8 days')) v (id, sqlstate, age)
	WHERE tbl = 'n'::regclass;
SELECT incoming('n', 'rest', '1-a', '{"i": 1}'), incoming('n', 'rest', '1-b', '{"i": 2}');
SELECT count(*) AS "a first resolution is not counted" FROM docrep.resolutions WHERE id = 'rest';
SELECT incoming('n', 'rest', '1-c', '{"i": 3}');
SELECT id FROM docrep.resolutions WHERE id IN ('old', 'recent', 'problem', 'rest') ORDER BY id;
RESET client_min_messages;

-- what a resolver in SQL keeps for its next call goes with the call, however many a batch makes
SELECT docrep.create_table('many');
CREATE FUNCTION frugal(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT versions[1].doc || jsonb_build_object('few', (SELECT count(*) < 20 FROM pg_catalog.pg_backend_memory_contexts WHERE name LIKE 'SQL function%')) $$;
SELECT docrep.set_conflict_policy('many', 'function', 'frugal(regclass, text, docrep.version[])');
SELECT count(*) FROM docrep.bulk_docs('many', (SELECT jsonb_agg(jsonb_build_object('_id', 'd' || i, '_rev', rev, 'v', rev)) FROM generate_series(1, 100) i, unnest('{1-a,1-b}'::text[]) rev), new_edits => false);
SELECT doc, count(*) FROM many GROUP BY 1;
SELECT docrep.drop_table('many');
DROP FUNCTION frugal;

SELECT docrep.drop_table('p'), docrep.drop_table('m'), docrep.drop_table('m_copy'), docrep.drop_table('o'), docrep.drop_table('n');
SELECT count(*) FROM docrep.resolutions;
DROP VIEW problems;
DROP TABLE deferred, parents;
DROP FUNCTION incoming, meet, largest, no_resolver, no_resolver_2, spy, merge, remove, slow, raise, evil, secret, raise_limit, batches;
REVOKE CREATE ON SCHEMA public FROM regress_docrep_owner;
DROP ROLE regress_docrep_owner, regress_docrep_other;
