# Foreign servers as named connections: a Postgres server and a scripted CouchDB,
# several URLs of which one is down, ALTER SERVER, and credentials nowhere.
use strict;
use warnings;

use DocrepCouch;
use DocrepProxy;
use DocrepSession;
use DocrepTest qw(:DEFAULT replicate contents is_same_contents check_table quote);
use DocrepTls;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $true = JSON::PP::true;
my $secret = 'Tr0ub4dor-s3cret';
my $near = new_node('near', databases => ['one'], conf => "log_min_messages = info\nlog_statement = none\n");
my $far = new_node('far', databases => ['one'], tcp => 1);
my $couch = DocrepCouch->new(settings => { users => { joe => $secret } });
my $there = '127.0.0.1:' . $far->port;

sub sql { return $near->safe_psql('one', join ";\n", @_) }

# Keeps a port (a free one by default) at which nobody listens, as long as it is held.
sub keep_port
{
	my ($port) = @_;
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port // 0, Proto => 'tcp', ReuseAddr => 1) || die "no port: $!";
}

# The far server asks for passwords over TCP.
$far->safe_psql('one', qq{
	CREATE ROLE app LOGIN PASSWORD '$secret';
	SELECT docrep.create_table('orders');
	GRANT ALL ON orders TO app;
	GRANT ALL ON SCHEMA public TO app;
	INSERT INTO orders(_id, doc) SELECT 'd' || i, jsonb_build_object('i', i) FROM generate_series(1, 300) i});
{
	my $hba = slurp_file($far->data_dir . '/pg_hba.conf');
	open my $file, '>', $far->data_dir . '/pg_hba.conf' or die $!;
	print $file "host all app 127.0.0.1/32 scram-sha-256\n$hba";
	close $file;
	reload_conf($far);
}
sql(qq{CREATE ROLE joe LOGIN}, q{GRANT ALL ON SCHEMA public TO joe},
	q{GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb), docrep.replicate(text, text, jsonb) TO joe},
	qq{CREATE SERVER far FOREIGN DATA WRAPPER docrep OPTIONS (url 'postgresql://$there/one')},
	q{GRANT USAGE ON FOREIGN SERVER far TO joe},
	qq{CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'app', password '$secret')});

# ---------- a Postgres server, as an ordinary role ----------

my $as_joe = DocrepSession->new($near, 'one', user => 'joe');
sub as_joe { return $as_joe->must(@_) }
like(as_joe(q{SELECT docrep.replicate('far:orders', 'orders', '{"create_target": true}')->'docs_written'}), qr/^300$/, 'pulled from a server by its name');
is(sql(q{SELECT source || ' ' || target FROM docrep.checkpoints}), 'far:orders orders', 'what is shown is its name');
as_joe(q{INSERT INTO orders(_id, doc) VALUES ('mine', '{}')});
like(as_joe(q{SELECT docrep.replicate('orders', 'far:orders')->'docs_written'}), qr/^1$/, 'and pushed to');
is_same_contents(contents($near, 'one', 'orders'), contents($far, 'one', 'orders'), 'they are the same');
like(as_joe(q{SELECT docrep.replicate('orders', 'far:"New One"', '{"create_target": true}')->'docs_written'}), qr/^301$/, 'to a table that is made there');
is($far->safe_psql('one', 'SELECT count(*) FROM "New One"'), '301', '... under that name');
is((sqlstate($near, 'one', q{SELECT docrep.replicate('far:nosuch', 'x', '{"create_target": true}')}))[0], 'DR404', 'a table that is not there');

