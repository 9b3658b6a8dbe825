# Housekeeping: what is done with document tables in the background goes on after a crash, runs as the
# table's owner, takes no process when there is nothing to do, waits while replication is paused, says what
# goes wrong and tries again, and does not mind that tables are dropped, renamed or given away meanwhile.
use strict;
use warnings;

use DocrepSession;
use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'keeping',
	databases => [ 'one', 'gone' ],
	conf => "docrep.worker_linger = 0\ndocrep.max_retry_interval = 2\n");

sub sql
{
	my ($query, $db) = @_;
	return $node->safe_psql($db // 'one', $query);
}

sub is_in_the_end
{
	my ($query, $expected, $name, $db) = @_;
	ok(wait_for_query($node, $db // 'one', $query, $expected), $name);
	return;
}

# A table of some role with n tombstones and nothing else.
sub make_table
{
	my ($name, $n, $owner, $db) = @_;
	sql(($owner ? "SET ROLE $owner; " : '') . "SELECT docrep.create_table('$name');
		INSERT INTO $name SELECT 'd' || lpad(i::text, 6, '0'), '{}' FROM generate_series(1, $n) i ORDER BY i;
		DELETE FROM $name;", $db);
	return;
}

# The name of the table's tombstones.
sub dead { return sql("SELECT 'docrep_data.dead_' || replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = '$_[0]'::regclass", $_[1]); }

my $processes = q{SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'docrep%'};
my $housekeeper = q{SELECT pid FROM docrep.active_tasks WHERE kind = 'housekeeping'};

# Holds the lock of a tombstone, so that the step that comes to it waits.  It does for some seconds, then it
# fails, and is tried again; on a slow machine that may be before the test has gone on.
sub hold
{
	my ($table, $id, $db) = @_;
	my $session = DocrepSession->new($node, $db // 'one')->connect;
	my $dead = dead($table, $db);
	$session->query('BEGIN');
	is($session->query("SELECT _id FROM $dead WHERE _id = '$id' FOR UPDATE"), $id, 'a tombstone is locked');
	return $session;
}

my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'docrep worker'};

# Waits until so much is done of a table and the next step waits for the lock.
sub is_held
{
	my ($table, $done, $name) = @_;
	is_in_the_end(qq{SELECT state IN ('starting', 'running'), done, ($waiting) FROM docrep.housekeeping WHERE tbl = '$table'::regclass}, "t|$done|1", $name);
	return;
}

# Kills the process of housekeeping, and with it the server's others.
sub kill_housekeeper
{
	my $offset = -s $node->logfile;
	wait_until(sub {
		return 1 if log_has($node, qr/was terminated by signal 9/, $offset);
		my $pid = eval { sql($housekeeper) };
		kill 'KILL', $pid if $pid;
		return 0;
	}, undef, 'the process of housekeeping to be killed');
	return;
}

sql(q{CREATE ROLE keeper_a LOGIN; CREATE ROLE keeper_b LOGIN; GRANT CREATE ON SCHEMA public TO keeper_a, keeper_b}, 'one');

subtest 'by itself, and without a process when it is done' => sub {
	make_table('t', 2500);
	# one may still have looked at the database as it was made
	is_in_the_end($processes, '0', 'no process before');
	sql(q{SELECT docrep.set_tombstone_max_age('t', '1 hour')});
	is_in_the_end(q{SELECT state, done, finished_at IS NOT NULL, next_at - finished_at = '1 hour', error_count FROM docrep.housekeeping},
		'waiting|0|t|t|0', 'a first round has found nothing that is so old');
	sql(q{SELECT docrep.set_tombstone_max_age('t', '0')});
	is_in_the_end(q{SELECT state, done, finished_at IS NOT NULL, last_error IS NULL FROM docrep.housekeeping}, 'waiting|2500|t|t',
		'a change of the setting takes effect at once');
	is(sql(q{SELECT docrep.info('t')->'doc_del_count'}), '0', 'the tombstones are gone');
	is_in_the_end($processes, '0', 'no process afterwards');
};

subtest 'periodically' => sub {
	$node->append_conf('postgresql.conf', "docrep.housekeeping_interval = 1\n");
	$node->reload;
	is_in_the_end('SHOW docrep.housekeeping_interval', '1s', 'the interval is shorter');
	# a process that was there already may not have heard of it
	wait_until(sub {
		my $before = sql(q{SELECT finished_at FROM docrep.housekeeping});
		sql(q{SELECT docrep.start_housekeeping('t')});
		wait_for_query($node, 'one', qq{SELECT finished_at > '$before' FROM docrep.housekeeping});
		return sql(q{SELECT next_at - finished_at < '2 seconds' FROM docrep.housekeeping WHERE state = 'waiting'}) eq 't';
	}, undef, 'a round after a second');
	pass('the next round comes in a second');
	sql(q{INSERT INTO t VALUES ('x', '{}'); DELETE FROM t});
	is_in_the_end(q{SELECT docrep.info('t')->'doc_del_count'}, '0', 'what is deleted later is removed without being asked for');
};

subtest 'kept until acknowledged; kept while the target is absent' => sub {
	# a task that cannot reach its target, disabled on top
	sql(q{INSERT INTO docrep.replicator(_id, doc) VALUES ('far', '{"source": "t", "target": "postgresql://127.0.0.1:1/none#x", "continuous": true, "disabled": true}')});
	sql(q{INSERT INTO t VALUES ('x', '{}'); DELETE FROM t});
	my $before = sql(q{SELECT finished_at FROM docrep.housekeeping});
	sql(q{SELECT docrep.start_housekeeping('t')});
	is_in_the_end(qq{SELECT finished_at > '$before' FROM docrep.housekeeping}, 't', 'a round has gone by');
	is(sql(q{SELECT docrep.info('t')->'doc_del_count'}), '1', 'a disabled task that never ran keeps the tombstone');
	sql(q{SELECT docrep.create_table('u')});
	sql(q{UPDATE docrep.replicator SET doc = '{"source": "t", "target": "u", "continuous": true}'});
	is_in_the_end(q{SELECT docrep.info('u')->'doc_del_count'}, '1', 'the target is there now, and gets it');
	is_in_the_end(q{SELECT docrep.info('t')->'doc_del_count'}, '0', 'then it is removed');
	is(sql(q{SELECT docrep.info('u')->'doc_del_count'}), '1', 'at the source only');
	sql(q{DELETE FROM docrep.replicator});
	sql(q{SELECT docrep.set_tombstone_max_age('t', NULL)});
	$node->append_conf('postgresql.conf', "docrep.housekeeping_interval = 3600\n");
	$node->reload;
	is_in_the_end('SHOW docrep.housekeeping_interval', '1h', 'from here on rounds are asked for');
	is(sql(q{SELECT count(*) FROM docrep.housekeeping}), '0', 'without the setting there is nothing to do');
};

subtest 'versions that are to be kept for a shorter time than the interval' => sub {
	sql(q{SELECT docrep.create_table('short'); SELECT docrep.set_revisions('short', max_age => '3 seconds'); INSERT INTO short VALUES ('x', '{}'); UPDATE short SET doc = '{"n": 2}'});
	is_in_the_end(q{SELECT finished_at IS NOT NULL FROM docrep.housekeeping WHERE tbl = 'short'::regclass}, 't', 'a first round has gone by');
	is_in_the_end(q{SELECT count(*) FROM docrep.revisions('short')}, '0', 'are gone soon after their time');
	sql(q{SELECT docrep.drop_table('short')});
};

subtest 'a delayed task holds what it still waits for' => sub {
	plan skip_all => 'delay has no effect in this version' if sql(q{SELECT to_regproc('docrep.hold') IS NULL}) eq 't';
	sql(q{SELECT docrep.create_table('w1'); SELECT docrep.create_table('w2'); INSERT INTO w1 VALUES ('x', '{}'), ('y', '{}')});
	sql(q{SELECT docrep.replicate('w1', 'w2'); DELETE FROM w1 WHERE _id = 'x'});
	sql(q{SELECT docrep.start('late', 'w1', 'w2', '{"continuous": true, "delay": "1 hour"}')});
	is_in_the_end(q{SELECT state FROM docrep.scheduler_docs WHERE doc_id = 'late'}, 'running', 'it runs');
	sql(q{SELECT docrep.set_tombstone_max_age('w1', '0')});
	is_in_the_end(q{SELECT finished_at IS NOT NULL, done FROM docrep.housekeeping WHERE kind = 'tombstones'}, 't|0', 'a round has gone by and removed nothing');
	is(sql(q{SELECT docrep.info('w1')->'doc_del_count', (SELECT count(*) FROM w2 WHERE _id = 'x')}), '1|1', 'the tombstone is kept, as the target has not had it');
	sql(q{UPDATE docrep.replicator SET doc = doc - 'delay'});
	is_in_the_end(q{SELECT count(*) FROM w2 WHERE _id = 'x'}, '0', 'without the delay it arrives');
	ok( wait_until(sub {
			sql(q{SELECT docrep.start_housekeeping('w1')});
			return wait_for_query($node, 'one', q{SELECT finished_at IS NOT NULL FROM docrep.housekeeping WHERE kind = 'tombstones'})
			  && sql(q{SELECT docrep.info('w1')->'doc_del_count'}) eq '0'; }, undef, 'the tombstone to go'), 'and when its checkpoint says so it is removed');
	sql(q{DELETE FROM docrep.replicator; DROP TABLE w1; DROP TABLE w2});
};

subtest 'kill -9 in the middle' => sub {
	make_table('k', 5000);
	my $session = hold('k', 'd002500');
	sql(q{SELECT docrep.set_tombstone_max_age('k', '0')});
	is_held('k', 2000, 'two steps are done, the third waits for the lock');
	is(sql(q{SELECT docrep.info('k')->'doc_del_count'}), '3000', 'what they did is committed');
	my $begun = sql(q{SELECT started_at FROM docrep.housekeeping});
	kill_housekeeper();
	is_in_the_end(q{SELECT state, done FROM docrep.housekeeping}, 'waiting|5000', 'after the restart it goes on and ends');
	is(sql(q{SELECT started_at FROM docrep.housekeeping}), $begun, 'it was the same round');
	is(sql(q{SELECT docrep.info('k')->'doc_del_count', (SELECT count(*) FROM docrep.check('k'))}), '0|0', 'all are gone');
	$session->close;
	sql('DROP TABLE k');
};

subtest 'an orderly restart in the middle' => sub {
	make_table('k', 3000);
	my $session = hold('k', 'd001500');
	sql(q{SELECT docrep.set_tombstone_max_age('k', '0')});
	is_held('k', 1000, 'the second step waits');
	$node->restart;
	is_in_the_end(q{SELECT state, done FROM docrep.housekeeping}, 'waiting|3000', 'it goes on after the restart');
	$session->close;
	sql('DROP TABLE k');
};

subtest 'role is the owner' => sub {
	make_table('mine', 10, 'keeper_a');
	my $session = hold('mine', 'd000005');
	sql(q{SET ROLE keeper_a; SELECT docrep.set_tombstone_max_age('mine', '0')});
	is_in_the_end(q{SELECT usename FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'docrep worker'}, 'keeper_a',
		'the step waits, and its process is connected as the owner');
	is_in_the_end(q{SELECT user_name, kind, state FROM docrep.active_tasks}, 'keeper_a|housekeeping|running', 'and so it is shown');
	$session->query('ROLLBACK');
	is_in_the_end(q{SELECT state, done FROM docrep.housekeeping}, 'waiting|10', 'it is done');

	sql(q{ALTER TABLE mine OWNER TO keeper_b; INSERT INTO mine VALUES ('e', '{}'); DELETE FROM mine});
	$session = hold('mine', 'e');
	sql(q{SELECT docrep.start_housekeeping('mine')});
	is_in_the_end(q{SELECT usename FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'docrep worker'}, 'keeper_b',
		'the next round waits, and runs as the new owner');
	$session->query('ROLLBACK');
	is_in_the_end(q{SELECT docrep.info('mine')->'doc_del_count'}, '0', 'and does what is to be done');
	$session->close;

	my ($rc, $out, $err) = $node->psql('one', q{SET ROLE keeper_a; SELECT docrep.start_housekeeping('mine')});
	like($err, qr/must be owner of table mine/, 'who does not own the table starts nothing');
	($rc, $out, $err) = $node->psql('one', q{SET ROLE keeper_a; SELECT docrep.cancel_housekeeping('mine')});
	like($err, qr/must be owner of table mine/, 'nor stops anything');
	is(sql('SET ROLE keeper_a; SELECT count(*) FROM docrep.housekeeping'), '0', 'nor sees it');
	is(sql('SET ROLE keeper_b; SELECT count(*) FROM docrep.housekeeping'), '1', 'the owner does');
};

subtest 'an owner that may not connect' => sub {
	sql(q{REVOKE CONNECT ON DATABASE one FROM PUBLIC; INSERT INTO mine VALUES ('f', '{}'); DELETE FROM mine; SELECT docrep.start_housekeeping('mine')});
	is_in_the_end(q{SELECT error_count > 1, last_error ~ 'its process did not come' FROM docrep.housekeeping}, 't|t',
		'is no endless loop, and is said');
	sql('GRANT CONNECT ON DATABASE one TO PUBLIC');
	is_in_the_end(q{SELECT docrep.info('mine')->'doc_del_count', error_count, last_error IS NULL FROM docrep.housekeeping}, '0|0|t', 'it goes on when it may');
	sql('ALTER ROLE keeper_b NOLOGIN');
	sql(q{INSERT INTO mine VALUES ('f', '{}'); DELETE FROM mine; SELECT docrep.start_housekeeping('mine')});
	if ($node->pg_version >= 17)
	{
		is_in_the_end(q{SELECT docrep.info('mine')->'doc_del_count'}, '0', 'a role without LOGIN has housekeeping');
	}
	else
	{
		is_in_the_end(q{SELECT state, last_error FROM docrep.housekeeping},
			'error|the owner of the table, "keeper_b", is not permitted to log in', 'a role without LOGIN has none before 17, which is said');
	}
	sql('ALTER ROLE keeper_b LOGIN');
	is_in_the_end(q{SELECT docrep.info('mine')->'doc_del_count'}, '0', 'with LOGIN it has');
	sql('DROP TABLE mine');
};

subtest 'errors' => sub {
	make_table('bad', 10);
	my $dead = dead('bad');
	my $constraint = sql("SELECT conname FROM pg_constraint WHERE conrelid = '$dead'::regclass AND contype = 'u'");
	sql("ALTER TABLE $dead DROP CONSTRAINT $constraint");
	make_table('good', 10);
	# without a description of the table there is no function that would set anything
	sql(q{INSERT INTO docrep.table_settings (tbl, tombstone_max_age) SELECT uuid, '0' FROM docrep.document_tables WHERE tbl::text IN ('bad', 'good')});
	is_in_the_end(q{SELECT state, last_sqlstate, last_error ~ 'has lost its unique index', error_count > 1 FROM docrep.housekeeping WHERE tbl = 'bad'::regclass},
		'error|55000|t|t', 'an error is in the row, and it was tried again');
	is_in_the_end(q{SELECT done FROM docrep.housekeeping WHERE tbl = 'good'::regclass AND state = 'waiting' AND finished_at IS NOT NULL}, '10', 'another table is not held up');
	sql("ALTER TABLE $dead ADD CONSTRAINT $constraint UNIQUE (_seq)");
	is_in_the_end(q{SELECT done, error_count, last_error IS NULL FROM docrep.housekeeping WHERE tbl = 'bad'::regclass AND finished_at IS NOT NULL}, '10|0|t', 'once repaired it goes on');
	sql('DROP TABLE bad; DROP TABLE good');
	is(sql('SELECT count(*) FROM docrep.table_jobs'), '0', 'nothing is left of dropped tables');
};

subtest 'paused' => sub {
	make_table('p', 3000);
	my $session = hold('p', 'd001500');
	sql(q{SELECT docrep.set_tombstone_max_age('p', '0')});
	is_held('p', 1000, 'the second step waits');
	sql('ALTER SYSTEM SET docrep.paused = on');
	$node->reload;
	is_in_the_end(q{SELECT state FROM docrep.housekeeping}, 'paused', 'paused');
	$session->query('ROLLBACK');
	# if it had to wait for too long it has failed instead, and its process has gone
	my $ended = q{SELECT done = CASE WHEN last_sqlstate IS NULL THEN 2000 ELSE 1000 END
		AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND query <> 'paused (docrep.paused is on)')
		FROM docrep.housekeeping};
	is_in_the_end($ended, 't', 'the step that was under way ends, and no other begins');
	is(sql($ended), 't', 'none has');
	sql('ALTER SYSTEM RESET docrep.paused');
	$node->reload;
	is_in_the_end(q{SELECT docrep.info('p')->'doc_del_count'}, '0', 'it goes on');
	$session->close;
	sql('DROP TABLE p');
};

subtest 'cancelled, and started again' => sub {
	make_table('c', 3000);
	my $session = hold('c', 'd001500');
	sql(q{SELECT docrep.set_tombstone_max_age('c', '0')});
	is_in_the_end($waiting, '1', 'the second step waits');
	is(sql(q{SELECT docrep.cancel_housekeeping('c')}), '1', 'it is cancelled while it does');
	$session->query('ROLLBACK');
	is_in_the_end($processes, '0', 'its process ends after the step');
	# nor was the one before repeated if it had to wait for too long
	like(sql(q{SELECT state, next_at IS NULL, docrep.info('c')->'doc_del_count' FROM docrep.housekeeping}), qr/^cancelled\|t\|[12]000$/, 'the last step was not begun');
	is(sql(q{SELECT docrep.cancel_housekeeping('c', 'tombstones')}), '0', 'there is nothing left to cancel');
	is(sql(q{SELECT docrep.start_housekeeping('c', 'tombstones')}), '1', 'it is started');
	is_in_the_end(q{SELECT docrep.info('c')->'doc_del_count', state, done > 0 FROM docrep.housekeeping}, '0|waiting|t', 'and is done');
	$session->close;
	sql('DROP TABLE c');
};

subtest 'renamed and dropped meanwhile' => sub {
	make_table('r', 3000);
	make_table('s', 3000);
	my $r = hold('r', 'd001500');
	sql(q{SELECT docrep.set_tombstone_max_age('r', '0')});
	is_held('r', 1000, 'the second step waits');
	sql(q{SELECT docrep.set_tombstone_max_age('s', '0')});
	$r->query('ROLLBACK');
	sql(q{ALTER TABLE r RENAME TO r2});
	is_in_the_end(q{SELECT docrep.info('r2')->'doc_del_count'}, '0', 'a renamed table is the same');
	is_in_the_end(q{SELECT docrep.info('s')->'doc_del_count'}, '0', 'so is another');

	make_table('d', 3000);
	my $d = hold('d', 'd001500');
	sql(q{SELECT docrep.set_tombstone_max_age('d', '0')});
	is_held('d', 1000, 'the second step waits');
	my $drop = DocrepSession->new($node, 'one')->connect;
	$drop->send(q{DROP TABLE d});
	is_in_the_end(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'}, '1', 'DROP waits for it');
	$d->query('ROLLBACK');
	ok($drop->receive, 'and ends');
	is($drop->{sqlstate}, '00000', 'well');
	is_in_the_end($processes, '0', 'housekeeping ends');
	is(sql(q{SELECT string_agg(tbl::text || ' ' || error_count, ',' ORDER BY tbl::text) FROM docrep.housekeeping}), 'r2 0,s 0', 'nothing is left, nothing has failed');
	$_->close foreach $r, $d, $drop;
	ok(!log_has($node, qr/relation with OID/), 'nor does the log speak of it');
	sql('DROP TABLE r2; DROP TABLE s');
};

subtest 'one process a database, which others are not kept waiting by' => sub {
	make_table("m$_", 10, $_ % 2 ? 'keeper_a' : 'keeper_b') foreach 1 .. 6;
	my $session = hold('m1', 'd000005');
	sql(join ';', map { "SELECT docrep.set_tombstone_max_age('m$_', '0')" } 1 .. 6);
	is_in_the_end(qq{SELECT ($waiting), (SELECT count(*) FROM docrep.active_tasks WHERE kind = 'housekeeping')}, '1|1', 'a step waits for a lock, and there is one job');
	$session->query('ROLLBACK');
	is_in_the_end(q{SELECT count(*) FROM docrep.housekeeping WHERE finished_at IS NOT NULL AND done = 10 OR error_count > 0}, '6', 'owner after owner is served');
	$session->close;
	sql("DROP TABLE m$_") foreach 1 .. 6;
};

# A table of a role with n documents in conflict.
sub make_conflicts
{
	my ($name, $n, $owner, $db) = @_;
	sql(($owner ? "SET ROLE $owner; " : '') . "SELECT docrep.create_table('$name');
		SELECT count(*) FROM docrep.bulk_docs('$name', (SELECT jsonb_agg(jsonb_build_object('_id', 'd' || lpad(i::text, 6, '0'), '_rev', '1-' || v, 'v', v))
			FROM generate_series(1, $n) i, unnest('{a,b}'::text[]) v), false)", $db);
	return;
}

subtest 'conflicts, after a change of policy' => sub {
	make_conflicts('q', 250, 'keeper_a');
	is(sql(q{SELECT docrep.conflict_count('q')}), '250', 'there are conflicts');
	sql(<<'SQL');
CREATE TABLE seen (id text, role text, session text, super boolean);
CREATE FUNCTION choose(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen SELECT id, current_user, session_user, (SELECT rolsuper FROM pg_roles WHERE rolname = session_user);
	IF EXISTS (SELECT FROM pg_class WHERE relname = 'fails') THEN
		RAISE EXCEPTION 'this resolver fails';
	END IF;
	RETURN versions[1].doc || '{"chosen": true}';
END $$;
GRANT ALL ON seen TO keeper_a;
SQL
	# the last document of the second step is locked, so that there is a middle
	my $session = DocrepSession->new($node, 'one')->connect;
	$session->query('BEGIN');
	is($session->query(q{SELECT _id FROM q WHERE _id = 'd000200' FOR UPDATE}), 'd000200', 'a document is locked');
	sql(q{SET ROLE keeper_a; SELECT docrep.set_conflict_policy('q', 'function', 'public.choose(regclass,text,docrep.version[])')});
	# a step is a hundred, or less if that takes long
	is_in_the_end(qq{SELECT state IN ('starting', 'running'), done BETWEEN 1 AND 199, total, progress = done * 100 / 250, ($waiting) FROM docrep.housekeeping WHERE kind = 'conflicts'},
		't|t|250|t|1', 'one step is done, the second waits for the lock');
	kill_housekeeper();
	is_in_the_end(q{SELECT state, done, total, progress, next_at IS NULL FROM docrep.housekeeping WHERE kind = 'conflicts'}, 'done|250|250|100|t', 'after the restart it goes on and ends');
	is(sql(q{SELECT docrep.conflict_count('q'), count(*) FROM q WHERE doc->'chosen' = 'true'}), '0|250', 'all are resolved');
	is(sql(q{SELECT count(*), count(DISTINCT id), string_agg(DISTINCT role || ' ' || session || ' ' || super, ',') FROM seen}), '250|250|keeper_a keeper_a false',
		'the resolver was asked once for each, as the owner, by a session that is not a superuser\'s');
	is(sql(q{SELECT count(*) FROM docrep.check('q')}), '0', 'the table is sound');
	is_in_the_end($processes, '0', 'no process afterwards');
	$session->close;

	# another resolver under the same name: setting the policy again asks it about what is left
	sql(q{CREATE TABLE fails()});
	sql(q{SELECT docrep.bulk_docs('q', '[{"_id": "new", "_rev": "1-a", "v": 1}, {"_id": "new", "_rev": "1-b", "v": 2}]', false)});
	is(sql(q{SELECT docrep.conflict_count('q')}), '1', 'a resolver that fails leaves a conflict');
	sql(q{DROP TABLE fails; SELECT docrep.set_conflict_policy('q', 'function', 'public.choose(regclass,text,docrep.version[])')});
	is_in_the_end(q{SELECT docrep.conflict_count('q')}, '0', 'which is resolved when it is set again');
	sql('DROP TABLE q');
};

subtest 'a resolver that hangs' => sub {
	$node->append_conf('postgresql.conf', "docrep.housekeeping_timeout = 1\n");
	$node->reload;
	make_conflicts('h', 30);
	sql(<<'SQL');
CREATE TABLE hangs();
CREATE FUNCTION hang(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF id = 'd000005' AND EXISTS (SELECT FROM pg_class WHERE relname = 'hangs') THEN
		PERFORM pg_sleep(1000);
	END IF;
	RETURN versions[1].doc;
END $$;
SELECT docrep.set_conflict_policy('h', 'function', 'public.hang(regclass,text,docrep.version[])');
SQL
	is_in_the_end(q{SELECT last_sqlstate, done FROM docrep.housekeeping WHERE tbl = 'h'::regclass}, '57014|4', 'is ended, and what comes before it is done');
	is_in_the_end(q{SELECT state, error_count > 2 FROM docrep.housekeeping WHERE tbl = 'h'::regclass}, 'error|t', 'which is tried again, with pauses');
	is(sql(q{SELECT docrep.conflict_count('h')}), '26', 'the others wait');
	sql('DROP TABLE hangs');
	is_in_the_end(q{SELECT docrep.conflict_count('h'), state, error_count, last_sqlstate IS NULL FROM docrep.housekeeping WHERE tbl = 'h'::regclass}, '0|done|0|t', 'when it does not hang any more all is done');
	$node->append_conf('postgresql.conf', "docrep.housekeeping_timeout = 300\n");
	$node->reload;

	# and who replaces it need not wait so long for the table
	sql(<<'SQL');
CREATE TABLE hangs();
SELECT docrep.set_conflict_policy('h', 'keep');
SELECT docrep.bulk_docs('h', '[{"_id": "d000005", "_rev": "9-a", "v": 1}, {"_id": "d000005", "_rev": "9-b", "v": 2}]', false);
SELECT docrep.set_conflict_policy('h', 'function', 'public.hang(regclass,text,docrep.version[])');
SQL
	is_in_the_end(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND wait_event = 'PgSleep'}, '1', 'it hangs again');
	is(sql(q{SET lock_timeout = '180s'; SELECT docrep.set_conflict_policy('h', 'latest')}), '', 'the policy can be set');
	is_in_the_end(q{SELECT docrep.conflict_count('h'), state, error_count FROM docrep.housekeeping WHERE tbl = 'h'::regclass}, '0|done|0', 'and is what counts then');
	sql('DROP TABLE h, hangs; DROP FUNCTION hang');
};

subtest 'others need not wait for long' => sub {
	my $narrow = new_node('narrow', conf => "docrep.max_workers = 1\ndocrep.park_after = 0\n");
	my $do = sub { return $narrow->safe_psql('postgres', $_[0]) };
	$do->(<<'SQL');
SELECT docrep.create_table('q'), docrep.create_table('a'), docrep.create_table('b');
SELECT count(*) FROM docrep.bulk_docs('q', (SELECT jsonb_agg(jsonb_build_object('_id', 'd' || i, '_rev', '1-' || v, 'v', v)) FROM generate_series(1, 2000) i, unnest('{a,b}'::text[]) v), false);
CREATE FUNCTION slow(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.01);
	RETURN versions[1].doc;
END $$;
INSERT INTO a VALUES ('x', '{}');
SELECT docrep.set_conflict_policy('q', 'function', 'public.slow(regclass,text,docrep.version[])');
SQL
	ok(wait_for_query($narrow, 'postgres', q{SELECT done > 0 FROM docrep.housekeeping}), 'housekeeping has the only process, for more than twenty seconds');
	my ($ok, $state, $done) = split /[|\n]/, $do->(q{SELECT docrep.replicate('a', 'b')->'ok'; SELECT (state <> 'done') || ' ' || error_count, done FROM docrep.housekeeping});
	is($ok, 'true', 'a replication gets it');
	is($state, 'true 0', 'long before that is done');
	ok(wait_for_query($narrow, 'postgres', "SELECT done > $done FROM docrep.housekeeping"), 'and housekeeping goes on where it was');
	is($do->(q{SELECT docrep.cancel_housekeeping('q')}), '1', 'enough of that');
	$narrow->stop;
};

subtest 'DROP DATABASE' => sub {
	make_table('t', 3000, undef, 'gone');
	sql(q{SELECT docrep.set_tombstone_max_age('t', '0')}, 'gone');
	my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE gone');
	is($rc, 0, 'is not held up') or diag($err);
};

subtest 'a dump brings the settings, and with them what is to be done' => sub {
	sql(q{SELECT docrep.create_table('t2'); SELECT docrep.set_tombstone_max_age('t2', '0')});
	my $file = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
	$node->command_ok([ 'pg_dump', '-d', $node->connstr('one'), '-f', $file ], 'dumped');
	sql('CREATE DATABASE copy', 'postgres');
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $file ], 'restored');
	is_in_the_end(q{SELECT kind, error_count FROM docrep.housekeeping}, 'tombstones|0', 'there is something to do in the copy', 'copy');
	sql(q{INSERT INTO t2 VALUES ('x', '{}'); DELETE FROM t2; SELECT docrep.start_housekeeping('t2')}, 'copy');
	is_in_the_end(q{SELECT docrep.info('t2')->'doc_del_count'}, '0', 'housekeeping goes on in the copy', 'copy');
};

done_testing();
