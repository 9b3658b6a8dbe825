# Eight clients insert, delete, and replicate tombstones and live revisions of the
# same few ids.  A document lives in one of two tables that no unique index spans:
# afterwards none may be in both, every tree is sound, and every revision that
# was committed is in its document's tree.
use strict;
use warnings;

use DocrepTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = is_soak() ? 120 : 12;
my $clients = 8;

my $node = new_node('tombstones', conf => <<'CONF');
deadlock_timeout = 100ms
log_min_messages = fatal
CONF

sub query { return $node->safe_psql('postgres', $_[0]); }

$node->safe_psql('postgres', <<'SQL');
SELECT docrep.create_table('docs');
DO $$
BEGIN
	EXECUTE format('CREATE VIEW dead AS SELECT * FROM docrep_data.dead_%1$s;
					CREATE VIEW leaves AS SELECT * FROM docrep_data.leaf_%1$s;',
		(SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'docs'::regclass));
END $$;

CREATE TABLE log (id text, rev text);
CREATE TABLE outcomes (client int, kind text, sqlstate text, message text, n int);

CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log VALUES (NEW._id, NEW._rev);
	RETURN NULL;
END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION log_change();

-- Revisions from elsewhere: of a few ids each, the same that others may write at
-- the same time, deleted or live, new ones or on top of one that may be here.
CREATE PROCEDURE replicate_some(ids text[], deleted boolean) LANGUAGE plpgsql AS $$
DECLARE
	docs jsonb;
BEGIN
	SELECT jsonb_agg(CASE WHEN n % 3 = 0 THEN
			jsonb_build_object('_id', id, '_rev', '2-f' || n, 'f', n, '_revisions',
				jsonb_build_object('start', 2, 'ids', jsonb_build_array('f' || n, 'e' || n)))
		ELSE jsonb_build_object('_id', id, '_rev', '1-e' || n, 'e', n) END
		|| CASE WHEN deleted THEN '{"_deleted": true}' ELSE '{}' END::jsonb)
	INTO docs
	FROM (SELECT id, (random() * 5)::int * 2 + deleted::int AS n FROM unnest(ids) id) r;
	IF (SELECT count(*) FROM docrep.bulk_docs('docs', docs, false)) > 0 THEN
		RAISE 'refused: %', (SELECT b FROM docrep.bulk_docs('docs', docs, false) b LIMIT 1);
	END IF;
	INSERT INTO log SELECT d->>'_id', d->>'_rev' FROM jsonb_array_elements(docs) d;
END $$;

CREATE PROCEDURE act(kind text) LANGUAGE plpgsql AS $$
DECLARE
	picked text[] := ARRAY(SELECT 'd' || (random() * 200)::int FROM generate_series(1, 1 + (random() * 10)::int));
	body jsonb := jsonb_build_object('r', (random() * 3)::int);
BEGIN
	CASE kind
		WHEN 'insert' THEN INSERT INTO docs VALUES (picked[1], body);
		WHEN 'ignore' THEN INSERT INTO docs SELECT DISTINCT id, body FROM unnest(picked) id ORDER BY id ON CONFLICT DO NOTHING;
		WHEN 'upsert' THEN INSERT INTO docs VALUES (picked[1], body) ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
		WHEN 'delete' THEN DELETE FROM docs WHERE _id = picked[1];
		WHEN 'swap' THEN WITH d AS (DELETE FROM docs WHERE _id = picked[1] RETURNING _id) INSERT INTO docs SELECT _id, body FROM d;
		WHEN 'move' THEN UPDATE docs SET _id = picked[2] WHERE _id = picked[1] AND picked[2] <> picked[1];
		WHEN 'put' THEN PERFORM docrep.put('docs', body || jsonb_build_object('_id', picked[1]));
		WHEN 'edits' THEN PERFORM docrep.bulk_docs('docs', (SELECT jsonb_agg(body || jsonb_build_object('_id', id)) FROM unnest(picked) id));
		WHEN 'tombstones' THEN CALL replicate_some(picked, true);
		WHEN 'revisions' THEN CALL replicate_some(picked, false);
	END CASE;
END $$;

CREATE PROCEDURE client(c int, seconds float) LANGUAGE plpgsql AS $$
DECLARE
	kinds text[] := '{insert,insert,ignore,upsert,upsert,delete,delete,delete,swap,move,put,edits,tombstones,tombstones,revisions}';
	until timestamptz := clock_timestamp() + seconds * interval '1 second';
	kind text;
	state text;
	message text;
	counts jsonb := '{}';
	key text;
	n int := 0;
