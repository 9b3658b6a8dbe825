-- a resolver that is asked about the conflicts of a batch: an error is one document's, and what the good calls do is done once
\set VERBOSITY terse
SET docrep.housekeeping = off;
SELECT docrep.create_table('r');
CREATE TABLE calls (n serial, id text, note text);
CREATE SEQUENCE tries;
-- conflicts d01, d02, ... that come in with one call; what was said of them
CREATE FUNCTION bring(first int, last int, prefix text DEFAULT 'd') RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(b.error || ': ' || b.reason, ', '), 'ok') FROM docrep.bulk_docs('r', (
		SELECT jsonb_agg(jsonb_build_object('_id', prefix || to_char(g, 'fm00'), '_rev', '1-' || r, 'by', r) ORDER BY r, g)
		FROM generate_series(first, last) g, unnest('{a,b}'::text[]) r), new_edits => false) b $$;
CREATE VIEW problems AS SELECT id, sqlstate, message FROM docrep.resolution_problems ORDER BY id;
-- how often each document's call is noted, in how many subtransactions, and what is in conflict
CREATE VIEW outcome AS SELECT (SELECT string_agg(id || CASE k WHEN 1 THEN '' ELSE ' x ' || k END, ' ' ORDER BY id) FROM (SELECT id, count(*) AS k FROM calls GROUP BY id) c) AS calls,
	(SELECT count(DISTINCT xmin::text) FROM calls) AS subtransactions,
	(SELECT string_agg(_id, ' ' ORDER BY _id) FROM r WHERE doc ? 'all') AS resolved,
	(SELECT string_agg(DISTINCT id, ' ' ORDER BY id) FROM docrep.conflicts('r')) AS in_conflict;

