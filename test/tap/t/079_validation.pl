# Validation where it takes more than one session or server: replication with refused
# documents, other sessions' caches, dump and restore; design documents that arrive by
# replication; an engine that dies or does not come back.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT quote replicate check_table);
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $near = new_node('near', databases => [ 'one', 'restored' ]);
my $far = new_node('far', databases => ['two']);
my $json = JSON::PP->new->canonical;

my $checker = q{CREATE SCHEMA v;
	CREATE FUNCTION v.accepts(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS text
	LANGUAGE sql AS $$ SELECT CASE WHEN new_doc->>'n' = '7' THEN 'no sevens' END $$;
	CREATE FUNCTION v.raises(new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS text
	LANGUAGE plpgsql AS $$ BEGIN
		IF new_doc->>'n' = '8' THEN RAISE EXCEPTION 'no eights'; END IF;
		RETURN NULL;
	END $$;
};

# SQLSTATE and message of a statement in a database of the near server, or "ok".
sub outcome
{
	my ($sql, $db) = @_;
	my ($state, $message) = DocrepTest::sqlstate($near, $db // 'one', $sql);

	return 'ok' if $state eq '';
	$message =~ /ERROR:\s+\w+: ([^\n]*)/;
	return "$state $1";
}

# What was refused, of a table of the near server.
sub rejected
{
	my ($table) = @_;
	return $near->safe_psql('one',
		"SELECT string_agg(id || ' ' || error || ' ' || reason, ', ' ORDER BY id) FROM docrep.rejected_docs WHERE tbl = '$table'::regclass");
}

# ---------- replication: some are refused, the rest goes on ----------

$near->safe_psql('one', $checker . q{SELECT docrep.create_table('src'), docrep.create_table('dst');
	INSERT INTO src SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 2000) i;
	INSERT INTO src VALUES ('another', '{"n": 7}'), ('later', '{"n": 8}');
	SELECT docrep.set_validator('dst', 'v.accepts(jsonb,jsonb,jsonb,jsonb)')});
my $run = replicate($near, 'one', 'src', 'dst');
is("$run->{docs_read} $run->{docs_written} $run->{doc_write_failures}", '2002 2000 2', 'two are refused');
is(rejected('dst'), 'another DR403 no sevens, d7 DR403 no sevens', 'and kept, with the reason');
is($near->safe_psql('one', 'SELECT count(*) FROM dst'), 2000, 'the rest is there');
is(replicate($near, 'one', 'src', 'dst')->{docs_read} // 0, 0, 'and it does not begin again');
is($near->safe_psql('one', q{SELECT docrep.retry_rejected('dst')}), 0, 'tried again they are refused again');
$near->safe_psql('one', q{SELECT docrep.set_validator('dst', 'v.raises(jsonb,jsonb,jsonb,jsonb)')});
is($near->safe_psql('one', q{SELECT docrep.retry_rejected('dst')}), 2, '... and taken when they may');
check_table($near, 'one', 'dst');

$near->safe_psql('one', q{SELECT docrep.create_table('raised'); SELECT docrep.set_validator('raised', 'v.raises(jsonb,jsonb,jsonb,jsonb)')});
$run = replicate($near, 'one', 'src', 'raised');
is("$run->{docs_written} $run->{doc_write_failures}", '2000 2', 'what a validator raises is about one document');
is(rejected('raised'), 'd8 P0001 no eights, later P0001 no eights', '... and keeps its SQLSTATE');

$far->safe_psql('two', $checker . q{SELECT docrep.create_table('dst'); SELECT docrep.set_validator('dst', 'v.accepts(jsonb,jsonb,jsonb,jsonb)')});
$run = replicate($near, 'one', 'src', pg_url($far, 'two', table => 'dst'));
is("$run->{docs_read} $run->{docs_written} $run->{doc_write_failures}", '2002 2000 2', 'a target on another server validates, too');
is($far->safe_psql('two', q{SELECT string_agg(id || ' ' || error || ' ' || reason, ', ' ORDER BY id) FROM docrep.rejected_docs}),
	'another DR403 no sevens, d7 DR403 no sevens', '... and keeps what it refuses');

# ---------- a validator that is gone stops a replication, and refuses nothing for good ----------

$near->safe_psql('one', q{SELECT docrep.create_table('gone'); SELECT docrep.set_validator('gone', 'v.accepts(jsonb,jsonb,jsonb,jsonb)');
	ALTER FUNCTION v.accepts RENAME TO was_accepts});
like(outcome(q{SELECT docrep.replicate('src', 'gone')}), qr/^55000 .*validation function v\.accepts/, 'a validator that is gone');
is(rejected('gone'), '', '... no document is kept as rejected');
is($near->safe_psql('one', 'SELECT count(*) FROM gone'), 0, '... nor stored');
$near->safe_psql('one', 'ALTER FUNCTION v.was_accepts RENAME TO accepts');
is(replicate($near, 'one', 'src', 'gone')->{docs_written}, 2000, '... when it is back it goes on');

# ---------- other sessions ----------

my $other = DocrepSession->new($near, 'one')->connect;
$near->safe_psql('one', q{SELECT docrep.create_table('shared')});
is($other->query(q{INSERT INTO shared VALUES ('1', '{"n": 7}')}), '', 'a session that knows of no validator');
$near->safe_psql('one', q{SELECT docrep.set_validator('shared', 'v.accepts(jsonb,jsonb,jsonb,jsonb)')});
$other->query(q{INSERT INTO shared VALUES ('2', '{"n": 7}')});
is($other->{sqlstate}, 'DR403', 'it learns of it with the commit');
$other->must('BEGIN ISOLATION LEVEL REPEATABLE READ');
$other->must('SELECT count(*) FROM shared');
$near->safe_psql('one', q{SELECT docrep.set_validator('shared', 'v.raises(jsonb,jsonb,jsonb,jsonb)')});
is($other->query(q{INSERT INTO shared VALUES ('2', '{"n": 7}')}), '', 'also when its snapshot is older');
$other->query(q{INSERT INTO shared VALUES ('3', '{"n": 8}')});
is($other->{sqlstate}, 'P0001', '... as it is now');
$other->must('ROLLBACK');

# a row that another session is just deleting: no upsert gets by unvalidated
$near->safe_psql('one', q{SELECT docrep.set_validator('shared', 'v.accepts(jsonb,jsonb,jsonb,jsonb)')});
my $deleter = DocrepSession->new($near, 'one', app => 'deleter')->connect;
$deleter->must('BEGIN');
$deleter->must(q{DELETE FROM shared WHERE _id = '1'});
$other->must(q{SET application_name = 'upserter'});
$other->send(q{INSERT INTO shared VALUES ('1', '{"n": 7}') ON CONFLICT DO NOTHING});
wait_for_query($near, 'one', q{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE application_name = 'upserter'});
$deleter->must('COMMIT');
$other->receive;
is($other->{sqlstate}, 'DR403', 'an upsert of a row that is just being deleted is validated');
$_->close foreach $other, $deleter;

# ---------- dump and restore ----------

my $dump = $near->basedir . '/one.sql';
$near->command_ok([ 'pg_dump', '-f', $dump, 'one' ], 'pg_dump');
$near->safe_psql('postgres', 'DROP DATABASE restored');
$near->safe_psql('postgres', 'CREATE DATABASE restored');
$near->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ], 'and restore');
is(outcome(q{INSERT INTO dst VALUES ('new', '{"n": 8}')}, 'restored'), 'P0001 no eights', 'validators come back');
is(outcome(q{INSERT INTO shared VALUES ('new', '{"n": 7}')}, 'restored'), 'DR403 no sevens', '... each with its table');
$near->safe_psql('postgres', 'ALTER DATABASE restored SET docrep.validation = off');
is(outcome(q{INSERT INTO shared VALUES ('new', '{"n": 7}')}, 'restored'), 'ok', 'docrep.validation switches it off');

# ---------- JavaScript ----------

my $design = $json->encode({ validate_doc_update =>
	'function (newDoc, oldDoc, userCtx, secObj) {'
	. ' if (newDoc.n === 7) { throw({forbidden: "no sevens"}); }'
	. ' if (newDoc.n === 8) { throw({unauthorized: "eights for " + userCtx.db + " only"}); }'
	. ' if (newDoc.n === 9) { throw("nine"); }'
	. ' if (newDoc.loop) { while (true) {} } }' });
$near->safe_psql('one', q{SELECT docrep.create_table('js')});
my $probe = $near->safe_psql('one', 'BEGIN; INSERT INTO js VALUES (' . quote('_design/check') . ', ' . quote($design) . q{);
	SELECT problem FROM docrep.validators('js'); ROLLBACK});

