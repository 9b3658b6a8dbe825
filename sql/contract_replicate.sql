-- starting and cancelling by document, while the tables come and go
SET client_min_messages = warning;
CREATE SCHEMA contract_replicate;
SET search_path = contract_replicate;
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, '[0-9a-f]{32}', 'ID');
END $$;
CREATE VIEW jobs AS SELECT source, target, continuous FROM docrep.active_tasks WHERE source = 's' ORDER BY target;
SELECT docrep.create_table('s');
INSERT INTO s VALUES ('a', '{}');

-- the same document is the same job, also if it has created the target
SELECT docrep.replicate('s', 'made', '{"continuous": true, "create_target": true}')->>'_local_id' AS id \gset
SELECT docrep.replicate('s', 'made', '{"continuous": true, "create_target": true}')->>'_local_id' = :'id' AS the_same_job;
SELECT * FROM jobs;
SELECT replication_id = :'id' AS shown_with_the_id FROM docrep.active_tasks WHERE source = 's';
SELECT docrep.replicate('s', 'made', '{"continuous": true, "create_target": true, "cancel": true}')->>'_local_id' = :'id' AS cancelled;
SELECT * FROM jobs;

-- a job whose target was dropped, and made anew, is cancelled by its document
SELECT docrep.create_table('t');
SELECT docrep.replicate('s', 't', '{"continuous": true}')->'ok' AS ok, docrep.replicate('s', 't', '{"continuous": true, "winning_revs_only": true}')->'ok' AS ok;
DROP TABLE t;
SELECT attempt($$SELECT docrep.replicate('s', 't', '{"continuous": true, "doc_ids": ["a"], "cancel": true}')$$);
SELECT docrep.replicate('s', 't', '{"continuous": true, "cancel": true}')->'ok' AS ok;
SELECT * FROM jobs;
SELECT docrep.create_table('t');
SELECT docrep.replicate('s', 't', '{"winning_revs_only": true, "cancel": true}')->'ok' AS ok;
SELECT * FROM jobs;
SELECT attempt($$SELECT docrep.replicate('s', 't', '{"continuous": true, "cancel": true}')$$);
SELECT attempt($$SELECT docrep.replicate('s', 'never there', '{"cancel": true}')$$), attempt($$SELECT docrep.replicate('s', 'never_there', '{"cancel": true}')$$);

DROP SCHEMA contract_replicate CASCADE;
