# Filters of replications, with sources of each kind: a table of this database, a
# table of another server, a CouchDB.  What passes arrives and nothing else does; what was
# scanned in vain is not scanned again; another filter starts over; functions that are no
# good do no harm.
use strict;
use warnings;

use DocrepCouch;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote replicate);
use JSON::PP;
use Test::More;

my $near = new_node('near', databases => ['one'], conf => 'docrep.worker_linger = 0');
my $far = new_node('far', databases => ['two']);
my $couch = DocrepCouch->new;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->canonical;
my $tables = 0;

# ---------- the same documents everywhere ----------

my @docs = (
	(map { { id => "orders/$_", revs => ["1-$_"], body => "\"type\":\"order\",\"n\":$_" } } 1 .. 5),
	(map { { id => "users-$_", revs => ["1-$_"], body => "\"type\":\"user\",\"n\":$_" } } 1 .. 5),
	{ id => 'gone', revs => [ '2-d', '1-d' ], deleted => 1, body => '' },
	{ id => 'kept', revs => [ '2-k', '1-k' ], deleted => 1, body => '"type":"order"' },
	{ id => 'both', revs => ['1-b'], body => '"type":"order"' },
	{ id => 'both', revs => ['1-a'], body => '"type":"user"' },
	{ id => '_design/app', revs => ['1-x'],
		body => '"filters":{"by_type":"function (doc, req) { return doc.type === req.query.type; }","bad":"function () { throw 1; }"},'
		  . '"views":{"numbers":{"map":"function (doc) { if (doc.n) emit(doc.n); }"}}' },
);

