-- What tasks must not let a role do, see or start beyond its privileges.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE tasks_ann LOGIN;
CREATE ROLE tasks_mal LOGIN;
CREATE ROLE tasks_backup LOGIN BYPASSRLS;
CREATE ROLE tasks_keeper LOGIN;
CREATE SCHEMA tasks_security;
GRANT ALL ON SCHEMA tasks_security TO tasks_ann, tasks_mal, tasks_backup, tasks_keeper;
SET search_path = tasks_security;

-- what the guide tells to grant, and more than that
GRANT SELECT, INSERT, UPDATE, DELETE ON docrep.replicator TO tasks_ann, tasks_mal, tasks_backup;
GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb), docrep.replicate(text, text, jsonb), docrep.start, docrep.cancel,
	docrep.clean_tasks, docrep.resume_tasks, docrep.set_destinations TO tasks_ann, tasks_mal, tasks_backup;

CREATE FUNCTION state(command text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$;
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

-- Another role's tasks, a secret among them.
SET ROLE tasks_ann;
SELECT docrep.create_table('ann_s'), docrep.create_table('ann_t');
INSERT INTO ann_s VALUES ('a', '{"word": "hush"}');
INSERT INTO docrep.replicator VALUES ('ann_far', '{"source": "http://joe:hush@db.invalid/x", "target": "ann_t", "disabled": true}'),
	('ann_near', '{"source": "ann_s", "target": "ann_t", "continuous": true}'),
	('ann_gone', '{"source": "http://joe:hush@db.invalid/gone", "target": "ann_t", "disabled": true}');
SELECT says('ann_near', 'triggered');
DELETE FROM docrep.replicator WHERE _id = 'ann_gone';
SELECT _rev AS ann_rev FROM docrep.replicator WHERE _id = 'ann_near' \gset
SELECT doc ->> '_replication_id' AS ann_id FROM docrep.replicator WHERE _id = 'ann_near' \gset
RESET ROLE;

-- They are not seen, ...
SET ROLE tasks_mal;
SELECT count(*) FROM docrep.replicator;
SELECT count(*) FROM docrep.scheduler_docs;
SELECT count(*) FROM docrep.scheduler_jobs;
SELECT count(*) FROM docrep.active_tasks;
SELECT docrep.scheduler_docs_json(), docrep.scheduler_jobs_json();
SELECT state($$SELECT docrep.scheduler_doc_json('ann_far')$$);
SELECT state(format($$SELECT docrep.scheduler_job_json(%L)$$, :'ann_id'));
SELECT state($$SELECT count(*) FROM docrep.task_state$$), state($$SELECT count(*) FROM docrep.task_news$$);
SELECT docrep.get('docrep.replicator', 'ann_near'), docrep.get('docrep.replicator', 'ann_near', rev => :'ann_rev');
SELECT docrep.get('docrep.replicator', 'ann_gone', open_revs => '"all"', deleted_conflicts => true);
SELECT count(*) FROM docrep.changes('docrep.replicator', style => 'all_docs', include_docs => true);
SELECT docrep.bulk_get('docrep.replicator', '[{"id": "ann_near"}, {"id": "ann_gone"}]', true, true) #> '{results,0,docs,0,error,reason}';
SELECT docrep.info('docrep.replicator') ->> 'doc_count' AS counted;
SELECT state($$SELECT count(*) FROM docrep.explain('ann_near', 'ann_s', 'a')$$);
RESET ROLE;

-- ... and not changed, ended or taken over.
SET ROLE tasks_mal;
UPDATE docrep.replicator SET doc = doc WHERE _id = 'ann_near' RETURNING _id;
DELETE FROM docrep.replicator WHERE _id = 'ann_near' RETURNING _id;
SELECT docrep.create_table('mal_s'), docrep.create_table('mal_t');
SELECT state($$SELECT docrep.cancel('ann_near')$$), state($$SELECT docrep.delete('docrep.replicator', 'ann_near', '1-a')$$);
SELECT state($$INSERT INTO docrep.replicator VALUES ('ann_near', '{"source": "mal_s", "target": "mal_t"}')$$),
	state($$INSERT INTO docrep.replicator VALUES ('ann_near', '{"source": "mal_s", "target": "mal_t"}')
		ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc$$),
	state($$SELECT docrep.put('docrep.replicator', '{"_id": "ann_near", "source": "mal_s", "target": "mal_t"}')$$),
	state(format($$SELECT docrep.put('docrep.replicator', '{"_id": "ann_near", "_rev": "%s", "source": "mal_s", "target": "mal_t"}')$$, :'ann_rev'));
SELECT docrep.clean_tasks('0', '{completed,failed,held}'), docrep.resume_tasks();
SELECT state(format($$SELECT docrep.replicate('{"cancel": true, "replication_id": "%s"}')$$, :'ann_id'));
SELECT state($$SELECT docrep.set_destinations('ann_s', '{"Destinations": []}')$$);
RESET ROLE;

-- Nothing runs as a role that the writer is not.
SET ROLE tasks_mal;
SELECT state($$INSERT INTO docrep.replicator(_id, doc, owner) VALUES ('m', '{"source": "mal_s", "target": "mal_t"}', 'tasks_ann')$$),
	state($$INSERT INTO docrep.replicator VALUES ('m', '{"source": "mal_s", "target": "mal_t", "user_ctx": {"name": "tasks_ann"}}')$$),
	state($$INSERT INTO docrep.replicator VALUES ('m', '{"source": "mal_s", "target": "mal_t", "user_ctx": {"roles": ["_admin"]}}')$$),
	state($$INSERT INTO docrep.replicator VALUES ('m', '{"source": "ann_s", "target": "mal_t"}')$$);
INSERT INTO docrep.replicator VALUES ('mal', '{"source": "mal_s", "target": "mal_t", "disabled": true}');
SELECT state($$UPDATE docrep.replicator SET owner = 'tasks_ann' WHERE _id = 'mal'$$);
RESET ROLE;

-- Who is not subject to row security sees tasks, and still does not write others'.
SET ROLE tasks_backup;
SELECT docrep.create_table('backup_t');
GRANT ALL ON backup_t TO PUBLIC;
SELECT _id FROM docrep.replicator ORDER BY _id;
SELECT state($$UPDATE docrep.replicator SET doc = doc || '{"target": "backup_t"}' WHERE _id = 'ann_near'$$),
	state($$UPDATE docrep.replicator SET owner = 'tasks_backup' WHERE _id = 'ann_near'$$);
RESET ROLE;
SELECT doc ->> 'target' AS target, owner FROM docrep.replicator WHERE _id = 'ann_near';

-- Nor does the table's owner, should it have been given to one that is no superuser; and what that one puts
-- into its indexes is not evaluated with more privileges than its own.
SELECT relowner::regrole AS before FROM pg_class WHERE oid = 'docrep.replicator'::regclass \gset
GRANT CREATE ON SCHEMA docrep TO tasks_keeper;
ALTER TABLE docrep.replicator OWNER TO tasks_keeper;
SET ROLE tasks_keeper;
CREATE TABLE ran_as(who name, pid int);
GRANT INSERT ON ran_as TO PUBLIC;
CREATE FUNCTION note() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	BEGIN
		SET LOCAL ROLE NONE;
		INSERT INTO tasks_security.ran_as VALUES (current_user, pg_backend_pid());
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
	INSERT INTO tasks_security.ran_as VALUES (current_user, pg_backend_pid());
END $$;
CREATE FUNCTION pretend(jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM tasks_security.note(); RETURN $1 ->> '_replication_state'; END $$;
CREATE INDEX pretending ON docrep.replicator (pretend(doc));
SELECT state($$UPDATE docrep.replicator SET doc = doc || '{"target": "backup_t"}' WHERE _id = 'ann_near'$$);
RESET ROLE;
TRUNCATE ran_as;
SET ROLE tasks_ann;
INSERT INTO docrep.replicator VALUES ('ann_one', '{"source": "ann_s", "target": "ann_t", "doc_ids": ["b"]}');
SELECT says('ann_one', 'completed');
RESET ROLE;
SELECT DISTINCT who FROM ran_as WHERE pid <> pg_backend_pid() ORDER BY 1;
DROP INDEX docrep.pretending;
ALTER TABLE docrep.replicator OWNER TO :before;

-- What is too long for a view is cut between two characters: half of one would break the views for all who look.
SET ROLE tasks_ann;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'xx%', repeat('é', 300) USING ERRCODE = '53000'; END $$;
SELECT docrep.create_table('ann_u');
CREATE TRIGGER fail BEFORE INSERT ON ann_u FOR EACH ROW EXECUTE FUNCTION fail();
INSERT INTO docrep.replicator VALUES ('ann_crash', '{"source": "ann_s", "target": "ann_u"}'),
	('ann_long', jsonb_build_object('source', 'postgresql://h:pw@xxxxxxxxxx.invalid/' || repeat('d', 434) || '#' || repeat('é', 31),
		'target', 'ann_u'));
SELECT says('ann_crash', 'error'), says('ann_long', 'error');
SELECT doc_id, length(convert_from(convert_to(source, 'UTF8'), 'UTF8')) AS source,
	(SELECT max(length(convert_from(convert_to(e ->> 'reason', 'UTF8'), 'UTF8'))) FROM jsonb_array_elements(history) AS e) > 50 AS reason
	FROM docrep.scheduler_jobs WHERE doc_id IN ('ann_crash', 'ann_long') ORDER BY 1;
RESET ROLE;

-- A role that was given away and taken back runs no tasks any more.
GRANT tasks_ann TO tasks_mal;
SET ROLE tasks_mal;
INSERT INTO docrep.replicator VALUES ('mal_as_ann', '{"source": "ann_s", "target": "ann_t", "continuous": true, "doc_ids": ["a"], "user_ctx": {"name": "tasks_ann"}}');
SELECT says('mal_as_ann', 'triggered');
RESET ROLE;
SELECT user_name FROM docrep.scheduler_jobs WHERE doc_id = 'mal_as_ann';
REVOKE tasks_ann FROM tasks_mal;
-- a keeper looks at all tasks when it begins
SELECT count(pg_terminate_backend(pid)) >= 0 AS another FROM pg_stat_activity WHERE backend_type = 'docrep keeper';
INSERT INTO docrep.replicator VALUES ('news', '{"source": "ann_s", "target": "ann_t", "disabled": true}');
SELECT says('mal_as_ann', 'failed');
SELECT doc ->> '_replication_state_reason' FROM docrep.replicator WHERE _id = 'mal_as_ann';
CREATE FUNCTION has_job(task text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..2400 LOOP
		IF NOT EXISTS (SELECT FROM docrep.scheduler_jobs WHERE doc_id = task) THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN true;
END $$;
SELECT has_job('mal_as_ann');

-- A role that no worker can be connected as is told so when it writes a task, as it is by replicate().
CREATE ROLE tasks_nobody;
GRANT SELECT, INSERT, DELETE ON docrep.replicator TO tasks_nobody;
GRANT ALL ON SCHEMA tasks_security TO tasks_nobody;
SET ROLE tasks_nobody;
SELECT docrep.create_table('nobody_s'), docrep.create_table('nobody_t');
SELECT state($$INSERT INTO docrep.replicator VALUES ('nobody', '{"source": "nobody_s", "target": "nobody_t", "disabled": true}')$$) =
	CASE WHEN current_setting('server_version_num')::int < 170000 THEN '28000' ELSE 'ok' END AS told;
DELETE FROM docrep.replicator;
RESET ROLE;
REVOKE ALL ON docrep.replicator FROM tasks_nobody;

-- all is as it was
SET ROLE tasks_ann;
INSERT INTO ann_s VALUES ('b', '{}');
SELECT docrep.cancel('ann_near');
DELETE FROM docrep.replicator;
RESET ROLE;
DELETE FROM docrep.replicator;
SELECT docrep.clean_tombstones('docrep.replicator', beyond_holders => true) > 0 AS purged;
REVOKE ALL ON docrep.replicator FROM tasks_ann, tasks_mal, tasks_backup;
REVOKE CREATE ON SCHEMA docrep FROM tasks_keeper;
SELECT docrep.drop_table(tbl) FROM docrep.document_tables WHERE tbl::text ~ '^(ann|mal|backup|nobody)_';
SET client_min_messages = error;
DROP SCHEMA tasks_security CASCADE;
DROP OWNED BY tasks_nobody, tasks_ann, tasks_mal, tasks_backup, tasks_keeper;
DROP ROLE tasks_nobody, tasks_ann, tasks_mal, tasks_backup, tasks_keeper;
