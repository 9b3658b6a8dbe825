# Replications that are cut off go on from their checkpoint, and a pair of
# continuous ones that face each other converges and goes quiet.
use strict;
use warnings;

use DocrepTest;
use IPC::Run;
use JSON::PP;
use Test::More;

my $near = new_node('near', databases => ['one']);
my $other = new_node('other', databases => ['far']);
my $total = 1500;
my $batch = 100;

$near->safe_psql('one', qq{
	SELECT docrep.create_table('src');
	INSERT INTO src(_id, doc) SELECT 'doc' || i, jsonb_build_object('n', i) FROM generate_series(1, $total) i});

# Makes a target that takes in half of what there is and then stops, until there is
# a row in its companion "go": so a run can be cut off in the middle of it.
sub slow_target
{
	my ($node, $db, $table) = @_;
	$node->safe_psql($db, qq{
		SELECT docrep.create_table('$table');
		CREATE TABLE public.go_$table(n int);
		CREATE FUNCTION slow_$table() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			WHILE (SELECT count(*) FROM public.$table) > $total / 2 AND NOT EXISTS (SELECT FROM public.go_$table) LOOP
				PERFORM pg_sleep(0.02);
			END LOOP;
			RETURN NULL;
		END \$\$;
		CREATE TRIGGER slow AFTER INSERT ON $table EXECUTE FUNCTION slow_$table()});
}

# Starts a one-shot replication that nobody waits for, and cuts it off by $how
# when a checkpoint is on both sides and some more batches have been written.
# Returns how many documents are at the target then.
sub cut_off
{
	my ($target, $node, $db, $table, $how) = @_;
	my ($out, $err) = ('', '');
	my $caller = IPC::Run::start(
		[ 'psql', '-XAt', '-d', $near->connstr('one'), '-c',
			"SELECT docrep.replicate('src', '$target', '{\"worker_batch_size\": $batch}')" ],
		'>', \$out, '2>', \$err);

	wait_for_query($near, 'one', q{SELECT checkpointed_source_seq <> '0' AND docs_written >= 300
		FROM docrep.active_tasks WHERE pid IS NOT NULL});
	$how->($near->safe_psql('one', 'SELECT pid FROM docrep.active_tasks'));
	$caller->finish;
	isnt($err, '', 'the caller is told');
	wait_for_query($near, 'one', 'SELECT count(*) FROM docrep.active_tasks', 0);

	# what the other side was writing is finished there, or not
	$node->safe_psql($db, "INSERT INTO public.go_$table VALUES (1)");
	wait_for_query($node, $db, q{SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'}, 0);
	$node->safe_psql($db, "DROP TRIGGER slow ON $table");
	return $node->safe_psql($db, "SELECT count(*) FROM $table");
}

sub rerun
{
	my ($target) = @_;
	return decode_json($near->safe_psql('one',
		"SELECT docrep.replicate('src', '$target', '{\"worker_batch_size\": $batch}')"));
}

# Each document was stored once: a second time would have taken a number.
sub stored_once
{
	my ($node, $db, $table, $name) = @_;
	is($node->safe_psql($db, "SELECT count(*), count(DISTINCT _seq) FROM $table"),
		"$total|$total", "$name: everything is there");
}

my $terminate = sub { $near->safe_psql('one', "SELECT pg_terminate_backend($_[0])") };
my $kill = sub {
	kill 'KILL', $_[0];
	wait_for_query($near, 'one', 'SELECT true');
};

# --- a local target: documents and checkpoint commit together ---

foreach my $case ([ 'terminated', 'll', $terminate ], [ 'killed', 'crashed', $kill ])
{
	my ($name, $table, $how) = @$case;

	slow_target($near, 'one', $table);
	my $there = cut_off($table, $near, 'one', $table, $how);
	cmp_ok($there, '>=', $batch, "$name: some batches are at the target");
	cmp_ok($there, '<', $total, "$name: and others are not");

	my $result = rerun($table);
	is($result->{docs_written}, $total - $there, "$name: the rest is written");
	is($result->{missing_checked}, $total - $there, "$name: nothing else is even looked at");
	is(scalar @{ $result->{history} }, 2, "$name: the history has both sessions");
	is($result->{history}[0]{start_last_seq}, $result->{history}[1]{recorded_seq},
		"$name: and the second begins where the first ended");
	stored_once($near, 'one', $table, $name);
}

# --- a target at another server ---

slow_target($other, 'far', 'pushed');
my $far = pg_url($other, 'far', table => 'pushed');
my $there = cut_off($far, $other, 'far', 'pushed', $terminate);
my $result = rerun($far);
is($result->{docs_written}, $total - $there, 'push: the rest is written');
cmp_ok($result->{missing_checked}, '<=', $total - $there + 2 * $batch,
	'push: and little else is looked at');
stored_once($other, 'far', 'pushed', 'push');

# --- both ways at once ---

# What was written apart is in conflict.
$near->safe_psql('one', q{SELECT docrep.create_table('east');
	INSERT INTO east(_id, doc) SELECT 'apart' || i, '{"by": "east"}' FROM generate_series(1, 20) i});
$other->safe_psql('far', q{SELECT docrep.create_table('west');
	INSERT INTO west(_id, doc) SELECT 'apart' || i, '{"by": "west"}' FROM generate_series(1, 20) i});
my $west = pg_url($other, 'far', table => 'west');
foreach my $pair ("'east', '$west'", "'$west', 'east'")
{
	$near->safe_psql('one', "SELECT docrep.replicate($pair, '{\"continuous\": true}')");
}

sub leaves
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, qq{SELECT id, changes, deleted
		FROM docrep.changes('$table', style => 'all_docs') ORDER BY id COLLATE "C"});
}

