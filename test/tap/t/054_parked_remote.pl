# Parked replications whose sources are in other servers: one process waits for all
# of them, over few connections, and whatever happens to a source reaches its jobs.
use strict;
use warnings;

use DocrepCouch;
use DocrepProxy;
use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $n = 60;
my $secret = 'Very%Secret#Word';

my $far = new_node('far', databases => ['two'], tcp => 1);
my $near = new_node('near', databases => ['one'],
	conf => "docrep.park_after = 100\ndocrep.worker_linger = 100\nmax_worker_processes = 24\n");
my $proxy = DocrepProxy->new('127.0.0.1', $far->port);

$far->append_conf('pg_hba.conf', '');
{
	my $hba = $far->data_dir . '/pg_hba.conf';
	my $old = slurp_file($hba);
	open my $file, '>', $hba or die;
	print $file "host all bob 127.0.0.1/32 scram-sha-256\n$old";
	close $file;
}
reload_conf($far);
$far->safe_psql('two', qq{
	SET password_encryption = 'scram-sha-256';
	CREATE ROLE bob LOGIN PASSWORD '$secret';
	SELECT count(docrep.create_table('s' || i)) FROM generate_series(1, $n) i;
	DO \$\$ BEGIN FOR i IN 1..$n LOOP EXECUTE 'GRANT SELECT, INSERT ON s' || i || ' TO bob'; END LOOP; END \$\$;
});
$near->safe_psql('one', qq{
	CREATE ROLE alice LOGIN;
	GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb) TO alice;
	GRANT CREATE ON SCHEMA public TO alice;
	SET ROLE alice;
	SELECT count(docrep.create_table('t' || i)) FROM generate_series(1, $n) i;
});

# The URL of a table, through the proxy.
sub source
{
	my ($i) = @_;
	my $url = pg_url($far, 'two', tcp => 1, user => 'bob', password => $secret, table => "s$i");
	my ($from, $to) = ($far->port, $proxy->port);
	$url =~ s/:$from/:$to/;
	return $url;
}

# Starts a continuous replication into a table.
sub start
{
	my ($source, $target) = @_;
	return qq{SELECT docrep.replicate('{"source": "$source", "target": "$target", "continuous": true,
		"connection_timeout": 4000}') IS NULL;};
}

# How many jobs are parked, of those that a condition selects.
sub parked
{
	my ($where) = @_;
	return $near->safe_psql('one', "SELECT count(*) FROM docrep.active_tasks
		WHERE pid IS NULL AND state IN ('parked', 'running') AND " . ($where // 'true'));
}

sub all_parked
{
	my ($expected, $where) = @_;
	wait_until(sub { parked($where) == $expected }, undef, "$expected parked jobs");
	return pass("$expected are parked");
}

# A write at the source arrives.
my $written = 0;
sub arrives
{
	my ($i, $name) = @_;
	my $id = 'd' . ++$written;
	$far->safe_psql('two', "INSERT INTO s$i(_id, doc) VALUES ('$id', '{}')");
	wait_for_query($near, 'one', "SELECT count(*) FROM t$i WHERE _id = '$id'", '1');
	return pass($name);
}

my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'docrep worker%'};
my $watcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'docrep watcher'};
my $waits = q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL docrep.peer_wait%' AND state = 'active'};

# ---- many jobs, one connection ---------------------------------------------------

$near->safe_psql('one', join '', "SET SESSION AUTHORIZATION alice;\n", map { start(source($_), "t$_") } 1 .. $n);
all_parked($n);
wait_for_query($near, 'one', $workers, '0');
pass('no process is left');
like($near->safe_psql('one', $watcher), qr/^\d+$/, '... but one that waits for all');
wait_for_query($far, 'two', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'bob'}, '1');
ok(wait_for_query($far, 'two', $waits, '1'), 'over one connection');
# but for a moment, when more tables are named to it
ok( wait_for_query($far, 'two', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'bob'
	AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)}, '0'), '... which holds no snapshot');
ok( wait_for_query($far, 'two', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.usename = 'bob' AND locktype = 'relation'}, '0'), '... and no lock');

my $since = $near->safe_psql('one', 'SELECT clock_timestamp()');
arrives(17, 'a write wakes a job and arrives');
all_parked($n);
is( $near->safe_psql('one', "SELECT string_agg(target, ' ') FROM docrep.active_tasks WHERE updated_on > '$since'"),
	't17', '... the right one alone');