# USAGE is looked at when it is opened, too; a mapping of one's own comes first.
sql(q{REVOKE USAGE ON FOREIGN SERVER far FROM joe});
is($as_joe->query(q{SELECT docrep.replicate('far:orders', 'orders')}), undef, 'not without USAGE');
is($as_joe->{sqlstate}, '42501', '... which is a privilege');
sql(q{GRANT USAGE ON FOREIGN SERVER far TO joe}, q{CREATE USER MAPPING FOR joe SERVER far OPTIONS (user 'app', password 'wrong-s3cret')});
my ($state, $message) = sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('far:orders', 'orders')});
is($state, 'DR401', 'a password that is wrong');
unlike($message, qr/s3cret/, '... is not shown');
# ... and trust is not enough for an ordinary role
sql(q{DROP USER MAPPING FOR joe SERVER far}, q{CREATE USER MAPPING FOR joe SERVER far OPTIONS (user '} . getpwuid($>) . q{', password 'any-s3cret')});
($state, $message) = sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('far:orders', 'orders')});
is($state, 'DR403', 'nobody asked for the password');
sql(q{DROP USER MAPPING FOR joe SERVER far});

# ---------- the next URL, and back ----------

my $kept = keep_port();
my $dead = $kept->sockport;
sql(qq{ALTER SERVER far OPTIONS (SET url 'postgresql://127.0.0.1:$dead/one, postgresql://$there/one', ADD connection_timeout '3000')});
$far->safe_psql('one', q{INSERT INTO orders(_id, doc) VALUES ('second', '{}')});
my $at = -s $near->logfile;
my $result = decode_json(as_joe(q{SELECT docrep.replicate('far:orders', 'orders')}));
is($result->{docs_written}, 1, 'the first URL is down: the second is tried');
# that one, and the one that was pushed there before
is($result->{missing_checked}, 2, '... from the last checkpoint, as ALTER SERVER is no other replication');
ok(log_has($near, qr/server "far" does not answer at postgresql:.*:$dead/, $at) && log_has($near, qr/server "far" is used at postgresql:.*, URL 2 of 2/, $at),
	'... the log says where');
sql(qq{ALTER SERVER far OPTIONS (SET url 'postgresql://127.0.0.1:$dead/one postgresql://127.0.0.1:$dead/two')});
($state, $message) = sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('far:orders', 'orders')});
is($state, 'DR503', 'both are down');
like($message, qr/none of the 2 URLs of server "far" answers/, '... and it is said');
# what is final is not tried elsewhere
sql(qq{ALTER SERVER far OPTIONS (SET url 'postgresql://$there/nosuch postgresql://$there/one')});
is((sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('far:orders', 'orders')}))[0], 'DR404', 'a database that is not there is final');

# ---------- CouchDB, continuously ----------

my $other = DocrepCouch->new(settings => { users => { joe => $secret } });
$couch->fill('db', 1, 50);
# the first URL leads to the same CouchDB, by way of a proxy that can be taken away
my $way = DocrepProxy->new('127.0.0.1', $couch->port);
my $way_port = $way->port;
sql(qq{CREATE SERVER cloud FOREIGN DATA WRAPPER docrep OPTIONS (url 'http://127.0.0.1:$way_port/, } . $couch->url . q{', retries_per_request '0')},
	q{GRANT USAGE ON FOREIGN SERVER cloud TO joe},
	qq{CREATE USER MAPPING FOR joe SERVER cloud OPTIONS (user 'joe', password '$secret', header E'X-Key: h3ader-s3cret')});
