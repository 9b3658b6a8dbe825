-- Foreign servers as named connections to peers.

CREATE FUNCTION docrep.server_options(options text[], catalog oid) RETURNS void
LANGUAGE C STRICT STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'docrep_server_options';
REVOKE ALL ON FUNCTION docrep.server_options(text[], oid) FROM PUBLIC;
COMMENT ON FUNCTION docrep.server_options(text[], oid) IS
	'validator of the foreign data wrapper docrep';

CREATE FOREIGN DATA WRAPPER docrep VALIDATOR docrep.server_options;
COMMENT ON FOREIGN DATA WRAPPER docrep IS
	'named connections for replication: endpoints "server:database"';
