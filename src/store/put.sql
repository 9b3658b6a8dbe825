-- src/store/put.sql: writing documents
-- Executable by everybody: each function checks the caller's privileges on the table.

CREATE FUNCTION docrep.put(tbl regclass, doc jsonb) RETURNS docrep.rev
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_put';
COMMENT ON FUNCTION docrep.put(regclass, jsonb) IS
	'Write a document; its _rev must be a current revision if the document exists (else DR409). Returns the new revision';

CREATE FUNCTION docrep.delete(tbl regclass, id text, rev text) RETURNS docrep.rev
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_delete';
COMMENT ON FUNCTION docrep.delete(regclass, text, text) IS
	'Delete a document, whose current revision must be given (else DR409). Returns the tombstone''s revision';

-- as docrep.get() has one: a column _rev has no implicit cast to text
CREATE FUNCTION docrep.delete(tbl regclass, id text, rev docrep.rev) RETURNS docrep.rev
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	RETURN docrep.delete(tbl, id, rev::text);
COMMENT ON FUNCTION docrep.delete(regclass, text, docrep.rev) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';

CREATE FUNCTION docrep.bulk_docs(tbl regclass, docs jsonb, new_edits boolean DEFAULT true,
								 OUT id text, OUT rev docrep.rev, OUT error text, OUT reason text)
	RETURNS SETOF record
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_bulk_docs';
COMMENT ON FUNCTION docrep.bulk_docs(regclass, jsonb, boolean) IS
	'Write many documents, a row of the result for each in order. With new_edits false revisions are stored as they are, and only those that were refused are returned';
