-- plain DML that is refused, and leaves nothing behind
\set SHOW_CONTEXT never
SELECT docrep.create_table('bad');
INSERT INTO bad VALUES ('a', '{"n": 1}'), ('gone', '{}');
DELETE FROM bad WHERE _id = 'gone';
-- SQLSTATE and message of a statement that must fail
CREATE PROCEDURE bad_sql(command text) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	BEGIN
		EXECUTE command;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RAISE INFO '%', concat(SQLSTATE, ': ', SQLERRM, E'\n  detail: ' || nullif(detail, ''), E'\n  hint: ' || nullif(hint, ''));
		RETURN;
	END;
	RAISE EXCEPTION 'accepted: %', command;
END
$$;
\set bad 'CALL bad_sql'
\pset tuples_only on

-- the id
:bad ($$INSERT INTO bad VALUES ('', '{}')$$);
:bad ($$INSERT INTO bad(doc) VALUES ('{"_id": ""}')$$);
:bad ($$INSERT INTO bad(doc) VALUES ('{}')$$);
:bad ($$INSERT INTO bad(doc) VALUES ('{"_id": 1}')$$);
:bad ($$INSERT INTO bad(doc) VALUES ('{"_id": null}')$$);
:bad ($$INSERT INTO bad VALUES ('_x', '{}')$$);
:bad ($$INSERT INTO bad VALUES ('_local/x', '{}')$$);
:bad ($$INSERT INTO bad VALUES ('_design/', '{}')$$);
:bad ($$INSERT INTO bad VALUES (repeat('é', 1001), '{}')$$);
:bad ($$INSERT INTO bad(doc) VALUES (jsonb_build_object('_id', repeat('x', 2001)))$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_id": "y"}')$$);
:bad ($$UPDATE bad SET doc = '{"_id": "y"}'$$);
:bad ($$UPDATE bad SET _id = ''$$);
:bad ($$UPDATE bad SET _id = '_x'$$);
:bad ($$UPDATE bad SET _id = NULL, doc = '{}'$$);
INSERT INTO bad VALUES (repeat('é', 1000), '{}') RETURNING length(_id);
DELETE FROM bad WHERE _id LIKE 'é%';

-- the body
:bad ($$INSERT INTO bad VALUES ('x', '[]')$$);
:bad ($$INSERT INTO bad VALUES ('x', '[{}]')$$);
:bad ($$INSERT INTO bad VALUES ('x', '1')$$);
:bad ($$INSERT INTO bad VALUES ('x', '"{}"')$$);
:bad ($$INSERT INTO bad VALUES ('x', 'null')$$);
:bad ($$INSERT INTO bad VALUES ('x', NULL)$$);
:bad ($$INSERT INTO bad(_id) VALUES ('x')$$);
:bad ($$UPDATE bad SET doc = NULL$$);
:bad ($$UPDATE bad SET doc = '[]'$$);
:bad ($$UPDATE bad SET doc = 'true'$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_foo": 1}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"a": 1, "_": 1}')$$);
:bad ($$UPDATE bad SET doc = doc || '{"_bar": 1}'$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_deleted": true}')$$);
:bad ($$UPDATE bad SET doc = '{"_deleted": true}'$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_deleted": 1}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_attachments": {"a": {}}}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"a": "\u0000"}')$$);
-- members that begin with "_" further down are the user's own
INSERT INTO bad VALUES ('deep', '{"a": {"_foo": 1, "_id": 2}}') RETURNING doc;
DELETE FROM bad WHERE _id = 'deep';

-- the revision
:bad ($$INSERT INTO bad VALUES ('x', '{"_rev": "1-a"}')$$);
:bad ($$INSERT INTO bad(_id, doc, _rev) VALUES ('x', '{}', '1-a')$$);
:bad ($$INSERT INTO bad VALUES ('gone', '{"_rev": "1-eb1f4729e58978d8a4d4adce65aa913b"}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_rev": "a"}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_rev": 1}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{"_rev": "2-a", "_revisions": {"start": 2, "ids": ["b"]}}')$$);
:bad ($$UPDATE bad SET doc = '{"_rev": "1-a"}'$$);
:bad ($$UPDATE bad SET _rev = '1-a'$$);
:bad ($$UPDATE bad SET _rev = NULL$$);
:bad ($$UPDATE bad SET doc = '{}' WHERE _rev <> '1-a' AND doc @> '{"n": 2}' OR _rev < 'x'$$);

-- bookkeeping
:bad ($$INSERT INTO bad(_id, doc, _seq) VALUES ('x', '{}', 7)$$);
:bad ($$INSERT INTO bad(_id, doc, _modified) VALUES ('x', '{}', now())$$);
:bad ($$INSERT INTO bad(_id, doc, _tree) VALUES ('x', '{}', '2-a <- 1-b')$$);
:bad ($$INSERT INTO bad(_id, doc, _trunk) VALUES ('x', '{}', '\x00')$$);
:bad ($$INSERT INTO bad SELECT 'copy', doc, _rev, _seq FROM bad$$);
:bad ($$UPDATE bad SET _seq = _seq + 1$$);
:bad ($$UPDATE bad SET _seq = NULL$$);
:bad ($$UPDATE bad SET _modified = now() + '1 day'$$);
:bad ($$UPDATE bad SET _tree = '2-a <- 1-b'$$);
:bad ($$UPDATE bad SET _trunk = '\x00'$$);
:bad ($$TRUNCATE bad$$);
:bad ($$INSERT INTO bad VALUES ('a', '{}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{}'), ('x', '{}')$$);
:bad ($$INSERT INTO bad VALUES ('x', '{}'), ('x', '{}') ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc$$);

-- the same through COPY: all or nothing
\set VERBOSITY terse
COPY bad(doc) FROM STDIN;
{"_id": "x"}
{"_id": "_y"}
\.
COPY bad(doc) FROM STDIN;
{"_id": "x"}
[]
\.
COPY bad FROM STDIN;
x	{}	1-a	1	2020-01-01 00:00:00+00	\N	\N	\N	\N
\.

-- nothing of all this is there
\pset tuples_only off
SELECT _id, doc, _rev, _seq, _tree FROM bad;
SELECT id, deleted FROM docrep.changes('bad') WHERE id NOT LIKE 'é%';
SELECT * FROM docrep.check('bad');
-- two-phase commit
BEGIN;
UPDATE bad SET doc = '{"prepared": true}';
PREPARE TRANSACTION 'bad';
SELECT doc FROM bad;
DROP TABLE bad;
DROP PROCEDURE bad_sql;
