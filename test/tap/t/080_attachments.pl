# Attachments between local and Postgres peers: every pair of them, small and
# large contents, what is not sent twice, conflicts, what is refused, and what a
# server that dies in the middle leaves.
#
# DOCREP_SOAK=1 sends one of 200 MB through every pair and looks at the memory of
# the worker; DOCREP_ATTACHMENT_MB=n says how large exactly.
use strict;
use warnings;

use DocrepProxy;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote replicate contents is_same_contents check_table);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $true = JSON::PP::true;
my $conf = "max_wal_size = '4GB'\nshared_buffers = '16MB'\n";
my $near = new_node('near', databases => [ 'one', 'two' ], conf => $conf);
my $other = new_node('other', databases => ['far'], tcp => 1, conf => $conf);
my $proxy = DocrepProxy->new('127.0.0.1', $other->port);

# The table of the other server by way of the proxy.
sub by_proxy
{
	my ($table) = @_;
	my $url = pg_url($other, 'far', tcp => 1, table => $table);
	my $port = $proxy->port;
	$url =~ s/127\.0\.0\.1:\d+/127.0.0.1:$port/;
	return $url;
}

# blob(seed, size): bytes that do not compress, the same for the same seed.
foreach my $place ([ $near, 'one' ], [ $near, 'two' ], [ $other, 'far' ])
{
	$place->[0]->safe_psql($place->[1], q{
		CREATE FUNCTION blob(seed text, size int) RETURNS bytea LANGUAGE sql AS $$
			SELECT substr(string_agg(sha256(convert_to(seed || i, 'UTF8')), '' ORDER BY i), 1, size)
			FROM generate_series(0, size / 32) i
		$$;
		CREATE FUNCTION b64(content bytea) RETURNS text LANGUAGE sql AS $$
			SELECT translate(encode(content, 'base64'), E'\n', '')
		$$;
		CREATE FUNCTION attach(tbl regclass, id text, name text, content bytea) RETURNS text LANGUAGE sql AS $$
			SELECT docrep.put_attachment(tbl, id, name, 'application/octet-stream', content,
				docrep.get(tbl, id)->>'_rev')::text
		$$});
}

sub uuid_of
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, "SELECT uuid FROM docrep.tables WHERE tbl = '$table'::regclass");
}

# The companion with a table's contents.
sub companion
{
	my $uuid = uuid_of(@_);
	$uuid =~ tr/-//d;
	return "docrep_data.att_$uuid";
}

# How many complete contents a table holds.
sub files
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db,
		'SELECT count(*) FROM ' . companion(@_) . ' WHERE part = 0 AND sha256 IS NOT NULL');
}

# Of every leaf, each attachment with the length and MD5 of the content that one gets.
sub attachments
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, qq{
		SELECT c.id, l->>'rev', a.key, a.value->>'digest', a.value->>'revpos', length(t.content),
			'md5-' || encode(decode(md5(t.content), 'hex'), 'base64') = a.value->>'digest'
		FROM docrep.changes('$table', style => 'all_docs') c,
			jsonb_array_elements(c.changes) l,
			jsonb_each(docrep.get('$table', c.id, rev => l->>'rev')->'_attachments') a,
			docrep.get_attachment('$table', c.id, a.key, l->>'rev') t(content)
		ORDER BY c.id COLLATE "C", 2, a.key COLLATE "C"});
}

# Both tables have the same documents, revisions and attachments, contents included.
sub same
{
	my ($name, $from, $to) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $here = attachments(@$from);
	is_same_contents(contents(@$from), contents(@$to), "$name: the same documents");
	is(attachments(@$to), $here, "$name: the same attachments");
	unlike($here, qr/\|f$/m, "$name: every content fits its digest");
	return $here;
}