as_joe(q{SELECT docrep.replicate('cloud:db', 'from_cloud', '{"create_target": true, "continuous": true}')});
wait_for_query($near, 'one', 'SELECT count(*) FROM from_cloud', '50');
ok($way->bytes > 0, 'CouchDB by its name, at the first URL');
is(scalar(grep { ($_->{headers}{'x-key'} // '') ne 'h3ader-s3cret' } grep { $_->{target} =~ m{^/db} } @{ $couch->log }), 0, '... every request has the header');
$at = -s $near->logfile;
undef $way;
my $kept_way = keep_port($way_port);
$couch->fill('db', 51, 60);
wait_for_query($near, 'one', 'SELECT count(*) FROM from_cloud', '60');
ok(log_has($near, qr/server "cloud" is used at .*, URL 2 of 2/, $at), 'the first URL is gone: it goes on at the second');
ok(wait_for_query($near, 'one', q{SELECT count(*) FROM docrep.active_tasks WHERE source = 'cloud:db' AND state IN ('running', 'idle', 'parked')}, '1'), '... as the same job');
# back, without being asked to
$at = -s $near->logfile;
$way = DocrepProxy->new('127.0.0.1', $couch->port, $way_port);
wait_until(sub { log_has($near, qr/server "cloud" answers again at http:\/\/127.0.0.1:$way_port/, $at) }, undef, 'the first URL to be found again');
wait_until(sub { $way->bytes > 0 }, undef, 'bytes by the first URL');
$couch->clear_log;
$couch->fill('db', 61, 70);
wait_for_query($near, 'one', 'SELECT count(*) FROM from_cloud', '70');
is(scalar($couch->requests('_changes.*since=0\b')), 0, '... and goes on from its checkpoint');
is_same_contents($couch->contents('db'), DocrepCouch::docrep_contents($near, 'one', 'from_cloud'), 'all is there');

# Everything that the role and others see.
my $seen = join "\n", map { sql("SELECT row_to_json(x) FROM $_ x") } 'docrep.active_tasks', 'docrep.checkpoints', 'docrep.rejected_docs', 'pg_foreign_server', 'pg_locks';
unlike($seen, qr/s3cret/, 'no credentials in views');
is(as_joe(q{SELECT count(*) FROM pg_user_mappings WHERE srvname = 'far' AND umoptions IS NOT NULL}), '0', "joe does not see PUBLIC's");
as_joe(q{SELECT docrep.replicate('cloud:db', 'from_cloud', '{"cancel": true, "continuous": true}')});

# ---------- ALTER SERVER takes effect at the next run ----------

$other->fill('db', 1, 5);
sql(q{ALTER SERVER cloud OPTIONS (SET url '} . $other->url . q{')});
$result = decode_json(as_joe(q{SELECT docrep.replicate('cloud:db', 'from_other', '{"create_target": true}')}));
is($result->{docs_written}, 5, 'ALTER SERVER: the new URL');
sql(q{ALTER USER MAPPING FOR joe SERVER cloud OPTIONS (SET password 'wrong-s3cret')});
($state, $message) = sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('cloud:db', 'from_other')});
is($state, 'DR401', 'ALTER USER MAPPING: the new password');
unlike($message, qr/s3cret/, '... which is not shown');
sql(qq{ALTER USER MAPPING FOR joe SERVER cloud OPTIONS (SET password '$secret')});
# options of the server hold where the document says nothing
$other->fault(match => '^GET /db/_changes', times => 0, status => 503);
($state) = sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('cloud:db', 'from_other')});
is($state, 'DR503', 'retries_per_request 0 of the server');
is($other->hits, 1, '... one request');
$other->heal;
$other->fault(match => '^GET /db/_changes', times => 0, status => 503);
sqlstate($near, 'one', q{SET ROLE joe; SELECT docrep.replicate('cloud:db', 'from_other', '{"retries_per_request": 2}')});
is($other->hits, 3, '... which the document overrides');
$other->heal;
# comparing and looking through go by names as well
is(sql(q{CREATE USER MAPPING FOR CURRENT_USER SERVER cloud OPTIONS (user 'joe', password '} . $secret . q{')}, q{SELECT * FROM docrep.verify('cloud:db', 'from_other')}), '', 'verify()');
like(sql(q{SELECT * FROM docrep.preflight('cloud:db')}), qr/documents/, 'preflight()');

# ---------- TLS, and a proxy ----------

my $authority = DocrepTls::authority('Ours');
my $tls = DocrepTls->new($other->port, $authority, names => ['elsewhere.example'], clients => $authority);
my $tls_url = 'https://127.0.0.1:' . $tls->port;
my ($cert_file, $key_file) = DocrepTls::client_certificate($authority, 'near');
my $pull = q{SELECT docrep.replicate('safe:db', 'from_tls', '{"create_target": true}')};
sql(qq{CREATE SERVER safe FOREIGN DATA WRAPPER docrep OPTIONS (url '$tls_url', retries_per_request '0')},
	qq{CREATE USER MAPPING FOR PUBLIC SERVER safe OPTIONS (user 'joe', password '$secret')}, q{GRANT USAGE ON FOREIGN SERVER safe TO joe});
