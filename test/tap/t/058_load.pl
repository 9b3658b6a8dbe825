# A target or source that cannot keep up is given less at a time, and more again
# when it can.  The CouchDB is a scripted one.
use strict;
use warnings;

use DocrepCouch qw(docrep_contents);
use DocrepSession;
use DocrepTest qw(:DEFAULT quote replicate is_same_contents);
use List::Util qw(max min);
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $full = 100;
my $cases = 0;

# A document table with so many documents, to be pushed.
sub fresh_table
{
	my ($count) = @_;
	my $table = 'docs' . ++$cases;

	$node->safe_psql('one', qq{SELECT docrep.create_table('$table');
		INSERT INTO $table(_id, doc) SELECT to_char(i, 'FM00000'), jsonb_build_object('n', i) FROM generate_series(1, $count) i});
	$couch->create($table);
	return $table;
}

# Documents in every request of a kind that was served, in order.
sub sizes
{
	my ($pattern, $member) = @_;
	return map { my $n = () = $_->{body} =~ /"$member":/g; $n }
	  grep { "$_->{method} $_->{target}" =~ /$pattern/ && $_->{status} < 300 } @{ $couch->log };
}

# Pushes a table while the target does as the fault says; returns the sizes of its writes.
sub push_with
{
	my ($name, $count, %opts) = @_;
	my $table = fresh_table($count);
	my $fault = delete $opts{fault};

	$couch->heal;
	$couch->clear_log;
	$couch->fault(match => "^POST /$table/_bulk_docs", %$fault) if $fault;
	my $result = replicate($node, 'one', $table, $couch->url($table), worker_batch_size => $full, %opts);
	is($result->{docs_written}, $count, "$name: every document is written");
	is_same_contents(docrep_contents($node, 'one', $table), $couch->contents($table), "$name: both sides are the same");
	my @sizes = sizes("^POST /$table/_bulk_docs", '_id');
	note("$name: @sizes");
	cmp_ok(min(@sizes), '>=', 1, "$name: no write is empty");
	return @sizes;
}

# Has the machine stood still for a moment before something of a kind was refused, or at all?
# To the writer that is a target that takes its time.
sub stood_still
{
	my ($table) = @_;
	my $before;

	foreach my $request (grep { index($_->{target}, "/$table/") == 0 } @{ $couch->log })
	{
		return 0 if $request->{fault};
		return 1 if defined $before && $request->{at} - $before > 0.5;
		$before = $request->{at};
	}
	return 0;
}

# Index of the first size that is at most (or, negative, at least) so much; -1: none.
sub first_below { my ($n, @sizes) = @_; foreach my $i (0 .. $#sizes) { return $i if $sizes[$i] <= $n } return -1 }

# --- nothing is wrong ---

my @sizes = push_with('no trouble', 2000);
is(max(@sizes), $full, 'no trouble: full batches');
cmp_ok(scalar(grep { $_ < $full } @sizes), '<=', stood_still("docs$cases") ? 20 : 2, '... all of them');

# What is slow is so against what is usual, at least a second: here so many seconds.
my @served = map { $_->{at} } grep { $_->{target} =~ /_bulk_docs/ } @{ $couch->log };
my $slow = max(1.5, min(10, 10 * ($served[-1] - $served[0]) / $#served));
note(sprintf 'slow: %.1f s', $slow);

# --- a target that says so ---

foreach my $status (429, 503)
{
	@sizes = push_with("status $status", 4000, fault => { skip => 4, times => 5, status => $status, body => '{"error":"busy","reason":"busy"}' });
	my $small = first_below($full / 2, @sizes);
	cmp_ok($small, '>=', stood_still("docs$cases") ? 1 : 3, "status $status: batches are full before");
	cmp_ok($small, '<=', 9, '... smaller soon after');
	is(max(@sizes[ $small .. $#sizes ]), $full, '... and full again when it is over');
}

# --- one that does not say so, but takes its time ---

@sizes = push_with('slow', 4000, fault => { skip => 6, times => 4, delay => $slow });
my $small = first_below($full / 2, @sizes);
cmp_ok($small, '>=', stood_still("docs$cases") ? 1 : 6, 'slow: batches are full before');
cmp_ok($small, '<=', 12, '... smaller soon after');
is(max(@sizes[ $small .. $#sizes ]), $full, '... and full again when it is over');

# --- never nothing ---

@sizes = push_with('batches of one', 30, worker_batch_size => 1, fault => { skip => 2, times => 4, status => 429, body => '{}' });
is(max(@sizes), 1, 'batches of one stay so');

# --- a source that is asked for too much ---

# Second revisions do not come along with the changes.
my $busy = 4000;
$couch->heal;
$couch->put('src', map { { id => sprintf('%05d', $_), revs => [ '2-b', '1-a' ], body => "\"n\":$_" } } 1 .. $busy);
$couch->clear_log;
$node->safe_psql('one', q{SELECT docrep.create_table('pulled')});
$couch->fault(match => '^POST /src/_bulk_get', skip => 4, times => 2, status => 429, body => '{}');
my $result = replicate($node, 'one', $couch->url('src'), 'pulled', worker_batch_size => $full);
is($result->{docs_written}, $busy, 'a busy source: every document is written');
is_same_contents($couch->contents('src'), docrep_contents($node, 'one', 'pulled'), 'a busy source: both sides are the same');
@sizes = sizes('^POST /src/_bulk_get', 'id');
note("source: @sizes");
$small = first_below($full / 2, @sizes);
cmp_ok($small, '>', 0, 'a busy source is asked for less');
cmp_ok($small, '<=', 12, '... soon after');
is(max(@sizes[ $small .. $#sizes ]), $full, '... and for as much as before when it can give it');

# --- a job whose target cannot keep up is not joined by another ---

$couch->heal;
my ($first, $second, $elsewhere) = (fresh_table(6000), fresh_table(100), 'elsewhere');
$node->safe_psql('one', qq{SELECT docrep.create_table('$elsewhere')});
$couch->clear_log;
$couch->fault(match => "^POST /$first/_bulk_docs", skip => 6, times => 0, delay => $slow);
my $continuous = quote('{"continuous": true, "worker_batch_size": 100}');
my $states = q{SELECT string_agg(source || ' ' || state, ', ' ORDER BY started_on) FROM docrep.active_tasks};
$node->safe_psql('one', "SELECT docrep.replicate('$first', " . quote($couch->url($first)) . ", $continuous)");
wait_until(sub { first_below($full * 0.4, sizes("^POST /$first/_bulk_docs", '_id')) > 0 }, undef, 'the first to notice');
my $session = DocrepSession->new($node, 'one', app => 'second');
$session->send("SELECT docrep.replicate('$second', " . quote($couch->url($second)) . ", $continuous)");
wait_for_query($node, 'one', $states, "$first running, $second pending");
pass('a second job waits while the target cannot keep up');
is(replicate($node, 'one', $second, $elsewhere)->{docs_written}, 100, '... and one to another target does not');
$couch->heal;
$session->receive;
is($session->{sqlstate}, '00000', 'when it can again, the second has its turn');
wait_until(sub { $couch->contents($first) && keys %{ $couch->contents($_) } == ($_ eq $first ? 6000 : 100) }, undef, "$_ to arrive")
  foreach ($first, $second);
pass('everything arrives');
$node->stop;
done_testing();
