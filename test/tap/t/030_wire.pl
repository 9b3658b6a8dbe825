# The functions that a Postgres peer calls on the other server: whom they obey,
# what they make of malformed messages, and that waiting holds nothing up.
use strict;
use warnings;

use DocrepSession;
use DocrepTest;
use IPC::Run qw(start finish timeout);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('wire', databases => ['one']);

$node->safe_psql('one', q{
	CREATE ROLE nobody LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE writer LOGIN;
	SELECT docrep.create_table('orders');
	INSERT INTO orders(_id, doc) SELECT 'o' || i, jsonb_build_object('n', i)
		FROM generate_series(1, 20) i;
	DELETE FROM orders WHERE _id = 'o20';
	SELECT docrep.put_attachment('orders', 'o3', 'att', 'text/plain', 'a short text', docrep.get('orders', 'o3')->>'_rev');
	SELECT docrep.create_table('copy');
	GRANT SELECT ON orders TO reader;
	GRANT SELECT, INSERT, UPDATE, DELETE ON orders, copy TO writer;
});

sub table_uuid
{
	return $node->safe_psql('one',
		"SELECT tbl FROM docrep.peer_open('$_[0]', false, 2)");
}
my $orders = table_uuid('orders');
my $copy = table_uuid('copy');
my $file = $node->safe_psql('one', q{SELECT _attachments->'att'->>'file' FROM orders WHERE _id = 'o3'});
my $digest = $node->safe_psql('one', q{SELECT _attachments->'att'->>'digest' FROM orders WHERE _id = 'o3'});

# The SQLSTATE of a statement run as a role ('': it succeeds).
sub state_as
{
	my ($role, $sql) = @_;
	my ($state) = sqlstate($node, 'one', "SET SESSION AUTHORIZATION $role;\n$sql");
	return $state;
}

my $changes = "docrep.peer_changes('$orders', '0', 100, 1000000, false, true, NULL)";
my $checkpoint = q{'{"session_id": "s", "history": [], "source_last_seq": "1"}'};
my $checkpoint_id = '0123456789abcdef0123456789abcdef';
# An id with a revision, and a document, in the format of wire_format.h.
my $revs = q{('\x0152'::bytea || '\x01' || '\x026f3100' || '\x01' || '\x02' ||
	decode(repeat('ab', 16), 'hex'))};
my $document = q{('\x0144'::bytea || '\x01' || '\x026e3100' || '\x04' || '\x01' || '\x02' ||
	decode(repeat('cd', 16), 'hex') || '\x00000008' || convert_to('{"a": 1}', 'UTF8'))};

# ---- privileges ---------------------------------------------------------------

my %requests = (
	'peer_changes' => "SELECT $changes",
	'peer_changes, filtered' => "SELECT docrep.peer_changes('$orders', '0', 100, 1000000, false, true, NULL, '{\"selector\": {\"a\": 1}}')",
	'peer_filter' => "SELECT docrep.peer_filter('$orders', '{\"selector\": {\"a\": 1}}')",
	'peer_diff' => "SELECT docrep.peer_diff('$orders', $revs)",
	'peer_fetch' => "SELECT docrep.peer_fetch('$orders', $revs, true)",
	'peer_write' => "SELECT docrep.peer_write('$orders', $document, NULL, 'r', 's', NULL, NULL)",
	'peer_get_local' => "SELECT docrep.peer_get_local('$orders', 'x')",
	'peer_put_local' => "SELECT docrep.peer_put_local('$orders', 'x', '{}')",
	'a checkpoint' => "SELECT docrep.peer_put_local('$orders', '$checkpoint_id', $checkpoint)",
	'peer_att_read' => "SELECT docrep.peer_att_read('$orders', $file, 0, 100)",
	'peer_att_have' => "SELECT docrep.peer_att_have('$orders', 'o3', '{$digest}', '{12}')",
	'peer_att_append' => "SELECT docrep.peer_att_append('$orders', 1, 'abc')",
	'peer_att_append and finish' =>
	  "SELECT docrep.peer_att_append('$orders', 1, 'abc'); SELECT docrep.peer_att_finish('$orders', 1)",
	'peer_wait' => "CALL docrep.peer_wait('$orders', '0', 100, NULL)",
);
my %reader_may = map { $_ => 1 } 'peer_changes', 'peer_changes, filtered', 'peer_filter', 'peer_diff', 'peer_fetch', 'peer_get_local',
  'a checkpoint', 'peer_wait', 'peer_att_read', 'peer_att_have';

