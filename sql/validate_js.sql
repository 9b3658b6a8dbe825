-- validate_doc_update of design documents, on every way in which documents are written.
SET client_min_messages = warning;
CREATE SCHEMA validate_js;
SET search_path = validate_js, public;

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
/* a design document that validates */
CREATE FUNCTION design(source text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('validate_doc_update', source) $$;

SELECT docrep.create_table('t');
INSERT INTO t (_id, doc) VALUES ('old', '{"no": "as it was there before"}');
INSERT INTO t (_id, doc) VALUES ('_design/m', design($js$
	(newDoc, oldDoc, userCtx, secObj) => {
		const { no, login, other, tell } = newDoc;
		if (no) { throw {forbidden: no}; }
		if (login) { throw {unauthorized: `${login} first`}; }
		if (other) { throw new TypeError(other); }
		if (tell) { throw {forbidden: JSON.stringify([newDoc, oldDoc])}; }
		if (newDoc.who) {
			throw {forbidden: userCtx.name + ' of ' + userCtx.db + (userCtx.roles.includes('_admin') ? ', admin' : '') +
				', table of ' + secObj.admins.names};
		}
		if (newDoc.object) { throw {forbidden: {a: 1}}; }
		if (newDoc._deleted && oldDoc && oldDoc.keep) { throw {forbidden: 'it is to be kept'}; }
	}$js$));
SELECT * FROM docrep.validators('t');

-- what may be thrown
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"no": "not this one"}')$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"login": "ann"}')$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"other": "a type"}')$$) ~ '^DR500: validate_doc_update of "_design/m" failed for document "a": .*a type' AS dr500;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"object": 1}')$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('ä"\', '{"tell": "ü\"\\ ☃ 𝄞", "n": 1.50, "big": 12345678901234567890, "a": [null, true]}')$$);

-- ways to write
INSERT INTO t (_id, doc) VALUES ('a', '{"v": 1}'), ('kept', '{"keep": true}');
SELECT attempt($$UPDATE t SET doc = '{"tell": 2}' WHERE _id = 'a'$$);
SELECT attempt($$UPDATE t SET doc = doc WHERE _id = 'old'$$);
SELECT attempt($$DELETE FROM t WHERE _id = 'kept'$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "no": "not put"}')$$);
SELECT attempt($$SELECT docrep.delete('t', 'kept', (SELECT _rev::text FROM t WHERE _id = 'kept'))$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "att", "tell": 1, "_attachments": {"a.txt": {"data": "YWJj", "content_type": "text/plain"}}}')$$);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "b1"}, {"_id": "b2", "no": "refused"}, {"_id": "b3", "login": "bob"}, {"_id": "b4", "object": 1},
	{"_id": "b4"}, {"_id": "b4", "no": "a conflict"}, {"_id": "a", "no": "a conflict"}]');
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "r1", "_rev": "1-a", "v": 1}, {"_id": "r2", "_rev": "1-a", "no": "refused"}, {"_id": "r1", "_rev": "1-a", "no": "again"},
	{"_id": "a", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "0c0d770f8c9e27e85ec1cb5ee6fc3759"]}, "tell": "an ancestor"}]', new_edits => false);
COPY t (_id, doc) FROM stdin;
c1	{"v": 1}
c2	{"no": "not copied"}
\.
SELECT _id FROM t ORDER BY _id;

-- several: all of them, in the order of their ids, and a SQL function before
INSERT INTO t (_id, doc) VALUES ('_design/a', design('function (d) { if (d.all || d.a) { throw {forbidden: this._id + " says no"}; } }')),
	('_design/z', design('function (d) { if (d.all || d.z) { throw {forbidden: this._id + " says no"}; } }'));
