# One-shot replication: the four combinations of local and Postgres endpoints,
# checkpoints, what travels and what does not, and the figures in the result.
use strict;
use warnings;

use DocrepTest;
use JSON::PP;
use Test::More;

# Databases one and two of a server and far of another; replications run in one,
# except where a test says otherwise.
my $near = new_node('near', databases => [ 'one', 'two' ]);
my $other = new_node('other', databases => ['far']);
my $json = JSON::PP->new->canonical;

# Runs a replication in a database; returns the result, decoded.
sub replicate
{
	my ($node, $db, $source, $target, %options) = @_;
	my $text = $json->encode(\%options);
	my $result = $node->safe_psql($db,
		"SELECT docrep.replicate(" . join(', ', map { quote($_) } $source, $target, $text) . ')');
	return $json->decode($result);
}

sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Every document with all of its leaves, their histories and bodies, as text.
sub contents
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, qq{
		SELECT c.id, c.changes, c.deleted,
			docrep.get('$table', c.id, open_revs => '"all"', revs => true)
		FROM docrep.changes('$table', style => 'all_docs') c ORDER BY c.id COLLATE "C"});
}

sub same_contents
{
	my ($name, @places) = @_;
	is(contents(@places[ 3 .. 5 ]), contents(@places[ 0 .. 2 ]), $name);
}

# A table with live documents, updates, tombstones, conflicts (live and deleted
# losers), foreign revisions and a design document.
sub fill
{
	my ($node, $db, $table) = @_;
	$node->safe_psql($db, qq{
		SELECT docrep.create_table('$table');
		INSERT INTO $table(_id, doc)
			SELECT 'doc' || i, jsonb_build_object('n', i, 'text', repeat('x', i % 50))
			FROM generate_series(1, 1500) i;
		UPDATE $table SET doc = doc || '{"edited": true}' WHERE (doc->>'n')::int % 7 = 0;
		DELETE FROM $table WHERE (doc->>'n')::int % 11 = 0;
		INSERT INTO $table(_id, doc) VALUES ('_design/views', '{"language": "javascript"}');
		SELECT docrep.bulk_docs('$table', '[
			{"_id": "fight", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "who": "b"},
			{"_id": "fight", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "who": "c"},
			{"_id": "fight", "_rev": "3-d", "_revisions": {"start": 3, "ids": ["d", "x", "a"]}, "_deleted": true},
			{"_id": "lost", "_rev": "1-z", "_revisions": {"start": 1, "ids": ["z"]}, "_deleted": true, "why": "gone"}
			]', new_edits => false);
		SELECT docrep.put_local('$table', 'mine', '{"secret": 1}')});
}

fill($near, 'one', 'src');
fill($other, 'far', 'src');
my $live = $near->safe_psql('one', 'SELECT count(*) FROM src');
my $leaves = $near->safe_psql('one', q{
	SELECT sum(jsonb_array_length(changes)) FROM docrep.changes('src', style => 'all_docs')});

my $far_src = pg_url($other, 'far', table => 'src');

# --- the four combinations ---

