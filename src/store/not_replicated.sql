-- src/store/not_replicated.sql: what a table keeps back from replications that read from it

CREATE FUNCTION docrep.set_not_replicated(tbl regclass, prefixes text[] DEFAULT '{}',
										  except_prefixes text[] DEFAULT '{}', member text DEFAULT NULL,
										  matching jsonb DEFAULT NULL) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_set_not_replicated';
COMMENT ON FUNCTION docrep.set_not_replicated(regclass, text[], text[], text, jsonb) IS
	'Which documents no replication takes from the table: ids under a prefix, revisions with a member that is true, or that match a selector; without any: all travel (owner only)';
