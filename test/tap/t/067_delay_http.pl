# Delayed replication from a CouchDB, which does not say when a change was made: what
# counts is when it was seen first.  That is remembered, so that a restart neither
# shortens the wait nor begins it anew; bodies are not.  A document that is edited again
# and again arrives in its versions, while the source still has them.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote check_table replicate);
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;

sub sql { my (@statements) = @_; return $node->safe_psql('one', join ";\n", @statements) }

sql(q{CREATE TABLE public.arrivals (tbl text, id text, t float8, n text, op text, at timestamptz DEFAULT clock_timestamp(), no serial)},
	q{CREATE FUNCTION public.arrive() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE r record;
	BEGIN
		IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF;
		INSERT INTO public.arrivals (tbl, id, t, n, op) VALUES (TG_TABLE_NAME, r._id, (r.doc->>'t')::float8, r.doc->>'n', TG_OP);
		RETURN NULL;
	END $$});

# A database and a table for it.
sub fresh
{
	my ($name) = @_;
	$couch->create($name);
	sql("SELECT docrep.create_table('$name')",
		"CREATE TRIGGER arrive AFTER INSERT OR UPDATE OR DELETE ON $name FOR EACH ROW EXECUTE FUNCTION public.arrive()");
	return;
}

# Puts a version of a document, with the time at which that happens.
my %paths;
sub put
{
	my ($db, $id, $n, %more) = @_;
	my $path = $paths{"$db/$id"} //= [];
	unshift @$path, DocrepFaults::rev(@$path + 1, "$id $n");
	$couch->put($db, { id => $id, revs => [@$path], body => sprintf('"t":%.6f,"n":"%s"', time, $n), %more });
	return;
}

sub start
{
	my ($name, %options) = @_;
	return sql('SELECT docrep.start(' . join(', ', map { quote($_) } $name, $couch->url($name), $name,
		JSON::PP->new->canonical->encode({ continuous => JSON::PP::true, %options })) . ')');
}

sub is_late_enough
{
	my ($table, $delay, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql("SELECT id, n, extract(epoch FROM at) - t FROM public.arrivals WHERE tbl = '$table' AND op <> 'DELETE' AND extract(epoch FROM at) < t + $delay"), '', $name);
}

# Another delay.  What is to be seen while it waits is looked at under one of an hour: however long that takes, it is there.
# (The source is then looked at once a minute while something waits, so what is to be seen at once comes before the task.)
sub set_delay
{
	my ($name, $delay) = @_;
	return sql("UPDATE docrep.replicator SET doc = doc || '{\"delay\": \"$delay\"}' WHERE _id = '$name'");
}

sub wait_count { my ($table, $n) = @_; return wait_for_query($node, 'one', "SELECT count(*) FROM $table", $n) }
sub waiting { my ($name) = @_; return "SELECT info #>> '{delayed,waiting}' FROM docrep.scheduler_docs WHERE doc_id = '$name'" }
sub marks { return sql('SELECT number, first_seen, seen, changes FROM docrep.delay_marks ORDER BY replication_id, number') }
sub wait_for_no_marks { return wait_for_query($node, 'one', 'SELECT count(*) FROM docrep.delay_marks', 0, 60) }

# ---------- first sight ----------

