# Tasks when something is lacking: processes, slots, a target, permission to run; they
# wait, say why, do not spin, and go on when it is there again.  And their memory.
use strict;
use warnings;

use DocrepCouch;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node;

sub sql
{
	my ($query, $db) = @_;
	return $node->safe_psql($db // 'postgres', $query);
}

sub task
{
	my ($id, $source, $target, $more) = @_;
	return sql("INSERT INTO docrep.replicator(_id, doc) VALUES ('$id', jsonb_build_object('source', '$source', 'target', '$target') || '"
		  . ($more // '{"continuous": true}') . "')");
}

sub state_is
{
	my ($id, $state, $what) = @_;
	wait_for_query($node, 'postgres', "SELECT state FROM docrep.scheduler_docs WHERE doc_id = '$id'", $state);
	return pass($what);
}

sub conf
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	return reload_conf($node);
}

sub log_count
{
	my ($pattern) = @_;
	return scalar(() = slurp_file($node->logfile) =~ /$pattern/g);
}

sub pid_of
{
	my ($type) = @_;
	return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'docrep $type' ORDER BY backend_start LIMIT 1");
}

# CPU time of a process in clock ticks, and its private memory in kB.
sub ticks { return (split ' ', slurp_file("/proc/$_[0]/stat") =~ s/.*\)//sr)[11] + (split ' ', slurp_file("/proc/$_[0]/stat") =~ s/.*\)//sr)[12] }
sub memory { return slurp_file("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : die "no RssAnon" }

# --- no room for processes -----------------------------------------------------------

# Postgres' own launcher, ours, and two more.
$node = new_node('few', databases => [ 'postgres', 'two' ], conf => <<'CONF');
max_worker_processes = 4
docrep.max_workers = 10
docrep.park_after = 200ms
docrep.worker_linger = 200ms
client_min_messages = warning
CONF
sql(q{SELECT docrep.create_table('s'); SELECT docrep.create_table('t' || i) FROM generate_series(1, 12) i; INSERT INTO s(_id, doc) VALUES ('a', '{}')});

# Two one-shots in other sessions hold the room: their target's trigger waits.
sql(q{SELECT docrep.create_table('slow' || i) FROM generate_series(1, 4) i;
	CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1);
		RETURN NULL;
	END $$;
	DO $$ BEGIN
		FOR i IN 1..4 LOOP
			EXECUTE format('CREATE TRIGGER w AFTER INSERT ON slow%s FOR EACH STATEMENT EXECUTE FUNCTION public.wait()', i);
		END LOOP;
	END $$});
my $gate = DocrepSession->new($node, 'postgres');
my @callers = map { DocrepSession->new($node, 'postgres') } 1 .. 2;

# Takes all the room there is.
sub occupy
{
	my (@targets) = @_;
	$gate->must('SELECT pg_advisory_lock(1)');
	$callers[$_]->send("SELECT docrep.replicate('s', '$targets[$_]')") foreach 0 .. 1;
	wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND wait_event = 'advisory'}, '2');
	return;
}

sub make_room
{
	$gate->must('SELECT pg_advisory_unlock(1)');
	$_->receive foreach @callers;
	is($_->{sqlstate}, '00000', 'a one-shot is done') foreach @callers;
	return;
}

# ... in which our processes are not busy.
sub is_quiet
{
	my ($what) = @_;
	my $launcher = pid_of('launcher');
	my ($ticks, $from) = (ticks($launcher), time);
	sleep 3;
	$ticks = ticks($launcher) - $ticks;
	return cmp_ok($ticks / (time - $from), '<', 5, $what);
}
occupy('slow1', 'slow2');

my $begin = time;
task("live$_", 's', "t$_") foreach 1 .. 3;
task('empty', 't12', 't11', '{}');
wait_until(sub { log_count(qr/replication tasks wait: no background worker is free to look at them/) }, undef, 'the log to say so');
like(slurp_file($node->logfile), qr/no background worker is free to look at them\n.*HINT:  Increase max_worker_processes/, 'no room for a keeper: the log says what to do');
is(sql(q{SELECT string_agg(DISTINCT state, ',') FROM docrep.scheduler_docs}), 'initializing', '... and the tasks are initializing');
is_quiet('... and the launcher does not spin');
cmp_ok(log_count(qr/replication tasks wait: no background/), '<=', 1 + (time - $begin) / 60, '... nor repeats itself');

make_room();
state_is("live$_", 'running', "there is room again: task $_ runs") foreach 1 .. 3;
state_is('empty', 'completed', '... and one with nothing to do is completed, not failed');
wait_for_query($node, 'postgres', q{SELECT count(*) FROM t3}, '1');
wait_for_query($node, 'postgres', q{SELECT count(*) FILTER (WHERE state = 'parked') FROM docrep.active_tasks}, '3');
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('docrep worker', 'docrep keeper')}, '0');

