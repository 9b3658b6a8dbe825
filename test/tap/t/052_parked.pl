# Jobs without a process: parked ones wake for a change of their source and for
# nothing else, nothing is missed on the way, and more jobs than processes take turns.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT quote contents is_same_contents);
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('here', databases => [ 'one', 'two', 'three' ], conf => <<'CONF');
docrep.max_workers = 4
docrep.park_after = 100ms
docrep.worker_linger = 100ms
docrep.scheduler_interval = 200ms
max_locks_per_transaction = 256
CONF
my $continuous = quote('{"continuous": true}');

sub run_sql
{
	my ($db, @statements) = @_;
	return $node->safe_psql($db, join ";\n", @statements);
}

sub make_tables
{
	my ($db, @names) = @_;
	return run_sql($db, map { 'SELECT docrep.create_table(' . quote($_) . ')' } @names);
}

sub start
{
	my ($db, $source, $target, @more) = @_;
	return $node->safe_psql($db, 'SELECT docrep.replicate(' . quote($source) . ', ' . quote($target) . ", $continuous)", @more);
}

my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'};

sub all_parked
{
	my ($db, $n) = @_;
	wait_for_query($node, $db,
		q{SELECT count(*) FILTER (WHERE state = 'parked' AND pid IS NULL) || '/' || count(*) FROM docrep.active_tasks}, "$n/$n");
	wait_for_query($node, $db, $workers, '0');
	return;
}

# ---------- parking and waking ----------

make_tables('one', map { ("s$_", "t$_") } 1 .. 40);
start('one', "s$_", "t$_") foreach 1 .. 40;
all_parked('one', 40);
pass('40 jobs are parked, and no process is left');

my $woken = q{SELECT string_agg(source, ',' ORDER BY source) FROM docrep.active_tasks WHERE updated_on > } . quote(run_sql('one', 'SELECT now()'));
run_sql('one', q{INSERT INTO s7(_id, doc) VALUES ('x', '{"a": 1}')});
wait_for_query($node, 'one', 'SELECT count(*) FROM t7', '1');
all_parked('one', 40);
is(run_sql('one', $woken), 's7', 'a change wakes the job of its table, and no other');

run_sql('one', q{BEGIN}, q{DELETE FROM s7}, q{ROLLBACK}, q{UPDATE s8 SET doc = '{}'});
my $written = run_sql('one', q{SELECT sum(docs_written) FROM docrep.active_tasks});
is($written, '1', 'what was rolled back brings nothing');
all_parked('one', 40);

run_sql('one', q{INSERT INTO s7(_id, doc) VALUES ('y', '{"a": 2}')});
wait_for_query($node, 'one', 'SELECT count(*) FROM t7', '2');
ok(wait_for_query($node, 'one', q{SELECT docs_written FROM docrep.active_tasks WHERE source = 's7'}, '2'), 'counts go on from run to run');

# ---------- the launcher comes and goes ----------

all_parked('one', 40);
my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'docrep launcher'};
my $pid = run_sql('one', $launcher);
run_sql('one', "SELECT pg_terminate_backend($pid, 10000)", q{INSERT INTO s9(_id, doc) VALUES ('x', '{}')});
wait_for_query($node, 'one', 'SELECT count(*) FROM t9', '1');
isnt(run_sql('one', $launcher), $pid, 'a new launcher wakes what was parked under the old one');

# ---------- what ends or loses a parked job ----------

all_parked('one', 40);
is(run_sql('one', q{SELECT docrep.replicate('{"source": "s1", "target": "t1", "continuous": true, "cancel": true}')->>'ok'}),
	'true', 'a parked job is cancelled');
is(run_sql('one', q{SELECT count(*) FROM docrep.active_tasks WHERE source = 's1'}), '0', '... and is gone');
run_sql('one', 'SELECT docrep.drop_table(' . quote('s2') . ')');
wait_for_query($node, 'one', q{SELECT state || (last_error ~ 'does not exist') FROM docrep.active_tasks WHERE source = 's2'}, 'crashingtrue');
pass('a parked job whose source is dropped says so');

make_tables('three', 's', 't');
start('three', 's', 't');
all_parked('three', 1);
my $begin = time;
$node->safe_psql('postgres', 'DROP DATABASE three');
cmp_ok(time - $begin, '<', 25, 'a parked job does not hold up DROP DATABASE');

# ---------- the moment of parking ----------

