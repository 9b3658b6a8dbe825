# The same validation functions and the same writes here and in express-pouchdb: the same
# documents are refused, for the same reasons; and what one of them refuses in a replication.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT quote replicate check_table);
use JSON::PP;
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->canonical;
my $couch = DocrepInterop->new('one');
my $node = new_node('pg', databases => ['db']);

$node->safe_psql('db', q{SELECT docrep.create_table('probe');
	INSERT INTO probe VALUES ('_design/p', '{"validate_doc_update": "function () {}"}')});
plan skip_all => 'the JavaScript engine is not installed'
  if $node->safe_psql('db', q{SELECT coalesce(problem, '') FROM docrep.validators('probe')}) ne '';

# ---------- validators as people write them ----------

my %validators = (
	a_types => q{function (newDoc, oldDoc, userCtx) {
		function require(field, message) {
			message = message || 'Document must have a ' + field;
			if (!newDoc[field]) { throw({forbidden: message}); }
		}
		if (newDoc._deleted) { return; }
		if (newDoc.type === 'post') {
			require('title');
			require('created_at');
			require('author');
		}
		if (newDoc.type === 'comment') {
			require('text', 'A comment without a text');
		}
	}},
	b_unchanged => q{function (newDoc, oldDoc) {
		function unchanged(field) {
			if (oldDoc && toJSON(oldDoc[field]) !== toJSON(newDoc[field])) {
				throw({forbidden: 'Field cannot be changed: ' + field});
			}
		}
		if (newDoc._deleted) {
			if (oldDoc && oldDoc.locked) { throw({forbidden: 'it is locked'}); }
			return;
		}
		unchanged('type');
		if (newDoc.type === 'post') { unchanged('created_at'); }
	}},
	c_users => q{function (newDoc, oldDoc, userCtx, secObj) {
		if (userCtx.roles.indexOf('_admin') === -1) { throw({unauthorized: 'administrators only'}); }
		if (newDoc.author && newDoc.author !== 'ann' && newDoc.author !== 'bob') {
			throw({unauthorized: 'who is ' + newDoc.author + '?'});
		}
		if (isArray(newDoc.tags) && newDoc.tags.some(function (t) { return t !== t.toLowerCase(); })) {
			throw({forbidden: 'tags are in lower case'});
		}
		if (newDoc.parts && newDoc.total !== sum(newDoc.parts)) {
			throw({forbidden: 'the sum is ' + sum(newDoc.parts)});
		}
	}},
);
my @designs = map { { _id => "_design/$_", validate_doc_update => $validators{$_} } } sort keys %validators;

# ---------- documents, some of them as they should be ----------

my $seed = $ENV{DOCREP_SEED} // 20;
diag "seed $seed";
srand $seed;
sub one_of { return $_[ int(rand(@_)) ] }

sub body
{
	my %doc = (type => one_of('post', 'post', 'comment', 'other'));
	$doc{title} = one_of('A title', 'Ü ☃', '') if rand() < 0.8;
	$doc{created_at} = one_of(1, 2, '2026-01-01') if rand() < 0.8;
	$doc{author} = one_of('ann', 'ann', 'bob', 'eve') if rand() < 0.8;
	$doc{text} = one_of('some', '') if rand() < 0.7;
	$doc{tags} = [ map { one_of('a', 'b', 'c', 'c', 'D') } 1 .. int(rand(3)) ] if rand() < 0.5;
	if (rand() < 0.3)
	{
		$doc{parts} = [ map { int(rand(4)) } 0 .. int(rand(3)) ];
		$doc{total} = one_of(0, 3, 4, 5);
	}
	$doc{locked} = $true if rand() < 0.1;
	return \%doc;
}

# What became of each document of a batch here: "ok" or error and reason; and its revision.
sub here
{
	my ($table, @docs) = @_;
	my $rows = $json->decode($node->safe_psql('db', 'SELECT jsonb_agg(to_jsonb(r) ORDER BY n) FROM docrep.bulk_docs('
		. quote($table) . ', ' . quote($json->encode(\@docs)) . ') WITH ORDINALITY r(id, rev, error, reason, n)'));
	return map { [ $_->{error} ? "$_->{error}: $_->{reason}" : 'ok', $_->{rev} ] } @$rows;
}