# A table with attachments of all sizes, on documents of all kinds.
sub fill
{
	my ($node, $db, $table) = @_;
	$node->safe_psql($db, qq{
		SELECT docrep.create_table('$table');
		INSERT INTO $table(_id, doc) SELECT 'plain' || i, jsonb_build_object('n', i) FROM generate_series(1, 20) i;
		SELECT docrep.put('$table', jsonb_build_object('_id', 'small', '_attachments', jsonb_build_object(
			'hello.txt', jsonb_build_object('content_type', 'text/plain', 'data', b64('Hello')),
			'empty', jsonb_build_object('content_type', 'text/plain', 'data', ''),
			'Überraschung 🎁/x y', jsonb_build_object('content_type', 'image/png', 'data', b64(blob('u', 700))))));
		SELECT docrep.put('$table', jsonb_build_object('_id', 'medium', '_attachments', jsonb_build_object(
			'at the limit', jsonb_build_object('data', b64(blob('m', 32768))),
			'above it', jsonb_build_object('data', b64(blob('n', 32769))))));
		INSERT INTO $table(_id, doc) VALUES ('large', '{}'), ('many', '{}'), ('gone', '{}'), ('dead', '{}'), ('_design/app', '{}');
		SELECT attach('$table', 'large', 'forty', blob('forty', 40000));
		SELECT attach('$table', 'large', 'three', blob('three', 3000000));
		SELECT attach('$table', 'large', 'whole pieces', blob('pieces', 1048576));
		SELECT attach('$table', '_design/app', 'index.html', blob('index', 100000));
		SELECT attach('$table', 'gone', 'left', blob('left', 50000));
		DELETE FROM $table WHERE _id = 'gone';
		SELECT docrep.bulk_docs('$table', jsonb_build_array(jsonb_build_object('_id', 'dead', '_deleted', true,
			'_rev', (SELECT _rev::text FROM $table WHERE _id = 'dead'),
			'_attachments', jsonb_build_object('tomb', jsonb_build_object('data', b64(blob('tomb', 60000)))))));
		SELECT docrep.put('$table', jsonb_build_object('_id', 'many', '_rev', (SELECT _rev::text FROM $table WHERE _id = 'many'),
			'_attachments', (SELECT jsonb_object_agg('a' || i, jsonb_build_object('data', b64(blob('many' || i, 30000))))
				FROM generate_series(1, 50) i)));
		SELECT docrep.bulk_docs('$table', jsonb_build_array(
			jsonb_build_object('_id', 'fight', '_rev', '2-b', '_revisions', '{"start": 2, "ids": ["b", "a"]}'::jsonb,
				'_attachments', jsonb_build_object('x', jsonb_build_object('data', b64(blob('fight b', 70000)), 'revpos', 2))),
			jsonb_build_object('_id', 'fight', '_rev', '2-c', '_revisions', '{"start": 2, "ids": ["c", "a"]}'::jsonb,
				'_attachments', jsonb_build_object('x', jsonb_build_object('data', b64(blob('fight c', 80000)), 'revpos', 2),
					'y', jsonb_build_object('data', b64('only here'), 'revpos', 1))),
			jsonb_build_object('_id', 'fight', '_rev', '2-d', '_revisions', '{"start": 2, "ids": ["d", "a"]}'::jsonb,
				'_attachments', jsonb_build_object('x', jsonb_build_object('data', b64(blob('fight c', 80000)), 'revpos', 2)))
			), new_edits => false)});
	return;
}

fill($near, 'one', 'src');
fill($other, 'far', 'src');

# ---- every pair of peers ------------------------------------------------------

my $far_src = by_proxy('src');
my @pairs = (
	[ 'local to local', 'src', 'll', [ $near, 'one', 'src' ], [ $near, 'one', 'll' ] ],
	[ 'pull', $far_src, 'pulled', [ $other, 'far', 'src' ], [ $near, 'one', 'pulled' ] ],
	[ 'push', 'src', by_proxy('pushed'), [ $near, 'one', 'src' ], [ $other, 'far', 'pushed' ] ],
	[ 'remote to remote', $far_src, pg_url($near, 'two', table => 'rr'), [ $other, 'far', 'src' ], [ $near, 'two', 'rr' ] ],
);
foreach my $pair (@pairs)
{
	my ($name, $source, $target, $from, $to) = @$pair;
	my $result = replicate($near, 'one', $source, $target, create_target => $true);
	is($result->{doc_write_failures}, 0, "$name: nothing is refused");
	my $list = same($name, $from, $to);
	like($list, qr/^large\|.*\|three\|.*\|3000000\|t$/m, "$name: a large one");
	like($list, qr/^small\|.*\|empty\|.*\|0\|t$/m, "$name: an empty one");
	like($list, qr/^dead\|.*\|tomb\|.*\|60000\|t$/m, "$name: one of a tombstone");
	is(() = $list =~ /^fight\|/mg, 4, "$name: those of three leaves in conflict");
	check_table(@$to, "$name: nothing is wrong with the target");
}

# ---- what is there is not sent again ------------------------------------------

