# What a changes feed has shown stays true when the server crashes, and its
# numbers do not come back; a standby refuses to serve a feed, and serves it once
# it is promoted.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('primary',
	init => { allows_streaming => 1 },
	conf => <<'CONF');
synchronous_commit = off
shared_buffers = 32MB
wal_buffers = 4MB
log_min_messages = fatal
CONF

sub state_of
{
	return $_[0]->safe_psql('postgres',
		q{SELECT seq, id, changes->0->>'rev', deleted FROM docrep.changes('docs') ORDER BY seq});
}

sub last_seq
{
	return $_[0]->safe_psql('postgres', q{SELECT docrep.changes_feed('docs', 0)->'last_seq'});
}

$node->safe_psql('postgres', q{SELECT docrep.create_table('docs')});
my $since = 0;
foreach my $round (1 .. 4)
{
	# Nobody but readers of the feed brings WAL to the disk.  The last number is
	# taken by a transaction that is rolled back.
	my $walwriter = $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	wait_until(
		sub {
			kill 'STOP', $walwriter;
			# elsewhere it may hold a lock that others need
			return 1 if $node->safe_psql('postgres', "SELECT wait_event FROM pg_stat_activity WHERE pid = $walwriter") eq 'WalWriterMain';
			kill 'CONT', $walwriter;
			return 0;
		}, undef, 'the walwriter to rest');
	$node->safe_psql('postgres', <<SQL);
INSERT INTO docs SELECT 'r$round-' || i, '{}' FROM generate_series(1, 200) i;
DELETE FROM docs WHERE _id IN ('r$round-7', 'r$round-8');
BEGIN;
INSERT INTO docs VALUES ('no', '{}');
ROLLBACK;
SQL
	my $shown = state_of($node);
	my $last = last_seq($node);

	# what nobody was shown may be lost
	$node->safe_psql('postgres', q{INSERT INTO docs VALUES ('unseen' || clock_timestamp(), '{}')});
	kill 'KILL', $walwriter;
	wait_for_query($node, 'postgres', qq{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'walwriter' AND pid <> $walwriter}, '1');
	is( join("\n", grep { !/unseen/ } split /\n/, state_of($node)),
		join("\n", grep { !/unseen/ } split /\n/, $shown),
		"round $round: what was shown is there after a crash");
	my $new = $node->safe_psql('postgres',
		qq{INSERT INTO docs VALUES ('new$round', '{}') RETURNING _seq});
	cmp_ok($new, '>', $last, "round $round: and the numbers go on after $last");
	is( $node->safe_psql('postgres',
			qq{SELECT count(*) FROM docrep.changes('docs', $last) WHERE id = 'new$round'}),
		'1', "round $round: for those too who go on from there");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM docrep.check('docs')}),
	'0', 'the table is consistent');

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{INSERT INTO docs VALUES ('gone', '{}'); DELETE FROM docs WHERE _id = 'gone'});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT count(*) > 0 FROM docs}), 't', 'documents can be read on a standby');

my $uuid = $node->safe_psql('postgres', q{SELECT uuid FROM docrep.document_tables WHERE tbl = 'docs'::regclass});
my %feeds = (
	'changes' => q{SELECT * FROM docrep.changes('docs')},
	'changes_feed' => q{SELECT docrep.changes_feed('docs')},
	'peer_changes' => qq{SELECT docrep.peer_changes('$uuid', '0', 10, 10000, false, false, NULL)},
	'peer_wait' => qq{CALL docrep.peer_wait('$uuid', '0', 1, NULL)});
foreach my $function (sort keys %feeds)
{
	my ($state, $message) = sqlstate($standby, 'postgres', $feeds{$function});
	is($state, '25006', "$function is refused on a standby");
	like($message, qr/standby.*HINT:  Read it on the primary/s, 'and says where to read it');
}

my $counts = q{SELECT concat_ws(' ', i->'doc_count', i->'doc_del_count', t.doc_count, t.doc_del_count, t.conflict_count)
	FROM docrep.info('docs') i, docrep.tables t WHERE tbl = 'docs'::regclass};
is($standby->safe_psql('postgres', $counts), $node->safe_psql('postgres', $counts), 'info() and docrep.tables can be read there');
is($standby->safe_psql('postgres', q{SELECT concat_ws(' ', i->'update_seq', t.update_seq IS NULL) FROM docrep.info('docs') i, docrep.tables t WHERE tbl = 'docs'::regclass}),
	'null t', 'but for the number, which it does not know');

# A primary that is lost, with changes that the standby never got.
$standby->stop;
$node->safe_psql('postgres', q{INSERT INTO docs SELECT 'lost' || i, '{}' FROM generate_series(1, 300) i});
my $expected = join "\n", grep { !/lost/ } split /\n/, state_of($node);
$node->stop('immediate');
$standby->start;
$standby->promote;
is(state_of($standby), $expected, 'after its promotion it serves the feed');
is( $standby->safe_psql('postgres', q{INSERT INTO docs VALUES ('gone', '{}') RETURNING split_part(_rev::text, '-', 1)}),
	'3', 'and knows the tombstones that it has received');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM docrep.check('docs')}),
	'0', 'the table is consistent');
$standby->stop;
done_testing();