my @combinations = (
	[ 'local to local', 'src', $near, 'one', 'src', 'll', $near, 'one', 'll' ],
	[ 'pull', $far_src, $other, 'far', 'src', 'pulled', $near, 'one', 'pulled' ],
	[ 'push', 'src', $near, 'one', 'src', pg_url($other, 'far', table => 'pushed'), $other, 'far', 'pushed' ],
	[ 'remote to remote', $far_src, $other, 'far', 'src', pg_url($near, 'two', table => 'rr'), $near, 'two', 'rr' ],
);
foreach my $combination (@combinations)
{
	my ($name, $source, $snode, $sdb, $stable, $target, $tnode, $tdb, $ttable) = @$combination;

	my $first = replicate($near, 'one', $source, $target, create_target => JSON::PP::true);
	ok($first->{ok}, "$name: ok");
	is("$first->{docs_read} $first->{docs_written} $first->{doc_write_failures}",
		"$leaves $leaves 0", "$name: every leaf was read and written once");
	is($first->{replication_id_version}, 4, "$name: version of the replication id");
	is($first->{history}[0]{docs_written}, $leaves, "$name: history");
	is($first->{history}[0]{session_id}, $first->{session_id}, "$name: session");
	same_contents("$name: all leaves with their histories", $snode, $sdb, $stable, $tnode, $tdb, $ttable);
	is($tnode->safe_psql($tdb, "SELECT docrep.get_local('$ttable', 'mine')"),
		'', "$name: local documents stay");

	my $before = contents($tnode, $tdb, $ttable);
	my $again = replicate($near, 'one', $source, $target, create_target => JSON::PP::true);
	ok($again->{no_changes}, "$name: the second time there is nothing to do");
	is($again->{session_id}, $first->{session_id}, "$name: and the session is the old one");
	is("$again->{docs_read} $again->{missing_checked}", '0 0', "$name: nothing was looked at");

	$snode->safe_psql($sdb, qq{UPDATE $stable SET doc = doc || '{"again": "$name"}' WHERE _id = 'doc1'});
	my $third = replicate($near, 'one', $source, $target);
	is("$third->{docs_read} $third->{docs_written} $third->{missing_checked}",
		'1 1 1', "$name: one edit, one document");
	is(scalar @{ $third->{history} }, 2, "$name: two sessions in the history");
	isnt(contents($tnode, $tdb, $ttable), $before, "$name: the edit arrived");
	same_contents("$name: equal again", $snode, $sdb, $stable, $tnode, $tdb, $ttable);

	is($third->{source_last_seq}, $third->{history}[0]{recorded_seq}, "$name: recorded up to the end");
}

# --- checkpoints ---

my $shown = $near->safe_psql('one', q{
	SELECT source_seq FROM docrep.checkpoints WHERE tbl::text IN ('src', 'll') AND source NOT LIKE '%:%'
	AND target NOT LIKE '%:%'});
my $result = replicate($near, 'one', 'src', 'll');
$near->safe_psql('one', q{SELECT docrep.put('src', '{"_id": "after"}')});
$result = replicate($near, 'one', 'src', 'll');
is($near->safe_psql('one', qq{SELECT count(*) FROM docrep.checkpoints
		WHERE session_id = '$result->{session_id}' AND source_seq = '$result->{source_last_seq}'
		AND recorded_at > now() - interval '1 hour'}),
	'1', 'the view shows the checkpoint');

# The target is put back to an older state: it has lost documents, and its
# checkpoint with them.
my $id = $near->safe_psql('one', qq{SELECT replication_id FROM docrep.checkpoints
	WHERE session_id = '$result->{session_id}'});
