-- src/store/conflicts.sql: documents in conflict

CREATE FUNCTION docrep.conflicts(tbl regclass, OUT id text, OUT rev docrep.rev,
								 OUT is_winner boolean, OUT deleted boolean, OUT doc jsonb,
								 OUT modified timestamptz, OUT origin text)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_conflicts';
COMMENT ON FUNCTION docrep.conflicts(regclass) IS
	'The live revisions of documents that have more than one, the winner of each first';

CREATE FUNCTION docrep.conflict_count(tbl regclass) RETURNS bigint
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_conflict_count';
COMMENT ON FUNCTION docrep.conflict_count(regclass) IS
	'How many documents have more than one live revision';
