# Former versions of documents between servers: they travel to a table that keeps
# them too, a bad script is undone on all nodes by revert(), versions and their
# attachments outlive crashes, writers, cleanings, compaction and dumps.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT replicate contents is_same_contents check_table quote);
use PostgreSQL::Test::Utils;
use Test::More;

my $shop = new_node('shop', databases => ['shop']);
my $branch = new_node('branch', databases => [ 'branch', 'alone' ]);

sub shop { return $shop->safe_psql('shop', $_[0]); }
sub branch { return $branch->safe_psql('branch', $_[0]); }

# What is kept, without what differs from node to node.
my $kept = q{SELECT id, rev, doc, deleted, was FROM docrep.revisions('%s') ORDER BY id, rev};

sub is_same_history
{
	my ($name) = @_;
	is(branch(sprintf $kept, 'orders'), shop(sprintf $kept, 'orders'), $name);
}

sub at { return shop('SELECT clock_timestamp()'); }

shop(<<'SQL');
SELECT docrep.create_table('orders'); SELECT docrep.set_revisions('orders', 50);
INSERT INTO orders SELECT 'o' || i, jsonb_build_object('n', i, 'v', 1) FROM generate_series(1, 300) i;
UPDATE orders SET doc = doc || '{"v": 2}';
UPDATE orders SET doc = doc || '{"v": 3}' WHERE (doc->>'n')::int <= 100;
SELECT docrep.put_attachment('orders', 'o1', 'small', 'text/plain', 'hello', rev => docrep.get('orders', 'o1')->>'_rev');
SELECT docrep.put_attachment('orders', 'o1', 'large', 'text/plain', convert_to(repeat('0123456789', 100000), 'UTF8'), rev => docrep.get('orders', 'o1')->>'_rev');
SELECT docrep.put('orders', docrep.get('orders', 'o1') - '_attachments');
DELETE FROM orders WHERE _id = 'o300';
SQL
branch(q{SELECT docrep.create_table('orders'), docrep.create_table('plain'); SELECT docrep.set_revisions('orders', 50)});
my $source = pg_url($shop, 'shop', table => 'orders');
my $target = pg_url($branch, 'branch', table => 'orders');

# ---- they travel ------------------------------------------------------------------