foreach my $what (sort keys %requests)
{
	is(state_as('nobody', $requests{$what}), '42501', "$what: not without privileges");
	is(state_as('reader', $requests{$what}), $reader_may{$what} ? '' : '42501',
		"$what: with SELECT " . ($reader_may{$what} ? 'yes' : 'no'));
	is(state_as('writer', $requests{$what}), '', "$what: with all privileges yes");
}
is( $node->safe_psql('one', q{SELECT doc FROM orders WHERE _id = 'n1'}),
	'{"a": 1}', 'a written document is there');
is( $node->safe_psql('one', "SELECT get_byte(docrep.peer_write('$orders', $document, NULL, 'r', 's', NULL, NULL), 3)"),
	'1', 'written again it is known');
is(state_as('reader', "SELECT docrep.peer_put_local('$orders', '$checkpoint_id', '{\"a\": 1}')"),
	'42501', 'what has only the id of a checkpoint is none');
is(state_as('nobody', "SELECT docrep.peer_open('mine', true, 2)"),
	'42501', 'peer_open makes no table where the role may not');
is(state_as('writer', "SELECT docrep.peer_open('nix', false, 2)"), 'DR404', 'a missing table');
is(state_as('writer', "SELECT docrep.peer_open('orders', false, 1)"), 'DR400', 'an old protocol');
is( $node->safe_psql('one', "SELECT protocol FROM docrep.peer_open('orders', false, 99)"),
	'6', 'a newer client is answered with the newest protocol there is');

# Who wrote a document is told to who has said that it understands that.
{
	my $told = sub { return $node->safe_psql('one', "SELECT protocol FROM docrep.peer_open('orders', false, $_[0]); "
		. "SELECT position(uuid_send(docrep.node_uuid()) IN docrep.peer_changes('$orders', '0', 10, 100000, false, true, NULL, NULL)) > 0") };
	is($told->(4), "4\nf", 'protocol 4: no origins');
	is($told->(5), "5\nt", 'protocol 5: origins');
	is($node->safe_psql('one', "SELECT position(uuid_send(docrep.node_uuid()) IN docrep.peer_changes('$orders', '0', 10, 100000, false, true, NULL, NULL)) > 0"),
		'f', 'none to who has not said what it speaks');
}
is(state_as('writer', "SELECT docrep.peer_changes('00000000-0000-0000-0000-000000000000', '0', 1, 1, false, false, NULL)"),
	'DR404', 'no such table');
is(state_as('writer', "SELECT docrep.peer_changes(NULL, '0', 1, 1, false, false, NULL)"),
	'DR400', 'NULL for a table');

# A filter that is not understood never lets everything through.
foreach my $case (
	[ '{"nonsense": 1}', '0A000' ], [ '{"prevent_deletions": 1}', '0A000' ], [ '{"selector": "a"}', '0A000' ], [ '{"paths": [1]}', 'DR400' ],
	[ '[]', 'DR400' ], [ '1', 'DR400' ], [ '{', '22P02' ], [ '{"selector": {"$none": 1}}', 'DR400' ], [ '{"filter": "a/b"}', 'DR404' ],
	[ '{"filter": "pg_catalog.jsonb_concat"}', 'DR400' ], [ '{"filter": "no.such"}', 'DR404' ], [ '{"filter": "_view"}', 'DR400' ],
	[ '{}', '' ], [ '{"filter": "_design"}', '' ],
  )
{
	my ($filter, $expected) = @$case;
	is(state_as('reader', "SELECT docrep.peer_changes('$orders', '0', 100, 1000000, false, true, NULL, '$filter')"), $expected, "filter $filter");
}

# Documents that no table takes are refused one by one, each with its SQLSTATE.
sub document_with
{
	my ($id, $json) = @_;
	return sprintf(q{('\x0144'::bytea || '\x01%02x' || convert_to('%s', 'UTF8') || '\x00' || '\x04' ||
		'\x01' || '\x02' || decode(repeat('cd', 16), 'hex') || '\x%08x' || convert_to('%s', 'UTF8'))},
		length($id), $id, length($json), $json);
}
foreach my $case ([ 'x', '{"_rev": "1-a"}' ], [ 'x', '[1]' ], [ 'x', '1' ], [ 'x', '{"a": ' ],
	[ 'x', '{"a": "\u0000"}' ], [ '', '{}' ], [ '_x', '{}' ], [ '_local/x', '{}' ])
{
	my ($id, $json) = @$case;
	is( $node->safe_psql('one', "SELECT convert_from(substr(docrep.peer_write('$copy', "
			  . document_with($id, $json) . ", NULL, 'r', 's', NULL, NULL), 5, 5), 'UTF8')"),
		'DR400', "document \"$id\" $json is refused");
}
is($node->safe_psql('one', 'SELECT count(*) FROM copy'), '0', 'and none is stored');

