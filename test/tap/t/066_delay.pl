# Delayed replication between tables: nothing arrives that is younger than the delay,
# in any form of change and on any pair of Postgres peers; a restart neither shortens
# the wait nor begins it anew; an edited delay counts at once; hold and release.
#
# Every version of a document carries the time at which it was written, and the target
# notes when it came: all that is asked of time is that the difference is no less than the
# delay.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT pg_url quote contents is_same_contents check_table);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => [ 'one', 'two' ], conf => "docrep.node_name = 'near'\n");

sub sql { my ($db, @statements) = @_; return $node->safe_psql($db, join ";\n", @statements) }

sub make_tables
{
	my ($db, @names) = @_;
	return sql($db, map { 'SELECT docrep.create_table(' . quote($_) . ')' } @names);
}

# A target that notes in "arrivals" what came when.
sub make_target
{
	my ($db, @names) = @_;
	make_tables($db, @names);
	sql($db, q{CREATE TABLE IF NOT EXISTS public.arrivals (tbl text, id text, t timestamptz, n text, op text,
		at timestamptz DEFAULT clock_timestamp(), no serial)},
		q{CREATE OR REPLACE FUNCTION public.arrive() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE r record;
		BEGIN
			IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF;
			INSERT INTO public.arrivals (tbl, id, t, n, op)
				VALUES (TG_TABLE_NAME, r._id, (r.doc->>'t')::timestamptz, r.doc->>'n', TG_OP);
			RETURN NULL;
		END $$});
	sql($db, map { "CREATE TRIGGER arrive AFTER INSERT OR UPDATE OR DELETE ON $_ FOR EACH ROW EXECUTE FUNCTION public.arrive()" } @names);
	return;
}

