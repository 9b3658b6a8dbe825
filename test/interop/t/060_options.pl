# Options of replications with a CouchDB-compatible server, and credentials.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT quote replicate);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->canonical->utf8;
my $couch = DocrepInterop->new('couch');
my $node = new_node('pg', databases => ['db']);
my $url = $couch->create('db');
my $made = decode_json(js('generate.js', $url, 300, 9));

# docrep.replicate as a statement that is to fail: its SQLSTATE and message.
sub failure
{
	my ($request) = @_;
	return sqlstate($node, 'db', 'SELECT docrep.replicate(' . quote($json->encode($request)) . ')');
}

# ---------- what is not there ----------

is((failure({ source => $url, target => 'none' }))[0], 'DR404', 'a target table that is not there');
is((failure({ source => $couch->url('none'), target => 'none', create_target => $true }))[0], 'DR404',
	'a source database that is not there');
$node->safe_psql('db', q{SELECT docrep.create_table('docs')});
is((failure({ source => 'docs', target => $couch->url('none') }))[0], 'DR404', 'a target database that is not there');
ok(!grep({ $_ eq 'none' } @{ $couch->get('_all_dbs') }), 'none was made by looking');

# ---------- a table with columns of its own ----------

$node->safe_psql('db', q{SELECT docrep.create_table('typed');
	ALTER TABLE typed ADD COLUMN type text GENERATED ALWAYS AS (doc ->> 'type') STORED, ADD COLUMN note text DEFAULT 'new'});
is(replicate($node, 'db', $url, 'typed')->{docs_written}, $made->{leaves}, 'pulled into a table that was there');
is($node->safe_psql('db', q{SELECT bool_and(type IS NOT DISTINCT FROM doc ->> 'type' AND note = 'new') FROM typed}), 't',
	'its own columns are filled');
is_same_leaves(couch_leaves($url), table_leaves($node, 'db', 'typed'), 'equal');

# ---------- checkpoints ----------

