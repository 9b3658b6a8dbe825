# docrep.verify() and docrep.preflight() between servers: all pairs of kinds, a
# larger table, writers that go on meanwhile, and how they are cancelled and watched.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT replicate quote);
use DocrepSession;
use JSON::PP;
use Test::More;

my $near = new_node('near', databases => [ 'one', 'two' ]);
my $other = new_node('other', databases => ['far']);
my $json = JSON::PP->new->canonical;

# The differences as lines "id|rev|difference", revisions cut to 4 digits.
sub differences
{
	my ($source, $target, %options) = @_;
	my $text = $json->encode({ settle => 0, %options });
	my $rows = $near->safe_psql('one', 'SELECT id, rev, difference FROM docrep.verify(' .
		  join(', ', map { quote($_) } $source, $target, $text) . ') ORDER BY 1, 3, 2');
	$rows =~ s/([0-9a-f]{4})[0-9a-f]{28}/$1/g;
	return $rows;
}

# Cancels what a session does and returns the SQLSTATE that it ends with.
sub cancel
{
	my ($session, $node, $db) = @_;
	$node->safe_psql($db, "SELECT pg_cancel_backend($session->{server_pid})");
	return ending($session);
}

# How what a session does ends: its SQLSTATE.
sub ending
{
	my ($session) = @_;
	return $session->receive ? $session->{sqlstate} : 'no answer';
}

# A session that knows the process that serves it.
sub new_session
{
	my ($node, $db) = @_;
	my $session = DocrepSession->new($node, $db);
	$session->{server_pid} = $session->must('SELECT pg_backend_pid()');
	return $session;
}

# --- pairs of kinds ------------------------------------------------------------

