-- Validation by a SQL function, on every way in which documents are written.
SET client_min_messages = warning;
CREATE SCHEMA validate;
SET search_path = validate, public;

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

CREATE TABLE plain (doc jsonb);

/* "no": the reason to refuse, "raise": raised; otherwise what was given is told in the reason */
CREATE FUNCTION check_doc(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('transaction_read_only') <> 'on' THEN
		RAISE EXCEPTION 'a validator could write';
	END IF;
	IF new_doc ? 'raise' THEN
		RAISE EXCEPTION '%', new_doc->>'raise' USING ERRCODE = 'check_violation';
	END IF;
	IF new_doc ? 'tell' THEN
		RETURN format('new %s, old %s', new_doc, coalesce(old_doc::text, 'NULL'));
	END IF;
	IF new_doc ? 'who' THEN
		RETURN format('%s as %s', user_ctx->>'name', current_user);
	END IF;
	IF new_doc ? '_deleted' AND old_doc ? 'keep' THEN
		RETURN 'it is to be kept';
	END IF;
	RETURN new_doc->>'no';
END $$;

SELECT docrep.create_table('t');
INSERT INTO t (_id, doc) VALUES ('old', '{"no": "as it was there before"}');

-- setting it
SELECT attempt($$SELECT docrep.set_validator('t', 'length(text)')$$);
CREATE FUNCTION strict_one(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb)
RETURNS text LANGUAGE sql STRICT AS 'SELECT NULL::text';
SELECT attempt($$SELECT docrep.set_validator('t', 'strict_one')$$);
SELECT attempt($$SELECT docrep.set_validator('t', 'strict_one(jsonb,jsonb,jsonb,jsonb)')$$);
SELECT attempt($$SELECT docrep.set_validator('plain', 'check_doc(jsonb,jsonb,jsonb,jsonb)')$$);
SELECT docrep.set_validator('t', 'check_doc(jsonb,jsonb,jsonb,jsonb)');
SELECT * FROM docrep.validators('t');
SELECT s.validator FROM docrep.table_settings s JOIN docrep.document_tables d ON d.uuid = s.tbl
	WHERE d.tbl = 't'::regclass;

-- a validator may also say whether a document may be written, or just raise
SELECT docrep.create_table('answers');
CREATE FUNCTION may_be(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT (new_doc->>'n')::int > 0$$;
SELECT docrep.set_validator('answers', 'may_be(jsonb,jsonb,jsonb,jsonb)');
SELECT attempt($$INSERT INTO answers (_id, doc) VALUES ('a', '{"n": 1}')$$);
SELECT attempt($$INSERT INTO answers (_id, doc) VALUES ('b', '{"n": 0}')$$);
SELECT id, error, reason FROM docrep.bulk_docs('answers', '[{"_id": "c", "n": 2}, {"_id": "d", "n": 0}, {"_id": "e"}]');
CREATE FUNCTION raises(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS void LANGUAGE plpgsql AS $$BEGIN IF new_doc ? 'no' THEN RAISE 'not this one' USING ERRCODE = 'DR401'; END IF; END$$;
SELECT docrep.set_validator('answers', 'raises(jsonb,jsonb,jsonb,jsonb)');
SELECT attempt($$INSERT INTO answers (_id, doc) VALUES ('f', '{"no": 1}')$$);
SELECT id, error, reason FROM docrep.bulk_docs('answers', '[{"_id": "g"}, {"_id": "h", "no": 1}]');
-- it is looked at again when the function is another one
DROP FUNCTION raises;
CREATE FUNCTION raises(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT attempt($$INSERT INTO answers (_id, doc) VALUES ('f', '{}')$$);
-- one in SQL that has raised for a document is asked about the next ones from its beginning
CREATE FUNCTION counts(jsonb, jsonb, jsonb, jsonb) RETURNS text LANGUAGE sql AS $$SELECT CASE WHEN ($1 ->> 'n')::int < 0 THEN 'negative' END$$;
SELECT docrep.set_validator('answers', 'counts(jsonb,jsonb,jsonb,jsonb)');
BEGIN;
INSERT INTO answers (_id, doc) VALUES ('i', '{"n": 1}');
SAVEPOINT s;
INSERT INTO answers (_id, doc) VALUES ('j', '{"n": "x"}');
ROLLBACK TO s;
INSERT INTO answers (_id, doc) VALUES ('k', '{"n": 2}');
SELECT id, error, reason FROM docrep.bulk_docs('answers', '[{"_id": "l", "n": "x"}, {"_id": "m", "n": 3}, {"_id": "n", "n": -1}]');
COMMIT;
SELECT string_agg(_id, ' ' ORDER BY _id) FROM answers WHERE _id > 'h';

-- plain SQL
INSERT INTO t (_id, doc) VALUES ('a', '{"v": 1}');
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('b', '{"no": "not this one"}')$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('b', '{"raise": "mine"}')$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('b', '{"tell": 1}')$$);
SELECT attempt($$INSERT INTO t (doc) VALUES ('{"_id": "b", "tell": 1}')$$);
SELECT attempt($$UPDATE t SET doc = '{"tell": 2}' WHERE _id = 'a'$$);
SELECT attempt($$UPDATE t SET doc = '{"no": "not so"}' WHERE _id = 'a'$$);
SELECT attempt($$UPDATE t SET _id = 'aa', doc = '{"tell": 2}' WHERE _id = 'a'$$);
INSERT INTO t (_id, doc) VALUES ('kept', '{"keep": 1}');
SELECT attempt($$DELETE FROM t WHERE _id = 'kept'$$);
SELECT attempt($$UPDATE t SET _id = 'moved' WHERE _id = 'kept'$$);
DELETE FROM t WHERE _id = 'a';
-- created again on top of its tombstone: as new, unless the tombstone is named
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"tell": 3}')$$);
SELECT attempt(format($$INSERT INTO t (_id, doc, _rev) VALUES ('a', '{"tell": 4}', %L)$$,
	docrep.get('t', 'a', open_revs => '"all"')->0->'ok'->>'_rev'));
SELECT _id, doc FROM t ORDER BY _id;
-- what was there before validators were is only looked at when it is written
SELECT attempt($$UPDATE t SET doc = doc WHERE _id = 'old'$$);

-- upserts: the row that is not inserted is not asked about
INSERT INTO t (_id, doc) VALUES ('a', '{"v": 1}');
INSERT INTO t (_id, doc) VALUES ('a', '{"no": "asked about"}') ON CONFLICT DO NOTHING;
INSERT INTO t (_id, doc) VALUES ('a', '{"no": "asked about"}')
	ON CONFLICT (_id) DO UPDATE SET doc = t.doc || '{"v": 2}';
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('a', '{"v": 3}')
	ON CONFLICT (_id) DO UPDATE SET doc = t.doc || '{"no": "as an update"}'$$);
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('new', '{"no": "as an insertion"}')
	ON CONFLICT (_id) DO UPDATE SET doc = '{}'$$);
