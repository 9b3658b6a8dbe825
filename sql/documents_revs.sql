-- revision trees, as CouchDB grows, merges, stems and chooses them
SET client_min_messages = warning;
CREATE SCHEMA documents_revs;
SET search_path = documents_revs;
SELECT docrep.create_table('t');

-- store one revision as it is: a path "3-c b a" means 3-c, 2-b, 1-a
CREATE FUNCTION give(id text, path text, body jsonb DEFAULT '{}', deleted boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(error, ','), 'ok') FROM docrep.bulk_docs('t', jsonb_build_array(body || jsonb_build_object('_id', id, '_deleted', deleted,
		'_revisions', jsonb_build_object('start', split_part(path, '-', 1)::int, 'ids', to_jsonb(string_to_array(substr(path, strpos(path, '-') + 1), ' ')))))
		, false)
$$;
-- a document's leaves, winner first, each with its path; deleted ones have a cross
CREATE FUNCTION leaves(id text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg((l->'ok'->'_revisions'->>'start') || '-' || (SELECT string_agg(x, ' ' ORDER BY n) FROM jsonb_array_elements_text(l->'ok'->'_revisions'->'ids') WITH ORDINALITY e(x, n))
		|| CASE WHEN (l->'ok'->>'_deleted')::boolean THEN ' x' ELSE '' END, ' | ' ORDER BY o)
	FROM jsonb_array_elements(docrep.get('t', id, open_revs => '"all"', revs => true)) WITH ORDINALITY a(l, o)
$$;
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- the winner: live before deleted, then the longest, then the highest bytes
SELECT give('w1', '1-a'), give('w1', '1-b'), leaves('w1');
SELECT give('w2', '1-b'), give('w2', '2-a a'), leaves('w2');
SELECT give('w3', '3-c b a', deleted => true), give('w3', '1-z'), leaves('w3');
SELECT give('w4', '1-z'), give('w4', '1-ffffffffffffffffffffffffffffffff'), leaves('w4');
SELECT give('w5', '10-a'), give('w5', '9-z'), leaves('w5');
SELECT give('w6', '1-a', deleted => true), give('w6', '1-b', deleted => true), leaves('w6');
SELECT give('w7', '1-FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF'), leaves('w7');
SELECT give('w8', '1-é'), give('w8', '1-日本'), give('w8', '1-with-hyphens.and:more'), leaves('w8');

-- order of arrival does not matter
SELECT give('o1', '3-c b a'), give('o1', '3-d b a'), give('o1', '2-x a'), leaves('o1');
SELECT give('o2', '2-x a'), give('o2', '3-d b a'), give('o2', '3-c b a'), leaves('o2');

-- a path that begins in the middle attaches where it fits
SELECT give('p1', '2-b a'), give('p1', '4-d c b'), leaves('p1');
-- and one that does not fit is a root of its own, joined later
SELECT give('p2', '1-a'), give('p2', '3-c'), leaves('p2');
SELECT give('p2', '3-c b a'), leaves('p2');
SELECT give('p3', '4-d c'), give('p3', '3-c b a'), leaves('p3');
-- an ancestor that is sent again, or that comes late, changes nothing
SELECT give('p4', '3-c b a'), give('p4', '2-b a'), give('p4', '1-a'), leaves('p4');
-- known revision, other body: success, the stored body stays
SELECT give('p5', '2-b a', '{"v": 1}'), give('p5', '2-b a', '{"v": 2}');
SELECT docrep.get('t', 'p5');

-- conflicts, and edits of losing and deleted leaves
SELECT give('c', '1-a', '{"v": 0}'), give('c', '2-b a', '{"v": 1}'), give('c', '2-c a', '{"v": 2}'), give('c', '2-d a', '{"v": 3}', true);
SELECT docrep.get('t', 'c', conflicts => true, deleted_conflicts => true, revs_info => true);
SELECT docrep.get('t', 'c', rev => '2-b'), docrep.get('t', 'c', rev => '2-d');
SELECT docrep.get('t', 'c', rev => '2-b', conflicts => true)->'_conflicts' IS NULL AS the_only_loser;
SELECT jsonb_pretty(docrep.get('t', 'c', open_revs => '["2-d", "1-a", "2-b", "3-x"]'));
SELECT jsonb_path_query_array(docrep.get('t', 'c', open_revs => '["1-a", "2-b", "3-x"]', latest => true), '$[*].*') AS latest;
SELECT docrep.get('t', 'c', rev => '1-a', latest => true)->'_rev' AS latest;
SELECT docrep.get('t', 'none', open_revs => '"all"') IS NULL AS none, docrep.get('t', 'none', open_revs => '["1-a"]');
SELECT docrep.put('t', '{"_id": "c", "_rev": "2-b", "v": "loser edited"}') AS rev \gset
SELECT leaves('c') LIKE '3-% b a | 2-c a | 2-d a x' AS wins_now, docrep.get('t', 'c')->'v' AS v;
SELECT attempt($$SELECT docrep.put('t', '{"_id": "c", "_rev": "1-a"}')$$), attempt($$SELECT docrep.put('t', '{"_id": "c", "_rev": "2-b"}')$$);
SELECT docrep.put('t', '{"_id": "c", "_rev": "2-d", "v": "deleted leaf edited"}') IS NOT NULL AS taken;
SELECT count(*), count(*) FILTER (WHERE l->'ok' ? '_deleted') AS deleted FROM jsonb_array_elements(docrep.get('t', 'c', open_revs => '"all"')) l;

-- a deleted winner gives way to a live conflict
SELECT give('g', '1-a', '{"v": 0}'), give('g', '2-b a', '{"v": "loser"}'), give('g', '2-c a', '{"v": "winner"}');
SELECT docrep.get('t', 'g')->'v' AS before;
SELECT docrep.delete('t', 'g', '2-c') IS NOT NULL AS deleted;
SELECT docrep.get('t', 'g', conflicts => true), doc FROM t WHERE _id = 'g';
SELECT docrep.delete('t', 'g', '2-b') IS NOT NULL AS deleted;
SELECT docrep.get('t', 'g') IS NULL AS gone, (SELECT count(*) FROM t WHERE _id = 'g') AS live;
SELECT jsonb_array_length(docrep.get('t', 'g', open_revs => '"all"')) AS tombstones;
-- the same through SQL, and through a replicated deletion
SELECT give('g2', '2-b a', '{"v": "loser"}'), give('g2', '2-c a', '{"v": "winner"}');
DELETE FROM t WHERE _id = 'g2';
SELECT _rev, doc FROM t WHERE _id = 'g2';
SELECT give('g3', '2-b a', '{"v": "loser"}'), give('g3', '2-c a', '{"v": "winner"}'), give('g3', '3-x c a', '{}', true), leaves('g3');
SELECT _rev, doc FROM t WHERE _id = 'g3';
-- a live revision brings a deleted document back
SELECT give('g4', '3-c b a', '{}', true);
SELECT count(*) AS live FROM t WHERE _id = 'g4';
SELECT give('g4', '1-z', '{"v": "back"}'), leaves('g4');
SELECT _rev, doc FROM t WHERE _id = 'g4';

-- created again, a document goes on from its winning tombstone
SELECT give('n', '1-a', '{}', true), give('n', '2-c b', '{}', true);
SELECT docrep.put('t', '{"_id": "n", "v": 1}') IS NOT NULL AS created, regexp_replace(leaves('n'), '[0-9a-f]{32}', 'new', 'g');
SELECT give('n2', '2-b a', '{}', true);
INSERT INTO t (_id, doc) VALUES ('n2', '{"v": 1}');
SELECT regexp_replace(leaves('n2'), '[0-9a-f]{32}', 'new', 'g');

-- stemming
SELECT docrep.set_revs_limit('t', 3);
SELECT give('s', '5-e d c b a'), leaves('s');
SELECT docrep.put('t', '{"_id": "s", "_rev": "5-e"}') IS NOT NULL AS put, regexp_replace(leaves('s'), '[0-9a-f]{32}', 'new', 'g');
-- a revision stemmed away is missing, and comes back as a conflict
SELECT docrep.revs_diff('t', '{"s": ["3-c", "4-d"]}')->'s'->'missing' AS missing;
SELECT give('s', '3-c b a'), regexp_replace(leaves('s'), '[0-9a-f]{32}', 'new', 'g');
-- branches are stemmed each on its own
SELECT give('s2', '4-d c b a'), give('s2', '3-x b a'), leaves('s2');
SELECT docrep.set_revs_limit('t', 1);
SELECT give('s3', '3-c b a'), leaves('s3'), docrep.put('t', '{"_id": "s3", "_rev": "3-c"}') IS NOT NULL AS put;
SELECT regexp_replace(leaves('s3'), '[0-9a-f]{32}', 'new', 'g');
SELECT docrep.set_revs_limit('t', 1000);

-- a long history made by edits
SELECT docrep.put('t', '{"_id": "l", "n": 0}') IS NOT NULL AS put;
DO $$
BEGIN
	FOR n IN 1..199 LOOP
		UPDATE documents_revs.t SET doc = jsonb_build_object('n', n) WHERE _id = 'l';
	END LOOP;
END $$;
SELECT docrep.get('t', 'l', revs => true)->'_revisions'->'start' AS start, jsonb_array_length(docrep.get('t', 'l', revs => true)->'_revisions'->'ids') AS ids,
	jsonb_array_length(docrep.get('t', 'l', revs_info => true)->'_revs_info') AS infos;

SELECT docrep.get('t', 'l', rev => '1-0000', latest => true) IS NULL AS unknown, docrep.get('t', 'l', latest => true)->'n' AS n;

-- all of it is consistent
SELECT * FROM docrep.check('t');
DROP SCHEMA documents_revs CASCADE;