# Jobs park as soon as they have caught up, while documents come at any moment.
run_sql('one', q{ALTER SYSTEM SET docrep.park_after = 0}, q{SELECT pg_reload_conf()});
my $seconds = is_soak() ? 300 : 15;
my @writers;
foreach my $w (1 .. 3)
{
	my $session = DocrepSession->new($node, 'one', app => "writer$w");
	$session->must(qq{
		CREATE OR REPLACE PROCEDURE writer$w(seconds float) LANGUAGE plpgsql AS \$\$
		DECLARE stop timestamptz := clock_timestamp() + seconds * interval '1 s'; n int := 0;
		BEGIN
			WHILE clock_timestamp() < stop LOOP
				n := n + 1;
				INSERT INTO s10(_id, doc) VALUES ('$w-' || n, '{"n": 1}');
				IF random() < 0.2 THEN ROLLBACK; ELSE COMMIT; END IF;
				IF random() < 0.5 THEN PERFORM pg_sleep(random() * 0.03); END IF;
			END LOOP;
		END \$\$});
	$session->send("CALL writer$w($seconds)");
	push @writers, $session;
}
foreach my $writer (@writers)
{
	$writer->receive($seconds + 180);
	is($writer->{sqlstate}, '00000', 'a writer is done');
}
my $same = 'SELECT (SELECT count(*) FROM s10) = (SELECT count(*) FROM t10)';
my $history = q{SELECT jsonb_array_length(docrep.get_local('t10', split_part(a.replication_id, '+', 1))->'history')
	FROM docrep.active_tasks a WHERE a.source = 's10'};
wait_for_query($node, 'one', $same, 't');

# a slow machine has not come so far yet
foreach my $n (1 .. 30)
{
	last if run_sql('one', $history) > 20;
	run_sql('one', "INSERT INTO s10(_id, doc) VALUES ('more$n', '{}')");
	wait_for_query($node, 'one', $same, 't');
	wait_for_query($node, 'one', q{SELECT state FROM docrep.active_tasks WHERE source = 's10'}, 'parked');
}
is_same_contents(contents($node, 'one', 's10'), contents($node, 'one', 't10'), 'nothing was missed');
cmp_ok(run_sql('one', $history), '>', 20, 'and it was parked again and again');

# ---------- more jobs than processes ----------

# All of these would keep their process for ever: their sources never stand still.
make_tables('two', 'busy', map { "b$_" } 1 .. 12);
my $feeder = DocrepSession->new($node, 'two', app => 'feeder');
$feeder->must(q{
	CREATE PROCEDURE feed() LANGUAGE plpgsql AS $$
	BEGIN
		FOR n IN 1 .. 1000000 LOOP
			INSERT INTO busy(_id, doc) VALUES ('d' || n, '{}');
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
	END $$});
$feeder->send('CALL feed()');
start('two', 'busy', "b$_") foreach 1 .. 12;
my $least = 0;
foreach my $round (1 .. 5)
{
	wait_until(sub { run_sql('two', 'SELECT least(' . join(', ', map { "(SELECT count(*) FROM b$_)" } 1 .. 12) . ')') > $least },
		60, "all 12 to move on, round $round");
	$least = run_sql('two', 'SELECT count(*) FROM busy');
	# one that has left its place to another may not have ended yet
	ok(wait_for_query($node, 'two', "SELECT ($workers) <= 4"), "round $round: all 12 jobs have moved on, in at most 4 processes");
}

# Processes belong to roles, and make room for others.
run_sql('one', 'CREATE ROLE u LOGIN');
run_sql('two', q{GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO u}, q{GRANT CREATE ON SCHEMA public TO u});
my @as_u = (connstr => $node->connstr('two') . ' user=u');
$node->safe_psql('two', q{SELECT docrep.create_table('us'); SELECT docrep.create_table('ut'); INSERT INTO us(_id, doc) VALUES ('x', '{}')}, @as_u);
$begin = time;
like($node->safe_psql('two', q{SELECT docrep.replicate('us', 'ut')}, @as_u), qr/"docs_written": 1\b/,
	sprintf 'another role gets its turn (%.1f s)', time - $begin);

run_sql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'feeder'});
wait_for_query($node, 'two', "SELECT (SELECT count(*) FROM busy) = (SELECT count(*) FROM b$_)", 't') foreach 1 .. 12;
pass('in the end everything is everywhere');
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
