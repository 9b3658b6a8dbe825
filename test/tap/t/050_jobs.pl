# Jobs and their processes: cancel, terminate, time-outs, hung and absent peers,
# locks, pause, DROP DATABASE and DROP EXTENSION, roles, shutdown.
use strict;
use warnings;

use DocrepTest;
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# parked jobs are 052's and 054's
my $here = new_node('here', databases => [ 'one', 'two' ], conf => 'docrep.park_after = -1');
my $there = new_node('there', databases => ['far']);

# A server that takes connections and never says a word.
my $mute = IO::Socket::INET->new(
	Listen => 20,
	LocalAddr => '127.0.0.1',
	Proto => 'tcp') or die "no socket: $!";
my $mute_url = 'postgresql://x@127.0.0.1:' . $mute->sockport . '/x#t';

# --- helpers -----------------------------------------------------------------

# How long a sub takes, in seconds.
sub seconds
{
	my ($code) = @_;
	my $begin = time;
	$code->();
	return time - $begin;
}

# Starts SQL in a session of its own; returns a sub that waits for its end and
# gives its SQLSTATE and all that it printed.
sub background
{
	my ($node, $db, $sql) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($db), '-c', $sql ],
		'<', \undef, '>', \$out, '2>', \$err);

	return sub {
		$run->finish;
		my ($state) = $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
		return ($state // '', $out . $err);
	};
}

# A call of replicate() with a source, a target and options.
sub replicate
{
	my ($source, $target, $options) = @_;
	$options //= '{}';
	return "SELECT docrep.replicate('$source', '$target', '$options')";
}

my $continuous = '{"continuous": true}';
my $cancel = '{"continuous": true, "cancel": true}';

sub tables
{
	my ($node, $db, @names) = @_;
	$node->safe_psql($db, "SELECT docrep.create_table('$_')") foreach @names;
}

# Waits until a document is in a table.
sub arrives
{
	my ($node, $db, $table, $id) = @_;
	return wait_for_query($node, $db, "SELECT count(*) FROM $table WHERE _id = '$id'", '1');
}

sub job_is
{
	my ($db, $what, $expected) = @_;
	return wait_for_query($here, $db, "SELECT coalesce(string_agg(($what)::text, ','), 'none') FROM docrep.active_tasks",
		$expected);
}