# Deadlocks that the writer loses are its own to get over.
$node->safe_psql('one', q{
	CREATE SEQUENCE attempts;
	GRANT USAGE ON SEQUENCE attempts TO writer;
	CREATE FUNCTION lose_deadlocks() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('attempts') < 4 THEN
			RAISE 'deadlock detected' USING ERRCODE = '40P01';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER lose_deadlocks BEFORE INSERT ON copy
		FOR EACH ROW EXECUTE FUNCTION lose_deadlocks();
});
is(state_as('writer', "SELECT docrep.peer_write('$copy', $document, NULL, 'r', 's', NULL, NULL)"),
	'', 'a write is tried again');
is( $node->safe_psql('one', q{SELECT last_value, (SELECT count(*) FROM copy) FROM attempts}),
	'4|1', 'until it is through');
$node->safe_psql('one', 'DROP TRIGGER lose_deadlocks ON copy');

# ---- numbered writes ----------------------------------------------------------

sub numbered { return "SELECT docrep.peer_write('$copy', $document, $_[0], 'r', 's', NULL, NULL);" }
my $open = "SELECT docrep.peer_open('copy', false, 2);";
is(state_as('writer', $open . numbered(1) . numbered(2)), '', 'writes in order');
is(state_as('writer', $open . numbered(2)), 'DR400', 'a write is missing');
my ($rc, $out, $err) = $node->psql('one', "\\set VERBOSITY sqlstate\n$open"
	  . numbered(1) . 'BEGIN; ' . numbered(2) . 'ROLLBACK; ' . numbered(3), on_error_stop => 0);
like($err, qr/ERROR:\s+DR400/, 'a write that did not commit is missing too');

# ---- contents of attachments ---------------------------------------------------

is( $node->safe_psql('one', "SELECT convert_from(docrep.peer_att_read('$orders', $file, 2, 5), 'UTF8')"),
	'short', 'a piece of a content');
