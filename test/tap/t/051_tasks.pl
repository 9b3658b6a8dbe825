# Tasks: restart, crash, promotion, edits while they run, locked rows, DDL that
# wants the database, copies of it, lost roles and servers, too few slots.
use strict;
use warnings;

use DocrepTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('node', databases => [ 'app', 'away' ],
	conf => "docrep.max_workers = 12\n", init => { allows_streaming => 1 });

sub state_is
{
	my ($n, $db, $id, $state, $what) = @_;
	ok($n->poll_query_until($db,
		"SELECT doc ->> '_replication_state' = '$state' FROM docrep.replicator WHERE _id = '$id'"), $what);
}

sub sql { return $node->safe_psql('app', $_[0]); }

sub arrives
{
	my ($n, $db, $table, $id, $what) = @_;
	ok($n->poll_query_until($db, "SELECT count(*) = 1 FROM $table WHERE _id = '$id'"), $what);
}

# --- a hundred tasks, restart and crash -------------------------------------------

sql(q{CREATE FUNCTION have(wanted text) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		n int := 0;
		found_it boolean;
	BEGIN
		FOR i IN 1..90 LOOP
			EXECUTE format('SELECT EXISTS (SELECT FROM t%s WHERE _id = $1)', i) INTO found_it USING wanted;
			n := n + found_it::int;
		END LOOP;
		RETURN n;
	END $$;
	-- one that a row's update need not be new for (since 16), beside others
	CREATE INDEX ON docrep.replicator USING brin ((doc ->> '_replication_state'));
	SELECT docrep.create_table('s');
	SELECT docrep.create_table('t' || i) FROM generate_series(1, 100) i;
	INSERT INTO s VALUES ('first', '{}');
	INSERT INTO docrep.replicator SELECT 'live' || i, format('{"source": "s", "target": "t%s", "continuous": true}', i)::jsonb
		FROM generate_series(1, 90) i;
	INSERT INTO docrep.replicator SELECT 'once' || i, format('{"source": "s", "target": "t%s"}', i)::jsonb
		FROM generate_series(91, 98) i;
	INSERT INTO docrep.replicator VALUES ('off', '{"source": "s", "target": "t99", "continuous": true, "disabled": true}'),
		('twice', '{"source": "s", "target": "t1", "continuous": true}')});

# every row says what it should, and every live table has a document
my $settled = q{SELECT count(*) = 99 FROM docrep.replicator WHERE doc ->> '_replication_state'
	= CASE WHEN _id LIKE 'live%' THEN 'triggered' WHEN _id LIKE 'once%' THEN 'completed' WHEN _id = 'twice' THEN 'failed' END};

sub all_have
{
	my ($id) = @_;
	return "SELECT have('$id') = 90";
}

ok($node->poll_query_until('app', $settled), 'a hundred tasks: each row says what it should');
ok($node->poll_query_until('app', all_have('first')), 'and their documents arrive');
my $rows = q{SELECT string_agg(_id || _rev || doc::text, ' ' ORDER BY _id) FROM docrep.replicator};
my $before = sql($rows);
foreach my $how ('fast', 'immediate')
{
	$node->stop($how);
	$node->start;
	sql("INSERT INTO s VALUES ('$how', '{}')");
	ok($node->poll_query_until('app', all_have($how)), "after a stop ($how) they go on");
	is(sql($rows), $before, 'their rows are as they were');
}
is(sql(q{SELECT count(*) FROM t91}), 1, 'what is completed does not run again');
is(sql(q{SELECT count(*) FROM t99}), 0, 'what is disabled does not run');
is(sql(q{SELECT count(*) FROM docrep.active_tasks}), 90, 'one job for each that lives');

# --- edits ------------------------------------------------------------------------