INSERT INTO t (_id, doc) VALUES ('twice', '{"v": 1}'), ('twice', '{"no": "asked about"}') ON CONFLICT DO NOTHING;
SELECT doc FROM t WHERE _id IN ('a', 'twice') ORDER BY _id;

-- COPY stops at the first
COPY t (_id, doc) FROM stdin;
c1	{"v": 1}
c2	{"no": "not copied"}
c3	{"v": 1}
\.
SELECT count(*) FROM t WHERE _id LIKE 'c_';

-- functions
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "no": "not put"}')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "raise": "mine"}')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "tell": 1}')$$);
SELECT docrep.put('t', '{"_id": "p", "v": 1}');
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "_rev": "1-0c0d770f8c9e27e85ec1cb5ee6fc3759", "tell": 1}')$$);
-- conflicts come first
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "no": "a conflict"}')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "p", "_rev": "1-0c0d770f8c9e27e85ec1cb5ee6fc3750", "no": "a conflict"}')$$);
SELECT attempt($$SELECT docrep.delete('t', 'kept', (SELECT _rev::text FROM t WHERE _id = 'kept'))$$);
SELECT attempt($$SELECT docrep.put_attachment('t', 'att', 'a.txt', 'text/plain', 'abc')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "att2", "tell": 1, "_attachments": {"a.txt": {"data": "YWJj", "content_type": "text/plain"}}}')$$);
SELECT docrep.put('t', '{"_id": "att3", "_attachments": {"a.txt": {"data": "YWJj", "content_type": "text/plain"}}}') IS NOT NULL AS put;
SELECT attempt($$UPDATE t SET doc = '{"tell": 2}' WHERE _id = 'att3'$$);

-- batches: by document, also two of the same
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "b1"}, {"_id": "b2", "no": "refused"}, {"_id": "b3", "raise": "raised"}, {"_id": "b4"},
	{"_id": "b4", "no": "a conflict"}, {"_id": "b5", "no": "refused"}, {"_id": "b5", "v": 2}, {"_id": "a", "v": 5}]');