# A version of a document, with the time of its writing.
sub doc { my ($n) = @_; return "jsonb_build_object('t', clock_timestamp(), 'n', '$n')" }
sub insert { my ($db, $table, $id, $n) = @_; return sql($db, "INSERT INTO $table(_id, doc) VALUES ('$id', " . doc($n // 1) . ')') }
sub update { my ($db, $table, $id, $n) = @_; return sql($db, "UPDATE $table SET doc = " . doc($n) . " WHERE _id = '$id'") }

# Nothing came early.
sub is_late_enough
{
	my ($db, $delay, $name, $more) = @_;
	$more //= 'true';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql($db, "SELECT tbl, id, n, at - t FROM public.arrivals WHERE op <> 'DELETE' AND at < t + interval '$delay' AND $more"), '', $name);
}

sub start
{
	my ($db, $id, $source, $target, %options) = @_;
	return sql($db, 'SELECT docrep.start(' . join(', ', map { quote($_) } $id, $source, $target,
		JSON::PP->new->canonical->encode({ continuous => JSON::PP::true, %options })) . ')');
}

sub info { my ($db, $id, $path) = @_; return sql($db, "SELECT info #>> '{$path}' FROM docrep.scheduler_docs WHERE doc_id = '$id'") }

sub wait_count
{
	my ($db, $table, $n) = @_;
	return wait_for_query($node, $db, "SELECT count(*) FROM $table", $n);
}

sub set_delay
{
	my ($db, $id, $delay) = @_;
	return sql($db, "UPDATE docrep.replicator SET doc = doc || jsonb_build_object('delay', '$delay') WHERE _id = '$id'");
}

# The job with the delay (ms) is there, and the one with another is not: until then that one goes on.
sub wait_delay
{
	my ($db, $id, $ms) = @_;
	return wait_for_query($node, $db, "SELECT info #>> '{delayed,delay_ms}' FROM docrep.scheduler_docs WHERE doc_id = '$id'", $ms);
}

# ---------- all pairs of peers, all kinds of changes ----------

my $delay = '1500 ms';
make_tables('one', 's');
make_target('one', 't');
make_target('two', 'pulled', 'pushed');
my @admin = (user_ctx => { roles => ['_admin'] });	# for design documents
my %paths = (t => [ 'one', 'local' ], pulled => [ 'two', 'pull' ], pushed => [ 'two', 'push' ]);
start('one', 'local', 's', 't', delay => $delay, @admin);
start('one', 'push', 's', pg_url($node, 'two', table => 'pushed'), delay => $delay, @admin);
start('two', 'pull', pg_url($node, 'one', table => 's'), 'pulled', delay => $delay, @admin);

insert('one', 's', "doc$_") foreach 1 .. 5;
sql('one', 'SELECT docrep.put(' . quote('s') . q{, jsonb_build_object('_id', '_design/d', 't', clock_timestamp()))});
sql('one', q{SELECT docrep.put_attachment('s', 'doc1', 'a.txt', 'text/plain', convert_to(repeat('large ', 20000), 'UTF8'), rev => (SELECT _rev::text FROM s WHERE _id = 'doc1'))});
foreach my $table (sort keys %paths)
{
	my ($db) = @{ $paths{$table} };
	wait_count($db, $table, 6);
	wait_for_query($node, $db, "SELECT docrep.get('$table', 'doc1') ? '_attachments'", 't', 60);
	is_late_enough($db, $delay, "$table: documents, an attachment and a design document are old enough", "tbl = '$table'");
}
my $same = contents($node, 'one', 's');
is_same_contents($same, contents($node, $paths{$_}[0], $_), "$_ has what the source has") foreach sort keys %paths;

update('one', 's', 'doc2', 2);
my $before = sql('one', 'SELECT clock_timestamp()');
sql('one', q{DELETE FROM s WHERE _id = 'doc3'});
foreach my $table (sort keys %paths)
{
	my ($db) = @{ $paths{$table} };
	wait_count($db, $table, 5);
	is_late_enough($db, $delay, "$table: an update is old enough", "tbl = '$table'");
	is(sql($db, "SELECT count(*), bool_and(at >= '$before'::timestamptz + interval '$delay') FROM public.arrivals WHERE tbl = '$table' AND op = 'DELETE'"),
		'1|t', '... and a deletion');
}

# A losing leaf, and the deletion of one: the winner stays what it was, and is old.

# At no moment at which a state can be seen is it younger than the delay.
sub is_seen_late
{
	my ($query, $expected, $since, $name) = @_;
	my $early = 0;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $table (sort keys %paths)
	{
		my ($db) = @{ $paths{$table} };
		my $session = DocrepSession->new($node, $db);
		my $asked = $query =~ s/TABLE/$table/gr;
		wait_until(sub {
			my ($there, $old) = split /\|/, $session->must("SELECT ($asked) = '$expected', clock_timestamp() >= '$since'::timestamptz + interval '$delay'");
			$early++ if $there eq 't' && $old ne 't';
			return $there eq 't';
		}, undef, "$name in $table");
	}
	return is($early, 0, $name);
}

$before = sql('one', 'SELECT clock_timestamp()');
my $loser = '1-' . '0' x 32;
sql('one', qq{SELECT docrep.bulk_docs('s', '[{"_id": "doc4", "_rev": "$loser", "n": "loser"}]', new_edits => false)});
is_seen_late(q{SELECT docrep.get('TABLE', 'doc4', conflicts => true) -> '_conflicts' ->> 0}, $loser, $before, 'a conflict is old enough');
$before = sql('one', 'SELECT clock_timestamp()');
sql('one', "SELECT docrep.delete('s', 'doc4', '$loser')");
is_seen_late(q{SELECT NOT docrep.get('TABLE', 'doc4', conflicts => true) ? '_conflicts'}, 't', $before, 'the deletion of a losing leaf is old enough');
is_same_contents(contents($node, 'one', 's'), contents($node, $paths{$_}[0], $_), "$_ has all of it") foreach sort keys %paths;

# ---------- order ----------

# What came to the source late, and is old already, waits behind what is young.
make_tables('one', 'other');
insert('one', 'other', 'old');
sql('one', q{SELECT pg_sleep_until((SELECT _modified FROM other WHERE _id = 'old') + interval '1600 ms')});
insert('one', 's', 'young');
sql('one', q{SELECT docrep.replicate('other', 's')});
wait_count('one', 't', 7);
is(sql('one', q{SELECT (SELECT _modified FROM s WHERE _id = 'old') < (SELECT t FROM public.arrivals WHERE id = 'young' AND tbl = 't')}), 't', 'the time of a change travels');
is(sql('one', "SELECT o.at >= y.t + interval '$delay' FROM public.arrivals o, public.arrivals y WHERE o.id = 'old' AND y.id = 'young' AND o.tbl = 't' AND y.tbl = 't'"),
	't', 'young changes hold back later ones');
is_late_enough('one', $delay, '... and are old enough themselves');

# ---------- a document that is edited all the time ----------

# The source keeps what is replaced, so that what was there some time ago can be had.
my $n = 0;
my $got = sub { sql($paths{ $_[0] }[0], "SELECT count(DISTINCT n) FROM public.arrivals WHERE tbl = '$_[0]' AND id = 'hot'") };
insert('one', 's', 'hot', $n);
my $last = time + 90;
until (time > $last || !grep { $got->($_) < 3 } keys %paths)
{
	update('one', 's', 'hot', ++$n);
	sql('one', 'SELECT pg_sleep(0.2)');
}
foreach my $table (sort keys %paths)
{
	my ($db) = @{ $paths{$table} };
	cmp_ok($got->($table), '>=', 3, "$table: versions of a document arrive while it is edited all the time ($n versions)");
	wait_for_query($node, $db, "SELECT doc->>'n' FROM $table WHERE _id = 'hot'", $n, 60);
	is_late_enough($db, $delay, '... each of them old enough', "tbl = '$table'");
}
is_same_contents(contents($node, 'one', 's'), contents($node, $paths{$_}[0], $_), "$_ has it in the end, with its whole history") foreach sort keys %paths;

# ---------- one-shots ----------

make_tables('one', 'shot');
insert('one', 's', 'newest');
my $asked = sql('one', 'SELECT clock_timestamp()');
my $result = decode_json(sql('one', q{SELECT docrep.replicate('s', 'shot', '{"delay": "1 hour"}')}));
is($result->{docs_written} // 0, 0, 'a one-shot brings nothing that is too young');
is($result->{delayed}{waiting}, sql('one', q{SELECT count(*) FROM docrep.changes('s')}), '... and says how many wait');
# that of the first change, at most 10 s later so that others come along, and as exact as the run was quick
is(sql('one', "SELECT '$result->{delayed}{until}' BETWEEN first AND first + interval '10 s' + (clock_timestamp() - '$asked')
	FROM (SELECT _modified + interval '1 hour' AS first FROM s ORDER BY _seq LIMIT 1) f"), 't', '... and until when');
sql('one', q{SELECT pg_sleep_until(max(_modified) + interval '200 ms') FROM s WHERE _id <> 'newest'});
$result = decode_json(sql('one', q{SELECT docrep.replicate('s', 'shot', '{"delay": "100 ms"}')}));
cmp_ok($result->{docs_written}, '>=', 7, 'what is old enough it brings');

# ---------- the delay is edited ----------

make_tables('one', 'es');
make_target('one', 'et');
insert('one', 'es', 'first');
start('one', 'edited', 'es', 'et', delay => '0 s');
wait_count('one', 'et', 1);
is(info('one', 'edited', 'delayed'), '', 'without a delay nothing is said of one');
my $id = sql('one', q{SELECT id FROM docrep.scheduler_docs WHERE doc_id = 'edited'});
set_delay('one', 'edited', '1 hour');
wait_delay('one', 'edited', 3600_000);
insert('one', 'es', 'second');
wait_for_query($node, 'one', q{SELECT info #>> '{delayed,waiting}' FROM docrep.scheduler_docs WHERE doc_id = 'edited'}, '1', 60);
is(sql('one', 'SELECT count(*) FROM et'), '1', 'a longer delay holds back');
wait_for_query($node, 'one', q{SELECT state || (pid IS NULL) FROM docrep.active_tasks WHERE doc_id = 'edited'}, 'parkedtrue', 60);
pass('no process is held while something waits for an hour');
is(sql('one', q{SELECT delayed ->> 'waiting' FROM docrep.active_tasks WHERE doc_id = 'edited'}), '1', 'active_tasks says that something waits');
insert('one', 'es', 'third');
set_delay('one', 'edited', '2 s');
wait_count('one', 'et', 3);
is_late_enough('one', '2 s', 'a shorter delay counts at once', "tbl = 'et' AND id IN ('second', 'third')");
set_delay('one', 'edited', '1 hour');
wait_delay('one', 'edited', 3600_000);
insert('one', 'es', 'fourth');
wait_for_query($node, 'one', q{SELECT info #>> '{delayed,waiting}' FROM docrep.scheduler_docs WHERE doc_id = 'edited'}, '1', 60);
set_delay('one', 'edited', '0 s');
wait_count('one', 'et', 4);
pass('a delay of zero brings what waits');
is(sql('one', q{SELECT id FROM docrep.scheduler_docs WHERE doc_id = 'edited'}), $id, 'all of that is the same replication');
is(sql('one', q{SELECT count(DISTINCT replication_id) FROM docrep.checkpoints WHERE target = 'et'}), '1', '... with the same checkpoint');
is(sql('one', q{SELECT count(*) FROM public.arrivals WHERE tbl = 'et'}), '4', '... and nothing came twice');
wait_for_query($node, 'one', q{SELECT state IN ('idle', 'parked') AND docs_read > 0 FROM docrep.active_tasks WHERE doc_id = 'edited'}, 't', 60);
is(info('one', 'edited', 'docs_read'), '1', '... or was read again');

# ---------- a restart in the middle ----------

make_tables('one', 'rs');
make_target('one', 'rt');
start('one', 'restarted', 'rs', 'rt', delay => '6 s');
insert('one', 'rs', 'waits');
my $waits = q{SELECT coalesce(info #>> '{delayed,waiting}', '') = '1' OR (SELECT count(*) FROM rt) = 1 FROM docrep.scheduler_docs WHERE doc_id = 'restarted'};
wait_for_query($node, 'one', $waits, 't', 60);
my $until = info('one', 'restarted', 'delayed,until');
$node->stop('immediate');
$node->start;
wait_for_query($node, 'one', $waits, 't', 60);
my $again = info('one', 'restarted', 'delayed,until') // '';
SKIP:
{
	skip 'the restart took longer than the delay', 1 if $again eq '' || $until eq '';
	is(sql('one', "SELECT '$again' < pg_postmaster_start_time() + interval '6 s'"), 't', 'a restart does not begin the wait anew');
}
wait_count('one', 'rt', 1);
is_late_enough('one', '6 s', 'a restart does not shorten the wait', "tbl = 'rt'");

# ---------- filters, leases ----------

make_tables('one', 'fs');
make_target('one', 'ft', 'lt');
sql('one', q{INSERT INTO fs(_id, doc) SELECT 'no' || i, '{"kind": "no"}' FROM generate_series(1, 20) i});
start('one', 'filtered', 'fs', 'ft', delay => '1 s', selector => { n => 'yes' });
start('one', 'leased', 'fs', 'lt', delay => '1 s', mentor => 'near', doc_ids => [ 'yes1', 'no3' ]);
insert('one', 'fs', "yes$_", 'yes') foreach 1 .. 3;
wait_count('one', 'ft', 3);
wait_count('one', 'lt', 2);
is_late_enough('one', '1 s', 'what passes a filter, and what a mentor brings, is old enough', "tbl IN ('ft', 'lt') AND id LIKE 'yes%'");
is(sql('one', q{SELECT count(*) FROM public.arrivals WHERE tbl = 'ft'}), '3', '... and nothing else comes');

# ---------- hold and release ----------

make_tables('one', 'hs');
make_target('one', 'ht');
# the first batch is quick, and the others would take minutes
sql('one', q{CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW._id ~ '^d\d\d\d$' THEN PERFORM pg_sleep(0.5); END IF; RETURN NEW; END $$},
	q{CREATE TRIGGER slow BEFORE INSERT ON ht FOR EACH ROW EXECUTE FUNCTION public.slow()},
	q{INSERT INTO hs(_id, doc) SELECT 'd' || i, '{}' FROM generate_series(1, 400) i});
start('one', 'held', 'hs', 'ht', worker_batch_size => 50);
wait_for_query($node, 'one', q{SELECT count(*) > 0 FROM ht}, 't', 60);
sql('one', q{SELECT docrep.hold('held')});
# hold() waits for that, but not for ever
wait_for_query($node, 'one', q{SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'held'}, '0', 60);
my $count = sql('one', 'SELECT count(*) FROM ht');
cmp_ok($count, '<', 400, "a running batch is cut, after $count documents");
pass('no job is left');
is(sql('one', q{SELECT state, info ->> 'held', (info ->> 'since')::timestamptz <= clock_timestamp() FROM docrep.scheduler_docs WHERE doc_id = 'held'}), 'pending|true|t', 'it is shown as held');
$node->restart;
sql('one', 'DROP TRIGGER slow ON ht');
sql('one', q{INSERT INTO hs(_id, doc) VALUES ('more', '{}')}, q{SELECT docrep.hold('held')});
wait_for_query($node, 'one', q{SELECT count(*) > 0 FROM docrep.active_tasks}, 't', 60);
is(sql('one', q{SELECT info ->> 'held' FROM docrep.scheduler_docs WHERE doc_id = 'held'}), 'true', '... also after a restart');
is(sql('one', 'SELECT count(*) FROM ht'), $count, 'nothing more was written');
sql('one', q{SELECT docrep.release('held')});
wait_count('one', 'ht', 401);
is_same_contents(contents($node, 'one', 'hs'), contents($node, 'one', 'ht'), 'released, it goes on');
sql('one', q{SELECT docrep.release('held')});
pass('release() of what is not held is nothing');

# one that cannot end is told of: who holds wants to know that nothing more is written
my $lock = DocrepSession->new($node, 'one')->connect;
$lock->query('BEGIN');
is($lock->query(q{SELECT _id FROM ht WHERE _id = 'd1' FOR UPDATE}), 'd1', 'a document is locked');
sql('one', q{UPDATE hs SET doc = '{"v": 1}' WHERE _id = 'd1'});
my $waiting = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND wait_event_type = 'Lock'};
wait_for_query($node, 'one', "SELECT count(*) FROM ($waiting) w", '1');
my $frozen = sql('one', $waiting);
kill 'STOP', $frozen;
my ($rc, $out, $err) = $node->psql('one', q{SELECT docrep.hold('held')});
is($rc, 0, 'a task whose process does not answer is held');
like($err, qr/WARNING:  the process of task "held" was told to end, but has not ended yet/, '... which says so');
is(sql('one', q{SELECT pid FROM docrep.active_tasks WHERE doc_id = 'held'}), $frozen, '... and where it is to be seen');
kill 'CONT', $frozen;
ok(wait_for_query($node, 'one', q{SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'held'}, '0'), '... until it has ended');
$lock->query('COMMIT');
is(sql('one', q{SELECT doc FROM ht WHERE _id = 'd1'}), '{}', '... and nothing was written');
sql('one', q{SELECT docrep.release('held')});

# Who may.
sql('one', 'CREATE ROLE anne LOGIN', 'CREATE ROLE bert LOGIN', 'GRANT ALL ON fs, ft TO anne', 'GRANT SELECT, UPDATE ON docrep.replicator TO anne, bert',
	'GRANT EXECUTE ON FUNCTION docrep.hold(text), docrep.release(text) TO anne, bert', q{UPDATE docrep.replicator SET owner = 'anne' WHERE _id = 'filtered'});
my ($state) = sqlstate($node, 'one', q{SET ROLE bert; SELECT docrep.hold('filtered')});
is($state, 'DR404', 'a task of others cannot be held: it is not even seen');
sql('one', 'GRANT pg_read_all_stats TO bert');
($state) = sqlstate($node, 'one', q{SET ROLE bert; SELECT docrep.hold('filtered')});
is($state, '42501', '... seen, it cannot either');
sql('one', q{SET ROLE anne}, q{SELECT docrep.hold('filtered')}, q{SELECT docrep.release('filtered')});
pass("a task's owner may");
($state) = sqlstate($node, 'one', q{SELECT docrep.hold('nobody')});
is($state, 'DR404', 'a task that is not there');
sql('one', 'BEGIN', q{SELECT docrep.hold('held')}, 'ROLLBACK', q{INSERT INTO hs(_id, doc) VALUES ('yet more', '{}')});
wait_count('one', 'ht', 402);
pass('what is rolled back holds nothing');

# ---------- two delays of one replication ----------

make_tables('one', 'js', 'jt');
sql('one', q{SELECT docrep.replicate('js', 'jt', '{"continuous": true, "delay": "1 hour"}')});
($state) = sqlstate($node, 'one', q{SELECT docrep.replicate('js', 'jt', '{"continuous": true}')});
is($state, '55006', 'a running replication is not joined with another delay');
insert('one', 'js', 'x');
start('one', 'joins', 'js', 'jt', delay => '1 s');
wait_count('one', 'jt', 1);
pass('... and a task has its own');

check_table($node, 'one', $_) foreach qw(s t et ht);
check_table($node, 'two', $_) foreach qw(pulled pushed);
$node->stop;
done_testing();