# Waits until so many processes are there: one that has left its job, or failed, ends a moment later.
sub workers_are
{
	my ($db, $expected) = @_;
	return wait_for_query($here, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND datname = '$db'", $expected);
}

# Less than any time-out that would end a wait for a peer, and more than a machine stands still.
my $soon = 25;

# Stops the process at the far side that serves our replication: the peer hangs.
sub hang_far_side
{
	my $pid;
	wait_until(
		sub {
			$pid = $there->safe_psql('postgres',
				"SELECT pid FROM pg_stat_activity WHERE datname = 'far' AND backend_type = 'client backend'");
			return $pid =~ /^\d+$/;
		}, undef, 'one session at the far side');
	pass('one session serves the replication at the far side');
	kill 'STOP', $pid;
	return $pid;
}

tables($here, 'one', 'a', 'b', 'locked');
tables($there, 'far', 'far');
my $far_url = pg_url($there, 'far', table => 'far');

# --- one-shots ---------------------------------------------------------------

$here->safe_psql('one', q{INSERT INTO a(_id, doc) SELECT 'd' || g, '{}' FROM generate_series(1, 1000) g});
like($here->safe_psql('one', replicate('a', 'b')), qr/"docs_written": 1000/, 'a one-shot returns its figures');
is($here->safe_psql('one', 'SELECT count(*) FROM b'), '1000', '... and has moved the documents');
is($here->safe_psql('one', 'SELECT count(*) FROM docrep.active_tasks'), '0', '... and is no job any more');

my ($state, $message) = sqlstate($here, 'one', replicate('a', pg_url($there, 'far', table => 'nowhere')));
is($state, 'DR404', 'the error of a worker is raised in the caller');
is((sqlstate($here, 'one', "BEGIN; INSERT INTO a(_id, doc) VALUES ('x', '{}'); " . replicate('a', 'b')))[0],
	'25001', 'refused in a transaction that has written');
is((sqlstate($here, 'one', replicate('a', 'b', '{"cancel": true}')))[0],
	'DR404', 'cancel of what does not run');
($state, $message) = sqlstate($here, 'one', "SELECT docrep.replicate('a', 'b', '{\"source\": \"c\"}')");
is($state, 'DR400', 'a source among the options is refused');
is((sqlstate($here, 'one', 'SELECT docrep.replicate(NULL)'))[0], 'DR400', 'so is NULL');

# --- a continuous job --------------------------------------------------------

my $id = $here->safe_psql('one', replicate('a', $far_url, $continuous) . "->>'_local_id'");
like($id, qr/^[0-9a-f]{32}\+continuous$/, 'a continuous replication returns its id');
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n1', '{}')});
ok(arrives($there, 'far', 'far', 'n1'), '... and brings changes over');
ok(job_is('one', 'state', 'idle'), '... and falls idle');
is($here->safe_psql('one', q{SELECT replication_id, source, continuous, docs_written, error_count FROM docrep.active_tasks}),
	"$id|a|t|1001|0", '... and is listed with its figures');
is($here->safe_psql('one', replicate('a', $far_url, $continuous) . "->>'_local_id'"),
	$id, 'asking again returns the same job');
ok(workers_are('one', '1'), '... and starts no second one');

my $pid = $here->safe_psql('one', 'SELECT pid FROM docrep.active_tasks');
$here->safe_psql('one', "SELECT pg_terminate_backend($pid)");
ok(job_is('one', "state = 'idle' AND pid <> $pid", 'true'), 'a terminated worker is replaced');
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n2', '{}')});
ok(arrives($there, 'far', 'far', 'n2'), '... and the job goes on');

$here->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'docrep launcher'");
$there->stop('fast');
ok(job_is('one', "state = 'crashing' AND error_count > 0 AND last_error IS NOT NULL", 'true'),
	'the peer is away: the job is crashing and says why');
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n3', '{}')});
$there->start;
ok(arrives($there, 'far', 'far', 'n3'),
	'it goes on by itself when the peer is back, with a new launcher');
ok(job_is('one', 'error_count', '0'), '... and the failures are forgotten');

is((sqlstate($here, 'one', replicate('a', 'postgresql://x@127.0.0.1:1/x#t', $continuous)))[0],
	'DR503', 'a peer that is away at the start is the caller\'s error');
is($here->safe_psql('one', 'SELECT count(*) FROM docrep.active_tasks'), '1', '... and leaves no job');

# --- DDL that wants the database or the extension ----------------------------

ok(seconds(sub { $here->safe_psql('one', 'BEGIN; DROP EXTENSION docrep CASCADE; ROLLBACK') }) < $soon,
	'DROP EXTENSION does not wait for workers');
ok(job_is('one', 'state', 'idle'), '... and when it is rolled back the job goes on');
ok(seconds(sub { $here->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one') }) < $soon,
	'a database with jobs can be a template');
ok(seconds(sub { $here->safe_psql('postgres', 'ALTER DATABASE one RENAME TO uno') }) < $soon, '... be renamed');
$here->safe_psql('postgres', 'ALTER DATABASE uno RENAME TO one');
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n4', '{}')});
ok(arrives($there, 'far', 'far', 'n4'), '... and the job goes on');

# --- a peer that hangs -------------------------------------------------------

my $took = seconds(
	sub {
		($state) = sqlstate($here, 'two', "SELECT docrep.create_table('t'); SET statement_timeout = '500ms'; "
			  . replicate($mute_url, 't'));
	});
is($state, '57014', 'statement_timeout ends a one-shot that waits for a mute peer');
ok($took < $soon, '... in time');
ok(job_is('two', 'state', 'none'), '... and its job');

my $caller = background($here, 'two', replicate($mute_url, 't'));
ok(job_is('two', 'state', 'starting'), 'another waits for it');
$took = seconds(sub { $here->safe_psql('two', replicate($mute_url, 't', '{"cancel": true}')) });
ok($took < $soon, 'it is cancelled from elsewhere in time');
($state, $message) = $caller->();
is($state, 'DR500', '... which its caller is told');
like($message, qr/shutdown/, '... in CouchDB\'s word');
ok(workers_are('two', '0'), '... and no process is left');

$caller = background($here, 'two', replicate($mute_url, 't'));
ok(job_is('two', 'state', 'starting'), 'a third');
$here->safe_psql('two',
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'docrep.replicate' AND pid <> pg_backend_pid()
		AND backend_type = 'client backend'});
is(($caller->())[0], '57P01', 'its caller is terminated');
ok(job_is('two', 'state', 'none'), '... and the job ends with it');

$caller = background($here, 'two', replicate($mute_url, 't'));
ok(job_is('two', "state = 'starting' AND pid IS NOT NULL", 'true'), 'a fourth');
$here->safe_psql('two', 'SELECT pg_terminate_backend(pid) FROM docrep.active_tasks');
is(($caller->())[0], '57P01', 'its worker is terminated, and the caller is told');

my $stopped = hang_far_side();
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n5', '{}')});
$took = seconds(sub { $here->safe_psql('postgres', 'DROP DATABASE one') });
ok($took < $soon, "DROP DATABASE with a job whose peer hangs ($took s)");
kill 'CONT', $stopped;

$here->safe_psql('postgres', 'ALTER DATABASE copy RENAME TO one');
$here->safe_psql('one', "SELECT docrep.reset_identity('a')");
$here->safe_psql('one', replicate('a', $far_url, $continuous));
wait_for_query($there, 'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE datname = 'far' AND backend_type = 'client backend'", '1');
$stopped = hang_far_side();
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n6', '{}')});
$took = seconds(sub { $here->safe_psql('one', replicate('a', $far_url, $cancel)) });
ok($took < $soon, "cancel of a job whose peer hangs ($took s)");
ok(workers_are('one', '0'), '... and its process is gone');
kill 'CONT', $stopped;

# --- locks -------------------------------------------------------------------

$took = seconds(
	sub {
		($state) = sqlstate($here, 'one',
			'BEGIN; LOCK TABLE locked IN SHARE MODE; ' . replicate('a', 'locked'));
	});
is($state, '40P01', 'a worker that waits for its caller\'s lock is a deadlock');
ok($took < 60, '... and no hang');
ok(job_is('one', 'state', 'none'), '... and the job ends');

# --- pause -------------------------------------------------------------------

$here->safe_psql('one', replicate('a', 'locked', $continuous));
ok(job_is('one', 'state', 'idle'), 'a local continuous job');
$here->append_conf('postgresql.conf', 'docrep.paused = on');
$here->reload;
wait_for_query($here, 'one',
	q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND query ~ 'paused'}, '1');
$here->safe_psql('one', q{INSERT INTO a(_id, doc) VALUES ('n7', '{}')});
($state, $message) = sqlstate($here, 'one', replicate('a', 'b'));
is($state, '55000', 'new ones are refused while docrep.paused is on');
like($message, qr/docrep\.paused/, '... with a hint');
is($here->safe_psql('one', q{SELECT count(*) FROM locked WHERE _id = 'n7'}), '0', 'and nothing is moved');
$here->append_conf('postgresql.conf', 'docrep.paused = off');
$here->reload;
ok(arrives($here, 'one', 'locked', 'n7'), 'it goes on when it is off');

# --- roles -------------------------------------------------------------------

$here->safe_psql('one', <<'SQL');
CREATE ROLE u LOGIN;
CREATE ROLE v LOGIN;
CREATE ROLE w NOLOGIN;
GRANT CREATE ON SCHEMA public TO u, w;
SQL
my @as_u = (extra_params => [ '-U', 'u' ]);
my @as_v = (extra_params => [ '-U', 'v' ]);
my ($rc, $out, $err) = $here->psql('one', replicate('a', 'b'), @as_u);
like($err, qr/permission denied for function replicate/, 'nobody may replicate unless he is granted it');
$here->safe_psql('one', 'GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO u, v, w');
$here->safe_psql('one', "SELECT docrep.create_table('ua'); SELECT docrep.create_table('ub')", @as_u);
$here->safe_psql('one', replicate('ua', 'ub', $continuous), @as_u);
is($here->safe_psql('one', 'SELECT source, user_name FROM docrep.active_tasks', @as_u), 'ua|u', 'a role sees its job');
is($here->safe_psql('one', 'SELECT count(*) FROM docrep.active_tasks', @as_v), '0', 'another does not');
my $u_id = $here->safe_psql('one', 'SELECT replication_id FROM docrep.active_tasks', @as_u);
$here->safe_psql('one', 'GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb) TO v');
($rc, $out, $err) = $here->psql('one',
	"\\set VERBOSITY verbose\nSELECT docrep.replicate('{\"cancel\": true, \"id\": \"$u_id\"}')", @as_v);
like($err, qr/DR403/, 'nor may it cancel it');
$here->safe_psql('one', 'GRANT pg_monitor TO v');
is($here->safe_psql('one', 'SELECT count(*) FROM docrep.active_tasks', @as_v), '2', 'who may monitor sees all');
is($here->safe_psql('one', "SELECT usename FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND usename = 'u'"),
	'u', 'the worker is connected as the owner of the job');

SKIP:
{
	skip 'a worker needs no LOGIN from 17 on', 2 if $here->pg_version >= 17;
	($state, $message) = sqlstate($here, 'one', "SET ROLE w; SELECT docrep.create_table('wa'); "
		  . "SELECT docrep.create_table('wb'); " . replicate('wa', 'wb'));
	is($state, '28000', 'a role without LOGIN');
	like($message, qr/LOGIN/, '... is told what it lacks');
}

my $base = $u_id =~ s/\+.*//r;
is($here->safe_psql('one', "SELECT docrep.replicate('{\"cancel\": true, \"replication_id\": \"$base\"}')->>'_local_id'"),
	$u_id, 'a superuser cancels it, by the id without its suffix');
is($here->safe_psql('one', 'SELECT count(*) FROM docrep.active_tasks'), '1', 'one job is left');

$here->safe_psql('one', replicate('ua', 'ub', $continuous), @as_u);
$here->safe_psql('one', q{REASSIGN OWNED BY u TO v; DROP OWNED BY u; DROP ROLE u});
$here->safe_psql('one',
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND usename IS NULL});
ok(job_is('one', 'source', 'a'), 'the job of a dropped role ends');

# --- the extension goes ------------------------------------------------------

sub no_worker_is_left
{
	wait_for_query($here, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'", '0');
	return pass('... and its worker is gone');
}

$took = seconds(sub { $here->safe_psql('one', q{DO $$ BEGIN DROP EXTENSION docrep CASCADE; END $$}) });
ok($took < $soon, "DROP EXTENSION in a function, with a job ($took s)");
no_worker_is_left();

$here->safe_psql('one', 'CREATE ROLE s SUPERUSER; SET ROLE s; CREATE EXTENSION docrep');
tables($here, 'one', 'c', 'd');
$here->safe_psql('one', replicate('c', 'd', $continuous));
ok(workers_are('one', '1'), 'a job in the extension made anew');
$took = seconds(sub { $here->safe_psql('one', 'DROP OWNED BY s CASCADE') });
ok($took < $soon, "the extension goes with its owner's objects ($took s)");
no_worker_is_left();

# --- shutdown ----------------------------------------------------------------

foreach my $mode ('fast', 'immediate')
{
	$caller = background($here, 'two', replicate($mute_url, 't'));
	ok(job_is('two', 'state', 'starting'), "a replication waits for a mute peer, $mode shutdown");
	$took = seconds(sub { $here->stop($mode) });
	ok($took < $soon, "... takes $took s");
	# what it is told depends on whether its server or its worker ends first
	like(($caller->())[1], qr/terminating|server closed the connection|connection to server was lost|shutdown|process ended/,
		'... and the caller ends with an error');
	$here->start;
}
is($here->safe_psql('two', 'SELECT count(*) FROM docrep.active_tasks'), '0', 'no job outlives the server');
$here->stop('fast');
$there->stop('fast');

# --- limits ------------------------------------------------------------------

my $small = new_node('small', conf => "docrep.max_workers = 2\ndocrep.max_jobs = 10\n");
tables($small, 'postgres', 's', 'out', map { "t$_" } 0 .. 9);
$small->safe_psql('postgres', replicate('s', "t$_", $continuous)) foreach (0 .. 8);
is($small->safe_psql('postgres', 'SELECT count(*) FROM docrep.active_tasks'), '9', 'more jobs than processes');
like($small->safe_psql('postgres', replicate('s', 'out')), qr/"ok": true/, 'a process is found for another');
$small->safe_psql('postgres', "INSERT INTO s(_id, doc) VALUES ('x', '{}')");
wait_for_query($small, 'postgres', "SELECT count(*) FROM t$_", '1') foreach (0 .. 8);
pass('a change reaches all of them');
$small->safe_psql('postgres', replicate('s', 't9', $continuous));
($state, $message) = sqlstate($small, 'postgres', replicate('s', 'out'));
is($state, '53400', 'no slot is left');
like($message, qr/docrep\.max_jobs/, '... and the hint says what to raise');
$small->safe_psql('postgres', replicate('s', 't1', $cancel));
like($small->safe_psql('postgres', replicate('s', 'out')), qr/"ok": true/, 'there is room after a cancel');

# the launcher and core's logical replication launcher take these two
$small->append_conf('postgresql.conf', 'max_worker_processes = 2');
$small->restart;
($state, $message) = sqlstate($small, 'postgres', replicate('s', 't1'));
is($state, '53400', 'no background worker is left');
like($message, qr/max_worker_processes/, '... and the hint says what to raise');
is($small->safe_psql('postgres', 'SELECT count(*) FROM docrep.active_tasks'), '0', '... and no job is left');
$small->stop('fast');

done_testing();
