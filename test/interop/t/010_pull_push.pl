# 5,000 documents of all kinds: pulled from a server that others wrote, compared
# leaf by leaf, changed on both sides, pulled and pushed, compared again; and then
# there is nothing left to do.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT quote replicate check_table);
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my $couch = DocrepInterop->new('couch');
my $node = new_node('pg', databases => ['db']);
my $url = $couch->create('db');
my $made = decode_json(js('generate.js', $url, is_soak() ? 50000 : 5000, 1));

# ---------- pulled ----------

my $pulled = replicate($node, 'db', $url, 'docs', create_target => $true);
is($pulled->{docs_written}, $made->{leaves}, 'every leaf was written') or diag explain $pulled;
is($pulled->{doc_write_failures}, 0, 'none was refused');
is($node->safe_psql('db', 'SELECT count(*) FROM docrep.rejected_docs'), 0, 'nothing is among the rejected documents');

my $leaves = couch_leaves($url);
is(scalar keys %$leaves, $made->{leaves}, 'PouchDB sees every leaf');
is_same_leaves($leaves, table_leaves($node, 'db', 'docs'), 'equal after the pull', revpos => 1);
check_table($node, 'db', 'docs');
is($node->safe_psql('db', q{SELECT docrep.info('docs') ->> 'doc_count'}), $couch->get('db')->{doc_count},
	'both count the same number of documents');

my $again = replicate($node, 'db', $url, 'docs');
is($again->{docs_written} // 0, 0, 'a second pull writes nothing') or diag explain $again;

# ---------- changed on both sides ----------

my @edits = split /\n/, js('edit.js', $url, 11, is_soak() ? 5000 : 600, 0);
cmp_ok(scalar @edits, '>', 100, 'documents were edited over there');

# Some of them are the same documents: new conflicts.
$node->safe_psql('db', <<'SQL');
UPDATE docs SET doc = doc || '{"changed": "here"}' WHERE _id IN
	(SELECT _id FROM docs WHERE _id NOT LIKE '\_design/%' ORDER BY md5(_id) LIMIT 600);
DELETE FROM docs WHERE _id IN (SELECT _id FROM docs WHERE _id LIKE 'doc-%' ORDER BY md5(_id || 'x') LIMIT 100);
INSERT INTO docs(_id, doc) SELECT 'here ' || i, jsonb_build_object('n', i, 'text', repeat('made here ', i % 50))
	FROM generate_series(1, 200) i;
INSERT INTO docs(_id, doc) SELECT c.id, '{"again": true}' FROM docrep.changes('docs') c
	WHERE c.deleted AND c.id LIKE 'doc-%' ORDER BY md5(c.id) LIMIT 40;
SELECT count(docrep.delete('docs', id, rev::text)) FROM
	(SELECT DISTINCT ON (id) id, rev FROM docrep.conflicts WHERE NOT is_winner AND NOT deleted ORDER BY id, rev) c
	WHERE md5(id) < '5';
SQL
$node->safe_psql('db', <<'SQL');
SELECT count(docrep.put_attachment('docs', _id, 'added ü.txt', 'text/plain', convert_to('added to ' || _id, 'UTF8'), _rev::text))
	FROM (SELECT _id, _rev FROM docs WHERE _id LIKE 'doc-%' ORDER BY md5(_id || 'y') LIMIT 30) d;
SELECT count(docrep.delete_attachment('docs', _id, 'note.txt', _rev::text))
	FROM (SELECT _id, _rev FROM docs WHERE docrep.get('docs', _id) -> '_attachments' ? 'note.txt' ORDER BY _id LIMIT 10) d;
SQL
my $conflicts = $node->safe_psql('db', q{SELECT conflict_count FROM docrep.tables});

# ---------- both ways ----------

my $more = replicate($node, 'db', $url, 'docs');
cmp_ok($more->{docs_written}, '>', 100, 'the changes were pulled');
is($more->{doc_write_failures}, 0, 'none was refused');
cmp_ok($node->safe_psql('db', q{SELECT conflict_count FROM docrep.tables}), '>', $conflicts, 'there are new conflicts');

my $pushed = replicate($node, 'db', 'docs', $url);
cmp_ok($pushed->{docs_written}, '>', 600, 'the changes were pushed');
is($pushed->{doc_write_failures}, 0, 'none was refused over there') or diag explain $pushed;

my $mine = table_leaves($node, 'db', 'docs');
is_same_leaves(couch_leaves($url), $mine, 'equal after pull and push');
check_table($node, 'db', 'docs');

my %asked;
foreach my $edit (@edits)
{
	my ($id, $rev) = @{ decode_json($edit) };
	push @{ $asked{$id} }, $rev;
}
is($node->safe_psql('db', 'SELECT docrep.revs_diff(' . quote('docs') . ', ' . quote(JSON::PP->new->utf8->encode(\%asked)) . ')'),
	'{}', 'every edit that was made over there is known here');

# ---------- nothing is left ----------

my $before = $couch->get('db')->{update_seq};
my $seq = $node->safe_psql('db', q{SELECT docrep.info('docs') ->> 'update_seq'});
foreach my $pair ([ $url, 'docs' ], [ 'docs', $url ])
{
	my $rest = replicate($node, 'db', @$pair);
	is($rest->{docs_written} // 0, 0, "$pair->[0] to $pair->[1]: nothing is left") or diag explain $rest;
}
is($couch->get('db')->{update_seq}, $before, 'the server was not written to again');
is($node->safe_psql('db', q{SELECT docrep.info('docs') ->> 'update_seq'}), $seq, 'neither was the table');

# ---------- into an empty database ----------

my $copy = replicate($node, 'db', 'docs', $couch->url('copy'), create_target => $true);
is($copy->{docs_written}, scalar keys %$mine, 'all of it was pushed into a new database');
is_same_leaves(couch_leaves($couch->url('copy')), $mine, 'equal in the new database');
is_written_once($couch, 'nothing was written twice there');

done_testing();
