-- src/store/changes.sql: the changes feed

CREATE FUNCTION docrep.changes(tbl regclass, since bigint DEFAULT 0, max_rows integer DEFAULT NULL,
							   style text DEFAULT 'main_only',
							   include_docs boolean DEFAULT false,
							   conflicts boolean DEFAULT false,
							   descending boolean DEFAULT false,
							   doc_ids text[] DEFAULT NULL, selector jsonb DEFAULT NULL,
							   filter text DEFAULT NULL, query_params jsonb DEFAULT NULL,
							   OUT seq bigint, OUT id text, OUT changes jsonb,
							   OUT deleted boolean, OUT doc jsonb)
	RETURNS SETOF record
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'docrep_changes';
COMMENT ON FUNCTION docrep.changes(regclass, bigint, integer, text, boolean, boolean, boolean, text[], jsonb, text, jsonb) IS
	'The documents that changed after "since", each once, in order of its last change; committed changes only';

CREATE FUNCTION docrep.changes_feed(tbl regclass, since bigint DEFAULT 0,
									max_rows integer DEFAULT NULL,
									style text DEFAULT 'main_only',
									include_docs boolean DEFAULT false,
									conflicts boolean DEFAULT false,
									descending boolean DEFAULT false,
									doc_ids text[] DEFAULT NULL, selector jsonb DEFAULT NULL,
									filter text DEFAULT NULL, query_params jsonb DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_changes_feed';
COMMENT ON FUNCTION docrep.changes_feed(regclass, bigint, integer, text, boolean, boolean, boolean, text[], jsonb, text, jsonb) IS
	'As docrep.changes, as an object: results, last_seq (how far was scanned) and pending (how many changes follow)';