my $old = $near->safe_psql('one', "SELECT docrep.get_local('ll', '$id')");
$near->safe_psql('one', q{SELECT docrep.put('src', '{"_id": "later"}')});
replicate($near, 'one', 'src', 'll');
$near->safe_psql('one', qq{
	SELECT docrep.purge('ll', (SELECT jsonb_build_object('later', jsonb_build_array(_rev::text)) FROM ll WHERE _id = 'later'));
	SELECT docrep.put_local('ll', '$id', } . quote($old) . ')');
$result = replicate($near, 'one', 'src', 'll');
is($result->{docs_written}, 1, 'a target put back to an older state gets what it lost');
same_contents('and is equal again', $near, 'one', 'src', $near, 'one', 'll');

# The target's checkpoint is gone: everything is compared, nothing is moved.
$near->safe_psql('one', "SELECT docrep.delete_local('ll', '$id')");
$result = replicate($near, 'one', 'src', 'll');
is("$result->{docs_read} $result->{docs_written}", '0 0', 'without a checkpoint nothing is moved twice');
cmp_ok($result->{missing_checked}, '>=', $leaves, 'but everything is compared');

# A checkpoint that is none is as good as none.
$near->safe_psql('one', qq{SELECT docrep.put_local('ll', '$id', '{"session_id": 5, "history": [7, {}]}')});
$result = replicate($near, 'one', 'src', 'll');
is("$result->{docs_read}", '0', 'a malformed checkpoint does no harm');
ok(replicate($near, 'one', 'src', 'll')->{no_changes}, 'and is replaced');

# use_checkpoints: false
$near->safe_psql('one', q{SELECT docrep.create_table('unmarked')});
$result = replicate($near, 'one', 'src', 'unmarked', use_checkpoints => JSON::PP::false);
same_contents('without checkpoints', $near, 'one', 'src', $near, 'one', 'unmarked');
$result = replicate($near, 'one', 'src', 'unmarked', use_checkpoints => JSON::PP::false);
is($result->{docs_written}, 0, 'without checkpoints nothing is written twice either');
cmp_ok($result->{missing_checked}, '>=', $leaves, 'but everything is compared again');
is($near->safe_psql('one', q{SELECT count(*) FROM docrep.checkpoints WHERE tbl = 'unmarked'::regclass}),
	'0', 'and none was written');

# Batch sizes change nothing but the number of batches.
$near->safe_psql('one', q{SELECT docrep.create_table('small')});
$result = replicate($near, 'one', 'src', 'small', worker_batch_size => 7);
same_contents('small batches', $near, 'one', 'src', $near, 'one', 'small');

# --- since_seq ---

$near->safe_psql('one', q{SELECT docrep.create_table('late'); SELECT docrep.create_table('since')});
$near->safe_psql('one', q{INSERT INTO since(_id, doc) SELECT 'd' || i, '{}' FROM generate_series(1, 10) i});
my $middle = $near->safe_psql('one', q{SELECT seq FROM docrep.changes('since') OFFSET 3 LIMIT 1});
$result = replicate($near, 'one', 'since', 'late', since_seq => 0 + $middle);
is($result->{docs_written}, 6, 'since_seq leaves out what was before');
$near->safe_psql('one', q{SELECT docrep.put('since', '{"_id": "new"}')});
$result = replicate($near, 'one', 'since', 'late', since_seq => 0 + $middle);
is($result->{missing_checked}, 1, 'the same since_seq again goes on from the checkpoint');
$result = replicate($near, 'one', 'since', 'late', since_seq => 0);
is($result->{docs_written}, 4, 'another since_seq counts again');
same_contents('from the beginning', $near, 'one', 'since', $near, 'one', 'late');

# --- doc_ids, winning_revs_only ---

$near->safe_psql('one', q{SELECT docrep.create_table('chosen'); SELECT docrep.create_table('winners')});
$result = replicate($near, 'one', 'src', 'chosen', doc_ids => [ 'doc2', 'fight', 'lost', 'doc2', 'nobody' ]);
is($near->safe_psql('one', q{SELECT string_agg(id, ',' ORDER BY id) FROM docrep.changes('chosen')}),
	'doc2,fight,lost', 'doc_ids: those that exist, tombstones included');
is($result->{docs_written}, 5, 'doc_ids: all leaves of those');
$near->safe_psql('one', q{SELECT docrep.put('src', '{"_id": "nobody"}'); SELECT docrep.put('src', '{"_id": "stranger"}')});
$result = replicate($near, 'one', 'src', 'chosen', doc_ids => [ 'doc2', 'nobody', 'lost', 'fight' ]);
is($result->{docs_written}, 1, 'doc_ids: in another order it is the same replication');
ok(replicate($near, 'one', 'src', 'chosen', doc_ids => [ 'doc2', 'nobody', 'lost', 'fight' ])->{no_changes},
	'doc_ids: changes of other documents are not looked at again');
ok(replicate($near, 'one', 'src', 'chosen', doc_ids => [])->{ok}, 'doc_ids: none');

$result = replicate($near, 'one', 'src', 'winners', winning_revs_only => JSON::PP::true);
is($near->safe_psql('one', q{SELECT docrep.get('winners', 'fight', open_revs => '"all"')}),
	$near->safe_psql('one', q{SELECT jsonb_build_array(jsonb_build_object('ok', docrep.get('src', 'fight')))}),
	'winning_revs_only: conflicts stay behind');
is($near->safe_psql('one', q{SELECT count(*) FROM winners}),
	$near->safe_psql('one', q{SELECT count(*) FROM src}), 'winning_revs_only: every winner travels');

# --- two ways ---

$near->safe_psql('one', q{SELECT docrep.create_table('east');
	INSERT INTO east(_id, doc) SELECT 'both' || i, '{"side": "east"}' FROM generate_series(1, 300) i});
$other->safe_psql('far', q{SELECT docrep.create_table('west');
	INSERT INTO west(_id, doc) SELECT 'both' || i, '{"side": "west"}' FROM generate_series(201, 500) i});
my $west = pg_url($other, 'far', table => 'west');
my $out = replicate($near, 'one', 'east', $west);
my $back = replicate($near, 'one', $west, 'east');
is("$out->{docs_written} $back->{docs_written}", '300 300', 'two ways: each side gets the other one\'s');
same_contents('two ways: equal', $near, 'one', 'east', $other, 'far', 'west');
is($near->safe_psql('one', q{SELECT count(*) FROM docrep.changes('east', style => 'all_docs')
	WHERE jsonb_array_length(changes) = 2}), '100', 'two ways: what both wrote is in conflict');
$out = replicate($near, 'one', 'east', $west);
$back = replicate($near, 'one', $west, 'east');
is("$out->{docs_read} $out->{docs_written} $back->{docs_read} $back->{docs_written}",
	'0 0 0 0', 'two ways: no document is sent back');
ok(replicate($near, 'one', 'east', $west)->{no_changes} && replicate($near, 'one', $west, 'east')->{no_changes},
	'two ways: quiet');

# --- documents that the target refuses ---

$near->safe_psql('one', q{
	SELECT docrep.create_table('strict');
	ALTER TABLE strict ADD CHECK ((doc->>'n')::int % 100 <> 3 OR doc->>'n' IS NULL)});
$result = replicate($near, 'one', 'src', 'strict');
my $refused = $near->safe_psql('one', q{SELECT count(*) FROM src WHERE (doc->>'n')::int % 100 = 3});
is($result->{doc_write_failures}, $refused, 'refused documents are counted');
is($near->safe_psql('one', q{SELECT count(*) FROM docrep.rejected_docs WHERE tbl = 'strict'::regclass AND error = '23514'}),
	$refused, 'and kept, with the reason');
is($near->safe_psql('one', q{SELECT count(*) FROM strict}),
	$near->safe_psql('one', 'SELECT count(*) FROM src') - $refused, 'and all the others arrive');

# --- what is refused at once ---

my @refused = (
	[ 'DR400', q{'{"source": "src"}'}, qr/target/ ],
	[ 'DR400', q{'{"target": "src"}'}, qr/source/ ],
	[ 'DR400', q{'{"source": "src", "target": "src"}'}, qr/same/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "wrong": 1}'}, qr/"wrong"/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "continuous": "true"}'}, qr/"continuous"/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "worker_batch_size": 1.5}'}, qr/"worker_batch_size"/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "doc_ids": ["a", 1]}'}, qr/"doc_ids"/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "doc_ids": [], "selector": {}}'}, qr/"doc_ids" and "selector"/ ],
	[ 'DR400', q{'["src", "ll"]'}, qr/object/ ],
	[ 'DR404', q{'{"source": "src", "target": "ll", "filter": "a/b"}'}, qr/filter "a\/b"/ ],
	[ 'DR400', q{'{"source": "src", "target": "ll", "delay": "-1 hour"}'}, qr/"delay"/ ],
	[ 'DR404', q{'{"source": "src", "target": "ll", "user_ctx": {"name": "joe"}}'}, qr/"user_ctx.name"/ ],
	[ 'DR404', q{'{"source": "nowhere", "target": "ll"}'}, qr/nowhere/ ],
);
foreach my $case (@refused)
{
	my ($state, $request, $message) = @$case;
	my ($got, $text) = sqlstate($near, 'one', "SELECT docrep.replicate($request)");

	is($got, $state, "$state: $request");
	like($text, $message, 'and the message names it');
}
ok(replicate($near, 'one', 'src', 'll', http_connections => '5', use_bulk_get => JSON::PP::false,
		socket_options => '[{nodelay, true}]', worker_processes => 2)->{ok},
	'options that only tune HTTP are accepted');

done_testing();
