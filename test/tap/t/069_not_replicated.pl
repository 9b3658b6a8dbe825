# What a table keeps back from replications: through libpq as in the same database, both ways, while it
# changes under a running task, in explain() and verify(); what never travels; and RavenDB's scenarios of
# tombstones by their names.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $here = new_node('here', databases => [ 'one', 'two' ], tcp => 1);
my $there = new_node('there', databases => ['far'], tcp => 1);

sub sql
{
	my ($query, $db, $node) = @_;
	return ($node // $here)->safe_psql($db // 'one', $query);
}

sub url
{
	my ($node, $db, $table) = @_;
	return 'postgresql://' . (getpwuid $<)[0] . '@127.0.0.1:' . $node->port . "/$db#$table";
}

# Replicates once, and returns how many documents were written.
sub run_once
{
	my ($source, $target, $options, $db) = @_;
	$options //= '{}';
	return sql("SELECT CASE WHEN r->'no_changes' = 'true' THEN 0 ELSE (r->'history'->0->>'docs_written')::int END
		FROM docrep.replicate('$source', '$target', '$options') r", $db);
}

# "id rev[ deleted]" of all documents of a table, or of those whose id is like something.
sub docs
{
	my ($table, $like, $db, $node) = @_;
	$like //= '%';
	return join ', ', split /\n/, sql("SELECT id || CASE WHEN deleted THEN ' deleted' ELSE '' END FROM docrep.changes('$table')
		WHERE id LIKE '$like' ORDER BY id", $db, $node);
}

# The same documents with the same revisions in all of these: [table, db, node].
sub are_equal
{
	my ($name, @tables) = @_;
	my @contents = map { my ($t, $db, $node) = @$_;
		sql("SELECT id, deleted, changes FROM docrep.changes('$t', style => 'all_docs') ORDER BY id", $db, $node) } @tables;
	is($contents[$_], $contents[0], "$name ($tables[$_][0])") foreach 1 .. $#contents;
	return;
}

# No tasks any more, nor their jobs, which would go on with tables of the same names for a moment.
sub forget_tasks
{
	sql(q{DELETE FROM docrep.replicator});
	return wait_for_query($here, 'one', 'SELECT count(*) FROM docrep.active_tasks', 0, 60);
}

my $continuous = '{"continuous": true}';

subtest 'through libpq, at the source' => sub {
	sql(q{SELECT docrep.create_table('src'); SELECT docrep.set_not_replicated('src', '{Raven/}', '{Raven/Hilo/}', 'Raven-Not-For-Replication', '{"draft": true}')}, 'far', $there);
	sql(q{INSERT INTO src VALUES ('a', '{}'), ('Raven/Databases', '{}'), ('Raven/Hilo/users', '{"Max": 32}'), ('b', '{"@metadata": {"Raven-Not-For-Replication": true}}'), ('c', '{"draft": true}')}, 'far', $there);
	sql(q{SELECT docrep.create_table('copy')});
	is(run_once(url($there, 'far', 'src'), 'copy'), '2', 'two are written');
	is(docs('copy'), 'Raven/Hilo/users, a', 'those that may travel');
	sql(q{DELETE FROM src}, 'far', $there);
	run_once(url($there, 'far', 'src'), 'copy');
	is(docs('copy'), 'Raven/Hilo/users deleted, a deleted, b deleted, c deleted', 'deletions say nothing and travel, but for those of kept ids');
	is(sql(sprintf(q{SELECT count(*) FROM docrep.verify('%s', 'copy')}, url($there, 'far', 'src'))), '0', 'verify compares what travels');
};

subtest 'what is written while the batch is on its way' => sub {
	# the feed named a revision; what it has become by the time it is fetched is kept back, too
	sql(q{SELECT docrep.create_table('s'); SELECT docrep.create_table('t'); SELECT docrep.set_not_replicated('s', member => 'secret');
		INSERT INTO s VALUES ('x', '{}')});
	sql(sprintf(q{INSERT INTO docrep.replicator(_id, doc) VALUES ('live', '{"source": "%s", "target": "t", "continuous": true}')}, url($here, 'one', 's')));
	wait_for_query($here, 'one', 'SELECT count(*) FROM t', 1, 60);
	# many versions, public and secret in turn: no secret one may ever be at the target
	sql(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP UPDATE s SET doc = jsonb_build_object('n', i, 'secret', i % 2 = 1); COMMIT; END LOOP; END $$});
	ok(wait_for_query($here, 'one', q{SELECT doc->'n' FROM t}, 200, 60), 'the last one arrives');
	is(sql(q{SELECT doc->'secret' FROM t}), 'false', 'as it is');
	sql(q{UPDATE s SET doc = '{"n": 201, "secret": true}'});
	sql(q{INSERT INTO s VALUES ('y', '{}')});
	ok(wait_for_query($here, 'one', q{SELECT count(*) FROM t WHERE _id = 'y'}, 1, 60), 'a later document has passed it');
	is(sql(q{SELECT doc->'n' FROM t WHERE _id = 'x'}), '200', 'the one that became secret has not');
	forget_tasks();
};

subtest 'explain' => sub {
	sql(q{SELECT docrep.create_table('e'); SELECT docrep.create_table('e2'); SELECT docrep.set_not_replicated('e', '{p/}', member => 'secret', matching => '{"n": 7}');
		INSERT INTO e VALUES ('p/1', '{}'), ('s', '{"secret": true}'), ('m', '{"n": 7}'), ('ok', '{}');
		SELECT docrep.start('explained', 'e', 'e2', '{"continuous": true}')});
	wait_for_query($here, 'one', 'SELECT count(*) FROM e2', 1, 60);
	my $verdict = sub { return sql("SELECT verdict || ': ' || detail FROM docrep.explain('explained', 'e', '$_[0]') WHERE step = '" . ($_[1] // 'rule') . "'") };
	is($verdict->('p/1'), q{stops: it is kept back by the source table's rule: its id is under a reserved prefix}, 'a prefix');
	is($verdict->('s'), q{stops: it is kept back by the source table's rule: it has the member that says so}, 'a member');
	is($verdict->('m'), q{stops: it is kept back by the source table's rule: it matches the rule's selector}, 'a selector');
	is($verdict->('ok'), q{passes: the source table's rule does not keep it back}, 'none of them');
	is($verdict->('s', 'summary'), q{stops: It is not replicated: it is kept back by the source table's rule: it has the member that says so.}, 'the summary says it');
	sql(q{SELECT docrep.bulk_docs('e', '[{"_id": "c", "_rev": "1-a"}, {"_id": "c", "_rev": "1-b", "secret": true}]', false)});
	is($verdict->('c'), q{passes: 1 of its 2 revisions are kept back by the source table's rule: it has the member that says so}, 'one of two');
	sql(q{SELECT docrep.set_not_replicated('e')});
	is($verdict->('s'), '', 'no rule, no step');
	forget_tasks();
};

subtest 'a dump has the rule' => sub {
	my $file = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
	sql(q{SELECT docrep.set_not_replicated('e', '{p/}')});
	$here->command_ok([ 'pg_dump', '-d', $here->connstr('one'), '-f', $file ], 'dumped');
	sql('CREATE DATABASE copied', 'postgres');
	$here->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $here->connstr('copied'), '-f', $file ], 'restored');
	sql(q{SELECT docrep.create_table('e3')}, 'copied');
	run_once('e', 'e3', '{}', 'copied');
	is(docs('e3', 'p%', 'copied'), '', 'and it holds in the copy');
};

subtest 'what never travels' => sub {
	sql(<<'SQL');
SELECT docrep.create_table('all_of_it');
CREATE SEQUENCE numbers;
ALTER TABLE all_of_it ADD n bigint DEFAULT nextval('numbers');
CREATE INDEX total ON all_of_it ((doc->>'total'));
CREATE FUNCTION resolver(tbl regclass, id text, versions jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
INSERT INTO all_of_it(_id, doc) VALUES ('d1', '{"total": 1}'), ('d2', '{"total": 2}'), ('_design/app', '{"views": {}}');
SELECT docrep.put_local('all_of_it', 'mine', '{"x": 1}');
SELECT docrep.set_revs_limit('all_of_it', 77);
SELECT docrep.set_tombstone_max_age('all_of_it', '1 year');
SELECT docrep.set_not_replicated('all_of_it', '{none/}');
UPDATE docrep.table_settings SET conflict_policy = 'function', resolver = 'public.resolver(regclass,text,jsonb)'
	WHERE tbl = (docrep.info('all_of_it')->>'uuid')::uuid;
SELECT docrep.start('a task', 'all_of_it', 'copy', '{"continuous": true, "disabled": true}');
SQL
	sql(q{SELECT docrep.create_table('before'); INSERT INTO before VALUES ('z', '{}')});
	is(run_once('all_of_it', url($there, 'far', 'got'), '{"create_target": true}'), '3', 'documents travel, design documents too');
	my $far = sub { return sql($_[0], 'far', $there) };
	is(docs('got', '%', 'far', $there), '_design/app, d1, d2', 'nothing but documents is there');
	is($far->(q{SELECT count(*) FROM docrep.local_docs WHERE tbl = (docrep.info('got')->>'uuid')::uuid AND id = 'mine'}), '0', 'no local documents');
	is($far->(q{SELECT count(*) FROM docrep.local_docs l WHERE tbl = (docrep.info('got')->>'uuid')::uuid AND NOT l.doc ? 'session_id'}), '0', 'no local document but the replication\'s own checkpoint');
	is($far->(q{SELECT count(*) FROM docrep.replicator}), '0', 'no tasks');
	is($far->(q{SELECT revs_limit, tombstone_max_age, not_replicated FROM docrep.tables WHERE tbl = 'got'::regclass}), '1000||', 'no settings');
	is($far->(q{SELECT count(*) FROM docrep.table_settings WHERE conflict_policy <> 'keep' OR resolver IS NOT NULL}), '0', 'no policies');
	is($far->(q{SELECT count(*) FROM docrep.housekeeping}), '0', 'no housekeeping');
	is($far->(q{SELECT to_regproc('public.resolver') IS NULL}), 't', 'no resolver functions');
	is($far->(q{SELECT count(*) FROM pg_indexes WHERE tablename = 'got' AND indexdef LIKE '%total%'}), '0', 'no indexes');
	is($far->(q{SELECT to_regclass('public.numbers') IS NULL, count(*) FROM pg_attribute WHERE attrelid = 'got'::regclass AND attname = 'n'}), 't|0', 'no sequences, no columns of one\'s own');
	# a checkpoint of one replication is no document of another
	run_once('all_of_it', 'before');
	is(docs('before'), '_design/app, d1, d2, z', 'nor any checkpoint');
	my ($rc, $out, $err) = $here->psql('one', "SELECT docrep.replicate('docrep.replicator', '" . url($there, 'far', 'docrep.replicator') . "')");
	is($far->(q{SELECT count(*) FROM docrep.replicator}), '0', 'tasks become no tasks elsewhere, even if somebody asks for it');
	forget_tasks();
};

# ---- RavenDB's scenarios of tombstones -----------------------------------------------------------------
# "Kept until acknowledged" and "kept while the target is absent" are in 081.

sub fresh
{
	my (@names) = @_;
	sql("DROP TABLE IF EXISTS $_; SELECT docrep.create_table('$_')") foreach @names;
	return;
}

subtest 'tombstones: deleted at the destination' => sub {
	fresh(qw(m1 m2));
	sql(q{INSERT INTO m1 VALUES ('users/1', '{"name": "Karmel"}')});
	run_once('m1', 'm2');
	is(docs('m2'), 'users/1', 'the document is there');
	sql('DELETE FROM m1');
	is(run_once('m1', 'm2'), 1, 'one tombstone is written');
	is(docs('m2'), 'users/1 deleted', 'and it is deleted there');
	are_equal('both sides are equal', ['m1'], ['m2']);
};

subtest 'tombstones: not replicated back' => sub {
	is(run_once('m2', 'm1'), 0, 'nothing is sent back to where it came from');
	is(run_once('m1', 'm2'), 0, 'nor forth again');
	fresh(qw(m1 m2));
	my $seq = sub { return sql("SELECT docrep.info('$_[0]')->'update_seq'") };
	sql(q{SELECT docrep.start('forth', 'm1', 'm2', '{"continuous": true}'); SELECT docrep.start('back', 'm2', 'm1', '{"continuous": true}')});
	sql(q{INSERT INTO m1 VALUES ('users/1', '{}')});
	wait_for_query($here, 'one', 'SELECT count(*) FROM m2', 1, 60);
	sql(q{DELETE FROM m1});
	wait_for_query($here, 'one', q{SELECT docrep.info('m2')->'doc_del_count'}, 1, 60);
	# once both have looked at all that there is, no number has been taken for an echo
	my $expected = $seq->('m1') . ' ' . $seq->('m2');
	ok(wait_for_query($here, 'one', q{SELECT bool_and((info->>'changes_pending')::int = 0) AND count(*) = 2 FROM docrep.scheduler_docs}, 't', 60), 'both tasks have caught up');
	is($seq->('m1') . ' ' . $seq->('m2'), $expected, 'nothing was written again');
	is(sql(q{SELECT (info->>'docs_written')::int FROM docrep.scheduler_docs WHERE doc_id = 'back'}), '0', 'nothing ever went back');
	forget_tasks();
};

subtest 'tombstones: fan-out' => sub {
	fresh(qw(m1 m2 m3 m4));
	sql("DROP TABLE IF EXISTS m5; SELECT docrep.create_table('m5')", 'far', $there);
	my %to = (m2 => 'm2', m3 => 'm3', m4 => 'm4', m5 => url($there, 'far', 'm5'));
	sql("SELECT docrep.start('to $_', 'm1', '$to{$_}', '$continuous')") foreach sort keys %to;
	sql(q{INSERT INTO m1 SELECT 'users/' || i, '{}' FROM generate_series(1, 20) i; DELETE FROM m1 WHERE _id <> 'users/7'});
	ok(wait_for_query($here, 'one', qq{SELECT docrep.info('$_')->'doc_del_count', docrep.info('$_')->'doc_count'}, '19|1', 60), "$_ has all tombstones") foreach qw(m2 m3 m4);
	ok(wait_for_query($there, 'far', q{SELECT docrep.info('m5')->'doc_del_count', docrep.info('m5')->'doc_count'}, '19|1', 60), 'm5 has, on another server');
	are_equal('all are equal', ['m1'], ['m2'], ['m3'], ['m4'], [ 'm5', 'far', $there ]);
	forget_tasks();
};

subtest 'tombstones: chain' => sub {
	fresh(qw(m1 m2 m3));
	sql("DROP TABLE IF EXISTS m4; SELECT docrep.create_table('m4')", 'far', $there);
	sql("SELECT docrep.start('1', 'm1', 'm2', '$continuous'); SELECT docrep.start('2', 'm2', 'm3', '$continuous'); SELECT docrep.start('3', 'm3', '" . url($there, 'far', 'm4') . "', '$continuous')");
	sql(q{INSERT INTO m1 VALUES ('users/1', '{}'), ('users/2', '{}')});
	ok(wait_for_query($there, 'far', 'SELECT count(*) FROM m4', 2, 60), 'documents arrive at the end of the chain');
	sql(q{DELETE FROM m1 WHERE _id = 'users/1'});
	ok(wait_for_query($there, 'far', q{SELECT string_agg(_id, ',') FROM m4}, 'users/2', 60), 'and so does the deletion');
	are_equal('all are equal', ['m1'], ['m2'], ['m3'], [ 'm4', 'far', $there ]);
	forget_tasks();
};

subtest 'tombstones: master-master cycle' => sub {
	fresh(qw(m1 m2 m3));
	sql("SELECT docrep.start('$_->[0]', '$_->[0]', '$_->[1]', '$continuous')") foreach [qw(m1 m2)], [qw(m2 m3)], [qw(m3 m1)];
	sql(q{INSERT INTO m1 VALUES ('users/1', '{}'); INSERT INTO m2 VALUES ('users/2', '{}'); INSERT INTO m3 VALUES ('users/3', '{}')});
	ok(wait_for_query($here, 'one', "SELECT count(*) FROM $_", 3, 60), "$_ has all three") foreach qw(m1 m2 m3);
	sql(q{DELETE FROM m1 WHERE _id = 'users/2'; DELETE FROM m2 WHERE _id = 'users/3'; DELETE FROM m3 WHERE _id = 'users/1'});
	ok(wait_for_query($here, 'one', "SELECT docrep.info('$_')->'doc_del_count'", 3, 60), "$_ has all tombstones") foreach qw(m1 m2 m3);
	ok(wait_for_query($here, 'one', q{SELECT bool_and((info->>'changes_pending')::int = 0) AND count(*) = 3 FROM docrep.scheduler_docs}, 't', 60), 'it comes to rest');
	are_equal('all are equal', ['m1'], ['m2'], ['m3']);
	# what is there may not have been counted yet
	wait_for_query($here, 'one', q{SELECT sum((info->>'docs_written')::int) >= 12 FROM docrep.scheduler_docs}, 't', 60);
	is(sql(q{SELECT sum((info->>'docs_written')::int) FROM docrep.scheduler_docs}), '12', 'each document and each tombstone went round once');
	is(sql("SELECT count(*) FROM docrep.check('$_')"), '0', "$_ is sound") foreach qw(m1 m2 m3);
	forget_tasks();
};

subtest q{tombstones: re-created document removes the destination's tombstone} => sub {
	fresh(qw(m1 m2));
	sql(q{INSERT INTO m1 VALUES ('users/1', '{"v": 1}')});
	run_once('m1', 'm2');
	sql(q{DELETE FROM m1});
	run_once('m1', 'm2');
	is(sql(q{SELECT docrep.info('m2')->'doc_count', docrep.info('m2')->'doc_del_count'}), '0|1', 'the destination has a tombstone');
	sql(q{INSERT INTO m1 VALUES ('users/1', '{"v": 2}')});
	run_once('m1', 'm2');
	is(sql(q{SELECT docrep.info('m2')->'doc_count', docrep.info('m2')->'doc_del_count', docrep.conflict_count('m2'), (SELECT doc FROM m2)}), '1|0|0|{"v": 2}',
		'and the document instead when it comes again, without a conflict');
	are_equal('both sides are equal', ['m1'], ['m2']);
};

subtest 'tombstones: prevent-deletions' => sub {
	fresh(qw(m1 m2));
	sql(q{INSERT INTO m1 VALUES ('users/1', '{}'), ('users/2', '{}')});
	run_once('m1', 'm2', '{"prevent_deletions": true}');
	sql(q{DELETE FROM m1 WHERE _id = 'users/1'});
	run_once('m1', 'm2', '{"prevent_deletions": true}');
	is(docs('m2'), 'users/1, users/2', 'the destination keeps what was deleted at the source');
	sql(q{UPDATE m2 SET doc = '{"mine": true}' WHERE _id = 'users/1'; INSERT INTO m1 VALUES ('users/3', '{}')});
	run_once('m1', 'm2', '{"prevent_deletions": true}');
	is(docs('m2'), 'users/1, users/2, users/3', 'while other changes go on');
};

subtest 'a cleaned tombstone does not come back' => sub {
	fresh(qw(m1 m2));
	sql(q{SELECT docrep.start('forth', 'm1', 'm2', '{"continuous": true}'); SELECT docrep.start('back', 'm2', 'm1', '{"continuous": true}')});
	sql(q{INSERT INTO m1 VALUES ('users/1', '{}')});
	wait_for_query($here, 'one', 'SELECT count(*) FROM m2', 1, 60);
	sql(q{DELETE FROM m2});
	wait_for_query($here, 'one', 'SELECT count(*) FROM m1', 0, 60);
	sql(q{SELECT docrep.set_tombstone_max_age('m1', '0'); SELECT docrep.set_tombstone_max_age('m2', '0')});
	# what each still has to send to the other holds it; checkpoints are written as the jobs go idle
	foreach my $table (qw(m1 m2))
	{
		ok( wait_until(sub {
				sql("SELECT docrep.start_housekeeping('$table')");
				return wait_for_query($here, 'one', "SELECT finished_at IS NOT NULL FROM docrep.housekeeping WHERE tbl = '$table'::regclass", 't')
				  && sql("SELECT docrep.info('$table')->'doc_del_count'") eq '0'; }, undef, "$table to be clean"), "$table is clean");
	}
	sql(q{INSERT INTO m1 VALUES ('users/2', '{}')});
	wait_for_query($here, 'one', q{SELECT count(*) FROM m2 WHERE _id = 'users/2'}, 1, 60);
	is(docs($_), 'users/2', "$_ has nothing else") foreach qw(m1 m2);
	forget_tasks();
};

done_testing();
