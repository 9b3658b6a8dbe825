# Histories of update sequences: a clone, a reset identity, a crash.  Peers that
# hold a place in one history never skip changes of another.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('identity', databases => [ 'shop', 'peer' ]);

# The epochs of a table, oldest first
sub epochs
{
	my ($db) = @_;
	return split /\n/, $node->safe_psql($db, q{SELECT start_seq || ' ' || epoch FROM docrep.epochs e
		JOIN docrep.document_tables t ON t.uuid = e.tbl AND t.tbl = 'orders'::regclass ORDER BY start_seq});
}

# "revisions looked at, documents read, written" and where the source was
sub pull
{
	my ($target, %options) = @_;
	my $url = pg_url($node, $options{from} // 'shop', table => 'orders');
	my $since = defined $options{since} ? qq{, '{"since_seq": "$options{since}"}'} : '';

	return split /\|/, $node->safe_psql('peer', qq{SELECT format('%s, %s, %s', r->'missing_checked', r->'docs_read', r->'docs_written'),
		r->>'source_last_seq' FROM docrep.replicate('$url', '$target'$since) r});
}

# ---- a clone -----------------------------------------------------------------

$node->safe_psql('shop', q{SELECT docrep.create_table('orders');
	INSERT INTO orders SELECT 'o' || i, '{}' FROM generate_series(1, 10) i});
$node->safe_psql('peer', qq{SELECT docrep.create_table('$_')}) foreach 'pulled', 'since_only', 'mirror';
my ($counts, $seq) = pull('pulled');
is($counts, '10, 10, 10', 'a peer has everything');
my @first = epochs('shop');
is(scalar @first, 1, 'one epoch');
my ($epoch) = $first[0] =~ / (.*)/;
is($seq, "10-$epoch", 'which is part of a place in the feed');

# sessions of replications that have just ended may still be there
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'}, '0');
$node->safe_psql('postgres', 'CREATE DATABASE clone TEMPLATE shop');
is( $node->safe_psql('clone', q{SELECT count(*) FROM docrep.active_tasks}), '0', 'in a clone nothing starts by itself');
is_deeply([ epochs('clone') ], \@first, 'a clone that has written nothing is in the same history');

# Original and clone hand out the same numbers for other documents.
$node->safe_psql('shop', q{INSERT INTO orders SELECT 'original' || i, '{}' FROM generate_series(1, 400) i});
$node->safe_psql('clone', q{INSERT INTO orders SELECT 'cloned' || i, '{}' FROM generate_series(1, 20) i});
my @cloned = epochs('clone');
is(scalar @cloned, 2, 'a clone that has written is in a history of its own');
is($cloned[0], $first[0], 'which begins as that of the original');
is_deeply([ epochs('shop') ], \@first, 'the original goes on in its own');
($counts, $seq) = pull('pulled');
is($counts, '400, 400, 400', 'the peer goes on with the original');
like($seq, qr/-\Q$epoch\E$/, 'in the same epoch');
my ($place) = $seq =~ /^(\d+)/;
cmp_ok($place, '>', $node->safe_psql('clone', 'SELECT max(_seq) FROM orders'), 'its place is beyond all that the clone has');
is( (pull('since_only', from => 'clone', since => $seq))[0],
	'20, 20, 20', 'in the clone that place is where the histories parted: no change is skipped');
is( (pull('since_only', from => 'shop', since => $seq))[0],
	'0, 0, 0', 'in the original it is the end');

# The clone takes the place of the original, at the same address.
wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname IN ('shop', 'clone')}, '0');
$node->safe_psql('postgres', 'ALTER DATABASE shop RENAME TO lost');
$node->safe_psql('postgres', 'ALTER DATABASE clone RENAME TO shop');
pull('pulled');
is( $node->safe_psql('peer', q{SELECT count(*) FROM pulled WHERE _id LIKE 'cloned%'}),
	'20', 'a peer with a checkpoint of the original gets all of the clone');
is((pull('pulled'))[0], '0, 0, 0', 'and has a checkpoint of the clone then');
$node->safe_psql('shop', q{INSERT INTO orders VALUES ('one more', '{}')});
is((pull('pulled'))[0], '1, 1, 1', 'from which it goes on');
is( (pull('mirror', since => '7-0123456789abcdef'))[0],
	'31, 31, 31', 'a place in a history that nobody knows is the beginning');
my ($state, $message) = sqlstate($node, 'peer',
	sprintf(q{SELECT docrep.replicate('%s', 'mirror', '{"since_seq": "7-xyz"}')}, pg_url($node, 'shop', table => 'orders')));
