# Many writers against readers that poll the changes feed: every committed change
# is seen, in order of seq, and none is missed; unrelated transactions delay
# nothing.
#
# A trigger logs each change in the transaction that makes it.  Readers keep what
# they were shown, and after each poll a snapshot.  A change that a reader passed
# without being shown it must have been followed, in that snapshot, by a later
# one of the same document; all else is a change missed, even if a later one of
# that document has been seen since.  Any later one will do, not the next by seq:
# an INSERT takes its number before it waits for a DELETE of the same id, whose
# number is then higher though it commits first.
use strict;
use warnings;

use DocrepTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = 55;

my $node = new_node('stress', conf => <<'CONF');
deadlock_timeout = 50ms
log_min_messages = fatal
CONF

sub query { return $node->safe_psql('postgres', $_[0]); }

# Starts psql on some commands, each one statement, with a default isolation
# level; returns its handle.
sub start_psql
{
	my ($name, $isolation, @commands) = @_;
	my $out = { name => $name, text => '' };

	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=' . $isolation =~ s/ /\\ /r;
	$out->{handle} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr('postgres') . " application_name=$name",
			map { ('-c', $_) } @commands
		],
		'<', \undef, '>', \$out->{text}, '2>', \$out->{text});
	return $out;
}

$node->safe_psql('postgres', <<'SQL');
SELECT docrep.create_table('docs');
SELECT docrep.create_table('other_docs');
DO $$
BEGIN
	EXECUTE format('CREATE VIEW dead AS SELECT * FROM docrep_data.dead_%s',
		(SELECT replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'docs'::regclass));
END $$;
CREATE VIEW state AS
	SELECT _id AS id, _rev::text AS rev, _seq AS seq, false AS deleted FROM docs
	UNION ALL SELECT _id, _rev::text, _seq, true FROM dead;

