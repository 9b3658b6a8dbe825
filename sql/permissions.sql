-- what a role may do to a document table, by DML and by functions
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_docrep_owner LOGIN;
CREATE ROLE regress_docrep_other LOGIN;
CREATE SCHEMA perm;
GRANT USAGE ON SCHEMA perm TO PUBLIC;
GRANT CREATE ON SCHEMA perm TO regress_docrep_owner;

-- what works with a table needs privileges on the table; what starts work or is only docrep's needs a grant
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'docrep'::regnamespace
	AND NOT has_function_privilege('regress_docrep_other', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.oid::regclass, priv FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) priv
	WHERE relnamespace = 'docrep'::regnamespace AND relkind = 'r' AND has_table_privilege('regress_docrep_other', c.oid, priv);
SELECT has_schema_privilege('regress_docrep_other', 'docrep_data', 'CREATE') AS may_create,
	has_schema_privilege('regress_docrep_other', 'docrep_data', 'USAGE') AS may_use;
SET ROLE regress_docrep_other;
SELECT docrep.put('perm.t', '{}');
SELECT docrep.create_table('perm.t');
RESET ROLE;

-- a table belongs to who makes it, with its companions
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA docrep TO regress_docrep_owner, regress_docrep_other;
SET ROLE regress_docrep_owner;
SELECT docrep.create_table('perm.t'), docrep.create_table('perm.s');
INSERT INTO perm.t VALUES ('a', '{"n": 1}'), ('b', '{"n": 1}'), ('gone', '{}');
DELETE FROM perm.t WHERE _id = 'gone';
SELECT * FROM docrep.bulk_docs('perm.t', '[{"_id": "b", "_rev": "1-loser", "secret": 1}]', new_edits => false);
SELECT docrep.put_local('perm.t', 'l', '{"x": 1}');
RESET ROLE;
CREATE VIEW perm_companions AS
	SELECT regexp_replace(c.relname, '_.*', '') AS kind, c.relkind, pg_get_userbyid(c.relowner) AS owner, c.oid
	FROM docrep.document_tables d JOIN pg_class c ON c.relname LIKE '%\_' || replace(d.uuid::text, '-', '')
		AND c.relnamespace = 'docrep_data'::regnamespace
	WHERE d.tbl = 'perm.t'::regclass;
SELECT kind, relkind, owner FROM perm_companions ORDER BY kind;
SELECT kind FROM perm_companions, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) priv
	WHERE has_table_privilege('regress_docrep_other', oid, priv);

