-- src/store/attachments.sql: attachments
-- Executable by everybody: each function checks the caller's privileges on the table.

CREATE FUNCTION docrep.put_attachment(tbl regclass, id text, name text, content_type text,
									  data bytea DEFAULT NULL, rev text DEFAULT NULL,
									  upload bigint DEFAULT NULL)
	RETURNS docrep.rev
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_put_attachment';
COMMENT ON FUNCTION docrep.put_attachment(regclass, text, text, text, bytea, text, bigint) IS
	'Add an attachment to a document, or replace it, with data or what was uploaded in this session; rev must be a current revision if the document exists (else DR409). Returns the new revision';

CREATE FUNCTION docrep.get_attachment(tbl regclass, id text, name text, rev text DEFAULT NULL)
	RETURNS bytea
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_get_attachment';
COMMENT ON FUNCTION docrep.get_attachment(regclass, text, text, text) IS
	'The content of an attachment of a document, or of one of its revisions; DR404 if there is none';

CREATE FUNCTION docrep.get_attachment_part(tbl regclass, id text, name text, "offset" bigint,
										   length int, rev text DEFAULT NULL)
	RETURNS bytea
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_get_attachment_part';
COMMENT ON FUNCTION docrep.get_attachment_part(regclass, text, text, bigint, int, text) IS
	'A part of the content of an attachment; empty beyond its end';

CREATE FUNCTION docrep.delete_attachment(tbl regclass, id text, name text, rev text)
	RETURNS docrep.rev
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_delete_attachment';
COMMENT ON FUNCTION docrep.delete_attachment(regclass, text, text, text) IS
	'Remove an attachment from a document, whose current revision must be given (else DR409). Returns the new revision';

-- as docrep.get() has one: a column _rev has no implicit cast to text
CREATE FUNCTION docrep.put_attachment(tbl regclass, id text, name text, content_type text,
									  data bytea, rev docrep.rev, upload bigint DEFAULT NULL)
	RETURNS docrep.rev LANGUAGE sql VOLATILE PARALLEL UNSAFE
	RETURN docrep.put_attachment(tbl, id, name, content_type, data, rev::text, upload);
CREATE FUNCTION docrep.get_attachment(tbl regclass, id text, name text, rev docrep.rev)
	RETURNS bytea LANGUAGE sql STABLE PARALLEL UNSAFE
	RETURN docrep.get_attachment(tbl, id, name, rev::text);
CREATE FUNCTION docrep.get_attachment_part(tbl regclass, id text, name text, "offset" bigint,
										   length int, rev docrep.rev)
	RETURNS bytea LANGUAGE sql STABLE PARALLEL UNSAFE
	RETURN docrep.get_attachment_part(tbl, id, name, "offset", length, rev::text);
CREATE FUNCTION docrep.delete_attachment(tbl regclass, id text, name text, rev docrep.rev)
	RETURNS docrep.rev LANGUAGE sql VOLATILE PARALLEL UNSAFE
	RETURN docrep.delete_attachment(tbl, id, name, rev::text);
COMMENT ON FUNCTION docrep.put_attachment(regclass, text, text, text, bytea, docrep.rev, bigint) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';
COMMENT ON FUNCTION docrep.get_attachment(regclass, text, text, docrep.rev) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';
COMMENT ON FUNCTION docrep.get_attachment_part(regclass, text, text, bigint, int, docrep.rev) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';
COMMENT ON FUNCTION docrep.delete_attachment(regclass, text, text, docrep.rev) IS
	'The same, with a revision that is one: a column _rev, or what docrep.put() returns';

CREATE FUNCTION docrep.begin_attachment(tbl regclass) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_begin_attachment';
COMMENT ON FUNCTION docrep.begin_attachment(regclass) IS
	'Begin the upload of a content piece by piece; it belongs to this session';

CREATE FUNCTION docrep.append_attachment(tbl regclass, upload bigint, data bytea) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_append_attachment';
COMMENT ON FUNCTION docrep.append_attachment(regclass, bigint, bytea) IS
	'Add a piece to an upload that was begun in this session';

CREATE FUNCTION docrep.attachments(tbl regclass, doc_id text DEFAULT NULL,
								   OUT id text, OUT name text, OUT content_type text,
								   OUT length bigint, OUT digest text, OUT revpos int)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_attachments';
COMMENT ON FUNCTION docrep.attachments(regclass, text) IS
	'The attachments of a table''s documents, or of one document';

CREATE FUNCTION docrep.compact(tbl regclass, grace interval DEFAULT '1 day') RETURNS jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_compact';
COMMENT ON FUNCTION docrep.compact(regclass, interval) IS
	'Remove contents of attachments that no revision uses and that are older than the grace period (owner only)';