is( $node->safe_psql('one', "SELECT length(docrep.peer_att_read('$orders', $file, 12, 5)),
		length(docrep.peer_att_read('$orders', $file, 1000, 5))"), '0|0', 'nothing behind its end');
is(state_as('reader', "SELECT docrep.peer_att_read('$orders', 1, 0, 5)"), 'DR404', 'a file that is not there');
is(state_as('writer', "SELECT docrep.peer_att_read('$copy', $file, 0, 5)"), 'DR404', 'nor is it in another table');
is(state_as('reader', "SELECT docrep.peer_att_read('$orders', $file, $_->[0], $_->[1])"), 'DR400', "from $_->[0] on, $_->[1] bytes")
  foreach [ -1, 5 ], [ 0, 0 ], [ 0, -1 ];
is( $node->safe_psql('one', "SELECT docrep.peer_att_have('$orders', 'o3', '{none,$digest,$digest,md5-AAAAAAAAAAAAAAAAAAAAAA==,$digest}', '{12,12,13,12,12}')"),
	"{0,$file,0,0,$file}", 'contents that are there and that are not');
is( $node->safe_psql('one', "SELECT docrep.peer_att_have('$orders', '$_', '{$digest}', '{12}')"), '{0}', "no content of $_") foreach 'o4', 'nix';
is( $node->safe_psql('one', "SELECT docrep.peer_att_have('$orders', 'o3', '{}', '{}')"), '{}', 'nothing is asked for');
is(state_as('reader', "SELECT docrep.peer_att_have('$orders', 'o3', $_)"), 'DR400', "a malformed question: $_")
  foreach "'{a}', '{}'", "'{a}', '{1,2}'", "'{NULL}', '{1}'", "'{a}', '{NULL}'", "'{{a}}', '{1}'";

sub piece { return "SELECT docrep.peer_att_append('$orders', $_[0], '$_[1]');" }
sub finish_upload { return "SELECT md5 = decode(md5('$_[1]'), 'hex'), length, docrep.peer_att_read('$orders', file, 0, 100) = '$_[1]'
	FROM docrep.peer_att_finish('$orders', $_[0]);" }
is( $node->safe_psql('one', piece(1, 'abc') . piece(1, '') . piece(1, 'def') . finish_upload(1, 'abcdef')),
	"3\n3\n6\nt|6|t", 'an upload in pieces');
is( $node->safe_psql('one', piece(1, 'ab') . piece(2, 'x') . piece(1, 'c') . finish_upload(2, 'x') . finish_upload(1, 'abc')),
	"2\n1\n3\nt|1|t\nt|3|t", 'two at a time');
is( $node->safe_psql('one', piece(5, '') . finish_upload(5, '')), "0\nt|0|t", 'an empty one');
is(state_as('writer', piece(1, 'a') . finish_upload(1, 'a') . piece(1, 'b')), 'DR400', 'an upload that has ended');
is(state_as('writer', piece(2, 'a') . piece(1, 'b')), 'DR400', 'numbers rise');
is(state_as('writer', finish_upload(1, '')), 'DR400', 'none was begun');
is(state_as('writer', piece(1, 'a') . "SELECT docrep.peer_att_append('$copy', 1, 'b')"), 'DR400', 'it was begun for another table');
is(state_as('writer', join('', map { piece($_, 'a') } 1 .. 16)), '', 'several uploads');
is(state_as('writer', join('', map { piece($_, 'a') } 1 .. 17)), 'DR400', 'too many uploads');
is($node->safe_psql('one', 'BEGIN;' . join('', map { piece($_, 'a') } 1 .. 16) . 'ROLLBACK; BEGIN;' . join('', map { piece($_, 'a') } 17 .. 32) . 'ROLLBACK;'
	  . "SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'docrep upload'") =~ s/.*\n//sr, 0, 'what was rolled back is forgotten, memory and all');
# An equal content that somebody else has not committed yet is waited for, but not for ever.
{
	my $other = DocrepSession->new($node, 'one', app => 'other');
	$other->must('BEGIN');
	$other->must("SELECT docrep.peer_att_append('$orders', 1, 'same'); SELECT docrep.peer_att_finish('$orders', 1)");
	my $waiting = DocrepSession->new($node, 'one', app => 'waiting');
	$waiting->must("SELECT docrep.peer_att_append('$orders', 1, 'same')");
	my $begin = time;
	$waiting->query("SELECT docrep.peer_att_finish('$orders', 1)");
	is($waiting->{sqlstate}, '55P03', 'who waits for the content of another gives up') or diag $waiting->{output};
	cmp_ok(time - $begin, '<', 60, '... after some seconds');

	# Does something while it waits; how that ends.  Who comes too late for that comes again.
	my $number = 1;
	my $while_it_waits = sub {
		my ($do) = @_;
		do
		{
			$number++;
			$waiting->must("SELECT docrep.peer_att_append('$orders', $number, 'same')");
			$waiting->send("SELECT docrep.peer_att_finish('$orders', $number)");
			my $over;
			wait_until(sub { ($over = $waiting->receive(0)) || $node->safe_psql('one', q{SELECT count(*) FROM pg_stat_activity
				WHERE application_name = 'waiting' AND wait_event_type = 'Lock'}) });
			$do->();
			$over || $waiting->receive or die 'no answer';
		} while ($waiting->{sqlstate} eq '55P03');
		return $waiting->{sqlstate};
	};
	is($while_it_waits->(sub { $node->safe_psql('one', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiting'}) }),
		'57014', '... or when it is cancelled');
	is($while_it_waits->(sub { $other->must('COMMIT') }), '00000', '... and gets it when it is there');
}
foreach my $failing ("BEGIN; %s ROLLBACK;", "SET SESSION AUTHORIZATION nobody; %s RESET SESSION AUTHORIZATION;")
{
	my ($rc, $out, $err) = $node->psql('one', piece(1, 'a') . sprintf($failing, piece(1, 'b')) . '\set VERBOSITY sqlstate' . "\n"
		  . piece(1, 'c') . finish_upload(1, 'ac'), on_error_stop => 0);
	is(() = $err =~ /ERROR:\s+DR4(?:00|12)$/mg, 2, "a piece that failed spoils an upload: $failing");
	($rc, $out, $err) = $node->psql('one', sprintf($failing, piece(1, 'a')) . '\set VERBOSITY sqlstate' . "\n"
		  . piece(1, 'b') . finish_upload(1, 'b'), on_error_stop => 0);
	is(() = $err =~ /ERROR:\s+DR4(?:00|12)$/mg, 2, "so does the first: $failing");
}
# a file that is not there is no fault of the document, which is to be tried again
my $naming = q{('\x0144'::bytea || '\x01' || '\x026e3100' || '\x08' || '\x01' || '\x02' || decode(repeat('ce', 16), 'hex') ||
	'\x01' || '\x08' || '\x016100' || '\x016200' || '\x01' || '\x0000000000000003' || '\x0000000000000007')};
is(state_as('writer', "SELECT docrep.peer_write('$copy', $naming, NULL, 'r', 's', NULL, NULL)"), 'DR503', 'a document that names a lost file');

# ---- hostile messages -----------------------------------------------------------

# Every truncation, and every byte with other values, must be refused with DR400
# or be a message; never anything else, and the server must live.
$node->safe_psql('one', q{
	CREATE FUNCTION try(call text, message bytea) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE call USING message;
		RETURN 'ok';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	CREATE FUNCTION torture(call text, message bytea)
	RETURNS TABLE(kind text, outcome text, n bigint) LANGUAGE sql AS $$
		SELECT 'whole', try(call, message), 1
		UNION ALL
		SELECT 'cut', try(call, substr(message, 1, i)), count(*)
			FROM generate_series(0, length(message) - 1) i GROUP BY 1, 2
		UNION ALL
		SELECT 'longer', try(call, message || '\x00'), 1
		UNION ALL
		SELECT 'changed', try(call, set_byte(message, i, v)), count(*)
			FROM generate_series(0, length(message) - 1) i,
				unnest(ARRAY[0, 1, 2, 3, 34, 92, 127, 128, 254, 255]) v
			WHERE get_byte(message, i) <> v GROUP BY 1, 2
	$$;
});
my $attachments = q{('\x0144'::bytea || '\x02' ||
	'\x026e3300' || '\x0c' || '\x01' || '\x02' || decode(repeat('cd', 16), 'hex') || '\x00000002' || convert_to('{}', 'UTF8') || '\x03' ||
		'\x05' || '\x016100' || '\x016200' || '\x01' || '\x0000000000000003' || '\x06' || convert_to('sha1-x', 'UTF8') || '\x00' || '\x03616263' ||
		'\x06' || '\x016200' || '\x016200' || '\x01' || '\x0000000000000005' || '\x04677a697000' || '\x0000000000000003' || '\x0378797a' ||
		'\x10' || '\x016300' || '\x016200' || '\x01' || '\x0000000000000005' ||
	'\x026e3400' || '\x10' || '\x01' || '\x02' || decode(repeat('cd', 16), 'hex') || convert_to('DR400', 'UTF8') || '\x0362616400' ||
		'\x01' || '\x03ff00fe' || '\x04ff007b80')};
my $ids = q{('\x0149'::bytea || '\x02' || '\x026f3100' || '\x026f3200')};
my %messages = (
	'peer_diff' => [ "SELECT docrep.peer_diff('$orders', \$1)", $revs ],
	'peer_fetch' => [ "SELECT docrep.peer_fetch('$orders', \$1, true)", $revs ],
	'peer_write' =>
	  [ "SELECT docrep.peer_write('$copy', \$1, NULL, 'r', 's', NULL, NULL)", $document ],
	'peer_write of attachments' =>
	  [ "SELECT docrep.peer_write('$copy', \$1, NULL, 'r', 's', NULL, NULL)", $attachments ],
	'peer_write of what peer_fetch gave' => [
		"SELECT docrep.peer_write('$copy', \$1, NULL, 'r', 's', NULL, NULL)",
		"(SELECT f FROM docrep.peer_fetch('$orders', (
			SELECT '\\x015201026f3100'::bytea || '\\x0102' ||
				decode(split_part(_rev::text, '-', 2), 'hex') FROM orders WHERE _id = 'o1'), true) f)"
	],
	'doc_ids' =>
	  [ "SELECT docrep.peer_changes('$orders', '0', 100, 1000, false, false, \$1)", $ids ],
);
foreach my $what (sort keys %messages)
{
	my ($call, $message) = @{ $messages{$what} };
	my $outcomes = $node->safe_psql('one',
		"SELECT kind, outcome FROM torture(\$c\$$call\$c\$, $message) ORDER BY 1, 2");
	my %seen;
	push @{ $seen{ (split /\|/, $_)[0] } }, (split /\|/, $_)[1] foreach split /\n/, $outcomes;

	is("@{$seen{whole}}", 'ok', "$what: the message itself");
	is("@{$seen{cut}}", 'DR400', "$what: cut off anywhere");
	is("@{$seen{longer}}", 'DR400', "$what: something behind it");
	like("@{$seen{changed}}", qr/^DR400( ok)?$/, "$what: a byte changed");
}
is( $node->safe_psql('one', q{SELECT id IS NULL, raw_id, reason, raw FROM docrep.rejected_docs
	WHERE raw_id = '\xff00fe' AND error = 'DR400' AND reason = 'bad' AND length(raw) = 4 LIMIT 1}),
	't|\xff00fe|bad|\xff007b80', 'what the source could not read is kept as it came');
# A count that the message does not justify must not ask for memory.
is(state_as('writer', "SELECT docrep.peer_write('$copy', '\\x0144ffffffff0f', NULL, '', '', NULL, NULL)"),
	'DR400', 'a count of 4 billion documents');
# 32 hexadecimal digits are 16 bytes, and no string.
is(state_as('writer', q{SELECT docrep.peer_diff('} . $orders . q{',
	'\x015201026f31000103'::bytea || '\x20' || convert_to(repeat('ab', 16), 'UTF8'))}),
	'DR400', 'a revision that has two spellings');
is( $node->safe_psql('one', q{SELECT count(*) FROM copy WHERE _id !~ '^[ -~]+$'
	AND _id IS DISTINCT FROM normalize(_id)}), '0', 'the table can be read after all this');

# ---- waiting ---------------------------------------------------------------------

my $seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('orders')});
my $waiting = q{SELECT count(*) FROM pg_stat_activity
	WHERE query LIKE 'CALL docrep.peer_wait%' AND state = 'active' AND wait_event_type = 'Extension'};

is( $node->safe_psql('one', "CALL docrep.peer_wait('$orders', '0', 60000, NULL)"),
	't', 'what is there is not waited for');
is( $node->safe_psql('one', "CALL docrep.peer_wait('$orders', '$seq', 10, NULL)"),
	'f', 'the time runs out');
is(state_as('writer', "BEGIN; CALL docrep.peer_wait('$orders', '0', 10, NULL);"),
	'2D000', 'not in a transaction block');

# A psql that runs a statement; returns the harness.
sub start_psql
{
	my ($sql, $out) = @_;
	return start([ 'psql', '-XAtq', '-d', $node->connstr('one'), '-c', $sql ],
		'<', \undef, '>', $out, '2>', $out, timeout(600));
}

my $output = '';
my $psql = start_psql("CALL docrep.peer_wait('$orders', '$seq', 60000, NULL)", \$output);
wait_for_query($node, 'one', $waiting, '1');
is( $node->safe_psql('one', q{SELECT backend_xmin IS NULL AND backend_xid IS NULL
		FROM pg_stat_activity WHERE query LIKE 'CALL docrep.peer_wait%' AND state = 'active'}),
	't', 'who waits holds back no vacuum');
is( $node->safe_psql('one', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE query LIKE 'CALL docrep.peer_wait%' AND a.state = 'active' AND locktype = 'relation'}),
	'0', 'and locks no table');
$node->safe_psql('one', q{INSERT INTO copy(_id, doc) VALUES ('elsewhere', '{}')});
ok(wait_for_query($node, 'one', $waiting, '1'), 'a write elsewhere does not end the wait');
$node->safe_psql('one', q{INSERT INTO orders(_id, doc) VALUES ('new', '{}')});
finish($psql);
is($output, "t\n", 'a commit does');

# ---- waiting for many tables -----------------------------------------------------

$seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('orders')});
my $copy_seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('copy')});
my $both = "NULL, '{7,8,9}', '{$orders,$copy,$orders}', '{$seq,$copy_seq,$seq}'";
my $none = "'{}', '{}', '{}', '{}'";