occupy('slow3', 'slow4');
$begin = time;
sql(q{INSERT INTO s(_id, doc) VALUES ('b', '{}')});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.active_tasks WHERE state = 'pending' AND last_error ~ 'no background worker is free'}, '3');
pass('no room for a worker: jobs that have something to do are pending, and say why');
is(sql(q{SELECT string_agg(DISTINCT state || error_count, ',') FROM docrep.scheduler_docs WHERE doc_id ~ 'live'}), 'pending0', '... which is no failure');
like(slurp_file($node->logfile), qr/replications wait: no background worker is free.*\n.*HINT:  Increase max_worker_processes/, '... and the log says what to do');
is_quiet('... and the launcher does not spin');
make_room();
wait_for_query($node, 'postgres', "SELECT count(*) FROM t$_", '2') foreach 1 .. 3;
pass('a change arrives in the end');
cmp_ok(log_count(qr/replications wait: no background worker is free/), '<=', 1 + (time - $begin) / 60, 'the log does not repeat itself');
ok(wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.active_tasks WHERE last_error IS NOT NULL}, '0'), 'the reason is forgotten');

# Processes that linger, of another role, give way to those that have something to do.
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('docrep worker', 'docrep keeper')}, '0');
conf('docrep.worker_linger = 10min');
sql(q{CREATE ROLE ann LOGIN; GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO ann; GRANT CREATE ON SCHEMA public TO ann;
	SET ROLE ann; SELECT docrep.create_table('as'), docrep.create_table('at')});
foreach my $db (qw(postgres two))
{
	sql(q{SELECT docrep.create_table('x'), docrep.create_table('y')}, $db);
	sql(q{SELECT docrep.replicate('x', 'y')}, $db);
	sql(q{SET ROLE ann; SELECT docrep.replicate('as', 'at')}) if $db eq 'postgres';
	last if sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'}) == 2;
}
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'}), '2', 'two processes linger');
$begin = time;
sql(q{GRANT CREATE ON SCHEMA public TO ann; SELECT docrep.create_table('x2'), docrep.create_table('y2')}, 'two');
sql(q{INSERT INTO docrep.replicator(_id, doc) VALUES ('other', '{"source": "x2", "target": "y2", "continuous": true}')}, 'two');
wait_for_query($node, 'two', 'SELECT state FROM docrep.scheduler_docs', 'running');
cmp_ok(time - $begin, '<', 60, 'a task of another database gets room all the same');
conf('docrep.worker_linger = 200ms');
sql(q{DELETE FROM docrep.replicator}, 'two');
$_->close foreach $gate, @callers;

# --- docrep.paused ---------------------------------------------------------------------

# a job that is paused keeps its process, if it has one: here the keeper needs the room
wait_for_query($node, 'postgres', q{SELECT count(*) FILTER (WHERE state = 'parked') FROM docrep.active_tasks}, '3');
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('docrep worker', 'docrep keeper')}, '0');
conf('docrep.paused = on');
task('paused', 's', 't4');
state_is('paused', 'pending', 'a new task is pending while docrep.paused is on');
sql(q{INSERT INTO s(_id, doc) VALUES ('c', '{}')});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'pending'}, '4');
pass('... and so are those that have something to do');
is(sql('SELECT count(*) FROM t4'), '0', '... and nothing is moved');
conf('docrep.paused = off');
wait_for_query($node, 'postgres', "SELECT count(*) FROM t$_", '3') foreach 1 .. 4;
pass('they go on when it is off');

# --- settings that change ------------------------------------------------------------------

wait_for_query($node, 'postgres', q{SELECT count(*) FILTER (WHERE state = 'parked') FROM docrep.active_tasks}, '4');
conf('docrep.park_after = -1');
sql(q{INSERT INTO s(_id, doc) VALUES ('d', '{}')});
wait_for_query($node, 'postgres', "SELECT count(*) FROM t$_", '4') foreach 1 .. 4;
wait_for_query($node, 'postgres', q{SELECT count(*) > 0 FROM docrep.active_tasks WHERE state = 'idle'}, 't');
pass('park_after = -1: jobs keep their processes');
conf('docrep.park_after = 100ms');
wait_for_query($node, 'postgres', q{SELECT count(*) FILTER (WHERE state = 'parked') FROM docrep.active_tasks}, '4');
pass('... and give them up when it is changed');
$node->stop;

# --- no slot ----------------------------------------------------------------------------------

