-- Replication jobs: starting and cancelling.

CREATE FUNCTION docrep.replicate(request jsonb) RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_replicate';
REVOKE ALL ON FUNCTION docrep.replicate(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.replicate(jsonb) IS
	'run the replication that a replication document describes: one-shot ones are waited for and return their statistics, continuous ones return when they run; with "cancel": true end it';

CREATE FUNCTION docrep.replicate(source text, target text, options jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_replicate_endpoints';
REVOKE ALL ON FUNCTION docrep.replicate(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.replicate(text, text, jsonb) IS
	'run a replication from source to target; options are the other members of a replication document';
