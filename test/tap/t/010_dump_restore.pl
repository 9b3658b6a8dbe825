# pg_dump and restore: documents with their trees, tombstones, losing revisions,
# local documents, checkpoints and settings come back as they were, and go on.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dump', databases => [ 'shop', 'far', 'alone', 'schema_only' ], conf => "docrep.park_after = 100\n");
my $dir = PostgreSQL::Test::Utils::tempdir;

# Everything that docrep keeps of the tables of a database, as text.
sub state_of
{
	my ($db, @tables) = @_;
	my $list = join ',', map { "'$_'" } @tables;

	return $node->safe_psql($db, <<"SQL");
SET timezone = 'UTC';
SET extra_float_digits = 1;
CREATE FUNCTION pg_temp.rows(tbl regclass, uuid uuid) RETURNS SETOF text LANGUAGE plpgsql AS \$\$
DECLARE
	hex text := replace(uuid::text, '-', '');
BEGIN
	RETURN QUERY EXECUTE format('SELECT ''live '' || t::text FROM %s t ORDER BY _id', tbl);
	RETURN QUERY EXECUTE format('SELECT ''dead '' || t::text FROM docrep_data.dead_%s t ORDER BY _id', hex);
	RETURN QUERY EXECUTE format('SELECT ''leaf '' || t::text FROM docrep_data.leaf_%s t ORDER BY _id, rev', hex);
	RETURN QUERY EXECUTE format('SELECT ''rev '' || t::text FROM docrep_data.rev_%s t ORDER BY _id, seq, rev', hex);
	RETURN QUERY EXECUTE format('SELECT ''att '' || t::text FROM docrep_data.att_%s t ORDER BY file, part', hex);
	RETURN QUERY EXECUTE format('SELECT ''seq '' || last_value || is_called FROM docrep_data.seq_%s t', hex);
	RETURN QUERY SELECT 'local ' || l::text FROM docrep.local_docs l WHERE l.tbl = uuid ORDER BY id;
	RETURN QUERY SELECT 'epoch ' || e::text FROM docrep.epochs e WHERE e.tbl = uuid ORDER BY start_seq;
	RETURN QUERY SELECT 'setting ' || s::text FROM docrep.table_settings s WHERE s.tbl = uuid;
	RETURN QUERY SELECT 'rejected ' || r::text FROM docrep.rejected r WHERE r.tbl = uuid ORDER BY id;
	RETURN QUERY SELECT 'trigger ' || tgname || tgenabled::text FROM pg_trigger WHERE tgrelid = tbl::oid AND NOT tgisinternal ORDER BY tgname;
END
\$\$;
SELECT d.tbl || ' ' || d.uuid || ' ' || r FROM docrep.document_tables d, pg_temp.rows(d.tbl, d.uuid) WITH ORDINALITY u(r, n)
WHERE d.tbl::text IN ($list) ORDER BY d.tbl::text, n;
SELECT 'node ' || docrep.node_uuid();
SQL
}

sub problems
{
	my ($db) = @_;
	return $node->safe_psql($db,
		'SELECT t.tbl, c.* FROM docrep.document_tables t, docrep.check(t.tbl) c ORDER BY t.tbl::text, c.id, c.problem');
}

# "revisions looked at, documents read, written" of a replication
sub run
{
	my ($db, $source, $target) = @_;
	return $node->safe_psql($db,
		"SELECT format('%s, %s, %s', r->'missing_checked', r->'docs_read', r->'docs_written') FROM docrep.replicate('$source', '$target') r");
}

my @edits = (
	q{INSERT INTO orders VALUES ('gone', '{"back": 1}')},
	q{UPDATE orders SET doc = doc || '{"edited": true}' WHERE _id IN ('plain1', 'long')},
	q{DELETE FROM orders WHERE _id = 'plain2'},
	q{INSERT INTO orders VALUES ('new', '{"n": 1}')},
	q{UPDATE "Notes".n SET _id = 'moved' WHERE _id = 'a'},
	q{DELETE FROM orders WHERE _id = 'conflict'});
my $revisions = q{SELECT id || ' ' || changes FROM docrep.changes('orders', style => 'all_docs') ORDER BY id};

# ---- a database with everything ----------------------------------------------

$node->safe_psql('far', q{SELECT docrep.create_table('src');
	INSERT INTO src SELECT 'far' || i, '{}' FROM generate_series(1, 50) i});
