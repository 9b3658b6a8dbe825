-- Foreign servers as named connections: options, privileges, and how endpoints
-- "server:database" are read.  Nothing here makes a connection.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS docrep;
CREATE SCHEMA servers;
SET search_path = servers, public, docrep;
SELECT docrep.create_table('mine');

-- What a statement fails with: SQLSTATE, message, detail and hint.
CREATE FUNCTION said(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || regexp_replace(message, '[0-9a-f]{32}', 'ID') ||
		CASE detail WHEN '' THEN '' ELSE ' / ' || detail END ||
		CASE hint WHEN '' THEN '' ELSE ' / ' || hint END;
END $$;

-- What is said about an endpoint: a job that is to be cancelled is not there.
CREATE FUNCTION cancel(source text, options jsonb DEFAULT '{}', target text DEFAULT 'mine') RETURNS text
LANGUAGE sql AS $$
	SELECT said(format('SELECT docrep.replicate(%L, %L, %L)', source, target, options || '{"cancel": true}'))
$$;

-- ... and one that is to be run is refused before anything is run
CREATE FUNCTION run(source text, options jsonb DEFAULT '{}', target text DEFAULT 'mine') RETURNS text
LANGUAGE sql AS $$
	SELECT said(format('SELECT docrep.replicate(%L, %L, %L)', source, target, options))
$$;

-- The id of the replication from an endpoint.
CREATE FUNCTION id_of(endpoint text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM docrep.replicate(endpoint, 'mine', '{"cancel": true}');
EXCEPTION WHEN SQLSTATE 'DR404' THEN
	RETURN substring(SQLERRM FROM '[0-9a-f]{32}');
END $$;

-- ---- options of servers -------------------------------------------------------------------
SELECT said('CREATE SERVER x FOREIGN DATA WRAPPER docrep' || coalesce(' OPTIONS (' || o || ')', '')) FROM (VALUES
	(1, NULL),
	(2, $$url ''$$),
	(3, $$url ' , '$$),
	(4, $$url 'http://x', foo 'bar'$$),
	(5, $$url 'http://x', password 'secret'$$),
	(6, $$url 'ftp://x'$$),
	(7, $$url 'x'$$),
	(8, $$url 'http://joe:secret@x'$$),
	(9, $$url 'http://x, https://joe@y'$$),
	(10, $$url 'http://x?a=b'$$),
	(11, $$url 'http://x:port/'$$),
	(12, $$url 'postgresql://joe@x/db'$$),
	(13, $$url 'postgresql://x/db?user=joe'$$),
	(14, $$url 'postgresql://x/db?password=secret'$$),
	(15, $$url 'postgresql://x/db?passfile=/secret'$$),
	(16, $$url 'postgresql://x/db#orders'$$),
	(17, $$url 'postgresql://x/db?secret'$$),
	(18, $$url 'http://x postgresql://x/db'$$),
	(19, $$url 'http://x', proxy 'ftp://secret'$$),
	(20, $$url 'http://x', proxy 'http://joe:secret@p'$$),
	(21, $$url 'postgresql://x/db', proxy 'http://p'$$),
	(22, $$url 'http://x', ssl_verify 'no'$$),
	(23, $$url 'http://x', ssl_key_file '/k'$$),
	(24, $$url 'http://x', ssl_ca_file ''$$),
	(25, $$url 'http://x', connection_timeout '0'$$),
	(26, $$url 'http://x', connection_timeout '1s'$$),
	(27, $$url 'http://x', http_connections '99999999999'$$),
	(28, $$url 'http://x', retries_per_request '-1'$$),
	(29, $$url 'http://x', request_timeout ''$$)
) AS v(n, o) ORDER BY n;
SELECT said('CREATE FOREIGN DATA WRAPPER other VALIDATOR docrep.server_options OPTIONS (a ''b'')');

CREATE SERVER couch FOREIGN DATA WRAPPER docrep
	OPTIONS (url 'https://acct.example, http://[::1]:5984/root/', proxy 'socks5h://proxy:1080', ssl_ca_file '/ca', ssl_cert_file '/cert',
		ssl_key_file '/key', ssl_verify 'ca', connection_timeout '1000', http_connections '3', retries_per_request '0', request_timeout '0');
CREATE SERVER "Branch: 1" FOREIGN DATA WRAPPER docrep
	OPTIONS (url E'postgresql://h1,h2:5433/db?sslmode=require,postgresql://h3/db\n postgres://h4/');
SELECT said('ALTER SERVER couch OPTIONS (DROP url)');
SELECT said('ALTER SERVER couch OPTIONS (ADD nonsense ''1'')');
ALTER SERVER couch OPTIONS (DROP ssl_cert_file, DROP ssl_key_file, SET request_timeout '10');

-- ---- options of user mappings ---------------------------------------------------------------
SELECT said('CREATE USER MAPPING FOR CURRENT_USER SERVER couch OPTIONS (' || o || ')') FROM (VALUES
	(1, $$url 'http://secret'$$),
	(2, $$user 'joe', bearer_token 'secret'$$),
	(3, $$bearer_token 'secret', iam_api_key 'secret'$$),
	(4, $$iam_token_url 'http://x/token'$$),
	(5, $$iam_api_key 'secret', iam_token_url 'secret'$$),
	(6, $$proxy_password 'secret'$$),
	(7, $$password E'sec\nret', user 'joe'$$),
	(8, $$header 'secret'$$),
	(9, $$header E'X-A: 1\nHost: secret'$$),
	(10, $$header 'X A: secret'$$)
) AS v(n, o) ORDER BY n;
CREATE USER MAPPING FOR CURRENT_USER SERVER couch
	OPTIONS (user 'joe', password 'p:@/%"\ ü', header E'X-Tenant: t1\nX-Other:  "x"\n', proxy_user 'me', proxy_password 'secret');

-- ---- endpoints --------------------------------------------------------------------------------
SELECT e, cancel(e) FROM (VALUES
	(1, 'couch:orders'),
	(2, ' COUCH : orders '),
	(3, '"couch":orders'),
	(4, '"Branch: 1":orders'),
	(5, '"Branch: 1":archive."Orders: 2"'),
	(6, '"Branch: 1":a.b.c'),
	(7, 'couch:'),
	(8, ':orders'),
	(9, 'a.b:orders'),
	(10, 'couch:a/b'),
	(11, 'couch:a%2Fb'),
	(12, 'couch:a%2')
) AS v(n, e) ORDER BY n;
-- one that is not there can be cancelled, and not run
SELECT cancel('nosuch:orders'), run('nosuch:orders');
CREATE FOREIGN DATA WRAPPER another;
CREATE SERVER strange FOREIGN DATA WRAPPER another;
SELECT run('strange:orders');
DROP FOREIGN DATA WRAPPER another CASCADE;

-- The id is made from the server's name and the database's, and nothing else.
SELECT id_of('couch:a/b') = id_of(' "couch": a%2fb') AS spelling, id_of('couch:a') <> id_of('couch:b') AS database,
	id_of('"Branch: 1":orders') = id_of('"Branch: 1":"orders"') AS table_name;
SELECT id_of('couch:orders') AS before \gset
ALTER SERVER couch OPTIONS (SET url 'https://elsewhere.example/x', DROP proxy, DROP ssl_ca_file);
ALTER USER MAPPING FOR CURRENT_USER SERVER couch OPTIONS (SET user 'jim');
SELECT id_of('couch:orders') = :'before' AS same;
ALTER SERVER couch RENAME TO nimbus;
SELECT id_of('nimbus:orders') <> :'before' AS renamed;
ALTER SERVER nimbus RENAME TO couch;
SELECT run('couch:orders', '{}', '"couch": orders');

-- ---- privileges ----------------------------------------------------------------------------------
CREATE ROLE servers_owner;
CREATE ROLE servers_user;
GRANT ALL ON SCHEMA servers TO servers_owner, servers_user;
GRANT ALL ON mine TO servers_user;
GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO servers_user;
SET ROLE servers_owner;
SELECT said($$CREATE SERVER own FOREIGN DATA WRAPPER docrep OPTIONS (url 'http://x')$$);
SELECT said($$SELECT docrep.server_options('{}', 0)$$);
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER docrep TO servers_owner;
SET ROLE servers_owner;
CREATE SERVER own FOREIGN DATA WRAPPER docrep OPTIONS (url 'http://x', ssl_verify 'off');
SELECT said($$ALTER SERVER own OPTIONS (ADD ssl_ca_file '/etc/passwd')$$);
CREATE USER MAPPING FOR PUBLIC SERVER own OPTIONS (user 'everybody', password 'secret');
RESET ROLE;
-- files that a superuser has named are not to be sent elsewhere
ALTER SERVER own OPTIONS (ADD ssl_cert_file '/cert');
SET ROLE servers_owner;
SELECT said($$ALTER SERVER own OPTIONS (SET url 'http://evil.example')$$);
ALTER SERVER own OPTIONS (DROP ssl_cert_file, SET url 'http://evil.example');
SET ROLE servers_user;
SELECT run('own:orders');
SELECT said('CREATE USER MAPPING FOR CURRENT_USER SERVER own');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER own, "Branch: 1" TO servers_user;
SET ROLE servers_user;
SELECT cancel('own:orders');
-- credentials are shown to nobody else
SELECT srvname, umoptions FROM pg_user_mappings WHERE srvname IN ('own', 'couch') ORDER BY 1;
SELECT string_agg(m::text, '') ~ 'secret' AS shown FROM information_schema.user_mapping_options m;
-- what an ordinary role may not say in a URL, it may not say by a server either
SELECT run('"Branch: 1":orders');
CREATE USER MAPPING FOR CURRENT_USER SERVER "Branch: 1" OPTIONS (user 'joe', password 'secret');
RESET ROLE;
SET docrep.allowed_hosts = 'h1, h2';
SET ROLE servers_user;
SELECT run('"Branch: 1":orders');
RESET ROLE;
RESET docrep.allowed_hosts;
ALTER SERVER "Branch: 1" OPTIONS (SET url 'postgresql:///db');
SET ROLE servers_user;
SELECT run('"Branch: 1":orders');
RESET ROLE;
ALTER SERVER "Branch: 1" OPTIONS (SET url 'postgresql://h1/db?sslkey=/k');
SET ROLE servers_user;
SELECT run('"Branch: 1":orders');
DROP USER MAPPING FOR CURRENT_USER SERVER "Branch: 1";
CREATE USER MAPPING FOR CURRENT_USER SERVER "Branch: 1" OPTIONS (bearer_token 'secret');
SELECT run('"Branch: 1":orders');
RESET ROLE;

-- Superusers are not led by others' servers to where those may not go.
SET ROLE servers_owner;
CREATE SERVER trap FOREIGN DATA WRAPPER docrep OPTIONS (url 'postgresql:///db');
CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (password 'secret');
RESET ROLE;
SELECT run('trap:orders');
SET ROLE servers_owner;
ALTER SERVER trap OPTIONS (SET url 'postgresql://127.0.0.1:1/db?sslkey=/x');
RESET ROLE;
SELECT run('trap:orders');
ALTER SERVER trap OPTIONS (SET url 'postgresql://127.0.0.1:1/db');
ALTER USER MAPPING FOR PUBLIC SERVER trap OPTIONS (DROP password);
SELECT run('trap:orders');
SET docrep.allowed_hosts = 'h1';
ALTER SERVER trap OPTIONS (SET url 'http://127.0.0.1:1');
SELECT run('trap:orders');
RESET docrep.allowed_hosts;

-- ---- options of replications that libpq has not -----------------------------------------------------
CREATE USER MAPPING FOR CURRENT_USER SERVER "Branch: 1" OPTIONS (user 'joe');
SELECT e, o, run(e, o) FROM (VALUES
	(1, '"Branch: 1":orders', '{"proxy": "http://p:1"}'::jsonb),
	(2, 'postgresql://h1/db#orders', '{"proxy": "http://p:1"}'),
	(3, 'postgresql://h1/db#orders', '{"source_proxy": "socks5://p:1"}'),
	(4, 'postgresql://h1/db#orders', '{"retries_per_request": 5}'),
	(5, '"Branch: 1":orders', '{"http_connections": 1}')
) AS v(n, e, o) ORDER BY n;
SELECT o, cancel('postgresql://h1/db#orders', o) FROM (VALUES
	(1, '{"target_proxy": "http://p:1", "retries_per_request": 10, "http_connections": 20, "worker_processes": 1}'::jsonb),
	(2, '{"retries_per_request": 0, "http_connections": 2, "connection_timeout": 1, "request_timeout": 1}'),
	(3, '{"socket_options": "[{keepalive, true},{nodelay, false}]"}'),
	(4, '{"socket_options": " [ { recbuf , 65536 } , {sndbuf,1} ] "}'),
	(5, '{"socket_options": "[]"}'),
	(6, '{"socket_options": ""}'),
	(7, '{"socket_options": "[{keepalive, yes}]"}'),
	(8, '{"socket_options": "[{linger, {true, 1}}]"}'),
	(9, '{"socket_options": "[{keepalive, true}"}'),
	(10, '{"socket_options": "[{keepalive, true}] x"}'),
	(11, '{"socket_options": "[{sndbuf, 0}]"}'),
	(12, '{"socket_options": true}'),
	(13, '{"worker_processes": 0}')
) AS v(n, o) ORDER BY n;

DROP OWNED BY servers_user, servers_owner CASCADE;
DROP ROLE servers_owner, servers_user;
DROP SERVER couch CASCADE;
DROP SERVER "Branch: 1" CASCADE;
DROP SCHEMA servers CASCADE;
