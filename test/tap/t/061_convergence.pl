# Replications that face each other, form rings and chains, and lose sight of one
# another: everything arrives everywhere, once, and then there is silence.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT replicate contents is_same_contents check_table);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $true = JSON::PP::true;

my $north = new_node('north', databases => [ 'one', 'two' ]);
my $south = new_node('south', databases => [ 'one', 'two' ]);
my $third = new_node('third', databases => ['one']);

# Makes a document table of that name; returns its place.
sub place
{
	my ($node, $dbname, $table) = @_;
	my $place = {
		node => $node,
		db => $dbname,
		table => $table,
		url => pg_url($node, $dbname, table => $table),
		name => $node->name . "/$dbname/$table",
	};
	$node->safe_psql($dbname, "SELECT docrep.create_table('$table')");
	return $place;
}

# Runs SQL at a place, where TBL is its table.
sub at
{
	my ($place, $sql) = @_;
	$sql =~ s/\bTBL\b/$place->{table}/g;
	return $place->{node}->safe_psql($place->{db}, $sql);
}

# A continuous replication, running at its target unless said otherwise.
sub continuously
{
	my ($source, $target, $where) = @_;
	$where //= $target;
	my ($from, $to) = map { $_->{node} == $where->{node} && $_->{db} eq $where->{db} ? $_->{table} : $_->{url} }
	  $source, $target;
	my $result = replicate($where->{node}, $where->{db}, $from, $to, continuous => $true);
	return { place => $where, source => $source, id => $result->{_local_id} };
}

# What active_tasks says of such a replication.
sub task
{
	my ($job, $column) = @_;
	return at($job->{place}, "SELECT $column FROM docrep.active_tasks WHERE replication_id = '$job->{id}'");
}

sub cancel
{
	my ($job) = @_;
	at($job->{place}, qq{SELECT docrep.replicate('{"cancel": true, "replication_id": "$job->{id}"}')});
}

sub contents_at
{
	my ($place) = @_;
	return contents($place->{node}, $place->{db}, $place->{table});
}

# Waits until places hold the same, and tests it.
sub converge
{
	my ($name, $first, @others) = @_;
	my $all_leaves = q{SELECT md5(string_agg(id || deleted || changes, ',' ORDER BY id COLLATE "C"))
		FROM docrep.changes('TBL', style => 'all_docs')};

	eval {
		wait_until(
			sub {
				my $digest = at($first, $all_leaves);
				return !grep { at($_, $all_leaves) ne $digest } @others;
			},
			undef, "$name");
		1;
	} or diag($@);
	my $contents = contents_at($first);
	is_same_contents($contents, contents_at($_), "$name: $first->{name} and $_->{name}") foreach @others;
	is(at($_, q{SELECT count(*) FROM docrep.changes('TBL', style => 'all_docs') c, jsonb_array_elements(c.changes) l,
				jsonb_each(docrep.get('TBL', c.id, rev => l->>'rev')->'_attachments') a
			WHERE 'md5-' || encode(decode(md5(docrep.get_attachment('TBL', c.id, a.key, l->>'rev')), 'hex'), 'base64') <> a.value->>'digest'}),
		0, "$name: the attachments of $_->{name} fit their digests")
	  foreach $first, @others;
	check_table($_->{node}, $_->{db}, $_->{table}, "$name: nothing is wrong with $_->{name}")
	  foreach $first, @others;
	return $contents;
}

# Everything that would move if a place wrote something: its feed's end.
sub state_of
{
	my (@places) = @_;
	return join ' ', map { at($_, q{SELECT (docrep.info('TBL')->>'update_seq'), max(seq), count(*)
		FROM docrep.changes('TBL')}) } @places;
}

