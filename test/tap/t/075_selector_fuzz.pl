# Whatever selector comes: an answer or DR400, never another error, never a crash.  And
# laws that hold whatever it is: what is negated twice is itself, the order of operands
# does not matter, what has the same canonical text says the same, docrep.find() and
# docrep.changes() find what docrep.matches() does.
#
# The selectors are random in a repeatable way: DOCREP_SEED=n, which is printed, gives the
# same again.  They are made of operators with arguments that mostly suit, of junk, and
# of such texts with some words changed.  "make soak" has many more.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = seed();
my $rounds = is_soak() ? 100 : 1;
my $a_round = $ENV{DOCREP_A_ROUND} // 2000;
my $node = new_node('pg');
my $json = JSON::PP->new->canonical->allow_nonref->ascii;
srand $seed;
diag("DOCREP_SEED=$seed");

# ---------- what may come ----------

sub one { return $_[ int rand @_ ] }
sub chance { return rand() < $_[0] }

# Numbers as text, as they are written: JSON::PP would round some of them.
sub number { return bless \(my $text = one(0, 1, -1, 2, 3, 10, '0.5', '1.0', '-0.0', '1e2', '100', '1e-400', '1e400', '9007199254740993', '12345678901234567890123456789', '0.1000', '-1.5e3', '2147483648', '9223372036854775808')), 'Number' }
sub string { return one('', 'a', 'b', 'ab', 'a.b', 'A', 'é', "e\x{301}", "\x{1F600}", 'number', 'string', 'array', 'object', 'null', 'boolean', '$eq', '\\', '^a', '1', '_id', "x'y\"z", '%_', 'd3', 'zz' x 50) }
sub scalar_value { return one(undef, JSON::PP::true, JSON::PP::false, number(), number(), string(), string()) }
sub field { return one('a', 'a', 'b', 'c', 'a.b', 'b.c', 'a.0', 'a.1.b', 'x\\.y', 'x.y', '_id', '_rev', '_deleted', "x'y\"z", 'é', '0', '\\$eq', '$eq ', 'A') }
sub plain_field { return one('a', 'b', 'c', 'x', '0') }

sub value
{
	my ($depth) = @_;
	return scalar_value() if $depth <= 0 || chance(0.6);
	return [ map { value($depth - 1) } 1 .. rand 4 ] if chance(0.5);
	return { map { one('a', 'b', 'c', 'x.y', '0', '') => value($depth - 1) } 1 .. rand 4 };
}

# What an operator wants, mostly.
sub operator
{
	my ($depth) = @_;
	my $list = sub { return [ map { value(1) } 1 .. rand 5 ] };
	my %arguments = (
		(map { $_ => sub { value(2) } } '$lt', '$lte', '$eq', '$ne', '$gte', '$gt'),
		(map { $_ => $list } '$in', '$nin', '$all'),
		'$exists' => sub { one(JSON::PP::true, JSON::PP::false) },
		'$type' => sub { one('null', 'boolean', 'number', 'string', 'array', 'object', 'x') },
		'$size' => sub { one(0, 1, 2, 3) },
		'$mod' => sub { [ one(1, 2, 3, -2, number()), one(0, 1, -1, number()) ] },
		'$regex' => sub { one('', '^a', 'b$', '[a-c]+', '(?i)A', 'é', '^(a|b)*$', '\\d', '(', 'a{2,1}', '(?<n>a)\\k<n>', string()) },
		'$beginsWith' => sub { string() },
		(map { $_ => sub { selector($depth - 1) } } '$elemMatch', '$allMatch', '$not'),
		'$keyMapMatch' => sub { { one('$eq', '$regex', '$gt', '$beginsWith') => string() } },
	);
	my $name = one(sort keys %arguments);
	return ($name => chance(0.03) ? value(2) : $arguments{$name}->());
}

