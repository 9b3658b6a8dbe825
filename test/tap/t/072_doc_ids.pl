# Named documents of a CouchDB, more than it looks up in one call: they are asked for in
# portions.  Nothing may be lost between them: not what changes while they are read, not
# when a run breaks off in between, not when the source forgets its sequences.
use strict;
use warnings;

use DocrepCouch;
use DocrepTest qw(:DEFAULT quote replicate);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one'], conf => "docrep.worker_linger = 0\ndocrep.park_after = -1\n");
my $couch = DocrepCouch->new;
my $true = JSON::PP::true;
my $json = JSON::PP->new->canonical;
my $cases = 0;

sub id { return sprintf 'doc%06d', $_[0] }

# A database of so many documents, of which every second one is to be named, and as many that are not there.
sub fresh
{
	my ($documents, $named) = @_;
	my $db = 'db' . ++$cases;
	$couch->fill($db, 1, $documents, size => 10);
	$couch->clear_log;
	return { db => $db, url => $couch->url($db), table => "here$cases", ids => [ map { id(2 * $_) } 1 .. $named ] };
}

sub run
{
	my ($case, %more) = @_;
	return replicate($node, 'one', $case->{url}, $case->{table}, create_target => $true, doc_ids => $case->{ids}, %more);
}

# The same when it is to fail: SQLSTATE and message.
sub fails
{
	my ($case, %more) = @_;
	return sqlstate($node, 'one', 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $case->{url}, $case->{table},
		$json->encode({ create_target => $true, doc_ids => $case->{ids}, retries_per_request => 0, %more })) . ')');
}

# Calls for changes since the last look: each as [number of ids, first id, feed].
sub calls
{
	my @calls;
	foreach my $call (grep { $_->{target} =~ m{_changes\?} } @{ $couch->log })
	{
		# of ids that are 9 characters each; the log has only the beginning of the body
		push @calls, [ ($call->{length} - 13) / 12, $call->{body} =~ /"(doc\d+)"/, $call->{target} =~ /feed=(\w+)/, $call->{target} =~ /since=([^&]*)/ ];
	}
	$couch->clear_log;
	return @calls;
}

