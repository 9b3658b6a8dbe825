-- What a Postgres peer of another server calls.  Open to every role, as each of
-- these checks the caller's privileges on the table that it names; no others
-- are shown anything.  Their messages are described in src/store/wire_format.h.

CREATE FUNCTION docrep.peer_open(name text, create_missing boolean, client_protocol integer,
						  OUT protocol integer, OUT tbl uuid)
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_open';
COMMENT ON FUNCTION docrep.peer_open(text, boolean, integer) IS
	'for replication peers: find or make a document table, agree on a protocol, and set the session''s timeouts for a replication';

CREATE FUNCTION docrep.peer_diff(tbl uuid, revs bytea) RETURNS bytea
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_diff';
COMMENT ON FUNCTION docrep.peer_diff(uuid, bytea) IS
	'for replication peers: which revisions are missing; needs SELECT on the table';

CREATE FUNCTION docrep.peer_fetch(tbl uuid, revs bytea, latest boolean) RETURNS SETOF bytea
	LANGUAGE C STRICT ROWS 100 AS 'MODULE_PATHNAME', 'docrep_peer_fetch';
COMMENT ON FUNCTION docrep.peer_fetch(uuid, bytea, boolean) IS
	'for replication peers: revisions with their ancestry, bodies and attachments; needs SELECT on the table';

CREATE FUNCTION docrep.peer_write(tbl uuid, docs bytea, number integer, replication_id text,
						   source text, local_id text, local_doc text)
	RETURNS bytea
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_write';
COMMENT ON FUNCTION docrep.peer_write(uuid, bytea, integer, text, text, text, text) IS
	'for replication peers: store revisions as they are, and a checkpoint with them; needs INSERT, UPDATE and DELETE on the table as each is used; commits without waiting for the disk unless in a transaction block';

CREATE FUNCTION docrep.peer_flush() RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_flush';
COMMENT ON FUNCTION docrep.peer_flush() IS
	'for replication peers: wait until what this session''s peer_write stored is durable';

CREATE FUNCTION docrep.peer_get_local(tbl uuid, id text) RETURNS jsonb
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_get_local';
COMMENT ON FUNCTION docrep.peer_get_local(uuid, text) IS
	'for replication peers: a local document, or NULL; needs SELECT on the table';

CREATE FUNCTION docrep.peer_put_local(tbl uuid, id text, doc jsonb) RETURNS void
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_put_local';
COMMENT ON FUNCTION docrep.peer_put_local(uuid, text, jsonb) IS
	'for replication peers: store a local document; needs SELECT on the table for a checkpoint, else INSERT';

CREATE FUNCTION docrep.peer_swap_local(tbl uuid, id text, expected jsonb, doc jsonb) RETURNS boolean
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_swap_local';
COMMENT ON FUNCTION docrep.peer_swap_local(uuid, text, jsonb, jsonb) IS
	'for replication peers: store a local document if it is what is expected (null: there is none); needs INSERT on the table';

CREATE FUNCTION docrep.peer_fence(tbl uuid, id text, token text) RETURNS void
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_fence';
COMMENT ON FUNCTION docrep.peer_fence(uuid, text, text) IS
	'for replication peers: from here on this session''s peer_write and peer_put_local are refused when the local document''s token is another one';

CREATE FUNCTION docrep.peer_att_read(tbl uuid, file bigint, "offset" bigint, max integer) RETURNS bytea
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_att_read';
COMMENT ON FUNCTION docrep.peer_att_read(uuid, bigint, bigint, integer) IS
	'for replication peers: a piece of an attachment''s content, empty at its end; needs SELECT on the table';

CREATE FUNCTION docrep.peer_att_have(tbl uuid, id text, digests text[], lengths bigint[]) RETURNS bigint[]
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_att_have';
COMMENT ON FUNCTION docrep.peer_att_have(uuid, text, text[], bigint[]) IS
	'for replication peers: the files of contents that a revision of the document has already, 0 for others; needs SELECT on the table';

CREATE FUNCTION docrep.peer_att_append(tbl uuid, upload bigint, data bytea) RETURNS bigint
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_att_append';
COMMENT ON FUNCTION docrep.peer_att_append(uuid, bigint, bytea) IS
	'for replication peers: the next piece of an attachment''s content; the upload''s number is the client''s choice, higher than those before; returns how much there is; needs INSERT on the table';

CREATE FUNCTION docrep.peer_att_finish(tbl uuid, upload bigint,
								OUT file bigint, OUT md5 bytea, OUT length bigint)
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_att_finish';
COMMENT ON FUNCTION docrep.peer_att_finish(uuid, bigint) IS
	'for replication peers: the end of an upload, and the file that a document may name; needs INSERT on the table';

CREATE PROCEDURE docrep.peer_wait(tbl uuid, since text, timeout_ms integer, INOUT changed boolean)
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_wait';
COMMENT ON PROCEDURE docrep.peer_wait(uuid, text, integer, boolean) IS
	'for replication peers: wait for changes after a seq, without holding a snapshot; needs SELECT on the table';

CREATE PROCEDURE docrep.peer_wait_many(forget bigint[], numbers bigint[], tables uuid[], sinces text[],
								timeout_ms integer, INOUT changed bigint[])
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_wait_many';
COMMENT ON PROCEDURE docrep.peer_wait_many(bigint[], bigint[], uuid[], text[], integer, bigint[]) IS
	'for replication peers: wait for changes of many tables, without holding a snapshot; the list is kept in the session, numbers are the caller''s choice, forget NULL empties it; changed are the numbers of tables that changed, went, or may not be read (SELECT)';