sub condition
{
	my ($depth) = @_;
	return value(2) if chance(0.25);
	return selector($depth - 1) if $depth > 0 && chance(0.15);
	return { map { operator($depth) } 1 .. one(1, 1, 1, 2, 3) };
}

sub selector
{
	my ($depth) = @_;
	return value(2) if chance(0.02);
	if ($depth > 0 && chance(0.35))
	{
		my $name = one('$and', '$or', '$nor', '$not', '$and', '$or');
		return { $name => selector($depth - 1) } if $name eq '$not';
		return { $name => [ map { selector($depth - 1) } 1 .. one(1, 2, 2, 3, 0) ] };
	}
	return { map { field() => condition($depth) } 1 .. one(1, 1, 1, 2, 3) };
}

# JSON text, numbers as they are.
sub text
{
	my ($x) = @_;
	return $$x if ref $x eq 'Number';
	return '[' . join(',', map { text($_) } @$x) . ']' if ref $x eq 'ARRAY';
	return '{' . join(',', map { $json->encode("$_") . ':' . text($x->{$_}) } sort keys %$x) . '}' if ref $x eq 'HASH';
	return $json->encode($x);
}

# Some of its words become others, go, or come twice.  What is no JSON then is left out later.
sub mutate
{
	my ($text) = @_;
	my @words = $text =~ /("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\[\]{}:,"]+)/g;

	foreach (1 .. one(1, 1, 2, 4))
	{
		my $i = int rand @words;
		my $what = int rand 4;
		if ($what == 0) { $words[$i] = $words[ int rand @words ] }
		elsif ($what == 1) { splice @words, $i, 1 }
		elsif ($what == 2) { $words[$i] = one('"$and"', '"$or"', '"$nor"', '"$not"', '"$elemMatch"', '"$in"', '"$all"', '"$mod"', '"$size"', '"$regex"', '"$x"', '""', '"."', '"a."', '".a"', '"a..b"', '"\\\\"', '"a\\\\.b"', '[]', '{}', 'null', '-1', '1e1000', '"\\ud83d\\ude00"') }
		else
		{
			my $to = $i + int rand 8;
			$to = $#words if $to > $#words;
			splice @words, $i, 0, @words[ $i .. $to ];
		}
	}
	return join '', @words;
}

sub any
{
	my $text = text(selector(one(1, 2, 3, 5)));
	return chance(0.4) ? mutate($text) : $text;
}

sub document { return { map { one('a', 'b', 'c', 'x', 'x.y', '0', 'A', 'é', "x'y\"z", '$eq') => value(3) } 1 .. rand 6 } }

# ---------- what must hold ----------

$node->safe_psql('postgres', <<'SQL');
SELECT docrep.create_table('found');
CREATE INDEX ON found USING gin (doc jsonb_path_ops);
CREATE TABLE docs (n int, doc jsonb);
CREATE TABLE texts (n serial, s text, t text);
CREATE TABLE said (n int, canonical text, verdict text, s jsonb);

