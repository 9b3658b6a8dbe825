# Named documents are looked up, and not searched for: shown by what is read, not by how
# long it takes.  And many of them replicated from each kind of source.
# "make soak" has a million documents, of which a hundred thousand are named.
use strict;
use warnings;

use DocrepCouch;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my ($rows, $named) = is_soak() ? (1_000_000, 100_000) : (50_000, 5_000);
my $near = new_node('near', databases => ['one'], conf => "docrep.worker_linger = 0\nmax_wal_size = 4GB\n");
my $far = new_node('far', databases => ['two'], conf => "max_wal_size = 4GB\n");
my $couch = DocrepCouch->new;

foreach ([ $near, 'one' ], [ $far, 'two' ])
{
	my ($node, $db) = @$_;
	$node->safe_psql($db, qq{
		SELECT docrep.create_table('big');
		INSERT INTO big (_id, doc) SELECT 'doc' || lpad(i::text, 6, '0'), jsonb_build_object('n', i) FROM generate_series(0, $rows - 1) i;
		-- tombstones are named, too
		DELETE FROM big WHERE (doc->>'n')::int % 1000 = 10;
		VACUUM ANALYZE big;
	});
}

# ---------- what is read ----------

# Pages and scans of a query on "big" and its companions: {pages, seq, idx, n}.
sub cost
{
	my ($from) = @_;
	my ($plan, $scans) = split /\n=\n/, $near->safe_psql('one', qq{
		\\o /dev/null
		SELECT count(*) FROM $from;
		BEGIN;
		EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT count(*) FROM $from;
		ROLLBACK;
		\\o
		BEGIN;
		EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT count(*) FROM $from;
		\\echo =
		SELECT sum(seq_scan), sum(idx_scan) FROM pg_stat_xact_all_tables
			WHERE relname = 'big' OR relid IN (SELECT c.oid FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
				WHERE s.nspname LIKE 'docrep%' AND c.relname ~ '_[0-9a-f]{32}\$' AND c.relkind = 'r');
	});
	my $top = decode_json($plan)->[0]{Plan};
	my ($function) = grep { $_->{'Node Type'} eq 'Function Scan' } @{ $top->{Plans} };
	my ($seq, $idx) = split /\|/, $scans;
	return { pages => $top->{'Shared Hit Blocks'} + $top->{'Shared Read Blocks'}, seq => $seq, idx => $idx, n => $function->{'Actual Rows'} };
}

my $pages = $near->safe_psql('one', q{SELECT relpages FROM pg_class WHERE relname = 'big'});
my $one = cost(q{docrep.changes('big', doc_ids => ARRAY['doc000777'])});
is($one->{n}, 1, 'one document is found');
cmp_ok($one->{pages}, '<', 60, "... by reading a few pages ($one->{pages} of $pages)");
is($one->{seq}, 0, '... and no table as a whole');
my $dead = cost(q{docrep.changes('big', doc_ids => ARRAY['doc001010'])});
is($dead->{n}, 1, 'a tombstone, too');
cmp_ok($dead->{pages}, '<', 60, "... ($dead->{pages} pages)");
is($dead->{seq}, 0, '... by its id');
my $none = cost(q{docrep.changes('big', doc_ids => ARRAY['nowhere'])});
is($none->{n}, 0, 'what is not there');
cmp_ok($none->{pages}, '<', 60, "... is not searched for ($none->{pages} pages)");

my $ids = qq{(SELECT array_agg('doc' || lpad((i * 10)::text, 6, '0')) FROM generate_series(0, $named - 1) i)};
my $many = cost("docrep.changes('big', doc_ids => $ids)");
is($many->{n}, $named, "$named documents");
is($many->{seq}, 0, '... and no table as a whole');
cmp_ok($many->{pages}, '<', $named * 20, "... are so many look-ups ($many->{pages} pages)");
cmp_ok($many->{idx}, '<', $named * 7, "... ($many->{idx} of them)");
my $last = $near->safe_psql('one', q{SELECT docrep.info('big')->>'update_seq'}) =~ s/-.*//r;
my $nothing = cost("docrep.changes('big', since => $last, doc_ids => $ids)");
is($nothing->{n}, 0, 'nothing is new of them');
cmp_ok($nothing->{pages}, '<', $named * 10, "... which is found in the same way ($nothing->{pages} pages)");

# ---------- replicated ----------

$couch->fill('big', 0, $named * 2 - 1, size => 10);
my %sources = (local => 'big', postgres => pg_url($far, 'two', table => 'big'), couchdb => $couch->url('big'));
foreach my $kind (sort keys %sources)
{
	my $step = $kind eq 'couchdb' ? 2 : 10;
	my $list = qq{(SELECT jsonb_agg('doc' || lpad((i * $step)::text, 6, '0')) FROM generate_series(0, $named - 1) i)};
	my $run = "SELECT coalesce(r->>'no_changes', r->>'docs_written') FROM (SELECT docrep.replicate(" . quote($sources{$kind}) . ", 'from_$kind', jsonb_build_object('create_target', true, 'doc_ids', $list)) AS r) x";
	my $begin = time;
	is($near->safe_psql('one', $run), $named, "$kind: $named named documents are replicated");
	note sprintf '%s: %d named documents in %.1f s', $kind, $named, time - $begin;
	is($near->safe_psql('one', "SELECT count(*) FROM docrep.changes('from_$kind')"), $named, '... and no others');
	$begin = time;
	is($near->safe_psql('one', $run), 'true', '... and again: nothing to do');
	note sprintf '%s: again in %.1f s', $kind, time - $begin;
}

done_testing();