my $far = pg_url($node, 'far', table => 'src');
$node->safe_psql('shop', <<'SQL');
CREATE SCHEMA "Notes";
CREATE TABLE country (code text PRIMARY KEY);
INSERT INTO country VALUES ('de');
SELECT docrep.create_table('orders', 500), docrep.create_table('"Notes".n', 3), docrep.create_table('archive'), docrep.create_table('pulled'), docrep.create_table('album');
ALTER TABLE orders ADD country text GENERATED ALWAYS AS (doc->>'country') STORED REFERENCES country,
	ADD note text, ADD CONSTRAINT n_positive CHECK ((doc->>'n')::int > 0);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.note := 'stamped';
	RETURN NEW;
END
$$;
CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE archive ADD CHECK (doc->>'n' IS DISTINCT FROM '7');
INSERT INTO orders SELECT 'plain' || i, jsonb_build_object('n', i, 'country', 'de') FROM generate_series(1, 20) i;
INSERT INTO orders VALUES ('long', '{"n": 1}'), ('gone', '{"n": 1}'), ('longgone', '{}');
DO $$ BEGIN FOR i IN 1..120 LOOP UPDATE orders SET doc = doc || jsonb_build_object('i', i) WHERE _id LIKE 'long%'; END LOOP; END $$;
DELETE FROM orders WHERE _id IN ('gone', 'longgone');
SELECT docrep.bulk_docs('orders', '[{"_id": "conflict", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 2},
	{"_id": "conflict", "_rev": "2-a", "_revisions": {"start": 2, "ids": ["a", "x y"]}, "n": 1},
	{"_id": "conflict", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "z"]}, "_deleted": true}]', new_edits => false);
INSERT INTO "Notes".n VALUES ('a', '{"é": "ü", "x": [1.0, 1e3]}'), ('_design/x', '{}');
UPDATE "Notes".n SET doc = doc;
SELECT docrep.put_local('orders', 'mine', '{"x": 1}');
SELECT docrep.put_attachment('album', 'photo', 'small.txt', 'text/plain', 'small'),
	docrep.put_attachment('album', 'copy', 'same.txt', 'text/plain', 'small'),
	docrep.put_attachment('album', 'film', 'large.bin', NULL, convert_to(repeat('0123456789', 5000), 'UTF8'));