CREATE FUNCTION to_json_or_null(s text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN s::jsonb;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END $$;

-- A bit a document, or the SQLSTATE with what is not expected
CREATE FUNCTION verdict(s jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(coalesce(docrep.matches(d.doc, s)::int::text, 'NULL'), '' ORDER BY d.n) FROM docs d);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || CASE WHEN SQLSTATE <> 'DR400' THEN ' ' || SQLERRM ELSE '' END;
END $$;

CREATE FUNCTION canonical(s jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF jsonb_typeof(s) <> 'object' THEN
		RETURN 'DR400';
	END IF;
	RETURN docrep.peer_filter((SELECT uuid FROM docrep.tables WHERE tbl = 'found'::regclass), jsonb_build_object('selector', s)::text);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || CASE WHEN SQLSTATE <> 'DR400' THEN ' ' || SQLERRM ELSE '' END;
END $$;

-- Ids, in three ways
CREATE FUNCTION found_by(how text, s jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE how
		WHEN 'find' THEN (SELECT string_agg(f->>'_id', ' ' ORDER BY f->>'_id') FROM docrep.find('found', s) f)
		WHEN 'changes' THEN (SELECT string_agg(c.id, ' ' ORDER BY c.id) FROM docrep.changes('found', selector => s) c)
		ELSE (SELECT string_agg(_id, ' ' ORDER BY _id) FROM found
			WHERE docrep.matches(doc || jsonb_build_object('_id', _id, '_rev', _rev::text), s)) END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || CASE WHEN SQLSTATE <> 'DR400' THEN ' ' || SQLERRM ELSE '' END;
END $$;

-- A pattern with two selectors in place of 1 and 2
CREATE FUNCTION fill(pattern jsonb, s jsonb, t jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE jsonb_typeof(pattern)
		WHEN 'number' THEN CASE WHEN pattern = '1' THEN s ELSE t END
		WHEN 'array' THEN (SELECT jsonb_agg(fill(e, s, t) ORDER BY i) FROM jsonb_array_elements(pattern) WITH ORDINALITY x (e, i))
		ELSE (SELECT jsonb_object_agg(key, fill(value, s, t)) FROM jsonb_each(pattern)) END
$$;

-- What does not hold of a selector, and of another one with it
CREATE FUNCTION broken(n int, s jsonb, t jsonb) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	v text := verdict(s);
	w text := verdict(t);
	c text := canonical(s);
	a jsonb;
	b jsonb;
	law record;
BEGIN
	IF v !~ '^([01]*|DR400)$' THEN
		RETURN NEXT 'answers ' || v;
	END IF;
	IF c !~ '^(\{.*\}|DR400)$' OR (c = 'DR400') <> (v = 'DR400') THEN
		RETURN NEXT 'canonical is ' || c || ' and answers ' || v;
	END IF;
	IF v = 'DR400' THEN
		RETURN;
	END IF;
	INSERT INTO said VALUES (n, c, v, s);
	IF n % 3 = 0 THEN
		FOR law IN SELECT how, found_by(how, s) AS ids FROM unnest('{find,changes}'::text[]) how LOOP
			IF law.ids IS DISTINCT FROM found_by('matches', s) THEN
				RETURN NEXT law.how || ' gives ' || coalesce(law.ids, 'nothing') || ' and not ' || coalesce(found_by('matches', s), 'nothing');
			END IF;
		END LOOP;
	END IF;
	-- below another operator {} is a value
	IF s = '{}' THEN
		RETURN;
	END IF;
	FOR law IN SELECT * FROM (VALUES
		('and of one', v, jsonb_build_object('$and', jsonb_build_array(s)), true),
		('or of one', v, jsonb_build_object('$or', jsonb_build_array(s)), true),
		('and of twice the same', v, jsonb_build_object('$and', jsonb_build_array(s, s)), false),
		('or of twice the same', v, jsonb_build_object('$or', jsonb_build_array(s, s)), false),
		('not not', v, jsonb_build_object('$not', jsonb_build_object('$not', s)), true),
		('nor of not', v, jsonb_build_object('$nor', jsonb_build_array(jsonb_build_object('$not', s))), true)) l (name, expected, selector, canonical)
	LOOP
		IF verdict(law.selector) <> law.expected THEN
			RETURN NEXT law.name || ': ' || verdict(law.selector) || ' and not ' || law.expected;
		ELSIF law.canonical AND canonical(law.selector) <> c THEN
			RETURN NEXT law.name || ': canonical is ' || canonical(law.selector) || ' and not ' || c;
		END IF;
	END LOOP;
	IF w !~ '^[01]+$' OR t = '{}' THEN
		RETURN;
	END IF;
	FOR law IN SELECT * FROM (VALUES
		('and', (v::bit varying & w::bit varying)::text, '{"$and": [1, 2]}', '{"$and": [2, 1]}'),
		('or', (v::bit varying | w::bit varying)::text, '{"$or": [1, 2]}', '{"$or": [2, 1]}'),
		('nor', NULL, '{"$nor": [1, 2]}', '{"$nor": [2, 1]}'),
		('nor and not or', NULL, '{"$nor": [1, 2]}', '{"$not": {"$or": [1, 2]}}'),
		('not and, or not', NULL, '{"$not": {"$and": [1, 2]}}', '{"$or": [{"$not": 2}, {"$not": 1}]}'),
		('not or, and not', NULL, '{"$not": {"$or": [1, 2]}}', '{"$and": [{"$not": 1}, {"$not": 2}]}'),
		('and in and', NULL, '{"$and": [1, {"$and": [2, 1]}]}', '{"$and": [2, 1]}')) l (name, expected, a, b)
	LOOP
		a := fill(law.a::jsonb, s, t);
		b := fill(law.b::jsonb, s, t);
		IF verdict(a) <> verdict(b) OR verdict(a) <> law.expected THEN
			RETURN NEXT law.name || ' with ' || t || ': ' || verdict(a) || ', ' || verdict(b) || coalesce(', expected ' || law.expected, '');
		ELSIF canonical(a) <> canonical(b) AND law.name <> 'and in and' THEN
			RETURN NEXT law.name || ' with ' || t || ': canonical is ' || canonical(a) || ', and ' || canonical(b);
		END IF;
	END LOOP;
END $$;
SQL

# Lines of texts into a table's columns.
sub load
{
	my ($columns, @lines) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/lines';

	unlink $file;
	append_to_file($file, join '', map { "$_\n" } @lines);
	# quotes and backslashes mean nothing special in this form
	$node->safe_psql('postgres', "\\copy $columns FROM '$file'" . q{ (FORMAT csv, DELIMITER E'\t', QUOTE E'\b')});
	return;
}

# Two tabs or blanks less do not matter to JSON, and a table has room for one line.
sub line { return join "\t", map { s/[\t\n\b]/ /gr } @_ }

my ($accepted, $refused, $no_json) = (0, 0, 0);
foreach my $round (1 .. $rounds)
{
	$node->safe_psql('postgres', 'DELETE FROM found; TRUNCATE docs, texts, said');
	load('docs (n, doc)', map { line($_, text(document())) } 1 .. 30);
	# numbers that no jsonb can hold are none of the selector's
	$node->safe_psql('postgres', q{INSERT INTO found (_id, doc) SELECT 'd' || n, doc FROM docs});
	load('texts (s, t)', map { line(any(), any()) } 1 .. $a_round);
	my $broken = $node->safe_psql('postgres', q{
		SET client_min_messages = error;
		SET enable_seqscan = off;
		SET jit = off;
		SELECT x.s || ' ' || b FROM texts x, broken(x.n, to_json_or_null(x.s), to_json_or_null(x.t)) b
		WHERE to_json_or_null(x.s) IS NOT NULL LIMIT 20});
	is($broken, '', "round $round: whatever comes, an answer or DR400, and all laws hold") or diag("DOCREP_SEED=$seed");
	is($node->safe_psql('postgres', q{SELECT canonical, array_agg(DISTINCT s) FROM said GROUP BY 1 HAVING count(DISTINCT verdict) > 1 LIMIT 5}), '',
		'... what has the same canonical text says the same');
	my @counts = split /\|/, $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM said), count(*) FILTER (WHERE to_json_or_null(s) IS NULL), count(*) FROM texts});
	$accepted += $counts[0];
	$no_json += $counts[1];
	$refused += $counts[2] - $counts[1] - $counts[0];
}
cmp_ok($accepted, '>', $rounds * $a_round / 10, "$accepted selectors were accepted");
cmp_ok($refused, '>', $rounds * $a_round / 20, "... $refused refused, $no_json were no JSON");
is($node->safe_psql('postgres', 'SELECT 1'), 1, 'the server is there');
ok(!log_has($node, qr/was terminated by signal|TRAP:/), '... and has been all the time');
done_testing();