SELECT _id, doc FROM t WHERE _id LIKE 'b_' ORDER BY _id;
-- revisions as they are: what is there is not asked about, nor what others go on from
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "r1", "_rev": "1-a", "v": 1}, {"_id": "r2", "_rev": "1-a", "no": "refused"},
	{"_id": "r3", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "v": 2},
	{"_id": "r3", "_rev": "1-a", "no": "never stored"}]', new_edits => false);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "old", "_rev": "1-x", "tell": "a first revision beside another"},
	{"_id": "r1", "_rev": "1-a", "no": "it is there"},
	{"_id": "r1", "_rev": "4-d", "_revisions": {"start": 4, "ids": ["d", "c", "b", "a"]}, "tell": "an ancestor"},
	{"_id": "r3", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "tell": "a branch"}]', new_edits => false);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "r1", "_rev": "2-z", "_revisions": {"start": 2, "ids": ["z", "a"]}, "v": "a loser"},
	{"_id": "r1", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "no": "one of two"}]', new_edits => false);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "r1", "_rev": "2-y", "_revisions": {"start": 2, "ids": ["y", "a"]}, "v": "another loser"}]', new_edits => false);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[
	{"_id": "r1", "_rev": "3-y", "_revisions": {"start": 3, "ids": ["y", "y", "a"]}, "tell": "a losing leaf"},
	{"_id": "r1", "_rev": "3-x", "_deleted": true, "_revisions": {"start": 3, "ids": ["x", "y", "a"]}, "tell": "a deletion"}]', new_edits => false);
SELECT docrep.get('t', 'r1', conflicts => true);
SELECT docrep.check('t');

-- design documents and local documents are not asked about
INSERT INTO t (_id, doc) VALUES ('_design/d', '{"no": "asked about"}');
SELECT docrep.put_local('t', 'l', '{"no": "asked about"}');

-- a user's trigger comes first, and what it makes of a document is what counts
CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.doc := NEW.doc - 'mend' || coalesce(NEW.doc->'mend', '{}');
	RETURN NEW;
END $$;
CREATE TRIGGER mend BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION mend();
INSERT INTO t (_id, doc) VALUES ('m1', '{"no": "mended", "mend": {"no": null}}');
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('m2', '{"mend": {"no": "by the trigger"}}')$$);
SELECT attempt($$SELECT docrep.put('t', '{"_id": "m2", "mend": {"no": "by the trigger"}}')$$);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[{"_id": "m2", "no": "mended", "mend": {"no": null}},
	{"_id": "m3", "mend": {"no": "by the trigger"}}, {"_id": "m4", "no": "without"}, {"_id": "m5"},
	{"_id": "m6", "_rev": "1-a", "_deleted": true, "no": "a deletion"}]');
SELECT _id, doc FROM t WHERE _id LIKE 'm_' ORDER BY _id;
DROP TRIGGER mend ON t;

-- conflicts: what a policy makes of them is not asked about, what somebody says is
SELECT docrep.set_conflict_policy('t', 'latest');
SELECT docrep.bulk_docs('t', '[{"_id": "fight", "_rev": "1-a", "keep": 1}]', new_edits => false);
SELECT docrep.bulk_docs('t', '[{"_id": "fight", "_rev": "1-b", "keep": 2}]', new_edits => false);
SELECT docrep.get('t', 'fight', conflicts => true) ? '_conflicts' AS in_conflict;
SELECT docrep.set_conflict_policy('t', 'keep');
SELECT docrep.bulk_docs('t', '[{"_id": "quarrel", "_rev": "1-a", "keep": 1}, {"_id": "quarrel", "_rev": "1-b", "keep": 2}]', new_edits => false);
SELECT attempt($$SELECT docrep.resolve('t', 'quarrel', doc => '{"no": "merged"}')$$);
SELECT attempt($$SELECT docrep.resolve('t', 'quarrel', keep => '1-b')$$);
SELECT jsonb_array_length(docrep.get('t', 'quarrel', conflicts => true) -> '_conflicts') AS conflicts;
-- a document that shows its conflict is asked about with its true body
SELECT docrep.set_conflict_policy('t', 'mark');
SELECT docrep.bulk_docs('t', '[{"_id": "marked", "_rev": "1-a", "v": 1}, {"_id": "marked", "_rev": "1-b", "v": 2}]', new_edits => false);
SELECT doc FROM t WHERE _id = 'marked';
SELECT attempt($$UPDATE t SET doc = '{"tell": 1}' WHERE _id = 'marked'$$);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[{"_id": "marked", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "c", "b"]}, "tell": 1}]', new_edits => false);
SELECT docrep.set_conflict_policy('t', 'keep');
SELECT docrep.check('t');

