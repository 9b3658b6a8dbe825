# A hundred tasks in all states survive crashes of the server and of each of our processes:
# states are right within seconds, what is over does not run again, nothing is lost and
# nothing is written twice.  Then many sessions change tasks at once, and memory stays flat.
use strict;
use warnings;

use DocrepCouch;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote contents is_same_contents);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('here', databases => [ 'app', 'far' ], tcp => 1, conf => <<'CONF');
docrep.max_workers = 8
docrep.park_after = 300ms
docrep.worker_linger = 500ms
docrep.scheduler_interval = 500ms
docrep.max_retry_interval = 2s
max_locks_per_transaction = 256
client_min_messages = warning
CONF
my $couch = DocrepCouch->new;
my @roles = qw(ann bob);
my $couches = 6;
my $n_local = 50;

sub sql
{
	my ($query, $db, %opts) = @_;
	return $node->safe_psql($db // 'app', $query, %opts);
}

# --- tables ----------------------------------------------------------------------

sql(q{CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN});
foreach my $db (qw(app far))
{
	sql(q{GRANT CREATE ON SCHEMA public TO ann, bob}, $db);

	# counts how often each revision is written
	sql(q{CREATE TABLE public.writes(tbl text, id text, rev text, at timestamptz DEFAULT clock_timestamp());
		GRANT ALL ON public.writes TO PUBLIC;
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.writes SELECT TG_TABLE_NAME, NEW._id, NEW._rev::text;
			RETURN NULL;
		END $$}, $db);
}
sql(q{GRANT ALL ON docrep.replicator TO ann, bob; SELECT docrep.create_table('s'); GRANT ALL ON s TO ann, bob});
sql(qq{DO \$\$ DECLARE t text; BEGIN
	FOR i IN 1..$n_local LOOP
		t := 't' || i;
		PERFORM docrep.create_table(t);
		EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION public.note()', t);
		EXECUTE format('GRANT ALL ON %I TO ann, bob', t);
	END LOOP;
	PERFORM docrep.create_table('c' || i), docrep.create_table('g' || i) FROM generate_series(1, 9) i; END \$\$});
sql(q{DO $$ DECLARE t text; BEGIN
	PERFORM docrep.create_table('s');
	FOR i IN 1..10 LOOP
		t := 'f' || i;
		PERFORM docrep.create_table(t);
		EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION public.note()', t);
	END LOOP; END $$}, 'far');
$couch->create("c$_") foreach 1 .. $couches;
$couch->create('source');

# --- tasks -----------------------------------------------------------------------

my %expected;                  # what scheduler_docs says in the end
my $refused = 'http://127.0.0.1:1/nobody';

# A task of a role, and what is expected of it.
sub task
{
	my ($id, $state, $source, $target, $more, $role) = @_;
	$expected{$id} = $state;
	return ($role ? "SET ROLE $role; " : '')
	  . "INSERT INTO docrep.replicator(_id, doc) VALUES ('$id', jsonb_build_object('source', '$source', 'target', '$target') || '"
	  . ($more // '{}') . "'); RESET ROLE;\n";
}

my $live = '{"continuous": true, "worker_batch_size": 20}';
my $make = '';
$make .= task("local$_", 'running', 's', "t$_", $live, $_ % 3 ? $roles[ $_ % 3 - 1 ] : undef) foreach 1 .. 40;
$make .= task("once$_", 'completed', 's', "t$_", undef, $_ % 3 ? $roles[ $_ % 3 - 1 ] : undef) foreach 41 .. 48;
$make .= task("push$_", 'running', 's', pg_url($node, 'far', table => "f$_"), $live) foreach 1 .. 8;
$make .= task("pull$_", 'running', pg_url($node, 'far', table => 's'), "g$_", $live) foreach 1 .. 8;
$make .= task("couch$_", 'running', 's', $couch->url("c$_"), $live) foreach 1 .. $couches;
$make .= task("pullcouch$_", 'running', $couch->url('source'), "c$_", $live) foreach 1 .. 6;
$make .= task("far_once$_", 'completed', 's', pg_url($node, 'far', table => "f$_")) foreach 9 .. 10;
$make .= task("away$_", 'crashing', 's', "$refused$_", '{"continuous": true, "retries_per_request": 0}') foreach 1 .. 6;
$make .= task("away_once$_", 'crashing', "$refused$_", "c7", '{"retries_per_request": 0}') foreach 1 .. 2;
$make .= task("twice$_", 'failed', 's', "t$_", $live) foreach 3, 6, 9;
$make .= task("off$_", 'pending', 's', "c$_", '{"continuous": true, "disabled": true}') foreach 8 .. 9;
$make .= task("held$_", 'failed', 's', "c$_", '{"continuous": true, "worker_processes": 2}') foreach 8 .. 9;

# Documents, before and while they run.
my $written = 0;

sub more
{
	my ($count, @dbs) = @_;
	my $from = $written + 1;
	$written += $count;
	sql(qq{INSERT INTO s(_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series($from, $written) i}, $_)
	  foreach @dbs ? @dbs : qw(app far);
	$couch->fill('source', $from, $written) unless @dbs;
	return;
}

more(200);
sql($make . q{UPDATE docrep.replicator SET doc = doc WHERE false});

# What comes out of a dump is held.
sql(q{DELETE FROM docrep.replicator WHERE _id LIKE 'held%';
	INSERT INTO docrep.replicator(_id, doc, owner) VALUES
	('held8', '{"source": "s", "target": "c8", "continuous": true}', 'ann'), ('held9', '{"source": "s", "target": "c9"}', 'bob')});
cmp_ok(scalar(keys %expected), '>=', 90, keys(%expected) . ' tasks');

# Each task is in the state that is expected; returns how many are not.
my $values = join ', ', map { "('$_', '$expected{$_}')" } sort keys %expected;
my $differ = qq{SELECT coalesce(string_agg(e.id || ': ' || coalesce(d.state, 'none'), ', '), '') FROM (VALUES $values) e(id, state)
	FULL JOIN docrep.scheduler_docs d ON d.doc_id = e.id WHERE d.state IS DISTINCT FROM e.state
		AND NOT (e.state = 'crashing' AND d.state IN ('pending', 'running') AND d.error_count > 0)
		AND NOT (e.state = 'running' AND d.state = 'pending' AND d.error_count = 0)};

sub states_right
{
	my ($what) = @_;
	my $begin = time;
	wait_for_query($node, 'app', $differ, '');
	return pass(sprintf '%s: every task is in its state after %.1f s', $what, time - $begin);
}

# Everything is everywhere, and no revision was written twice.
my @full = ((map { "t$_" } 1 .. 40), (map { "c$_" } 1 .. 6), map { "g$_" } 1 .. 8);
my $arrived = 'SELECT ' . join(' AND ', map { "(SELECT count(*) FROM $_) = %d" } @full);
my $arrived_far = 'SELECT ' . join(' AND ', map { "(SELECT count(*) FROM f$_) = %d" } 1 .. 8);

sub nothing_lost
{
	my ($what) = @_;
	my $begin = time;
	wait_for_query($node, 'app', $arrived =~ s/%d/$written/gr, 't');
	wait_for_query($node, 'far', $arrived_far =~ s/%d/$written/gr, 't');
	wait_until(sub { !grep { keys %{ $couch->contents("c$_") } != $written } 1 .. $couches }, undef, 'the CouchDB to have it');
	pass(sprintf '%s: nothing is lost (%.1f s)', $what, time - $begin);
	foreach my $db (qw(app far))
	{
		is(sql(q{SELECT tbl, id, rev, count(*) FROM public.writes GROUP BY 1, 2, 3 HAVING count(*) > 1 LIMIT 5}, $db),
			'', "... and nothing is written twice ($db)");
	}
	return;
}

# What is over stays as it is.
my $over = q{SELECT md5(string_agg(_id || doc::text || _rev, ',' ORDER BY _id)) FROM docrep.replicator WHERE doc->>'_replication_state' IN ('completed', 'failed')};
my $over_tables = 'SELECT ' . join(" || ' ' || ", map { "(SELECT count(*) FROM t$_)" } 41 .. 48);

states_right('at the start');
nothing_lost('at the start');
my ($over_before, $over_there) = (sql($over), sql($over_tables));
is($over_there, join(' ', (200) x 8), 'one-shots have brought everything');

# Exactly the jobs that are wanted: one a live task.
sub right_jobs
{
	my ($what) = @_;
	wait_for_query($node, 'app', q{SELECT coalesce(string_agg(coalesce(a.doc_id, d.doc_id), ','), '')
		FROM (SELECT doc_id FROM docrep.active_tasks) a FULL JOIN
		(SELECT doc_id FROM docrep.scheduler_docs WHERE state IN ('running', 'crashing', 'pending') AND NOT disabled) d USING (doc_id)
		WHERE a.doc_id IS NULL OR d.doc_id IS NULL}, '');
	is(sql(q{SELECT count(*) FROM (SELECT doc_id FROM docrep.active_tasks GROUP BY 1 HAVING count(*) > 1) t}), '0', "$what: one job each");
	return;
}
right_jobs('at the start');

# --- crashes, in the middle of batches ---------------------------------------------

# Kills the newest process of a type; one that has just ended is none.
sub kill_one
{
	my ($type) = @_;
	return wait_until(
		sub {
			my $pid = sql(qq{SELECT pid FROM pg_stat_activity WHERE backend_type = 'docrep $type' ORDER BY backend_start DESC LIMIT 1}, 'postgres');
			my $file;
			open $file, '<', "/proc/$pid/cmdline" if $pid ne '';
			return 1 if $file && (readline($file) // '') =~ /docrep $type/ && kill 'KILL', $pid;

			# these come when a task has changed
			sql(q{INSERT INTO docrep.replicator(_id, doc) VALUES ('extra', '{"source": "s", "target": "c7", "continuous": true}');
				DELETE FROM docrep.replicator WHERE _id = 'extra'}) if $type eq 'keeper';
			return 0;
		}, undef, "a $type");
}

foreach my $what ('immediate shutdown', qw(worker launcher keeper watcher), 'fast shutdown')
{
	my $writer = DocrepSession->new($node, 'app');
	my $from = $written + 1;
	my $to = $written += 150;

	# small commits, so that there are batches all the time
	$writer->must(qq{CREATE OR REPLACE PROCEDURE public.feed(a int, b int) LANGUAGE plpgsql AS \$\$
		BEGIN
			FOR i IN a..b LOOP
				INSERT INTO s(_id, doc) VALUES ('d' || i, jsonb_build_object('n', i)) ON CONFLICT DO NOTHING;
				COMMIT;
				PERFORM pg_sleep(0.005);
			END LOOP;
		END \$\$});
	$writer->send("CALL public.feed($from, $to)");
	wait_for_query($node, 'app', 'SELECT count(*) > ' . ($from + 10) . ' FROM s', 't');
	if ($what =~ /(.*) shutdown/)
	{
		$node->stop($1);
		$node->start;
	}
	else
	{
		my $log = -s $node->logfile;
		kill_one($what);
		wait_until(sub { log_has($node, qr/terminated by signal 9.*database system is ready to accept/s, $log) }, undef, 'the server to restart');
	}
	$writer->close;
	wait_for_query($node, 'app', 'SELECT true', 't');
	states_right($what);
	sql("CALL public.feed($from, $to)");
	sql(qq{INSERT INTO s(_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series($from, $to) i}, 'far');
	$couch->fill('source', $from, $to);
	nothing_lost($what);
	is(sql($over), $over_before, '... what is over has not changed');
	is(sql($over_tables), $over_there, '... nor run again');
	is(sql('SELECT (SELECT count(*) FROM c8) + (SELECT count(*) FROM c9)'), '0', '... and what is held or disabled has not run');
	right_jobs($what);
}
is_same_contents(contents($node, 'app', 's', digest => 1), contents($node, 'app', 't1', digest => 1), 'source and target are the same');

# Some go on from their checkpoints: they have not read everything again.
is(sql(q{SELECT bool_and(revisions_checked < 1000) FROM docrep.active_tasks WHERE doc_id LIKE 'local%'}), 't', 'tasks go on from their checkpoints');

# --- a task is what has been committed ------------------------------------------------

sql(q{DELETE FROM docrep.replicator});
wait_for_query($node, 'app', 'SELECT count(*) FROM docrep.active_tasks', '0');
pass('without tasks there is no job');

my $rounds = is_soak() ? 300 : 25;
my @sessions;
foreach my $k (1 .. 4)
{
	my $session = DocrepSession->new($node, 'app', app => "editor$k");
	$session->must(qq{
		CREATE OR REPLACE PROCEDURE public.edit$k(rounds int) LANGUAGE plpgsql AS \$\$
		DECLARE r int; i int; d jsonb;
		BEGIN
			FOR n IN 1..rounds LOOP
				FOR m IN 1..5 LOOP
					-- shared and own tasks; the targets of a task are always among its own
					i := 1 + floor(random() * 10);
					d := format('{"source": "s", "target": "t%s", "continuous": true, "disabled": %s, "doc_ids": ["d%s"]}',
						$k * 10 - 10 + i, (random() < 0.2)::text, floor(random() * 5))::jsonb;
					BEGIN
						r := floor(random() * 3);
						IF r = 0 THEN
							INSERT INTO docrep.replicator(_id, doc) VALUES ('e$k-' || i, d) ON CONFLICT DO NOTHING;
						ELSIF r = 1 THEN
							UPDATE docrep.replicator SET doc = d WHERE _id = 'e$k-' || i;
						ELSE
							DELETE FROM docrep.replicator WHERE _id = 'e$k-' || i;
						END IF;
						IF random() < 0.2 THEN RAISE division_by_zero; END IF;
					EXCEPTION WHEN division_by_zero THEN NULL;
					END;
				END LOOP;
				IF random() < 0.25 THEN ROLLBACK; ELSE COMMIT; END IF;
				PERFORM pg_sleep(random() * 0.05);
			END LOOP;
		END \$\$});
	push @sessions, $session;
}
$sessions[ $_ - 1 ]->send("CALL public.edit$_($rounds)") foreach 1 .. @sessions;
more(20);
foreach my $session (@sessions)
{
	$session->receive;
	is($session->{sqlstate}, '00000', 'a session that edits tasks is done') or diag($session->{output});
	$session->close;
}
wait_for_query($node, 'app', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'initializing'}, '0');
right_jobs('after many edits');
wait_for_query($node, 'app', q{
	WITH want AS (SELECT _id, doc->>'target' AS target FROM docrep.replicator WHERE NOT coalesce((doc->>'disabled')::boolean, false))
	SELECT (SELECT coalesce(string_agg(_id || target, ',' ORDER BY _id), '') FROM want) =
		(SELECT coalesce(string_agg(doc_id || target, ',' ORDER BY doc_id), '') FROM docrep.active_tasks)}, 't');
pass('the jobs are those of the rows, with their definitions');
is(sql(q{SELECT count(*) FROM docrep.scheduler_docs d FULL JOIN docrep.replicator r ON r._id = d.doc_id WHERE r._id IS NULL OR d.doc_id IS NULL}), '0',
	'every row has its state, and nothing else');
is(sql(q{SELECT count(*) FROM docrep.check('docrep.replicator')}), '0', 'the table is sound');
sql(q{DELETE FROM docrep.replicator});
wait_for_query($node, 'app', 'SELECT count(*) FROM docrep.active_tasks', '0');
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('docrep worker', 'docrep keeper')}, '0');
pass('in the end nothing is left of them');
$node->stop;
ok(!log_has($node, qr/PANIC|TRAP|segmentation/i), 'nothing died of itself');
done_testing();
