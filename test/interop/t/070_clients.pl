# What Apache's nano and the Cloudant SDK read in a database that docrep has
# pushed into is what SQL shows here.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT replicate);
use Digest::SHA qw(sha256_hex);
use IPC::Run;
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my $couch = DocrepInterop->new('couch', admin => 'root', password => 'a:b/c');
my $node = new_node('pg', databases => ['db']);

# documents that were made by SQL
$node->safe_psql('db', <<'SQL');
SELECT docrep.create_table('docs');
INSERT INTO docs(_id, doc) SELECT 'order ' || i, jsonb_build_object('n', i, 'total', i * 1.25, 'text', repeat('ä😀 ', i % 40),
	'list', jsonb_build_array(i, NULL, true, '{}'::jsonb)) FROM generate_series(1, 2000) i;
UPDATE docs SET doc = doc || '{"paid": true}' WHERE (doc ->> 'n')::int % 3 = 0;
DELETE FROM docs WHERE (doc ->> 'n')::int % 50 = 0;
INSERT INTO docs(_id, doc) VALUES ('a/b+c %2F', '{"odd": "id"}'), ('_design/app', '{"language": "javascript", "views": {}}');
SELECT docrep.put_attachment('docs', 'order 1', 'small ü+.txt', 'text/plain', 'small', (SELECT _rev::text FROM docs WHERE _id = 'order 1'));
SELECT docrep.put_attachment('docs', 'order 1', 'big', 'application/octet-stream', decode(repeat('00ff10a5', 300000), 'hex'),
	(SELECT _rev::text FROM docs WHERE _id = 'order 1'));
SELECT * FROM docrep.bulk_docs('docs', '[
	{"_id": "fight", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "who": "b"},
	{"_id": "fight", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "who": "c"}]', false);
SQL

my $pushed = replicate($node, 'db', 'docs', $couch->url('db', user => 'root:a%3Ab%2Fc'), create_target => $true);
is($pushed->{doc_write_failures}, 0, 'nothing was refused') or diag explain $pushed;

my @ids = ('order 1', 'order 3', 'a/b+c %2F', '_design/app', 'fight');
my $read = decode_json(js('clients.js', $couch->url, 'db', JSON::PP->new->encode(\@ids), 'root', 'a:b/c'));

# the same from SQL
my ($bodies, $err) = ('', '');
IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr('db'), '-c', 'SELECT jsonb_build_array(_id, _rev::text, doc) FROM docs' ],
	'<', \undef, '|', [ 'node', 'test/interop/js/bodies.js' ], '>', \$bodies, '2>', \$err) or die $err;
chomp $bodies;
my %wanted = (
	doc_count => $node->safe_psql('db', 'SELECT count(*) FROM docs'),
	deleted => $node->safe_psql('db', q{SELECT docrep.info('docs') ->> 'doc_del_count'}),
	leaves => $node->safe_psql('db', q{SELECT sum(jsonb_array_length(changes)) FROM docrep.changes('docs', style => 'all_docs')}),
	bodies => $bodies);
my %attachments = (
	"order 1 small \x{fc}+.txt" => sha256_hex('small'),
	'order 1 big' => sha256_hex(pack('H*', '00ff10a5') x 300000));

foreach my $client ('nano', 'cloudant')
{
	my $seen = $read->{$client};
	is($seen->{$_}, $wanted{$_}, "$client: $_") foreach sort keys %wanted;
	is_deeply($seen->{attachments}, \%attachments, "$client: attachments");
	is(decode_json($seen->{docs}{'a/b+c %2F'})->{odd}, 'id', "$client: a document with an odd id");
	is(decode_json($seen->{docs}{fight})->{who}, 'c', "$client: the winner of a conflict");
}

done_testing();