SELECT id, reason FROM docrep.bulk_docs('t', '[{"_id": "s1", "all": 1, "no": "m"}, {"_id": "s2", "z": 1, "no": "m"}, {"_id": "s3", "z": 1}, {"_id": "s4"}]');
CREATE FUNCTION first_of_all(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN new_doc ? 'all' THEN 'the function says no' END $$;
SELECT docrep.set_validator('t', 'first_of_all(jsonb,jsonb,jsonb,jsonb)');
SELECT id, reason FROM docrep.bulk_docs('t', '[{"_id": "s5", "all": 1, "no": "m"}, {"_id": "s6", "a": 1}, {"_id": "s7"}]');
SELECT name, problem FROM docrep.validators('t');
SELECT docrep.set_validator('t', NULL);
DELETE FROM t WHERE _id IN ('_design/a', '_design/z');

-- the cache: design documents in a transaction, in a savepoint, in a statement with others
SELECT docrep.create_table('u');
BEGIN;
INSERT INTO u (_id, doc) VALUES ('_design/d', design('function () { throw {forbidden: "nothing more"}; }'));
SAVEPOINT s;
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('1', '{}')$$);
UPDATE u SET doc = design('function (d) { if (d.x) { throw {forbidden: "no x"}; } }') WHERE _id = '_design/d';
INSERT INTO u (_id, doc) VALUES ('1', '{}');
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('2', '{"x": 1}')$$);
ROLLBACK TO s;
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('1', '{}')$$);
ROLLBACK;
INSERT INTO u (_id, doc) VALUES ('1', '{"x": 1}');
-- with the statement's end, and not before
COPY u (_id, doc) FROM stdin;
_design/d	{"validate_doc_update": "function () { throw {forbidden: 'nothing more'}; }"}
with	{}
\.
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('2', '{}')$$);
DELETE FROM u WHERE _id = '_design/d';
INSERT INTO u (_id, doc) VALUES ('2', '{}');
SELECT id, error FROM docrep.bulk_docs('u', '[{"_id": "_design/d", "validate_doc_update": "function () { throw {forbidden: 1}; }"}, {"_id": "3"}]');
SELECT id, error, reason FROM docrep.bulk_docs('u', '[{"_id": "4"}]');
SELECT docrep.purge('u', jsonb_build_object('_design/d', jsonb_build_array((SELECT _rev::text FROM u WHERE _id = '_design/d')))) ? 'purged' AS purged;
-- purged: nobody validates any more
SELECT id, error, reason FROM docrep.bulk_docs('u', '[{"_id": "4"}]');
-- another winner is another validator
SELECT docrep.bulk_docs('u', '[{"_id": "_design/c", "_rev": "1-a", "validate_doc_update": "function () { throw {forbidden: 1}; }"}]', new_edits => false);
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('5', '{}')$$);
SELECT docrep.bulk_docs('u', '[{"_id": "_design/c", "_rev": "1-b", "views": {}}]', new_edits => false);
INSERT INTO u (_id, doc) VALUES ('5', '{}');
SELECT docrep.delete('u', '_design/c', '1-b') IS NOT NULL AS deleted;
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('6', '{}')$$);
SELECT docrep.delete('u', '_design/c', '1-a') IS NOT NULL AS deleted;
INSERT INTO u (_id, doc) VALUES ('6', '{}');

-- design documents that cannot validate: not by an edit, but by replication
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('_design/bad', '{"validate_doc_update": 7}')$$);
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('_design/bad', design('function ( {'))$$) LIKE 'DR400: %compilation_error%' AS dr400;
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('_design/bad', design('1 + 1'))$$) LIKE 'DR400: %' AS dr400;
SELECT id, error, reason LIKE '%compilation_error%' AS says FROM docrep.bulk_docs('u', '[{"_id": "7"}, {"_id": "_design/bad", "validate_doc_update": "nonsense ("}, {"_id": "8"}]');
SELECT docrep.bulk_docs('u', '[{"_id": "_design/bad", "_rev": "1-a", "validate_doc_update": "nonsense ("}]', new_edits => false);
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('9', '{}')$$) LIKE 'DR500: validate_doc_update of "_design/bad" failed for document "9": %compilation_error%' AS dr500;
SELECT id, error FROM docrep.bulk_docs('u', '[{"_id": "9"}, {"_id": "10"}]');
SELECT name, problem IS NOT NULL AS problem FROM docrep.validators('u');
SET docrep.validation = off;
INSERT INTO u (_id, doc) VALUES ('9', '{}');
INSERT INTO u (_id, doc) VALUES ('_design/bad2', '{"validate_doc_update": 7}');
RESET docrep.validation;
DELETE FROM u WHERE _id IN ('_design/bad', '_design/bad2');
INSERT INTO u (_id, doc) VALUES ('_design/other', '{"language": "erlang", "validate_doc_update": "fun(_) -> ok end."}');
SELECT attempt($$INSERT INTO u (_id, doc) VALUES ('10', '{}')$$);
SELECT attempt($$SELECT * FROM docrep.bulk_docs('u', '[{"_id": "10"}]')$$);
SELECT * FROM docrep.validators('u');
DELETE FROM u WHERE _id = '_design/other';