replicate($branch, 'branch', $source, 'orders');
is_same_history('a pull brings the versions that the target never saw');
is(branch(q{SELECT count(*) FROM docrep.revisions('orders') WHERE NOT replicated}), '0', '... which are told from its own');
is( branch(q{SELECT length(docrep.get_attachment('orders', 'o1', 'large', rev::text)) || (docrep.get('orders', 'o1', rev => rev::text)#>>'{_attachments,small,digest}')
		FROM docrep.revisions('orders', 'o1') WHERE docrep.get('orders', 'o1', rev => rev::text)->'_attachments' ? 'large'}),
	'1000000md5-XUFAKrxLKna5cZ2REBfFkg==', 'with their attachments');
check_table($branch, 'branch', 'orders', 'and the target is sound');
shop(q{UPDATE orders SET doc = doc || '{"v": 4}' WHERE _id = 'o1'});
replicate($branch, 'branch', $source, 'orders');
is_same_history('a version that both have is kept once');
replicate($branch, 'branch', $source, 'plain');
is(branch(q{SELECT count(*) FROM docrep.revisions('plain')}), '0', 'a target that keeps none gets none');
shop(q{SELECT docrep.create_table('back'); SELECT docrep.set_revisions('back', 2)});
replicate($shop, 'shop', $target, 'back');
is( shop(q{SELECT max(n) || ' ' || count(*) FROM (SELECT count(*) AS n FROM docrep.revisions('back') GROUP BY id) x}),
	'2 300', 'a target keeps to its own bounds, and takes on what its source was given');
# a push
shop(q{UPDATE orders SET doc = doc || '{"v": 5}' WHERE (doc->>'n')::int <= 20; UPDATE orders SET doc = doc || '{"v": 6}' WHERE (doc->>'n')::int <= 10});
replicate($shop, 'shop', 'orders', $target);
is_same_history('a push brings them, too');
# what a filter keeps back stays back, in former versions too
shop(q{SELECT docrep.create_table('mixed'); SELECT docrep.set_revisions('mixed', 10);
	SELECT docrep.create_table('got'); SELECT docrep.set_revisions('got', 10);
	INSERT INTO mixed VALUES ('x', '{"secret": true}'); UPDATE mixed SET doc = '{"secret": false}'});
replicate($shop, 'shop', 'mixed', 'got', selector => { secret => JSON::PP::false() });
is(shop(q{SELECT (SELECT count(*) FROM got) || ' ' || (SELECT count(*) FROM docrep.revisions('got'))}), '1 0', 'a filtered replication brings no versions');

# ---- a continuous one ---------------------------------------------------------------

my $continuous = quote('{"continuous": true}');
branch(qq{SELECT docrep.replicate(@{[ quote($source) ]}, 'orders', $continuous)});
wait_for_query($branch, 'branch', q{SELECT state IN ('idle', 'parked') FROM docrep.active_tasks}, 't');
my $good = at();

# ---- a bad script, undone everywhere ------------------------------------------------

shop(<<'SQL');
UPDATE orders SET doc = '{"oops": 1}' WHERE (doc->>'n')::int % 3 = 0;
DELETE FROM orders WHERE (doc->>'n')::int % 7 = 0;
INSERT INTO orders SELECT 'junk' || i, '{}' FROM generate_series(1, 20) i;
UPDATE orders SET doc = '{"oops": 2}' WHERE doc = '{"oops": 1}';
INSERT INTO orders VALUES ('o300', '{"back": 1}');
SQL
wait_for_query($branch, 'branch', q{SELECT count(*) FROM orders WHERE doc ? 'oops' OR _id LIKE 'junk%'},
	shop(q{SELECT count(*) FROM orders WHERE doc ? 'oops' OR _id LIKE 'junk%'}));
my $report = shop("SELECT docrep.revert('orders', '$good') - 'refused_ids'");
like($report, qr/"deleted": 21, "refused": 0, "unknown": 0, .*"unknown_ids": \[\]/, 'all of it is reverted');
my $docs = q{SELECT _id, doc FROM orders ORDER BY _id};
is(shop(q{SELECT count(*) FROM orders WHERE _id LIKE 'junk%' OR _id = 'o300'}), '0', 'what was created since has gone');
is(shop(q{SELECT count(*) FROM orders WHERE doc ? 'oops'}), '0', 'and what was done since');
is(shop('SELECT count(*) FROM orders'), '299', 'and what was deleted is back');
wait_for_query($branch, 'branch', q{SELECT count(*) FROM orders WHERE doc ? 'oops' OR _id LIKE 'junk%' OR _id = 'o300'}, '0');
wait_until(sub { branch($docs) eq shop($docs) }, undef, 'the other node being as it was');
pass('the other node has followed');
is(shop("SELECT docrep.revert('orders', '$good')->>'unchanged'"), '320', 'once more: nothing to do');
my $cancel = quote('{"continuous": true, "cancel": true}');
branch(qq{SELECT docrep.replicate(@{[ quote($source) ]}, 'orders', $cancel)});
wait_for_query($branch, 'branch', 'SELECT count(*) FROM docrep.active_tasks', '0');
check_table($shop, 'shop', 'orders', 'the source is sound');
check_table($branch, 'branch', 'orders', 'the target is sound');
# a fresh node, reverted to a time before it was there
branch(q{SELECT docrep.create_table('fresh'); SELECT docrep.set_revisions('fresh', 50)});
replicate($branch, 'branch', $source, 'fresh');
branch("SELECT docrep.revert('fresh', (SELECT min(replaced_at) FROM docrep.revisions('fresh', 'o2')) - interval '1 microsecond')");
is(branch(q{SELECT doc->>'v' FROM fresh WHERE _id = 'o2'}), '1', 'a history that was replicated can be reverted to');

# ---- writers while revert runs -----------------------------------------------------

shop(<<'SQL');
SELECT docrep.create_table('busy'); SELECT docrep.set_revisions('busy', 10);
INSERT INTO busy SELECT 'd' || i, '{"v": 0}' FROM generate_series(1, 200) i;
CREATE PROCEDURE write_busy(rounds int) LANGUAGE plpgsql AS $$
DECLARE
	id text;
BEGIN
	FOR i IN 1..rounds LOOP
		id := 'd' || 1 + (random() * 199)::int;
		BEGIN
			CASE (random() * 3)::int
				WHEN 0 THEN DELETE FROM busy WHERE _id = id;
				WHEN 1 THEN INSERT INTO busy VALUES (id, jsonb_build_object('v', i)) ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
				ELSE UPDATE busy SET doc = jsonb_build_object('v', i) WHERE _id = id;
			END CASE;
		-- its INSERT began while the document was live, and revert() has locked the tombstone that has come since
		EXCEPTION WHEN deadlock_detected THEN
			NULL;
		END;
		COMMIT;
	END LOOP;
END $$;
SQL
my $then = at();
my @writers = map { DocrepSession->new($shop, 'shop') } 1 .. 3;
$_->send('CALL write_busy(1500)') foreach @writers;
my @reports;
for my $round (1 .. 6)
{
	push @reports, shop("SET deadlock_timeout = '1h'; SELECT docrep.revert('busy', '$then')");
	shop(q{SELECT docrep.set_revisions('busy', } . (4 + $round % 3) . q{); SELECT docrep.clean_revisions('busy')});
}
ok($_->receive, 'a writer has come to its end') || diag($_->{output}) foreach @writers;
is(join(' ', map { $_->{sqlstate} } @writers), '00000 00000 00000', '... without an error');
is(scalar(grep { /"refused": 0/ } @reports), 6, 'six reverts meanwhile, that were refused nothing');
check_table($shop, 'shop', 'busy', 'the table is sound');
cmp_ok(shop(q{SELECT max(n) FROM (SELECT count(*) AS n FROM docrep.revisions('busy') GROUP BY id) x}), '<=', 10, 'no document has more versions than it may');
$_->close foreach @writers;

# ---- attachments of kept versions, compaction, crash ------------------------------

shop(<<'SQL');
SELECT docrep.create_table('album'); SELECT docrep.set_revisions('album', 3);
CREATE PROCEDURE write_album(rounds int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..rounds LOOP
		PERFORM docrep.put('album', jsonb_strip_nulls(jsonb_build_object('_id', 'p' || i % 5, '_rev', (SELECT _rev FROM album WHERE _id = 'p' || i % 5),
			'_attachments', jsonb_build_object('f', jsonb_build_object('data', encode(convert_to('picture ' || i % 40, 'UTF8'), 'base64'))))));
		COMMIT;
	END LOOP;
END $$;
SQL
my $painter = DocrepSession->new($shop, 'shop');
$painter->send('CALL write_album(1200)');
my $removed = 0;
for (1 .. 25)
{
	$removed += shop(q{SELECT (docrep.compact('album', '0')->>'files_removed')::int});
}
ok($painter->receive, 'pictures were written while contents were removed') || diag($painter->{output});
is($painter->{sqlstate}, '00000', '... without an error');
check_table($shop, 'shop', 'album', 'no kept version has lost a picture');
is( shop(q{SELECT count(*) FROM docrep.revisions('album') r WHERE docrep.get_attachment('album', r.id, 'f', r.rev::text) IS NOT NULL}),
	'15', 'all of them can be read');
$painter->send('CALL write_album(1000000)');
wait_for_query($shop, 'shop', q{SELECT max(docrep.rev_generation(_rev)) > 300 FROM album}, 't');
$shop->stop('immediate');
$painter->close;
$shop->start;
check_table($shop, 'shop', $_, "after a crash $_ is sound") foreach 'album', 'orders', 'busy';
is(shop(q{SELECT count(*) FROM docrep.revisions('album')}), '15', 'and has its versions');
shop(q{UPDATE album SET doc = '{}'});
is(shop(q{SELECT count(*) FROM docrep.revisions('album')}), '15', '... and goes on');

# ---- holds ------------------------------------------------------------------------

shop(<<'SQL');
SELECT docrep.create_table('held');
INSERT INTO held VALUES ('a', '{"v": 1}');
SELECT docrep.peer_hold_versions(uuid, 'delayed', '1 hour') FROM docrep.document_tables WHERE tbl = 'held'::regclass;
SQL
$painter = DocrepSession->new($shop, 'shop');
my $held = 'docrep_data.rev_' . shop(q{SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'held'::regclass});
$painter->query(q{UPDATE held SET doc = '{"v": 2}'});
is(shop("SELECT count(*) FROM $held"), '1', 'another session knows of a hold');
shop(q{SELECT docrep.peer_hold_versions(uuid, 'delayed', NULL) FROM docrep.document_tables WHERE tbl = 'held'::regclass});
$painter->query(q{UPDATE held SET doc = '{"v": 3}'});
is(shop("SELECT count(*) FROM $held"), '1', '... and of its end');
is(shop(q{SELECT docrep.clean_revisions('held')}), '1', 'what was held is cleaned then');
$painter->close;

# ---- pg_dump -t: the live documents alone ------------------------------------------

my $dump = $shop->basedir . '/orders.sql';
$shop->command_ok([ 'pg_dump', '-t', 'orders', '-f', $dump, 'shop' ], 'pg_dump -t');
$branch->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', 'alone' ], 'it is restored');
is($branch->safe_psql('alone', q{SELECT count(*) FROM docrep.revisions}), '0', 'former versions are not in such a dump');
$branch->safe_psql('alone', q{SELECT docrep.set_revisions('orders'); UPDATE orders SET doc = '{"restored": true}' WHERE _id = 'o2'});
is($branch->safe_psql('alone', q{SELECT doc->>'n' FROM docrep.revisions}), '2', 'and are kept anew');
check_table($branch, 'alone', 'orders', 'the copy is sound');

done_testing();
