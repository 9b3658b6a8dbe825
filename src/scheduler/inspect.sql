-- Reading endpoints without writing, as jobs like those of replicate().

CREATE FUNCTION docrep.verify(source text, target text, options jsonb DEFAULT '{}')
RETURNS TABLE (id text, rev text, difference text, at_source jsonb, at_target jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_verify';
REVOKE ALL ON FUNCTION docrep.verify(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.verify(text, text, jsonb) IS
	'compare two endpoints leaf by leaf: one row for each difference, none if they are equal';

CREATE FUNCTION docrep.preflight(source text, options jsonb DEFAULT '{}')
RETURNS TABLE (kind text, id text, rev text, detail text, bytes bigint, n bigint)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'docrep_preflight';
REVOKE ALL ON FUNCTION docrep.preflight(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION docrep.preflight(text, jsonb) IS
	'read a source once and list what could not be stored as it is or deserves attention; rows without id count';
