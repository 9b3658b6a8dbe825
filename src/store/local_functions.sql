-- src/store/local_functions.sql: local documents

CREATE FUNCTION docrep.put_local(tbl regclass, id text, doc jsonb) RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_put_local';
COMMENT ON FUNCTION docrep.put_local(regclass, text, jsonb) IS
	'Write a local document, which never replicates; the id is without "_local/". Returns its revision 0-N';

CREATE FUNCTION docrep.get_local(tbl regclass, id text) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_get_local';
COMMENT ON FUNCTION docrep.get_local(regclass, text) IS
	'A local document with _id and _rev, or NULL; the id is without "_local/"';

CREATE FUNCTION docrep.delete_local(tbl regclass, id text) RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_delete_local';
COMMENT ON FUNCTION docrep.delete_local(regclass, text) IS
	'Delete a local document; false if there was none';
