# Filters with express-pouchdb as the source: JavaScript of a design document, a view,
# a selector, the built-in ones, and docrep's own paths.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT quote replicate sqlstate check_table);
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my $json = JSON::PP->new->canonical;
my $couch = DocrepInterop->new('one');
my $node = new_node('pg', databases => ['db']);
my $source = $couch->create('source');
my $tables = 0;

my %design = (
	_id => '_design/app',
	filters => {
		by_type => 'function (doc, req) { return doc.type === req.query.type; }',
		large => 'function (doc, req) { return doc.n > parseInt(req.query.n, 10); }',
		bad => 'function (doc, req) { throw new Error("not " + doc._id); }',
	},
	views => { threes => { map => 'function (doc) { if (doc.n % 3 === 0) emit(doc._id); }' } },
);
post("$source/_bulk_docs", $json->encode({ docs => [
	(map { { _id => "orders/$_", type => 'order', n => $_ } } 1 .. 300),
	(map { { _id => "users-$_", type => 'user', n => $_ } } 1 .. 300),
	\%design,
] }));
my $gone = $json->decode(post($source, $json->encode({ _id => 'gone', type => 'order', n => 7 })));
post("$source/_bulk_docs", $json->encode({ docs => [ { _id => 'gone', _rev => $gone->{rev}, _deleted => $true } ] }));

# What arrives, as "kind number of documents" of ids up to the first digit.
sub pulled
{
	my (%options) = @_;
	my $table = 'here' . ++$tables;

	replicate($node, 'db', $source, $table, create_target => $true, %options);
	check_table($node, 'db', $table);
	return $node->safe_psql('db', qq{SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (
		SELECT rtrim(regexp_replace(id, '[0-9]+\$', ''), '-/') || CASE WHEN deleted THEN ' deleted' ELSE '' END AS kind, count(*) AS n
		FROM docrep.changes('$table', style => 'all_docs') GROUP BY 1) x});
}

is(pulled(filter => 'app/by_type', query_params => { type => 'user' }), 'users 300', 'a JavaScript filter');
is(pulled(filter => 'app/large', query_params => { n => 290 }), 'orders 10, users 10', '... with a number as its parameter');
is(pulled(filter => '_view', query_params => { view => 'app/threes' }), 'orders 100, users 100', 'a view');
is(pulled(doc_ids => [ 'orders/1', 'gone', 'nowhere' ]), 'gone deleted 1, orders 1', 'doc_ids');
is(pulled(doc_ids => [ map { ("orders/$_", "nowhere$_") } 1 .. 5500 ]), 'orders 300', 'more doc_ids than one call has');
is(pulled(selector => { type => 'user', n => { '$gt' => 100 } }), 'users 200', 'a selector');
is(pulled(paths => [ 'orders/*', 'users-1' ]), 'orders 300, users 1', 'paths');
is(pulled(paths => [ 'orders/*', 'gone' ], prevent_deletions => $true), 'orders 300', 'no deletions');

# what is wrong
sub fails
{
	my (%options) = @_;
	return sqlstate($node, 'db', 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $source, 'here1', $json->encode(\%options)) . ')');
}
my ($state, $message) = fails(filter => 'none/f');
is($state, 'DR404', 'no design document');
like($message, qr{"none/f" does not exist}, '... is named');
($state, $message) = fails(filter => 'app/none');
is($state, 'DR404', 'no such filter in it');

# changed code starts over; what passes comes to a job that waits
my %users = (filter => 'app/by_type', query_params => { type => 'user' });
ok(replicate($node, 'db', $source, 'here1', %users)->{no_changes}, 'the same filter goes on');
my $stored = $couch->get('source/_design/app');
$stored->{filters}{by_type} = 'function (doc, req) { return doc.type === req.query.type || doc.n === 5; }';
post("$source/_bulk_docs", $json->encode({ docs => [$stored] }));
replicate($node, 'db', $source, 'here1', %users);
is($node->safe_psql('db', q{SELECT string_agg(_id, ' ') FROM here1 WHERE doc->>'type' = 'order'}), 'orders/5', 'a changed filter starts over');
replicate($node, 'db', $source, 'here1', %users, continuous => $true);
post("$source/_bulk_docs", $json->encode({ docs => [ { _id => 'no', type => 'order' }, { _id => 'late', type => 'user' }, { _id => 'nor', type => 'order' } ] }));
wait_until(sub { $node->safe_psql('db', q{SELECT count(*) FROM here1 WHERE _id = 'late'}) == 1 }, 60, 'the document that passes');
is($node->safe_psql('db', q{SELECT count(*) FROM here1 WHERE _id IN ('no', 'nor')}), 0, 'the others stay where they are');
replicate($node, 'db', $source, 'here1', %users, continuous => $true, cancel => $true);

done_testing();
