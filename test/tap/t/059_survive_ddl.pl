# Statements that take a database, the extension or a role from under its tasks: none
# is held up, nothing is left behind, and what remains goes on within seconds.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('here', databases => [ 'app', 'other' ], conf => <<'CONF');
docrep.max_workers = 6
docrep.park_after = 300ms
docrep.worker_linger = 300ms
docrep.max_retry_interval = 2s
client_min_messages = warning
CONF

# No keeper, worker or parked job takes longer than this to notice (s), even if the machine
# stands still for a while.
my $soon = 60;

sub sql
{
	my ($query, $db) = @_;
	return $node->safe_psql($db // 'app', $query);
}

sub task
{
	my ($id, $source, $target, $db) = @_;
	return sql(qq{INSERT INTO docrep.replicator(_id, doc) VALUES ('$id',
		'{"source": "$source", "target": "$target", "continuous": true}')}, $db);
}

sub state_is
{
	my ($id, $state, $what, $db) = @_;
	wait_for_query($node, $db // 'app', "SELECT state FROM docrep.scheduler_docs WHERE doc_id = '$id'", $state, $soon);
	return pass($what);
}

# A document written at the source comes to the target.
my $written = 0;

sub goes_on
{
	my ($source, $target, $what, $db) = @_;
	my $id = 'w' . ++$written;
	sql("INSERT INTO $source(_id, doc) VALUES ('$id', '{}')", $db);
	wait_for_query($node, $db // 'app', "SELECT count(*) FROM $target WHERE _id = '$id'", '1', $soon);
	return pass($what);
}

# Runs a statement, which is not to take long.
sub quickly
{
	my ($statement, $what, $db) = @_;
	my $begin = time;
	$node->safe_psql($db // 'postgres', $statement);
	my $took = time - $begin;
	return cmp_ok($took, '<', 25, sprintf '%s (%.1f s)', $what // $statement, $took);
}

# Nobody of ours is connected to a database of that oid any more, nor has it a job.
sub nobody_in
{
	my ($oid, $what) = @_;
	wait_for_query($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE datid = $oid AND backend_type LIKE 'docrep%'",
		'0', $soon);
	return pass($what);
}

sub parked
{
	my ($id, $db) = @_;
	return wait_for_query($node, $db // 'app', "SELECT state FROM docrep.active_tasks WHERE doc_id = '$id'", 'parked');
}

sub oid_of { return sql(qq{SELECT oid FROM pg_database WHERE datname = '$_[0]'}, 'postgres') }

my $tables = join ' ', map { "SELECT docrep.create_table('$_');" } qw(s t u v far);
sql($tables) && sql($tables, 'other');
my $far = pg_url($node, 'other', table => 'far');

# --- a keeper that is turned away -------------------------------------------------

# The keeper that the INSERT asks for comes while the extension is being dropped.
foreach my $round (1 .. 5)
{
	sql(qq{INSERT INTO docrep.replicator(_id, doc) VALUES ('k$round', '{"source": "s", "target": "u", "continuous": true, "doc_ids": ["k$round"]}');
		BEGIN; DROP EXTENSION docrep CASCADE; SELECT pg_sleep(0.2); ROLLBACK});
	state_is("k$round", 'running', "round $round: a task that was written just before a DROP EXTENSION, which was rolled back");
}
sql(q{DELETE FROM docrep.replicator});
wait_for_query($node, 'app', 'SELECT count(*) FROM docrep.active_tasks', '0', $soon);

# --- ALTER DATABASE ... RENAME, CREATE DATABASE ... TEMPLATE ---------------------------

task('local', 's', 't');
task('push', 's', $far);
task('pull', $far, 'v');
parked($_) foreach qw(local push pull);
quickly('ALTER DATABASE app RENAME TO app2', 'RENAME with parked tasks');
goes_on('s', 't', '... which go on', 'app2');
quickly('ALTER DATABASE app2 RENAME TO app', 'RENAME with running tasks');
goes_on('s', 'v', '... which go on');
quickly('CREATE DATABASE copy TEMPLATE app', 'a copy of the database, with running tasks');
state_is($_, 'failed', "the copy of $_ is held", 'copy') foreach qw(local push pull);
like(sql(q{SELECT string_agg(DISTINCT info->>'error', '') FROM docrep.scheduler_docs}, 'copy'), qr/^this database is a copy .*before docrep\.resume_tasks\(\) is called/,
	'... and says so');
is(sql('SELECT count(*) FROM docrep.active_tasks', 'copy'), '0', '... without a job');
goes_on('s', 'v', 'the tasks of the template go on');
sql(q{SELECT docrep.reset_identity('s'), docrep.reset_identity('t'); SELECT docrep.resume_tasks('{local}')}, 'copy');
goes_on('s', 't', 'one of them that is resumed runs', 'copy');

# --- DROP DATABASE -------------------------------------------------------------------------

foreach my $how ('DROP DATABASE copy', 'DROP DATABASE copy WITH (FORCE)')
{
	foreach my $when (qw(parked running keeper))
	{
		my $oid = oid_of('copy');
		my $log = -s $node->logfile;
		if ($when eq 'parked') { parked('local', 'copy') }
		else { goes_on('s', 't', 'a task runs', 'copy') }
		task('more', 's', 'u', 'copy') if $when eq 'keeper';
		quickly($how, "$how, $when");
		nobody_in($oid, '... nobody is left');

		# a keeper that failed would be tried again after 5 s
		my $end = time + ($when eq 'keeper' ? 6 : 0);
		sleep 0.2 while time < $end && !log_has($node, qr/FATAL:  database $oid does not exist/, $log);
		ok(!log_has($node, qr/FATAL:  database $oid does not exist/, $log), '... and nobody looks for it');
		quickly('CREATE DATABASE copy TEMPLATE app', 'another copy');
		sql(q{SELECT docrep.reset_identity('s'), docrep.reset_identity('t')}, 'copy');
		state_is('local', 'failed', '... whose tasks are held', 'copy');
		sql(q{SELECT docrep.resume_tasks('{local}')}, 'copy');
	}
}
quickly('DROP DATABASE copy');

# --- a database that takes no connections ------------------------------------------------

sql(q{CREATE DATABASE closed TEMPLATE app}, 'postgres');
state_is('local', 'failed', 'a copy to be closed', 'closed');
sql(q{SELECT docrep.reset_identity('s'), docrep.reset_identity('t')}, 'closed');
my $log = -s $node->logfile;
my $session = DocrepSession->new($node, 'closed');
$session->must('SELECT 1');
sql(q{ALTER DATABASE closed ALLOW_CONNECTIONS false}, 'postgres');
$session->must(q{SELECT docrep.resume_tasks('{local}')});
my $end = time + 7;
sleep 0.2 while time < $end && !failed_keepers($log);
is(failed_keepers($log), 0, 'no keeper knocks at a database that takes no connections');
sql(q{ALTER DATABASE closed ALLOW_CONNECTIONS true}, 'postgres');
sql(q{INSERT INTO docrep.replicator(_id, doc) VALUES ('x', '{"source": "s", "target": "u", "continuous": true}')}, 'closed');
state_is('x', 'running', 'when it does again, its tasks run', 'closed');
$session->close;
quickly('DROP DATABASE closed');

# How many keepers have ended badly since the log was so long?
sub failed_keepers
{
	my $log = substr PostgreSQL::Test::Utils::slurp_file($node->logfile), $_[0];
	return scalar(() = $log =~ /"docrep keeper" \(PID \d+\) exited with exit code 1/g);
}

# --- DROP EXTENSION -------------------------------------------------------------------------

my $oid = oid_of('app');
quickly('BEGIN; DROP EXTENSION docrep CASCADE; ROLLBACK', 'DROP EXTENSION, rolled back, with parked tasks', 'app');
goes_on('s', 't', '... which go on');
quickly('BEGIN; DROP EXTENSION docrep CASCADE; SAVEPOINT a; ROLLBACK', '... with running ones', 'app');
goes_on('s', 'v', '... likewise');
my $slow = DocrepSession->new($node, 'app');
$slow->must('BEGIN; DROP EXTENSION docrep CASCADE');
# parked tasks would not come before there is something for them
sql(q{INSERT INTO far(_id, doc) VALUES ('wake', '{}')}, 'other');
wait_for_query($node, 'postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'docrep %' AND datname = 'app' AND wait_event_type = 'Lock'},
	't');
pass('a DROP EXTENSION that takes its time: they wait for it');
$slow->must('ROLLBACK');
goes_on('s', 't', '... and go on when it is rolled back');
task('pending', 's', 'u');
quickly('DROP EXTENSION docrep CASCADE', undef, 'app');
nobody_in($oid, '... nobody is left');
sql("CREATE EXTENSION docrep; DROP TABLE s, t, u, v, far; $tables");
is(sql('SELECT count(*) FROM docrep.active_tasks'), '0', 'CREATE EXTENSION: there is no job');
task('local', 's', 't');
task('push', 's', $far);
task('pull', $far, 'v');
goes_on('s', 'v', '... and new tasks run');
quickly('BEGIN; DROP EXTENSION docrep CASCADE; CREATE EXTENSION docrep; COMMIT', 'dropped and made anew at once', 'app');
is(sql('SELECT count(*) FROM docrep.replicator'), '0', '... without tasks');
nobody_in($oid, '... and without a process');
sql("DROP TABLE s, t, u, v, far; $tables");

# --- roles --------------------------------------------------------------------------------------

foreach my $when (qw(parked running))
{
	sql(q{CREATE ROLE joe LOGIN; GRANT ALL ON s, t, docrep.replicator TO joe; GRANT EXECUTE ON FUNCTION docrep.start TO joe});
	sql(q{SET ROLE joe; SELECT docrep.start('joe', 's', 't', '{"continuous": true}')});
	goes_on('s', 't', "a task of another role, $when");
	parked('joe') if $when eq 'parked';

	sql(q{REVOKE ALL ON t FROM joe});
	sql(q{INSERT INTO s(_id, doc) VALUES ('revoked-} . $when . q{', '{}')});
	wait_for_query($node, 'app', q{SELECT state || (info->>'error' ~ 'permission denied') FROM docrep.scheduler_docs WHERE doc_id = 'joe'},
		'crashingtrue', $soon);
	pass('... whose privileges are revoked, and says so');
	sql(q{GRANT ALL ON t TO joe});
	goes_on('s', 't', '... goes on when they are granted again');
	wait_for_query($node, 'app', q{SELECT error_count FROM docrep.scheduler_docs WHERE doc_id = 'joe'}, '0', $soon);

	SKIP:
	{
		skip 'a worker needs no LOGIN from 17 on', 2 if $node->pg_version >= 17;
		parked('joe');
		wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND usename = 'joe'}, '0');
		sql(q{ALTER ROLE joe NOLOGIN; INSERT INTO s(_id, doc) VALUES ('nologin-} . $when . q{', '{}')});
		state_is('joe', 'crashing', '... whose role may not log in');
		sql(q{ALTER ROLE joe LOGIN});
		goes_on('s', 't', '... goes on when it may');
	}
	parked('joe') if $when eq 'parked';
	sql(q{BEGIN; DROP OWNED BY joe; DROP ROLE joe; ROLLBACK});
	is(sql(q{SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'joe'}), '1', 'a DROP ROLE that is rolled back ends nothing');
	sql(q{DROP OWNED BY joe; DROP ROLE joe});
	state_is('joe', 'failed', "a role that is dropped, $when: failed");
	like(sql(q{SELECT info->>'error' FROM docrep.scheduler_docs WHERE doc_id = 'joe'}), qr/role .* does not exist/, '... and says so');
	ok(wait_for_query($node, 'app', 'SELECT count(*) FROM docrep.active_tasks', '0', $soon), '... and there is no job');
	sql(q{DELETE FROM docrep.replicator});
}
# --- many databases ------------------------------------------------------------------------------

my @many = map { "many$_" } 1 .. 12;
sql(qq{CREATE DATABASE $_}, 'postgres') foreach @many;
sql(q{CREATE EXTENSION docrep; SELECT docrep.create_table('s'); SELECT docrep.create_table('t');
	INSERT INTO docrep.replicator(_id, doc) VALUES ('local', '{"source": "s", "target": "t", "continuous": true}')}, $_) foreach @many;
state_is('local', 'running', "a task in $_", $_) foreach @many;
$node->restart;
my $begin = time;
my %missing = map { $_ => 1 } @many;
wait_until(sub {
	delete $missing{$_} foreach grep { sql(q{SELECT count(*) FROM docrep.active_tasks}, $_) } keys %missing;
	return !%missing;
}, undef, 'all databases to have their jobs');
cmp_ok(time - $begin, '<', $soon, sprintf 'after a restart twelve databases have their jobs in %.1f s', time - $begin);
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
$node->stop;
done_testing();
