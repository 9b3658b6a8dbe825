-- src/store/tombstones.sql: how long tombstones are kept; who holds them back is in src/scheduler/tombstone_holders.sql

CREATE FUNCTION docrep.tombstones_after(tbl regclass, seq text, OUT passed bigint,
										OUT tombstones bigint, OUT oldest timestamptz)
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_tombstones_after';
COMMENT ON FUNCTION docrep.tombstones_after(regclass, text) IS
	'How many tombstones a peer has yet to see that has everything up to a sequence (owner, or pg_read_all_stats)';

CREATE FUNCTION docrep.remove_tombstones(tbl regclass, up_to bigint, before timestamptz) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_remove_tombstones';
COMMENT ON FUNCTION docrep.remove_tombstones(regclass, bigint, timestamptz) IS
	'Beneath docrep.purge_tombstones(): purge tombstones up to a sequence number and a time, whoever needs them (owner only)';