sql(q{UPDATE docrep.replicator SET doc = doc || '{"target": "t99"}' WHERE _id = 'live1'});
arrives($node, 'app', 't99', 'first', 'an UPDATE starts the new definition');
sql(q{INSERT INTO s VALUES ('edited', '{}')});
arrives($node, 'app', 't99', 'edited', 'which goes on');
arrives($node, 'app', 't2', 'edited', 'as the others do');
is(sql(q{SELECT count(*) FROM t1 WHERE _id = 'edited'}), 0, 'the old one has ended');
sql(q{UPDATE docrep.replicator SET doc = doc - '_none' WHERE _id = 'twice'});
state_is($node, 'app', 'twice', 'triggered', 'what was a duplicate runs when it is written again');
arrives($node, 'app', 't1', 'edited', 'and does its work');
sql(q{UPDATE docrep.replicator SET doc = doc || '{"disabled": true}' WHERE _id = 'live2'});
ok($node->poll_query_until('app', q{SELECT count(*) = 0 FROM docrep.active_tasks WHERE doc_id = 'live2'}), 'disabled: its job ends');
sql(q{UPDATE docrep.replicator SET doc = doc - 'disabled' WHERE _id = 'live2'});
ok($node->poll_query_until('app', q{SELECT count(*) = 1 FROM docrep.active_tasks WHERE doc_id = 'live2'}), 'enabled: it has one');
sql(q{DELETE FROM docrep.replicator WHERE _id LIKE 'live_'});
ok($node->poll_query_until('app', q{SELECT count(*) = 0 FROM docrep.active_tasks WHERE doc_id LIKE 'live_'}), 'deleted: their jobs end');
sql(q{BEGIN; DELETE FROM docrep.replicator; ROLLBACK; BEGIN; UPDATE docrep.replicator SET doc = '{"source": "s", "target": "t1"}'; ROLLBACK});
is(sql(q{SELECT count(*) FROM docrep.active_tasks}), 82, 'what is rolled back has no effect');

# replicate() may end its job, but it is the row that says that there is one
my $id = sql(q{SELECT doc ->> '_replication_id' FROM docrep.replicator WHERE _id = 'live20'});
my $job = q{SELECT started_on FROM docrep.active_tasks WHERE doc_id = 'live20'};
my $started = sql($job);
sql(qq{SELECT docrep.replicate('{"cancel": true, "id": "$id"}')});
ok($node->poll_query_until('app', "SELECT ($job) > '$started'"), 'a job that replicate() cancels is made again');

# cancel() in a transaction that is rolled back
$started = sql($job);
sql(q{BEGIN; SELECT docrep.cancel('live20'); ROLLBACK});
ok($node->poll_query_until('app', "SELECT ($job) > '$started'"), 'and one whose cancel() is rolled back');

# --- rows that a session has locked, and revisions ----------------------------------

my $session = $node->background_psql('app');
sql(q{INSERT INTO docrep.replicator VALUES ('locked', '{"source": "s", "target": "t100", "disabled": true}')});
my $rev = sql(q{UPDATE docrep.replicator SET doc = doc - 'disabled' WHERE _id = 'locked' RETURNING _rev});
$session->query_safe(q{BEGIN});
$session->query_safe(q{SELECT FROM docrep.replicator WHERE _id = 'locked' FOR UPDATE});
arrives($node, 'app', 't100', 'first', 'a task runs while its row is locked');
sql(q{INSERT INTO docrep.replicator VALUES ('next', '{"source": "s", "target": "t98"}')});
state_is($node, 'app', 'next', 'completed', 'a locked row does not hold others up');
$session->query_safe(q{COMMIT});
state_is($node, 'app', 'locked', 'completed', 'and is written when it is free');
is(sql(q{SELECT _rev FROM docrep.replicator WHERE _id = 'locked'}), $rev, 'its revision has not changed');
is(sql(qq{SELECT docrep.put('docrep.replicator', '{"_id": "locked", "_rev": "$rev", "source": "s", "target": "t100", "continuous": true}') IS NOT NULL}),
	't', 'so an edit that was begun before is no conflict');
state_is($node, 'app', 'locked', 'triggered', 'and what it says runs');
$session->quit;

# edits and write-backs at the same time: nothing is lost, no edit fails
my @sessions = map {
	my $n = $_;
	my ($in, $out) = ('', '');
	IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('app'), '-c',
		qq{DO \$\$ BEGIN FOR i IN 1..40 LOOP
			UPDATE docrep.replicator SET doc = doc || jsonb_build_object('checkpoint_interval', 1000 + i) WHERE _id = 'live' || ($n * 10);
			COMMIT; PERFORM pg_sleep(0.02);
		END LOOP; END \$\$}], '<', \$in, '>', \$out, '2>&1');
} 3 .. 6;
ok($_->finish, 'a session edits a task that runs, 40 times') foreach @sessions;
ok($node->poll_query_until('app', q{SELECT count(*) = 4 FROM docrep.replicator r
	WHERE _id IN ('live30', 'live40', 'live50', 'live60') AND doc ->> '_replication_state' = 'triggered'
	AND doc ->> 'checkpoint_interval' = '1040' AND docrep.rev_generation(_rev) = 41}), 'all edits are there, and all states');
