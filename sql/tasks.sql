-- docrep.replicator: what is accepted, what is refused, what is shown
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA tasks;
SET search_path = tasks;
SELECT docrep.create_table('s'), docrep.create_table('t'), docrep.create_table('u');
INSERT INTO s VALUES ('a', '{"n": 1}'), ('b', '{"n": 2}');

-- what a row says when it says it, or NULL after a while
CREATE FUNCTION says(task text, wanted text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
	FOR i IN 1..2400 LOOP
		SELECT doc ->> '_replication_state' INTO said FROM docrep.replicator WHERE _id = task;
		EXIT WHEN said = wanted;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN said;
END $$;
-- what is kept of a task, without what differs from run to run
CREATE VIEW kept AS SELECT id, owner::regrole, source, target, proxy, continuous, disabled, secrets, state, reason
	FROM docrep.task_state;

-- the table
SELECT attname, atttypid::regtype, attnotnull FROM pg_attribute
	WHERE attrelid = 'docrep.replicator'::regclass AND attnum > 0 ORDER BY attnum;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'docrep.replicator'::regclass ORDER BY 1;
SELECT count(*) FROM docrep.tables WHERE tbl = 'docrep.replicator'::regclass;
TRUNCATE docrep.replicator;

-- a one-shot
INSERT INTO docrep.replicator VALUES ('one', '{"source": "s", "target": "t"}') RETURNING _id, doc, owner = CURRENT_USER::regrole AS mine;
SELECT says('one', 'completed');
SELECT _id, doc FROM t ORDER BY _id;
SELECT doc - '_replication_id' - '_replication_state_time' - '_replication_stats' AS doc,
	doc ->> '_replication_id' ~ '^[0-9a-f]{32}$' AS id,
	doc ->> '_replication_state_time' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$' AS at,
	doc #> '{_replication_stats,docs_written}' AS written,
	docrep.rev_generation(_rev) AS generation
	FROM docrep.replicator WHERE _id = 'one';
SELECT docrep.get('docrep.replicator', 'one') ? '_replication_state' AS shown,
	docrep.get('docrep.replicator', 'one') ->> '_rev' = _rev::text AS same_rev FROM docrep.replicator WHERE _id = 'one';
SELECT id, changes -> 0 ->> 'rev' LIKE '1-%' AS first, deleted FROM docrep.changes('docrep.replicator');
-- it may be written back as it was read, and runs again
SELECT docrep.put('docrep.replicator', docrep.get('docrep.replicator', 'one')) IS NOT NULL AS put;
SELECT says('one', 'completed');
UPDATE docrep.replicator SET doc = doc || '{"worker_batch_size": 10}' WHERE _id = 'one';
SELECT doc ? 'worker_batch_size' AS changed, docrep.rev_generation(_rev) FROM docrep.replicator WHERE _id = 'one';
SELECT says('one', 'completed');
SELECT docrep.put('docrep.replicator', '{"_id": "one", "_rev": "1-63c80d2859be0ecb7bf827f9385b9477", "source": "s", "target": "t"}');
INSERT INTO docrep.replicator VALUES ('one', '{"source": "s", "target": "t"}');
SELECT * FROM docrep.check('docrep.replicator');

-- refused: each names what is wrong
CREATE FUNCTION refused(doc jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO docrep.replicator VALUES ('refused', doc);
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT d, refused(d) FROM unnest(ARRAY[
	'[]', '1', '{}', '{"source": "s"}', '{"target": "t"}', '{"source": "s", "target": "s"}',
	'{"source": 1, "target": "t"}', '{"source": "s", "target": ["t"]}', '{"source": "s", "target": ""}',
	'{"source": "s", "target": "t", "sauce": 1}', '{"source": "s", "target": "t", "continuous": "yes"}',
	'{"source": "s", "target": "t", "worker_batch_size": -1}', '{"source": "s", "target": "t", "http_connections": 0}',
	'{"source": "s", "target": "t", "checkpoint_interval": -5}', '{"source": "s", "target": "t", "doc_ids": "a"}',
	'{"source": "ftp://host/db", "target": "t"}', '{"source": "http://:5984/db", "target": "t"}',
	'{"source": "http://host", "target": "t"}', '{"source": {"headers": {}}, "target": "t"}',
	'{"source": "s", "target": "t", "cancel": true}', '{"source": "s", "target": "t", "cancel": false}',
	'{"source": "s", "target": "t", "replication_id": "x"}', '{"source": "s", "target": "t", "proxy": "nowhere"}',
	'{"source": "s", "target": "t", "since_seq": {}}', '{"source": "s", "target": "t", "since_seq": true}', '{"source": "s", "target": "t", "since_seq": -1}',
	'{"source": "nosuch", "target": "t"}', '{"source": "s", "target": "nosuch"}', '{"source": "s", "target": "kept"}',
	'{"source": "s", "target": "t", "_unknown": 1}', '{"_id": "other", "source": "s", "target": "t"}',
	'{"source": "postgresql://host/db", "target": "t"}']::jsonb[]) d;
INSERT INTO docrep.replicator VALUES (NULL, '{"source": "s", "target": "t"}');
INSERT INTO docrep.replicator VALUES ('_bad', '{"source": "s", "target": "t"}');
INSERT INTO docrep.replicator (_id, doc, _seq) VALUES ('seq', '{"source": "s", "target": "t"}', 5);
UPDATE docrep.replicator SET doc = '{}' WHERE _id = 'one';
SELECT _id FROM docrep.replicator;
SELECT id, error, reason FROM docrep.bulk_docs('docrep.replicator',
	'[{"_id": "bulk1", "source": "s", "target": "u"}, {"_id": "bulk2", "source": "s"}]') ORDER BY id;
SELECT says('bulk1', 'completed');
-- revisions from elsewhere
SELECT docrep.bulk_docs('docrep.replicator', '[{"_id": "x", "_rev": "1-a", "source": "http://u:p@h/d", "target": "t"}]', new_edits => false);
-- design documents are no tasks
INSERT INTO docrep.replicator VALUES ('_design/views', '{"language": "sql"}');
SELECT id FROM kept ORDER BY id;
DELETE FROM docrep.replicator;
SELECT * FROM kept;

-- credentials: none is shown, each is kept
INSERT INTO docrep.replicator VALUES
	('c1', '{"source": "http://joe:pw@127.0.0.1:1/db", "target": "t", "disabled": true}'),
	('c2', '{"source": {"url": "https://joe:pw@127.0.0.1:1/db/", "headers": {"X-Tenant": "7", "Authorization": "Bearer pw", "X-Api-Key": "pw"}}, "target": "t", "disabled": true}'),
	('c3', '{"source": {"url": "http://127.0.0.1:1/db", "auth": {"basic": {"username": "joe", "password": "pw"}}}, "target": "t", "disabled": true}'),
	('c4', '{"source": "postgresql://joe:p%40w@127.0.0.1:1/db?sslmode=disable&password=pw&p%61ssword=pw#t", "target": "t", "disabled": true}'),
	('c5', '{"source": "s", "target": "http://127.0.0.1:1/db", "proxy": "http://joe:pw@proxy:80", "disabled": true}'),
	('c6', '{"source": "{\"url\": \"http://joe:pw@127.0.0.1:1/db\"}", "target": "t", "disabled": true}');
SELECT _id, doc FROM docrep.replicator ORDER BY _id;
SELECT id, secrets FROM kept ORDER BY id;
SELECT count(*) FROM docrep.task_state WHERE flat ~ 'pw|p%40w';
SELECT count(*) FROM docrep.changes('docrep.replicator', include_docs => true) WHERE doc::text ~ 'pw|p%40w';
-- written back without them
UPDATE docrep.replicator SET doc = doc || '{"http_connections": 3}';
SELECT count(*) FROM docrep.task_state WHERE flat ~ 'pw|p%40w' AND flat ~ '"http_connections":3';
-- the same place, written otherwise
UPDATE docrep.replicator SET doc = doc || '{"source": "HTTP://127.0.0.1:1/db/"}' WHERE _id = 'c1';
UPDATE docrep.replicator SET doc = doc || '{"source": {"url": "https://127.0.0.1:1/db", "headers": {"X-Tenant": "8"}}}' WHERE _id = 'c2';
UPDATE docrep.replicator SET doc = doc || '{"source": "postgresql://joe@127.0.0.1:1/db?connect_timeout=3#t"}' WHERE _id = 'c4';
SELECT id, secrets FROM kept WHERE id IN ('c1', 'c2', 'c4') ORDER BY id;
-- another place has none of them
UPDATE docrep.replicator SET doc = doc || '{"source": "http://127.0.0.2:1/db"}' WHERE _id IN ('c1', 'c3');
UPDATE docrep.replicator SET doc = doc || '{"source": "postgresql://joe@127.0.0.2:1/db#t"}' WHERE _id = 'c4';
UPDATE docrep.replicator SET doc = doc || '{"source": "http://127.0.0.1:1/db"}' WHERE _id = 'c2';
SELECT id, secrets FROM kept WHERE id IN ('c1', 'c2', 'c3', 'c4') ORDER BY id;
-- new ones replace them; an upsert and a new id keep them
INSERT INTO docrep.replicator VALUES ('c5', '{"source": "s", "target": "http://u:p2@127.0.0.1:1/db", "disabled": true}')
	ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
UPDATE docrep.replicator SET _id = 'c7' WHERE _id = 'c5';
INSERT INTO docrep.replicator VALUES ('c6', '{"source": "http://u:p3@127.0.0.1:1/db", "target": "t"}') ON CONFLICT DO NOTHING;
SELECT id, secrets FROM kept WHERE id IN ('c5', 'c6', 'c7') ORDER BY id;
SELECT docrep.put('docrep.replicator', jsonb_build_object('_id', 'c6', '_rev', _rev, '_deleted', true, 'source', 'http://u:pw@h/d'))
	IS NOT NULL AS deleted FROM docrep.replicator WHERE _id = 'c6';
SELECT docrep.get('docrep.replicator', 'c6', rev => c.changes -> 0 ->> 'rev') - '_rev' AS tombstone
	FROM docrep.changes('docrep.replicator') c WHERE id = 'c6';
-- disabled tasks have no job
SELECT count(*) FROM docrep.active_tasks WHERE doc_id LIKE 'c_';
DELETE FROM docrep.replicator;

-- start, cancel
SELECT docrep.start('st', 's', 'u', '{"continuous": true}') IS NOT NULL AS started;
SELECT says('st', 'triggered');
SELECT docrep.start('st', 's', 'u');
SELECT docrep.start('st2', 's', 'u', '{"continuous": true}') IS NOT NULL AS started;
SELECT says('st2', 'failed');
SELECT regexp_replace(doc ->> '_replication_state_reason', '[0-9a-f]{32}', 'X') FROM docrep.replicator WHERE _id = 'st2';
SELECT docrep.start(NULL, 's', 'u');
SELECT docrep.start('x', NULL, 'u');
SELECT docrep.start('_design/x', 's', 'u');
SELECT docrep.start('x', 's', 'u', '{"source": "t"}');
SELECT docrep.start('x', 's', 'u', '{"_rev": "1-a"}');
SELECT docrep.start('x', 's', 'u', '[]');
SELECT docrep.start('x', 's', 'u', '{"cancel": true}');
SELECT docrep.cancel('nosuch');
SELECT docrep.cancel(NULL);
SELECT docrep.cancel('st');
SELECT docrep.cancel('st');
SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'st';
SELECT _id FROM docrep.replicator;

-- clean_tasks
SELECT docrep.clean_tasks(), docrep.clean_tasks('0', '{completed}'), docrep.clean_tasks('0', '{failed}'), docrep.clean_tasks('0');
SELECT docrep.clean_tasks('0', '{running}');
SELECT docrep.clean_tasks(NULL);
SELECT docrep.clean_tasks('0', '{NULL}');

-- rows with an owner come from a dump: held
INSERT INTO docrep.replicator (_id, doc, owner) VALUES
	('held', '{"source": "s", "target": "t"}', CURRENT_USER::regrole),
	('lost', '{"source": "s", "target": "nosuch"}', CURRENT_USER::regrole),
	('done', '{"source": "s", "target": "t", "_replication_state": "completed", "_replication_stats": {"docs_read": 5}}', CURRENT_USER::regrole);
SELECT says('held', 'failed'), says('done', 'completed');
SELECT _id, doc - '_replication_state_time' FROM docrep.replicator ORDER BY _id;
SELECT docrep.clean_tasks('0', '{failed}'), docrep.resume_tasks('{nosuch}'), docrep.resume_tasks(), docrep.resume_tasks();
SELECT says('held', 'completed'), says('lost', 'failed');
SELECT id, state, reason FROM kept ORDER BY id;
DELETE FROM docrep.replicator;

-- what says that it is completed does not run, as in CouchDB; until it is edited
INSERT INTO s VALUES ('later', '{}');
INSERT INTO docrep.replicator VALUES ('copy', '{"source": "s", "target": "t", "_replication_state": "completed", "_replication_id": "x", "_replication_stats": {"docs_read": 5}}'),
	('next', '{"source": "s", "target": "u"}');
SELECT says('next', 'completed'), says('copy', 'completed');
SELECT doc - '_replication_state_time' FROM docrep.replicator WHERE _id = 'copy';
SELECT state, info, error_count FROM docrep.scheduler_docs WHERE doc_id = 'copy';
SELECT count(*) FROM t WHERE _id = 'later';
UPDATE docrep.replicator SET doc = doc WHERE _id = 'copy';
SELECT says('copy', 'completed');
DO $$ BEGIN FOR i IN 1..2400 LOOP EXIT WHEN EXISTS (SELECT FROM t WHERE _id = 'later'); PERFORM pg_sleep(0.05); END LOOP; END $$;
SELECT count(*) FROM t WHERE _id = 'later';
DELETE FROM docrep.replicator;
-- a number is one however it is written
SELECT docrep.replicate('s', 't', '{"since_seq": 1.0}') ->> 'ok' AS ok;

-- RavenDB's destinations
CREATE VIEW destinations AS SELECT regexp_replace(r._id, '[0-9a-f]{8}-[0-9a-f-]{27}', 'UUID') AS id, r.doc, s.secrets, docrep.rev_generation(r._rev) AS generation
	FROM docrep.replicator r JOIN docrep.task_state s ON s.id = r._id;
SELECT docrep.set_destinations('s', '{"Destinations": [{"Url": "http://127.0.0.1:1/", "Disabled": true},
	{"Url": "http://127.0.0.1:1/", "Database": "a b", "Username": "joe", "Password": "pw", "Disabled": true},
	{"Url": "https://127.0.0.1:1/x/db", "ApiKey": "pw", "Disabled": true},
	{"Url": "postgresql://127.0.0.1:1/db", "Username": "joe", "Password": "p w", "Disabled": true},
	{"Url": "postgresql://joe@127.0.0.1:1/db#other", "Disabled": true}, {"Url": "tasks.t", "Disabled": true}]}');
SELECT * FROM destinations ORDER BY id;
-- what has not changed is left alone, credentials that are not given are kept, others go
SELECT docrep.set_destinations('s', '{"Destinations": [{"Url": "http://127.0.0.1:1/", "Disabled": true},
	{"Url": "http://127.0.0.1:1/", "Database": "a b", "Username": "joe", "Password": "pw2", "Disabled": true},
	{"Url": "https://127.0.0.1:1/x/db", "Disabled": true}]}');
