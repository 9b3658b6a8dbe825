/* The identity of this database; see node.c for why it is made here. */
CREATE TABLE docrep.node (
	uuid uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	made_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE docrep.node IS 'Identity of this database; where there are several rows the oldest counts';
COMMENT ON COLUMN docrep.node.uuid IS 'Part of the id of every replication that runs here';
INSERT INTO docrep.node DEFAULT VALUES;
SELECT pg_catalog.pg_extension_config_dump('docrep.node', '');

CREATE FUNCTION docrep.node_uuid() RETURNS uuid
	AS 'MODULE_PATHNAME', 'docrep_node_uuid'
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION docrep.node_uuid() IS 'Identity of this database among those it replicates with';