sub update_seq
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, "SELECT coalesce(max(seq), 0) FROM docrep.changes('$table')");
}

# Both jobs have seen everything that is there, and have nothing to do.
sub quiet
{
	my $east = update_seq($near, 'one', 'east');
	my $west_seq = update_seq($other, 'far', 'west');
	return $near->safe_psql('one', qq{SELECT count(*) = 2 FROM docrep.active_tasks WHERE state IN ('idle', 'parked')
		AND split_part(through_seq, '-', 1)::bigint >= CASE source WHEN 'east' THEN $east ELSE $west_seq END}) eq 't';
}

# Writers on both sides, on the same ids, with deletions; a document a transaction,
# as two in any order could meet a batch in a deadlock.
my @writers;
foreach my $side ([ $near, 'one', 'east' ], [ $other, 'far', 'west' ])
{
	my ($node, $db, $table) = @$side;
	my $sql = qq{DO \$\$ BEGIN FOR i IN 1..300 LOOP
		INSERT INTO $table(_id, doc) VALUES ('d' || i % 40, jsonb_build_object('by', '$table', 'i', i))
			ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
		COMMIT;
		IF i % 13 = 0 THEN DELETE FROM $table WHERE _id = 'd' || (i + 5) % 40; END IF;
		COMMIT; END LOOP; END \$\$};
	push @writers, IPC::Run::start([ 'psql', '-X', '-d', $node->connstr($db), '-c', $sql ], '>', \my $out, '2>&1');
}
ok($_->finish, 'a writer is done') foreach @writers;

wait_until(sub { leaves($near, 'one', 'east') eq leaves($other, 'far', 'west') }, undef, 'both sides to be equal');
pass('both ways: both sides converge');
is($near->safe_psql('one', q{SELECT count(*) FROM docrep.changes('east', style => 'all_docs')
	WHERE id LIKE 'apart%' AND jsonb_array_length(changes) = 2}), '20', 'both ways: with conflicts');
wait_until(\&quiet, undef, 'both jobs to have nothing to do');
is($near->safe_psql('one', q{SELECT count(*) FROM docrep.check('east')}), '0', 'both ways: consistent here');
is($other->safe_psql('far', q{SELECT count(*) FROM docrep.check('west')}), '0', 'both ways: consistent there');

# One write makes one change on each side and no more.
my @before = (update_seq($near, 'one', 'east'), update_seq($other, 'far', 'west'));
$near->safe_psql('one', q{INSERT INTO east(_id, doc) VALUES ('once', '{}')});
wait_for_query($other, 'far', q{SELECT count(*) FROM west WHERE _id = 'once'}, 1);
$other->safe_psql('far', q{INSERT INTO west(_id, doc) VALUES ('and back', '{}')});
wait_for_query($near, 'one', q{SELECT count(*) FROM east WHERE _id = 'and back'}, 1);
wait_until(\&quiet, undef, 'both jobs to have nothing to do again');
is(update_seq($near, 'one', 'east') . ' ' . update_seq($other, 'far', 'west'),
	($before[0] + 2) . ' ' . ($before[1] + 2), 'both ways: a document does not come back');
is($near->safe_psql('one', 'SELECT sum(doc_write_failures) FROM docrep.active_tasks'), '0',
	'both ways: nothing was refused');

done_testing();
