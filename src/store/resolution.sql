-- src/store/resolution.sql: policies, and what became of conflicts

CREATE TYPE docrep.version AS (
	rev docrep.rev,
	doc jsonb,
	deleted boolean,
	modified timestamptz,
	origin uuid
);
COMMENT ON TYPE docrep.version IS
	'One of the versions that are in conflict, as a resolver gets it; origin is the docrep.node_uuid() of the database that first wrote it';

/* Automatic resolutions of a document in a row, and the last problem with them. */
CREATE TABLE docrep.resolutions (
	tbl uuid NOT NULL,
	id text COLLATE "C" NOT NULL,
	rounds int NOT NULL,
	policy text NOT NULL,
	sqlstate text,
	message text,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (tbl, id)
);
-- what has come to rest, and is removed one day
CREATE INDEX resolutions_at ON docrep.resolutions (at) WHERE sqlstate IS NULL;
COMMENT ON TABLE docrep.resolutions IS
	'How often conflicts of a document have been resolved automatically in a row, and why one was not; read it through docrep.resolution_problems';

CREATE VIEW docrep.resolution_problems WITH (security_barrier) AS
	SELECT c.tbl, r.id, r.rounds, r.policy, r.sqlstate, r.message, r.at
	FROM docrep.resolutions r
	JOIN docrep.document_tables c ON c.uuid = r.tbl
	WHERE r.sqlstate IS NOT NULL
		AND pg_catalog.has_table_privilege(c.tbl, 'SELECT')
		AND NOT pg_catalog.row_security_active(c.tbl);
COMMENT ON VIEW docrep.resolution_problems IS
	'Conflicts that a table''s policy could not resolve, of tables that the role may read (all rows of): the resolver failed, or databases have answered each other too often';
GRANT SELECT ON docrep.resolution_problems TO PUBLIC;

CREATE FUNCTION docrep.set_conflict_policy(tbl regclass, policy text, resolver regprocedure DEFAULT NULL)
	RETURNS void
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_set_conflict_policy';
COMMENT ON FUNCTION docrep.set_conflict_policy(regclass, text, regprocedure) IS
	'What is done about conflicts: keep, identical, function, latest, mark, or several of them with commas (owner only)';

CREATE FUNCTION docrep.resolve(tbl regclass, id text, keep docrep.rev DEFAULT NULL,
							   doc jsonb DEFAULT NULL, delete boolean DEFAULT false)
	RETURNS docrep.rev
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_resolve';
COMMENT ON FUNCTION docrep.resolve(regclass, text, docrep.rev, jsonb, boolean) IS
	'End a document''s conflict: keep one of its versions, store a merged body, or delete it; returns the revision that this makes';

-- the other way round than docrep.get(): what a document says of its _rev is text
CREATE FUNCTION docrep.resolve(tbl regclass, id text, keep text) RETURNS docrep.rev
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	RETURN docrep.resolve(tbl, id, keep::docrep.rev);
COMMENT ON FUNCTION docrep.resolve(regclass, text, text) IS
	'The same, with the version to keep as text';

CREATE FUNCTION docrep.resolve_conflicts(tbl regclass, max_docs int DEFAULT 1000, after text DEFAULT NULL,
										 OUT last text, OUT examined int, OUT resolved int, OUT unresolved int)
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_resolve_conflicts';
COMMENT ON FUNCTION docrep.resolve_conflicts(regclass, int, text) IS
	'Apply the table''s conflict policy to conflicts that are there, to so many documents from an id on; last is where to go on after, NULL at the end (owner only)';