-- each subset of SELECT, INSERT, UPDATE, DELETE: what works
CREATE FUNCTION perm_try(OUT what text, OUT result text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	commands text[] := ARRAY[
		'INSERT', $c$INSERT INTO perm.t VALUES ('new', '{}')$c$,
		'UPDATE', $c$UPDATE perm.t SET doc = '{}'$c$,
		'DELETE', $c$DELETE FROM perm.t$c$,
		'upsert', $c$INSERT INTO perm.t VALUES ('a', '{}') ON CONFLICT (_id) DO UPDATE SET doc = '{}'$c$,
		'put new', $c$SELECT docrep.put('perm.t', '{"_id": "new"}')$c$,
		'put again', $c$SELECT docrep.put('perm.t', jsonb_build_object('_id', 'a', '_rev', current_setting('perm.rev')))$c$,
		'put stale', $c$SELECT docrep.put('perm.t', '{"_id": "a", "_rev": "1-x"}')$c$,
		'put over tombstone', $c$SELECT docrep.put('perm.t', '{"_id": "gone"}')$c$,
		'delete', $c$SELECT docrep.delete('perm.t', 'a', current_setting('perm.rev'))$c$,
		'put deleted', $c$SELECT docrep.put('perm.t', jsonb_build_object('_id', 'a', '_deleted', true, '_rev', current_setting('perm.rev')))$c$,
		'bulk new', $c$SELECT docrep.bulk_docs('perm.t', '[{"_id": "new", "_rev": "1-x"}]', new_edits => false)$c$,
		'bulk known', $c$SELECT docrep.bulk_docs('perm.t', '[{"_id": "a", "_rev": "1-x"}]', new_edits => false)$c$,
		'bulk tombstone', $c$SELECT docrep.bulk_docs('perm.t', '[{"_id": "new", "_rev": "1-x", "_deleted": true}]', new_edits => false)$c$,
		'bulk deletion', $c$SELECT docrep.bulk_docs('perm.t', jsonb_build_array(jsonb_build_object('_id', 'a', '_deleted', true,
			'_revisions', jsonb_build_object('start', 2, 'ids', jsonb_build_array('x', docrep.rev_hash_part(current_setting('perm.rev')::docrep.rev))))), new_edits => false)$c$,
		'purge', $c$SELECT docrep.purge('perm.t', '{"gone": ["1-x"]}')$c$,
		'get', $c$SELECT docrep.get('perm.t', 'a')$c$,
		'get loser', $c$SELECT docrep.get('perm.t', 'b', rev => '1-loser')$c$,
		'bulk_get', $c$SELECT docrep.bulk_get('perm.t', '[{"id": "a"}]')$c$,
		'revs_diff', $c$SELECT docrep.revs_diff('perm.t', '{"a": ["1-x"]}')$c$,
		'changes', $c$SELECT * FROM docrep.changes('perm.t')$c$,
		'info', $c$SELECT docrep.info('perm.t')$c$,
		'check', $c$SELECT * FROM docrep.check('perm.t')$c$,
		'get_local', $c$SELECT docrep.get_local('perm.t', 'l')$c$,
		'put_local', $c$SELECT docrep.put_local('perm.t', 'l', '{}')$c$,
		'delete_local', $c$SELECT docrep.delete_local('perm.t', 'l')$c$,
		'retry_rejected', $c$SELECT docrep.retry_rejected('perm.t')$c$,
		'set_revs_limit', $c$SELECT docrep.set_revs_limit('perm.t', 5)$c$,
		'reset_identity', $c$SELECT docrep.reset_identity('perm.t')$c$,
		'drop_table', $c$SELECT docrep.drop_table('perm.t')$c$];
	outcome text;
BEGIN
	FOR i IN 1..cardinality(commands) BY 2 LOOP
		what := commands[i];
		BEGIN
			outcome := NULL;
			IF commands[i + 1] LIKE 'SELECT%' THEN
				EXECUTE commands[i + 1] INTO outcome;
			ELSE
				EXECUTE commands[i + 1];
			END IF;
			result := 'ok';
			-- a refusal of one document is a row of the result
			IF what LIKE 'bulk %' AND outcome IS NOT NULL THEN
				result := (regexp_match(outcome, 'permission denied|conflict|forbidden'))[1];
			END IF;
			RAISE EXCEPTION USING ERRCODE = 'ZZZZZ';
		EXCEPTION
			WHEN SQLSTATE 'ZZZZZ' THEN NULL;
			WHEN OTHERS THEN result := SQLSTATE;
		END;
		RETURN NEXT;
	END LOOP;
END
$$;
CREATE FUNCTION perm_matrix(OUT what text, OUT nothing text, OUT s text, OUT i text, OUT u text, OUT d text, OUT si text, OUT siu text, OUT sd text, OUT siud text)
	RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	privileges text;
BEGIN
	PERFORM set_config('perm.rev', _rev::text, false) FROM perm.t WHERE _id = 'a';
	CREATE TEMP TABLE outcomes (privs text, what text, result text, n serial);
	GRANT ALL ON outcomes, outcomes_n_seq TO PUBLIC;
	FOREACH privileges IN ARRAY ARRAY['', 'select', 'insert', 'update', 'delete', 'select, insert', 'select, insert, update',
		'select, delete', 'select, insert, update, delete'] LOOP
		REVOKE ALL ON perm.t FROM regress_docrep_other;
		IF privileges <> '' THEN
			EXECUTE 'GRANT ' || privileges || ' ON perm.t TO regress_docrep_other';
		END IF;
		SET LOCAL ROLE regress_docrep_other;
		INSERT INTO outcomes SELECT privileges, t.what, t.result FROM perm_try() t;
		RESET ROLE;
	END LOOP;
	RETURN QUERY SELECT o.what, max(result) FILTER (WHERE privs = ''), max(result) FILTER (WHERE privs = 'select'),
			max(result) FILTER (WHERE privs = 'insert'), max(result) FILTER (WHERE privs = 'update'),
			max(result) FILTER (WHERE privs = 'delete'), max(result) FILTER (WHERE privs = 'select, insert'),
			max(result) FILTER (WHERE privs = 'select, insert, update'), max(result) FILTER (WHERE privs = 'select, delete'),
			max(result) FILTER (WHERE privs = 'select, insert, update, delete')
		FROM outcomes o GROUP BY o.what ORDER BY min(n);
	DROP TABLE outcomes;
END
$$;
SELECT * FROM perm_matrix();

-- replication as a role: reading needs SELECT on the source, writing the rest on the target
REVOKE ALL ON perm.t, perm.s FROM regress_docrep_other;
SET ROLE regress_docrep_other;
SELECT docrep.replicate('perm.t', 'perm.s');
RESET ROLE;
GRANT SELECT ON perm.t TO regress_docrep_other;
SET ROLE regress_docrep_other;
SELECT docrep.replicate('perm.t', 'perm.s');
RESET ROLE;
SELECT count(*) FROM perm.s;
-- a privilege that is missing fails the replication; it is not a matter of single documents
GRANT SELECT, INSERT ON perm.s TO regress_docrep_other;
SET ROLE regress_docrep_other;
SELECT docrep.replicate('perm.t', 'perm.s');
RESET ROLE;
SELECT count(*) FROM perm.s;
GRANT UPDATE, DELETE ON perm.s TO regress_docrep_other;
ALTER TABLE perm.s ADD CONSTRAINT not_b CHECK (_id <> 'b');
SET ROLE regress_docrep_other;
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('perm.t', 'perm.s') r;
SELECT _id FROM perm.s ORDER BY _id;
-- the rejected are shown to who may read the table, and tried again by who may write it
SELECT id, error FROM docrep.rejected_docs ORDER BY id, rev;
SELECT count(*) FROM docrep.checkpoints;
RESET ROLE;
REVOKE DELETE ON perm.s FROM regress_docrep_other;
SET ROLE regress_docrep_other;
SELECT docrep.retry_rejected('perm.s');
RESET ROLE;
REVOKE SELECT ON perm.s FROM regress_docrep_other;
ALTER TABLE perm.s DROP CONSTRAINT not_b;
SET ROLE regress_docrep_other;
SELECT count(*) FROM docrep.rejected_docs;
RESET ROLE;
SELECT docrep.retry_rejected('perm.s');
SELECT count(*) FROM docrep.rejected_docs;
SELECT _id FROM perm.s ORDER BY _id;
-- may not replicate from what it may only write
GRANT INSERT, UPDATE, DELETE ON perm.s TO regress_docrep_other;
SET ROLE regress_docrep_other;
SELECT docrep.replicate('perm.s', 'perm.t');
RESET ROLE;

-- a trigger with another table's identity does not open that table's companions
SELECT uuid AS stolen FROM docrep.document_tables WHERE tbl = 'perm.t'::regclass \gset
GRANT CREATE ON SCHEMA perm TO regress_docrep_other;
SET ROLE regress_docrep_other;
CREATE TABLE perm.m (_id text COLLATE "C" PRIMARY KEY, doc jsonb NOT NULL, _rev docrep.rev NOT NULL, _seq bigint NOT NULL UNIQUE,
	_modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea, _attachments jsonb, _origin uuid);
DO $$
BEGIN
	EXECUTE format('CREATE TRIGGER "~docrep_track" BEFORE INSERT ON perm.m FOR EACH ROW EXECUTE FUNCTION docrep.track_change(%L)',
		(SELECT uuid FROM docrep.document_tables WHERE tbl = 'perm.t'::regclass));
EXCEPTION WHEN OTHERS THEN
	RAISE INFO '%', SQLSTATE;
END
$$;
CREATE TRIGGER later BEFORE INSERT OR UPDATE OR DELETE ON perm.m FOR EACH ROW EXECUTE FUNCTION docrep.track_change(:'stolen');
ALTER TRIGGER later ON perm.m RENAME TO "~docrep_track";
DO $$
DECLARE
	command text;
BEGIN
	FOREACH command IN ARRAY ARRAY['SELECT * FROM docrep.changes(''perm.m'')', 'SELECT docrep.get(''perm.m'', ''gone'')',
		'INSERT INTO perm.m VALUES (''gone'', ''{}'')', 'SELECT docrep.get_local(''perm.m'', ''l'')'] LOOP
		BEGIN
			EXECUTE command;
			RAISE INFO 'done: %', command;
		EXCEPTION WHEN OTHERS THEN
			RAISE INFO '%: %', SQLSTATE, regexp_replace(SQLERRM, '[0-9a-f]{32}', '...');
		END;
	END LOOP;
END
$$;
DROP TABLE perm.m;
RESET ROLE;

-- who owns the table owns its companions, whatever way it came to it
ALTER TABLE perm.t OWNER TO regress_docrep_other;
SELECT kind, owner FROM perm_companions ORDER BY kind;
SET ROLE regress_docrep_other;
UPDATE perm.t SET doc = '{"mine": 1}' WHERE _id = 'a';
DELETE FROM perm.t WHERE _id = 'a';
RESET ROLE;
SET ROLE regress_docrep_owner;
SELECT docrep.get('perm.t', 'a');
RESET ROLE;
REASSIGN OWNED BY regress_docrep_other TO regress_docrep_owner;
SELECT kind, owner FROM perm_companions ORDER BY kind;
SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE oid = 'perm.t'::regclass;
SELECT * FROM docrep.check('perm.t');
-- dropped with its owner, it leaves nothing
DROP VIEW perm_companions;
DROP OWNED BY regress_docrep_owner, regress_docrep_other;
SELECT to_regclass('perm.t'), (SELECT count(*) FROM pg_class WHERE relnamespace = 'docrep_data'::regnamespace) AS companions,
	(SELECT count(*) FROM docrep.local_docs) AS local_docs, (SELECT count(*) FROM docrep.epochs) AS epochs,
	(SELECT count(*) FROM docrep.rejected) AS rejected;
DROP FUNCTION perm_try, perm_matrix;
DROP SCHEMA perm;
DROP ROLE regress_docrep_owner, regress_docrep_other;