SELECT docrep.set_revisions('album', 5, '90 days');
UPDATE album SET doc = '{"title": "copy"}' WHERE _id = 'copy';
SQL
is(run('shop', 'orders', 'archive'), '26, 26, 25', 'a replication between two tables, with one document refused');
is(run('shop', $far, 'pulled'), '50, 50, 50', 'a replication from another database');
$node->safe_psql('shop', q{SELECT docrep.replicate('"Notes".n', 'archive', '{"continuous": true}')});
my @tables = ('orders', '"Notes".n', 'archive', 'pulled', 'album');
wait_for_query($node, 'shop', q{SELECT count(*) FROM archive WHERE _id = 'a'}, '1');
# its checkpoint is written some seconds after it has fallen idle, but before it is parked
wait_for_query($node, 'shop', q{SELECT state FROM docrep.active_tasks}, 'parked');
my $before = state_of('shop', @tables);
like($before, qr/^orders \S+ dead \(longgone.*^orders \S+ leaf \(conflict.*^orders \S+ local .*"source_last_seq".*^orders \S+ setting /ms,
	'there is something of everything');
like($before, qr/^archive \S+ rejected .*plain7/m, 'rejected documents too');
like($before, qr/^album \S+ att /m, 'and contents of attachments');
like($before, qr/^album \S+ rev \(copy,/m, 'and former versions');
is(problems('shop'), '', 'and it is sound');

# ---- whole database, in several formats --------------------------------------

my $dump = $node->basedir . '/shop';
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", 'shop' ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", 'shop' ], 'pg_dump, custom');
unlike(slurp_file("$dump.sql"), qr/^CREATE EVENT TRIGGER|^CREATE SCHEMA docrep/m, 'what the extension makes is not in the dump');

my %restore = (
	plain => [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", '-d' ],
	single => [ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", '-d' ],
	custom => [ 'pg_restore', '--exit-on-error', "$dump.custom", '-d' ],
	parallel => [ 'pg_restore', '--exit-on-error', '-j', '3', "$dump.custom", '-d' ]);
foreach my $format (sort keys %restore)
{
	$node->safe_psql('postgres', "CREATE DATABASE $format TEMPLATE template0");
	$node->command_ok([ @{ $restore{$format} }, $format ], "restore: $format");
	is(state_of($format, @tables), $before, "$format: everything is there as it was");
	is(problems($format), '', "$format: it is sound");
	is( $node->safe_psql($format, q{SELECT docrep.get_attachment('album', 'film', 'large.bin') = convert_to(repeat('0123456789', 5000), 'UTF8')
			AND docrep.get_attachment('album', 'copy', 'same.txt') = 'small'}), 't', "$format: attachments can be read");
	$node->safe_psql($format, q{SELECT docrep.put_attachment('album', 'again', 'same', NULL, 'small')});
	is( $node->safe_psql($format, q{SELECT count(DISTINCT _attachments->(SELECT jsonb_object_keys(_attachments))->'file') FROM album}),
		'2', "$format: and an equal one is stored once");
	is($node->safe_psql($format, 'SELECT count(*) FROM docrep.active_tasks'), '0', "$format: nothing starts by itself");
}

# What is done to the copy and to the original makes the same revisions.
$node->safe_psql('shop', q{SELECT docrep.replicate('{"source": "\"Notes\".n", "target": "archive", "continuous": true, "cancel": true}')});
foreach my $db ('shop', 'plain', 'custom')
{
	# nothing is read twice, and only what is new
	is(run($db, 'orders', 'archive'), '0, 0, 0', "$db: a replication goes on where it was");
	is(run($db, $far, 'pulled'), '0, 0, 0', "$db: one from another database too");
	$node->safe_psql($db, $_) foreach @edits;
	is(run($db, 'orders', 'archive'), '8, 6, 6', "$db: and finds what is new");
	is($node->safe_psql($db, 'SELECT count(*) FROM orders o JOIN archive USING (_id, doc, _rev)'),
		'22', "$db: source and target agree");
	is(problems($db), '', "$db: it is sound");
	$node->safe_psql($db, 'ALTER TABLE archive DROP CONSTRAINT archive_doc_check');
	is($node->safe_psql($db, q{SELECT docrep.retry_rejected('archive')}), '1', "$db: a rejected document is taken");
}
my $expected = $node->safe_psql('shop', $revisions);
is($node->safe_psql($_, $revisions), $expected, "$_: the same edits made the same revisions") foreach 'plain', 'custom';
is( $node->safe_psql('plain', q{SELECT count(*) > 1 FROM docrep.epochs e JOIN docrep.document_tables t ON t.uuid = e.tbl WHERE t.tbl = 'orders'::regclass}),
	't', 'numbers from here on are of another epoch');
$node->safe_psql('plain', 'DROP TABLE orders; DROP TABLE archive, pulled, album; DROP SCHEMA "Notes" CASCADE');
is( $node->safe_psql('plain', q{SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'docrep_data'::regnamespace)
		|| ' ' || (SELECT count(*) FROM docrep.local_docs) || ' ' || (SELECT count(*) FROM docrep.epochs)}),
	'14 0 1', q{restored tables take their companions with them, and leave docrep.replicator's});

# ---- schema and data apart ---------------------------------------------------

$before = state_of('shop', @tables);
$node->safe_psql('postgres', 'DROP DATABASE schema_only');
$node->safe_psql('postgres', 'CREATE DATABASE schema_only TEMPLATE template0');
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$dump.schema", 'shop' ], 'pg_dump --schema-only');
$node->command_ok([ 'pg_dump', '--data-only', '-f', "$dump.data", 'shop' ], 'pg_dump --data-only');
$node->command_ok([ 'pg_dump', '--data-only', '--disable-triggers', '-f', "$dump.data2", 'shop' ], 'pg_dump --data-only --disable-triggers');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.schema", '-d', 'schema_only' ], 'the schema is restored');
$node->command_fails_like(
	[ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.data", '-d', 'schema_only' ],
	qr/cannot be written/, 'data alone meets the triggers, which say so');
$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.data2", '-d', 'schema_only' ],
	'with --disable-triggers it is restored');
is(state_of('schema_only', @tables), $before, 'everything is there as it was, the triggers enabled ALWAYS');
$node->safe_psql('schema_only', q{INSERT INTO orders VALUES ('longgone', '{}')});
is( $node->safe_psql('schema_only', q{SELECT docrep.rev_generation(_rev) FROM orders WHERE _id = 'longgone'}),
	'123', 'a tombstone is gone on from');

# ---- one table ---------------------------------------------------------------

# Its companions are not in such a dump: no tombstones, no losing revisions.
$node->safe_psql('alone', 'CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$');
$node->safe_psql('shop', q{SELECT docrep.bulk_docs('orders', '[{"_id": "plain3", "_rev": "1-0", "n": 3}]', new_edits => false)});
$node->command_ok([ 'pg_dump', '-t', 'pulled', '-t', 'orders', '-t', 'country', '-f', "$dump.one", 'shop' ], 'pg_dump -t');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.one", '-d', 'alone' ], 'it is restored');
my $live = q{SELECT string_agg(_id || doc || _rev || coalesce(_tree::text, ''), ';' ORDER BY _id) FROM orders};
is($node->safe_psql('alone', $live), $node->safe_psql('shop', $live), 'the documents have their trees');
is(problems('alone'), 'orders|plain3|the body of conflicting revision 1-0 is missing', 'what is missing is told');
is( $node->safe_psql('alone', q{INSERT INTO orders VALUES ('x', '{}');
		SELECT (SELECT _seq FROM orders WHERE _id = 'x') > (SELECT max(_seq) FROM orders WHERE _id <> 'x')}),
	't', 'numbers go on after those of the documents');
$node->safe_psql('alone', q{SELECT docrep.create_table('copy')});
run('alone', 'orders', 'copy');
is( $node->safe_psql('alone', q{SELECT coalesce(docrep.get('copy', 'plain3', rev => '1-0')::text, 'not there')}),
	'not there', 'a revision whose body is missing does not travel with an empty one');
is(run('alone', $far, 'pulled'), '50, 0, 0', 'a replication begins anew, and finds all there');
is(problems('alone'), 'orders|plain3|the body of conflicting revision 1-0 is missing', 'nothing else is wrong');
is((sqlstate($node, 'alone', q{DELETE FROM orders WHERE _id = 'plain3'}))[0],
	'XX001', 'nor does it become the document');
$node->safe_psql('alone', q{SELECT docrep.purge('orders', '{"plain3": ["1-0"]}'); DELETE FROM orders WHERE _id = 'plain3'});
is(problems('alone'), '', 'purging it mends the table');

# Contents of attachments are in a companion, too.
$node->command_ok([ 'pg_dump', '-t', 'album', '-f', "$dump.album", 'shop' ], 'pg_dump -t of a table with attachments');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.album", '-d', 'alone' ], 'it is restored');
is( problems('alone'), join("\n", 'album|copy|the content of attachment "same.txt" is missing',
		'album|film|the content of attachment "large.bin" is missing',
		'album|photo|the content of attachment "small.txt" is missing'), 'missing contents are told');
is($node->safe_psql('alone', q{SELECT docrep.get('album', 'film')->'_attachments'->'large.bin'->'length'}), '50000', 'documents show them');
is((sqlstate($node, 'alone', $_))[0], 'DR404', "their content is an error: $_")
	foreach q{SELECT docrep.get_attachment('album', 'film', 'large.bin')}, q{SELECT docrep.get('album', 'film', attachments => true)};
$node->safe_psql('alone', q{UPDATE album SET doc = '{"title": "x"}'; SELECT docrep.put_attachment('album', 'film', 'large.bin', NULL,
	convert_to(repeat('0123456789', 5000), 'UTF8'), (SELECT _rev::text FROM album WHERE _id = 'film'))});
is( problems('alone'), join("\n", 'album|copy|the content of attachment "same.txt" is missing',
		'album|photo|the content of attachment "small.txt" is missing'), 'storing one again mends that');

# the other table of the same identity
$node->safe_psql('shop', 'ALTER TABLE pulled RENAME TO other');
my ($rc, $out, $err) = $node->psql('shop', slurp_file("$dump.one") =~ s/public\.(orders|country)\b/public.${1}_2/gr, on_error_stop => 0);
like($err, qr/cannot be the document table/, 'a table is not restored beside itself');
is($node->safe_psql('shop', 'SELECT count(*) FROM other'), '50', 'and the one that is there is well');
is(problems('shop'), '', 'the original is sound');

$node->stop;
done_testing();