# Is all that was named at the target as it is at the source, and nothing else?
sub is_there
{
	my ($case, $name) = @_;
	my $all = $couch->contents($case->{db});
	my $here = DocrepCouch::docrep_contents($node, 'one', $case->{table});
	my %wanted = map { $_ => $all->{$_} } grep { $all->{$_} } @{ $case->{ids} };
	my @differ = grep { ($wanted{$_} // '') ne ($here->{$_} // '') } sort keys %{ { %wanted, %$here } };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(!@differ && %wanted, "$name (" . keys(%wanted) . ' documents)') || diag "@differ[0 .. ($#differ > 5 ? 5 : $#differ)]";
}

sub revs { my ($n) = @_; return [ map { "$_-" . $_ x 32 } reverse 1 .. $n ] }

# ---------- portions ----------

my $case = fresh(5000, 2600);
my $result = run($case);
is($result->{docs_written}, 2500, 'what is named and there is written');
is_there($case, '... and nothing else');
is_deeply([ map { [ @$_[ 0 .. 3 ] ] } calls() ],
	[ [ 1000, id(2), 'normal', 0 ], [ 1000, id(2002), 'normal', 0 ], [ 600, id(4002), 'normal', 0 ] ],
	'... in calls of as many ids as are looked up, from the same beginning');
like($result->{source_last_seq}, qr/^5000-/, '... and the checkpoint is where the source was');

$result = run($case);
ok($result->{no_changes}, 'the next run goes on from there');
is_deeply([ map { $_->[0] } calls() ], [2600], '... with one call, as there is next to nothing to be compared');

$couch->put($case->{db}, { id => id(2), revs => revs(2), body => '"new":1' }, { id => id(3), revs => revs(2), body => '"new":1' },
	{ id => id(5000), revs => revs(3), deleted => 1, body => '' });
is(run($case)->{docs_written}, 2, 'changes of some of them come');
is_there($case, '... and of others do not');
is(scalar calls(), 1, '... with one call');

$case = fresh(900, 800);
is(run($case)->{docs_written}, 450, 'few documents');
is_deeply([ map { $_->[0] } calls() ], [800], '... are one call');

# ---------- meanwhile ----------

$case = fresh(5000, 2500);
$couch->fault(match => '^POST /' . $case->{db} . '/_changes', skip => 2,
	command => [ 'put', $case->{db}, { id => id(2), revs => revs(5), body => '"late":1' }, { id => id(5000), revs => revs(5), body => '"late":2' } ]);
run($case);
is($couch->hits, 1, 'while the last portion is read documents change');
$couch->heal;
is($node->safe_psql('one', "SELECT string_agg(docrep.get('$case->{table}', i)->>'late', ',') FROM unnest(ARRAY['" . id(2) . "', '" . id(5000) . "']) i"), 2,
	'... one of which had been read before');
is(run($case)->{docs_written}, 1, '... which comes with the next run');
is_there($case, '... and all is there');

# ---------- breaking off ----------

# the first batch is written with a checkpoint that says how far that is
$case = fresh(9000, 4500);
my $what = '^POST /' . $case->{db} . '/_changes';
$couch->fault(match => $what, skip => 3, times => 0, status => 500, body => '{"error":"down","reason":"for now"}');
my ($state, $message) = fails($case, worker_batch_size => 100);
like($state, qr/^DR50[03]$/, 'a portion fails') or diag $message;
cmp_ok($couch->hits, '>', 0, '... as it should');
$couch->heal;
my $before = $node->safe_psql('one', "SELECT count(*) FROM $case->{table}");
cmp_ok($before, '>', 0, '... when some documents had been written');
calls();
$result = run($case, worker_batch_size => 100);
my @again = calls();
like($result->{history}[0]{start_last_seq}, qr/^\["ids","0","9000-/, 'the next run begins with a checkpoint between portions')
	or diag explain $result;
cmp_ok($again[0][1], 'gt', id(2), '... and does not ask again for those before');
is($result->{docs_written} + $before, 4500, '... each document is written once');
is_there($case, '... and all is there');
ok(run($case)->{no_changes}, '... after which there is nothing to do');

# rows that break off, within a portion
$case = fresh(5000, 2500);
calls();
$couch->fault(match => '^POST /' . $case->{db} . '/_changes', skip => 1, times => 3, close_at => 30_000);
is(run($case)->{docs_written}, 2500, 'a portion that breaks off is gone on with');
is($couch->hits, 3, '... as often as it did');
$couch->heal;
my %since;
$since{ $_->[1] }{ $_->[3] }++ foreach calls();
is(join(',', map { scalar keys %{ $since{$_} } } sort keys %since), '1,4,1', '... from its last row, and the next one from the beginning');
is_there($case, '... and all is there');

# a source that does not know its sequence any more
$case = fresh(5000, 2500);
$couch->fault(match => '^POST /' . $case->{db} . '/_changes', skip => 2, times => 0, status => 500, body => '{"error":"down","reason":"for now"}');
(undef) = fails($case, worker_batch_size => 100);
$couch->heal;
calls();
$couch->fault(match => '^POST /' . $case->{db} . '/_changes.*since=[1-9]', times => 1, status => 400, body => '{"error":"bad_request","reason":"Malformed sequence"}');
$couch->put($case->{db}, { id => id(2), revs => revs(7), body => '"again":1' });
run($case, worker_batch_size => 100);
run($case, worker_batch_size => 100);
is_there($case, 'with a sequence that is refused it starts over');
$couch->heal;

# ---------- waiting ----------

$case = fresh(5000, 2500);
run($case, continuous => $true);
wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table}", 2500, 60);
wait_until(sub { scalar $couch->requests('feed=continuous') > 0 }, 60, 'the feed to wait');
is_deeply([ map { $_->[0] } grep { $_->[2] ne 'normal' } calls() ]->[0], 2500, 'a wait names all of them');
foreach my $n (1 .. 3)
{
	$couch->put($case->{db}, { id => id(1), revs => revs(1 + $n), body => '"no":1' }, { id => id(2 * $n), revs => revs(2), body => "\"n\":\"new\"" });
	wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table} WHERE doc->>'n' = 'new'", $n, 60);
}
is_there($case, 'changes come to a job that waits');
is(scalar(grep { $_->[2] eq 'normal' } calls()), 0, '... without asking for portions again');
run($case, continuous => $true, cancel => $true);

done_testing();
