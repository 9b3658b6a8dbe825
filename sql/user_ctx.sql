-- For whom a replication is: user_ctx, design documents, and the fields for the scheduler.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS docrep;
CREATE SCHEMA user_ctx;
SET search_path = user_ctx, public, docrep;

CREATE ROLE ctx_joe LOGIN;
CREATE ROLE ctx_ann LOGIN;
CREATE ROLE ctx_boss LOGIN;
CREATE ROLE ctx_group;
CREATE ROLE ctx_admins;
CREATE ROLE ctx_super SUPERUSER LOGIN;
GRANT ctx_joe TO ctx_boss;
GRANT ctx_group TO ctx_joe;
GRANT ALL ON SCHEMA user_ctx TO ctx_joe, ctx_ann, ctx_boss;
GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO ctx_joe, ctx_ann, ctx_boss;
CREATE FUNCTION said(source text, target text, options jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	result jsonb;
BEGIN
	result := docrep.replicate(source, target, options);
	RETURN format('written %s, failed %s', result->'docs_written', result->'doc_write_failures');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || regexp_replace(message, '[0-9a-f]{32}', 'ID') ||
		CASE detail WHEN '' THEN '' ELSE ' / ' || detail END;
END $$;

SELECT docrep.create_table('src');
INSERT INTO src(_id, doc) VALUES ('a', '{}'), ('b', '{}'), ('_design/app', '{"views": {}}'), ('_design/gone', '{}');
DELETE FROM src WHERE _id = '_design/gone';
GRANT SELECT ON src TO ctx_joe, ctx_ann, ctx_boss;

-- ---- what the document may say --------------------------------------------------------------
SET ROLE ctx_joe;
SELECT c, said('src', 'joes', jsonb_build_object('cancel', true, 'create_target', true, 'user_ctx', c)) FROM (VALUES
	(1, '{}'::jsonb),
	(2, '{"name": null, "roles": []}'),
	(3, '{"name": "ctx_joe"}'),
	(4, '{"name": "ctx_joe", "roles": ["ctx_group", "ctx_joe"]}'),
	(5, '{"name": "ctx_ann"}'),
	(6, '{"name": "ctx_boss"}'),
	(7, '{"name": "ctx_super", "roles": ["_admin"]}'),
	(8, '{"name": "ctx_nobody"}'),
	(9, '{"name": "ctx_joe", "roles": ["ctx_admins"]}'),
	(10, '{"name": "ctx_joe", "roles": ["_admin"]}'),
	(11, '{"name": "ctx_joe", "roles": ["no such role"]}'),
	(12, '{"name": 1}'),
	(13, '{"roles": "_admin"}'),
	(14, '{"roles": [null]}'),
	(15, '[]')
) AS v(n, c) ORDER BY n;
RESET ROLE;
-- a role that may SET ROLE to another, and an administrator
SET ROLE ctx_boss;
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_joe"}}');
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_ann"}}');
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_group"}}') ~
	CASE WHEN current_setting('server_version_num')::int < 170000 THEN '^DR400 ' ELSE '^DR404 ' END AS cannot_log_in;
RESET ROLE;
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_joe", "roles": ["_admin", "any word"]}}');
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_nobody"}}');
SET docrep.admin_roles = 'ctx_admins,';
SET docrep.admin_roles = 'ctx_admins, ctx_nobody';
GRANT ctx_admins TO ctx_ann;
SET ROLE ctx_ann;
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"roles": ["_admin", "any word"]}}');
-- ... who is no superuser becomes nobody else by that
SELECT said('src', 'x', '{"cancel": true, "create_target": true, "user_ctx": {"name": "ctx_joe"}}');
SET docrep.admin_roles = 'ctx_ann';
RESET ROLE;

-- ---- as whom it runs, and design documents -------------------------------------------------------
SELECT said('src', 'by_super', '{"create_target": true}');
SELECT said('src', 'by_super_plain', '{"create_target": true, "user_ctx": {"name": null, "roles": []}}');
SELECT said('src', 'for_joe', '{"create_target": true, "user_ctx": {"name": "ctx_joe"}}');
SELECT said('src', 'for_joe_admin', '{"create_target": true, "user_ctx": {"name": "ctx_joe", "roles": ["_admin"]}}');
SET ROLE ctx_joe;
SELECT said('src', 'by_joe', '{"create_target": true}');
RESET ROLE;
SET ROLE ctx_ann;
SELECT said('src', 'by_ann', '{"create_target": true}');
RESET ROLE;
SELECT c.relname, CASE WHEN c.relowner = 10 THEN 'us' ELSE pg_get_userbyid(c.relowner) END AS owner, (xpath('/row/c/text()', query_to_xml(format(
		'SELECT string_agg(_id, '' '' ORDER BY _id) AS c FROM user_ctx.%I', c.relname), false, true, '')))[1]::text AS documents
