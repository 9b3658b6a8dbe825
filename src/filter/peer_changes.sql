-- What a Postgres peer of another server calls to read a feed: see src/store/wire.sql.

CREATE FUNCTION docrep.peer_changes(tbl uuid, since text, max_rows integer, max_bytes bigint,
							 winners_only boolean, with_docs boolean, doc_ids bytea,
							 filter text DEFAULT NULL)
	RETURNS bytea
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_changes';
COMMENT ON FUNCTION docrep.peer_changes(uuid, text, integer, bigint, boolean, boolean, bytea, text) IS
	'for replication peers: a batch of the changes feed; needs SELECT on the table, and EXECUTE on a function that filters';

CREATE FUNCTION docrep.peer_filter(tbl uuid, filter text) RETURNS text
	LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'docrep_peer_filter';
COMMENT ON FUNCTION docrep.peer_filter(uuid, text) IS
	'for replication peers: check a filter, and tell what identifies it, code of functions included; needs SELECT on the table';

CREATE FUNCTION docrep.peer_aged_changes(tbl uuid, since text, max_rows integer, max_bytes bigint,
								  winners_only boolean, with_docs boolean, doc_ids bytea,
								  filter text, min_age bigint,
								  OUT changes bytea, OUT young bigint, OUT due_in bigint, OUT now timestamptz)
	LANGUAGE C AS 'MODULE_PATHNAME', 'docrep_peer_aged_changes';
COMMENT ON FUNCTION docrep.peer_aged_changes(uuid, text, integer, bigint, boolean, boolean, bytea, text, bigint) IS
	'for replication peers: as peer_changes, up to the first change that is younger than min_age ms; how many follow, in how many ms the first of them is old enough, and what this server''s clock says';