$node = new_node('slots', conf => <<'CONF');
docrep.max_jobs = 10
docrep.max_workers = 4
docrep.park_after = 200ms
docrep.max_retry_interval = 4s
docrep.cycle_interval = 1h
client_min_messages = warning
CONF
sql(q{SELECT docrep.create_table('s'); SELECT docrep.create_table('t' || i) FROM generate_series(1, 15) i; INSERT INTO s(_id, doc) VALUES ('a', '{}')});
sql(q{INSERT INTO docrep.replicator(_id, doc) SELECT 'c' || i, format('{"source": "s", "target": "t%s", "continuous": true}', i)::jsonb FROM generate_series(1, 13) i});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'error' AND info->>'error' ~ 'max_jobs'}, '3');
pass('three tasks find no slot, and say so');
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'running'}, '10');

# they have been tried several times: the next one is far away
wait_for_query($node, 'postgres', q{SELECT bool_and(error_count >= 2) FROM docrep.scheduler_docs WHERE state = 'error'}, 't');
is(log_count(qr/replication tasks? waits? for a free slot/), 1, 'the log says so once');
like(slurp_file($node->logfile), qr/wait for a free slot.*\n.*HINT:  Increase docrep.max_jobs/, '... and what to do');
sql(q{DELETE FROM docrep.replicator WHERE _id IN (SELECT doc_id FROM docrep.scheduler_docs WHERE state = 'running' LIMIT 2)});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'running'}, '10');
pass('two of them run as soon as two slots are free');
ok(wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'error'}, '1'), '... and the third waits');
sql(q{DELETE FROM docrep.replicator WHERE _id IN (SELECT doc_id FROM docrep.scheduler_docs WHERE state = 'running' LIMIT 5)});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'running'}, '6');
ok(wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE error_count > 0}, '0'), 'then it runs, and its errors are forgotten');
sql(q{DELETE FROM docrep.replicator});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.active_tasks}, '0');

# --- a target that is away for long --------------------------------------------------------------

my $couch = DocrepCouch->new;
$couch->create($_) foreach qw(there empty);
task('away', 's', $couch->url('there'), '{"continuous": true, "retries_per_request": 0, "connection_timeout": 2000}');
state_is('away', 'running', 'a task with a target that is there');
wait_until(sub { keys %{ $couch->contents('there') } == 1 }, undef, 'the first document');
wait_for_query($node, 'postgres', q{SELECT state FROM docrep.active_tasks}, 'parked');
$couch->stop;
sql(q{INSERT INTO s(_id, doc) VALUES ('b', '{}')});
state_is('away', 'crashing', '... which goes away');
task('once', $couch->url('empty'), 't13', '{"retries_per_request": 0, "connection_timeout": 2000}');
state_is('once', 'crashing', 'a one-shot from there');

# the pauses that are planned, by what is left of them when it is looked at
my ($attempts, @left) = (0);
wait_until(
	sub {
		my ($count, $left) = split /\|/, sql(q{SELECT error_count, extract(epoch FROM next_start - clock_timestamp()) FROM docrep.scheduler_docs
			WHERE doc_id = 'away' AND state = 'crashing' AND next_start IS NOT NULL});
		push @left, $left if defined $left;
		$attempts = $count if defined $count;
		return $attempts >= 5 && max(@left) > 2;
	});
pass('... is tried again and again, and the pauses grow: the first is 1 s');
cmp_ok(max(@left), '<', 4.1, '... as far as max_retry_interval allows');
is(sql(q{SELECT count(*) >= 4 FROM docrep.scheduler_jobs, jsonb_array_elements(history) e WHERE doc_id = 'away' AND e->>'type' = 'crashed'}), 't', '... as its history tells');
ok(wait_for_query($node, 'postgres', q{SELECT info->>'error' ~ '\S' FROM docrep.scheduler_jobs WHERE doc_id = 'away' AND state = 'crashing'}, 't'), '... with the reason');
like(sql(q{SELECT e->>'reason' FROM docrep.scheduler_jobs, jsonb_array_elements(history) e WHERE doc_id = 'away' AND e->>'type' = 'crashed' LIMIT 1}), qr/\S/, '... of each crash');
is(sql(q{SELECT doc->>'_replication_state' FROM docrep.replicator WHERE _id = 'away'}), 'error', '... and its row says so');
$couch->start;
wait_until(sub { keys %{ $couch->contents('there') } == 2 }, undef, 'the second document');
state_is('away', 'running', 'it is back: the task has recovered');
state_is('once', 'completed', '... and the one-shot is completed, though it had nothing to do');
wait_for_query($node, 'postgres', q{SELECT error_count FROM docrep.scheduler_docs WHERE doc_id = 'away'}, '0');
wait_for_query($node, 'postgres', q{SELECT doc->>'_replication_state' FROM docrep.replicator WHERE _id = 'away'}, 'triggered');
pass('... and its failures are forgotten');
sql(q{DELETE FROM docrep.replicator});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.active_tasks}, '0');

