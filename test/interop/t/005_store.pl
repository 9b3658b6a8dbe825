# Without replication: what PouchDB reads from a server, written with bulk_docs, is
# the same here, and what docrep.get shows, written by PouchDB to a server, is the
# same there: trees, bodies, digests, contents.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT check_table);
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use SqlEditor;
use Test::More;

my $couch = DocrepInterop->new('couch');
my $node = new_node('pg', databases => ['db']);
my $url = $couch->create('db');
my $made = decode_json(js('generate.js', $url, 600, 4));

my $file = PostgreSQL::Test::Utils::tempdir() . '/docs.jsonl';
append_to_file($file, js('docs.js', $url));

# a line is taken as it is
my $raw = q{(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')};
$node->safe_psql('db', q{SELECT docrep.create_table('docs'); CREATE TABLE raw(doc jsonb)});
$node->safe_psql('db', "\\copy raw FROM '$file' $raw");
is($node->safe_psql('db', q{SELECT b.* FROM docrep.bulk_docs('docs', (SELECT jsonb_agg(doc) FROM raw), new_edits => false) b}), '',
	'nothing is refused');
check_table($node, 'db', 'docs');

my $leaves = couch_leaves($url);
# PouchDB cannot read the documents "." and ".."
delete @$leaves{ grep { /^\["\.\.?"/ } keys %$leaves };
my $mine = table_leaves($node, 'db', 'docs');
is_same_leaves($leaves, $mine, 'equal here', revpos => 1);

# ---------- back again, after edits ----------

my $editor = SqlEditor->new($node, 'db', 'docs', 20);
$editor->edit foreach 1 .. 200;
cmp_ok(scalar($editor->edits), '>', 100, 'SQL has edited');
check_table($node, 'db', 'docs');

my $back = PostgreSQL::Test::Utils::tempdir() . '/back.jsonl';
$node->safe_psql('db', qq{\\copy (SELECT v -> 'ok' FROM docrep.changes('docs', style => 'all_docs') c, jsonb_array_elements(docrep.get('docs', c.id, open_revs => '"all"', revs => true, attachments => true)) v) TO '$back' $raw});
my $err = '';
IPC::Run::run([ 'node', 'test/interop/js/put.js', $couch->create('back') ], '<', $back, '2>', \$err) or die $err;
is_same_leaves(couch_leaves($couch->url('back')), table_leaves($node, 'db', 'docs'), 'equal there');

done_testing();
