# pouchdb-express-router as source and as target: it has no _bulk_get, so
# documents are fetched one by one with open_revs.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT replicate check_table);
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my $router = DocrepInterop->new('router', kind => 'router');
my $node = new_node('pg', databases => ['db']);
my $source = $router->create('source');

# It takes no JSON of more than 1 MB, and on today's Node it answers multipart requests
# before it has read large files; so the largest attachments stay out.
my $made = decode_json(js('generate.js', $source, is_soak() ? 5000 : 500, 5, 'small'));

my $pulled = replicate($node, 'db', $source, 'docs', create_target => $true);
is($pulled->{docs_written}, $made->{leaves}, 'every leaf was pulled') or diag explain $pulled;
is($pulled->{doc_write_failures}, 0, 'none was refused');
my $leaves = table_leaves($node, 'db', 'docs');
is_same_leaves(couch_leaves($source), $leaves, 'equal after the pull');
check_table($node, 'db', 'docs');

my $pushed = replicate($node, 'db', 'docs', $router->url('target'), create_target => $true);
is($pushed->{docs_written}, $made->{leaves}, 'every leaf was pushed') or diag explain $pushed;
is($pushed->{doc_write_failures}, 0, 'none was refused');
is_same_leaves(couch_leaves($router->url('target')), table_leaves($node, 'db', 'docs'), 'equal after the push');
is_written_once($router, 'nothing was written twice');

# without being asked not to, and with it
my $without = replicate($node, 'db', $source, 'again', create_target => $true, use_bulk_get => JSON::PP::false);
is($without->{docs_written}, $made->{leaves}, 'every leaf was pulled without trying _bulk_get');
is_same_leaves($leaves, table_leaves($node, 'db', 'again'), 'equal');

# continuously
replicate($node, 'db', $source, 'docs', continuous => $true);
js('edit.js', $source, 3, 100, 0);
wait_until(sub {
		my ($there, $here) = (couch_revs($source), table_revs($node, 'db', 'docs'));
		same_revs($there, $here);
	}, 60, 'the edits to arrive');
replicate($node, 'db', $source, 'docs', continuous => $true, cancel => $true);

done_testing();