FROM pg_class c WHERE c.relnamespace = 'user_ctx'::regnamespace AND c.relkind = 'r' ORDER BY 1;
-- What was left out is kept, and can be had.
SELECT tbl, id, error, reason FROM docrep.rejected_docs WHERE tbl = 'by_joe'::regclass ORDER BY id;
SET ROLE ctx_joe;
SELECT docrep.retry_rejected('by_joe');
SELECT _id FROM by_joe ORDER BY 1;
RESET ROLE;
-- The same again: nothing new, and nothing counted twice.
SET ROLE ctx_joe;
SELECT said('src', 'by_joe', '{"create_target": true}');
SELECT said('src', 'by_joe', '{"use_checkpoints": false}');
RESET ROLE;

-- ---- rights are those of the role that is named -----------------------------------------------------
SELECT docrep.create_table('secret');
INSERT INTO secret(_id, doc) VALUES ('s', '{}');
SELECT said('secret', 'stolen', '{"create_target": true, "user_ctx": {"name": "ctx_joe"}}');
-- a function of the superuser that lets others call replicate() is that superuser's affair ...
CREATE FUNCTION lent(options jsonb) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = user_ctx, pg_temp
	AS $$ SELECT said('secret', 'copied', options) $$;
SET ROLE ctx_joe;
SELECT lent('{"create_target": true}');
-- ... and one of one's own gains nothing
CREATE FUNCTION own(options jsonb) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = user_ctx, pg_temp
	AS $$ SELECT said('secret', 'stolen', options) $$;
RESET ROLE;
SELECT own('{"create_target": true}');
SELECT own('{"create_target": true, "user_ctx": {"name": "ctx_boss"}}');
-- A hostile trigger of the target's owner is run as the role that the task runs as, in a process that is nobody else.
SET ROLE ctx_joe;
CREATE TABLE seen(what text);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION hostile() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	problem text := 'none';
BEGIN
	RESET ROLE;
	RESET SESSION AUTHORIZATION;
	BEGIN
		SET ROLE ctx_boss;
	EXCEPTION WHEN OTHERS THEN
		problem := SQLSTATE;
	END;
	INSERT INTO user_ctx.seen VALUES (format('current %s, session %s, problem %s', current_user, session_user, problem));
	RETURN NEW;
END $$;
RESET ROLE;
SET ROLE ctx_joe;
CREATE TRIGGER a_hostile BEFORE INSERT ON by_joe FOR EACH ROW EXECUTE FUNCTION hostile();
RESET ROLE;
INSERT INTO src(_id, doc) VALUES ('c', '{}');
SELECT said('src', 'by_joe', '{"user_ctx": {"name": "ctx_joe", "roles": ["_admin"]}}');
SELECT DISTINCT what FROM seen;

-- ---- the fields for the scheduler ----------------------------------------------------------------------
SELECT o, said('src', 'x', o || '{"cancel": true, "create_target": true}') FROM (VALUES
	(1, '{"retry": "exponential"}'::jsonb),
	(2, '{"retry": "cycles"}'),
	(3, '{"retry": "never"}'),
	(4, '{"retry": 1}'),
	(5, '{"mentor": "north", "disabled": false}'),
	(6, '{"mentor": 1}'),
	(7, '{"disabled": "no"}'),
	(8, '{"delay": "30 minutes"}'),
	(9, '{"delay": "1 month 2 days -3:00"}'),
	(10, '{"delay": "0"}'),
	(11, '{"delay": "-1 second"}'),
	(12, '{"delay": "1 day -25:00"}'),
	(13, '{"delay": "soon"}'),
	(14, '{"delay": "99999999999 years"}'),
	(15, '{"delay": 5}'),
	(16, '{"filter": "_none"}')
) AS v(n, o) ORDER BY n;
SELECT said('src', 'x', '{"create_target": true, "disabled": true}');

DROP OWNED BY ctx_joe, ctx_ann, ctx_boss, ctx_group, ctx_admins, ctx_super CASCADE;
DROP ROLE ctx_joe, ctx_ann, ctx_boss, ctx_group, ctx_admins, ctx_super;
RESET docrep.admin_roles;
DROP SCHEMA user_ctx CASCADE;