is((sqlstate($near, 'one', $pull))[0], 'DR503', 'an authority that nobody knows');
sql(qq{ALTER SERVER safe OPTIONS (ADD ssl_ca_file '$authority->{file}', ADD ssl_cert_file '$cert_file', ADD ssl_key_file '$key_file')});
is((sqlstate($near, 'one', $pull))[0], 'DR503', 'ssl_ca_file, and a name that is not its own');
sql(q{ALTER SERVER safe OPTIONS (ADD ssl_verify 'ca', DROP ssl_cert_file, DROP ssl_key_file)});
like((sqlstate($near, 'one', $pull))[0], qr/^DR50[03]$/, 'without a client certificate');
sql(qq{ALTER SERVER safe OPTIONS (ADD ssl_cert_file '$cert_file', ADD ssl_key_file '$key_file')});
like(as_joe(q{SELECT docrep.replicate('safe:db', 'from_tls', '{"create_target": true}')->'docs_written'}), qr/^5$/, 'ssl_verify ca, with a certificate: an ordinary role too');
sql(q{ALTER SERVER safe OPTIONS (DROP ssl_ca_file, SET ssl_verify 'full')});
is((sqlstate($near, 'one', $pull))[0], 'DR503', 'ssl_verify full again');
sql(q{ALTER SERVER safe OPTIONS (SET ssl_verify 'off')});
is((sqlstate($near, 'one', $pull))[0], '', 'ssl_verify off');

# what a proxy is told; this one knows no better than to answer by itself
my $between = DocrepCouch->new;
sql(q{CREATE SERVER behind FOREIGN DATA WRAPPER docrep OPTIONS (url 'http://no-such-host.example', retries_per_request '0', proxy '} . $between->url . q{')},
	q{CREATE USER MAPPING FOR CURRENT_USER SERVER behind OPTIONS (proxy_user 'me', proxy_password 'pr:xy-s3cret')});
sqlstate($near, 'one', q{SELECT docrep.replicate('behind:db', 'from_tls')});
my ($request) = @{ $between->log };
is($request->{headers}{'proxy-authorization'}, 'Basic ' . encode_base64('me:pr:xy-s3cret', ''), 'proxy, proxy_user and proxy_password');
is($request->{headers}{host}, 'no-such-host.example', '... which is asked for the server');

# socket_options of either kind of server
like(sql(q{SELECT docrep.replicate('cloud:db', 'from_sockets', '{"create_target": true, "socket_options": "[{keepalive, false}, {nodelay, false}, {sndbuf, 65536}, {recbuf, 65536}]"}')->'docs_written'}),
	qr/^5$/, 'socket_options with CouchDB');
sql(qq{ALTER SERVER far OPTIONS (SET url 'postgresql://$there/one')});
is(sql(q{SELECT docrep.replicate('far:orders', 'from_sockets2', '{"create_target": true, "socket_options": "[{keepalive, false}, {nodelay, true}, {recbuf, 65536}]", "request_timeout": 10000}')->'docs_written' > '1'}),
	't', '... and with Postgres');

# ---------- pushing takes worker_processes + 1 calls ----------

