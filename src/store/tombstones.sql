-- src/store/tombstones.sql: how long tombstones are kept; who holds them back is in src/scheduler/tombstone_holders.sql

CREATE FUNCTION docrep.tombstones_after(tbl regclass, seq text, OUT passed bigint,
										OUT tombstones bigint, OUT oldest timestamptz)
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_tombstones_after';
COMMENT ON FUNCTION docrep.tombstones_after(regclass, text) IS
	'How many tombstones a peer has yet to see that has everything up to a sequence (owner, or pg_read_all_stats)';

CREATE FUNCTION docrep.remove_tombstones(tbl regclass, up_to bigint, before timestamptz,
										 after bigint DEFAULT 0, max_rows int DEFAULT NULL,
										 OUT removed bigint, OUT passed bigint)
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_remove_tombstones';
COMMENT ON FUNCTION docrep.remove_tombstones(regclass, bigint, timestamptz, bigint, int) IS
	'Beneath docrep.clean_tombstones(): purge tombstones up to a sequence number and a time, whoever needs them (owner only)';

CREATE FUNCTION docrep.set_tombstone_max_age(tbl regclass, max_age interval) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_set_tombstone_max_age';
COMMENT ON FUNCTION docrep.set_tombstone_max_age(regclass, interval) IS
	'Remove tombstones in the background once they are so old and nobody needs them any more; null: never (owner only)';
