-- Filters of design documents: designdoc/name and _view.
SET client_min_messages = warning;
CREATE SCHEMA filters_js;
SET search_path = filters_js, public;

CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || SQLERRM || CASE WHEN detail = '' THEN '' ELSE ' (' || detail || ')' END;
END $$;
SELECT docrep.create_table('t');
-- what a filter of _design/app lets pass
CREATE FUNCTION pass(filter text, params jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(CASE WHEN deleted THEN '-' ELSE '' END || id, ' ' ORDER BY seq)
	FROM docrep.changes('t', filter => filter, query_params => params) $$;
INSERT INTO t (_id, doc) VALUES
	('orders/1', '{"type": "order", "n": 1}'), ('orders/2', '{"type": "order", "n": 2}'),
	('users-ann', '{"type": "user", "tags": ["a", "b"]}'), ('gone', '{"type": "order", "n": 3}');
DELETE FROM t WHERE _id = 'gone';
-- documents with two leaves, of which the first named is the winner
SELECT docrep.bulk_docs('t', '[{"_id": "two", "_rev": "1-b", "type": "order"}, {"_id": "two", "_rev": "1-a", "type": "user"},
	{"_id": "owt", "_rev": "1-b", "type": "user"}, {"_id": "owt", "_rev": "1-a", "type": "order"}]', new_edits => false);
SELECT docrep.bulk_docs('t', '[{"_id": "old", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}, "type": "old"}]', new_edits => false);
SELECT docrep.put('t', '{"_id": "att", "type": "att", "_attachments": {"note.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}}') IS NOT NULL AS ok;
INSERT INTO t (_id, doc) VALUES ('_design/app', $j${
	"language": "javascript",
	"lib": {"types": "exports.order = 'order'; exports.deep = require('lib/more').value;", "more": "exports.value = 5;"},
	"filters": {
		"all": "function (doc, req) { return true; }",
		"none": "function (doc, req) { return false; }",
		"by_type": "function (doc, req) { return doc.type === req.query.type; }",
		"arrow": "(doc, {query}) => `${doc.type}` === query.type",
		"truthy": "function (doc) { return doc.tags && doc.tags.length; }",
		"object": "function (doc) { return {}; }",
		"nothing": "function (doc) { }",
		"zero": "function (doc) { return 0; }",
		"empty": "function (doc) { return ''; }",
		"deletions": "function (doc) { return doc._deleted; }",
		"as_text": "function (doc, req) { return Object.keys(req.query).every(function (k) { return typeof req.query[k] === 'string'; }); }",
		"echo": "function (doc, req) { throw {forbidden: JSON.stringify([req.query, req.method, req.path, req.info, req.id, req.headers, req.form, req.cookie, req.body])}; }",
		"who": "function (doc, req) { throw {forbidden: JSON.stringify(req.userCtx)}; }",
		"whose": "function (doc, req) { throw {unauthorized: JSON.stringify(req.secObj)}; }",
		"sees": "function (doc) { if (doc._id[0] === '_') return false; doc._rev = typeof doc._rev; throw new Error(JSON.stringify(doc)); }",
		"third": "function (doc) { if (doc._id === 'users-ann') doc.no(); return true; }",
		"lib": "function (doc) { return doc.type === require('lib/types').order; }",
		"broken": "function (doc) {",
		"number": "1 + 1",
		"object_member": {"a": 1},
		"nul": "function (doc) { throw {forbidden: 'before\\u0000after'}; }"
	},
	"views": {
		"orders": {"map": "function (doc) { if (doc.type === 'order') { emit(doc.n, null); emit(doc._id); } }"},
		"deleted": {"map": "function (doc) { if (doc._deleted) emit(doc._id); }"},
		"throws": {"map": "function (doc) { emit(doc.none()); }"},
		"nomap": {"reduce": "_count"}
	}
}$j$);

-- what passes
SELECT pass('app/all'), pass('app/none');
SELECT pass('app/by_type', '{"type": "order"}'), pass('app/arrow', '{"type": "user"}'), pass('app/by_type');
SELECT pass('app/lib');
SELECT pass('app/deletions');
-- what is true in JavaScript passes
SELECT pass('app/truthy'), pass('app/object') = pass('app/all') AS object, pass('app/nothing') AS nothing, pass('app/zero') AS zero, pass('app/empty') AS empty;
-- a view
SELECT pass('_view', '{"view": "app/orders"}'), pass('_view', '{"view": "app/deleted"}');
-- every leaf is asked about
SELECT id, changes FROM docrep.changes('t', filter => 'app/by_type', query_params => '{"type": "user"}', style => 'all_docs') WHERE id IN ('two', 'owt') ORDER BY id;
SELECT id, changes FROM docrep.changes('t', filter => '_view', query_params => '{"view": "app/orders"}', style => 'all_docs') WHERE id IN ('two', 'owt') ORDER BY id;
-- with other options of the feed
SELECT id, doc->>'n' AS n FROM docrep.changes('t', filter => 'app/by_type', query_params => '{"type": "order"}', include_docs => true, max_rows => 2);
SELECT id FROM docrep.changes('t', filter => 'app/by_type', query_params => '{"type": "order"}', descending => true);
SELECT attempt($$SELECT * FROM docrep.changes('t', filter => 'app/all', doc_ids => '{two}')$$);

-- how far was scanned, and what is left
SELECT docrep.changes_feed('t', filter => 'app/none') = jsonb_build_object('results', '[]'::jsonb, 'pending', 0, 'last_seq', docrep.info('t')->'update_seq') AS scanned;
SELECT f->'pending' AS pending, f->'last_seq' = f->'results'->0->'seq' AS at_row, f->'results'->0->'id' AS id
	FROM docrep.changes_feed('t', filter => 'app/by_type', query_params => '{"type": "user"}', max_rows => 1) f;

-- what a function is given
SELECT attempt($$SELECT * FROM docrep.changes('t', filter => 'app/sees')$$);
CREATE FUNCTION seen(doc_id text) RETURNS text LANGUAGE sql AS $$
	SELECT attempt(format($f$SELECT * FROM docrep.changes('t', filter => 'app/sees', since => %s, max_rows => 1)$f$,
		(SELECT seq - 1 FROM docrep.changes('t', doc_ids => ARRAY[doc_id])))) $$;
SELECT seen('gone');
SELECT seen('old');
SELECT seen('att');
SELECT pass('app/as_text', '{"a": 1, "b": true, "c": [1, {"x": null}], "d": "d", "e": null}') = pass('app/all') AS as_text;
SELECT attempt($$SELECT pass('app/echo', '{"a": 1, "b": [1, "x"], "c": "c", "d": null}')$$);
CREATE ROLE filters_js_joe;
CREATE ROLE filters_js_staff ROLE filters_js_joe;
CREATE ROLE filters_js_firm ROLE filters_js_staff;
GRANT USAGE ON SCHEMA filters_js TO filters_js_joe;
GRANT SELECT ON t TO filters_js_joe;
SET ROLE filters_js_joe;
SELECT attempt($$SELECT pass('app/who')$$);
RESET ROLE;
ALTER TABLE t OWNER TO filters_js_joe;
GRANT CREATE ON SCHEMA filters_js TO filters_js_joe;
SET ROLE filters_js_joe;
SELECT attempt($$SELECT pass('app/who')$$);
SELECT attempt($$SELECT pass('app/whose')$$);
-- the table's name is the same whatever the search_path, as a replication has another than a session
SET search_path = public;
SELECT filters_js.attempt($$SELECT id FROM docrep.changes('filters_js.t', filter => 'app/who')$$), filters_js.attempt($$SELECT id FROM docrep.changes('filters_js.t', filter => 'app/echo')$$);
SET search_path = filters_js, public;
RESET ROLE;
SELECT attempt($$SELECT pass('app/nul')$$);

-- what is wrong
SELECT attempt(format('SELECT pass(%L)', f)) FROM unnest(ARRAY['none/all', 'app/missing', 'app/broken', 'app/number', 'app/object_member', 'app/', '/all', 'app/a/b']) f;
SELECT attempt(format('SELECT pass(%L, %L)', '_view', p)) FROM unnest(ARRAY['{}', '{"view": "x"}', '{"view": "none/x"}', '{"view": "app/none"}', '{"view": "app/nomap"}',
	'{"view": 1}', '{"view": "app/orders/x"}']) p;
SELECT attempt($$SELECT pass('_view', '{"view": "app/throws"}')$$);
-- the document is named, and what comes before it can be had
SELECT attempt($$SELECT pass('app/third')$$);
SELECT id FROM docrep.changes('t', filter => 'app/third', max_rows => 2);
SELECT attempt($$SELECT * FROM docrep.changes('t', filter => 'app/third', max_rows => 3)$$);
-- other languages, a design document that is deleted, one without filters
SELECT docrep.put('t', '{"_id": "_design/other", "language": "erlang", "filters": {"f": "fun(D, R) -> true end."}}') IS NOT NULL AS ok;
SELECT attempt($$SELECT pass('other/f')$$);
INSERT INTO t (_id, doc) VALUES ('_design/dead', '{}'), ('_design/bare', '{}'), ('_design/odd', '{"filters": "x", "language": 7}');
DELETE FROM t WHERE _id = '_design/dead';
SELECT attempt($$SELECT pass('dead/f')$$), attempt($$SELECT pass('bare/f')$$), attempt($$SELECT pass('odd/f')$$);
-- the winner of now counts
UPDATE t SET doc = jsonb_set(doc, '{filters,all}', '"function (doc) { return doc.n === 2; }"') WHERE _id = '_design/app';
SELECT pass('app/all');

-- row security: neither documents nor design documents that the role does not see
ALTER TABLE t OWNER TO CURRENT_USER;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON t FOR SELECT USING (doc->>'type' = 'user' OR _id = '_design/app');
GRANT SELECT ON t TO filters_js_joe;
SET ROLE filters_js_joe;
SELECT pass('app/by_type', '{"type": "user"}'), pass('app/by_type', '{"type": "order"}');
SELECT attempt($$SELECT pass('other/f')$$);
SELECT id FROM docrep.changes('t', filter => 'app/by_type', query_params => '{"type": "user"}', style => 'all_docs');
RESET ROLE;
DROP POLICY few ON t;
CREATE POLICY few ON t FOR SELECT USING (doc->>'type' = 'user');
SET ROLE filters_js_joe;
SELECT attempt($$SELECT pass('app/by_type', '{"type": "user"}')$$);
RESET ROLE;

-- many documents, in order, with one in the midst that fails
SELECT docrep.create_table('many');
INSERT INTO many (_id, doc) SELECT 'd' || to_char(i, 'FM00000'), jsonb_build_object('n', i) FROM generate_series(1, 3000) i;
INSERT INTO many (_id, doc) VALUES ('_design/m', '{"filters": {
	"tenth": "function (doc) { return doc.n % 10 === 0; }",
	"fails": "function (doc) { if (doc.n === 1500) throw new TypeError(\"not this one\"); return doc.n % 10 === 0; }"}}');
