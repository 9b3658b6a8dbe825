# "Undo a bad script with a delayed replica" of docs/guide.md works as it stands: its
# blocks are executed in their order, with addresses and times of ours.  The half hour
# stays what it is, so that nothing depends on how fast this is: what has to be there at
# once comes without a delay, and what was there before the script is made to look older.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT pg_url quote contents is_same_contents);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('here', databases => [ 'shop', 'late' ]);
my ($section) = slurp_file('docs/guide.md') =~ /^<!-- undo:.*?-->\n(.*)^<!-- end of undo -->/ms or die "the guide has no such section\n";
my @blocks;
while ($section =~ /^```sql\n-- at (\w+)\.example\n(.*?)^```\n/msg)
{
	push @blocks, { db => $1, sql => $2 };
}
my $count = () = $section =~ /^```sql$/mg;
is(scalar @blocks, $count, 'every block was read');
is(join(',', map { $_->{db} } @blocks), 'late,shop,late,late,shop,late', '... and each says where');

my %times;

# Executes the next block; returns what its statements give.
sub step
{
	my $block = shift @blocks;
	my $sql = $block->{sql};

	foreach my $db (qw(shop late))
	{
		my $url = pg_url($node, $db);
		$sql =~ s{postgresql://joe\@$db\.example/shop}{$url}g;
	}
	$sql =~ s/'$_'/'$times{$_}'/g foreach keys %times;
	return $node->safe_psql($block->{db}, $sql);
}

sub shop { return $node->safe_psql('shop', join ";\n", @_) }

# Another delay of the replica, in force when this returns.
sub set_delay
{
	my ($delay, $ms) = @_;
	$node->safe_psql('late', "UPDATE docrep.replicator SET doc = doc || '{\"delay\": \"$delay\"}'");
	return wait_for_query($node, 'late', q{SELECT state IN ('running', 'pending'), coalesce(info #>> '{delayed,delay_ms}', '0') FROM docrep.scheduler_docs}, "t|$ms");
}

# ---------- beforehand ----------

shop(q{SELECT docrep.create_table('orders')},
	q{INSERT INTO orders(_id, doc) SELECT 'o' || i, jsonb_build_object('price', i, 'state', CASE WHEN i <= 5 THEN 'old' ELSE 'new' END) FROM generate_series(1, 50) i});
step();
set_delay('0', 0);
wait_for_query($node, 'late', 'SELECT count(*) FROM orders', 50, 60);
set_delay('30 minutes', 1800_000);
my $good = contents($node, 'late', 'orders');
is_same_contents($good, contents($node, 'shop', 'orders'), 'the replica has it all');

# shortly before the script: not at the replica yet
shop(q{INSERT INTO orders(_id, doc) VALUES ('recent', '{"price": 1, "state": "new"}')}, q{UPDATE orders SET doc = doc || '{"note": "recent"}' WHERE _id = 'o50'});
my $before = shop(q{SELECT jsonb_object_agg(_id, doc) FROM orders});
my @always = split /\n/, shop(q{SELECT format('ALTER TABLE orders ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND tgenabled = 'A'});
shop('ALTER TABLE orders DISABLE TRIGGER ALL', q{UPDATE orders SET _modified = _modified - interval '20 minutes'}, 'ALTER TABLE orders ENABLE TRIGGER ALL', @always);

# ---------- the script ----------

$times{'2026-11-21 10:14:59'} = shop(q{SELECT clock_timestamp() - interval '10 minutes'});
step();
$times{'2026-11-21 10:21'} = shop('SELECT clock_timestamp()');
is(shop(q{SELECT count(*) FILTER (WHERE doc ? 'price'), count(*) FROM orders}), '0|46', 'the script has done its work');

# ---------- hold ----------

my $held = step();
like($held, qr/^pending\|\{"held": true, "since": "2/m, 'held');
is($node->safe_psql('late', q{SELECT count(*) FROM orders WHERE doc ? 'price'}), '50', 'the replica has what was');

# people go on meanwhile
shop(q{INSERT INTO orders(_id, doc) VALUES ('after', '{"price": 2}')}, q{UPDATE orders SET doc = '{"price": 77, "state": "mended by hand"}' WHERE _id = 'o20'});

# ---------- to just before the script ----------

my $brought = step();
like($brought, qr/^0$/m, 'no damage came');
is($node->safe_psql('late', q{SELECT count(*), count(*) FILTER (WHERE doc ? 'price') FROM orders}), '51|51', 'what the script has changed is as it was before');
is($node->safe_psql('late', q{SELECT doc->>'note' FROM orders WHERE _id = 'o50'}), 'recent', '... what was edited shortly before included');
is($node->safe_psql('late', q{SELECT count(*) FROM orders WHERE _id IN ('after') OR doc->>'state' = 'mended by hand'}), '0', '... and what came after stays away');

# ---------- copy back ----------

step();
is(shop(q{SELECT doc->>'price' FROM orders WHERE _id = 'o20'}), '77', 'what was done by hand stays');
is(shop(q{SELECT count(*) FROM orders WHERE _id = 'after'}), '1', '... and what came after');
is(shop('SELECT count(*) FROM orders o, jsonb_each(' . quote($before) . q{::jsonb} . ") b WHERE o._id = b.key AND o.doc = b.value AND _id <> 'o20'"), '50', 'the rest is as it was before the script');

# ---------- release ----------

step();
is($node->safe_psql('late', q{SELECT count(*), count(*) FILTER (WHERE doc ? 'price') FROM orders}), '51|51', 'released, it goes on waiting');
set_delay('0', 0);
wait_until(sub {
	my ($shop, $late) = (contents($node, 'shop', 'orders'), contents($node, 'late', 'orders'));
	return join("\n", map { "$_ $shop->{$_}" } sort keys %$shop) eq join("\n", map { "$_ $late->{$_}" } sort keys %$late);
}, undef, 'the replica to have it all');
is_same_contents(contents($node, 'late', 'orders'), contents($node, 'shop', 'orders'), 'when its time has come the replica gets the damage and the repair');

$node->stop;
done_testing();
