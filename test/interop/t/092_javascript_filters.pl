# JavaScript filters: the same functions and documents in express-pouchdb and in a table
# let the same documents pass, and a replication from either brings the same.
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

# ---------- documents and functions ----------

my %filters = (
	type => 'function (doc, req) { return doc.type === req.query.type; }',
	loose => 'function (doc, req) { return doc.n == req.query.n; }',
	parsed => 'function (doc, req) { return doc.n > parseInt(req.query.n, 10); }',
	arrow => '(doc, {query}) => doc.tags !== undefined && doc.tags.includes(`tag${query.n}`)',
	nothing => 'function () { }',
	value => 'function (doc) { return doc.value; }',
	negated => 'function (doc) { return !doc.value; }',
	id => 'function (doc) { return /^b-/.test(doc._id) && doc._rev.split("-")[0] > 1; }',
	deleted => 'function (doc) { return doc._deleted; }',
	nested => 'function (doc) { try { return doc.a.b[1].c === null; } catch (e) { return false; } }',
	unicode => 'function (doc) { return doc.text && doc.text.length === 3 && doc.text.codePointAt(1) > 255; }',
	numbers => 'function (doc) { return typeof doc.n === "number" && doc.n % 1 !== 0; }',
	big => 'function (doc) { return doc.big > 9007199254740991; }',
	keys => 'function (doc) { return Object.keys(doc).filter(function (k) { return k[0] !== "_"; }).length > 3; }',
	json => 'function (doc) { return JSON.stringify(doc.tags) === "[\"tag1\",\"tag2\"]"; }',
	'let' => 'function (doc) { let sum = 0; for (const t of doc.tags || []) sum += t.length; class C { get m() { return sum; } } return new C().m > 4; }',
	date => 'function (doc) { return new Date(doc.day).getUTCFullYear() === 2020; }',
	changed => 'function (doc) { doc.type = "changed"; return doc.n === 4; }',
	attached => 'function (doc) { return doc._attachments && doc._attachments["a.txt"].length === 5; }',
	# express-pouchdb makes numbers of parameters that look like some, CouchDB and docrep do not
	param => 'function (doc, req) { return JSON.stringify([req.query.a, req.query.b]) === "[\"one\",\"x y&z\"]"; }',
);
my %views = (
	threes => 'function (doc) { if (doc.n % 3 === 0) emit(doc._id); }',
	tags => 'function (doc) { (doc.tags || []).forEach(function (t) { emit(t, 1); }); }',
	falsy => 'function (doc) { if (doc.type === "user") emit(null, undefined); }',
	gone => 'function (doc) { if (doc._deleted) emit(doc._id); }',
);
my @values = ($true, JSON::PP::false, undef, 0, 1, '', 'x', '0', [], {}, [0], -1, 1e300, 0.5);
my @docs;
for my $n (1 .. 300)
{
	push @docs, { _id => ('a', 'b', 'c')[ $n % 3 ] . "-$n", type => ('order', 'user', 'note')[ $n % 7 % 3 ], n => $n % 5 == 0 ? $n / 2 : $n % 20,
		value => $values[ $n % @values ], big => 9007199254740000 + $n * 10, day => 2015 + $n % 10 . '-06-01',
		$n % 2 ? (tags => [ map { "tag$_" } 1 .. $n % 4 ]) : (), $n % 11 == 0 ? (a => { b => [ 1, { c => undef } ] }) : (),
		$n % 13 == 0 ? (text => "a\x{20ac}b") : $n % 13 == 1 ? (text => 'abc') : $n % 13 == 2 ? (text => "a\x{1f600}") : (),
		$n % 50 == 0 ? (_attachments => { 'a.txt' => { content_type => 'text/plain', data => 'aGVsbG8=' } }) : () };
	delete $docs[-1]{type} if $n % 17 == 0;
}
my $utf8 = JSON::PP->new->canonical->ascii;
my $answers = $utf8->decode(post("$source/_bulk_docs", $utf8->encode({ docs => \@docs })));
my %revs = map { $_->{id} => $_->{rev} } @$answers;
# some are changed, some deleted
post("$source/_bulk_docs", $utf8->encode({ docs => [
	(map { { %{ $docs[$_] }, _rev => $revs{ $docs[$_]{_id} }, again => $true } } grep { $_ % 9 == 0 && !$docs[$_]{_attachments} } 0 .. $#docs),
	(map { { _id => $docs[$_]{_id}, _rev => $revs{ $docs[$_]{_id} }, _deleted => $true } } grep { $_ % 9 == 1 && !$docs[$_]{_attachments} } 0 .. $#docs),
	{ _id => '_design/app', filters => \%filters, views => { map { $_ => { map => $views{$_} } } keys %views } },
] }));

is(replicate($node, 'db', $source, 'docs', create_target => $true)->{doc_write_failures}, 0, 'all of it has come');
check_table($node, 'db', 'docs');

# ---------- the same ----------

sub escaped { return $_[0] =~ s/([^A-Za-z0-9._-])/sprintf '%%%02X', ord $1/ger }

# What passes there.
sub there
{
	my ($filter, %params) = @_;
	my $query = join '&', "filter=" . escaped($filter), map { escaped($_) . '=' . escaped($params{$_}) } sort keys %params;
	return join ' ', sort map { ($_->{deleted} ? '-' : '') . $_->{id} } @{ $couch->get("source/_changes?$query")->{results} };
}

# What passes here.
sub here
{
	my ($filter, %params) = @_;
	return $node->safe_psql('db', q{SELECT string_agg(t, ' ' ORDER BY t COLLATE "C") FROM (SELECT CASE WHEN deleted THEN '-' ELSE '' END || id AS t
		FROM docrep.changes('docs', filter => } . quote($filter) . ', query_params => ' . quote($json->encode(\%params)) . ')) c');
}

my @asked = (
	[ 'app/type', type => 'order' ], [ 'app/type', type => 'user' ], ['app/type'], [ 'app/type', type => 'none' ],
	[ 'app/loose', n => 4 ], [ 'app/loose', n => '2.5' ], [ 'app/parsed', n => 10 ], [ 'app/arrow', n => 2 ],
	(map { ["app/$_"] } qw(nothing value negated id deleted nested unicode numbers big keys json let date changed attached)),
	[ 'app/param', a => 'one', b => 'x y&z' ], [ 'app/param', a => 'one', b => 'two' ],
	map { [ '_view', view => "app/$_" ] } sort keys %views,
);
my $some = 0;
foreach my $case (@asked)
{
	my $expected = there(@$case);
	is(here(@$case), $expected, "@$case: the same pass");
	$some++ if $expected ne '' && split(/ /, $expected) < 290;
}
cmp_ok($some, '>=', 20, 'most of these let some pass and others not');

# ---------- replicated from here and from there ----------

my $tables = 0;
foreach my $case ([ 'app/type', type => 'order' ], [ 'app/arrow', n => 2 ], [ '_view', view => 'app/threes' ])
{
	my ($filter, %params) = @$case;
	my @got;
	foreach my $from ('docs', $source)
	{
		my $table = 'here' . ++$tables;
		replicate($node, 'db', $from, $table, create_target => $true, filter => $filter, query_params => \%params);
		push @got, $node->safe_psql('db', qq{SELECT md5(string_agg(id || ' ' || changes::text || ' ' || coalesce(doc::text, ''), ',' ORDER BY id COLLATE "C")) || ' ' || count(*)
			FROM docrep.changes('$table', include_docs => true)});
	}
	is($got[0], $got[1], "@$case: the same arrives from here and from there");
}

done_testing();
