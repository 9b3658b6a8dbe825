# Anything at any time: processes are terminated, statements send them away, replication is
# paused, the target server goes and comes, while tasks are edited and documents written.
# In the end the jobs are those of the tasks and everything has arrived.
use strict;
use warnings;

use DocrepCouch;
use DocrepSession;
use DocrepTest qw(:DEFAULT contents is_same_contents);
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = seed();
srand $seed;
note("DOCREP_SEED=$seed");

my $conf = <<'CONF';
docrep.max_workers = 4
docrep.park_after = 50ms
docrep.worker_linger = 50ms
docrep.scheduler_interval = 100ms
docrep.max_retry_interval = 1s
client_min_messages = warning
CONF
my $node = new_node('here', databases => ['app'], conf => $conf);
my $there = new_node('there', databases => ['far'], conf => $conf);
my $couch = DocrepCouch->new;
my $n = 8;

sub sql { return $node->safe_psql($_[1] // 'app', $_[0]) }

sql(qq{SELECT docrep.create_table('s'), docrep.create_table('back'); SELECT docrep.create_table('t' || i), docrep.create_table('p' || i) FROM generate_series(1, $n) i;
	CREATE SEQUENCE public.docs});
$there->safe_psql('far', qq{SELECT docrep.create_table('s'); SELECT docrep.create_table('f' || i) FROM generate_series(1, $n) i});
$couch->create("c$_") foreach 1 .. $n;

# The tasks as they shall be in the end: each in one of two definitions, or not there.
my %target;
$target{"local$_"} = [ 's', "t$_" ] foreach 1 .. $n;
$target{"push$_"} = [ 's', pg_url($there, 'far', table => "f$_") ] foreach 1 .. $n;
$target{"pull$_"} = [ pg_url($there, 'far', table => 's'), "p$_" ] foreach 1 .. $n;
$target{"couch$_"} = [ 's', $couch->url("c$_") ] foreach 1 .. $n;

sub definition
{
	my ($id, $more) = @_;
	$more .= ', "retries_per_request": 1, "connection_timeout": 3000' if $id =~ /couch/;
	return qq{'{"source": "$target{$id}[0]", "target": "$target{$id}[1]", "continuous": true$more}'};
}
sub insert { return "INSERT INTO docrep.replicator(_id, doc) VALUES ('$_[0]', " . definition($_[0], $_[1] // '') . ') ON CONFLICT DO NOTHING;' }

sql(join '', map { insert($_) } sort keys %target);

# Somebody writes all the time, in both servers.
my @writers = map { DocrepSession->new($_->[0], $_->[1], app => 'writer') } [ $node, 'app' ], [ $there, 'far' ];
foreach my $writer (@writers)
{
	$writer->must(q{CREATE PROCEDURE public.write() LANGUAGE plpgsql AS $$
		BEGIN
			FOR i IN 1..1000000 LOOP
				INSERT INTO s(_id, doc) VALUES ('d' || i % 500, jsonb_build_object('n', i)) ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc;
				COMMIT;
				PERFORM pg_sleep(0.01);
			END LOOP;
		END $$});
	$writer->send('CALL public.write()');
}

my %done;
my @chaos = (
	terminate => sub {
		sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ '^docrep' ORDER BY random() LIMIT 1}, 'postgres');
	},
	terminate => sub {
		my $type = (qw(worker keeper watcher launcher))[ rand 4 ];
		sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'docrep $type'", 'postgres');
	},
	edit => sub {
		my @ids = sort keys %target;
		my $id = $ids[ rand @ids ];
		my $more = (', "worker_batch_size": 5', ', "disabled": true', ', "since_seq": 1', '')[ rand 4 ];
		sql("UPDATE docrep.replicator SET doc = " . definition($id, $more) . " WHERE _id = '$id'");
	},
	delete => sub {
		my @ids = sort keys %target;
		sql("DELETE FROM docrep.replicator WHERE _id = '$ids[rand @ids]'");
		sql(join '', map { insert($_) } @ids);
	},
	rollback => sub { sql('BEGIN; DELETE FROM docrep.replicator; ROLLBACK') },
	drop => sub { sql('BEGIN; DROP EXTENSION docrep CASCADE; ROLLBACK') },
	copy => sub { sql('CREATE DATABASE copy TEMPLATE postgres', 'postgres'); sql('DROP DATABASE copy', 'postgres') },
	pause => sub {
		foreach my $paused (qw(on off))
		{
			sql("ALTER SYSTEM SET docrep.paused = $paused");
			sql('SELECT pg_reload_conf()');
		}
	},
	away => sub {
		$there->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'far' AND application_name <> 'writer' AND pid <> pg_backend_pid()});
	},
	couch => sub { $couch->stop; sleep 0.2; $couch->start });