CREATE TABLE unrelated (n int);
CREATE TABLE control (stop boolean, stop_writing boolean);
INSERT INTO control VALUES (false, false);
CREATE TABLE log (id text, rev text, seq bigint, deleted boolean, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE seen (reader int, n bigserial, since bigint, seq bigint, id text, rev text, deleted boolean);
CREATE TABLE polls (reader int, n bigserial, since bigint, last_seq bigint, after pg_snapshot);

CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP <> 'INSERT' AND (TG_OP = 'DELETE' OR OLD._id <> NEW._id) THEN
		INSERT INTO log(id, rev, seq, deleted) SELECT _id, _rev, _seq, true FROM dead WHERE _id = OLD._id;
	END IF;
	IF TG_OP <> 'DELETE' THEN
		INSERT INTO log(id, rev, seq, deleted) VALUES (NEW._id, NEW._rev, NEW._seq, false);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON docs FOR EACH ROW EXECUTE FUNCTION log_change();

-- one of the things that a writer does
CREATE PROCEDURE act(w int) LANGUAGE plpgsql AS $$
DECLARE
	kind int := random() * 100;
	pool text := 'p' || (random() * 300)::int;
	body jsonb := jsonb_build_object('w', w, 'r', (random() * 20)::int, 'pad', repeat('x', (random() * 300)::int));
BEGIN
	IF kind < 15 THEN
		INSERT INTO docs VALUES (format('w%s-%s', w, gen_random_uuid()), body);
	ELSIF kind < 30 THEN
		INSERT INTO docs VALUES (pool, body) ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
	ELSIF kind < 35 THEN
		INSERT INTO docs VALUES (pool, body) ON CONFLICT DO NOTHING;
	ELSIF kind < 42 THEN
		INSERT INTO docs VALUES (pool, body);
	ELSIF kind < 60 THEN
		UPDATE docs SET doc = doc || body WHERE _id = pool;
	ELSIF kind < 75 THEN
		DELETE FROM docs WHERE _id = pool;
	ELSIF kind < 82 THEN
		WITH d AS (DELETE FROM docs WHERE _id = pool RETURNING _id)
		INSERT INTO docs SELECT _id, body FROM d;
	ELSIF kind < 85 THEN
		UPDATE docs SET _id = format('m%s-%s', w, gen_random_uuid()) WHERE _id = pool;
	ELSIF kind < 88 THEN
		PERFORM docrep.put('docs', body || jsonb_build_object('_id', pool));
	ELSIF kind < 91 THEN
		PERFORM docrep.bulk_docs('docs', (SELECT jsonb_agg(body || jsonb_build_object('_id', 'p' || i))
			FROM generate_series(1, 30) i));
	ELSIF kind < 94 THEN
		UPDATE docs SET doc = doc || body WHERE _id BETWEEN pool AND pool || '~';
	ELSIF kind < 96 THEN
		INSERT INTO docs SELECT format('b%s-%s', w, gen_random_uuid()), body FROM generate_series(1, 120);
	ELSIF kind < 98 THEN
		DELETE FROM docs WHERE _id IN (SELECT _id FROM docs WHERE _id LIKE format('b%s-%%', w) LIMIT 100);
	ELSE
		PERFORM pg_sleep(random() * 0.4);
	END IF;
END $$;

-- transactions of up to six of them, parts of which are rolled back
CREATE PROCEDURE writer(w int) LANGUAGE plpgsql AS $$
DECLARE
	refused int := 0;
	committed int := 0;
BEGIN
	WHILE NOT (SELECT c.stop_writing FROM control c) LOOP
		FOR i IN 1 .. 1 + (random() * 5)::int LOOP
			BEGIN
				CALL act(w);
				IF random() < 0.15 THEN
					RAISE EXCEPTION 'changed my mind' USING ERRCODE = 'XX999';
				END IF;
			EXCEPTION
				WHEN SQLSTATE 'XX999' THEN
					NULL;
				WHEN unique_violation OR serialization_failure OR deadlock_detected OR SQLSTATE 'DR409' THEN
					refused := refused + 1;
			END;
			IF random() < 0.1 THEN
				PERFORM pg_sleep(random() * 0.05);
			END IF;
		END LOOP;
		IF random() < 0.15 THEN
			ROLLBACK;
		ELSE
			COMMIT;
			committed := committed + 1;
		END IF;
	END LOOP;
	RAISE NOTICE 'writer %: % commits, % refused', w, committed, refused;
END $$;

-- what: docrep.changes_feed (feed) or docrep.changes (rows)
CREATE PROCEDURE reader(r int, what text, batch int) LANGUAGE plpgsql AS $$
DECLARE
	position bigint := 0;
	before bigint;
	feed jsonb;
	stop boolean;
BEGIN
	LOOP
		SELECT c.stop INTO stop FROM control c;
		COMMIT;
		IF current_setting('transaction_isolation') = 'repeatable read' THEN
			-- the transaction's snapshot is from before the feed is read
			PERFORM count(*) FROM control;
			PERFORM pg_sleep(random() * 0.05);
		END IF;
		before := position;
		IF what = 'rows' THEN
			INSERT INTO seen(reader, since, seq, id, rev, deleted)
			SELECT r, before, c.seq, c.id, c.changes->0->>'rev', c.deleted
			FROM docrep.changes('docs', before, batch) c;
			SELECT coalesce(max(s.seq), before) INTO position FROM seen s WHERE s.reader = r AND s.since = before;
		ELSE
			feed := docrep.changes_feed('docs', before, batch);
			INSERT INTO seen(reader, since, seq, id, rev, deleted)
			SELECT r, before, (c->>'seq')::bigint, c->>'id', c->'changes'->0->>'rev', coalesce((c->>'deleted')::boolean, false)
			FROM jsonb_array_elements(feed->'results') WITH ORDINALITY e(c, i) ORDER BY i;
			position := feed->>'last_seq';
		END IF;
		COMMIT;
		IF position > before THEN
			INSERT INTO polls(reader, since, last_seq, after) VALUES (r, before, position, pg_current_snapshot());
			COMMIT;
		ELSE
			EXIT WHEN stop;
			PERFORM pg_sleep(0.005);
		END IF;
		PERFORM pg_sleep(random() * 0.02);
	END LOOP;
END $$;
CREATE INDEX ON seen(reader, since);
CREATE INDEX ON polls(reader, last_seq);
SQL

# Strangers, who stay to the very end: they hold an xid, an old snapshot, and
# uncommitted documents of another table.
my $stranger = start_psql('stranger', 'repeatable read', 'BEGIN',
	'INSERT INTO unrelated VALUES (1)', q{INSERT INTO other_docs VALUES ('x', '{}')},
	'SELECT pg_sleep(7200)');
wait_for_query($node, 'postgres',
	q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stranger' AND query ~ 'pg_sleep'}, '1');

my %readers = (
	1 => [ 'read committed', q{'feed', NULL} ],
	2 => [ 'read committed', q{'rows', NULL} ],
	3 => [ 'repeatable read', q{'feed', 150} ]);
my @reading = map { start_psql("reader$_", $readers{$_}[0], "CALL reader($_, $readers{$_}[1])") }
  sort keys %readers;
my $start = time;
my @isolation = (('read committed') x 6, 'repeatable read', 'serializable');
my @writing = map { start_psql("writer$_", $isolation[$_ - 1], "CALL writer($_)") }
  1 .. @isolation;

# Meanwhile some who write are terminated in the middle of it.  On a slow machine
# it takes longer until enough has happened.
my $terminated = 0;
my $last = 0;
my $slowest;
while (time < $start + $seconds || $terminated <= 5 || query('SELECT count(*) FROM log') <= 5000)
{
	my $name = "victim$terminated";
	my $victim = start_psql($name, 'read committed', 'BEGIN',
		qq{INSERT INTO docs SELECT 'victim$terminated-' || i, '{}' FROM generate_series(1, 20) i},
		'SELECT pg_sleep(7200)');
	wait_for_query($node, 'postgres',
		qq{SELECT count(*) FROM pg_stat_activity WHERE application_name = '$name' AND query ~ 'pg_sleep'}, '1');
	# others write past it
	my $taken = query('SELECT max(_seq) FROM docs');
	wait_for_query($node, 'postgres', "SELECT max(_seq) > $taken + 200 FROM docs");
	query(qq{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '$name'});
	IPC::Run::finish($victim->{handle});
	$terminated++;

	# all readers go on, however long the strangers stay
	wait_until(sub {
		$slowest = query(q{SELECT min(m) FROM (SELECT max(last_seq) AS m FROM polls GROUP BY reader HAVING max(last_seq) > 0) p
			HAVING count(*) = 3});
		return $slowest ne '' && $slowest > $last;
	}, undef, 'all readers to move on');
	$last = $slowest;
}
ok($terminated > 5, "$terminated writers were terminated");

query('UPDATE control SET stop_writing = true');
foreach my $writer (@writing)
{
	ok(IPC::Run::finish($writer->{handle}), "$writer->{name} has finished");
	note $writer->{text};
}
query('UPDATE control SET stop = true');
foreach my $reader (@reading)
{
	ok(IPC::Run::finish($reader->{handle}), "$reader->{name} has finished");
	note $reader->{text} if $reader->{text} ne '';
}
is( query(q{SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'stranger' AND backend_xid IS NOT NULL AND state = 'active'}),
	'1', 'the stranger is still there');

query('CREATE INDEX ON log(id, seq); ANALYZE log, seen, polls');
note query(q{SELECT format('%s changes of %s documents by %s transactions, %s of them deletions; last seq %s',
	count(*), count(DISTINCT id), count(DISTINCT xid), count(*) FILTER (WHERE deleted), max(seq)) FROM log});
note query(q{SELECT string_agg(format('reader %s: %s polls, %s rows', reader, n,
	(SELECT count(*) FROM seen s WHERE s.reader = p.reader)), '; ')
	FROM (SELECT reader, count(*) AS n FROM polls GROUP BY 1) p});
cmp_ok(query('SELECT count(*) FROM log'), '>', 5000, 'there was something to read');

# the log itself, against what is stored
is( query(q{SELECT count(*) FROM (
		(SELECT DISTINCT ON (id) id, rev, seq, deleted FROM log ORDER BY id, seq DESC)
		EXCEPT SELECT id, rev, seq, deleted FROM state) x}),
	'0', 'the last change of each document is its state');
is( query(q{SELECT count(*) FROM (SELECT id, rev, seq, deleted FROM state
		EXCEPT SELECT id, rev, seq, deleted FROM log) x}),
	'0', 'and every state is the result of a change');
is(query('SELECT count(*) FROM (SELECT seq FROM log GROUP BY seq HAVING count(*) > 1) x'),
	'0', 'no seq was given out twice');
is(query(q{SELECT string_agg(id || ': ' || problem, '; ') FROM docrep.check('docs')}),
	'', 'the table is consistent');

foreach my $r (sort keys %readers)
{
	is( query(qq{SELECT count(*) FROM (
			SELECT seq, since, lag(seq) OVER (ORDER BY n) AS previous FROM seen WHERE reader = $r) x
			WHERE seq <= since OR seq <= previous}),
		'0', "reader $r: all rows came in order of seq and after since");
	is( query(qq{SELECT count(*) FROM (
			(SELECT DISTINCT ON (id) id, rev, seq, deleted FROM seen WHERE reader = $r ORDER BY id, seq DESC)
			EXCEPT SELECT id, rev, seq, deleted FROM state) x}),
		'0', "reader $r: what it saw last of each document is its state");
	is( query(qq{SELECT count(*) FROM (SELECT id, rev, seq, deleted FROM state
			EXCEPT SELECT id, rev, seq, deleted FROM seen WHERE reader = $r) x}),
		'0', "reader $r: it has seen every document");
	is( query(qq{SELECT count(*) FROM (SELECT id, rev, seq, deleted FROM seen WHERE reader = $r
			EXCEPT SELECT id, rev, seq, deleted FROM log) x}),
		'0', "reader $r: it has seen nothing that was not committed");
	is( query(qq{
			SELECT coalesce(string_agg(format('%s at seq %s (deleted %s) of xid %s, not in poll %s to %s, then %s; later: %s',
				c.id, c.seq, c.deleted, c.xid, p.since, p.last_seq, p.after,
				(SELECT string_agg(l.seq || ' of ' || l.xid, ', ' ORDER BY l.seq) FROM (
					SELECT * FROM log l WHERE l.id = c.id AND l.seq > c.seq ORDER BY l.seq LIMIT 5) l)), E'\\n'), '')
			FROM log c
			CROSS JOIN LATERAL (SELECT since, last_seq, after FROM polls p WHERE p.reader = $r AND p.last_seq >= c.seq
				ORDER BY p.last_seq LIMIT 1) p
			WHERE NOT EXISTS (SELECT FROM seen s WHERE s.reader = $r AND s.seq = c.seq)
			AND NOT EXISTS (SELECT FROM log l WHERE l.id = c.id AND l.seq > c.seq
				AND pg_visible_in_snapshot(l.xid, p.after))}),
		'', "reader $r: no change was missed, not even for a while");
}

is( query(q{SELECT count(*) FROM (
		(SELECT id, changes->0->>'rev', seq, deleted FROM docrep.changes('docs') EXCEPT TABLE state)
		UNION ALL (TABLE state EXCEPT SELECT id, changes->0->>'rev', seq, deleted FROM docrep.changes('docs'))) x}),
	'0', 'the feed from the beginning is the state');
is( query(q{SELECT (f->>'last_seq')::bigint >= (SELECT max(seq) FROM log) AND (f->>'pending')::int = 0
		FROM docrep.changes_feed('docs', 0) f}),
	't', 'last_seq is not held back by anybody');

query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stranger'});
IPC::Run::finish($stranger->{handle});
$node->stop;
done_testing();