foreach my $pair (@pairs)
{
	my ($name, $source, $target, $from, $to) = @$pair;
	replicate($near, 'one', $source, $target);
	my $before = files(@$to);
	my $bytes = $proxy->bytes;
	$from->[0]->safe_psql($from->[1], qq{
		UPDATE $from->[2] SET doc = doc || '{"edited": "$name"}' WHERE _id IN ('large', '_design/app')});
	replicate($near, 'one', $source, $target);
	same("$name: updated with the same attachments", $from, $to);
	is(files(@$to), $before, "$name: no content was stored for it");
	cmp_ok($proxy->bytes - $bytes, '<', 200_000, "$name: nor sent") unless $name eq 'local to local';

	$from->[0]->safe_psql($from->[1], qq{
		SELECT attach('$from->[2]', 'large', 'forty', blob('other $name', 45000))});
	replicate($near, 'one', $source, $target);
	same("$name: one of three replaced", $from, $to);
	is(files(@$to), $before + 1, "$name: one content was stored");

	# one content for two documents
	$from->[0]->safe_psql($from->[1], qq{
		INSERT INTO $from->[2](_id, doc) SELECT 'twin' || i || '$name', '{}' FROM generate_series(1, 5) i;
		SELECT attach('$from->[2]', 'twin' || i || '$name', 'same', blob('twin $name', 400000)) FROM generate_series(1, 5) i});
	$bytes = $proxy->bytes;
	replicate($near, 'one', $source, $target);
	is(files(@$to), $before + 2, "$name: equal contents are stored once");
	cmp_ok($proxy->bytes - $bytes, '<', 1_000_000, "$name: and travel once") unless $name eq 'local to local';
	same("$name: equal contents", $from, $to);
}

# ---- both ways, with conflicts ------------------------------------------------

$near->safe_psql('one', q{SELECT attach('src', 'medium', 'above it', blob('left side', 90000))});
$near->safe_psql('one', q{SELECT attach('ll', 'medium', 'above it', blob('right side', 95000))});
foreach (1, 2)
{
	replicate($near, 'one', 'src', 'll');
	replicate($near, 'one', 'll', 'src');
}
my $list = same('both ways', [ $near, 'one', 'src' ], [ $near, 'one', 'll' ]);
is(() = $list =~ /^medium\|.*\|above it\|.*\|9[05]000\|t$/mg, 2, 'both sides of a conflict keep their own');

# ---- a chain ------------------------------------------------------------------

replicate($near, 'one', 'src', by_proxy('chain'), create_target => $true);
replicate($near, 'two', by_proxy('chain'), 'end', create_target => $true);
same('a chain', [ $near, 'one', 'src' ], [ $near, 'two', 'end' ]);

# ---- what is refused ----------------------------------------------------------

