# Endpoints and connections: what roles that are no superusers may connect to,
# that no password is shown, and that peers which hang hold nobody up.
use strict;
use warnings;

use DocrepTest;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use Time::HiRes qw(time);

my $near = new_node('near', databases => ['one'], conf => 'docrep.worker_linger = 0');
my $far = new_node('far', databases => ['two'], tcp => 1);
my $secret = 'Very%Secret#Word';

$near->safe_psql('one', q{
	CREATE ROLE alice LOGIN;
	GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb),
		docrep.replicate(text, text, jsonb) TO alice;
	GRANT CREATE ON SCHEMA public TO alice;
	SELECT docrep.create_table('mine');
	SELECT docrep.create_table('theirs');
	GRANT SELECT, INSERT, UPDATE, DELETE ON mine TO alice;
});
$far->safe_psql('two', qq{
	SET password_encryption = 'scram-sha-256';
	CREATE ROLE bob LOGIN PASSWORD '$secret';
	CREATE ROLE carol LOGIN PASSWORD '$secret';
	SELECT docrep.create_table('orders');
	INSERT INTO orders(_id, doc) SELECT 'o' || i, jsonb_build_object('n', i)
		FROM generate_series(1, 3000) i;
	GRANT SELECT ON orders TO bob;
	CREATE DATABASE bare;
});
# carol is let in without a password
unlink($far->data_dir . '/pg_hba.conf');
$far->append_conf('pg_hba.conf', <<'HBA');
local all all trust
host all carol 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
HBA
reload_conf($far);