BEGIN
	-- a slow machine takes longer until enough has happened
	WHILE clock_timestamp() < until OR n <= 200 LOOP
		n := n + 1;
		kind := kinds[1 + floor(random() * array_length(kinds, 1))::int];
		state := '00000';
		message := '';
		BEGIN
			CALL act(kind);
		EXCEPTION WHEN OTHERS THEN
			state := SQLSTATE;
			message := CASE WHEN SQLSTATE IN ('40001', '40P01', '23505', 'DR409') THEN '' ELSE SQLERRM END;
		END;
		COMMIT;
		key := jsonb_build_array(kind, state, message)::text;
		counts := counts || jsonb_build_object(key, coalesce((counts->>key)::int, 0) + 1);
	END LOOP;
	INSERT INTO outcomes SELECT c, k::jsonb->>0, k::jsonb->>1, k::jsonb->>2, v::int FROM jsonb_each_text(counts) e(k, v);
END $$;
SQL

my @running;
foreach my $c (1 .. $clients)
{
	my $output = '';
	local $ENV{PGOPTIONS} = $c == $clients ? '-c default_transaction_isolation=repeatable\\ read' : '';
	push @running, [ \$output, IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', "CALL client($c, $seconds)" ],
		'<', \undef, '>', \$output, '2>', \$output) ];
}
foreach my $c (1 .. $clients)
{
	ok(IPC::Run::finish($running[ $c - 1 ][1]), "client $c has finished")
	  or diag ${ $running[ $c - 1 ][0] };
}

note query(q{SELECT string_agg(format('%s %s: %s', kind, sqlstate, n), E'\n' ORDER BY kind, sqlstate)
	FROM (SELECT kind, sqlstate, sum(n) AS n FROM outcomes GROUP BY 1, 2) o});
is( query(q{SELECT string_agg(format('%s: %s %s', kind, sqlstate, message), E'\n') FROM outcomes
		WHERE sqlstate NOT IN ('00000', '40001', '40P01', '23505', 'DR409')}),
	'', 'no error but those that a race may end in');
is( query(q{SELECT coalesce(sum(n), 0) FROM outcomes WHERE client < 8 AND sqlstate = '40001'}),
	'0', 'and none of serialization under READ COMMITTED');
cmp_ok(query('SELECT sum(n) FROM outcomes'), '>', 1000, 'enough has happened');
cmp_ok(query(q{SELECT coalesce(sum(n) FILTER (WHERE sqlstate = '40P01'), 0) * 100.0 / sum(n) FROM outcomes}),
	'<', 1, 'deadlocks are rare');

is(query('SELECT count(*) FROM docs JOIN dead USING (_id)'), '0', 'no document is in both tables');
is( query(q{SELECT count(*) FROM (SELECT _seq FROM docs UNION ALL SELECT _seq FROM dead) s
		GROUP BY _seq HAVING count(*) > 1}),
	'', 'no seq is there twice');
is(query(q{SELECT string_agg(id || ': ' || problem, E'\n') FROM docrep.check('docs')}),
	'', 'docrep.check finds nothing');
is( query(q{SELECT count(*) FROM docs WHERE _tree IS NOT NULL AND _tree::text NOT LIKE _rev::text || '%'})
	  . query(q{SELECT count(*) FROM dead WHERE _tree IS NOT NULL AND _tree::text NOT LIKE _rev::text || '(deleted)%'}),
	'00', 'the row\'s revision is the first leaf of its tree');
is( query(q{SELECT docrep.revs_diff('docs', (SELECT jsonb_object_agg(id, revs)
		FROM (SELECT id, jsonb_agg(DISTINCT rev) AS revs FROM log GROUP BY id) l))}),
	'{}', 'every revision that was committed is in its tree');
is( query(q{SELECT count(*) FROM docrep.changes('docs', style => 'all_docs') c,
		jsonb_array_elements(c.changes) r
		WHERE docrep.get('docs', c.id, rev => r->>'rev') IS NULL}),
	'0', 'and every leaf can be read');

# Once more, and nothing happens.
my $before = query(q{SELECT docrep.changes_feed('docs', 0)->'last_seq'});
query(q{SELECT docrep.bulk_docs('docs', (SELECT jsonb_agg(docrep.get('docs', c.id, rev => r->>'rev', revs => true))
	FROM docrep.changes('docs', style => 'all_docs') c, jsonb_array_elements(c.changes) r), false)});
is(query(qq{SELECT count(*) FROM docrep.changes('docs', $before)}),
	'0', 'leaves that are written again change nothing');

$node->stop;
done_testing();