my $documents = 20_000;
$near->safe_psql('one', qq{
	SELECT docrep.create_table('src');
	INSERT INTO src(_id, doc) SELECT 'doc' || i, jsonb_build_object('n', i, 'text', repeat('x', i % 300))
		FROM generate_series(1, $documents) i;
	UPDATE src SET doc = doc || '{"edited": true}' WHERE (doc->>'n')::int % 7 = 0;
	DELETE FROM src WHERE (doc->>'n')::int % 11 = 0;
	SELECT docrep.bulk_docs('src', '[
		{"_id": "fight", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "who": "b"},
		{"_id": "fight", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "who": "c"}]', false)});
$near->safe_psql('one', q{
	SELECT docrep.put_attachment('src', 'doc5', 'small', 'text/plain', 'hello'::bytea, (SELECT _rev::text FROM src WHERE _id = 'doc5'));
	SELECT docrep.put_attachment('src', 'doc6', 'large', 'text/plain', convert_to(repeat('0123456789', 50000), 'UTF8'),
		(SELECT _rev::text FROM src WHERE _id = 'doc6'))});
my $far = pg_url($other, 'far', table => 'copy');
my $back = pg_url($near, 'one', table => 'src');
replicate($near, 'one', 'src', $far, create_target => JSON::PP::true);
replicate($near, 'one', $far, 'local', create_target => JSON::PP::true);

is(differences('src', $far), '', 'local and remote are equal');
is(differences($far, 'local'), '', 'remote and local are equal');
is(differences($back, $far), '', 'two remote ones are equal');
is(differences('src', 'local'), '', 'two local ones are equal');
is(differences('src', $far, worker_batch_size => 3, doc_ids => [ map { "doc$_" } 1 .. 250 ]),
	'', 'some documents by their ids');

$other->safe_psql('far', q{
	UPDATE copy SET doc = '{"by": "far"}' WHERE _id = 'doc1';
	DELETE FROM copy WHERE _id = 'doc2';
	INSERT INTO copy VALUES ('far only', '{}');
	SELECT docrep.purge('copy', '{"fight": ["2-b"]}'),
		docrep.purge('copy', jsonb_build_object('doc3', jsonb_build_array(_rev))) FROM copy WHERE _id = 'doc3';
	SELECT docrep.bulk_docs('copy', '[{"_id": "forged", "_rev": "1-a", "v": 1}]', false)});
$near->safe_psql('one', q{SELECT docrep.bulk_docs('src', '[{"_id": "forged", "_rev": "1-a", "v": 2}]', false)});
my $expected = q{doc1|1-[0-9a-f]{4}|%s
doc2|1-[0-9a-f]{4}|%s
doc3|1-[0-9a-f]{4}|document_missing_at_%s
far only|1-[0-9a-f]{4}|document_missing_at_%s
fight|2-b|leaf_missing_at_%s
forged|1-a|body};
my $there = sprintf $expected, ('target_ahead') x 2, 'target', 'source', 'target';
my $here = sprintf $expected, ('source_ahead') x 2, 'source', 'target', 'source';
like(differences('src', $far), qr/^$there$/, 'what differs at the target is told');
like(differences($far, 'src'), qr/^$here$/, 'and the other way round');
like(differences($back, $far), qr/^$there$/, 'also between two remote ones');

# Digests of another kind prove nothing: contents are read, here and there.
$other->safe_psql('far', q{
	ALTER TABLE copy DISABLE TRIGGER USER;
	UPDATE copy SET _attachments = replace(_attachments::text, 'md5-', 'other-')::jsonb WHERE _attachments IS NOT NULL;
	ALTER TABLE copy ENABLE TRIGGER USER});
my @with_atts = (doc_ids => [ 'doc5', 'doc6' ]);
is(differences('src', $far, @with_atts, attachments => 'digests'),
	"doc5|2-" . substr($near->safe_psql('one', q{SELECT docrep.rev_hash_part(_rev) FROM src WHERE _id = 'doc5'}), 0, 4) . "|attachments\n" .
	"doc6|2-" . substr($near->safe_psql('one', q{SELECT docrep.rev_hash_part(_rev) FROM src WHERE _id = 'doc6'}), 0, 4) . '|attachments',
	'digests of attachments differ');
is(differences('src', $far, @with_atts), '', 'but their contents are equal');
is(differences($far, $back, @with_atts), '', 'also between two remote ones');

# --- preflight -----------------------------------------------------------------

my $leaves = $other->safe_psql('far', q{
	SELECT sum(jsonb_array_length(changes)) FROM docrep.changes('copy', style => 'all_docs')});
is($near->safe_psql('one', 'SELECT kind, n FROM docrep.preflight(' . quote($far) .
		") WHERE kind IN ('documents', 'leaves', 'deleted') ORDER BY 1"),
	join("\n",
		'deleted|' . $other->safe_psql('far', q{SELECT docrep.info('copy')->>'doc_del_count'}),
		'documents|' . $other->safe_psql('far', q{SELECT count(*) FROM docrep.changes('copy')}),
		"leaves|$leaves"),
	'preflight counts a remote source');

# --- watched, cancelled --------------------------------------------------------

# Something differs, so a long pause keeps the job there.
my $session = new_session($near, 'one');
my $verify = 'SELECT * FROM docrep.verify(' . join(', ', map { quote($_) } 'src', $far) . q{, '{"settle": 3000000}')};
$session->send($verify);
wait_for_query($near, 'one', q{SELECT count(*) = 1 FROM docrep.active_tasks
	WHERE kind = 'verify' AND state = 'running' AND missing_revisions_found = 6 AND revisions_checked > 40000});
my $task = $near->safe_psql('one', q{SELECT source, target, continuous, docs_read, replication_id FROM docrep.active_tasks});
like($task, qr/^src\|postgresql:.*#copy\|f\|\d{5}\|verify-[0-9a-f]{32}$/, 'it is seen in active_tasks');

# A second call is a job of its own: it may know of newer changes.
my $second = new_session($near, 'one');
$second->send($verify);
wait_for_query($near, 'one', q{SELECT count(*) = 2 FROM docrep.active_tasks
	WHERE kind = 'verify' AND missing_revisions_found = 6});
is(cancel($session, $near, 'one'), '57014', 'a caller can be cancelled');
wait_for_query($near, 'one', q{SELECT count(*) = 1 FROM docrep.active_tasks});
is($second->receive(0), 0, 'the other one still waits');
is(cancel($second, $near, 'one'), '57014', 'the other one, too');
wait_for_query($near, 'one', q{SELECT count(*) = 0 FROM docrep.active_tasks});
wait_for_query($near, 'one', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'docrep worker'});
pass('and then their jobs end');

# By its id, as a replication.
$session->send($verify);
wait_for_query($near, 'one', q{SELECT count(*) = 1 FROM docrep.active_tasks WHERE missing_revisions_found = 6});
my $id = $near->safe_psql('one', 'SELECT replication_id FROM docrep.active_tasks');
$near->safe_psql('one', qq{SELECT docrep.replicate('{"cancel": true, "replication_id": "$id"}')});
is(ending($session), 'DR500', 'it is cancelled by its id');

# --- errors --------------------------------------------------------------------

my $url = 'postgresql://joe:hidden-word@127.0.0.1:1/nowhere#x';
my $offset = -s $near->logfile;
my ($state, $message) = sqlstate($near, 'one', 'SELECT docrep.verify(' . quote('src') . ', ' . quote($url) . ')');
is($state, 'DR503', 'a peer that is not there');
unlike($message, qr/hidden-word/, 'no password in the message');
($state) = sqlstate($near, 'one', 'SELECT docrep.preflight(' . quote($url) . ')');
is($state, 'DR503', 'preflight of a peer that is not there');
ok(!log_has($near, qr/hidden-word/, $offset), 'no password in the log');
($state) = sqlstate($near, 'one', 'SELECT docrep.verify(' . quote('src') . ', ' .
	  quote(pg_url($other, 'far', table => 'no_such')) . ')');
is($state, 'DR404', 'a table that is not there');

$near->append_conf('postgresql.conf', 'docrep.paused = on');
$near->reload;
wait_for_query($near, 'one', 'SHOW docrep.paused', 'on');
($state) = sqlstate($near, 'one', qq{SELECT docrep.verify('src', 'local')});
is($state, '55000', 'not while replication is paused');
$near->append_conf('postgresql.conf', 'docrep.paused = off');
$near->reload;
wait_for_query($near, 'one', 'SHOW docrep.paused', 'off');

# --- while others write --------------------------------------------------------

# Two tables that replicate both ways, and a writer at each that never stops.
# What is on its way is no difference; one that stays is.
$near->safe_psql('one', q{SELECT docrep.create_table('live')});
$near->safe_psql('one', q{INSERT INTO live SELECT 'd' || i, '{"n": 0}' FROM generate_series(1, 2000) i});
my $live = pg_url($other, 'far', table => 'live');
replicate($near, 'one', 'live', $live, create_target => JSON::PP::true, continuous => JSON::PP::true);
replicate($near, 'one', $live, 'live', continuous => JSON::PP::true);
$near->safe_psql('one', q{CREATE PROCEDURE write_on(t regclass, who text) LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			EXECUTE format('UPDATE %s SET doc = jsonb_build_object(''by'', $1, ''r'', random()) WHERE _id = $2', t)
				USING who, 'd' || (1 + random() * 1999)::int;
			EXECUTE format('INSERT INTO %s VALUES (gen_random_uuid()::text, ''{}'')', t);
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
	END $$});
$other->safe_psql('far', $near->safe_psql('one', q{SELECT pg_get_functiondef('write_on'::regproc)}));
my $writer = new_session($near, 'one');
my $far_writer = new_session($other, 'far');
$writer->send(q{CALL write_on('live', 'near')});
$far_writer->send(q{CALL write_on('live', 'far')});
wait_for_query($near, 'one', q{SELECT count(*) > 2100 FROM live});
wait_for_query($other, 'far', q{SELECT count(*) > 2100 FROM live});

# What differs for good.  On a busy machine a document may be on its way for longer than a verification that
# is to be quick waits: those are looked at again with more patience, unless it is the one that is expected.
sub lasting
{
	my ($expected) = @_;
	my $found = differences('live', $live, settle => 300);
	my @late = grep { $_ ne $expected } map { s/\|.*//r } split /\n/, $found;

	return $found unless @late;
	note("late: @late");
	return differences('live', $live, settle => 15_000, doc_ids => [ @late, $expected ne '' ? $expected : () ]);
}
for my $i (1 .. 3)
{
	is(lasting(''), '', "nothing differs while both sides are written to ($i)");
}
# A purge does not travel, and what was sent is not sent again.
$near->safe_psql('one', q{INSERT INTO live VALUES ('lost', '{}')});
wait_for_query($other, 'far', q{SELECT count(*) = 1 FROM live WHERE _id = 'lost'});
$other->safe_psql('far', q{SELECT docrep.purge('live', jsonb_build_object('lost', jsonb_build_array(_rev)))
	FROM live WHERE _id = 'lost'});
like(lasting('lost'), qr/^lost\|1-\w{4}\|document_missing_at_target$/,
	'but what really differs is found');
is(cancel($writer, $near, 'one'), '57014', 'the writer here has written all the time');
is(cancel($far_writer, $other, 'far'), '57014', 'the writer there, too');

done_testing();