# SQLSTATE and message of a replication in "one", as a role.
sub replicate_as
{
	my ($role, $source, $target, $options) = @_;
	my ($state, $message) = sqlstate($near, 'one', "SET SESSION AUTHORIZATION $role;\n"
		  . "SELECT docrep.replicate(\$q\$$source\$q\$, \$q\$$target\$q\$, '"
		  . ($options // '{}') . "')");
	return wantarray ? ($state, $message) : $state;
}

sub bob { return pg_url($far, 'two', tcp => 1, user => 'bob', password => $secret, table => 'orders', @_) }

my $me = getpwuid($>);
my $superuser = $near->safe_psql('one', 'SELECT current_user');

# ---- how endpoints are read -----------------------------------------------------

foreach my $case (
	[ '', 'DR400', 'nothing' ],
	[ 'a.b.c.d', 'DR400', 'too many parts' ],
	[ '"open', 'DR400', 'an open quote' ],
	[ 'nowhere', 'DR404', 'a missing table' ],
	[ 'ftp://host/db', 'DR400', 'an unknown scheme' ],
	[ 'postgresql://host/db', 'DR400', 'no table' ],
	[ 'postgresql://host/db#', 'DR400', 'an empty table' ],
	[ 'postgresql://host/db#a%00b', 'DR400', 'a zero byte' ],
	[ 'postgresql://host/db#a%zz', 'DR400', 'half an escape' ],
	[ 'postgresql://user:pass@ho st:port/#a', 'DR400', 'not a URL' ],
	[ 'postgresql://host/db?nonsense=1#a', 'DR400', 'an unknown parameter' ],
	[ 'http://host/', 'DR400', 'CouchDB without database' ],
	[ 'http:///db', 'DR400', 'CouchDB without host' ],
	[ 'http://host:x/db', 'DR400', 'CouchDB with a port that is none' ],
	[ '{"url": "http://host/db", "auth": {"basic": {"username": 1}}}', 'DR400', 'a wrong type in it' ],
	[ '{"uri": "http://host/db"}', 'DR400', 'an unknown member' ],
	[ '{"url": "orders"}', 'DR400', 'an object for what is no http URL' ],
	[ '{"url": ', 'DR400', 'half an object' ],
	[ 'cloud:orders', 'DR404', 'a foreign server that is not there' ],
	[ '"a:b"', 'DR404', 'a quoted colon' ],
  )
{
	my ($endpoint, $expected, $name) = @$case;
	is(scalar replicate_as($superuser, $endpoint, 'mine'), $expected, "endpoint: $name");
}

# ---- what ordinary roles may ------------------------------------------------------

is(scalar replicate_as('alice', 'theirs', 'mine'), 'DR403', 'a table of somebody else');
is(scalar replicate_as('alice', bob(), 'mine'), '', 'a host and a password: yes');
is($near->safe_psql('one', 'SELECT count(*) FROM mine'), '3000', 'and it replicates');
is(scalar replicate_as('alice', bob(), 'pulled', '{"create_target": true}'), '',
	'into a table that it makes');
is($near->safe_psql('one', q{SELECT tableowner FROM pg_tables WHERE tablename = 'pulled'}),
	'alice', 'which it owns');

my $port = $far->port;
my $dir = $far->host;
my $good = "bob:x\@127.0.0.1:$port/two";
foreach my $case (
	[ "postgresql://bob\@127.0.0.1:$port/two#orders", 'no password' ],
	[ "postgresql://bob:\@127.0.0.1:$port/two#orders", 'an empty password' ],
	[ "postgresql://bob:x\@/two?host=$dir&port=$port#orders", 'a socket directory' ],
	[ "postgresql://bob:x\@127.0.0.1,/two#orders", 'a socket as the second host' ],
	[ "postgresql:///two?user=bob&password=x#orders", 'no host at all' ],
	[ "postgresql://bob:x\@\@abstract/two#orders", 'an abstract socket' ],
	[ "postgresql://$good?hostaddr=/tmp#orders", 'a socket as address' ],
	[ "postgresql://$good?passfile=/etc/passwd#orders", 'passfile' ],
	[ "postgresql://$good?service=x#orders", 'service' ],
	[ "postgresql://$good?sslkey=/etc/passwd#orders", 'sslkey' ],
	[ "postgresql://$good?sslcert=/etc/passwd#orders", 'sslcert' ],
	[ "postgresql://$good?sslrootcert=/etc/passwd#orders", 'sslrootcert' ],
	[ "postgresql://$good?krbsrvname=x#orders", 'krbsrvname' ],
	[ "postgresql://$good?options=-c%20geqo%3Doff#orders", 'options' ],
  )
{
	my ($url, $name) = @$case;
	my ($state, $message) = replicate_as('alice', $url, 'mine');
	is($state, 'DR403', "for ordinary roles: $name");
}
is(scalar replicate_as('alice',
		pg_url($far, 'two', tcp => 1, user => 'carol', password => $secret, table => 'orders'), 'mine'),
	'DR403', 'a server that does not ask for the password');

foreach my $case (
	[ '10.0.0.0/8, *.example.com', 'DR403', 'another network' ],
	[ '127.0.0.0/8', '', 'the network' ],
	[ '127.0.0.1', '', 'the address' ],
	[ '127.0.0.2/31', 'DR403', 'the network next to it' ],
	[ 'x, 127.0.0.0/30', '', 'one of several' ],
	[ '127.*', 'DR403', 'a pattern of names is not for addresses' ],
	[ '*', '', 'everything' ])
{
	my ($hosts, $expected, $name) = @$case;
	$near->safe_psql('one', "ALTER SYSTEM SET docrep.allowed_hosts = '$hosts'");
	reload_conf($near);
	is(scalar replicate_as('alice', bob(), 'mine'), $expected, "allowed_hosts: $name");
}
is(scalar replicate_as($superuser, bob(), 'mine'), '', 'superusers are not limited');
$near->safe_psql('one', 'ALTER SYSTEM RESET docrep.allowed_hosts');
reload_conf($near);

# ---- what goes wrong at the other side -----------------------------------------

foreach my $case (
	[ bob(password => 'Another#Word'), 'DR401', 'a wrong password' ],
	[ pg_url($far, 'none', tcp => 1, user => 'bob', password => $secret, table => 'orders'),
		'DR404', 'no such database' ],
	[ pg_url($far, 'bare', tcp => 1, user => 'bob', password => $secret, table => 'orders'),
		'DR404', 'a database without docrep' ],
	[ bob(table => 'nix'), 'DR404', 'no such table' ],
	[ bob(table => 'pg_class'), 'DR404', 'not a document table' ],
	[ "postgresql://bob:Very%25Secret%23Word\@127.0.0.1:1/two#orders", 'DR503', 'nobody listens' ],
  )
{
	my ($url, $expected, $name) = @$case;
	my ($state, $message) = replicate_as('alice', $url, 'mine');
	is($state, $expected, $name);
	unlike($message, qr/Very|Another/, "$name: no password in the message")
	  unless $message =~ /LINE/;
}
$near->safe_psql('one', q{INSERT INTO mine(_id, doc) VALUES ('own', '{}')});
is( scalar replicate_as('alice', 'mine', bob()), 'DR403', 'a target that may not be written');
like(
	(replicate_as('alice',
			pg_url($far, 'bare', tcp => 1, user => 'bob', password => $secret, table => 'o'), 'mine'))[1],
	qr/CREATE EXTENSION docrep/, 'without docrep the hint says what to do');

# ---- peers that hang -----------------------------------------------------------------

my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'docrep%worker%'};

# Starts a replication that the peer holds up, calls a sub that ends it, and
# checks that it and its worker end at once, which is long before any time-out.
sub ends_promptly
{
	my ($name, $url, $end, $conf) = @_;
	my $psql = $near->background_psql_as($url);
	wait_for_query($near, 'one', $workers, '1');
	$conf->() if $conf;
	my $begin = time;
	$end->();
	wait_for_query($near, 'one', $workers, '0');
	my $took = time - $begin;
	$psql->finish;
	cmp_ok($took, '<', 25, "$name: over in " . sprintf('%.2f s', $took));
}

sub PostgreSQL::Test::Cluster::background_psql_as
{
	my ($node, $url) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('one'),
			'-c', "SELECT docrep.replicate('$url', 'mine')" ],
		'<', \undef, '>', \my $out, '2>', \my $err, IPC::Run::timeout(600));
}

