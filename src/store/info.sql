-- src/store/info.sql: a document table described

CREATE FUNCTION docrep.info(tbl regclass) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_info';
COMMENT ON FUNCTION docrep.info(regclass) IS
	'A document table as CouchDB''s GET /db: db_name, doc_count, doc_del_count, update_seq, ...; counts are exact';

CREATE FUNCTION docrep.table_stays(tbl oid) RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'docrep_table_stays';
COMMENT ON FUNCTION docrep.table_stays(oid) IS
	'beneath views of all tables: is the table (still) there, and may the role read it? Then it stays to the end of the transaction';
