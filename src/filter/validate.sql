-- src/filter/validate.sql: who validates what is written

CREATE FUNCTION docrep.set_validator(tbl regclass, validator regprocedure) RETURNS void
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_set_validator';
COMMENT ON FUNCTION docrep.set_validator(regclass, regprocedure) IS
	'A function (new_doc, old_doc, user_ctx, sec_obj jsonb) RETURNS text, boolean or void to validate every write; NULL: none (owner only)';

CREATE FUNCTION docrep.validators(tbl regclass, OUT name text, OUT kind text, OUT problem text)
	RETURNS SETOF record
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'docrep_validators_list';
COMMENT ON FUNCTION docrep.validators(regclass) IS
	'Who validates the writes of a document table, and what is wrong with them';
