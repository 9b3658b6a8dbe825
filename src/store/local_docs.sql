/* Local documents: never replicated, one row each; checkpoints live here. */
CREATE TABLE docrep.local_docs (
	tbl uuid NOT NULL,
	id text COLLATE "C" NOT NULL,
	rev int NOT NULL,
	doc jsonb NOT NULL,
	PRIMARY KEY (tbl, id)
);
COMMENT ON TABLE docrep.local_docs IS 'Local documents of all document tables, by the table''s uuid';
COMMENT ON COLUMN docrep.local_docs.rev IS 'N of the revision 0-N';
SELECT pg_catalog.pg_extension_config_dump('docrep.local_docs', '');