sub cancel_caller
{
	$near->safe_psql('one', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE query LIKE 'SELECT docrep.replicate%' AND backend_type = 'client backend'});
}

sub terminate_worker
{
	$near->safe_psql('one', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE backend_type LIKE 'docrep%worker%'});
}

# A peer that is connected and says nothing.
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "cannot listen: $!";
my $silent_url = 'postgresql://bob:secret@127.0.0.1:' . $silent->sockport . '/two#orders';

ends_promptly('a silent peer, caller cancelled', $silent_url, \&cancel_caller);
ends_promptly('a silent peer, worker terminated', $silent_url, \&terminate_worker);
my $begin = time;
is(scalar replicate_as('alice', $silent_url, 'mine', '{"connection_timeout": 700}'),
	'DR503', 'a silent peer is given up');
cmp_ok(time - $begin, '<', 25, 'after the connection timeout');

# A peer that does not even take the connection: its queue is full.
my $full = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "cannot listen: $!";
my @fill = map {
	IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Proto => 'tcp',
		Blocking => 0)
} 1 .. 8;
my $full_url = 'postgresql://bob:secret@127.0.0.1:' . $full->sockport . '/two#orders';

ends_promptly('a peer out of reach, caller cancelled', $full_url, \&cancel_caller);
ends_promptly('a peer out of reach, worker terminated', $full_url, \&terminate_worker);
is(scalar replicate_as('alice', $full_url, 'mine', '{"connection_timeout": 500}'),
	'DR503', 'a peer out of reach is given up');

# A server that stops in the middle: it is made to wait for a lock there.
$near->safe_psql('one', 'DELETE FROM docrep.local_docs');
$far->safe_psql('two', 'DELETE FROM docrep.local_docs');
my $lock = $far->background_psql('two');
$lock->query_safe('BEGIN');
$lock->query_safe('LOCK TABLE orders');
my $stuck = bob();
ends_promptly('a peer that waits for a lock, caller cancelled', $stuck, \&cancel_caller, sub {
	wait_for_query($far, 'two',
		q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}, '1');
});
$lock->query_safe('ROLLBACK');
$lock->quit;

# ---- continuous ------------------------------------------------------------------------

$near->safe_psql('one', "SELECT docrep.replicate('" . bob() . "', 'mine', '{\"continuous\": true}')");
my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'docrep'
	AND query LIKE 'CALL docrep.peer_wait%' AND state = 'active'};
wait_for_query($far, 'two', $waiting, '1');
$far->safe_psql('two', q{INSERT INTO orders(_id, doc) VALUES ('late', '{}')});
wait_for_query($near, 'one', q{SELECT count(*) FROM mine WHERE _id = 'late'}, '1');
pass('a change arrives');
wait_for_query($far, 'two', $waiting, '1');
ok( wait_for_query($far, 'two', q{SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'docrep' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)},
		'0'), 'an idle replication holds back no vacuum at the source');
$far->safe_psql('two', q{ALTER TABLE orders RENAME TO renamed});
$far->safe_psql('two', q{INSERT INTO renamed(_id, doc) VALUES ('later', '{}')});
wait_for_query($near, 'one', q{SELECT count(*) FROM mine WHERE _id = 'later'}, '1');
pass('the source may be renamed meanwhile');
$far->stop('immediate');
wait_for_query($near, 'one', $workers, '0');
pass('a source that dies ends the run');

# ---- secrets ---------------------------------------------------------------------------

# The SQL text that a user writes is the user's own to hide; ours must not show it.
foreach my $node ($near, $far)
{
	my $log = slurp_file($node->logfile);
	unlike($log, qr/Very(%25|%)Secret/, 'no password in the log of ' . $node->name);
}
$near->stop;
done_testing();
