# What is counted and how often something is tried: rows that a feed repeats, and a
# target that fails for every document of a kind.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $json = JSON::PP->new->canonical;

# ---------- rows that come more than once ----------

# Both leaves of a conflict, one of them three times, and a later revision of what came before.
{
	my $case = $lab->fresh('pull');
	my @c = map { DocrepFaults::rev(@$_) } [ 3, 'c3' ], [ 3, 'd3' ], [ 2, 'e2' ];
	my $row = sub { my ($seq, $id, @revs) = @_; $json->encode({ seq => $seq, id => $id, changes => [ map { { rev => $_ } } @revs ] }) };
	my $plain = DocrepFaults::rev(2, 'b1');
	my @rows = ($row->('1-a', 'plain001', $plain), $row->('2-a', 'conflict', $c[0], $c[1]), $row->('3-a', 'plain001', $plain),
		$row->('4-a', 'conflict', $c[1], $c[2]), $row->('5-a', 'conflict', $c[1]), $row->('6-a', 'plain002', DocrepFaults::rev(2, 'b2')), $row->('7-a', 'plain001', $plain));
	$couch->fault(match => "^GET /$case->{db}/_changes", status => 200, body => '{"results":[' . join(",\n", @rows) . '],"last_seq":"7-a","pending":0}');
	$couch->clear_log;
	my $run = $lab->run($case, use_checkpoints => JSON::PP::false);
	is($run->{state}, '', 'a feed that repeats rows') or diag $run->{message};
	is($run->{result}{docs_written}, 5, '... of which each revision is written and counted once');
	is($run->{result}{docs_read}, 5, '... and read once');
	is($lab->present($case), 5, '... and there');
	$couch->heal;
	$run = $lab->run($case);
	is($run->{result}{docs_written}, $case->{leaves} - 5, '... the rest comes later');
	$lab->is_equal($case, '... and both sides are equal');
}

# ---------- a target that fails for every document with a large attachment ----------

# The run ends with the first that has had all its attempts: the others are not tried to the end
# one after the other.
foreach my $size (70_000, 1_500_000)
{
	my @docs = map { { id => "att$_", revs => [ DocrepFaults::rev(1, "att$_") ], body => "\"n\":$_", atts => { file => { content => chr(64 + $_) x $size } } } } 1 .. 8;
	my $case = $lab->fresh('push', @docs);
	my $retries = 3;
	my $fault = $couch->fault(match => "^PUT /$case->{db}/att", times => 0, status => 500, body => '{"error":"internal_server_error","reason":"no"}');
	my $run = $lab->run($case, retries_per_request => $retries, http_connections => 4, request_timeout => undef);
	is($run->{state}, 'DR500', "a target that answers 500 to every document with $size bytes attached") or diag $run->{message};
	# what was under way with it may have been tried as often
	cmp_ok($couch->hits($fault), '<=', 4 * ($retries + 1), '... is left alone when the first document has had its attempts: ' . $couch->hits($fault));
	cmp_ok($couch->hits($fault), '>', $retries, '... which are as many as were asked for');
	$couch->heal;
	$lab->completes($case, 'afterwards', $run);
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
