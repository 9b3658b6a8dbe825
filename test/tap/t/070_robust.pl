# What surrounds document tables: standbys, native logical replication in both
# directions, an extension dropped and made again in one session, a sequence that
# was set back, pg_upgrade.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary',
	init => { allows_streaming => 'logical' });
$primary->safe_psql('postgres', <<'SQL');
SELECT docrep.create_table('docs');
INSERT INTO docs(_id, doc) VALUES ('live', '{"n": 1}'), ('gone', '{}');
DELETE FROM docs WHERE _id = 'gone';
SELECT docrep.bulk_docs('docs', '[{"_id": "two", "_rev": "1-a", "n": 1}, {"_id": "two", "_rev": "1-b", "n": 2}]', false);
SQL

# --- reading on a standby, where no lock may be stronger than a reader's
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

my %reads = (
	q{get('docs', 'live')->'n'} => '1',
	q{get('docs', 'gone') IS NULL} => 't',
	q{get('docs', 'none') IS NULL} => 't',
	q{get('docs', 'two', conflicts => true)->'_conflicts'} => '["1-a"]',
	q{get('docs', 'two', rev => '1-a')->'n'} => '1',
	q{revs_diff('docs', '{"gone": ["5-x"], "live": ["5-x"]}') IS NOT NULL} => 't',
	q{bulk_get('docs', '[{"id": "gone"}]') IS NOT NULL} => 't');
foreach my $read (sort keys %reads)
{
	is($standby->safe_psql('postgres', "SELECT docrep.$read"), $reads{$read}, "on a standby: $read");
}
my ($state) = sqlstate($standby, 'postgres', q{SELECT docrep.put('docs', '{"_id": "no"}')});
is($state, '25006', 'a standby takes no put');
($state) = sqlstate($standby, 'postgres',
	q{SELECT docrep.bulk_docs('docs', '[{"_id": "no", "_rev": "1-a", "_deleted": true}]', false)});
is($state, '25006', 'and no tombstone');
$standby->stop;

# --- a publication of all tables, the companions among them; native logical
# --- replication into a document table makes revisions there
my $subscriber = new_node('subscriber');
$subscriber->safe_psql('postgres', q{SELECT docrep.create_table('plain')});
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE plain(_id text PRIMARY KEY, doc jsonb);
INSERT INTO plain VALUES ('before', '{"n": 1}');
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION one FOR TABLE plain;
SQL
my $connection = $primary->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION one");
wait_for_query($subscriber, 'postgres', q{SELECT count(*) FROM plain}, '1');
$primary->safe_psql('postgres', <<'SQL');
INSERT INTO plain SELECT 'r' || g, '{"n": 1}' FROM generate_series(1, 20) g;
UPDATE plain SET doc = '{"n": 2}' WHERE _id = 'before';
DELETE FROM plain WHERE _id = 'r7';
INSERT INTO plain VALUES ('r7', '{"n": 3}');
SQL
wait_for_query($subscriber, 'postgres', q{SELECT count(*) = 21 AND bool_or(_id = 'r7' AND doc = '{"n": 3}') FROM plain});
is($subscriber->safe_psql('postgres', q{SELECT split_part(_rev::text, '-', 1) FROM plain WHERE _id IN ('before', 'r7') ORDER BY _id}),
	"2\n3", 'a subscriber makes revisions');
is($subscriber->safe_psql('postgres', q{SELECT * FROM docrep.check('plain')}), '', 'and the table is in order');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;

# --- the extension goes and comes again in one session that has used it
$primary->safe_psql('postgres', 'CREATE DATABASE again');
is($primary->safe_psql('again', <<'SQL'), "2\nt", 'nothing of an extension that was dropped is remembered');
CREATE EXTENSION docrep;
DO $$ BEGIN
	FOR i IN 1..2 LOOP
		PERFORM docrep.create_table('t');
		INSERT INTO t(_id, doc) VALUES ('a', '{}');
		DELETE FROM t WHERE _id = 'a';
		PERFORM docrep.put('t', '{"_id": "a"}');
		PERFORM docrep.put_local('t', 'l', '{}');
		PERFORM docrep.get('t', 'a', conflicts => true);
		EXIT WHEN i = 2;
		DROP EXTENSION docrep CASCADE;
		DROP TABLE t;
		CREATE EXTENSION docrep;
	END LOOP;
END $$;
SELECT count(*) FROM docrep.changes('t') c, generate_series(1, 2);
SELECT docrep.get_local('t', 'l') IS NOT NULL;
SQL

# --- a sequence that its owner has set far back: slow, but not for ever
$primary->safe_psql('postgres', <<'SQL');
SELECT docrep.create_table('back');
INSERT INTO back(_id, doc) SELECT g::text, '{}' FROM generate_series(1, 200) g;
DO $$ BEGIN
	EXECUTE (SELECT format('ALTER SEQUENCE docrep_data.%I MINVALUE -9000000000000000 RESTART -9000000000000000',
						   'seq_' || replace(uuid::text, '-', ''))
			 FROM docrep.document_tables WHERE tbl = 'back'::regclass);
END $$;
SQL
($state) = sqlstate($primary, 'postgres',
	q{SET statement_timeout = '500ms'; INSERT INTO back(_id, doc) SELECT 'x' || g, '{}' FROM generate_series(1, 200) g});
is($state, '57014', 'a sequence that was set back can be interrupted');

# --- pg_upgrade, to the same version for want of another
$primary->safe_psql('postgres', 'DROP PUBLICATION everything; DROP PUBLICATION one; DROP TABLE back');
my $before = $primary->safe_psql('postgres', q{SELECT seq, id, changes FROM docrep.changes('docs', style => 'all_docs')});
$primary->stop;
my $new = new_node('new', start => 0);
my $bindir = $primary->config_data('--bindir');
chdir $PostgreSQL::Test::Utils::tmp_check or die;
command_ok(
	[   'pg_upgrade', '--link', '--old-bindir', $bindir, '--new-bindir', $bindir,
		'--old-datadir', $primary->data_dir, '--new-datadir', $new->data_dir,
		'--old-port', $primary->port, '--new-port', $new->port,
		'--socketdir', $new->host ],
	'pg_upgrade takes document tables');
$new->start;
my $message;
($state, $message) = sqlstate($new, 'postgres', q{SELECT docrep.get('docs', 'live')});
like($message, qr/HINT:  After pg_upgrade: ALTER TABLE public\.docs ENABLE ALWAYS TRIGGER "~docrep_track"/,
	'the error says what to do then');
$new->safe_psql('postgres', <<'SQL');
SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname)
FROM pg_trigger WHERE tgname = '~docrep_track' \gexec
SQL
is($new->safe_psql('postgres', q{SELECT * FROM docrep.check('docs')}), '', 'then all is as before');
is($new->safe_psql('postgres', q{SELECT seq, id, changes FROM docrep.changes('docs', style => 'all_docs')}), $before,
	'the feed as well');
$new->safe_psql('postgres', q{UPDATE docs SET doc = '{"n": 2}' WHERE _id = 'live'; DROP TABLE docs});
is($new->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'docrep_data'::regnamespace
		AND relname NOT LIKE '%' || (SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'docrep.replicator'::regclass) || '%'}), '0',
	'and DROP TABLE leaves nothing behind');
$new->stop;

done_testing();