my $end = time + (is_soak() ? 900 : 25);
while (time < $end || keys %done < 8)
{
	# a slow machine takes longer until much has happened
	my $i = 2 * int rand @chaos / 2;
	eval { $chaos[ $i + 1 ]->(); $done{ $chaos[$i] }++; 1 } or do { fail("$chaos[$i]: $@"); last };
	sleep rand 0.2;
}
note(join ', ', map { "$_: $done{$_}" } sort keys %done);
cmp_ok(scalar(keys %done), '>=', 8, 'much has happened');

# --- and then peace --------------------------------------------------------------------

foreach my $server ([ $node, 'app' ], [ $there, 'far' ])
{
	$server->[0]->safe_psql($server->[1], q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'});
}
$_->close foreach @writers;
sql(join '', map { "UPDATE docrep.replicator SET doc = " . definition($_, '') . " WHERE _id = '$_' AND doc->>'disabled' = 'true';" } sort keys %target);
sql(join '', map { insert($_) } sort keys %target);
my $begin = time;
my $all = keys %target;
wait_for_query($node, 'app', q{SELECT count(*) FILTER (WHERE state = 'running' AND error_count = 0) || '/' || count(*) FROM docrep.scheduler_docs}, "$all/$all");
pass(sprintf 'all tasks run after %.1f s', time - $begin);
ok(wait_for_query($node, 'app', q{SELECT count(*) || '/' || count(DISTINCT doc_id) FROM docrep.active_tasks}, "$all/$all"), 'one job each');
wait_for_query($node, 'app', q{SELECT count(*) FROM docrep.replicator WHERE doc->>'_replication_state' IS DISTINCT FROM 'triggered'}, '0');
pass('and their rows say so');

# A last document, and all before it.
sql(q{INSERT INTO s(_id, doc) VALUES ('last', '{}')});
$there->safe_psql('far', q{INSERT INTO s(_id, doc) VALUES ('last', '{}')});
my %same = (
	app => q{SELECT count(*) FROM s x FULL JOIN %s y USING (_id) WHERE x._rev IS DISTINCT FROM y._rev},
);
foreach my $i (1 .. $n)
{
	wait_for_query($node, 'app', sprintf($same{app}, "t$i"), '0');
	wait_for_query($there, 'far', "SELECT count(*) FROM f$i WHERE _id = 'last'", '1');
	wait_for_query($node, 'app', "SELECT count(*) FROM p$i WHERE _id = 'last'", '1');
	my $there_are = sql('SELECT count(*) FROM s');
	wait_until(sub { keys %{ $couch->contents("c$i") } == $there_are }, undef, "the CouchDB to have it all, $i");
}
is_same_contents(contents($node, 'app', 's', digest => 1), contents($node, 'app', 't1', digest => 1), 'local');
is_same_contents(contents($node, 'app', 's', digest => 1), contents($there, 'far', 'f1', digest => 1), 'push');
is_same_contents(contents($there, 'far', 's', digest => 1), contents($node, 'app', 'p1', digest => 1), 'pull');

# Parked, they hold nothing.
wait_for_query($node, 'app', q{SELECT count(*) FILTER (WHERE state = 'parked') FROM docrep.active_tasks}, $all);
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('docrep worker', 'docrep keeper')}, '0');
pass('all are parked, without a process');
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
$_->stop foreach $node, $there;
done_testing();
