-- row security of a document table holds for plain DML, functions and replication
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_docrep_alice LOGIN;
CREATE ROLE regress_docrep_bob LOGIN;
CREATE FUNCTION gen(docrep.rev) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT docrep.rev_generation($1)';
GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO regress_docrep_alice, regress_docrep_bob;
SELECT docrep.create_table('rls'), docrep.create_table('rls_copy'), docrep.create_table('rls_in');
ALTER TABLE rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rls USING (doc->>'owner' = CURRENT_USER) WITH CHECK (doc->>'owner' = CURRENT_USER);
CREATE POLICY everybody_reads ON rls FOR SELECT USING (doc->>'owner' = 'all');
GRANT SELECT, INSERT, UPDATE, DELETE ON rls, rls_copy, rls_in TO regress_docrep_alice, regress_docrep_bob;
INSERT INTO rls VALUES ('a1', '{"owner": "regress_docrep_alice"}'), ('a2', '{"owner": "regress_docrep_alice"}'), ('a3', '{"owner": "regress_docrep_alice"}'),
	('b1', '{"owner": "regress_docrep_bob"}'), ('all', '{"owner": "all"}'), ('gone', '{"owner": "regress_docrep_alice"}');
DELETE FROM rls WHERE _id = 'gone';
SELECT * FROM docrep.bulk_docs('rls', '[{"_id": "a2", "_rev": "1-00000000000000000000000000000000", "owner": "regress_docrep_alice", "lost": 1}]', new_edits => false);
SELECT _rev AS a1 FROM rls WHERE _id = 'a1' \gset

-- reading: rows that the policies hide are not there, and no tombstones
SET ROLE regress_docrep_alice;
SELECT _id FROM rls ORDER BY _id;
SELECT id, deleted FROM docrep.changes('rls') ORDER BY id;
SELECT docrep.get('rls', 'a1') IS NOT NULL AS a1, docrep.get('rls', 'b1') IS NOT NULL AS b1, docrep.get('rls', 'all') IS NOT NULL AS "all",
	docrep.get('rls', 'a2', rev => '1-00000000000000000000000000000000')->'lost' AS loser, docrep.info('rls')->'doc_count' AS doc_count, docrep.info('rls')->'doc_del_count' AS doc_del_count;
SET ROLE regress_docrep_bob;
SELECT id, deleted FROM docrep.changes('rls', include_docs => true) ORDER BY id;
SELECT docrep.get('rls', 'a1') IS NOT NULL AS a1, docrep.get('rls', 'a2', rev => '1-00000000000000000000000000000000') AS loser, docrep.get('rls', 'b1') IS NOT NULL AS b1;
SELECT docrep.get('rls', 'a2', open_revs => '"all"'), docrep.get('rls', 'gone', open_revs => '"all"') AS gone;
SELECT docrep.bulk_get('rls', '[{"id": "a1"}, {"id": "b1"}]')#>'{results,0,docs,0,ok}' AS a1;
SELECT docrep.revs_diff('rls', jsonb_build_object('a1', jsonb_build_array(:'a1')))->'a1'->'missing' = jsonb_build_array(:'a1') AS hidden_is_missing;
SELECT tbl, id FROM docrep.rejected_docs;

-- writing: what is hidden cannot be changed or deleted, nor can a row be made that is not one's own
UPDATE rls SET doc = doc || '{"v": 2}' RETURNING _id;
INSERT INTO rls VALUES ('b2', '{"owner": "regress_docrep_alice"}');
INSERT INTO rls VALUES ('b2', '{"owner": "regress_docrep_bob"}') RETURNING gen(_rev) AS generation;
UPDATE rls SET doc = '{"owner": "all"}' WHERE _id = 'b2';
DELETE FROM rls WHERE _id = 'a1';
SELECT docrep.put('rls', jsonb_build_object('_id', 'a1', '_rev', :'a1', 'owner', 'regress_docrep_bob'));
SELECT docrep.put('rls', '{"_id": "b3", "owner": "all"}');
SELECT gen(docrep.put('rls', '{"_id": "b3", "owner": "regress_docrep_bob"}')) AS generation;
SELECT docrep.delete('rls', 'a1', :'a1');
SELECT id, error, reason FROM docrep.bulk_docs('rls', jsonb_build_array(
	jsonb_build_object('_id', 'a1', '_rev', :'a1', '_deleted', true), jsonb_build_object('_id', 'b4', 'owner', 'regress_docrep_bob'),
	jsonb_build_object('_id', 'b5', 'owner', 'all')));
SELECT id, error FROM docrep.bulk_docs('rls', '[{"_id": "a1", "_rev": "2-x", "_deleted": true, "_revisions": {"start": 2, "ids": ["x"]}}]', new_edits => false);
SELECT docrep.purge('rls', jsonb_build_object('a1', jsonb_build_array(:'a1')));
RESET ROLE;
SELECT _id, doc, gen(_rev) AS generation FROM rls ORDER BY _id;
SELECT * FROM docrep.check('rls');

-- replicating from the table as a role: what it may see, with the losing revisions of those documents
SET ROLE regress_docrep_alice;
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('rls', 'rls_copy') r;
RESET ROLE;
SELECT _id, doc, regexp_replace(_tree::text, '[0-9a-f]{32}', '...', 'g') AS tree FROM rls_copy ORDER BY _id;
-- replicating into it: what the policies do not allow is rejected, the others are stored
INSERT INTO rls_in VALUES ('x1', '{"owner": "regress_docrep_bob"}'), ('x2', '{"owner": "regress_docrep_alice"}'), ('x3', '{"owner": "all"}'),
	('a1', '{"owner": "regress_docrep_bob"}'), ('x4', '{"owner": "regress_docrep_bob"}');
UPDATE rls_in SET doc = doc || '{"n": 1}';
SET ROLE regress_docrep_bob;
SELECT r->'docs_written' AS written, r->'doc_write_failures' AS failures FROM docrep.replicate('rls_in', 'rls') r;
RESET ROLE;
SELECT _id, doc FROM rls WHERE _id ~ '^x|a1' ORDER BY _id;
SELECT id, error, reason FROM docrep.rejected_docs ORDER BY id;
-- the rejected are not shown to a role that does not see all rows
SET ROLE regress_docrep_bob;
SELECT id FROM docrep.rejected_docs;
RESET ROLE;
-- the owner passes by the policies, unless they are forced
SELECT docrep.retry_rejected('rls');
SELECT _id, doc FROM rls WHERE _id ~ '^x|a1' ORDER BY _id;
ALTER TABLE rls OWNER TO regress_docrep_alice;
SET ROLE regress_docrep_alice;
SELECT count(*) FROM docrep.changes('rls');
ALTER TABLE rls FORCE ROW LEVEL SECURITY;
SELECT id, deleted FROM docrep.changes('rls') ORDER BY id;
RESET ROLE;
DROP TABLE rls, rls_copy, rls_in;
DROP FUNCTION gen;
REVOKE EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) FROM regress_docrep_alice, regress_docrep_bob;
DROP ROLE regress_docrep_alice, regress_docrep_bob;