is(sql(q{SELECT count(*) FROM docrep.check('docrep.replicator')}), 0, 'the table is sound');
sql(q{INSERT INTO s VALUES ('after edits', '{}')});
arrives($node, 'app', "t$_", 'after edits', 'the newest definition runs') foreach 30, 60;

# --- a role and a server that are gone -------------------------------------------------

sql(q{CREATE ROLE leaver LOGIN; GRANT ALL ON s, t9, docrep.replicator TO leaver; GRANT EXECUTE ON FUNCTION docrep.start TO leaver;
	SET ROLE leaver; SELECT docrep.start('leaver', 's', 't9', '{"continuous": true}')});
state_is($node, 'app', 'leaver', 'triggered', 'a task of another role runs');
sql(q{DROP OWNED BY leaver; DROP ROLE leaver});
$node->restart;
state_is($node, 'app', 'leaver', 'failed', 'its role is gone: failed');
like(sql(q{SELECT doc ->> '_replication_state_reason' FROM docrep.replicator WHERE _id = 'leaver'}), qr/role .* does not exist/, 'and says why');

sql(q{CREATE SERVER cloud FOREIGN DATA WRAPPER docrep OPTIONS (url 'http://127.0.0.1:1', retries_per_request '0');
	INSERT INTO docrep.replicator VALUES ('server', '{"source": "cloud:db", "target": "t9", "continuous": true}')});
state_is($node, 'app', 'server', 'error', 'a server that does not answer: error, tried again');
sql(q{DROP SERVER cloud});
state_is($node, 'app', 'server', 'failed', 'a server that is dropped: failed');
like(sql(q{SELECT doc ->> '_replication_state_reason' FROM docrep.replicator WHERE _id = 'server'}), qr/server "cloud" does not exist/, 'and says why');

# --- nobody is held up --------------------------------------------------------------

sql(q{DELETE FROM docrep.replicator WHERE NOT _id ~ '^live[78]'});
$node->safe_psql('away', q{SELECT docrep.create_table('s'), docrep.create_table('t'); INSERT INTO s VALUES ('a', '{}');
	INSERT INTO docrep.replicator VALUES ('c', '{"source": "s", "target": "t", "continuous": true}')});
arrives($node, 'away', 't', 'a', 'a task of another database');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE away');
$node->safe_psql('postgres', 'ALTER DATABASE away RENAME TO moved');
$node->safe_psql('moved', q{INSERT INTO s VALUES ('b', '{}')});
arrives($node, 'moved', 't', 'b', 'it goes on in a database that was renamed');
state_is($node, 'copy', 'c', 'failed', 'a copy of the database does not start it') if $node->restart || 1;
is($node->safe_psql('copy', q{SELECT docrep.resume_tasks()}), 1, 'before it is resumed');
$node->safe_psql('copy', q{INSERT INTO s VALUES ('c', '{}')});
arrives($node, 'copy', 't', 'c', 'then it runs');
$node->safe_psql('copy', q{BEGIN; DROP EXTENSION docrep CASCADE; ROLLBACK; INSERT INTO s VALUES ('d', '{}')});
arrives($node, 'copy', 't', 'd', 'DROP EXTENSION that is rolled back');
$node->safe_psql('copy', q{DROP EXTENSION docrep CASCADE; CREATE EXTENSION docrep});
is($node->safe_psql('copy', q{SELECT count(*) FROM docrep.replicator}), 0, 'DROP EXTENSION leaves no tasks');
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', 'DROP DATABASE moved');
pass('databases with tasks can be dropped');

# --- credentials --------------------------------------------------------------------

