\echo Use "CREATE EXTENSION docrep" to load this file. \quit

/*
 * Everything that users call is in docrep; the companions of document tables
 * are in docrep_data, where only docrep creates.
 */
CREATE SCHEMA docrep;
COMMENT ON SCHEMA docrep IS 'Replication of JSON documents as CouchDB, Cloudant and RavenDB do it';
GRANT USAGE ON SCHEMA docrep TO PUBLIC;

CREATE SCHEMA docrep_data;
COMMENT ON SCHEMA docrep_data IS 'Tombstones, losing leaves and sequences of document tables; kept by docrep';
