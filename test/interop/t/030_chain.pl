# pouchdb-server to Postgres to Postgres (libpq) to pouchdb-server: the ends are
# equal, first by replications one after the other, then by continuous ones.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT replicate check_table);
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my ($first, $last) = map { DocrepInterop->new($_) } 'first', 'last';
my ($one, $two) = map { new_node($_, databases => ['db']) } 'one', 'two';
my $made = decode_json(js('generate.js', $first->create('db'), is_soak() ? 10000 : 1200, 3));

# ---------- one after the other ----------

my @chain = (
	[ $one, $first->url('db'), 'docs' ],
	[ $one, 'docs', pg_url($two, 'db', table => 'docs') ],
	[ $two, 'docs', $last->url('db') ]);
foreach my $link (@chain)
{
	my ($node, $source, $target) = @$link;
	my $result = replicate($node, 'db', $source, $target, create_target => $true);
	is($result->{docs_written}, $made->{leaves}, "every leaf went from $source to $target") or diag explain $result;
	is($result->{doc_write_failures}, 0, 'none was refused');
}
is_same_leaves(couch_leaves($first->url('db')), couch_leaves($last->url('db')), 'the ends of the chain are equal');
is_written_once($last, 'nothing was written twice there');
check_table($one, 'db', 'docs');
check_table($two, 'db', 'docs');

# ---------- continuously ----------

replicate($_->[0], 'db', $_->[1], $_->[2], continuous => $true) foreach @chain;
js('edit.js', $first->url('db'), 5, is_soak() ? 5000 : 300, 0);
my $wanted = couch_revs($first->url('db'));
wait_until(sub { same_revs($wanted, couch_revs($last->url('db'))) }, 120, 'the edits to come out at the other end');
is_same_leaves(couch_leaves($first->url('db')), couch_leaves($last->url('db')), 'the ends are equal again');

foreach my $link (@chain)
{
	replicate($link->[0], 'db', $link->[1], $link->[2], continuous => $true, cancel => $true);
}
done_testing();