sub wait_many { return "CALL docrep.peer_wait_many($_[0], " . ($_[1] // 10) . ', NULL);' }

is($node->safe_psql('one', wait_many($both)), '{}', 'many tables: the time runs out');
is($node->safe_psql('one', wait_many("NULL, '{1,2}', '{$orders,$copy}', '{0,$copy_seq}'", 60000)),
	'{1}', 'what is there is not waited for');
like( $node->safe_psql('one', wait_many($both) . q{INSERT INTO orders(_id, doc) VALUES ('many', '{}');}
		  . wait_many($none, 60000) . wait_many($none)),
	qr/^\{\}\n\{(7,9|9,7)\}\n\{\}$/, 'the list is kept from call to call, without what was told');
is( $node->safe_psql('one', wait_many("NULL, '{7,8}', '{$copy,$copy}', '{$copy_seq,$copy_seq}'")
		  . q{INSERT INTO copy(_id, doc) VALUES ('many', '{}');} . wait_many(q{'{7}', '{}', '{}', '{}'}, 60000)),
	"{}\n{8}", 'a number can be taken off it');
$copy_seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('copy')});
is( $node->safe_psql('one', wait_many("NULL, '{7,8}', '{$copy,$copy}', '{$copy_seq,$copy_seq}'")
		  . wait_many(q{'{8}', '{}', '{}', '{}'})
		  . q{INSERT INTO copy(_id, doc) VALUES ('many2', '{}');} . wait_many($none, 60000)),
	"{}\n{}\n{7}", '... while another of the same table stays');
