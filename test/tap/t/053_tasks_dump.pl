# Tasks in dumps: they come back, without credentials, and wait to be resumed.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('node', databases => ['app']);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

sub state_is
{
	my ($db, $id, $state, $what) = @_;
	ok($node->poll_query_until($db,
		"SELECT doc ->> '_replication_state' = '$state' FROM docrep.replicator WHERE _id = '$id'"), $what);
}

$node->safe_psql('app', q{CREATE ROLE joe LOGIN;
	SELECT docrep.create_table('s'), docrep.create_table('t'), docrep.create_table('u');
	INSERT INTO s VALUES ('a', '{}');
	GRANT ALL ON s, u, docrep.replicator TO joe; GRANT EXECUTE ON FUNCTION docrep.start TO joe;
	INSERT INTO docrep.replicator VALUES ('live', '{"source": "s", "target": "t", "continuous": true}'), ('done', '{"source": "s", "target": "u"}'),
		('off', '{"source": "s", "target": "t", "disabled": true}'), ('_design/d', '{}'),
		('far', '{"source": "http://joe:sesame@127.0.0.1:1/db", "target": "t", "continuous": true, "retries_per_request": 0}');
	UPDATE docrep.replicator SET doc = doc WHERE _id = 'live';
	DELETE FROM docrep.replicator WHERE _id = 'off';
	SET ROLE joe; SELECT docrep.start('joe', 's', 'u', '{"continuous": true}')});
state_is('app', 'live', 'triggered', 'a continuous task');
state_is('app', 'done', 'completed', 'a one-shot');
state_is('app', 'joe', 'triggered', q{another role's});
state_is('app', 'far', 'error', 'one whose peer is away');

# --- pg_dump and pg_restore ----------------------------------------------------------

$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app') ], 'pg_dump');
unlike(slurp_file($dump), qr/sesame/, 'no credentials in it');
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", $node->connstr('app') ], 'as text, too');
unlike(slurp_file("$dump.sql"), qr/sesame/, 'none in that either');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
state_is('restored', $_, 'failed', "$_ is held") foreach 'live', 'joe', 'far';
like($node->safe_psql('restored', q{SELECT doc ->> '_replication_state_reason' FROM docrep.replicator WHERE _id = 'live'}),
	qr/docrep.resume_tasks\(\)/, 'and says what to do');
state_is('restored', 'done', 'completed', 'what was completed is');
is($node->safe_psql('restored', q{SELECT string_agg(_id || ' ' || owner, ', ' ORDER BY _id) FROM docrep.replicator}),
	join(', ', map { "$_ " . ($_ eq 'joe' ? 'joe' : getpwuid $>) } '_design/d', qw(done far joe live)), 'rows and owners');
$node->restart;
$node->safe_psql('restored', q{INSERT INTO s VALUES ('b', '{}')});
ok($node->poll_query_until('app', q{SELECT count(*) = 3 FROM docrep.active_tasks}), 'after a restart the original ones run');
is($node->safe_psql('restored', q{SELECT count(*) FROM docrep.active_tasks}), 0, 'and the restored ones do not');
is($node->safe_psql('restored', q{SELECT docrep.resume_tasks('{live,joe,nosuch}')}), 2, 'until they are resumed');
ok($node->poll_query_until('restored', q{SELECT count(*) = 1 FROM t WHERE _id = 'b'}), 'then they go on');
ok($node->poll_query_until('restored', q{SELECT count(*) = 1 FROM u WHERE _id = 'b'}), q{joe's too});
is($node->safe_psql('restored', q{SELECT count(*) FROM docrep.task_state WHERE id = 'joe' AND role = 'joe'::regrole}), 1, 'as joe');
is($node->safe_psql('restored', q{SELECT count(*) FROM docrep.check('docrep.replicator')}), 0, 'the table is sound');

# one starts when it is written, too
$node->safe_psql('restored', q{UPDATE docrep.replicator SET doc = doc || '{"source": "http://joe:sesame@127.0.0.1:1/db"}' WHERE _id = 'far'});
state_is('restored', 'far', 'error', 'a held task that is updated runs');

# --- a dump of a dump, as text; then with triggers disabled -----------------------------

$node->command_ok([ 'pg_dump', '-f', "$dump.sql", $node->connstr('restored') ], 'a dump of what was restored');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('again'), '-f', "$dump.sql" ], 'psql restores it');
state_is('again', 'live', 'failed', 'held once more');
state_is('again', 'done', 'completed', 'and completed once more');

$node->safe_psql('postgres', 'CREATE DATABASE quiet');
$node->safe_psql('quiet', 'CREATE EXTENSION docrep');
$node->command_ok([ 'pg_restore', '--data-only', '--disable-triggers', '-t', 'replicator', '-d', $node->connstr('quiet'), $dump ],
	'pg_restore --disable-triggers of the table alone');
is($node->safe_psql('quiet', q{SELECT count(*) FROM docrep.replicator}), 5, 'has all rows');
$node->restart;
ok($node->poll_query_until('quiet', q{SELECT count(*) = 4 FROM docrep.task_state WHERE state = 'held'}), 'none of which starts');
$node->stop;

done_testing();