arrives($_, "a write to table $_") foreach 1, 33, $n;
all_parked($n);
wait_for_query($far, 'two', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'bob'}, '1');

# ---- the source comes and goes -----------------------------------------------------

my $begin = time;
$far->restart;
my $took = time - $begin;
arrives(2, 'after a restart of the source');
all_parked($n);
is($near->safe_psql('one', 'SELECT max(error_count) FROM docrep.active_tasks'), '0',
	'... which was no failure of any job') if $took < 3;

# Waits until so many jobs have failed, with a message that matches (as in SQL).
sub failed
{
	my ($count, $pattern, $name) = @_;
	wait_for_query($near, 'one', "SELECT count(*) >= $count FROM docrep.active_tasks WHERE error_count > 0 AND last_error ~ '$pattern'", 't');
	pass($name);
	is($near->safe_psql('one', q{SELECT count(*) FROM docrep.active_tasks WHERE last_error ~ 'Very'}), '0', '... without the password');
	return;
}

$far->stop('immediate');
failed($n, 'could not connect to postgresql', 'the source is away: every job knows');
$far->start;
all_parked($n);
arrives(3, 'back again');

$proxy->stall_now;
failed($n, '.', 'the network is dead: every job knows');
$proxy->flow;
all_parked($n);
arrives(4, 'alive again');

# ---- what the other side forbids -----------------------------------------------

