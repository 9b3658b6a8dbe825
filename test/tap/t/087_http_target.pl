# What a push to a CouchDB sends: what the target misses, and nothing else, however
# much was missing just before.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);

my @docs = map { { id => sprintf('d%04d', $_), revs => [ DocrepFaults::rev(1, $_) ], body => "\"n\":$_" } } 1 .. 1000;
my $case = $lab->fresh('push', @docs);
my $some = $lab->run($case, doc_ids => [ map { $_->{id} } @docs[ 800 .. 999 ] ]);
is($some->{state}, '', 'some were sent before') or diag $some->{message};
is($some->{result}{docs_written}, 200, '... by their ids');

my $rest = $lab->run($case, worker_batch_size => 50);
is($rest->{state}, '', 'the rest is sent') or diag $rest->{message};
is($rest->{result}{docs_written}, 800, '... and what is there is not sent again');
is($rest->{result}{missing_found}, 800, '... nor counted as missing');
$lab->is_equal($case, 'both sides are equal');

done_testing();
