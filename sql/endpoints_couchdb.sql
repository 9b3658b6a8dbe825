-- How CouchDB endpoints are read.  Nothing here makes a connection: a job that is to be
-- cancelled has its endpoints read, and either they are refused or there is no such job.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS docrep;
SET search_path = public, docrep;
SET TIME ZONE UTC;
CREATE SCHEMA endpoints_couchdb;
SET search_path = endpoints_couchdb, public, docrep;
SELECT docrep.create_table('mine');

-- What is said about an endpoint, with the SQLSTATE; a replication's id reads "ID".
CREATE FUNCTION said(endpoint text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	context text;
BEGIN
	PERFORM docrep.replicate(endpoint, 'mine', '{"cancel": true}');
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || regexp_replace(message, '[0-9a-f]{32}', 'ID') ||
		CASE detail WHEN '' THEN '' ELSE ' / ' || detail END;
END $$;

-- The id of the replication from an endpoint.
CREATE FUNCTION id_of(endpoint text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM docrep.replicate(endpoint, 'mine', '{"cancel": true}');
EXCEPTION WHEN SQLSTATE 'DR404' THEN
	RETURN substring(SQLERRM FROM '[0-9a-f]{32}');
END $$;

-- ---- well-formed ones -------------------------------------------------------------------
SELECT e, said(e) FROM (VALUES
	(1, 'http://127.0.0.1:5984/db'),
	(2, 'https://joe:secret@couch.example/db'),
	(3, 'HTTP://[::1]:5984/a/b/db/'),
	(4, '{"url": "http://couch.example/db"}'),
	(5, '{"url": "http://couch.example/db", "headers": {"X-Tenant": "t1", "Authorization": "Bearer x.y"}}'),
	(6, '{"url": "http://couch.example/db", "auth": {"basic": {"username": "joe", "password": "secret"}}}'),
	(7, '{"url": "http://couch.example/db", "auth": {"iam": {"api_key": "k", "url": "https://iam.example/token"}}}'),
	(8, '{"url": "http://couch.example/db", "auth": {"iam": {"api_key": "k"}}}')
) AS v(n, e) ORDER BY n;

-- ---- what is shown of them ---------------------------------------------------------------
SET docrep.denied_hosts = '*';
SELECT said(e) FROM (VALUES
	(1, 'https://joe:se%63ret@Couch.EXAMPLE:443/db'),
	(2, 'http://joe:secret@couch.example:5984/a%2fb/%64b//'),
	(3, 'http://[0:0::1]/db'),
	(4, '{"url": "http://joe:secret@couch.example/db", "headers": {"X-Key": "secret"}}')
) AS v(n, e) ORDER BY n;
RESET docrep.denied_hosts;

-- ---- malformed ones: DR400, and not a word of what may be a secret -----------------------
SELECT said(e) AS said, said(e) ~ 'secret|joe|couch' AS tells FROM (VALUES
	(1, 'http://'),
	(2, 'http:///db'),
	(3, 'http://couch.example'),
	(4, 'http://couch.example/'),
	(5, 'http://couch.example//'),
	(6, 'http://joe:secret@couch.example:x/db'),
	(7, 'http://joe:secret@couch.example:/db'),
	(8, 'http://joe:secret@couch.example:65536/db'),
	(9, 'http://joe:secret@couch.example:0/db'),
	(10, 'http://joe:sec ret@couch.example/db'),
	(11, E'http://joe:sec\tret@couch.example/db'),
	(12, 'http://joe:secret%00@couch.example/db'),
	(13, 'http://joe:secret%0d%0aX@couch.example/db'),
	(14, 'http://joe:secret%zz@couch.example/db'),
	(15, 'http://joe:secret%2@couch.example/db'),
	(16, 'http://jo%3ae:secret@couch.example/db'),
	(17, 'http://:secret@couch.example/db'),
	(18, 'http://joe:secret@couch.example/db?key=secret'),
	(19, 'http://joe:secret@couch.example/db#secret'),
	(20, 'http://joe:secret@couch.example/../db'),
	(21, 'http://joe:secret@couch.example/%2e%2E/db'),
	(22, 'http://joe:secret@couch.example\.other.example/db'),
	(23, 'http://joe:secret@couch%2eexample/db'),
	(24, 'http://joe:secret@[::1/db'),
	(25, 'http://joe:secret@[couch]/db'),
	(26, 'http://joe:secret@[::1]x/db'),
	(27, 'http://joe:secret@' || repeat('x', 300) || '/db')
) AS v(n, e) ORDER BY n;

SELECT said(e) AS said, said(e) ~ 'secret|joe|couch' AS tells FROM (VALUES
	(1, '{"url": "http://couch.example/db", '),
	(2, '{"url": "http://couch.example/db"} secret'),
	(3, '{}'),
	(4, '{"uri": "http://couch.example/db"}'),
	(5, '{"url": 1}'),
	(6, '{"url": "mine"}'),
	(7, '{"url": "postgresql://joe:secret@couch.example/db#t"}'),
	(8, '{"url": "http://couch.example/db", "password": "secret"}'),
	(9, '{"url": "http://couch.example/db", "headers": ["secret"]}'),
	(10, '{"url": "http://couch.example/db", "headers": {"X": 1}}'),
	(11, '{"url": "http://couch.example/db", "headers": {"": "secret"}}'),
	(12, '{"url": "http://couch.example/db", "headers": {"X Y": "secret"}}'),
	(13, '{"url": "http://couch.example/db", "headers": {"X": "secret\r\nY: secret"}}'),
	(14, '{"url": "http://couch.example/db", "headers": {"X": "secret\u0000"}}'),
	(15, '{"url": "http://couch.example/db", "headers": {"X": "secret\ud800"}}'),
	(16, '{"url": "http://couch.example/db", "headers": {"X": "secret", "x": "secret"}}'),
	(17, '{"url": "http://couch.example/db", "headers": {"content-length": "secret"}}'),
	(18, '{"url": "http://couch.example/db", "headers": {"HOST": "secret"}}'),
	(19, '{"url": "http://couch.example/db", "headers": {"Authorization": "Basic secret!"}}'),
	(20, '{"url": "http://couch.example/db", "auth": null}'),
	(21, '{"url": "http://couch.example/db", "auth": {"oauth": {"token": "secret"}}}'),
	(22, '{"url": "http://couch.example/db", "auth": {"basic": {"username": "joe"}}}'),
	(23, '{"url": "http://couch.example/db", "auth": {"basic": {"username": "joe", "password": 1}}}'),
	(24, '{"url": "http://couch.example/db", "auth": {"basic": {"username": "j:oe", "password": "secret"}}}'),
	(25, '{"url": "http://couch.example/db", "auth": {"basic": {"username": "joe", "password": "secret\n"}}}'),
	(26, '{"url": "http://couch.example/db", "auth": {"iam": {"url": "https://iam.example"}}}'),
	(27, '{"url": "http://couch.example/db", "auth": {"iam": {"api_key": "secret", "url": "ftp://iam.example"}}}'),
	(28, '{"url": "http://couch.example/db", "auth": {"iam": {"api_key": "secret", "url": "http://joe:secret@iam.example"}}}'),
	(29, '{"url": "http://couch.example/db", "auth": {"iam": {"api_key": "secret"}, "basic": {"username": "joe", "password": "secret"}}}'),
	(30, '{"url": "http://couch.example/db", "since": ' || repeat('[', 10000) || repeat(']', 10000) || '}')
) AS v(n, e) ORDER BY n;

-- ---- identity: what makes another replication of it, and what does not --------------------
SELECT what, id_of(a) = id_of(b) AS same FROM (VALUES
	(1, 'scheme', 'http://couch.example/db', 'https://couch.example/db'),
	(2, 'case of the host', 'http://couch.example/db', 'http://COUCH.example/db'),
	(3, 'default port', 'http://couch.example/db', 'http://couch.example:80/db'),
	(4, 'slash at the end', 'http://couch.example/db', 'http://couch.example/db/'),
	(5, 'ways of escaping', 'http://couch.example/d%2fb', 'http://couch.example/%64%2Fb'),
	(6, 'password', 'http://joe:a@couch.example/db', 'http://joe:b@couch.example/db'),
	(7, 'place of the user', 'http://joe:a@couch.example/db',
		'{"url": "http://couch.example/db", "auth": {"basic": {"username": "joe", "password": "b"}}}'),
	(8, 'user in a header', 'http://joe:pw@couch.example/db',
		'{"url": "http://couch.example/db", "headers": {"authorization": "Basic am9lOnB3"}}'),
	(9, 'a token', '{"url": "http://couch.example/db", "headers": {"Authorization": "Bearer a"}}',
		'{"url": "http://couch.example/db", "headers": {"Authorization": "Bearer b"}}'),
	(10, 'order of headers', '{"url": "http://couch.example/db", "headers": {"A": "1", "B": "2"}}',
		'{"url": "http://couch.example/db", "headers": {"b": "2", "a": "1"}}'),
	(11, 'database', 'http://couch.example/db', 'http://couch.example/db2'),
	(12, 'port', 'http://couch.example/db', 'http://couch.example:5984/db'),
	(13, 'user', 'http://joe:a@couch.example/db', 'http://ann:a@couch.example/db'),
	(14, 'value of a header', '{"url": "http://couch.example/db", "headers": {"A": "1"}}',
		'{"url": "http://couch.example/db", "headers": {"A": "2"}}')
) AS v(n, what, a, b) ORDER BY n;

-- ---- hosts ------------------------------------------------------------------------------
-- denied by default, for superusers too
SELECT e, said(e) FROM (VALUES
	(1, 'http://169.254.169.254/db'),
	(2, 'http://[fe80::1]/db'),
	(3, 'http://[fd00:ec2::254]/db'),
	(4, 'http://[::ffff:169.254.169.254]/db'),
	(5, 'http://[64:ff9b::a9fe:a9fe]/db'),
	(6, 'http://100.100.100.200/db'),
	(7, 'http://0.0.0.0/db'),
	(8, 'http://[::]/db'),
	(9, 'http://2852039166/db'),
	(10, 'http://0xa9.0xfe.43518/db'),
	(11, 'http://127.0.0.1/db')
) AS v(n, e) ORDER BY n;

-- ordinary roles: a name may still turn out to have an allowed address, an address may not
CREATE ROLE endpoints_joe;
GRANT USAGE ON SCHEMA endpoints_couchdb TO endpoints_joe;
GRANT SELECT, INSERT, UPDATE, DELETE ON mine TO endpoints_joe;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA docrep TO endpoints_joe;
SET docrep.allowed_hosts = '*.example, 10.0.0.0/8';
SET ROLE endpoints_joe;
SELECT e, said(e) ~ '^DR403' AS refused FROM (VALUES
	(1, 'http://couch.example/db'),
	(2, 'http://couch.other/db'),
	(3, 'http://10.1.2.3/db'),
	(4, 'http://11.1.2.3/db'),
	(5, 'http://[::ffff:10.1.2.3]/db'),
	(6, 'http://185273099/db')
) AS v(n, e) ORDER BY n;
RESET ROLE;
SET docrep.allowed_hosts = '*.example';
SET ROLE endpoints_joe;
SELECT e, said(e) ~ '^DR403' AS refused FROM (VALUES
	(1, 'http://couch.example/db'),
	(2, 'http://couch.other/db')
) AS v(n, e) ORDER BY n;
RESET ROLE;
RESET docrep.allowed_hosts;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA docrep FROM endpoints_joe;
DROP SCHEMA endpoints_couchdb CASCADE;
DROP ROLE endpoints_joe;