fresh('plain');
put('plain', "early$_", 1) foreach 1 .. 3;
start('plain', delay => '1 hour');
wait_for_query($node, 'one', waiting('plain'), '3', 60);
is(sql('SELECT count(*) FROM plain'), '0', 'what is seen for the first time waits, however old it may be');
is(sql(q{SELECT bool_and(entries::text !~ encode('"n"', 'hex')) FROM docrep.delay_marks}), 't', 'no bodies are kept here');
set_delay('plain', '2 s');
wait_count('plain', 3);
is(sql(q{SELECT count(*) FROM public.arrivals WHERE tbl = 'plain' AND extract(epoch FROM at) < t + 2}), '0', '... and comes after the delay');
put('plain', 'later', 1);
put('plain', 'early1', 2);
my $deleted = time;
put('plain', 'early2', 2, deleted => 1);
wait_for_query($node, 'one', q{SELECT string_agg(_id || ' ' || (doc->>'n'), ', ' ORDER BY _id) FROM plain}, 'early1 2, early3 1, later 1', 60);
is_late_enough('plain', 2, 'documents and updates');
is(sql("SELECT count(*) FROM public.arrivals WHERE tbl = 'plain' AND op = 'DELETE' AND extract(epoch FROM at) >= $deleted + 2"), '1', 'a deletion');
my $conflict = time;
$couch->put('plain', { id => 'early3', revs => ['1-' . '0' x 32], body => '"n":"loser"' });
wait_for_query($node, 'one', q{SELECT count(*) FROM docrep.changes('plain', style => 'all_docs') WHERE id = 'early3' AND changes::text ~ '1-0{32}"'}, '1', 60);
cmp_ok(time, '>=', $conflict + 2, 'a losing leaf');
wait_for_no_marks();
pass('marks of what has arrived are gone');
is(sql(q{SELECT info ->> 'doc_write_failures' FROM docrep.scheduler_docs WHERE doc_id = 'plain'}), '0', 'nothing was refused');

# ---------- restarts ----------