# The same document on both sides, which is CouchDB's.
my $id = $node->safe_psql('db', q{SELECT replication_id FROM docrep.checkpoints WHERE tbl = 'typed'::regclass});
$id =~ s/\+.*//;
my $there = $couch->get("db/_local/$id");
my $here = $json->decode($node->safe_psql('db', q{SELECT docrep.get_local('typed', } . quote($id) . ')'));
delete @$_{qw(_id _rev)} foreach $there, $here;
is_deeply($there, $here, 'the checkpoint is the same on both sides');
ok(exists $there->{$_}, "it has $_") foreach qw(session_id source_last_seq replication_id_version history);
is(scalar @{ $there->{history} }, 1, 'and the history of one session');

replicate($node, 'db', $url, 'docs', use_checkpoints => $false, create_target => $true);
is($node->safe_psql('db', q{SELECT count(*) FROM docrep.checkpoints WHERE tbl = 'docs'::regclass}), 0, 'use_checkpoints false leaves none here');
my $again = replicate($node, 'db', $url, 'docs', use_checkpoints => $false);
is($again->{docs_written}, 0, 'the second time nothing is written');
is($again->{missing_checked}, $made->{leaves}, 'but everything is looked at');

# ---------- some of the documents ----------

my @ids = ('a/b', 'a+b', "\x{1F600}", '_design/app', 'doc-00003', 'a b', '%2F not there', '"');
$node->safe_psql('db', 'SELECT docrep.replicate(' . quote($json->encode(
	{ source => $url, target => 'some', create_target => $true, doc_ids => \@ids })) . ')');
my $theirs = couch_leaves($url);
my %wanted = map { $_ => $theirs->{$_} } grep { my $key = decode_json($_); grep { $_ eq $key->[0] } @ids } keys %$theirs;
is_same_leaves(table_leaves($node, 'db', 'some'), \%wanted, 'doc_ids: those and no others');
replicate($node, 'db', 'docs', $couch->url('some'), create_target => $true, doc_ids => [ 'doc-00003', 'a+b' ]);
is_deeply([ sort map { decode_json($_)->[0] } keys %{ couch_leaves($couch->url('some')) } ],
	[ sort map { decode_json($_)->[0] } grep { (decode_json($_)->[0] =~ /\A(?:doc-00003|a\+b)\z/) } keys %$theirs ],
	'doc_ids of a push');

# ---------- from somewhere on ----------

my $seq = $couch->get('db')->{update_seq};
js('request.js', 'PUT', "$url/later%20$_", '{}') foreach 1, 2, 3;
my $late = replicate($node, 'db', $url, 'late', create_target => $true, since_seq => $seq);
is($late->{docs_written}, 3, 'since_seq: what came later');
is($node->safe_psql('db', q{SELECT string_agg(_id, ',' ORDER BY _id) FROM late}), 'later 1,later 2,later 3', 'and nothing else');

# ---------- winners only ----------

replicate($node, 'db', $url, 'winners', create_target => $true, winning_revs_only => $true);
is($node->safe_psql('db', q{SELECT conflict_count FROM docrep.tables WHERE tbl = 'winners'::regclass}), 0, 'winning_revs_only leaves conflicts behind');
is($node->safe_psql('db', q{SELECT count(*) FROM winners}), $couch->get('db')->{doc_count}, 'and no document');

# ---------- small batches, one connection ----------

foreach my $connections (2, 1)
{
	my $slow = eval { decode_json($node->safe_psql('db', "SET statement_timeout = '120s'; SELECT docrep.replicate(" . quote($json->encode(
		{ source => $url, target => "slow$connections", create_target => $true, worker_batch_size => 7, http_connections => $connections })) . ')')) };
	is($slow->{docs_written}, $made->{leaves} + 3, "batches of 7 over $connections connections") or diag $@;
}
is_same_leaves(couch_leaves($url), table_leaves($node, 'db', 'slow2'), 'equal');

# ---------- a validation function over there ----------

js('request.js', 'PUT', $couch->create('strict') . '/_design/check', $json->encode({
	validate_doc_update => 'function (doc) { if (doc.bad) { throw({forbidden: "no bad documents"}); } }' }));
$node->safe_psql('db', q{SELECT docrep.create_table('mixed');
	INSERT INTO mixed(_id, doc) SELECT 'm' || i, jsonb_build_object('bad', i % 10 = 0) FROM generate_series(1, 100) i;
	SELECT docrep.put_attachment('mixed', 'm10', 'a', 'text/plain', 'a', (SELECT _rev::text FROM mixed WHERE _id = 'm10'))});
my $strict = replicate($node, 'db', 'mixed', $couch->url('strict'));
is($strict->{doc_write_failures}, 10, 'what a validation function forbids is counted') or diag explain $strict;
is($strict->{docs_written}, 90, 'and the rest goes on');
is($couch->get('strict')->{doc_count}, 91, 'the rest is there');

# ---------- a database that is made anew under a continuous job ----------

my $anew = $couch->create('anew');
js('request.js', 'PUT', "$anew/old$_", '{}') foreach 1 .. 20;
replicate($node, 'db', $anew, 'anew', create_target => $true, continuous => $true);
wait_for_query($node, 'db', 'SELECT count(*) FROM anew', 20);
js('request.js', 'DELETE', $anew);
js('request.js', 'PUT', $anew);
js('request.js', 'PUT', "$anew/new$_", '{}') foreach 1 .. 3;
# the feed of a database that is gone stays open here, and silent; CouchDB ends it
$couch->kill9;
$couch->start;
wait_for_query($node, 'db', q{SELECT count(*) FROM anew WHERE _id LIKE 'new%'}, 3, 60);
replicate($node, 'db', $anew, 'anew', continuous => $true, cancel => $true);

# ---------- credentials ----------

my $secret = 'p@ss:w/rd%2F';
my $safe = 'p%40ss%3Aw%2Frd%252F';
my $shut = DocrepInterop->new('shut', admin => 'root', password => 'adminpw');
my $admin = $shut->create('db');
$admin = $shut->url('db', admin => 1);
js('request.js', 'PUT', $shut->url('_users/org.couchdb.user:bob', admin => 1),
	$json->encode({ _id => 'org.couchdb.user:bob', type => 'user', name => 'bob', password => $secret, roles => [] }));
js('request.js', 'PUT', "$admin/_security",
	$json->encode({ members => { names => ['bob'], roles => [] }, admins => { names => [], roles => [] } }));
js('request.js', 'POST', "$admin/_bulk_docs", '{"docs": [{"_id": "one"}, {"_id": "two"}]}');

my $plain = $shut->url('db');
my %ways = (
	'in the URL' => $shut->url('db', user => "bob:$safe"),
	'as auth.basic' => { url => $plain, auth => { basic => { username => 'bob', password => $secret } } },
	'as a header' => { url => $plain, headers => { Authorization => 'Basic Ym9iOnBAc3M6dy9yZCUyRg==' } });
my $there_now = 2;
foreach my $way (sort keys %ways)
{
	my $table = lc $way =~ s/\W/_/gr;
	my $result = eval { $json->decode($node->safe_psql('db', 'SELECT docrep.replicate(' .
		quote($json->encode({ source => $ways{$way}, target => $table, create_target => $true })) . ')')) };
	is($result->{docs_written}, $there_now++, "credentials $way") or diag $@;
	$node->safe_psql('db', "INSERT INTO $table(_id, doc) VALUES ('by $table', '{}')");
	$result = eval { $json->decode($node->safe_psql('db', 'SELECT docrep.replicate(' .
		quote($json->encode({ source => $table, target => $ways{$way} })) . ')')) };
	is($result->{docs_written}, 1, "credentials $way, pushed") or diag $@;
}

my $wrong = 'wr0ng-s3cret';
foreach my $source ($plain, $shut->url('db', user => "bob:$wrong"),
	{ url => $plain, auth => { basic => { username => 'bob', password => $wrong } } },
	{ url => $plain, headers => { Authorization => 'Basic Ym9iOndyMG5nLXMzY3JldA==' } })
{
	my ($state, $message) = failure({ source => $source, target => 'refused', create_target => $true });
	is($state, 'DR401', 'refused without the right credentials') or diag $message;
	unlike($message, qr/\Q$wrong\E|Ym9i/, 'the message does not have them');
}
is($node->safe_psql('db', q{SELECT count(*) FROM docrep.tables WHERE tbl::text = 'refused'}), 0, 'no target was made');

# A continuous job whose credentials are no longer taken is crashing, and says why without them.
my %job = (source => $ways{'in the URL'}, target => 'watched', create_target => $true, continuous => $true);
$node->safe_psql('db', 'SELECT docrep.replicate(' . quote($json->encode(\%job)) . ')');
wait_for_query($node, 'db', 'SELECT count(*) FROM watched', 5);
js('request.js', 'PUT', "$admin/_security",
	$json->encode({ members => { names => ['alice'], roles => [] }, admins => { names => [], roles => [] } }));
js('request.js', 'PUT', "$admin/three", '{}');
wait_for_query($node, 'db', q{SELECT count(*) FROM docrep.active_tasks WHERE state = 'crashing' AND last_error IS NOT NULL}, 1, 60);
my $shown = $node->safe_psql('db', q{
	SELECT t::text FROM docrep.active_tasks t UNION ALL SELECT c::text FROM docrep.checkpoints c
	UNION ALL SELECT r::text FROM docrep.rejected_docs r UNION ALL SELECT application_name || coalesce(query, '') FROM pg_stat_activity
	WHERE pid <> pg_backend_pid()});
cmp_ok(length $shown, '>', 100, 'there is something to look at');
js('request.js', 'PUT', "$admin/_security",
	$json->encode({ members => { names => ['bob'], roles => [] }, admins => { names => [], roles => [] } }));
wait_for_query($node, 'db', q{SELECT count(*) FROM watched WHERE _id = 'three'}, 1, 90);
$node->safe_psql('db', 'SELECT docrep.replicate(' . quote($json->encode({ %job, cancel => $true })) . ')');

# A session that ends under a job is renewed.
js('request.js', 'PUT', $shut->url('_config/couch_httpd_auth/timeout', admin => 1), '"2"');
$node->safe_psql('db', 'SELECT docrep.replicate(' . quote($json->encode({ %job, target => 'renewed' })) . ')');
wait_for_query($node, 'db', 'SELECT count(*) FROM renewed', $shut->get('db')->{doc_count});
js('session.js', $shut->url, 'bob', $secret, 'db');
js('request.js', 'PUT', "$admin/four", '{}');
wait_for_query($node, 'db', q{SELECT count(*) FROM renewed WHERE _id = 'four'}, 1, 60);
$node->safe_psql('db', 'SELECT docrep.replicate(' . quote($json->encode({ %job, target => 'renewed', cancel => $true })) . ')');

my $log = slurp_file($node->logfile);
foreach my $text ($secret, $safe, $wrong, 'Ym9iO')
{
	unlike($shown, qr/\Q$text\E/, 'views do not show a secret');
	unlike($log, qr/\Q$text\E/, 'nor does the log');
}

done_testing();