-- it writes a table, and fails for those that the test wants
CREATE TABLE guilty (id text);
CREATE FUNCTION noting(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.calls (id) VALUES (noting.id);
	IF EXISTS (SELECT FROM public.guilty g WHERE g.id = noting.id) THEN
		RAISE EXCEPTION 'not %', id USING ERRCODE = 'P0' || translate(right(id, 3), 'd', '0');
	END IF;
	RETURN jsonb_build_object('all', (SELECT jsonb_agg(v.doc->'by' ORDER BY v.rev) FROM unnest(versions) v));
END $$;
SELECT docrep.set_conflict_policy('r', 'function', 'noting(regclass, text, docrep.version[])');
SELECT bring(1, 12);
SELECT * FROM outcome;
SELECT docrep.purge('r', jsonb_object_agg(id, revs)) IS NOT NULL AS purged FROM (SELECT _id AS id, docrep.get('r', _id, open_revs => '"all"') FROM r) x (id, leaves),
	LATERAL (SELECT jsonb_agg(l->'ok'->'_rev') FROM jsonb_array_elements(leaves) l) y (revs);
-- several in the middle, side by side and apart, and the last
TRUNCATE calls;
INSERT INTO guilty VALUES ('d05'), ('d06'), ('d09'), ('d12');
SELECT bring(1, 12);
SELECT calls, resolved, in_conflict FROM outcome;
SELECT * FROM problems;
-- again, when two of them are no longer guilty: by hand, and only the conflicts
TRUNCATE calls;
DELETE FROM guilty WHERE id IN ('d06', 'd12');
SELECT examined, resolved, unresolved FROM docrep.resolve_conflicts('r');
SELECT calls, in_conflict FROM outcome;
SELECT * FROM problems;
-- what is no problem any more when a revision comes in
DELETE FROM guilty WHERE id = 'd09';
SELECT docrep.bulk_docs('r', '[{"_id": "d09", "_rev": "1-c", "by": "c"}]', new_edits => false);
SELECT id FROM problems;
-- all of them
TRUNCATE calls;
INSERT INTO guilty SELECT 'e' || to_char(g, 'fm00') FROM generate_series(1, 4) g;
SELECT bring(1, 4, 'e');
SELECT calls, in_conflict FROM outcome;
-- a row that is refused is the fault of its document alone, too
TRUNCATE calls;
TRUNCATE guilty;
ALTER TABLE r ADD CHECK (_id <> 'f03' OR NOT doc ? 'all');
SELECT bring(1, 5, 'f');
SELECT * FROM outcome;
SELECT * FROM problems WHERE id LIKE 'f%';

-- it fails at its first call only, whichever document that is about
CREATE FUNCTION fails_at_first(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.calls (id) VALUES (id);
	IF nextval('public.tries') = ANY (string_to_array(current_setting('test.fail_at'), ',')::int[]) THEN
		RAISE EXCEPTION 'not this time';
	END IF;
	RETURN '{"all": true}';
END $$;
SELECT docrep.set_conflict_policy('r', 'function', 'fails_at_first(regclass, text, docrep.version[])');
TRUNCATE calls;
SET test.fail_at = '1';
SELECT bring(1, 4, 'g');
SELECT calls, in_conflict FROM outcome;
SELECT * FROM problems WHERE id LIKE 'g%';
-- at its third, and when the first two are called again as what they did is gone
TRUNCATE calls;
SELECT setval('tries', 1, false);
SET test.fail_at = '3,4';
SELECT bring(1, 4, 'h');
SELECT calls, in_conflict FROM outcome;
SELECT * FROM problems WHERE id LIKE 'h%';

-- what a call sets ends with it, and a call sees what those before it did; one that declines leaves no answer
CREATE FUNCTION setting(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.calls (id, note) SELECT setting.id, concat_ws(' ', CURRENT_USER = 'regress_docrep_resolver', current_setting('search_path'), nullif(current_setting('test.set', true), ''), (SELECT count(*) FROM public.calls));
	SET search_path = public;
	PERFORM set_config('test.set', 'by ' || id, false);
	RETURN CASE WHEN right(id, 1) <> '2' THEN jsonb_build_object('all', id) END;
END $$;
CREATE ROLE regress_docrep_resolver;
GRANT ALL ON calls, calls_n_seq TO regress_docrep_resolver;
GRANT CREATE ON SCHEMA public TO regress_docrep_resolver;
ALTER TABLE r OWNER TO regress_docrep_resolver;
SELECT docrep.set_conflict_policy('r', 'function', 'setting(regclass, text, docrep.version[])');
TRUNCATE calls;
SELECT bring(1, 3, 'i');
SELECT id, note FROM calls ORDER BY n;
SELECT _id, doc FROM r WHERE _id LIKE 'i%' ORDER BY 1;
SELECT CURRENT_USER <> 'regress_docrep_resolver' AS own_role, current_setting('search_path') <> 'public' AS own_path, current_setting('test.set', true) AS set;

-- one that stores a conflict elsewhere, whose resolver fails: the one is no problem of the other
CREATE FUNCTION inner_one(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO public.calls (id) VALUES (id); SELECT jsonb_build_object('all', 1 / (id <> 'j2')::int) $$;
CREATE FUNCTION outer_one(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM docrep.bulk_docs('public.nested', jsonb_build_array(jsonb_build_object('_id', id, '_rev', '1-a', 'n', 1), jsonb_build_object('_id', id, '_rev', '1-b', 'n', 2)), new_edits => false);
	IF right(id, 1) = '4' THEN RAISE EXCEPTION 'no'; END IF;
	RETURN jsonb_build_object('all', (SELECT n.doc FROM public.nested n WHERE n._id = outer_one.id));
END $$;
SELECT docrep.create_table('nested');
ALTER TABLE nested OWNER TO regress_docrep_resolver;
SELECT docrep.set_conflict_policy('nested', 'function', 'inner_one(regclass, text, docrep.version[])');
SELECT docrep.set_conflict_policy('r', 'function', 'outer_one(regclass, text, docrep.version[])');
TRUNCATE calls;
SELECT docrep.bulk_docs('r', (SELECT jsonb_agg(jsonb_build_object('_id', 'j' || g, '_rev', '1-' || v, 'v', v)) FROM generate_series(1, 5) g, unnest('{a,b}'::text[]) v), new_edits => false);
SELECT _id, doc FROM r WHERE _id LIKE 'j%' ORDER BY 1;
SELECT _id, doc FROM nested ORDER BY 1;
SELECT calls FROM outcome;
SELECT tbl, id, sqlstate, message FROM docrep.resolution_problems WHERE id LIKE 'j%' ORDER BY tbl::text, id;

-- a cancel ends everything
CREATE FUNCTION slow(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO public.calls (id) VALUES (id); SELECT pg_sleep(60) WHERE id = 'k03'; SELECT '{"all": true}'::jsonb $$;
SELECT docrep.set_conflict_policy('r', 'function', 'slow(regclass, text, docrep.version[])');
TRUNCATE calls;
SET statement_timeout = '300ms';
SELECT bring(1, 5, 'k');
RESET statement_timeout;
SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM r WHERE _id LIKE 'k%') AS documents, (SELECT count(*) FROM problems WHERE id LIKE 'k%') AS problems;
-- a function that is gone is a problem of each
DROP FUNCTION slow;
SELECT bring(1, 3, 'k');
SELECT * FROM problems WHERE id LIKE 'k%';
SELECT id, problem FROM docrep.check('r');

DROP VIEW outcome, problems;
SELECT docrep.drop_table('r'), docrep.drop_table('nested');
DROP FUNCTION bring, noting, fails_at_first, setting, inner_one, outer_one;
DROP TABLE calls, guilty;
DROP SEQUENCE tries;
REVOKE CREATE ON SCHEMA public FROM regress_docrep_resolver;
DROP ROLE regress_docrep_resolver;