fresh('restarted');
put('restarted', "a$_", 1) foreach 1 .. 5;
start('restarted', delay => '1 hour');
wait_for_query($node, 'one', waiting('restarted'), '5', 60);
my $before = marks();
$node->stop('immediate');
$node->start;
my $after = marks();
is($after, $before, 'marks outlive a crash of the server');
wait_for_query($node, 'one', waiting('restarted'), '5', 60);
is(marks(), $before, '... and those who read them');
set_delay('restarted', '5 s');
put('restarted', 'b', 1);
wait_for_query($node, 'one', q{SELECT coalesce(info #>> '{delayed,delay_ms}', '') = '5000' FROM docrep.scheduler_docs WHERE doc_id = 'restarted'}, 't', 60);
sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'docrep worker'});
wait_count('restarted', 6);
is_late_enough('restarted', 5, 'restarts of the server and of workers do not shorten the wait');
is(sql(q{SELECT count(*) FROM public.arrivals WHERE tbl = 'restarted'}), '6', '... and nothing comes twice');

# ---------- a document that is edited all the time ----------

$couch->set(keeps_old => 1);
fresh('hot');
start('hot', delay => '1 s');
my $n = 0;
my $end = time + 60;
until (sql(q{SELECT count(DISTINCT n) > 2 FROM public.arrivals WHERE tbl = 'hot'}) eq 't' || time > $end)
{
	put('hot', 'hot', ++$n);
	sleep 0.2;
}
cmp_ok(sql(q{SELECT count(DISTINCT n) FROM public.arrivals WHERE tbl = 'hot'}), '>=', 3, "versions of a document arrive while it is edited every 0.2 s ($n versions)");
wait_for_query($node, 'one', q{SELECT doc->>'n' FROM hot}, $n, 60);
is_late_enough('hot', 1, '... each of them old enough');
$couch->set(keeps_old => 0);
put('hot', 'hot', ++$n) foreach 1 .. 3;
# seen, and not fetched yet; on a slow machine it may be there already
wait_for_query($node, 'one', qq{SELECT (SELECT count(*) > 0 FROM docrep.delay_marks) OR (SELECT doc->>'n' = '$n' FROM hot)}, 't', 60);
put('hot', 'hot', ++$n);
wait_for_query($node, 'one', q{SELECT doc->>'n' FROM hot}, $n, 60);
is_late_enough('hot', 1, 'what was compacted away arrives as what replaced it, when that is old enough');
is(sql(q{SELECT info ->> 'doc_write_failures', error_count FROM docrep.scheduler_docs WHERE doc_id = 'hot'}), '0|0', '... which is no failure');

# ---------- one-shots ----------

fresh('shot');
put('shot', "s$_", 1) foreach 1 .. 3;
my %shot = (delay => '1 hour');
my $result = replicate($node, 'one', $couch->url('shot'), 'shot', %shot);
is($result->{delayed}{waiting}, 3, 'a one-shot sees, and says what waits');
my $again = replicate($node, 'one', $couch->url('shot'), 'shot', %shot);
is($again->{delayed}{until}, $result->{delayed}{until}, '... and the next one remembers');
sql(q{SELECT pg_sleep_until(max(seen) + interval '1 s') FROM docrep.delay_marks});
replicate($node, 'one', $couch->url('shot'), 'shot', delay => '1 s');
wait_count('shot', 3);
is_late_enough('shot', 1, '... which brings it when its time has come');

fresh('unsaved');
put('unsaved', "s$_", 1) foreach 1 .. 3;
%shot = (use_checkpoints => JSON::PP::false);
replicate($node, 'one', $couch->url('unsaved'), 'unsaved', %shot, delay => '1 hour');
sql(q{SELECT pg_sleep_until(max(seen) + interval '1 s') FROM docrep.delay_marks});
replicate($node, 'one', $couch->url('unsaved'), 'unsaved', %shot, delay => '1 s');
wait_count('unsaved', 3);
pass('without checkpoints, too');
wait_for_no_marks();

# ---------- the delay is edited ----------

fresh('edited');
put('edited', "e$_", 1) foreach 1 .. 3;
start('edited', delay => '1 hour');
wait_for_query($node, 'one', waiting('edited'), '3', 60);
set_delay('edited', '1 s');
wait_count('edited', 3);
is_late_enough('edited', 1, 'a shorter delay counts from the first sight');
set_delay('edited', '1 hour');
# until the job with that is there the other one goes on
wait_for_query($node, 'one', q{SELECT info #>> '{delayed,delay_ms}' FROM docrep.scheduler_docs WHERE doc_id = 'edited'}, 3600_000, 60);
put('edited', 'e4', 1);
wait_for_query($node, 'one', waiting('edited'), '1', 60);
set_delay('edited', '0');
wait_count('edited', 4);
wait_for_no_marks();
pass('a delay of zero brings what waits, and leaves no marks');

# ---------- hold ----------

fresh('held');
start('held', delay => '1 s');
sql(q{SELECT docrep.hold('held')});
put('held', "h$_", 1) foreach 1 .. 3;
wait_for_query($node, 'one', waiting('held'), '3', 60);
is(sql(q{SELECT state, info ->> 'held' FROM docrep.scheduler_docs WHERE doc_id = 'held'}), 'pending|true', 'while a task is held it is seen when changes are made');
my $first = sql(q{SELECT min(first_seen) FROM docrep.delay_marks});
put('held', 'h4', 1);
wait_for_query($node, 'one', waiting('held'), '4', 60);
sql("SELECT pg_sleep_until('$first'::timestamptz + interval '2 s')");
is(sql('SELECT count(*) FROM held'), '0', '... and none of them is written when its time has come');
is(sql(q{SELECT min(first_seen) FROM docrep.delay_marks}), $first, '... which the hold does not move');
sql(q{SELECT docrep.release('held')});
wait_count('held', 4);
is_late_enough('held', 1, 'released, it brings them');
wait_for_no_marks();

# ---------- many ----------

# a process that is there already might read the configuration too late
sql('ALTER SYSTEM SET docrep.max_delayed_changes = 1');
$node->restart;
fresh('many');
$couch->fill('many', 1, 2500);
start('many', delay => '1 hour');
wait_for_query($node, 'one', "SELECT (" . waiting('many') . ")::int > 0", 't', 60);
my $most = sql(waiting('many'));
set_delay('many', '500 ms');
wait_until(sub {
	my ($now, $count) = split /\|/, sql(q{SELECT coalesce((SELECT info #>> '{delayed,waiting}' FROM docrep.scheduler_docs WHERE doc_id = 'many'), '0'), (SELECT count(*) FROM many)});
	$most = $now if $now > $most;
	return $count == 2500;
}, undef, '2500 documents');
cmp_ok($most, '>', 0, 'many wait');
cmp_ok($most, '<=', 1000, "... but there is a limit to what is remembered: $most changes");
wait_for_no_marks();

check_table($node, 'one', $_) foreach qw(plain hot many);
$node->stop;
done_testing();