$copy_seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('copy')});
like( $node->safe_psql('one', "SET SESSION AUTHORIZATION reader;"
		  . wait_many("NULL, '{1,2,3}', '{$orders,$copy,00000000-0000-4000-8000-000000000000}', '{999999,$copy_seq,0}'", 60000)),
	qr/^\{(2,3|3,2)\}$/, 'what may not be read, or is not there, is for the client to look at');
is(state_as('writer', 'BEGIN;' . wait_many($none)), '2D000', 'not in a transaction block');
is(state_as('writer', wait_many("NULL, '{1}', '{}', '{}'")), 'DR400', 'arrays of different lengths');
is(state_as('writer', wait_many("NULL, '{NULL}', '{$copy}', '{0}'")), 'DR400', 'a null');
is(state_as('writer', wait_many("NULL, NULL, '{}', '{}'")), 'DR400', 'no array');

$seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('orders')});
$output = '';
$psql = start_psql(wait_many("NULL, '{5,6}', '{$orders,$copy}', '{$seq,$copy_seq}'", 60000), \$output);
wait_for_query($node, 'one', $waiting, '1');
is( $node->safe_psql('one', q{SELECT backend_xmin IS NULL AND backend_xid IS NULL
		FROM pg_stat_activity WHERE query LIKE 'CALL docrep.peer_wait%' AND state = 'active'}),
	't', 'who waits for many holds back no vacuum');
