-- src/store/rev_type.sql: the types docrep.rev and docrep.revtree

CREATE TYPE docrep.rev;
COMMENT ON TYPE docrep.rev IS 'a revision: generation, hyphen, identifier';

CREATE FUNCTION docrep.rev_in(cstring) RETURNS docrep.rev
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_in';
COMMENT ON FUNCTION docrep.rev_in(cstring) IS 'input of docrep.rev';

CREATE FUNCTION docrep.rev_out(docrep.rev) RETURNS cstring
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_out';
COMMENT ON FUNCTION docrep.rev_out(docrep.rev) IS 'output of docrep.rev';

CREATE FUNCTION docrep.rev_recv(internal) RETURNS docrep.rev
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_recv';
COMMENT ON FUNCTION docrep.rev_recv(internal) IS 'binary input of docrep.rev';

CREATE FUNCTION docrep.rev_send(docrep.rev) RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_send';
COMMENT ON FUNCTION docrep.rev_send(docrep.rev) IS 'binary output of docrep.rev';

-- storage main: short headers, and never out of line
CREATE TYPE docrep.rev (
	INPUT = docrep.rev_in,
	OUTPUT = docrep.rev_out,
	RECEIVE = docrep.rev_recv,
	SEND = docrep.rev_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = main
);

CREATE FUNCTION docrep.rev_lt(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_lt';
COMMENT ON FUNCTION docrep.rev_lt(docrep.rev, docrep.rev) IS 'implementation of the operator <';

CREATE FUNCTION docrep.rev_le(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_le';
COMMENT ON FUNCTION docrep.rev_le(docrep.rev, docrep.rev) IS 'implementation of the operator <=';

CREATE FUNCTION docrep.rev_eq(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_eq_op';
COMMENT ON FUNCTION docrep.rev_eq(docrep.rev, docrep.rev) IS 'implementation of the operator =';

CREATE FUNCTION docrep.rev_ne(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_ne';
COMMENT ON FUNCTION docrep.rev_ne(docrep.rev, docrep.rev) IS 'implementation of the operator <>';

CREATE FUNCTION docrep.rev_ge(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_ge';
COMMENT ON FUNCTION docrep.rev_ge(docrep.rev, docrep.rev) IS 'implementation of the operator >=';

CREATE FUNCTION docrep.rev_gt(docrep.rev, docrep.rev) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_gt';
COMMENT ON FUNCTION docrep.rev_gt(docrep.rev, docrep.rev) IS 'implementation of the operator >';

CREATE FUNCTION docrep.rev_cmp(docrep.rev, docrep.rev) RETURNS integer
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_cmp_op';
COMMENT ON FUNCTION docrep.rev_cmp(docrep.rev, docrep.rev) IS 'order of revisions: -1, 0 or 1';

CREATE FUNCTION docrep.rev_hash(docrep.rev) RETURNS integer
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_hash';
COMMENT ON FUNCTION docrep.rev_hash(docrep.rev) IS 'hash of a revision';

CREATE FUNCTION docrep.rev_hash_extended(docrep.rev, bigint) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_hash_extended';
COMMENT ON FUNCTION docrep.rev_hash_extended(docrep.rev, bigint) IS 'hash of a revision, with a seed';

CREATE OPERATOR pg_catalog.< (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_lt,
	COMMUTATOR = OPERATOR(pg_catalog.>),
	NEGATOR = OPERATOR(pg_catalog.>=),
	RESTRICT = scalarltsel,
	JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (docrep.rev, docrep.rev) IS 'less than';

CREATE OPERATOR pg_catalog.<= (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_le,
	COMMUTATOR = OPERATOR(pg_catalog.>=),
	NEGATOR = OPERATOR(pg_catalog.>),
	RESTRICT = scalarlesel,
	JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (docrep.rev, docrep.rev) IS 'less than or equal';

CREATE OPERATOR pg_catalog.= (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_eq,
	COMMUTATOR = OPERATOR(pg_catalog.=),
	NEGATOR = OPERATOR(pg_catalog.<>),
	RESTRICT = eqsel,
	JOIN = eqjoinsel,
	HASHES,
	MERGES
);
COMMENT ON OPERATOR pg_catalog.= (docrep.rev, docrep.rev) IS 'equal';

CREATE OPERATOR pg_catalog.<> (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_ne,
	COMMUTATOR = OPERATOR(pg_catalog.<>),
	NEGATOR = OPERATOR(pg_catalog.=),
	RESTRICT = neqsel,
	JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (docrep.rev, docrep.rev) IS 'not equal';

CREATE OPERATOR pg_catalog.>= (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_ge,
	COMMUTATOR = OPERATOR(pg_catalog.<=),
	NEGATOR = OPERATOR(pg_catalog.<),
	RESTRICT = scalargesel,
	JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (docrep.rev, docrep.rev) IS 'greater than or equal';

CREATE OPERATOR pg_catalog.> (
	LEFTARG = docrep.rev,
	RIGHTARG = docrep.rev,
	FUNCTION = docrep.rev_gt,
	COMMUTATOR = OPERATOR(pg_catalog.<),
	NEGATOR = OPERATOR(pg_catalog.<=),
	RESTRICT = scalargtsel,
	JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (docrep.rev, docrep.rev) IS 'greater than';

CREATE OPERATOR CLASS docrep.rev_ops DEFAULT FOR TYPE docrep.rev USING btree AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 docrep.rev_cmp(docrep.rev, docrep.rev);
COMMENT ON OPERATOR CLASS docrep.rev_ops USING btree IS 'CouchDB''s order of revisions';

CREATE OPERATOR CLASS docrep.rev_ops DEFAULT FOR TYPE docrep.rev USING hash AS
	OPERATOR 1 pg_catalog.=,
	FUNCTION 1 docrep.rev_hash(docrep.rev),
	FUNCTION 2 docrep.rev_hash_extended(docrep.rev, bigint);
COMMENT ON OPERATOR CLASS docrep.rev_ops USING hash IS 'equality of revisions';

CREATE FUNCTION docrep.rev_generation(docrep.rev) RETURNS integer
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_generation';
COMMENT ON FUNCTION docrep.rev_generation(docrep.rev) IS 'generation of a revision: 3 of 3-abc';

CREATE FUNCTION docrep.rev_hash_part(docrep.rev) RETURNS text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_rev_hash_part';
COMMENT ON FUNCTION docrep.rev_hash_part(docrep.rev) IS 'identifier of a revision without its generation: abc of 3-abc';

CREATE TYPE docrep.revtree;
COMMENT ON TYPE docrep.revtree IS 'the revision tree of a document: a line for each leaf, winner first';

CREATE FUNCTION docrep.revtree_in(cstring) RETURNS docrep.revtree
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_revtree_in';
COMMENT ON FUNCTION docrep.revtree_in(cstring) IS 'input of docrep.revtree';

CREATE FUNCTION docrep.revtree_out(docrep.revtree) RETURNS cstring
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_revtree_out';
COMMENT ON FUNCTION docrep.revtree_out(docrep.revtree) IS 'output of docrep.revtree';

CREATE FUNCTION docrep.revtree_recv(internal) RETURNS docrep.revtree
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_revtree_recv';
COMMENT ON FUNCTION docrep.revtree_recv(internal) IS 'binary input of docrep.revtree';

CREATE FUNCTION docrep.revtree_send(docrep.revtree) RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'docrep_revtree_send';
COMMENT ON FUNCTION docrep.revtree_send(docrep.revtree) IS 'binary output of docrep.revtree';

-- storage main: hashes do not compress, and the body goes out of line first
CREATE TYPE docrep.revtree (
	INPUT = docrep.revtree_in,
	OUTPUT = docrep.revtree_out,
	RECEIVE = docrep.revtree_recv,
	SEND = docrep.revtree_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = main
);
