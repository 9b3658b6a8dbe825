-- src/filter/selector.sql: Mango selectors

CREATE FUNCTION docrep.matches(doc jsonb, selector jsonb) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'docrep_matches';
COMMENT ON FUNCTION docrep.matches(jsonb, jsonb) IS
	'Does a document match a Mango selector, as in CouchDB''s _find?';

CREATE FUNCTION docrep.row_matches(doc jsonb, id text, rev docrep.rev, attachments jsonb, selector jsonb) RETURNS boolean
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'docrep_row_matches';
COMMENT ON FUNCTION docrep.row_matches(jsonb, text, docrep.rev, jsonb, jsonb) IS
	'Does the document of a row match a Mango selector, _id, _rev and _attachments included?';

CREATE FUNCTION docrep.found_doc(doc jsonb, id text, rev docrep.rev, attachments jsonb, fields text[])
	RETURNS jsonb
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_found_doc';
COMMENT ON FUNCTION docrep.found_doc(jsonb, text, docrep.rev, jsonb, text[]) IS
	'The document of a row with _id and _rev, or some of its fields';

CREATE FUNCTION docrep.sort_rank(value jsonb) RETURNS int
	LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
	RETURN CASE pg_catalog.jsonb_typeof(value) WHEN 'null' THEN 0
		WHEN 'boolean' THEN 1 + value::boolean::int
		WHEN 'number' THEN 3 WHEN 'string' THEN 4 WHEN 'array' THEN 5 ELSE 6 END;
COMMENT ON FUNCTION docrep.sort_rank(jsonb) IS
	'Where a value stands among those of other types, in CouchDB''s order';

CREATE FUNCTION docrep.find_query(tbl regclass, selector jsonb, fields text[] DEFAULT NULL,
								  sort jsonb DEFAULT NULL, max_rows int DEFAULT NULL,
								  skip int DEFAULT 0)
	RETURNS text
	LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'docrep_find_query';
COMMENT ON FUNCTION docrep.find_query(regclass, jsonb, text[], jsonb, int, int) IS
	'The statement that docrep.find runs, for EXPLAIN';

CREATE FUNCTION docrep.find(tbl regclass, selector jsonb, fields text[] DEFAULT NULL,
							sort jsonb DEFAULT NULL, max_rows int DEFAULT NULL,
							skip int DEFAULT 0)
	RETURNS SETOF jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, docrep, pg_temp
AS $$
DECLARE
	query text := docrep.find_query(tbl, selector, fields, sort, max_rows, skip);
BEGIN
	IF query IS NOT NULL THEN
		RETURN QUERY EXECUTE query;
	END IF;
END $$;
COMMENT ON FUNCTION docrep.find(regclass, jsonb, text[], jsonb, int, int) IS
	'The documents of a table that match a Mango selector, as CouchDB''s POST /db/_find';
