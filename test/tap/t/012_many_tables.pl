# A dropped table gives its place in shared memory back, a rolled back DROP does not.
use strict;
use warnings;

use DocrepTest;
use Test::More;

my $node = new_node('tables', conf => "docrep.max_tables = 100\n");

my $plans = $node->safe_psql('postgres', <<'SQL');
DO $$
DECLARE
	plans int[];
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM docrep.create_table('passing');
		PERFORM docrep.put('passing', '{"_id": "c"}');
		INSERT INTO passing VALUES ('a', '{}');
		COMMIT;
		BEGIN
			DROP TABLE passing;
			RAISE EXCEPTION 'changed my mind' USING ERRCODE = 'XX999';
		EXCEPTION WHEN SQLSTATE 'XX999' THEN
			NULL;
		END;
		INSERT INTO passing VALUES ('b', '{}');
		COMMIT;
		IF i % 2 = 0 THEN
			DELETE FROM passing;
		END IF;
		DROP TABLE passing;
		COMMIT;
		IF i IN (230, 300) THEN
			plans := plans || (SELECT count(*)::int FROM pg_backend_memory_contexts WHERE name = 'CachedPlan');
		END IF;
	END LOOP;
	PERFORM set_config('docrep_test.more', (plans[2] - plans[1])::text, false);
END $$;
SELECT current_setting('docrep_test.more');
SQL
cmp_ok($plans, '<', 10, 'a session does not keep the plans of all tables that it has ever written to');
pass('300 tables come and go where there is room for 100');

$node->safe_psql('postgres', <<'SQL');
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM docrep.create_table('t' || i);
		EXECUTE format('INSERT INTO t%s VALUES (''a'', ''{}'')', i);
		COMMIT;
	END LOOP;
END $$;
SQL
$node->safe_psql('postgres', q{SELECT docrep.create_table('more')});
my ($rc, $out, $err) = $node->psql('postgres', q{INSERT INTO more VALUES ('a', '{}')});
isnt($rc, 0, 'a table too many cannot be written');
like($err, qr/docrep\.max_tables/, 'the error says what to set');
$node->safe_psql('postgres', 'DROP TABLE t7');
$node->safe_psql('postgres', q{INSERT INTO more VALUES ('a', '{}')});
pass('once another is dropped it can');
is( $node->safe_psql('postgres', q{SELECT id, changes->0->>'rev' = _rev::text FROM docrep.changes('more'), more}),
	'a|t', 'and its feed shows what was written');
$node->stop;
done_testing();