# Edits with conflicts: on every place the same documents are changed otherwise.
sub edit_all
{
	my (@places) = @_;
	foreach my $i (0 .. $#places)
	{
		at($places[$i], qq{
			INSERT INTO TBL(_id, doc) SELECT 'own $i ' || n, jsonb_build_object('n', n, 'by', $i)
				FROM generate_series(1, 200) n ON CONFLICT DO NOTHING;
			INSERT INTO TBL(_id, doc) SELECT 'both ' || n, jsonb_build_object('n', n, 'by', $i)
				FROM generate_series(1, 200) n ON CONFLICT DO NOTHING;
			INSERT INTO TBL(_id, doc) SELECT 'equal ' || n, jsonb_build_object('n', n)
				FROM generate_series(1, 50) n ON CONFLICT DO NOTHING;
			UPDATE TBL SET doc = doc || '{"edited": $i}' WHERE (doc->>'n')::int % 3 = $i;
			DELETE FROM TBL WHERE (doc->>'n')::int % 7 = $i;
			INSERT INTO TBL(_id, doc) SELECT 'own $i ' || n, '{"again": true, "n": -1}'
				FROM generate_series(7, 140, 7) n ON CONFLICT DO NOTHING;
			SELECT count(*) FROM docrep.bulk_docs('TBL', (
				SELECT jsonb_agg(doc || jsonb_build_object('_id', _id, '_rev', _rev::text, '_attachments',
					jsonb_build_object('file ' || (doc->>'n')::int % 2, jsonb_build_object('content_type', 'text/plain', 'data',
						translate(encode(convert_to(repeat(md5($i || _id), 1 + 200 * (doc->>'n')::int), 'UTF8'), 'base64'), chr(10), '')))))
				FROM TBL WHERE (doc->>'n')::int % 20 IN (1, 2)));
			SELECT docrep.put_local('TBL', 'here', '{"place": $i}')});
	}
}

# --- two ways, with conflicts on both sides ---

my ($left, $right) = (place($north, 'one', 'pair'), place($south, 'one', 'pair'));
edit_all($left, $right);
my @pair = (continuously($right, $left), continuously($left, $right));
my $contents = converge('a pair', $left, $right);
cmp_ok(at($left, q{SELECT count(*) FROM docrep.changes('TBL', style => 'all_docs')
		WHERE jsonb_array_length(changes) > 1}), '>', 100, 'conflicts are among it');
is(scalar(grep { !/^(own|both|equal) / } keys %$contents), 0, 'local documents do not travel');
is(at($_->[0], q{SELECT docrep.get_local('TBL', 'here')->>'place'}), $_->[1], "those of $_->[0]{name} are its own")
  foreach [ $left, 0 ], [ $right, 1 ];

# Conflicts made while both run, and edits of documents in conflict.
edit_all($left, $right);
at($left, q{UPDATE TBL SET doc = doc || '{"last": "a"}' WHERE (doc->>'n')::int > 150});
at($right, q{UPDATE TBL SET doc = doc || '{"last": "b"}' WHERE (doc->>'n')::int < 50});
converge('a pair that runs', $left, $right);

# Has a job counted all that its source has?  Documents are there before the figures
# that speak of them, and until then those of an earlier silence are shown.
sub counted
{
	my ($job, $more) = @_;
	my $last = at($job->{source}, q{SELECT coalesce(max(seq), 0) FROM docrep.changes('TBL')});
	$more //= 'true';
	return task($job, qq{coalesce(state IN ('idle', 'parked') AND changes_pending = 0
		AND split_part(through_seq, '-', 1)::bigint >= $last AND $more, false)}) eq 't';
}

# Silence: all that is there has been read, and what one wrote for the other
# comes back to nobody.
sub quiet
{
	my ($job) = @_;
	return counted($job, 'through_seq = source_seq AND checkpointed_source_seq = through_seq');
}
wait_until(sub { !grep { !quiet($_) } @pair }, undef, 'both replications to be idle with a checkpoint');
my $before = state_of($left, $right) . task($pair[0], 'docs_written') . task($pair[1], 'docs_written');

# A document of its own makes one round, and so the silence is not a standstill.
at($left, q{INSERT INTO TBL(_id, doc) VALUES ('ping', '{}')});
wait_until(sub { at($right, q{SELECT count(*) FROM TBL WHERE _id = 'ping'}) eq '1' }, undef, 'a document');
wait_until(sub { !grep { !quiet($_) } @pair }, undef, 'silence again');
my ($written_a, $written_b) = map { task($_, 'docs_written') } @pair;
$before = state_of($left, $right);
at($right, q{INSERT INTO TBL(_id, doc) VALUES ('pong', '{}')});
wait_until(sub { at($left, q{SELECT count(*) FROM TBL WHERE _id = 'pong'}) eq '1' }, undef, 'a document');
wait_until(sub { !grep { !quiet($_) } @pair }, undef, 'silence again');
is(task($pair[0], 'docs_written') - $written_a, 1, 'the document was written once');
is(task($pair[1], 'docs_written') - $written_b, 0, 'and not sent back');
isnt(state_of($left, $right), $before, 'both feeds went on');
my $after = state_of($left, $right);

cancel($_) foreach @pair;
foreach my $way ([ $left, $right ], [ $right, $left ])
{
	my ($source, $target) = @$way;
	my $result = replicate($target->{node}, $target->{db}, $source->{url}, $target->{table});
	is("$result->{docs_read} $result->{docs_written} $result->{doc_write_failures}",
		'0 0 0', "$source->{name} to $target->{name} again: nothing moves");
	$result = replicate($target->{node}, $target->{db}, $source->{url}, $target->{table},
		use_checkpoints => JSON::PP::false);
	is("$result->{docs_read} $result->{docs_written}", '0 0', 'nor without checkpoints');
	cmp_ok($result->{missing_checked}, '>', 500, 'where all is compared');
}
is(state_of($left, $right), $after, 'and no feed moved');

# --- tombstones ---

at($left, q{INSERT INTO TBL(_id, doc) VALUES ('mortal', '{"a": 1}')});
replicate($south, 'one', $left->{url}, 'pair');
at($left, q{DELETE FROM TBL WHERE _id = 'mortal'});
replicate($south, 'one', $left->{url}, 'pair');
is(at($right, q{SELECT count(*) FROM TBL WHERE _id = 'mortal'}), '0', 'a deletion travels');
is(at($right, q{SELECT deleted FROM docrep.changes('TBL') WHERE id = 'mortal'}), 't', 'as a tombstone');
replicate($north, 'one', $right->{url}, 'pair');
is(at($left, q{SELECT count(*) FROM TBL WHERE _id = 'mortal'}), '0', 'and does not come to life again');
at($right, q{INSERT INTO TBL(_id, doc) VALUES ('mortal', '{"a": 2}')});
replicate($north, 'one', $right->{url}, 'pair');
is(at($left, q{SELECT docrep.rev_generation(_rev) FROM TBL WHERE _id = 'mortal'}), '3',
	'unless it is made again, above its tombstone');
converge('after deletions', $left, $right);

# --- three in a ring ---

my @ring = map { place($_, 'one', 'ring') } $north, $south, $third;
edit_all(@ring);
my @jobs = map { continuously($ring[ $_ - 1 ], $ring[$_]) } 0 .. 2;
converge('a ring', @ring);
edit_all(@ring);
converge('a ring, edited on', @ring);
wait_until(sub { !grep { !quiet($_) } @jobs }, undef, 'the ring to fall silent');
my @written = map { task($_, 'docs_written') } @jobs;
my $ring_state = state_of(@ring);
is(state_of(@ring), $ring_state, 'no feed of the ring moves');
cancel($_) foreach @jobs;
foreach my $i (0 .. 2)
{
	my $result = replicate($ring[$i]{node}, 'one', $ring[ $i - 1 ]{url}, 'ring');
	is($result->{docs_written}, 0, "nothing is left to do for $ring[$i]{name}");
}
is(state_of(@ring), $ring_state, 'nor did it move meanwhile');

# --- a chain: local, to another server, to a third ---

my @chain = (
	place($north, 'two', 'first'), place($north, 'two', 'second'),
	place($south, 'two', 'third'), place($third, 'one', 'fourth'));
@jobs = (
	continuously($chain[0], $chain[1]),
	continuously($chain[1], $chain[2], $chain[1]),
	continuously($chain[2], $chain[3]));
edit_all($chain[0]);
converge('a chain', @chain);
at($chain[0], q{INSERT INTO TBL(_id, doc) VALUES ('through', '{"v": 1}')});
wait_until(sub { at($chain[3], q{SELECT count(*) FROM TBL WHERE _id = 'through'}) eq '1' }, undef,
	'an edit at the other end');
pass('an edit goes through the chain');
cancel($_) foreach @jobs;

# --- between two others, run by a third server ---

my ($from, $to) = (place($north, 'two', 'remote'), place($south, 'two', 'remote'));
edit_all($from, $to);
my $result = replicate($third, 'one', $from->{url}, $to->{url});
is($result->{doc_write_failures}, 0, 'between two other servers');
replicate($third, 'one', $to->{url}, $from->{url});
converge('two ways, run by a third', $from, $to);
@jobs = (continuously($from, $to, $ring[2]), continuously($to, $from, $ring[2]));
edit_all($from, $to);
converge('the same, continuously', $from, $to);
cancel($_) foreach @jobs;

# --- the peer is away for a while ---

my ($here, $away) = (place($north, 'two', 'away'), place($south, 'two', 'away'));
at($away, q{INSERT INTO TBL(_id, doc) SELECT 'old ' || n, '{}' FROM generate_series(1, 3000) n});
my $pull = continuously($away, $here);
wait_until(sub { quiet($pull) }, undef, 'the first 3000 documents');
is(task($pull, 'docs_read'), '3000', 'all documents were read');
$south->stop('fast');
wait_until(sub { task($pull, 'state') eq 'crashing' }, undef, 'the loss to be noticed');
like(task($pull, 'last_error'), qr/\S/, 'the reason is shown');
$south->start;
at($away, q{INSERT INTO TBL(_id, doc) SELECT 'new ' || n, '{}' FROM generate_series(1, 100) n});
wait_until(sub { at($here, q{SELECT count(*) FROM TBL WHERE _id LIKE 'new%'}) eq '100' }, undef, 'the new documents');
pass('it goes on by itself');
wait_until(sub { counted($pull) }, undef, 'it has counted them');
is(task($pull, 'docs_read'), '3100', 'from its checkpoint');
is(task($pull, 'error_count'), '0', 'and has forgotten its failures');
cancel($pull);

# The server that runs it is away: the job is not remembered, the checkpoint is.
at($away, q{INSERT INTO TBL(_id, doc) SELECT 'newer ' || n, '{}' FROM generate_series(1, 50) n});
$north->restart;
is($north->safe_psql('two', 'SELECT count(*) FROM docrep.active_tasks'), '0', 'a restart ends it');
$result = replicate($north, 'two', $away->{url}, 'away');
is($result->{docs_read}, 50, 'another one goes on from its checkpoint');

# --- memory: ten times the documents take no more ---

# A server with few shared buffers, as those that a process has touched count as
# its memory.
my $small = new_node('small', databases => [ 'one', 'two' ], conf => "shared_buffers = '4MB'\ndocrep.park_after = -1\ndocrep.worker_linger = 0");

# Replicates n documents of about 400 bytes with a process of its own; returns the
# most memory that process has had, in kB.
sub peak
{
	my ($way, $n) = @_;
	my ($source, $target) = (place($small, 'one', "$way$n"), place($small, 'two', "$way$n"));
	at($source, qq{INSERT INTO TBL(_id, doc) SELECT 'document ' || n,
		jsonb_build_object('n', n, 'text', repeat(md5(n::text), 11)) FROM generate_series(1, $n) n});
	my $job = continuously($source, $target, $way eq 'push' ? $source : $target);
	wait_until(sub { task($job, q{coalesce(state IN ('idle', 'parked') AND changes_pending = 0, false)}) eq 't' },
		undef, "$n documents");
	is(at($target, 'SELECT count(*) FROM TBL'), $n, "$way of $n documents");
	my $pid = task($job, 'pid');
	my ($peak) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
	cancel($job);
	return $peak;
}

SKIP:
{
	skip 'no /proc', 6 unless -r "/proc/$$/status";
	foreach my $way ('pull', 'push')
	{
		my ($few, $many) = (peak($way, 10_000), peak($way, 100_000));
		note("$way: $few kB at 10,000 documents, $many kB at 100,000");
		cmp_ok($many, '<', $few + 6 * 1024, "$way: the worker's memory stays flat");
	}
}

done_testing();