SELECT count(*), min(id), max(id), bool_and(seq > before) AS in_order FROM (
	SELECT id, seq, lag(seq, 1, 0::bigint) OVER () AS before FROM docrep.changes('many', filter => 'm/tenth')) c;
SELECT count(*), max(id) FROM docrep.changes('many', filter => 'm/fails', max_rows => 149);
SELECT attempt($$SELECT count(*) FROM docrep.changes('many', filter => 'm/fails', max_rows => 150)$$);
SELECT count(*), min(id), max(id) FROM docrep.changes('many', filter => 'm/tenth', since => (SELECT seq FROM docrep.changes('many', doc_ids => '{d01000}')));
-- bodies that are long, stored out of line
INSERT INTO many (_id, doc) SELECT 'long' || i, jsonb_build_object('n', i * 10, 'text', (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 3000) j)) FROM generate_series(1, 40) i;
SELECT count(*), sum(length(doc->>'text')) FROM docrep.changes('many', filter => 'm/tenth', include_docs => true) WHERE id LIKE 'long%';

-- a row that shows a conflict: filters are given what the winner says
SELECT docrep.create_table('marked');
SELECT docrep.set_conflict_policy('marked', 'mark') IS NOT NULL AS set;
INSERT INTO marked (_id, doc) VALUES ('_design/m', '{"filters": {"order": "function (doc) { return doc.type === ''order''; }"}}');
SELECT docrep.bulk_docs('marked', '[{"_id": "two", "_rev": "1-b", "type": "order"}, {"_id": "two", "_rev": "1-a", "type": "user"}]', new_edits => false);
SELECT doc ? 'Conflicts' AS shown FROM marked WHERE _id = 'two';
CREATE FUNCTION is_order(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT doc @> '{"type": "order"}'$$;
SELECT id, changes, doc->>'type' AS type FROM docrep.changes('marked', filter => 'm/order', include_docs => true);
SELECT id, changes FROM docrep.changes('marked', filter => 'm/order', style => 'all_docs');
SELECT id, changes FROM docrep.changes('marked', filter => 'filters_js.is_order');

-- replication: what comes before the document that fails is replicated
SELECT docrep.create_table('u');
SELECT attempt($$SELECT docrep.replicate('many', 'u', '{"filter": "m/fails"}')$$);
SELECT count(*), max(_id) FROM u;
SELECT attempt($$SELECT docrep.replicate('many', 'u', '{"filter": "m/missing"}')$$), attempt($$SELECT docrep.replicate('many', 'u', '{"filter": "no/missing"}')$$),
	attempt($$SELECT docrep.replicate('many', 'u', '{"filter": "m"}')$$), attempt($$SELECT docrep.replicate('many', 'u', '{"filter": "m/a/b"}')$$);

ALTER TABLE t OWNER TO CURRENT_USER;
SELECT docrep.drop_table('t'), docrep.drop_table('many'), docrep.drop_table('u'), docrep.drop_table('marked');
DROP OWNED BY filters_js_joe;
DROP ROLE filters_js_joe, filters_js_staff, filters_js_firm;
DROP SCHEMA filters_js CASCADE;