is($state, 'DR400', 'a malformed one is refused');

# ---- docrep.reset_identity ---------------------------------------------------

my ($last) = (epochs('shop'))[-1] =~ / (.*)/;
my $max = $node->safe_psql('shop', 'SELECT max(_seq) FROM orders');
$node->safe_psql('shop', q{SELECT docrep.reset_identity('orders')});
my @reset = epochs('shop');
is(scalar @reset, 3, 'reset_identity begins an epoch');
my ($start, $new) = split / /, $reset[-1];
cmp_ok($start, '>', $max, 'after all numbers that were handed out');
is((pull('pulled'))[0], '0, 0, 0', 'who has a place before it goes on from there');
$node->safe_psql('shop', q{INSERT INTO orders VALUES ('after reset', '{}')});
is((pull('pulled'))[0], '1, 1, 1', 'and misses nothing');
is( (pull('mirror', since => "1000-$last"))[0],
	'1, 1, 1', 'a place beyond it in the epoch before rewinds to where it began');
is( (pull('mirror', since => "1000-$new"))[0], '0, 0, 0', 'one in the new epoch does not');
$node->safe_psql('shop', 'BEGIN; SELECT docrep.reset_identity(\'orders\'); ROLLBACK');
is_deeply([ epochs('shop') ], \@reset, 'it can be rolled back');
$node->safe_psql('shop', q{INSERT INTO orders VALUES ('after rollback', '{}')});
is((pull('pulled'))[0], '1, 1, 1', 'the feed goes on');
is(scalar epochs('lost'), 1, 'the original knows nothing of all this');

# ---- a crash -----------------------------------------------------------------

# What a reader of the feed has seen is there after a crash under the same
# number, and no number that was seen is handed out again, though commits do not
# wait for the disk.
$node->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = '10s'\nwal_writer_flush_after = '1GB'");
$node->restart;
my $rounds = is_soak() ? 30 : 6;
my $seen = 0;
my $numbers = 0;
my $wrong = 0;
my $lost = 0;
foreach my $round (1 .. $rounds)
{
	my $rows = 40 * $round;

	$node->safe_psql('shop', qq{INSERT INTO orders SELECT 'crash$round-' || i, '{}' FROM generate_series(1, $rows) i});
	my $read = $node->safe_psql('shop', qq{SELECT seq || ' ' || id FROM docrep.changes('orders', since => $seen)});
	my @read = split /\n/, $read;
	# In every second round there are some that nobody reads.  They are lost; but
	# their WAL pushes that of those before out of the buffers, so not in all.
	my $unread = $round % 2 == 0 ? 300 : 0;
	$node->safe_psql('shop', qq{INSERT INTO orders SELECT 'lost$round-' || i, '{}' FROM generate_series(1, $unread) i})
	  if $unread;
	$node->stop('immediate');
	$node->start;
	$lost += $node->safe_psql('shop', qq{SELECT $unread - count(*) FROM orders WHERE _id LIKE 'lost$round-%'});
	$node->safe_psql('shop', qq{INSERT INTO orders SELECT 'again$round-' || i, '{}' FROM generate_series(1, 10) i});

	my ($highest) = $read[-1] =~ /^(\d+)/;
	my $first = $node->safe_psql('shop', qq{SELECT min(_seq) FROM orders WHERE _id LIKE 'again$round-%'});
	$wrong++ if $first <= $highest;
	my $after = $node->safe_psql('shop', qq{SELECT seq || ' ' || id FROM docrep.changes('orders', since => $seen) WHERE seq <= $highest});
	$wrong++ if $after ne $read;
	$numbers += @read;
	$seen = $highest;
}
cmp_ok($numbers, '>', 500, "$rounds crashes, $numbers changes seen before them");
note "$lost changes that nobody had seen were lost";
is($wrong, 0, 'what was seen is there, and its numbers are not handed out again');
is( $node->safe_psql('shop', 'SELECT count(*) - count(DISTINCT seq) FROM docrep.changes(\'orders\')'),
	'0', 'no number is there twice');
is($node->safe_psql('shop', q{SELECT * FROM docrep.check('orders')}), '', 'the table is sound');
pull('pulled');
is( $node->safe_psql('peer', 'SELECT count(*) FROM pulled WHERE _id !~ \'^original\''),
	$node->safe_psql('shop', 'SELECT count(*) FROM orders'), 'the peer has everything');

$node->stop;
done_testing();