# A content that is not what the digest says, small and large.
foreach my $pair (@pairs[ 0 .. 2 ])
{
	my ($name, undef, undef, $from) = @$pair;
	my ($node, $db) = @$from;
	my $table = 'bad';
	my $bad = $name eq 'pull' ? by_proxy('bad') : 'bad';
	my $target = $name eq 'push' ? by_proxy('badpushed') : "bad$$node{_name}";
	my $to = $name eq 'push' ? [ $other, 'far', 'badpushed' ] : [ $near, 'one', "bad$$node{_name}" ];

	$node->safe_psql($db, 'DROP TABLE IF EXISTS bad');
	$node->safe_psql($db, q{
		SELECT docrep.create_table('bad');
		INSERT INTO bad(_id, doc) SELECT i, '{}' FROM unnest(ARRAY['big', 'fine', 'little']) i;
		SELECT attach('bad', 'big', 'att', blob('big', 600000));
		SELECT attach('bad', 'little', 'att', blob('little', 600));
		SELECT attach('bad', 'fine', 'att', blob('fine', 600000))});
	my $contents = companion($node, $db, 'bad');
	foreach my $id ('big', 'little')
	{
		$node->safe_psql($db, qq{
			UPDATE $contents SET data = set_byte(data, 100, 255 - get_byte(data, 100))
			WHERE file = (SELECT (_attachments->'att'->>'file')::bigint FROM bad WHERE _id = '$id')
				AND data IS NOT NULL AND part = (SELECT max(part) / 2 FROM $contents c WHERE c.file = $contents.file)});
	}
	my $result = replicate($near, 'one', $bad, $target, create_target => $true);
	is("$result->{docs_written} $result->{doc_write_failures}", '1 2', "$name: wrong contents are refused, the rest goes on");
	is($to->[0]->safe_psql($to->[1], "SELECT id, error, reason ~ 'digest' FROM docrep.rejected_docs WHERE tbl = '$to->[2]'::regclass ORDER BY id"),
		"big|DR400|t\nlittle|DR400|t", "$name: and kept, with the reason");
	is($to->[0]->safe_psql($to->[1], "SELECT string_agg(_id, ' ') FROM $to->[2]"), 'fine', "$name: the good one is there");
	is($to->[0]->safe_psql($to->[1], "SELECT docrep.retry_rejected('$to->[2]'), count(*) FROM docrep.rejected_docs
			WHERE tbl = '$to->[2]'::regclass"),
		'0|2', "$name: trying again does not help");

	# a part is missing: the source is broken, and says so
	$node->safe_psql($db, qq{
		SELECT attach('bad', 'big', 'att', blob('newer', 600000));
		DELETE FROM $contents WHERE part = 30 AND
			file = (SELECT (_attachments->'att'->>'file')::bigint FROM bad WHERE _id = 'big')});
	my ($state) = sqlstate($near, 'one', 'SELECT docrep.replicate(' . quote($bad) . ', ' . quote($target) . ')');
	like($state, qr/^DR(404|503)$/, "$name: a content with a hole is an error");
}

# A document that the target refuses keeps its attachments until it does not.
$near->safe_psql('one', q{
	SELECT docrep.create_table('picky');
	ALTER TABLE picky ADD CONSTRAINT nothing_large CHECK (_id NOT IN ('large', 'small', 'medium'))});
my $result = replicate($near, 'one', 'src', 'picky');
is($result->{doc_write_failures}, 4, 'a constraint refuses documents with attachments');
$near->safe_psql('one', q{SELECT docrep.compact('picky', '0')});
$near->safe_psql('one', q{ALTER TABLE picky DROP CONSTRAINT nothing_large});
is($near->safe_psql('one', q{SELECT docrep.retry_rejected('picky')}), 4, 'which are taken without it');
same('tried again', [ $near, 'one', 'src' ], [ $near, 'one', 'picky' ]);

# ---- roles --------------------------------------------------------------------

$other->safe_psql('far', q{
	CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN;
	SELECT docrep.create_table('guarded');
	GRANT SELECT ON guarded, src TO reader;
	GRANT SELECT, INSERT, UPDATE, DELETE ON guarded TO writer});
my ($state) = sqlstate($near, 'one', q{SELECT docrep.replicate('src', }
	  . quote(pg_url($other, 'far', user => 'reader', table => 'guarded')) . ')');
is($state, 'DR403', 'who may only read a table stores no attachments in it');
is(files($other, 'far', 'guarded'), 0, 'none at all');
replicate($near, 'one', 'src', pg_url($other, 'far', user => 'writer', table => 'guarded'));
same('a role with privileges', [ $near, 'one', 'src' ], [ $other, 'far', 'guarded' ]);
replicate($near, 'one', pg_url($other, 'far', user => 'reader', table => 'src'), 'by_reader', create_target => $true);
same('a role that reads', [ $other, 'far', 'src' ], [ $near, 'one', 'by_reader' ]);

# ---- the target dies in the middle --------------------------------------------

$near->safe_psql('one', q{
	SELECT docrep.create_table('heavy');
	INSERT INTO heavy(_id, doc) SELECT 'd' || i, '{}' FROM generate_series(1, 3) i;
	SELECT attach('heavy', 'd' || i, 'att', blob('heavy' || i, 8000000)) FROM generate_series(1, 3) i});
$proxy->stall_after(12_000_000);
my $session = DocrepSession->new($near, 'one');
$session->send(q{SELECT docrep.replicate('heavy', } . quote(by_proxy('heavy')) . q{, '{"create_target": true}')});
wait_until(sub { $proxy->has_stalled }, 60, 'the upload to hang');
ok(!$session->receive(0), 'it waits');
# what the proxy has passed on may still be on its way into the server
wait_for_query($other, 'far', 'SELECT count(*) > 0 FROM ' . companion($other, 'far', 'heavy'));
$other->stop('immediate');
$proxy->flow;
ok($session->receive(60), 'the loss of the server ends it');
is($session->{sqlstate}, 'DR503', 'with DR503');
$other->start;
is($other->safe_psql('far', 'SELECT count(*) FROM heavy'), 0, 'no document was written');
cmp_ok($other->safe_psql('far', 'SELECT count(*) FROM ' . companion($other, 'far', 'heavy')),
	'>', 0, 'a part of the contents was');
replicate($near, 'one', 'heavy', by_proxy('heavy'));
same('after the death of the target', [ $near, 'one', 'heavy' ], [ $other, 'far', 'heavy' ]);
is(files($other, 'far', 'heavy'), 3, 'every content is there once');
is($other->safe_psql('far', q{SELECT (docrep.compact('heavy', '0')->>'incomplete_removed')::int > 0}), 't', 'what was left is removed');
same('after compaction', [ $near, 'one', 'heavy' ], [ $other, 'far', 'heavy' ]);
check_table($other, 'far', 'heavy');

# The same with the source.
$proxy->stall_after(12_000_000);
$session->send(q{SELECT docrep.replicate(} . quote(by_proxy('heavy')) . q{, 'back', '{"create_target": true}')});
wait_until(sub { $proxy->has_stalled }, 60, 'the download to hang');
$other->stop('immediate');
$proxy->flow;
ok($session->receive(60), 'the loss of the source ends it');
is($session->{sqlstate}, 'DR503', 'with DR503');
$other->start;
replicate($near, 'one', by_proxy('heavy'), 'back', create_target => $true);
same('after the death of the source', [ $near, 'one', 'heavy' ], [ $near, 'one', 'back' ]);

# And with a worker that is cancelled.
$proxy->stall_after(3_000_000);
$session->send(q{SELECT docrep.replicate('heavy', } . quote(by_proxy('again')) . q{, '{"create_target": true}')});
wait_until(sub { $proxy->has_stalled }, 60, 'the upload to hang');
$near->safe_psql('one', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT docrep.replicate%' AND pid <> pg_backend_pid()});
ok($session->receive(60), 'an upload that hangs can be cancelled');
$proxy->flow;
$session->close;

# ---- memory -------------------------------------------------------------------

if (is_soak() || $ENV{DOCREP_ATTACHMENT_MB})
{
	my $mb = $ENV{DOCREP_ATTACHMENT_MB} // 200;

	$_->[0]->safe_psql($_->[1], qq{
		SELECT docrep.create_table('huge');
		INSERT INTO huge(_id, doc) VALUES ('huge', '{}');
		SELECT attach('huge', 'huge', 'film', (SELECT string_agg(blob('huge' || i % 7, 1000000) || convert_to(i::text, 'UTF8'), '')
			FROM generate_series(1, $mb) i))}) foreach [ $near, 'one' ], [ $other, 'far' ];
	my @ways = (
		[ 'local to local', 'huge', 'hugecopy', $near, 'one', 'hugecopy' ],
		[ 'push', 'huge', pg_url($other, 'far', tcp => 1, table => 'hugepushed'), $other, 'far', 'hugepushed' ],
		[ 'pull', pg_url($other, 'far', tcp => 1, table => 'huge'), 'hugepulled', $near, 'one', 'hugepulled' ],
		[ 'remote to remote', pg_url($other, 'far', tcp => 1, table => 'huge'),
			pg_url($near, 'two', table => 'huge'), $near, 'two', 'huge' ]);
	foreach my $way (@ways)
	{
		my ($name, $source, $target, $node, $db, $table) = @$way;
		my $peak = 0;
		my $start = Time::HiRes::time();
		$session->send('SELECT docrep.replicate(' . quote($source) . ', ' . quote($target) . q{, '{"create_target": true}')});
		until ($session->receive(0.05))
		{
			foreach my $pid (split /\n/, $near->safe_psql('one', q{SELECT pid FROM docrep.active_tasks WHERE pid IS NOT NULL}))
			{
				open my $status, '<', "/proc/$pid/status" or next;
				my ($kb) = join('', <$status>) =~ /^VmHWM:\s+(\d+)/m or next;
				$peak = $kb if $kb > $peak;
			}
		}
		is($session->{sqlstate}, '00000', "$name: $mb MB arrive") or diag($session->{output});
		my $seconds = Time::HiRes::time() - $start;
		diag(sprintf '%s: %d MB in %.1f s, %.0f MB/s, peak of the worker %.1f MB', $name, $mb, $seconds, $mb / $seconds, $peak / 1024);
		cmp_ok($peak, '>', 0, "$name: the worker was seen");
		cmp_ok($peak, '<', 64 * 1024, "$name: in less than 64 MB of memory");
		is($node->safe_psql($db, qq{SELECT docrep.get('$table', 'huge')->'_attachments'}),
			$near->safe_psql('one', q{SELECT docrep.get('huge', 'huge')->'_attachments'}), "$name: the same attachment");
	}
}

$_->stop foreach $near, $other;
done_testing();
