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

/* Sources that have no uuid of their own; see origins.c. */
CREATE TABLE docrep.origins (
	uuid uuid PRIMARY KEY,
	name text NOT NULL,
	seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE docrep.origins IS 'Sources that documents arrived from and that do not say who wrote them';
COMMENT ON COLUMN docrep.origins.uuid IS 'What _origin says of a document from there; made of the name';
COMMENT ON COLUMN docrep.origins.name IS 'The source''s URL without credentials';
SELECT pg_catalog.pg_extension_config_dump('docrep.origins', '');