my $log = -s $node->logfile;
sql(q{INSERT INTO docrep.replicator VALUES ('secret', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9", "continuous": true, "retries_per_request": 0}')});
state_is($node, 'app', 'secret', 'error', 'a peer that is not there: error');
my ($rc, $out, $err) = $node->psql('app', q{INSERT INTO docrep.replicator VALUES ('secret', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}')});
isnt($rc, 0, 'the same id once more is an error');
($rc, $out, $err) = $node->psql('app', q{INSERT INTO docrep.replicator VALUES ('secret2', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "nosuch"}')});
isnt($rc, 0, 'so is a target that is not there');
($rc, $out, $err) = $node->psql('app', q{SELECT docrep.set_destinations('s', '{"Destinations": [{"Url": "http://127.0.0.1:1/db", "Username": "joe", "Password": "sesame", "Colour": 1}]}')});
isnt($rc, 0, 'and a bad destination');
foreach my $bad (
	q{SELECT docrep.start('secret', 't9', 'postgresql://joe@127.0.0.1:1/db?password=sesame#t')},
	q{SELECT docrep.put('docrep.replicator', '{"_id": "secret", "source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}')},
	q{SELECT docrep.put('docrep.replicator', '{"_id": "secret2", "_colour": 1, "source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}')},
	q{SELECT docrep.bulk_docs('docrep.replicator', '[{"_id": "secret2", "source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}, 1]')},
	q{DO $$ BEGIN BEGIN PERFORM docrep.start('secret2', 't9', 'http://joe:sesame@127.0.0.1:1/db', '{"colour": 1}'); EXCEPTION WHEN OTHERS THEN NULL; END; PERFORM 1 / 0; END $$},
	q{DO $$ BEGIN INSERT INTO docrep.replicator VALUES ('secret', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}');
		EXCEPTION WHEN unique_violation THEN RAISE EXCEPTION 'exists'; END $$},
	# the first row, which fails, has none
	q{INSERT INTO docrep.replicator VALUES ('secret', '{"source": "s", "target": "t9"}'), ('secret3', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}')},
	q{BEGIN; SAVEPOINT a; INSERT INTO docrep.replicator VALUES ('secret3', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}'); RELEASE a; SELECT 1 / 0})
{
	isnt(($node->psql('app', $bad))[0], 0, 'an error: ' . substr $bad, 0, 50);
}
$node->psql('app', q{BEGIN; SAVEPOINT a;
	INSERT INTO docrep.replicator VALUES ('secret', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t9"}');
	ROLLBACK TO a;
	SELECT 1 / 0}, on_error_stop => 0);
my $logged = slurp_file($node->logfile, $log);
like($logged, qr/STATEMENT:  SELECT 1/, 'the next statement is shown');
unlike($logged, qr/sesame/, 'the log has no password');
is(sql(q{SELECT count(*) FROM docrep.replicator r WHERE r::text ~ 'sesame'}), 0, 'nor has the table');
is(sql(q{SELECT count(*) FROM docrep.active_tasks a WHERE a::text ~ 'sesame'}), 0, 'nor the view');
sql(q{SELECT docrep.cancel('secret')});

unlike(slurp_file($node->logfile), qr/"template0" is not currently accepting/, 'nobody looks for tasks where nobody can connect');

# --- promotion ------------------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
sql(q{INSERT INTO docrep.replicator VALUES ('late', '{"source": "s", "target": "t100", "continuous": true}')});
state_is($node, 'app', 'late', 'triggered', 'a task that is written after the backup');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('app', q{SELECT count(*) FROM docrep.active_tasks}), 0, 'a standby runs none');
$node->stop('immediate');
$standby->promote;
$standby->safe_psql('app', q{INSERT INTO s VALUES ('promoted', '{}')});
arrives($standby, 'app', 't100', 'promoted', 'the promoted standby runs it');
arrives($standby, 'app', 't70', 'promoted', 'and the others');
$standby->stop;

# --- too few slots ----------------------------------------------------------------------

my $small = new_node('small', conf => "docrep.max_jobs = 10\ndocrep.max_workers = 4\n");
$small->safe_psql('postgres', q{SELECT docrep.create_table('s'); SELECT docrep.create_table('t' || i) FROM generate_series(1, 12) i;
	INSERT INTO s VALUES ('a', '{}');
	INSERT INTO docrep.replicator SELECT 'c' || i, format('{"source": "s", "target": "t%s", "continuous": true}', i)::jsonb FROM generate_series(1, 12) i});
ok($small->poll_query_until('postgres', q{SELECT count(*) = 2 FROM docrep.replicator WHERE doc ->> '_replication_state' = 'error'
	AND doc ->> '_replication_state_reason' ~ 'max_jobs'}), 'no slot is free: the rows say so');
like(slurp_file($small->logfile), qr/replication tasks wait for a free slot.*\n.*HINT:  Increase docrep.max_jobs/, 'and the log');
$small->safe_psql('postgres', q{DELETE FROM docrep.replicator WHERE doc ->> '_replication_state' = 'triggered'});
ok($small->poll_query_until('postgres', q{SELECT count(*) = 2 FROM docrep.replicator WHERE doc ->> '_replication_state' = 'triggered'}),
	'they start when there is room');
$small->stop;

done_testing();