is( $node->safe_psql('one', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE query LIKE 'CALL docrep.peer_wait%' AND a.state = 'active' AND locktype = 'relation'}),
	'0', 'and locks no table');
$node->safe_psql('one', q{INSERT INTO copy(_id, doc) VALUES ('many3', '{}')});
finish($psql);
is($output, "{6}\n", 'a commit to one of them ends it');

# Clients that go away, tables that go away, administrators.
$seq = $node->safe_psql('one', q{SELECT max(seq) FROM docrep.changes('orders')}) + 1000;
$output = '';
$psql = start_psql("CALL docrep.peer_wait('$orders', '$seq', 600000, NULL)", \$output);
wait_for_query($node, 'one', $waiting, '1');
$psql->kill_kill;
wait_for_query($node, 'one', $waiting, '0');
pass('a client that dies ends its wait');

$output = '';
$psql = start_psql("CALL docrep.peer_wait('$orders', '$seq', 600000, NULL)", \$output);
wait_for_query($node, 'one', $waiting, '1');
$node->safe_psql('one', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE query LIKE 'CALL docrep.peer_wait%' AND state = 'active'});
finish($psql);
like($output, qr/canceling statement/, 'a wait can be cancelled');

$output = '';
$psql = start_psql("CALL docrep.peer_wait('$orders', '$seq', 600000, NULL)", \$output);
wait_for_query($node, 'one', $waiting, '1');
$node->safe_psql('one', 'DROP TABLE orders');
finish($psql);
like($output, qr/does not exist any more/, 'dropping the table ends a wait');
is(state_as('writer', "CALL docrep.peer_wait('$orders', '0', 10, NULL)"),
	'DR404', 'a table that was dropped');
$node->stop;
done_testing();