-- who writes: the current role, in user_ctx and as which the function runs
CREATE ROLE validate_writer;
CREATE ROLE validate_reader;
GRANT USAGE ON SCHEMA validate, docrep TO validate_writer, validate_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON t TO validate_writer;
SET ROLE validate_writer;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('w', '{"who": 1}')$$);
SELECT id, error, reason FROM docrep.bulk_docs('t', '[{"_id": "w", "who": 1}]');
SELECT attempt($$SELECT docrep.set_validator('t', NULL)$$);
SELECT attempt($$SET docrep.validation = off$$);
SET ROLE validate_reader;
SELECT attempt($$SELECT * FROM docrep.validators('t')$$);
RESET ROLE;
-- as with a trigger's, EXECUTE is asked of who sets it and not of who writes
REVOKE EXECUTE ON FUNCTION check_doc FROM PUBLIC;
SET ROLE validate_writer;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('w', '{"no": "still"}')$$);
RESET ROLE;
ALTER FUNCTION check_doc SECURITY DEFINER;
SET ROLE validate_writer;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('w', '{"who": 1}')$$) LIKE 'DR403: validate_writer as validate_writer%' AS as_writer,
	attempt($$INSERT INTO t (_id, doc) VALUES ('w', '{"who": 1}')$$) LIKE 'DR403: validate_writer as %' AS refused;
RESET ROLE;
ALTER FUNCTION check_doc SECURITY INVOKER;

-- row security: what a role may not see it is not told by a validator
SELECT docrep.create_table('hidden');
CREATE FUNCTION tell_old(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb)
RETURNS text LANGUAGE sql AS $$ SELECT coalesce(old_doc->>'secret', 'nothing is known') $$;
SELECT docrep.put('hidden', '{"_id": "s", "secret": "xyzzy"}');
SELECT docrep.set_validator('hidden', 'tell_old(jsonb,jsonb,jsonb,jsonb)');
GRANT SELECT, INSERT, UPDATE, DELETE ON hidden TO validate_writer;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
CREATE POLICY nothing ON hidden TO validate_writer USING (doc ? 'open');
SELECT attempt($$SELECT docrep.put('hidden', jsonb_build_object('_id', 's', '_rev', (SELECT _rev FROM hidden)))$$);
SELECT format($$SELECT docrep.put('hidden', '{"_id": "s", "_rev": "%s"}')$$, _rev) AS put FROM hidden \gset
SET ROLE validate_writer;
SELECT attempt(:'put');
RESET ROLE;

-- the cache: in this transaction, and when it is rolled back
BEGIN;
SELECT docrep.set_validator('t', NULL);
INSERT INTO t (_id, doc) VALUES ('x1', '{"no": "nobody asks"}');
SAVEPOINT s;
SELECT docrep.set_validator('t', 'check_doc(jsonb,jsonb,jsonb,jsonb)');
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('x2', '{"no": "somebody asks"}')$$);
ROLLBACK TO s;
INSERT INTO t (_id, doc) VALUES ('x2', '{"no": "nobody asks"}');
ROLLBACK;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('x3', '{"no": "somebody asks"}')$$);
PREPARE ins AS INSERT INTO t (_id, doc) VALUES ($1, '{"no": "prepared"}');
SELECT attempt($$EXECUTE ins('x4')$$);
SELECT docrep.set_validator('t', NULL);
EXECUTE ins('x4');
SELECT docrep.set_validator('t', 'check_doc(jsonb,jsonb,jsonb,jsonb)');
SELECT attempt($$EXECUTE ins('x5')$$);

-- a function that changes, and one that goes
CREATE OR REPLACE FUNCTION check_doc(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb)
RETURNS text LANGUAGE sql AS $$ SELECT 'another function' $$;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('y', '{}')$$);
ALTER FUNCTION check_doc RENAME TO gone;
SELECT attempt($$INSERT INTO t (_id, doc) VALUES ('y', '{}')$$);
SELECT attempt($$SELECT * FROM docrep.bulk_docs('t', '[{"_id": "y1"}, {"_id": "y2"}]')$$);
SELECT * FROM docrep.validators('t');
SET docrep.validation = off;
INSERT INTO t (_id, doc) VALUES ('y', '{}');
RESET docrep.validation;
SELECT attempt($$DELETE FROM t WHERE _id = 'y'$$);
ALTER FUNCTION gone RENAME TO check_doc;
SELECT attempt($$DELETE FROM t WHERE _id = 'y'$$);

-- each time that any function changes it is looked up again, and leaves nothing behind
CREATE OR REPLACE FUNCTION check_doc(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb)
RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN new_doc ? 'no' THEN 'no' END $$;
DO $$
BEGIN
	FOR i IN 1 .. 50 LOOP
		EXECUTE format('CREATE OR REPLACE FUNCTION changes() RETURNS int LANGUAGE sql AS ''SELECT %s''', i);
		INSERT INTO t (_id, doc) VALUES ('z' || i, '{}');
	END LOOP;
END $$;
SELECT count(*) < 20 AS few FROM pg_backend_memory_contexts WHERE name LIKE 'SQL function%';

DROP SCHEMA validate CASCADE;
DROP OWNED BY validate_writer, validate_reader;
DROP ROLE validate_writer, validate_reader;