# so many calls wait for their answers at the same time, with a process fewer
sql(q{SELECT docrep.create_table('many')}, q{INSERT INTO many(_id, doc) SELECT '_design/d' || i, '{}' FROM generate_series(1, 24) i});
my $pusher = DocrepSession->new($near, 'one');
foreach my $processes (1, 23)
{
	# answers come when all calls are there that come without one
	my $fault = $other->fault(match => "^PUT /pushed$processes/_design", times => 0, delay => 3600);
	$pusher->send(qq{SELECT docrep.replicate('many', 'cloud:pushed$processes', '{"create_target": true, "http_connections": 24, "worker_processes": $processes,
		"connection_timeout": 600000, "request_timeout": 600000, "retries_per_request": 5}')->'docs_written'});
	wait_until(sub { $other->hits($fault) == $processes + 1 }, undef, 'calls without an answer');
	if ($processes == 1)
	{
		# a third one would come at once
		my $until = time + 1;
		wait_until(sub { time > $until || $other->hits($fault) > 2 });
	}
	is($other->hits($fault), $processes + 1, "worker_processes $processes: " . ($processes + 1) . ' calls at a time');
	$other->heal;
	ok($pusher->receive && $pusher->{output} eq '24', '... and all documents are there in the end') or diag($pusher->{output});
}

# ---------- tasks ----------

sql(q{GRANT SELECT, INSERT, UPDATE, DELETE ON docrep.replicator TO joe}, q{CREATE ROLE ann LOGIN},
	q{SELECT docrep.create_table('designs')}, q{INSERT INTO designs(_id, doc) VALUES ('a', '{}'), ('_design/app', '{}')}, q{GRANT SELECT ON designs TO joe});
sub task { my ($id, %doc) = @_; return "INSERT INTO docrep.replicator(_id, doc) VALUES (" . quote($id) . ', ' . quote(encode_json(\%doc)) . ')' }
as_joe(task('by_name', source => 'far:orders', target => 'by_name', create_target => $true));
wait_for_query($near, 'one', q{SELECT state FROM docrep.scheduler_docs WHERE doc_id = 'by_name'}, 'completed');
is_same_contents(contents($near, 'one', 'by_name'), contents($far, 'one', 'orders'), 'a task of an ordinary role, by a server');
# as whom
foreach my $case ([ 'ann', [], 'DR403' ], [ 'joe', ['_admin'], 'DR403' ], [ 'nobody at all', [], 'DR404' ])
{
	my ($name, $roles, $expected) = @$case;
	is($as_joe->query(task("wrong $name", source => 'designs', target => 'stolen', create_target => $true, user_ctx => { name => $name, roles => $roles })), undef,
		"joe writes a task for $name with roles (@$roles)");
	is($as_joe->{sqlstate}, $expected, "... $expected");
}
sql(task('plain', source => 'designs', target => 'plain', create_target => $true));
sql(task('admin', source => 'designs', target => 'admin', create_target => $true, user_ctx => { roles => ['_admin'] }));
sql(task('for_joe', source => 'designs', target => 'for_joe', create_target => $true, user_ctx => { name => 'joe', roles => [] }));
wait_for_query($near, 'one', q{SELECT count(*) FROM docrep.scheduler_docs WHERE doc_id IN ('plain', 'admin', 'for_joe') AND state = 'completed'}, '3');
is(sql(q{SELECT count(*) FROM plain}), '1', "a superuser's task without user_ctx has no roles: no design documents");
is(sql(q{SELECT count(*) FROM admin}), '2', '... and with _admin it has them');
is(sql(q{SELECT count(*) || ' ' || tableowner FROM for_joe, pg_tables WHERE tablename = 'for_joe' GROUP BY tableowner}), '1 joe', '... on behalf of joe it runs as joe');

# ---------- dump ----------

my $dump = "$PostgreSQL::Test::Utils::tmp_check/servers.sql";
$near->command_ok([ 'pg_dump', '-f', $dump, '-d', 'one' ], 'a dump');
my $text = slurp_file($dump);
like($text, qr/CREATE SERVER cloud FOREIGN DATA WRAPPER docrep/, '... has the servers');
$text =~ s/^CREATE USER MAPPING .*?^\);$//msg;
unlike($text, qr/s3cret/, '... and credentials in CREATE USER MAPPING only');
$near->safe_psql('postgres', 'CREATE DATABASE two');
$near->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', 'two' ], 'which is restored');
is($near->safe_psql('two', q{SELECT count(*) FROM pg_foreign_server}), '4', '... with its servers');

foreach my $node ($near, $far)
{
	ok(!log_has($node, qr/s3cret/), $node->name . ': no credentials in the log');
	ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), $node->name . ': nothing died');
}
check_table($near, 'one', $_) foreach qw(orders from_cloud);
done_testing();