-- who writes
CREATE ROLE validate_js_owner;
CREATE ROLE validate_js_writer;
GRANT USAGE ON SCHEMA validate_js TO validate_js_owner, validate_js_writer;
ALTER TABLE t OWNER TO validate_js_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON t TO validate_js_writer;
SET ROLE validate_js_writer;
SELECT attempt($$INSERT INTO validate_js.t (_id, doc) VALUES ('w', '{"who": 1}')$$);
SET ROLE validate_js_owner;
SELECT attempt($$INSERT INTO validate_js.t (_id, doc) VALUES ('w', '{"who": 1}')$$);
-- userCtx.db whatever the search_path
SET search_path = public;
SELECT validate_js.attempt($$INSERT INTO validate_js.t (_id, doc) VALUES ('w', '{"who": 1}')$$);
SET search_path = validate_js, public;
RESET ROLE;

-- with many of them each is compiled once, not for every document
SELECT docrep.create_table('many');
INSERT INTO many (_id, doc) SELECT '_design/' || i, design('function (d) { if (d.no === ' || i || ') throw {forbidden: "' || i || '"}; }') FROM generate_series(1, 30) i;
INSERT INTO many (_id, doc) VALUES ('_design/count', design('function (d) { calls = (typeof calls === "undefined" ? 0 : calls) + 1; if (d.calls) throw {forbidden: calls}; }'));
INSERT INTO many (_id, doc) VALUES ('a', '{}');
SELECT attempt($$INSERT INTO many (_id, doc) VALUES ('b', '{"no": 17}')$$);
SELECT attempt($$INSERT INTO many (_id, doc) VALUES ('c', '{"calls": 1}')$$);

-- modules of the design document
INSERT INTO t (_id, doc) VALUES ('_design/n', design('function (d) { require("lib/rules").check(d); }') ||
	'{"lib": {"rules": "exports.check = function (d) { if (d.rule) { throw({forbidden: \"a rule\"}); } };"}}');
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('w', '{"rule": 1}')$$);
INSERT INTO t (_id, doc) VALUES ('w', '{}');

-- a design document whose row shows a conflict: its winner goes on validating
SELECT docrep.create_table('c');
SELECT docrep.set_conflict_policy('c', 'mark');
SELECT count(*) FROM docrep.bulk_docs('c', jsonb_build_array(
	design('() => { throw {forbidden: "the winner"}; }') || '{"_id": "_design/m", "_rev": "1-b"}',
	design('() => { throw {forbidden: "the loser"}; }') || '{"_id": "_design/m", "_rev": "1-a"}'), new_edits => false);
SELECT doc FROM c;
SELECT attempt($$INSERT INTO c (_id, doc) VALUES ('w', '{}')$$);
SELECT attempt($$SELECT docrep.put('c', '{"_id": "w"}')$$);

SELECT * FROM docrep.check('t');
SELECT * FROM docrep.check('u');
DROP SCHEMA validate_js CASCADE;
DROP OWNED BY validate_js_owner, validate_js_writer;
DROP ROLE validate_js_owner, validate_js_writer;
