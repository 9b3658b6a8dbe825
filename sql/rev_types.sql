-- docrep.rev and docrep.revtree: text and binary forms, order, hash, errors
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET search_path = public, docrep;	-- for the operators

-- text form
SELECT r, r::docrep.rev FROM (VALUES ('1-a'), ('007-x'), ('2-a-b'), ('2147483647-x'),
	('3-967A00DFF5E02ADD41819138ABB3284D'), ('1-ABCDEFGHIJKLMNOP'), ('1-é')) v(r);
DO $$
DECLARE
	bad text;
BEGIN
	FOREACH bad IN ARRAY ARRAY['', '1', '1-', '-a', '0-a', '+1-a', ' 1-a', 'a-1', '2147483648-a',
		'1-zz7a00dff5e02add41819138abb3284d', '1-' || repeat('x', 1025)] LOOP
		BEGIN
			PERFORM bad::docrep.rev;
			RAISE EXCEPTION 'accepted: %', bad;
		EXCEPTION WHEN SQLSTATE 'DR400' THEN
			RAISE INFO '%: %', SQLSTATE, left(replace(SQLERRM, repeat('x', 1025), 'x...'), 100);
		END;
	END LOOP;
END
$$;

-- order: generation, then bytes, 32 digits counting as 16 bytes
SELECT r FROM (VALUES ('10-a'), ('9-z'), ('9-ffffffffffffffffffffffffffffffff'), ('9-Z'), ('9-zz'),
	('9-00000000000000000000000000000000'), ('9-é')) v(t), LATERAL (SELECT t::docrep.rev) x(r) ORDER BY r;
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt, docrep.rev_cmp(a, b)
FROM (VALUES ('1-a'::docrep.rev, '1-b'::docrep.rev), ('2-a', '1-b'), ('1-a', '1-a'),
	('1-6162636465666768696a6b6c6d6e6f70', '1-abcdefghijklmnop')) v(a, b);
SELECT docrep.rev_hash('1-6162636465666768696a6b6c6d6e6f70') = docrep.rev_hash('1-abcdefghijklmnop') AS same,
	docrep.rev_hash_extended('1-6162636465666768696a6b6c6d6e6f70', 7) = docrep.rev_hash_extended('1-abcdefghijklmnop', 7) AS same_extended,
	docrep.rev_hash('1-a') <> docrep.rev_hash('2-a') AS generation_counts;
SELECT docrep.rev_generation('12-abc'), docrep.rev_hash_part('12-abc'), docrep.rev_hash_part('3-967A00DFF5E02ADD41819138ABB3284D');

-- indexes
CREATE TEMP TABLE revs (i int, r docrep.rev);
INSERT INTO revs SELECT i, (i % 50 + 1 || '-' || md5(i::text))::docrep.rev FROM generate_series(1, 2000) i;
INSERT INTO revs SELECT i, (i % 50 + 1 || '-s' || i)::docrep.rev FROM generate_series(2001, 3000) i;
CREATE INDEX revs_btree ON revs (r);
CREATE INDEX revs_hash ON revs USING hash (r);
ANALYZE revs;
SELECT count(*), count(DISTINCT r), min(docrep.rev_generation(r)), max(docrep.rev_generation(r)) FROM revs;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT i FROM revs WHERE r = ('8-' || md5('7'))::docrep.rev;
SELECT count(*) FROM revs WHERE r >= '10-00000000000000000000000000000000' AND r < '11-00000000000000000000000000000000';
DROP INDEX revs_btree;
SELECT i FROM revs WHERE r = ('8-' || md5('7'))::docrep.rev;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT count(*) FROM revs a JOIN revs b USING (r);
-- what a row takes: a byte of header, one or two of generation, 16
SELECT DISTINCT pg_column_size(r) FROM revs WHERE i <= 2000;

-- trees
SELECT t::docrep.revtree FROM (VALUES (''), ('1-a'), ('3-abc(deleted) <- 2-b; 2-x'),
	('2-x;3-abc(deleted)<-2-b'),
	('4-d <- 3-c <- 2-b <- 1-a; 3-x(deleted) <- 2-b^1; 2-y <- 1-a^1'),
	('35-b <- 34-a(deleted) <- +25 older; 2-967A00DFF5E02ADD41819138ABB3284D'),
	('2-"a b\"c\\" <- 1-"é;<-"'),
	('2-z <- 1-x; 2-z <- 1-y')) v(t);
DO $$
DECLARE
	bad text;
BEGIN
	FOREACH bad IN ARRAY ARRAY['x', '1-a <-', '1-a; ', '3-a <- 1-b', '1-a <- 0-b', '2-a <- 1-b^1', '1-b^1',
		'2-a <- 1-x; 2-b <- 1-y^1', '2-a <- 1-x; 2-b <- 1-x^2', '2-a <- 1-x; 2-a <- 1-x^1', '1-a; 1-a',
		'2-a; 3-b <- 2-a^1', '3-a <- +3 older', '3-a <- +0 older', '3-a <- +1 younger', '+1 older',
		'3-a <- +1 older; 4-b <- +1 older', '1-"a', '1-"a\', '1-a b', '1-a(delete)', '1-"', '1-""'] LOOP
		BEGIN
			PERFORM bad::docrep.revtree;
			RAISE EXCEPTION 'accepted: %', bad;
		EXCEPTION WHEN SQLSTATE 'DR400' THEN
			RAISE INFO '%: % (%)', SQLSTATE, SQLERRM, bad;
		END;
	END LOOP;
END
$$;

-- both forms go out and come back
CREATE TEMP TABLE trees (i int, r docrep.rev, t docrep.revtree);
INSERT INTO trees VALUES
	(1, '1-a', '1-a'),
	(2, '3-abc', '3-abc(deleted) <- 2-b; 2-x'),
	(3, '4-d', '4-d <- 3-c <- 2-b <- 1-a; 3-x(deleted) <- 2-b^1; 2-y <- 1-a^1'),
	(4, '35-b', '35-b <- 34-a(deleted) <- +25 older; 2-967a00dff5e02add41819138abb3284d'),
	(5, '2-"a b"', '2-"a b\"c\\" <- 1-"é;<-"');
INSERT INTO trees SELECT 6, '100-x', string_agg(g || '-' || md5(g::text), ' <- ' ORDER BY g DESC)::docrep.revtree
FROM generate_series(1, 100) g;
SELECT current_setting('data_directory') || '/docrep_rev_types.text' AS text_file,
	current_setting('data_directory') || '/docrep_rev_types.binary' AS binary_file \gset
COPY trees TO :'text_file';
COPY trees TO :'binary_file' (FORMAT binary);
CREATE TEMP TABLE trees2 (LIKE trees);
CREATE TEMP TABLE trees3 (LIKE trees);
COPY trees2 FROM :'text_file';
COPY trees3 FROM :'binary_file' (FORMAT binary);
SELECT a.i, a.r = b.r AND b.r = c.r AS same_rev,
	a.t::text = b.t::text AND b.t::text = c.t::text AS same_text,
	docrep.revtree_send(a.t) = docrep.revtree_send(c.t) AS same_bytes
FROM trees a JOIN trees2 b USING (i) JOIN trees3 c USING (i) ORDER BY i;