# Processes of the engine: [pid, pid of the parent, state, seconds of the processor].
sub engines
{
	my @pids;

	foreach my $dir (glob '/proc/[0-9]*')
	{
		open(my $fh, '<', "$dir/stat") or next;
		my ($pid, $name, $rest) = (readline($fh) // '') =~ /^(\d+) \((.*)\) (.*)/ or next;
		my ($state, $parent, @more) = split ' ', $rest;
		my $used = ($more[9] + $more[10]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
		push @pids, [ $pid, $parent, $state, $used ] if $name =~ /^docrep_js/ && $state ne 'Z';
	}
	return @pids;
}

SKIP:
{
	skip 'the JavaScript engine is not installed', 1 if $probe =~ /engine/;

	# nothing is paid without validators
	my $session = DocrepSession->new($near, 'one')->connect;
	my $pid = $session->must('SELECT pg_backend_pid()');
	$session->must(q{INSERT INTO js SELECT 'free' || i, '{"n": 7}' FROM generate_series(1, 100) i});
	$session->must(q{SELECT docrep.put('js', '{"_id": "_design/views", "views": {}}')});
	$session->must(q{SELECT count(*) FROM docrep.bulk_docs('js', '[{"_id": "free", "n": 7}]')});
	is(scalar(grep { $_->[1] == $pid } engines()), 0, 'without validators no engine is started');

	# a design document that arrives by replication, with documents that it refuses
	$near->safe_psql('one', q{SELECT docrep.create_table('js_src'); INSERT INTO js_src VALUES ('_design/check', } . quote($design) . ')');
	replicate($near, 'one', 'js_src', 'js');
	$near->safe_psql('one', q{SET docrep.validation = off; INSERT INTO js_src SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 1000) i});
	$run = replicate($near, 'one', 'js_src', 'js');
	is("$run->{docs_written} $run->{doc_write_failures}", '997 3', 'a replication into a table that validates with JavaScript');
	is(rejected('js'), 'd7 DR403 no sevens, d8 DR401 eights for js only, '
		. 'd9 DR500 validate_doc_update of "_design/check" failed for document "d9": nine', '... what is refused is kept with the reason');
	check_table($near, 'one', 'js');

	# the session that knew of none
	$session->query(q{INSERT INTO js VALUES ('x', '{"n": 7}')});
	is($session->{sqlstate}, 'DR403', 'a session learns of validators that arrive');
	my @mine = grep { $_->[1] == $pid } engines();
	is(scalar @mine, 1, '... and starts one engine');

	# killed: an error at most, then a new one
	kill 'KILL', $mine[0][0];
	wait_until(sub { !grep { $_->[0] == $mine[0][0] } engines() }, 60, 'the end of the engine') if @mine;
	my $first = $session->query(q{INSERT INTO js VALUES ('x', '{"n": 1}')});
	ok(defined $first || $session->{sqlstate} eq 'DR500', 'an engine that was killed harms one statement at most');
	is($session->query(q{INSERT INTO js VALUES ('y', '{"n": 1}')}), '', '... the next has a new one');
	is($session->query(q{INSERT INTO js VALUES ('z', '{"n": 7}')}) // $session->{sqlstate}, 'DR403', '... that validates');

	# killed while it is busy, and if the document is tried once more, then, too
	$session->must(q{SET docrep.js_timeout = '10min'});
	my %before = map { $_->[0] => $_->[3] } engines();
	$session->send(q{INSERT INTO js VALUES ('busy', '{"loop": true}')});
	wait_until(sub {
		kill 'KILL', map { $_->[0] } grep { $_->[1] == $pid && $_->[3] - ($before{ $_->[0] } // 0) > 0.5 } engines();
		$session->receive(0);
	}, undef, 'the statement to end');
	pass('killed in the middle of a validation: the statement ends');
	is($session->{sqlstate}, 'DR500', '... and the document is refused');
	is($session->query(q{SELECT count(*) FROM js WHERE _id = 'busy'}), 0, '... and not stored');
	is($session->query(q{INSERT INTO js VALUES ('alive', '{"n": 1}')}), '', '... the session lives');

	# endless loops end with the statement, and with the engine's own limit
	$session->must(q{SET statement_timeout = '500ms'});
	$session->query(q{INSERT INTO js VALUES ('loop', '{"loop": true}')});
	is($session->{sqlstate}, '57014', 'statement_timeout ends an endless validation');
	$session->must(q{SET statement_timeout = 0; SET docrep.js_timeout = '300ms'});
	$session->query(q{INSERT INTO js VALUES ('loop', '{"loop": true}')});
	is($session->{sqlstate}, 'DR500', '... and so does docrep.js_timeout');
	is($session->query(q{SELECT string_agg(id || ' ' || coalesce(error, 'ok'), ', ') FROM docrep.bulk_docs('js',
		'[{"_id": "l1", "n": 1}, {"_id": "l2", "loop": true}, {"_id": "l3", "n": 3}]')}),
		'l1 ok, l2 unknown_error, l3 ok', '... in a batch for its document alone');
	$session->close;
	check_table($near, 'one', 'js');
}

# ---------- without the engine ----------

# the staged files again, but for the program, for a server of its own
my $stage = PostgreSQL::Test::Utils::tempdir . '/stage';
my $bare = new_node('bare', start => 0);
foreach my $line (split /\n/, slurp_file($bare->data_dir . '/postgresql.conf'))
{
	next unless $line =~ /^(extension_destdir|dynamic_library_path|extension_control_path)\s*=/ && $line =~ m{'([^':]*?/stage)(?=[/':])};
	my $from = $1;
	system_or_bail('cp', '-r', $from, $stage) unless -e $stage;
	$bare->append_conf('postgresql.conf', $line =~ s/\Q$from\E/$stage/gr);
}
SKIP:
{
	skip 'the extension is not staged', 1 unless -e $stage;
	my ($program) = glob "$stage/usr/lib/postgresql/*/lib/docrep_js";
	my ($library) = glob "$stage/usr/lib/postgresql/*/lib/docrep.so";
	$program //= $library =~ s/docrep\.so$/docrep_js/r;
	unlink $program;
	$bare->start;
	$bare->safe_psql('postgres', q{CREATE EXTENSION docrep; SELECT docrep.create_table('src'), docrep.create_table('dst');
		INSERT INTO src VALUES ('_design/check', } . quote($design) . ')');
	replicate($bare, 'postgres', 'src', 'dst');
	is($bare->safe_psql('postgres', q{SELECT _id FROM dst}), '_design/check', 'without the engine design documents arrive');
	is($bare->safe_psql('postgres', q{SELECT problem FROM docrep.validators('dst')}), 'the JavaScript engine is not installed', '... and it is said');
	$bare->safe_psql('postgres', q{SET docrep.validation = off; INSERT INTO src SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 20) i});
	my ($state, $message) = DocrepTest::sqlstate($bare, 'postgres', q{INSERT INTO dst VALUES ('a', '{}')});
	is($state, '0A000', 'nothing is written that cannot be validated');
	like($message, qr/_design\/check.*docrep\.validation to off/s, '... with what can be done');
	($state, $message) = DocrepTest::sqlstate($bare, 'postgres', q{SELECT docrep.replicate('src', 'dst')});
	is($state, '0A000', '... by replication neither');
	is($bare->safe_psql('postgres', 'SELECT count(*) FROM docrep.rejected_docs'), 0, '... which waits, and rejects nothing');

	# one that is there and cannot be started, as when there are no processes or no memory for it
	foreach my $broken ("#!/bin/sh\nexit 1\n", "\n")
	{
		PostgreSQL::Test::Utils::append_to_file("$program.new", $broken);
		chmod 0755, "$program.new";
		rename "$program.new", $program or die "rename: $!";
		($state) = DocrepTest::sqlstate($bare, 'postgres', q{SELECT docrep.replicate('src', 'dst')});
		is($state, '58000', 'an engine that cannot be started stops a replication');
		is($bare->safe_psql('postgres', 'SELECT count(*) FROM docrep.rejected_docs'), 0, '... which rejects nothing');
	}
	$bare->safe_psql('postgres', 'ALTER DATABASE postgres SET docrep.validation = off');
	is(replicate($bare, 'postgres', 'src', 'dst')->{docs_written}, 20, 'docrep.validation = off lets them in');
}

done_testing();