SELECT * FROM destinations ORDER BY id;
SELECT docrep.set_destinations('u', '{"Destinations": []}');
SELECT count(*) FROM destinations;
SELECT docrep.set_destinations('s', '{"Destinations": [{"Url": "tasks.u"}]}');
SELECT says(_id, 'triggered') FROM docrep.replicator;
SELECT docrep.set_destinations('s', '{"Destinations": []}');
SELECT * FROM destinations;
CREATE FUNCTION destination_refused(destination jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM docrep.set_destinations('s', jsonb_build_object('Destinations', jsonb_build_array(destination)));
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT d, destination_refused(d) FROM unnest(ARRAY['1', '{}', '{"Url": 1}', '{"Url": ""}', '{"Url": "tasks.t", "Disabled": "no"}',
	'{"Url": "tasks.t", "TransitiveReplicationBehavior": "None"}', '{"Url": "http://h/d", "Password": "x"}',
	'{"Url": "http://h/d", "Username": "u", "ApiKey": "x"}', '{"Url": "postgresql://h/d", "ApiKey": "x"}',
	'{"Url": "postgresql://h/d#t", "Database": "x"}', '{"Url": "tasks.t", "Username": "x"}', '{"Url": "tasks.s"}', '{"Url": "ftp://h/d"}']::jsonb[]) d;
SELECT docrep.set_destinations('s', '{}');
SELECT docrep.set_destinations('s', '{"Destinations": [], "More": 1}');
SELECT docrep.set_destinations('s', '{"Destinations": [{"Url": "tasks.t"}, {"Url": "tasks.t"}]}');
SELECT docrep.set_destinations('kept', '{"Destinations": []}');
SELECT docrep.set_destinations('s', NULL);

-- who may what
CREATE ROLE regress_docrep_a LOGIN;
CREATE ROLE regress_docrep_b LOGIN;
CREATE ROLE regress_docrep_monitor LOGIN;
GRANT pg_read_all_stats TO regress_docrep_monitor;
GRANT USAGE ON SCHEMA tasks TO PUBLIC;
SET ROLE regress_docrep_a;
INSERT INTO docrep.replicator VALUES ('a', '{"source": "s", "target": "t"}');
SELECT docrep.start('a', 's', 't');
SELECT count(*) FROM docrep.task_state;
SELECT count(*) FROM docrep.task_news;
RESET ROLE;
GRANT SELECT, INSERT, UPDATE, DELETE ON docrep.replicator TO regress_docrep_a, regress_docrep_b;
GRANT SELECT ON docrep.replicator TO regress_docrep_monitor;
GRANT EXECUTE ON FUNCTION docrep.start, docrep.cancel, docrep.clean_tasks, docrep.resume_tasks TO regress_docrep_a, regress_docrep_b;
SET ROLE regress_docrep_a;
SELECT docrep.start('a', 's', 't', '{"disabled": true}');
RESET ROLE;
GRANT SELECT, INSERT, UPDATE, DELETE ON s, t TO regress_docrep_a;
SET ROLE regress_docrep_a;
SELECT docrep.start('a', 's', 't', '{"disabled": true}') IS NOT NULL AS started;
SELECT _id, owner FROM docrep.replicator;
INSERT INTO docrep.replicator (_id, doc, owner) VALUES ('a2', '{"source": "s", "target": "t"}', 'regress_docrep_b');
UPDATE docrep.replicator SET owner = 'regress_docrep_b';
SET ROLE regress_docrep_b;
SELECT _id FROM docrep.replicator;
UPDATE docrep.replicator SET doc = '{"source": "t", "target": "s"}' WHERE _id = 'a';
DELETE FROM docrep.replicator;
SELECT docrep.cancel('a');
SELECT docrep.get('docrep.replicator', 'a');
SELECT docrep.start('a', 's', 't', '{"disabled": true}');
SELECT docrep.clean_tasks('0');
SET ROLE regress_docrep_monitor;
SELECT _id, owner FROM docrep.replicator;
DELETE FROM docrep.replicator;
RESET ROLE;
-- who edits another's task does not lend it rights: it is read with its owner's
REVOKE ALL ON t FROM regress_docrep_a;
UPDATE docrep.replicator SET doc = doc || '{"continuous": true}' WHERE _id = 'a';
GRANT SELECT ON t TO regress_docrep_a;
UPDATE docrep.replicator SET doc = doc || '{"continuous": true}' WHERE _id = 'a' RETURNING owner;
SELECT role::regrole FROM docrep.task_state WHERE id = 'a';
DELETE FROM docrep.replicator;
-- a role that is dropped
GRANT ALL ON t TO regress_docrep_a;
SET ROLE regress_docrep_a;
SELECT docrep.start('gone', 's', 't', '{"disabled": true}') IS NOT NULL AS started;
RESET ROLE;
DROP OWNED BY regress_docrep_a;
DROP ROLE regress_docrep_a;
UPDATE docrep.replicator SET doc = doc - 'disabled' WHERE _id = 'gone';
UPDATE docrep.replicator SET doc = doc - 'disabled', owner = CURRENT_USER::regrole WHERE _id = 'gone';
SELECT says('gone', 'completed');
DELETE FROM docrep.replicator;
-- a document of CouchDB's _replicator database names its owner
INSERT INTO docrep.replicator (_id, doc) VALUES ('moved', '{"source": "s", "target": "t", "owner": "admin", "disabled": true}');
SELECT doc FROM docrep.replicator;
DELETE FROM docrep.replicator;
-- the triggers are that table's only
CREATE TRIGGER mine BEFORE INSERT ON s FOR EACH ROW EXECUTE FUNCTION docrep.task_check();
INSERT INTO s VALUES ('c', '{}');
DROP OWNED BY regress_docrep_b, regress_docrep_monitor;
DROP ROLE regress_docrep_b, regress_docrep_monitor;
DROP SCHEMA tasks CASCADE;
