# Selectors: what docrep.matches says of many random selectors and documents is
# what pouchdb-selector-core says, and what CouchDB's rules say as written down in
# js/selector_model.js.  Where PouchDB is known to differ from CouchDB, docrep does
# as CouchDB.  And nothing that is thrown at the compiler gets anything but an
# answer or DR400.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT is_soak);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = seed();
my $count = is_soak() ? 500_000 : 25_000;
diag("DOCREP_SEED=$seed");

my $node = new_node('pg');
$node->safe_psql('postgres', 'CREATE TABLE pairs (selector jsonb, doc jsonb, expected boolean)');

# Puts lines of selectors.js into the table.
sub load_pairs
{
	my ($lines) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/pairs';

	append_to_file($file, $lines);
	# quotes and backslashes mean nothing special in this form
	$node->safe_psql('postgres', "TRUNCATE pairs;\n" . '\copy pairs FROM ' . "'$file'" . q{ (FORMAT csv, DELIMITER E'\t', QUOTE E'\b')});
	return $node->safe_psql('postgres', 'SELECT count(*) FROM pairs');
}

# The first few pairs for which the answer is another one.
sub differences
{
	return $node->safe_psql('postgres',
		q{SELECT selector, doc, 'expected ' || expected FROM pairs
		  WHERE docrep.matches(doc, selector) IS DISTINCT FROM expected LIMIT 10});
}

# ---------- PouchDB, and the rules ----------

foreach my $mode ('pouch', 'model')
{
	is(load_pairs(js('selectors.js', $mode, $count, $seed)), $count, "$mode: $count pairs");
	cmp_ok($node->safe_psql('postgres', "SELECT least(sum(expected::int), sum((NOT expected)::int)) FROM pairs"),
		'>', $count / 20, "$mode: enough match, and enough do not");
	is(differences(), '', "$mode: docrep says the same");

	# docrep.find says the same again, by whatever conditions for indexes
	$node->safe_psql('postgres', q{
		SELECT docrep.create_table('docs');
		CREATE INDEX ON docs USING gin (doc jsonb_path_ops);
		INSERT INTO docs (_id, doc) SELECT 'd' || row_number() OVER (), doc - '_id' FROM (SELECT DISTINCT doc FROM pairs LIMIT 300) p});
	my $wrong = $node->safe_psql('postgres', q{
		SET enable_seqscan = off;
		SELECT selector FROM (SELECT DISTINCT selector FROM pairs LIMIT 600) p
		WHERE ARRAY(SELECT f ->> '_id' FROM docrep.find('docs', selector) f) IS DISTINCT FROM
			ARRAY(SELECT _id FROM docs WHERE docrep.matches(doc || jsonb_build_object('_id', _id, '_rev', _rev::text), selector) ORDER BY _id)
		LIMIT 10});
	is($wrong, '', "$mode: docrep.find finds what matches");
	$node->safe_psql('postgres', "SELECT docrep.drop_table('docs')");
}

# ---------- where PouchDB differs from CouchDB ----------

my $known = load_pairs(js('selectors.js', 'known'));
cmp_ok($known, '>', 10, "$known known differences");
is($node->safe_psql('postgres', 'SELECT selector, doc FROM pairs WHERE docrep.matches(doc, selector) = expected'),
	'', 'in each of them docrep does what PouchDB does not');

# ---------- anything may come ----------

# Random JSON, much of it out of operators, and random bytes of valid selectors changed.
$node->safe_psql('postgres', q{
CREATE FUNCTION junk(depth int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	names text[] := '{$lt,$lte,$eq,$ne,$gte,$gt,$exists,$type,$in,$nin,$size,$mod,$regex,$beginsWith,$all,$elemMatch,$allMatch,$keyMapMatch,$and,$or,$not,$nor,$x,$,"",.,a.,a.b,\\\\,\\\\.,a,b,_id,_rev,_deleted,0,-1}';
	scalars jsonb := '[null, true, false, 0, 1, -1, 2, 0.5, 1e300, 12345678901234567890123456789, "", "a", "^a", "(", "(a*)*b", "[", "\\\\", "(?<n>a)\\\\k<n>", "a{1,99999}", "é", "number"]';
	result jsonb;
BEGIN
	IF depth <= 0 OR random() < 0.2 THEN
		RETURN scalars -> (random() * (jsonb_array_length(scalars) - 1))::int;
	ELSIF random() < 0.25 THEN
		result := '[]';
		FOR i IN 1 .. (random() * 3)::int LOOP
			result := result || jsonb_build_array(junk(depth - 1));
		END LOOP;
	ELSE
		result := '{}';
		FOR i IN 1 .. (random() * 3)::int LOOP
			result := result || jsonb_build_object(names[1 + (random() * (array_length(names, 1) - 1))::int], junk(depth - 1));
		END LOOP;
	END IF;
	RETURN result;
END $$;
CREATE FUNCTION throw(n int, OUT answered int, OUT refused int, OUT other text) LANGUAGE plpgsql AS $$
DECLARE
	selector jsonb;
	doc jsonb;
	answer boolean;
BEGIN
	answered := 0;
	refused := 0;
	FOR i IN 1 .. n LOOP
		selector := junk(5);
		doc := junk(4);
		BEGIN
			answer := docrep.matches(doc, selector);
			IF answer IS NULL THEN
				other := 'NULL: ' || selector;
			END IF;
			answered := answered + 1;
		EXCEPTION WHEN SQLSTATE 'DR400' THEN
			refused := refused + 1;
		WHEN OTHERS THEN
			other := SQLSTATE || ' ' || SQLERRM || ': ' || selector;
		END;
	END LOOP;
END $$});
my $fraction = $seed / 100000;
my $thrown = is_soak() ? 500_000 : 20_000;
my ($answered, $refused, $other) = split /\|/,
  $node->safe_psql('postgres', "SET client_min_messages = error; SELECT setseed($fraction) \\g /dev/null\n SELECT * FROM throw($thrown)"), 3;
is($other, '', "$thrown random selectors: an answer or DR400");
cmp_ok($answered, '>', $thrown / 100, "$answered answers");
cmp_ok($refused, '>', $thrown / 100, "$refused refused");

# A statement that is cancelled ends soon, even in an expression that backtracks.
my $before = time;
my ($status, $stdout, $stderr) = $node->psql('postgres', q{
	SET statement_timeout = '500ms';
	SELECT count(*) FROM generate_series(1, 100000) g
	WHERE docrep.matches(jsonb_build_object('s', repeat('a', 60) || g), '{"s": {"$regex": "^(a+)+$"}}')});
like($stderr, qr/statement timeout/, 'a catastrophic expression can be cancelled');
cmp_ok(time - $before, '<', 60, 'soon');

done_testing();