# RavenDB's pacing: a cycle is a commit of the source.
task('cycles', 's', $couch->url('there'), '{"continuous": true, "retry": "cycles"}');
state_is('cycles', 'running', 'a task with "cycles"');
wait_for_query($node, 'postgres', q{SELECT state FROM docrep.active_tasks}, 'parked');
$couch->stop;

# A parked job of the same source, which a commit wakes together with the task that counts it:
# once that one has come back, the commit has been counted.
conf('docrep.park_after = 0');
sql(q{SELECT docrep.replicate('s', 't15', '{"continuous": true}')});

# Commits at the source, and waits until all has been done that it leads to.
my $commits = 0;

sub commit_one
{
	sql(q{INSERT INTO s(_id, doc) VALUES ('cycle} . ++$commits . q{', '{}')});
	wait_for_query($node, 'postgres', "SELECT count(*) FROM t15 WHERE _id = 'cycle$commits'", '1');
	wait_for_query($node, 'postgres', q{SELECT state FROM docrep.active_tasks WHERE target = 't15'}, 'parked');
	return wait_for_query($node, 'postgres',
		q{SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'cycles' AND state IN ('pending', 'starting', 'running')}, '0');
}

# Commits until the task has failed so often; returns how many commits that took.
sub commits_until
{
	my ($failures) = @_;
	my $before = $commits;
	while (sql(q{SELECT error_count FROM docrep.scheduler_docs}) < $failures)
	{
		die "still no $failures failures" if $commits > $before + 100;
		commit_one();
	}
	return $commits - $before;
}
wait_for_query($node, 'postgres', q{SELECT state FROM docrep.active_tasks WHERE target = 't15'}, 'parked');
note('commits for 10 failures: ' . commits_until(10));
my $ten = commits_until(11);
cmp_ok($ten, '>=', 9, 'after ten failures one commit in ten is tried');
cmp_ok($ten, '<=', 11, '... not fewer');
$couch->start;
my $n = 0;
while (sql(q{SELECT error_count FROM docrep.scheduler_docs}) > 0 && $n++ < 11)
{
	commit_one();
}
state_is('cycles', 'running', 'the target is back: it runs at the next attempt');
wait_for_query($node, 'postgres', q{SELECT error_count FROM docrep.scheduler_docs}, '0');
wait_until(sub { keys %{ $couch->contents('there') } == sql('SELECT count(*) FROM s') }, undef, 'everything to be there');
pass('... and brings everything');
sql(q{DELETE FROM docrep.replicator});
sql(q{SELECT docrep.replicate('s', 't15', '{"continuous": true, "cancel": true}')});
wait_for_query($node, 'postgres', q{SELECT count(*) FROM docrep.active_tasks}, '0');

# --- memory --------------------------------------------------------------------------------------------

wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'}, '0');
conf('docrep.worker_linger = 60s');
task('often', 's', 't14');
my $feeder = DocrepSession->new($node, 'postgres');
$feeder->must(q{CREATE PROCEDURE wake(n int) LANGUAGE plpgsql AS $$
	DECLARE v bigint;
	BEGIN
		FOR i IN 1..n LOOP
			UPDATE s SET doc = jsonb_build_object('i', i) WHERE _id = 'a';
			COMMIT;
			PERFORM pg_sleep(0.004);
		END LOOP;
	END $$});

# Wakes the parked job; returns the memory of launcher and worker.
sub wake
{
	my ($times) = @_;
	my $before = sql(q{SELECT docs_read FROM docrep.active_tasks});
	$feeder->send("CALL wake($times)");
	$feeder->receive(7200);
	is($feeder->{sqlstate}, '00000', "$times commits");
	wait_for_query($node, 'postgres', q{SELECT (SELECT _rev FROM s WHERE _id = 'a') = (SELECT _rev FROM t14 WHERE _id = 'a')}, 't');
	note('wake-ups with something to do: ' . (sql(q{SELECT docs_read FROM docrep.active_tasks}) - $before));
	return map { memory(pid_of($_)) } qw(launcher worker);
}
my ($worker) = (wake(1000), pid_of('worker'))[-1];
my @first = wake(500);
my @last = wake(is_soak() ? 20000 : 4000);
is(pid_of('worker'), $worker, 'it was the same worker all the time');
note("launcher: $first[0] to $last[0] kB, worker: $first[1] to $last[1] kB");
cmp_ok($last[0] - $first[0], '<', 300, 'the launcher\'s memory is flat');
cmp_ok($last[1] - $first[1], '<', 1000, 'so is the worker\'s');
$feeder->close;
$node->stop;
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
