-- What must not let a role do, see or break more than its privileges allow.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE robust_alice;
CREATE ROLE robust_mallory;
CREATE SCHEMA robust;
GRANT ALL ON SCHEMA robust TO robust_alice, robust_mallory;
SET search_path = robust;

CREATE FUNCTION state(command text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$;
CREATE FUNCTION track(tbl text, name text, uuid text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER %I BEFORE INSERT ON %I FOR EACH ROW'
				   ' EXECUTE FUNCTION docrep.track_change(%L)', name, tbl, uuid);
END $$;

-- Whatever a table's owner puts into its indexes, docrep does not evaluate it
-- with more privileges than the owner's.
SET ROLE robust_mallory;
CREATE TABLE ran_as(who name);
CREATE FUNCTION note() RETURNS int LANGUAGE sql VOLATILE AS
	$$ INSERT INTO robust.ran_as VALUES (current_user) RETURNING 1 $$;
CREATE FUNCTION pretend(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN RETURN robust.note(); END $$;
CREATE TABLE trap(_id text COLLATE "C" PRIMARY KEY, doc jsonb NOT NULL, _rev docrep.rev NOT NULL,
	_seq bigint NOT NULL UNIQUE, _modified timestamptz NOT NULL, _tree docrep.revtree, _trunk bytea,
	_attachments jsonb, _origin uuid);
INSERT INTO trap VALUES ('a', '{}', '1-a', 7, now());
CREATE INDEX ON trap (_seq) WHERE pretend(1) = 1;
CREATE INDEX ON trap (pretend(2));
CREATE TRIGGER "~docrep_track" BEFORE INSERT OR UPDATE OR DELETE ON trap
	FOR EACH ROW EXECUTE FUNCTION docrep.track_change('00000000-0000-4000-8000-0000000000aa');
SELECT DISTINCT who FROM ran_as;
RESET ROLE;
-- the numbers go on after those that were there
SELECT last_value > 7 AS after FROM docrep_data.seq_000000000000400080000000000000aa;
DROP TABLE trap;

-- Naming another table's identity gets nobody at what is kept for it.
SET ROLE robust_alice;
SELECT docrep.create_table('secret');
ALTER TABLE secret ADD CHECK (doc ? 'ok');
SELECT docrep.put_local('secret', repeat('a', 32),
	'{"session_id": "s", "source_last_seq": "5", "history": [], "source": "x"}');
RESET ROLE;
SELECT uuid AS secret_uuid FROM docrep.document_tables WHERE tbl = 'secret'::regclass \gset
-- a document that the table refuses
SET ROLE robust_alice;
SELECT docrep.peer_write(:'secret_uuid', ('\x014401' || '0161' || '00' || '04' || '01' || '02' ||
	repeat('ab', 16) || '00000011' || encode('{"word": "hush"}'::bytea || '\x20', 'hex'))::bytea,
	NULL, 'r', 's', NULL, NULL) IS NOT NULL AS answered;
SELECT id, convert_from(raw, 'utf8') FROM docrep.rejected_docs;
SELECT source FROM docrep.checkpoints WHERE tbl = 'secret'::regclass;
SET ROLE robust_mallory;
SELECT count(*) FROM docrep.rejected_docs;
CREATE TABLE impostor(_id text) PARTITION BY LIST (_id);
SELECT track('impostor', '~docrep_track', :'secret_uuid');
CREATE TABLE renamed(_id text);
SELECT track('renamed', 'later', :'secret_uuid');
ALTER TRIGGER later ON renamed RENAME TO "~docrep_track";
SELECT count(*) FROM docrep.rejected_docs;
SELECT count(*) FROM docrep.checkpoints WHERE replication_id = repeat('a', 32);
SELECT state($$INSERT INTO renamed VALUES ('a')$$), state($$SELECT docrep.get('renamed', 'a')$$);
CREATE TABLE plain(_id text);
SELECT state(format($$SELECT track('plain', '~docrep_track', %L)$$, :'secret_uuid'));
DROP TABLE plain;
DROP TABLE impostor, renamed;
-- nor does a trigger with no identity at all break the views for everybody
CREATE TABLE impostor(_id text) PARTITION BY LIST (_id);
CREATE TRIGGER "~docrep_track" BEFORE INSERT ON impostor
	FOR EACH ROW EXECUTE FUNCTION docrep.track_change('nonsense');
SELECT tbl FROM docrep.document_tables WHERE tbl = 'secret'::regclass;
SELECT count(*) FROM docrep.document_tables WHERE uuid = '00000000-0000-4000-8000-0000000000bb';
DROP TABLE impostor;

-- A function in a query's condition does not see the rows that the view withholds.
CREATE FUNCTION peek(bytea) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
	$$ BEGIN RAISE WARNING 'seen: %', convert_from($1, 'utf8'); RETURN true; END $$;
SET enable_nestloop = off;
SET enable_mergejoin = off;
SELECT count(*) FROM docrep.rejected_docs WHERE peek(raw);
RESET enable_nestloop;
RESET enable_mergejoin;

-- A role without any privilege does not even learn which documents there are.
RESET ROLE;
ALTER TABLE secret DROP CONSTRAINT secret_doc_check;
SELECT docrep.put('secret', '{"_id": "there"}') IS NOT NULL AS put;
SET ROLE robust_mallory;
SELECT docrep.put('secret', '{"_id": "there"}');
SELECT docrep.put('secret', '{"_id": "elsewhere"}');
SELECT docrep.bulk_docs('secret', '[{"_id": "there"}]');
SELECT docrep.peer_open('secret', false, 2);
SELECT docrep.info('secret');
RESET ROLE;

-- What a role's search_path holds is not called with more privileges than its
-- own, and of what it gives nothing is believed.
SET ROLE robust_mallory;
CREATE FUNCTION substr(text, int) RETURNS text LANGUAGE sql AS
	$$ SELECT $q$00000000-0000-4000-8000-000000000000'; ALTER ROLE robust_mallory SUPERUSER; --$q$ $$;
CREATE FUNCTION yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR ~ (LEFTARG = text, RIGHTARG = text, FUNCTION = yes);
CREATE DOMAIN int4 AS text;
CREATE DOMAIN int8 AS text;
SELECT docrep.create_table('mine');
SELECT docrep.put('mine', '{"_id": "a"}') IS NOT NULL AS put;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
ALTER TABLE mine FORCE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON mine USING (true);
SET search_path = robust, pg_catalog;
SELECT docrep.get('robust.mine', 'a') OPERATOR(pg_catalog.->) '_id' AS id;
DROP TABLE robust.mine;
RESET search_path;
RESET ROLE;
SELECT rolsuper FROM pg_roles WHERE rolname = 'robust_mallory';
SET search_path = robust, pg_temp;
DROP OPERATOR robust.~ (text, text);
DROP DOMAIN robust.int4;
DROP DOMAIN robust.int8;
DROP FUNCTION robust.substr(text, int);

-- NULL where none is expected
SELECT docrep.bulk_docs('secret', '[{"_id": "c", "_rev": "1-a"}, {"_id": "c", "_rev": "1-b"}]', false);
SELECT docrep.delete_unsettled(tableoid, NULL, _tree) FROM secret WHERE _id = 'c';
SELECT docrep.delete_unsettled(NULL, _id, _tree) FROM secret WHERE _id = 'c';
SELECT docrep.peer_write(:'secret_uuid', '\x014400', NULL, NULL, NULL, 'some-id', NULL);
SELECT docrep.peer_write(NULL, '\x014400', NULL, NULL, NULL, NULL, NULL);

-- a time that no timestamptz can show would make the table unreadable
SELECT docrep.peer_write(:'secret_uuid', ('\x014401' || '0162' || '00' || '02' || '01' || '02' ||
	repeat('ab', 16) || '7ffffffffffffff0')::bytea, NULL, NULL, NULL, NULL, NULL);

-- Tombstones are written below the executor, but not in a read-only transaction.
BEGIN READ ONLY;
SELECT docrep.bulk_docs('secret', '[{"_id": "gone", "_rev": "1-a", "_deleted": true}]', false);
ROLLBACK;
BEGIN READ ONLY;
SELECT docrep.purge('secret', '{"c": ["1-a", "1-b"]}');
ROLLBACK;

-- A publication of all tables takes nothing away from us.
SET client_min_messages = error;
CREATE PUBLICATION robust_all FOR ALL TABLES;
SET client_min_messages = warning;
ALTER TABLE secret ADD CONSTRAINT refuse CHECK (NOT doc ? 'word');
SELECT docrep.peer_write(:'secret_uuid', ('\x014401' || '0161' || '00' || '04' || '01' || '02' ||
	repeat('ab', 16) || '00000011' || encode('{"word": "hush"}'::bytea || '\x20', 'hex'))::bytea,
	NULL, 'r', 's', NULL, NULL) IS NOT NULL AS answered;
ALTER TABLE secret DROP CONSTRAINT refuse;
SELECT docrep.retry_rejected('secret');
UPDATE secret SET doc = '{"n": 2}' WHERE _id = 'there';
DELETE FROM secret WHERE _id = 'there';
SELECT docrep.put('secret', '{"_id": "there"}') IS NOT NULL AS put;
DROP PUBLICATION robust_all;
SELECT * FROM docrep.check('secret');

DROP OWNED BY robust_mallory, robust_alice;
DROP SCHEMA robust CASCADE;
DROP ROLE robust_mallory;
DROP ROLE robust_alice;
