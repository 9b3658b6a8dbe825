# The tools of these tests, without docrep: the servers start and come back with
# their files, PouchDB's own replication between them gives equal dumps, and a
# dump that is not equal is noticed.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest;
use JSON::PP;
use Test::More;

my $left = DocrepInterop->new('left');
my $right = DocrepInterop->new('right');
my $router = DocrepInterop->new('router', kind => 'router');

my $made = decode_json(js('generate.js', $left->create('db'), 400, 7));
cmp_ok($made->{conflicts}, '>', 10, 'the documents have conflicts');
cmp_ok($made->{tombstones}, '>', 10, 'and tombstones');
is($left->get('db')->{doc_count}, $made->{documents} - $made->{tombstones}, 'the server counts them');

my $result = decode_json(js('replicate.js', $left->url('db'), $right->create('db')));
is($result->{docs_written}, $made->{leaves}, 'PouchDB replicates every leaf');
my $leaves = couch_leaves($left->url('db'));
is(scalar keys %$leaves, $made->{leaves}, 'the dump has every leaf');
is_same_leaves($leaves, couch_leaves($right->url('db')), 'equal after a replication');
is_deeply(couch_revs($left->url('db')), couch_revs($right->url('db')), 'the cheap comparison says so, too');

# what was written is known
is(scalar(grep { $_->[0] eq 'db' } $right->writes), $made->{leaves}, 'the server has noted every revision that it was given');
is_written_once($right, 'PouchDB writes nothing twice');

# the same seed makes the same documents
js('generate.js', $right->create('again'), 400, 7);
is_same_leaves($leaves, couch_leaves($right->url('again')), 'equal from the same seed');

# differences are found
js('request.js', 'PUT', $right->url('again/new'), '{}');
my $other = couch_leaves($right->url('again'));
is(scalar(grep { !exists $leaves->{$_} } keys %$other), 1, 'a document more is noticed');

# a server that is killed has its documents when it comes back, on the same port
my $url = $right->url('db');
$right->kill9;
$right->start;
is($right->url('db'), $url, 'the same address after a restart');
is_same_leaves($leaves, couch_leaves($url), 'the same documents after a restart');

# the other server
js('request.js', 'POST', $router->create('db') . '/_bulk_docs', '{"docs": [{"_id": "a/b", "n": 1}]}');
is_same_leaves(couch_leaves($router->url('db')), couch_leaves($router->url('db')), 'pouchdb-express-router answers');
ok(!eval { js('request.js', 'POST', $router->url('db/_bulk_get'), '{"docs": [{"id": "a/b"}]}') },
	'and has no _bulk_get');

done_testing();