sub there
{
	my ($db, @docs) = @_;
	my $rows = $json->decode(post($couch->url($db) . '/_bulk_docs', $json->encode({ docs => \@docs })));
	# in an order of its own
	my %by_id = map { $_->{id} => [ $_->{error} ? "$_->{error}: $_->{reason}" : 'ok', $_->{rev} ] } @$rows;
	return map { $by_id{ $_->{_id} } // ['no answer'] } @docs;
}

# The same edits on both sides; returns how often each outcome was met.
sub compare
{
	my ($name, $here, $there) = @_;
	my (%met, @differ);

	foreach my $i (0 .. $#$here)
	{
		$met{ $here->[$i][0] }++;
		push @differ, "document $i: here $here->[$i][0], there $there->[$i][0]" if $here->[$i][0] ne $there->[$i][0];
	}
	is(scalar @differ, 0, "$name: " . @$here . ' documents, the same outcome here and in express-pouchdb');
	diag $_ foreach grep { defined } @differ[ 0 .. 4 ];
	return \%met;
}

$couch->create('docs');
$node->safe_psql('db', q{SELECT docrep.create_table('docs')});
$_->[0] eq 'ok' or die "a design document was refused: $_->[0]" foreach there('docs', @designs), here('docs', @designs);

my @ids = map { "d$_" } 1 .. 400;
my @docs = map { { %{ body() }, _id => $_ } } @ids;
my @here = here('docs', @docs);
my @there = there('docs', @docs);
my $met = compare('creations', \@here, \@there);
cmp_ok($met->{ok}, '>', 40, '... some pass');
cmp_ok(scalar(keys %$met), '>', 6, '... others do not, for several reasons');

# edits and deletions of what is there
my @stored = grep { $here[$_][0] eq 'ok' } 0 .. $#docs;
my (@edits_here, @edits_there);
foreach my $i (@stored)
{
	my %edit = rand() < 0.3 ? (_deleted => $true) : (%{ body() }, rand() < 0.7 ? (type => $docs[$i]{type}, created_at => $docs[$i]{created_at}) : ());
	push @edits_here, { %edit, _id => $ids[$i], _rev => $here[$i][1] };
	push @edits_there, { %edit, _id => $ids[$i], _rev => $there[$i][1] };
}
$met = compare('edits and deletions', [ here('docs', @edits_here) ], [ there('docs', @edits_there) ]);
cmp_ok($met->{ok}, '>', 20, '... some pass');
ok($met->{'forbidden: Field cannot be changed: type'}, '... the old document is looked at');
check_table($node, 'db', 'docs');

# ---------- replication: what is refused, into a table and into a PouchDB ----------

# Of the documents in a table or database, the ids.
my $plain = $couch->create('plain');
post("$plain/_bulk_docs", $json->encode({ docs => \@docs }));
$node->safe_psql('db', q{SELECT docrep.create_table('strict')});
here('strict', @designs);
my $run = replicate($node, 'db', $plain, 'strict');
my $refused = grep { $_->[0] ne 'ok' } @here;
is("$run->{docs_written} $run->{doc_write_failures}", (@docs - $refused) . " $refused", 'pulled into a table that validates');
is($node->safe_psql('db', q{SELECT string_agg(id, ',' ORDER BY id) FROM docrep.rejected_docs WHERE tbl = 'strict'::regclass}),
	join(',', sort map { $ids[$_] } grep { $here[$_][0] ne 'ok' } 0 .. $#docs), '... what was refused is kept');

$node->safe_psql('db', q{SELECT docrep.create_table('loose')});
here('loose', @docs);
$couch->create('strict');
there('strict', @designs);
$run = replicate($node, 'db', 'loose', $couch->url('strict'));
is("$run->{docs_written} $run->{doc_write_failures}", (@docs - $refused) . " $refused", 'pushed into a PouchDB that validates: as many');

# a migration: the design documents come with the documents, which that very batch does not refuse,
# and from then on they validate
my $all = $couch->create('all');
post("$all/_bulk_docs", $json->encode({ docs => [ @docs[ 0 .. 9 ] ] }));
$_->[0] eq 'ok' or die $_->[0] foreach there('all', @designs);
$run = replicate($node, 'db', $all, 'migrated', create_target => $true);
is($run->{doc_write_failures}, 0, 'a database is pulled with its validators');
is((here('migrated', { _id => 'more', type => 'post' }))[0][0], 'forbidden: Document must have a title', '... which validate here');

done_testing();