$far->safe_psql('two', q{SET password_encryption = 'scram-sha-256'; ALTER ROLE bob PASSWORD 'other'});
$far->safe_psql('two', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'});
failed($n, 'could not connect to postgresql', 'another password');
$far->safe_psql('two', qq{SET password_encryption = 'scram-sha-256'; ALTER ROLE bob PASSWORD '$secret'});
all_parked($n);
arrives(5, 'the right password again');
all_parked($n);

$far->safe_psql('two', 'REVOKE SELECT ON s6 FROM bob');
$far->safe_psql('two', q{INSERT INTO s6(_id, doc) VALUES ('secret', '{}')});
failed(1, 'permission denied|failed at', 'a privilege is revoked: the job knows at the next change');
is(parked(), $n - 1, '... and only this one');
$far->safe_psql('two', 'GRANT SELECT ON s6 TO bob');
arrives(6, 'granted again');
all_parked($n);

$far->safe_psql('two', q{SELECT docrep.drop_table('s7')});
wait_for_query($near, 'one', q{SELECT count(*) FROM docrep.active_tasks WHERE error_count > 0 AND target = 't7'}, '1');
is(parked(), $n - 1, 'a table is dropped: its job knows');
$near->safe_psql('one', 'SET SESSION AUTHORIZATION alice; ' . start(source(7), 't7') =~ s/"continuous"/"cancel": true, "continuous"/r);
all_parked($n - 1);

# no connection is left for the watcher
$far->safe_psql('two', q{ALTER ROLE bob CONNECTION LIMIT 0});
$far->safe_psql('two', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'});
wait_until(sub { log_has($near, qr/cannot wait for all sources: a server has too few connections.*\n.*\n.*HINT:  Look at max_connections/) }, undef,
	'a line in the log');
pass('a source without connections: the log says so, with a hint');
my $failed_and_parked = q{SELECT count(*) FILTER (WHERE error_count > 0), count(*) FILTER (WHERE pid IS NULL AND state IN ('parked', 'running'))
	FROM docrep.active_tasks};
my ($failing, $still) = @{ wait_until(sub { my @counts = split /\|/, $near->safe_psql('one', $failed_and_parked); $counts[0] > 2 && \@counts }) };
cmp_ok($still, '>', $n / 2, "... and jobs are tried one after the other, not all at once ($failing so far)");
$far->safe_psql('two', q{ALTER ROLE bob CONNECTION LIMIT -1});
arrives(59, 'none is forgotten');
all_parked($n - 1);

# ---- the watcher -----------------------------------------------------------------------

my $pid = $near->safe_psql('one', $watcher);
$near->safe_psql('one', "SELECT pg_terminate_backend($pid)");
wait_for_query($near, 'one', "SELECT count(*) FROM ($watcher) w WHERE pid <> $pid", '1');
arrives(8, 'another watcher waits for all that is parked');
$near->reload;
arrives(9, 'after a reload');
all_parked($n - 1);

# ---- servers with an older docrep ---------------------------------------------------------

my $limit = 20;
my $definition = $far->safe_psql('two', q{SELECT pg_get_functiondef('docrep.peer_wait_many'::regproc)});
$far->safe_psql('two', q{ALTER EXTENSION docrep DROP PROCEDURE docrep.peer_wait_many; DROP PROCEDURE docrep.peer_wait_many});
$far->safe_psql('two', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'});
wait_for_query($far, 'two', $waits, $limit);
pass('a server that waits for one table at a time: a connection each, and not too many');
wait_until(sub { log_has($near, qr/cannot wait for all sources: a server has an older version/) }, undef);
pass('... which the log says, with a hint');
arrives($_, "a write to table $_ arrives, at once or later") foreach 10, 30, $n;
$far->safe_psql('two', "$definition; ALTER EXTENSION docrep ADD PROCEDURE docrep.peer_wait_many");

# ---- CouchDB ----------------------------------------------------------------------------

# only cookies of sessions are accepted, so the polls have to have one
my $couch = DocrepCouch->new(settings => { users => { joe => 'very-secret' }, no_basic => 1 });
my $m = 5;
$couch->put("db$_", { id => 'first', revs => ['1-a'], body => '"n":1' }) foreach 1 .. $m;
$near->safe_psql('one', join '', map { start($couch->url("db$_", 'joe', 'very-secret'), "c$_") =~ s/"continuous"/"create_target": true, "continuous"/r } 1 .. $m);

my $couches = q{source LIKE 'http%'};
all_parked($m, $couches);
wait_until(sub { $couch->connections <= $m + 1 }, undef, 'connections of the polls alone');
pass('a connection a database');
$couch->forget_sessions;

sub couch_arrives
{
	my ($i, $name) = @_;
	my $id = 'd' . ++$written;
	$couch->put("db$i", { id => $id, revs => ['1-a'], body => '"n":1' });
	wait_for_query($near, 'one', "SELECT count(*) FROM c$i WHERE _id = '$id'", '1');
	return pass($name);
}
couch_arrives(2, 'a change of a CouchDB wakes its job');
all_parked($m, $couches);

$couch->stop;
wait_for_query($near, 'one', "SELECT count(*) FROM docrep.active_tasks WHERE error_count > 0 AND $couches", $m);
pass('the CouchDB is away: every job knows');
$couch->start;
all_parked($m, $couches);
couch_arrives(3, 'back again');
all_parked($m, $couches);

# a server that has news at once, every time
$couch->clear_log;
$couch->fault(match => 'GET /db4/_changes.*limit=1&', times => 0, body => '{"results":[{"seq":1}],"last_seq":"x"}', type => 'application/json');
$near->safe_psql('one', $_) foreach "SELECT pg_terminate_backend(pid) FROM ($watcher) w";
wait_until(sub { $couch->hits >= 3 }, undef, 'polls that bring news at once');
my ($hits, $from) = ($couch->hits, time);
sleep 3;
my $more = $couch->hits - $hits;
cmp_ok($more / (time - $from), '<', 13, 'news at once every time makes no busy loop');
$couch->heal;
all_parked($m, $couches);

# one that is silent
$couch->fault(match => 'GET /db5/_changes.*limit=1&', times => 1, hang_at => 0);
$near->safe_psql('one', $_) foreach "SELECT pg_terminate_backend(pid) FROM ($watcher) w";
wait_until(sub { $couch->hits >= 1 }, undef, 'a poll that hangs');
couch_arrives(5, 'a poll without heartbeats is given up');

# ---- a crash, and sources with names ---------------------------------------------------------------------------------

unlike(slurp_file($near->logfile), qr/Very|very-secret/, 'no password in the log here');
unlike(slurp_file($far->logfile), qr/Very(?!%Secret#Word'$)/m, '... nor there');

$pid = $near->safe_psql('one', $watcher);
my $logged = -s $near->logfile;
kill 'KILL', $pid;
wait_until(sub { log_has($near, qr/terminated by signal 9.*database system is ready to accept/s, $logged) }, undef, 'the server to restart');
$near->safe_psql('one', join '', "SET SESSION AUTHORIZATION alice;\n", map { start(source($_) =~ s/127\.0\.0\.1/localhost/r, "t$_") } 10 .. 12);
all_parked(3, q{target LIKE 't1_'});
arrives(11, 'after a crash of the watcher, and so of the server, jobs are parked as before');
wait_for_query($far, 'two', $waits, '1');
pass('... over one connection, to a host with a name');

$near->stop;
$far->stop;
done_testing();