# As bulk_docs takes them.
sub as_json
{
	my ($doc) = @_;
	my ($start) = $doc->{revs}[0] =~ /^(\d+)/;
	my @ids = map { s/^\d+-//r } @{ $doc->{revs} };
	return $json->encode({ %{ decode_json("{$doc->{body}}") }, _id => $doc->{id}, _rev => $doc->{revs}[0],
		_revisions => { start => 0 + $start, ids => \@ids }, $doc->{deleted} ? (_deleted => $true) : () });
}

my $functions = q{
	CREATE SCHEMA f;
	CREATE FUNCTION f.by_type(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS
		$$SELECT coalesce(doc->>'type' = req->'query'->>'type', false)$$;
	CREATE FUNCTION f.raises(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN IF doc->>'_id' = 'users-3' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN true; END$$;
	CREATE FUNCTION f.nothing(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT NULL::boolean$$;
	CREATE FUNCTION f.sleeps(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_sleep(1000); RETURN true; END$$;
	CREATE TABLE f.log (id text);
	CREATE FUNCTION f.writes(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO f.log VALUES (doc->>'_id'); RETURN true; END$$;
	CREATE FUNCTION f.slow(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN
			IF doc->>'n' <> '300' THEN PERFORM pg_sleep(0.02); RETURN false; END IF;
			PERFORM pg_advisory_xact_lock_shared(300);
			RETURN true;
		END$$;
};
my $texts = quote('[' . join(',', map { as_json($_) } @docs) . ']');
foreach ([ $near, 'one' ], [ $far, 'two' ])
{
	my ($node, $db) = @$_;
	$node->safe_psql($db, "$functions SELECT docrep.create_table('docs'); SELECT docrep.bulk_docs('docs', $texts, false);");
}
$couch->put('docs', @docs);

my %sources = (local => 'docs', postgres => pg_url($far, 'two', table => 'docs'), couchdb => $couch->url('docs'));

# What is in a table: ids, with "-" the deleted ones, and of those with other leaves than one how many.
sub ids
{
	my ($table) = @_;
	return $near->safe_psql('one', qq{SELECT string_agg(CASE WHEN deleted THEN '-' ELSE '' END || id ||
		CASE WHEN jsonb_array_length(changes) > 1 THEN ' ' || jsonb_array_length(changes) ELSE '' END, ',' ORDER BY id COLLATE "C")
		FROM docrep.changes('$table', style => 'all_docs')});
}

sub fresh { return 'here' . ++$tables }

# ---------- what passes ----------

my $orders = join ',', map { "orders/$_" } 1 .. 5;
my $users = join ',', map { "users-$_" } 1 .. 5;
my @cases = (
	[ 'selector', { selector => { type => 'order' } }, "both,-kept,$orders", 'local postgres couchdb' ],
	[ 'a selector of the losing leaf', { selector => { type => 'user' } }, "both,$users", 'local postgres couchdb' ],
	[ 'selector of winners', { selector => { type => 'user' }, winning_revs_only => $true }, $users, 'local postgres couchdb' ],
	[ '_selector', { filter => '_selector', query_params => { selector => { n => 3 } } }, 'orders/3,users-3', 'local postgres couchdb' ],
	[ '_design', { filter => '_design' }, '_design/app', 'local postgres couchdb' ],
	[ 'doc_ids', { doc_ids => [ 'gone', 'orders/2', 'nowhere', 'both' ] }, 'both 2,-gone,orders/2', 'local postgres couchdb' ],
	[ '_doc_ids', { filter => '_doc_ids', query_params => { doc_ids => ['users-1'] } }, 'users-1', 'local postgres couchdb' ],
	[ 'a SQL function', { filter => 'f.by_type', query_params => { type => 'user' } }, "both,$users", 'local postgres' ],
	[ 'JavaScript', { filter => 'app/by_type', query_params => { type => 'user' } }, "both,$users", 'couchdb' ],
	[ '_view', { filter => '_view', query_params => { view => 'app/numbers' } }, "$orders,$users", 'couchdb' ],
	[ 'paths', { paths => [ 'orders/*', 'users-3', 'bo' ] }, "$orders,users-3", 'local postgres couchdb' ],
	[ 'paths and a selector', { paths => [ 'users-*', '_design/*' ], selector => { n => 2 } }, 'users-2', 'local postgres couchdb' ],
	[ 'no deletions', { prevent_deletions => $true }, "_design/app,both 2,$orders,$users", 'local postgres couchdb' ],
	[ 'no paths', { paths => [] }, '', 'local postgres couchdb' ],
);
foreach my $case (@cases)
{
	my ($name, $options, $expected, $kinds) = @$case;
	foreach my $kind (split / /, $kinds)
	{
		my $table = fresh();
		my $result = replicate($near, 'one', $sources{$kind}, $table, create_target => $true, %$options);
		is(ids($table), $expected, "$name: $kind");
		is($result->{doc_write_failures}, 0, '... nothing was refused');
		my $again = replicate($near, 'one', $sources{$kind}, $table, %$options);
		ok($again->{no_changes}, '... and the next run goes on from the end') or diag explain $again;
	}
}
is(scalar(grep { m{_changes\?.*filter=app%2Fby_type&type=user} && /^GET/ } $couch->requests('_changes')) > 0, 1, 'a JavaScript filter is asked for with its parameters');
is(scalar(grep { m{^POST .*filter=_selector} } $couch->requests('_changes')) > 0, 1, '... a selector by POST');

# ---------- the id ----------

$near->safe_psql('one', q{SELECT docrep.create_table('ids')});
sub starts_over
{
	my (%options) = @_;
	return !replicate($near, 'one', 'docs', 'ids', %options)->{no_changes};
}
my %by_type = (filter => 'f.by_type', query_params => { type => 'user' });
ok(starts_over(%by_type), 'a function begins');
ok(!starts_over(%by_type), '... goes on');
ok(starts_over(%by_type, query_params => { type => 'order' }), '... with other parameters begins');
ok(starts_over(%by_type, prevent_deletions => $true), '... without deletions, too');
$near->safe_psql('one', q{CREATE OR REPLACE FUNCTION f.by_type(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS
	$$SELECT coalesce(doc->>'type' = req->'query'->>'type', doc ? '_deleted')$$});
ok(starts_over(%by_type), '... and when it was changed, starts over');
like(ids('ids'), qr/-gone/, '... with what it lets through now');
ok(starts_over(selector => { type => 'user' }), 'a selector begins');
ok(!starts_over(selector => { type => { '$eq' => 'user' } }), '... and one that means the same goes on');
ok(starts_over(paths => [ 'a/*', 'b' ]), 'paths begin');
ok(!starts_over(paths => [ 'b', 'a/*', 'b' ]), '... in any order');

# a function at the other server, and JavaScript
foreach my $kind ('postgres', 'couchdb')
{
	my $table = fresh();
	my %filter = $kind eq 'postgres' ? %by_type : (filter => 'app/by_type', query_params => { type => 'user' });
	replicate($near, 'one', $sources{$kind}, $table, create_target => $true, %filter);
	if ($kind eq 'postgres')
	{
		$far->safe_psql('two', q{CREATE OR REPLACE FUNCTION f.by_type(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS
			$$SELECT coalesce(doc->>'type' <> req->'query'->>'type', false)$$});
	}
	else
	{
		$couch->put('docs', { id => '_design/app', revs => [ '2-y', '1-x' ],
			body => '"filters":{"by_type":"function (doc, req) { /* of some other */ return doc.type === req.query.type; }","bad":"function () { throw 1; }"}' });
	}
	my $result = replicate($near, 'one', $sources{$kind}, $table, %filter);
	is($result->{history}[0]{start_last_seq}, 0, "$kind: changed code starts over") or diag explain $result;
	like(ids($table), qr{orders/1}, '... and its documents come') if $kind eq 'postgres';
}

# a continuous job is cancelled by its document though the function is another one by now
replicate($near, 'one', 'docs', 'ids', %by_type, continuous => $true);
$near->safe_psql('one', q{CREATE OR REPLACE FUNCTION f.by_type(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT false$$});
ok(replicate($near, 'one', 'docs', 'ids', %by_type, continuous => $true, cancel => $true)->{ok}, 'a job whose function was changed can be cancelled');

# ---------- filters that are no good ----------

sub fails
{
	my ($source, %options) = @_;
	return sqlstate($near, 'one', 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $source, 'ids', $json->encode(\%options)) . ')');
}
foreach my $kind ('local', 'postgres')
{
	my ($state, $message) = fails($sources{$kind}, filter => 'f.raises');
	# in the message itself, as a task's state shows nothing but that
	like($message, qr/ERROR: [^\n]*f\.raises failed for document "users-3": not this one/, "$kind: a function that raises: the document is named");
	is($state, $kind eq 'local' ? 'P0001' : 'DR500', '... SQLSTATE');
	($state, $message) = fails($sources{$kind}, filter => 'f.nothing');
	is($state, 'DR500', "$kind: NULL is an error");
	like($message, qr{f\.nothing returned NULL for document "}, '... which names the document');
	($state, $message) = fails($sources{$kind}, filter => 'f.writes');
	like($message, qr/cannot execute INSERT in a read-only transaction/, "$kind: a function must not write");
	($state, $message) = fails($sources{$kind}, filter => 'f.missing');
	is($state, 'DR404', "$kind: a function that is not there");
	like($message, qr/f\.missing/, '... is named');
	is(($kind eq 'local' ? $near : $far)->safe_psql($kind eq 'local' ? 'one' : 'two', 'SELECT count(*) FROM f.log'), 0, '... nothing was written');
}
my ($state, $message) = fails($sources{couchdb}, filter => 'none/f');
is($state, 'DR404', 'couchdb: no design document');
$near->safe_psql('one', 'INSERT INTO docrep.replicator(_id, doc) VALUES (' . quote('lacks') . ', '
	  . quote($json->encode({ source => $sources{couchdb}, target => 'ids', continuous => JSON::PP::true, filter => 'none/f' })) . ')');
wait_for_query($near, 'one', q{SELECT state || (info ->> 'error' ~ 'none') FROM docrep.scheduler_docs WHERE doc_id = 'lacks'}, 'errortrue');
pass('... and a task is in error, not crashing, until there is one');
$near->safe_psql('one', q{SELECT docrep.cancel('lacks')});
like($message, qr{"none/f" does not exist.*_design/none}s, '... is named');
($state, $message) = fails($sources{couchdb}, filter => 'app/none');
is($state, 'DR404', 'couchdb: no such function');
($state, $message) = fails($sources{couchdb}, filter => 'app/bad');
is($state, 'DR500', 'couchdb: a filter that throws');
like($message, qr/TypeError: doc\.a is undefined/, '... says what it said');
is(scalar $couch->requests('filter=app%2Fbad'), 1, '... and is not asked again');

# ---------- functions that take their time ----------

foreach my $kind ('local', 'postgres')
{
	my %options = (filter => 'f.sleeps', continuous => $true);
	my $table = fresh();
	$near->safe_psql('one', "SELECT docrep.create_table('$table')");
	$near->safe_psql('one', 'INSERT INTO docrep.replicator (_id, doc) VALUES (' . quote($table) . ', '
		. quote($json->encode({ source => $sources{$kind}, target => $table, %options })) . ')');
	my ($node, $db) = $kind eq 'local' ? ($near, 'one') : ($far, 'two');
	wait_until(sub { $node->safe_psql($db, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()}) > 0 },
		undef, "$kind: the function to sleep");
	$near->safe_psql('one', 'DELETE FROM docrep.replicator WHERE _id = ' . quote($table));
	wait_until(sub { $near->safe_psql('one', q{SELECT count(*) FROM docrep.scheduler_jobs WHERE info::text LIKE '%sleeps%' OR doc_id LIKE 'here%'}) == 0 },
		undef, "$kind: the job to end");
	pass("$kind: a job whose filter sleeps can be ended");
}

# A long way with nothing on it: the checkpoint moves before the end, which waits until that has been seen.
$near->safe_psql('one', q{SELECT docrep.create_table('long');
	INSERT INTO long (_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 300) i});
$near->safe_psql('one', q{SELECT docrep.create_table('little')});
my $gate = DocrepSession->new($near, 'one');
$gate->must('SELECT pg_advisory_lock(300)');
$near->safe_psql('one', q{INSERT INTO docrep.replicator (_id, doc) VALUES ('long', '{"source": "long", "target": "little", "filter": "f.slow",
	"continuous": true, "checkpoint_interval": 100}')});
wait_until(sub { $near->safe_psql('one', q{SELECT count(*) FROM docrep.checkpoints WHERE target LIKE '%little%'}) > 0 }, undef, 'a checkpoint');
is($near->safe_psql('one', q{SELECT count(*) FROM little}), 0, 'a checkpoint comes before the first document that passes');
$gate->close;
wait_until(sub { $near->safe_psql('one', q{SELECT count(*) FROM little}) == 1 }, 60, 'the document that passes');
$near->safe_psql('one', q{DELETE FROM docrep.replicator WHERE _id = 'long'});

# Code that changes while the job runs: it starts over within a minute or so.
SKIP:
{
	skip 'takes a minute: only with make soak', 2 unless is_soak();
	my $crawl = sub { "CREATE OR REPLACE FUNCTION f.crawl(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		\$\$BEGIN PERFORM pg_sleep(0.03); RETURN $_[0]; END\$\$" };
	$near->safe_psql('one', $crawl->('false'));
	$near->safe_psql('one', q{SELECT docrep.create_table('longer'), docrep.create_table('few');
		INSERT INTO longer (_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, 10000) i;
		INSERT INTO docrep.replicator (_id, doc) VALUES ('longer', '{"source": "longer", "target": "few", "filter": "f.crawl", "continuous": true}')});
	wait_until(sub { $near->safe_psql('one', q{SELECT coalesce(max(split_part(source_seq, '-', 1)::int), 0) FROM docrep.active_tasks WHERE doc_id = 'longer'}) > 10 },
		30, 'the job to be beyond the first documents');
	my $id = q{SELECT id FROM docrep.scheduler_jobs WHERE doc_id = 'longer'};
	my $before = $near->safe_psql('one', $id);
	$near->safe_psql('one', $crawl->(q{(doc->>'n')::int < 5}));
	wait_until(sub { $near->safe_psql('one', q{SELECT count(*) FROM few}) == 4 }, 150, 'the first documents, which had been passed over');
	pass('a job starts over when the code of its filter changes');
	isnt($near->safe_psql('one', $id), $before, '... with another id');
	$near->safe_psql('one', q{DELETE FROM docrep.replicator WHERE _id = 'longer'});
}

# ---------- jobs that wait ----------

foreach my $kind ('local', 'postgres', 'couchdb')
{
	my $table = fresh();
	my %options = (continuous => $true, create_target => $true, selector => { type => 'late' });
	replicate($near, 'one', $sources{$kind}, $table, %options);
	foreach my $n (1 .. 3)
	{
		if ($kind eq 'couchdb')
		{
			$couch->put('docs', { id => "no$n", revs => ["1-$n"], body => '"type":"early"' },
				{ id => "late$n", revs => ["1-$n"], body => '"type":"late"' }, { id => "nor$n", revs => ["1-$n"], body => '"type":"early"' });
		}
		else
		{
			my ($node, $db) = $kind eq 'local' ? ($near, 'one') : ($far, 'two');
			$node->safe_psql($db, qq{INSERT INTO docs (_id, doc) VALUES ('no$n', '{"type": "early"}'), ('late$n', '{"type": "late"}'), ('nor$n', '{"type": "early"}')});
		}
		wait_until(sub { ids($table) eq join ',', map { "late$_" } 1 .. $n }, 60, "$kind: document $n");
	}
	is(ids($table), 'late1,late2,late3', "$kind: what passes comes to a job that waits, and nothing else");
	replicate($near, 'one', $sources{$kind}, $table, %options, cancel => $true);
}

# paths with a CouchDB that gives a stream
{
	my $table = fresh();
	my %options = (continuous => $true, create_target => $true, paths => ['p/*'], prevent_deletions => $true);
	replicate($near, 'one', $sources{couchdb}, $table, %options);
	$couch->put('docs', { id => 'q/1', revs => ['1-q'], body => '' }, { id => 'p/1', revs => ['1-p'], body => '' }, { id => 'p/2', revs => ['1-p'], body => '' });
	wait_until(sub { ids($table) eq 'p/1,p/2' }, 60, 'both documents');
	$couch->put('docs', { id => 'p/1', revs => [ '2-p', '1-p' ], deleted => 1, body => '' }, { id => 'p/3', revs => ['1-p'], body => '' });
	wait_until(sub { ids($table) eq 'p/1,p/2,p/3' }, 60, 'the third');
	is(ids($table), 'p/1,p/2,p/3', 'a deletion is kept away');
	replicate($near, 'one', $sources{couchdb}, $table, %options, cancel => $true);
}

# ---------- as whom ----------

$near->safe_psql('one', q{
	CREATE ROLE joe LOGIN;
	SELECT docrep.create_table('joes');
	GRANT SELECT, INSERT, UPDATE, DELETE ON joes TO joe;
	GRANT SELECT ON docs TO joe;
	GRANT USAGE ON SCHEMA f TO joe;
	GRANT EXECUTE ON FUNCTION docrep.replicate(jsonb), docrep.replicate(text, text, jsonb) TO joe;
	CREATE FUNCTION f.whoami(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT current_user = 'joe'$$;
	REVOKE EXECUTE ON FUNCTION f.raises FROM PUBLIC;
});
is((sqlstate($near, 'one', q{SET SESSION AUTHORIZATION joe; SELECT docrep.replicate('docs', 'joes', '{"filter": "f.raises"}')}))[0],
	'42501', 'a function that the role may not call');
$near->safe_psql('one', q{SET SESSION AUTHORIZATION joe; SELECT docrep.replicate('docs', 'joes', '{"filter": "f.whoami", "paths": ["orders/*"]}')});
is(ids('joes'), $orders, 'a function runs as the role of the replication');

# ---------- an older server ----------

# one that speaks the protocol before filters, told by the answer to peer_open
$far->safe_psql('two', q{
	ALTER FUNCTION docrep.peer_open(text, boolean, integer) RENAME TO peer_open_now;
	CREATE FUNCTION docrep.peer_open(name text, create_missing boolean, client_protocol integer, OUT protocol integer, OUT tbl uuid)
		LANGUAGE sql AS $$SELECT 3, o.tbl FROM docrep.peer_open_now(name, create_missing, 3) o$$;
});
($state, $message) = fails($sources{postgres}, selector => { type => 'order' });
is($state, '0A000', 'an older server is not asked for a filter');
like($message, qr/Update docrep there/, '... and what to do is said');
my $plain = fresh();
is(replicate($near, 'one', $sources{postgres}, $plain, create_target => $true)->{doc_write_failures}, 0, '... without one it serves');

done_testing();
