# The edges of delays: how long a month is, a change whose time is in the future, what a source keeps of former
# versions for a delayed replication and for how long, and that a replication that has none of them says so.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT pg_url quote check_table);
use JSON::PP;
use Test::More;

my $node = new_node('edges', databases => [ 'one', 'two' ]);

sub sql { my ($db, @statements) = @_; return $node->safe_psql($db, join ";\n", @statements) }

sub start
{
	my ($db, $id, $source, $target, %options) = @_;
	return sql($db, 'SELECT docrep.start(' . join(', ', map { quote($_) } $id, $source, $target,
		JSON::PP->new->canonical->encode({ continuous => JSON::PP::true, %options })) . ')');
}

sub delayed { my ($id, $member) = @_; return "SELECT info #>> '{delayed,$member}' FROM docrep.scheduler_docs WHERE doc_id = '$id'" }

sub is_in_the_end
{
	my ($db, $query, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_for_query($node, $db, $query, $expected), $name);
}

# The name of the table that has former versions.
sub kept { my ($table) = @_; return sql('one', "SELECT 'docrep_data.rev_' || replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = '$table'::regclass") }

subtest 'months and years, and less than a millisecond' => sub {
	sql('one', "SELECT docrep.create_table('a')", "SELECT docrep.create_table('b')", "INSERT INTO a VALUES ('x', '{}')");
	my $ms = sub { return sql('one', "SELECT docrep.replicate('a', 'b', '{\"delay\": \"$_[0]\"}') -> 'delayed' ->> 'delay_ms'") };
	my $day = 24 * 3600 * 1000;
	is($ms->('1 month'), 31 * $day, 'a month is as long as the longest');
	is($ms->('1 year'), 366 * $day, 'a year, too');
	is($ms->('1 year 2 months 3 days 00:00:01'), (366 + 62 + 3) * $day + 1000, 'and what is made of them');
	is($ms->('1.5 ms'), 2, 'parts of a millisecond count');
	is($ms->('1 us'), 1, 'however small');
	foreach my $bad ('-1 s', '-1 us', '-1 month', 'soon', '2000 years', '1 month -40 days')
	{
		my ($state) = sqlstate($node, 'one', "SELECT docrep.replicate('a', 'b', '{\"delay\": \"$bad\"}')");
		is($state, 'DR400', "\"$bad\" is none");
	}
	is($ms->('0') // '', '', '0 is no delay');
	is(sql('one', 'SELECT count(*) FROM b'), '1', '... and brings everything');
};

subtest 'a time in the future' => sub {
	sql('one', "SELECT docrep.create_table('fs')", "SELECT docrep.create_table('ft')", "INSERT INTO fs VALUES ('f', '{}'), ('g', '{}')");
	sql('one', 'ALTER TABLE fs DISABLE TRIGGER ALL', "UPDATE fs SET _modified = now() + interval '10 years' WHERE _id = 'f'", 'ALTER TABLE fs ENABLE TRIGGER ALL',
		(map { "ALTER TABLE fs ENABLE ALWAYS TRIGGER \"$_\"" } split /\n/, sql('one', "SELECT tgname FROM pg_trigger WHERE tgrelid = 'fs'::regclass AND tgenabled = 'A'")));
	start('one', 'future', 'fs', 'ft', delay => '1 s');
	is_in_the_end('one', "SELECT (info #>> '{delayed,until}')::timestamptz > now() + interval '9 years' FROM docrep.scheduler_docs WHERE doc_id = 'future'", 't', 'it is waited for');
	is_in_the_end('one', "SELECT state FROM docrep.active_tasks WHERE doc_id = 'future'", 'parked', 'without a process');
	is(sql('one', 'SELECT count(*) FROM ft'), '0', 'and what follows, too');
	sql('one', "UPDATE fs SET doc = '{\"n\": 2}' WHERE _id = 'f'");
	is_in_the_end('one', 'SELECT count(*) FROM ft', '2', 'an edit puts it right, and is seen before those years are over');
	sql('one', "SELECT docrep.cancel('future')");
};

subtest 'what is kept for a delayed replication, and says so' => sub {
	sql('one', "SELECT docrep.create_table('ks')", "INSERT INTO ks VALUES ('x', '{}')");
	sql('two', "SELECT docrep.create_table('kt')", "SELECT docrep.create_table('km')");
	start('two', 'exact', pg_url($node, 'one', table => 'ks'), 'kt', delay => '1 hour');
	is_in_the_end('two', delayed('exact', 'former_versions'), 'true', 'the source keeps former versions');
	is_in_the_end('two', "SELECT delayed ->> 'former_versions' FROM docrep.active_tasks WHERE doc_id = 'exact'", 'true', '... which active_tasks says, too');

	sql('one', "INSERT INTO docrep.version_holds SELECT uuid, 'h' || i, '1 hour', now() FROM docrep.document_tables, generate_series(1, 1000) i WHERE tbl = 'ks'::regclass");
	start('two', 'inexact', pg_url($node, 'one', table => 'ks'), 'km', delay => '1 hour');
	is_in_the_end('two', delayed('inexact', 'former_versions'), 'false', 'one too many goes on without, and says so');
	is(sql('two', "SELECT state, error_count FROM docrep.scheduler_docs WHERE doc_id = 'inexact'"), 'running|0', '... and does not fail');
	my $result = decode_json(sql('one', "SELECT docrep.create_table('kl')", q{SELECT docrep.replicate('ks', 'kl', '{"delay": "1 hour"}')}) =~ s/^.*\n//r);
	ok(exists $result->{delayed}{former_versions} && !$result->{delayed}{former_versions}, 'a one-shot between tables here likewise');
	is(sql("one", "SELECT count(*) FROM docrep.version_holds h JOIN docrep.document_tables t ON t.uuid = h.tbl WHERE t.tbl = 'ks'::regclass"), 1001, "there are not more of them");
	sql('one', "DELETE FROM docrep.version_holds WHERE holder LIKE 'h%'");
	sql('one', 'CREATE ROLE restricted LOGIN', 'GRANT SELECT ON ks TO restricted', 'ALTER TABLE ks ENABLE ROW LEVEL SECURITY', 'CREATE POLICY p ON ks USING (true)');
	sql('two', "SELECT docrep.cancel('inexact')");
	start('two', 'restricted', pg_url($node, 'one', table => 'ks', user => 'restricted'), 'km', delay => '1 hour');
	is_in_the_end('two', delayed('restricted', 'former_versions'), 'false', 'where row security applies none are given, which is said');
	sql('two', "SELECT docrep.cancel('restricted')");
	sql('one', 'ALTER TABLE ks DISABLE ROW LEVEL SECURITY');
};

# What is old enough is not in the tree any more: its history is that of the versions that are kept.  One document is
# edited, deleted and written again; another comes by replication, several revisions at a time.
subtest 'documents with more revisions in the time than revs_limit' => sub {
	sql('one', "SELECT docrep.create_table('rs', 3)");
	my %db = (ra => 'one', rb => 'two');
	foreach my $name (sort keys %db)
	{
		my $db = $db{$name};
		sql($db, "SELECT docrep.create_table('$name')", 'CREATE TABLE public.came (id text, n int, early boolean)',
			q{CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
				INSERT INTO public.came VALUES (NEW._id, (NEW.doc ->> 'n')::int, (NEW.doc ->> 't')::timestamptz > clock_timestamp() - interval '2 s'); RETURN NULL; END$$},
			"CREATE TRIGGER note AFTER INSERT OR UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION public.note()");
		start($db, $name, $db eq 'one' ? 'rs' : pg_url($node, 'one', table => 'rs'), $name, delay => '2 s', $db eq 'one' ? () : (selector => { n => { '$gte' => 0 } }));
	}
	is_in_the_end('one', "SELECT count(*) FROM docrep.version_holds h JOIN docrep.document_tables t ON t.uuid = h.tbl WHERE t.tbl = 'rs'::regclass", '2', 'versions are kept for both');
	my $edit = q{DO $$DECLARE g int := coalesce((SELECT (doc ->> 'n')::int FROM rs WHERE _id = 'leaps'), 0); BEGIN FOR i IN 1 .. 10 LOOP
		g := g + 5;
		INSERT INTO rs VALUES ('hot', jsonb_build_object('n', g, 't', clock_timestamp())) ON CONFLICT (_id) DO UPDATE SET doc = EXCLUDED.doc;
		IF i = 5 THEN
			DELETE FROM rs WHERE _id = 'hot';
			INSERT INTO rs VALUES ('hot', jsonb_build_object('n', g, 't', clock_timestamp()));
		END IF;
		PERFORM docrep.bulk_docs('rs', jsonb_build_array(jsonb_build_object('_id', 'leaps', '_rev', g || '-' || md5(g::text), 'n', g, 't', clock_timestamp(), '_revisions',
			jsonb_build_object('start', g, 'ids', (SELECT jsonb_agg(md5(r::text) ORDER BY r DESC) FROM generate_series(greatest(1, g - 7), g) r)))), false);
		COMMIT;
		PERFORM pg_sleep(0.03);
		END LOOP; END$$};
	my $got = sub { return sql($_[0], 'SELECT CASE WHEN count(*) = 2 THEN min(n) ELSE 0 END FROM (SELECT count(DISTINCT n) AS n FROM public.came GROUP BY id) x') };
	my $last = time + 90;
	sql('one', $edit) until time > $last || !grep { $got->($_) < 4 } values %db;
	foreach my $name (sort keys %db)
	{
		my $db = $db{$name};
		cmp_ok($got->($db), '>=', 4, "versions of them arrive at $name while they are edited");
		is_in_the_end($db, "SELECT string_agg(doc ->> 'n', ' ') FROM $name", sql('one', "SELECT string_agg(doc ->> 'n', ' ') FROM rs"), '... and the last one');
		is(sql($db, 'SELECT count(*) FROM public.came WHERE early'), '0', '... none of them early');
		is(sql($db, "SELECT count(*) FROM docrep.conflicts('$name')"), '0', '... and as one history');
		sql($db, "SELECT docrep.cancel('$name')");
	}
};

subtest 'a longer delay than versions are held' => sub {
	sql('one', "SELECT docrep.create_table('ls')", "SELECT docrep.create_table('lt')", "INSERT INTO ls VALUES ('x', '{}')");
	my $result = decode_json(sql('one', q{SELECT docrep.replicate('ls', 'lt', '{"delay": "1 year"}')}));
	ok(exists $result->{delayed}{former_versions} && !$result->{delayed}{former_versions}, 'is said');
};

subtest 'and goes when nobody needs it any more' => sub {
	my $rev = kept('ks');
	sql('one', "UPDATE ks SET doc = '{\"n\": 2}'");
	is(sql('one', "SELECT count(*) FROM $rev"), '1', 'a former version is kept');
	sql('two', "SELECT docrep.cancel('exact')");
	sql('one', q{SELECT docrep.start_housekeeping('ks', 'revisions')});
	is_in_the_end('one', q{SELECT state, finished_at IS NOT NULL, last_error IS NULL FROM docrep.housekeeping WHERE tbl = 'ks'::regclass AND kind = 'revisions'}, 'waiting|t|t', 'housekeeping looks after it');
	is(sql('one', "SELECT count(*) FROM $rev"), '1', 'while it is held it stays');
	sql('one', "UPDATE docrep.version_holds SET renewed_at = now() - interval '3 days'", q{SELECT docrep.start_housekeeping('ks', 'revisions')});
	is_in_the_end('one', "SELECT count(*) FROM $rev", '0', 'the hold is over: it goes, though the owner has never asked for any');
	is_in_the_end('one', q{SELECT count(*) FROM docrep.housekeeping WHERE tbl = 'ks'::regclass AND kind = 'revisions'}, '0', '... and with it the work');

	# switched off
	sql('one', "SELECT docrep.set_revisions('ls', 5)", "UPDATE ls SET doc = '{\"n\": 1}'", "UPDATE ls SET doc = '{\"n\": 2}'", "DELETE FROM docrep.version_holds", "SELECT docrep.set_revisions('ls', NULL)");
	is_in_the_end('one', 'SELECT count(*) FROM ' . kept('ls'), '0', 'what was kept goes when it is switched off');
	is_in_the_end('one', q{SELECT count(*) FROM docrep.housekeeping WHERE tbl = 'ls'::regclass}, '0', '... and with it the work, too');
	sql('one', q{SELECT docrep.replicate('ls', 'lt', '{"delay": "1 hour"}')});
	is(sql('one', q{SELECT kind, state FROM docrep.housekeeping WHERE tbl = 'ls'::regclass}), 'revisions|waiting', 'which is there again when it is needed again');
	sql('one', 'DROP TABLE ks', 'DROP TABLE ls');
	is(sql('one', "SELECT count(*) FROM docrep.table_jobs j WHERE NOT EXISTS (SELECT FROM docrep.document_tables t WHERE t.uuid = j.tbl)"), '0', 'nothing is left of dropped tables');
};

$node->stop;
done_testing();
