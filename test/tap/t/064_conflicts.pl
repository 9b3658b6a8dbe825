# Conflicts between databases that replicate with each other: who wrote what and when
# travels, every policy resolves them the same everywhere, and then there is silence.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT replicate contents is_same_contents check_table quote is_soak);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $true = JSON::PP::true;

my $north = new_node('north', databases => [ 'one', 'two' ], conf => 'docrep.worker_linger = 0');
my $south = new_node('south', databases => ['one']);
my $tables = 0;

# The resolvers: the same everywhere, and one that no two databases agree on.
my $functions = q{
	CREATE FUNCTION longest(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql
		SET search_path = pg_catalog AS
		$$SELECT jsonb_build_object('all', jsonb_agg(v.doc ORDER BY v.doc)) FROM unnest(versions) v$$;
	CREATE FUNCTION larger_max(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql
		SET search_path = pg_catalog AS
		$$SELECT v.doc FROM unnest(versions) v WHERE id LIKE 'Raven/Hilo/%' ORDER BY (v.doc->>'Max')::bigint DESC LIMIT 1$$;
	CREATE FUNCTION stubborn(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb LANGUAGE sql
		SET search_path = pg_catalog AS
		$$SELECT jsonb_build_object('of', docrep.node_uuid(), 'n', (SELECT max(coalesce((v.doc->>'n')::int, 0)) + 1 FROM unnest(versions) v))$$;
};
$_->[0]->safe_psql($_->[1], $functions) foreach [ $north, 'one' ], [ $north, 'two' ], [ $south, 'one' ];

# A new document table in a database, with a policy: its place.
sub place
{
	my ($node, $dbname, $policy, $resolver) = @_;
	my $table = 't' . ++$tables;
	my $place = { node => $node, db => $dbname, table => $table, name => $node->name . "/$dbname/$table",
		url => pg_url($node, $dbname, table => $table) };
	$node->safe_psql($dbname, "SELECT docrep.create_table('$table')");
	policy($place, $policy, $resolver) if $policy;
	return $place;
}

# Runs SQL at a place, where TBL is its table.
sub at
{
	my ($place, $sql) = @_;
	$sql =~ s/\bTBL\b/$place->{table}/g;
	return $place->{node}->safe_psql($place->{db}, $sql);
}

sub policy
{
	my ($place, $policy, $resolver) = @_;
	$resolver = $resolver ? ", 'public.$resolver(regclass, text, docrep.version[])'" : '';
	at($place, "SELECT docrep.set_conflict_policy('TBL', '$policy'$resolver)");
}

# One replication, run at its target.
sub copy
{
	my ($source, $target) = @_;
	return replicate($target->{node}, $target->{db}, $source->{url}, $target->{table})->{docs_written};
}

# Replicates every place to every other until nothing moves; returns how many rounds
# that took (the last, silent one included), or 0 if it did not end.
sub exchange
{
	my (@places) = @_;
	foreach my $round (1 .. 40)
	{
		my $written = 0;
		foreach my $target (@places)
		{
			$written += copy($_, $target) foreach grep { $_ != $target } @places;
		}
		return $round if $written == 0;
	}
	return 0;
}

# All places hold the same, and are sound.
sub same
{
	my ($name, $first, @others) = @_;
	my $contents = contents($first->{node}, $first->{db}, $first->{table});
	is_same_contents($contents, contents($_->{node}, $_->{db}, $_->{table}), "$name: $first->{name} and $_->{name} are the same") foreach @others;
	# what was written alike at several is one revision, with a time at each
	my $rows = q{SELECT md5(string_agg(_id || _rev || doc || CASE WHEN _id ~ '^same' THEN '' ELSE _modified::text END, ',' ORDER BY _id)) FROM TBL};
	is(at($_, $rows), at($first, $rows), "$name: so are the rows of $_->{name}, times included") foreach @others;
	check_table($_->{node}, $_->{db}, $_->{table}, "$name: nothing is wrong with $_->{name}") foreach $first, @others;
}

sub conflicts { return at($_[0], q{SELECT docrep.conflict_count('TBL')}) }

# A revision as it is.
sub incoming
{
	my ($place, $doc) = @_;
	return at($place, q{SELECT string_agg(error || ' ' || reason, ', ') FROM docrep.bulk_docs('TBL', '[} . $doc . q{]', new_edits => false)});
}

my %node = map { $_->[2] => $_->[0]->safe_psql($_->[1], 'SELECT docrep.node_uuid()') }
  [ $north, 'one', 'north one' ], [ $north, 'two', 'north two' ], [ $south, 'one', 'south' ];

# ---------- who wrote it, and when ----------

subtest 'origin and time of modification travel' => sub {
	my ($a, $b, $c) = (place($south, 'one'), place($north, 'one'), place($north, 'two'));
	my $origin = q{SELECT string_agg(_id || ' ' || coalesce(_origin::text, 'here'), ', ' ORDER BY _id) FROM TBL};
	at($a, q{INSERT INTO TBL VALUES ('a', '{"by": "a"}')});
	at($b, q{INSERT INTO TBL VALUES ('b', '{"by": "b"}')});
	is(at($a, $origin), 'a here', 'one of our own');
	copy($a, $b);
	copy($b, $c);
	is(at($b, $origin), "a $node{south}, b here", 'received');
	is(at($c, $origin), "a $node{south}, b $node{'north one'}", 'passed on');
	copy($c, $a);
	is(at($a, $origin), "a here, b $node{'north one'}", 'back home it is our own');
	is(at($_, q{SELECT string_agg(_modified::text, ',' ORDER BY _id) FROM TBL}), at($a, q{SELECT string_agg(_modified::text, ',' ORDER BY _id) FROM TBL}), "times at $_->{name}")
	  foreach $b, $c;

	# pushed, too
	my $pushed = place($south, 'one');
	replicate($north, 'two', $c->{table}, $pushed->{url});
	is(at($pushed, $origin), "a here, b $node{'north one'}", 'pushed');
	# two tables of one database
	my $copy = place($south, 'one');
	replicate($south, 'one', $a->{table}, $copy->{table});
	is(at($copy, $origin), "a here, b $node{'north one'}", 'between tables of one database');

	# losing leaves and tombstones
	incoming($a, q{{"_id": "a", "_rev": "1-0", "by": "a too"}});
	at($a, q{DELETE FROM TBL WHERE _id = 'b'});
	copy($a, $c);
	is(at($c, q{SELECT string_agg(origin, ', ') FROM docrep.conflicts('TBL')}), "$node{south}, $node{south}", 'of a losing leaf');
	my $dead = at($c, q{SELECT 'docrep_data.dead_' || replace(uuid::text, '-', '') FROM docrep.document_tables WHERE tbl = 'TBL'::regclass});
	is(at($c, "SELECT _origin FROM $dead WHERE _id = 'b'"), $node{south}, 'of a tombstone');

	# an edit is ours, whoever wrote what it goes on from
	at($c, q{UPDATE TBL SET doc = '{}' WHERE _id = 'a'});
	is(at($c, $origin), 'a here', 'of an edit');
};

subtest 'a source that does not know' => sub {
	my ($old, $new) = (place($south, 'one'), place($north, 'one'));
	at($old, q{INSERT INTO TBL VALUES ('a', '{}')});
	# docrep as it was before origins
	$south->safe_psql('one', q{
		ALTER FUNCTION docrep.peer_open(text, boolean, integer) RENAME TO peer_open_now;
		CREATE FUNCTION docrep.peer_open(name text, create_missing boolean, client_protocol integer, OUT protocol integer, OUT tbl uuid)
			LANGUAGE sql AS $$SELECT o.protocol, o.tbl FROM docrep.peer_open_now(name, create_missing, 4) o$$});
	is(copy($old, $new), 1, 'docrep before protocol 5 can be read');
	at($new, q{INSERT INTO TBL VALUES ('b', '{}')});
	is(replicate($north, 'one', $new->{table}, $old->{url})->{docs_written}, 1, 'and written to');
	$south->safe_psql('one', q{DROP FUNCTION docrep.peer_open(text, boolean, integer);
		ALTER FUNCTION docrep.peer_open_now(text, boolean, integer) RENAME TO peer_open});
	like(at($new, q{SELECT name FROM docrep.origins JOIN TBL ON _origin = uuid WHERE _id = 'a'}), qr/^postgres.*#$old->{table}$/, 'the origin is the source');

	# a CouchDB: when and from where it arrived
	my $lab = DocrepFaults->new($north, 'one', DocrepCouch->new);
	my $case = $lab->fresh('pull', { id => 'c', revs => [ DocrepFaults::rev(1, 'a') ], body => '"n":1' }, { id => 'c', revs => [ DocrepFaults::rev(1, 'b') ], body => '"n":2' });
	# none of the tests' short times: nothing fails here
	$lab->run($case, connection_timeout => 30_000, request_timeout => undef);
	my $pulled = { %$new, table => $case->{table} };
	is(at($pulled, q{SELECT concat(count(*), bool_and(_modified > now() - interval '5 minutes'), count(o.uuid), bool_and(o.name ~ '^http://127\.0\.0\.1:\d+/')) FROM TBL LEFT JOIN docrep.origins o ON o.uuid = _origin}), '1t1t', 'from CouchDB');
	my $other = place($south, 'one');
	copy({ %$pulled, url => pg_url($north, 'one', table => $case->{table}) }, $other);
	is(at($other, q{SELECT _origin FROM TBL}), at($pulled, q{SELECT _origin FROM TBL}), 'and from there it travels on');
};

# ---------- a pair, every policy ----------

# The same documents at each of the places, written apart.
sub write_apart
{
	my (@places) = @_;
	foreach my $i (0 .. $#places)
	{
		at($places[$i], qq{
			INSERT INTO TBL(_id, doc) SELECT 'both ' || n, jsonb_build_object('n', n, 'by', $i) FROM generate_series(1, 30) n ON CONFLICT DO NOTHING;
			INSERT INTO TBL(_id, doc) SELECT 'same ' || n, jsonb_build_object('n', n) FROM generate_series(1, 10) n ON CONFLICT DO NOTHING;
			UPDATE TBL SET doc = doc || '{"twice": true}' WHERE (doc->>'n')::int % 3 = $i;
			UPDATE TBL SET doc = doc - 'twice' WHERE _id LIKE 'same%' AND doc ? 'twice';
			DELETE FROM TBL WHERE (doc->>'n')::int % 7 = $i;
			SELECT count(*) FROM docrep.bulk_docs('TBL', (SELECT jsonb_agg(doc || jsonb_build_object('_id', _id, '_rev', _rev::text, '_attachments',
				jsonb_build_object('f' || $i, jsonb_build_object('data', encode(convert_to($i || _id, 'UTF8'), 'base64'))))) FROM TBL WHERE (doc->>'n')::int % 5 = 1));
		});
	}
}

my %policies = (
	identical => [ 'identical', undef, 'left' ],
	latest => [ 'latest', undef, 'none' ],
	function => [ 'function', 'longest', 'none' ],
	'function then latest' => [ 'function,latest,mark', 'larger_max', 'none' ],
	mark => [ 'mark', undef, 'left' ],
	keep => [ 'keep', undef, 'left' ],
);
foreach my $name (sort keys %policies)
{
	my ($policy, $resolver, $left) = @{ $policies{$name} };
	subtest "policy $name: databases that replicate" => sub {
		foreach my $n ($name eq 'latest' ? (2, 3) : 3)
		{
			my @places = map { place(@$_, $policy, $resolver) } ([ $north, 'one' ], [ $south, 'one' ], [ $north, 'two' ])[ 0 .. $n - 1 ];
			write_apart(@places);
			my $rounds = exchange(@places);
			ok($rounds > 0 && $rounds <= 6, "$n databases fall silent") or diag "after $rounds rounds";
			same("$n databases", @places);
			if ($left eq 'none') { is(conflicts($_), 0, "no conflict is left at $_->{name}") foreach @places }
			else { cmp_ok(conflicts($_), '>', 0, "conflicts are left at $_->{name}") foreach @places }
			is(at($places[0], q{SELECT count(*) FROM docrep.resolution_problems WHERE tbl = 'TBL'::regclass}), 0, 'no problems');
		}
	};
	subtest "policy $name: resolved at the same time, without a word between them" => sub {
		my @places = map { place(@$_) } ([ $north, 'one' ], [ $south, 'one' ], [ $north, 'two' ])[ 0 .. ($name eq 'latest' ? 2 : 1) ];
		write_apart(@places);
		cmp_ok(exchange(@places), '>', 0, 'all have all versions');
		foreach my $place (@places)
		{
			policy($place, $policy, $resolver);
			at($place, q{SELECT * FROM docrep.resolve_conflicts('TBL', 100000)});
		}
		same('as by agreement', @places);
		is(exchange(@places), 1, 'what each has made, the others have');
		is(conflicts($_), conflicts($places[0]), "as many conflicts at $_->{name}") foreach @places;
	};
}

# ---------- replications that run ----------

sub continuously
{
	my ($source, $target) = @_;
	my $result = replicate($target->{node}, $target->{db}, $source->{url}, $target->{table}, continuous => $true);
	return { place => $target, source => $source, id => $result->{_local_id} };
}

sub task { return at($_[0]{place}, "SELECT $_[1] FROM docrep.active_tasks WHERE replication_id = '$_[0]{id}'") }

# Figures come after what they count: those of an earlier silence know nothing of the source's last change.
sub quiet
{
	my $last = at($_[0]{source}, q{SELECT coalesce(max(seq), 0) FROM docrep.changes('TBL')});
	return task($_[0], qq{coalesce(state IN ('idle', 'parked') AND changes_pending = 0
		AND split_part(through_seq, '-', 1)::bigint >= $last
		AND through_seq = source_seq AND checkpointed_source_seq = through_seq, false)}) eq 't';
}

sub cancel { at($_[0]{place}, qq{SELECT docrep.replicate('{"cancel": true, "replication_id": "$_[0]{id}"}')}) }

my $digest = q{SELECT md5(string_agg(id || deleted || changes, ',' ORDER BY id COLLATE "C")) FROM docrep.changes('TBL', style => 'all_docs')};

subtest 'a master-master cycle that runs, with a crash in the middle' => sub {
	my ($a, $b) = (place($north, 'one', 'latest'), place($south, 'one', 'latest'));
	my @jobs = (continuously($a, $b), continuously($b, $a));
	write_apart($a, $b);
	$south->stop('immediate');
	at($a, q{UPDATE TBL SET doc = doc || '{"a": 1}' WHERE _id LIKE 'both 1%'});
	$south->start;
	$jobs[0] = continuously($a, $b);
	at($b, q{UPDATE TBL SET doc = doc || '{"b": 1}' WHERE _id LIKE 'both 2%'});
	at($a, q{INSERT INTO TBL VALUES ('last of a', '{}')});
	at($b, q{INSERT INTO TBL VALUES ('last of b', '{}')});
	wait_until(sub { at($a, q{SELECT count(*) FROM TBL WHERE _id LIKE 'last of%'}) eq '2' && at($b, q{SELECT count(*) FROM TBL WHERE _id LIKE 'last of%'}) eq '2' }, undef, 'both edits');
	wait_until(sub { at($a, $digest) eq at($b, $digest) && !grep { !quiet($_) } @jobs }, undef, 'silence');
	same('a cycle', $a, $b);
	is(conflicts($_), 0, "no conflict at $_->{name}") foreach $a, $b;
	# one more edit makes one round
	my @before = map { task($_, 'docs_written') } @jobs;
	at($a, q{INSERT INTO TBL VALUES ('ping', '{}')});
	wait_until(sub { at($b, q{SELECT count(*) FROM TBL WHERE _id = 'ping'}) eq '1' && !grep { !quiet($_) } @jobs }, undef, 'one more');
	is(task($jobs[0], 'docs_written') - $before[0], 1, 'the document was written once');
	is(task($jobs[1], 'docs_written') - $before[1], 0, 'and did not come back');
	# and one that meets another of the same document
	at($a, q{UPDATE TBL SET doc = '{"of": "a"}' WHERE _id = 'ping'});
	at($b, q{UPDATE TBL SET doc = '{"of": "b"}' WHERE _id = 'ping'});
	wait_until(sub { at($a, $digest) eq at($b, $digest) && !grep { !quiet($_) } @jobs }, undef, 'a conflict is resolved');
	same('a conflict', $a, $b);
	cmp_ok(task($jobs[0], 'docs_written') - $before[0] + task($jobs[1], 'docs_written') - $before[1], '<=', 8, 'with few documents sent');
	cancel($_) foreach @jobs;
};

subtest 'different policies do not play ping-pong for ever' => sub {
	my ($a, $b) = (place($north, 'one', 'function', 'stubborn'), place($south, 'one', 'function', 'stubborn'));
	incoming($a, q{{"_id": "d", "_rev": "1-a", "n": 1}, {"_id": "d", "_rev": "1-b", "n": 2}});
	incoming($b, q{{"_id": "d", "_rev": "1-a", "n": 1}, {"_id": "d", "_rev": "1-b", "n": 2}});
	# each sends before it has seen the other's answer: the worst that can happen
	my $rounds = 0;
	my @jobs = (continuously($a, $b), continuously($b, $a));
	wait_until(sub { at($a, $digest) eq at($b, $digest) && !grep { !quiet($_) } @jobs }, undef, 'silence');
	cancel($_) foreach @jobs;
	same('in the end', $a, $b) if conflicts($a) == 0;
	my @said = map { at($_, q{SELECT coalesce(max(rounds), 0) FROM docrep.resolutions r JOIN docrep.document_tables d ON d.uuid = r.tbl WHERE d.tbl = 'TBL'::regclass}) } $a, $b;
	cmp_ok($_, '<=', 16, 'no more than 16 resolutions') foreach @said;

	# without a chance to agree: what the other has made of it comes each time
	my $c = place($north, 'one', 'function', 'stubborn');
	incoming($c, qq{{"_id": "d", "_rev": "9-$_", "n": $_}}) foreach 1 .. 25;
	is(at($c, q{SELECT rounds || ' ' || sqlstate || ' ' || policy FROM docrep.resolution_problems WHERE tbl = 'TBL'::regclass}), '16 DR409 function', 'after 16 it is reported');
	cmp_ok(conflicts($c), '==', 1, 'and the conflict stays');
	ok($north->log_contains('a conflict of document "d" in "' . $c->{table} . '" is no longer resolved automatically'), 'the log says so') if $north->can('log_contains');
	at($c, q{SELECT docrep.resolve('TBL', 'd', doc => '{}')});
	is(at($c, q{SELECT count(*) FROM docrep.resolutions r JOIN docrep.document_tables d ON d.uuid = r.tbl WHERE d.tbl = 'TBL'::regclass}) . conflicts($c), '00', 'resolving it by hand forgets that');
	is(incoming($c, q{{"_id": "d", "_rev": "99-a"}}), '', 'the next one');
	is(conflicts($c), 0, 'is resolved again');
};

# ---------- the scenarios of RavenDB ----------

subtest 'Conflict rule' => sub {
	my ($a, $b) = (place($north, 'one'), place($south, 'one'));
	my $tree = q{SELECT coalesce(_tree::text, _rev::text) FROM TBL WHERE _id = 'x'};
	my $path = sub { my ($rev, @older) = @_; my @ids = map { s/^\d+-//r } $rev, @older;
		return sprintf '{"_id": "x", "_rev": "%s", "_revisions": {"start": %d, "ids": %s}}', $rev, $rev =~ /^(\d+)/, encode_json(\@ids) };
	my @cases = (
		[ 'all remote lower: nothing happens', [ '2-b', '1-a' ], ['1-a'], '2-b <- 1-a', 0 ],
		[ 'all local lower: an update', ['1-a'], [ '2-b', '1-a' ], '2-b <- 1-a', 0 ],
		[ 'mixed: a conflict', [ '2-b', '1-a' ], [ '2-c', '1-a' ], '2-c <- 1-a; 2-b <- 1-a^1', 1 ],
		[ 'disjoint: a conflict', ['1-a'], ['1-b'], '1-b; 1-a', 1 ],
		[ 'other order: the same conflict', ['1-b'], ['1-a'], '1-b; 1-a', 1 ],
		[ 'larger vector: a longer history that holds ours is an update', [ '2-b', '1-a' ], [ '4-d', '3-c', '2-b', '1-a' ], '4-d <- 3-c <- 2-b <- 1-a', 0 ],
		[ 'fewer entries: a cut history that reaches ours is an update', [ '2-b', '1-a' ], [ '3-c', '2-b' ], '3-c <- 2-b <- 1-a', 0 ],
	);
	foreach my $case (@cases)
	{
		my ($name, $local, $remote, $tree_after, $conflict) = @$case;
		my ($here, $there) = (place($north, 'one'), place($south, 'one'));
		incoming($here, $path->(@$local));
		incoming($there, $path->(@$remote));
		copy($there, $here);
		is(at($here, $tree), $tree_after, $name);
		is(conflicts($here), $conflict, '... ' . ($conflict ? 'in conflict' : 'no conflict'));
	}
	incoming($a, q{{"_id": "ID", "_rev": "1-a"}, {"_id": "id", "_rev": "1-b"}});
	is(conflicts($a), 0, 'ids that differ in case are two documents here');
};

subtest 'Special cases' => sub {
	my ($a, $b) = (place($north, 'one', 'identical'), place($south, 'one', 'identical'));
	my $meet = sub {
		my ($id, $one, $other) = @_;
		incoming($a, qq{{"_id": "$id", "_rev": "1-a", $one}});
		incoming($b, qq{{"_id": "$id", "_rev": "1-b", $other}});
		my $rounds = exchange($a, $b);
		return conflicts_of($a, $id) . conflicts_of($b, $id) . ($rounds ? '' : ' no end');
	};
	sub conflicts_of { return at($_[0], "SELECT count(*) FROM docrep.conflicts('TBL') WHERE id = '$_[1]'") }
	is($meet->('content', '"n": 1', '"n": 2'), '22', 'non-identical content');
	is($meet->('metadata', '"n": 1, "_attachments": {"x": {"data": "YWFh", "content_type": "a/a"}}', '"n": 1, "_attachments": {"x": {"data": "YWFh", "content_type": "b/b"}}'),
		'22', 'non-identical metadata');
	is($meet->('order', '"n": 1, "m": {"x": 1, "y": [1, 2]}', '"m": {"y": [1, 2], "x": 1.0}, "n": 1'), '00', 'identical content with other property order resolves itself');
	is(at($a, q{SELECT _rev FROM TBL WHERE _id = 'order'}), '1-b', '... without a new revision');
	is($meet->('dead', '"_deleted": true', '"_deleted": true, "reason": "other"'), '00', 'tombstone against tombstone is no conflict');
	is($meet->('gone', '"_deleted": true', '"n": 1'), '00', 'a tombstone against a document is none: deleted leaves do not count');
	same('special cases', $a, $b);

	# the document that refers to another arrives before it, in conflict
	my ($c, $d) = (place($north, 'one', 'latest'), place($south, 'one'));
	at($c, q{ALTER TABLE TBL ADD parent text GENERATED ALWAYS AS (doc->>'parent') STORED REFERENCES TBL(_id)});
	incoming($d, q{{"_id": "child", "_rev": "1-a", "n": 1}, {"_id": "child", "_rev": "1-b", "parent": "papa"}});
	copy($d, $c);
	at($d, q{INSERT INTO TBL VALUES ('papa', '{}')});
	copy($d, $c);
	is(at($c, q{SELECT string_agg(_id, ',' ORDER BY _id) FROM TBL}), 'child,papa', 'parent document arrives after the conflict');
};

subtest 'Conflicts' => sub {
	my ($a, $b) = (place($north, 'one'), place($south, 'one'));
	incoming($a, q{{"_id": "x", "_rev": "1-a", "n": 1}});
	incoming($b, q{{"_id": "x", "_rev": "1-b", "n": 2}});
	exchange($a, $b);
	is(conflicts($a) . conflicts($b), '11', 'replicated');
	at($b, q{SELECT docrep.resolve('TBL', 'x', keep => '1-a')});
	cmp_ok(exchange($a, $b), '<=', 2, 'then resolved');
	is(conflicts($a) . conflicts($b), '00', 'both sides clean');
	is(at($a, q{SELECT doc FROM TBL}), '{"n": 1}', 'with the version that was kept');

	incoming($a, q{{"_id": "t", "_rev": "1-a", "n": 1}, {"_id": "t", "_rev": "1-b", "n": 2}});
	copy($a, $b);
	at($a, q{SELECT docrep.resolve('TBL', 't', doc => '{"n": 3}')});
	at($b, q{SELECT docrep.resolve('TBL', 't', delete => true)});
	exchange($a, $b);
	is(at($_, q{SELECT doc FROM TBL WHERE _id = 't'}) . ' ' . conflicts($_), '{"n": 3} 0', 'manual resolve against a tombstone: the document lives') foreach $a, $b;

	# two people resolve it in the same way, and otherwise
	incoming($_, q{{"_id": "p", "_rev": "1-a", "n": 1}, {"_id": "p", "_rev": "1-b", "n": 2}, {"_id": "q", "_rev": "1-a", "n": 1}, {"_id": "q", "_rev": "1-b", "n": 2}}) foreach $a, $b;
	at($_, q{SELECT docrep.resolve('TBL', 'p', keep => '1-a')}) foreach $a, $b;
	at($a, q{SELECT docrep.resolve('TBL', 'q', doc => '{"n": 3}')});
	at($b, q{SELECT docrep.resolve('TBL', 'q', doc => '{"n": 4}')});
	exchange($a, $b);
	is(at($_, q{SELECT string_agg(DISTINCT id, ',') FROM docrep.conflicts('TBL')}), 'q', 'resolved in the same way: no conflict; in different ways: another one') foreach $a, $b;

	# HiLo settles: the larger Max
	my @places = map { place(@$_, 'function', 'larger_max') } [ $north, 'one' ], [ $south, 'one' ];
	at($places[$_], "INSERT INTO TBL VALUES ('Raven/Hilo/Users', '{\"Max\": " . (64, 128)[$_] . "}')") foreach 0, 1;
	exchange(@places);
	is(at($_, q{SELECT doc->>'Max' FROM TBL}) . conflicts($_), '1280', 'HiLo settles') foreach @places;

	# tombstone against a document of another collection
	@places = map { place(@$_, 'latest') } [ $north, 'one' ], [ $south, 'one' ];
	at($places[0], q{INSERT INTO TBL VALUES ('x', '{"type": "user"}'); DELETE FROM TBL});
	at($places[1], q{INSERT INTO TBL VALUES ('x', '{"type": "order"}')});
	my $rounds = exchange(@places);
	ok($rounds && $rounds <= 3, 'tombstone against a document of another collection does not loop');
	is(at($_, q{SELECT doc->>'type' FROM TBL}), 'order', 'and the document lives') foreach @places;
	# the same document deleted on two nodes
	@places = map { place(@$_, 'latest') } [ $north, 'one' ], [ $south, 'one' ];
	at($places[0], q{INSERT INTO TBL VALUES ('x', '{"type": "user"}')});
	exchange(@places);
	at($_, q{DELETE FROM TBL}) foreach @places;
	is(exchange(@places), 1, 'the same document deleted on two nodes gives one tombstone');
};

# ---------- who listens ----------

subtest 'LISTEN docrep_conflict' => sub {
	my $a = place($north, 'one');
	my $heard = sub { return scalar(() = at($a, "LISTEN docrep_conflict; $_[0]; SELECT 1;") =~ /"docrep_conflict" with payload "public\.$a->{table}"/g) };
	my $bulk = sub { return q{SELECT count(*) FROM docrep.bulk_docs('TBL', '[} . $_[0] . q{]', new_edits => false)} };
	is($heard->($bulk->('{"_id": "a", "_rev": "1-a"}')), 0, 'no conflict, no word');
	is($heard->($bulk->('{"_id": "a", "_rev": "1-b"}')), 1, 'a conflict');
	is($heard->($bulk->('{"_id": "b", "_rev": "1-a"}, {"_id": "b", "_rev": "1-b"}, {"_id": "c", "_rev": "1-a"}, {"_id": "c", "_rev": "1-b"}')), 1, 'two of a transaction are one word');
	is($heard->($bulk->('{"_id": "a", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "b"]}}')), 0, 'an old one is no news');
	is($heard->($bulk->('{"_id": "a", "_rev": "1-d"}')), 1, 'a third version is');
	is($heard->(q{UPDATE TBL SET doc = '{"e": 1}' WHERE _id = 'a'}), 0, 'nor is an edit');
	is($heard->(q{SELECT docrep.resolve('TBL', 'b', keep => '1-a')}), 0, 'nor its end');
	policy($a, 'latest');
	is($heard->($bulk->('{"_id": "n", "_rev": "1-a"}, {"_id": "n", "_rev": "1-b"}')), 0, 'what is resolved at once is none');
};

# ---------- dump and restore ----------

subtest 'dump and restore' => sub {
	my $a = place($south, 'one', 'mark,function', 'larger_max');
	my $b = place($north, 'two');
	at($b, q{INSERT INTO TBL VALUES ('x', '{"by": "b"}')});
	incoming($a, q{{"_id": "x", "_rev": "1-a", "by": "a"}});
	copy($b, $a);
	my $state = q{SELECT string_agg(id || rev || is_winner || doc || modified || origin, ',' ORDER BY rev) || (SELECT string_agg(doc::text, ',') FROM TBL)
		|| (SELECT conflict_policy || resolver FROM docrep.table_settings s JOIN docrep.document_tables d ON d.uuid = s.tbl WHERE d.tbl = 'TBL'::regclass) FROM docrep.conflicts('TBL')};
	my $before = at($a, $state);
	like($before, qr/$node{'north two'}.*\{"Conflicts": \[.*larger_max/, 'a marked conflict, an origin, a policy');
	my $dump = $south->basedir . '/dump.sql';
	$south->command_ok([ 'pg_dump', '-f', $dump, 'one' ], 'dumped');
	$south->safe_psql('postgres', 'CREATE DATABASE restored');
	$south->safe_psql('restored', 'CREATE EXTENSION docrep');
	$south->command_ok([ 'psql', '-X', '-q', '-f', $dump, 'restored' ], 'restored');
	my $restored = { %$a, db => 'restored' };
	is(at($restored, $state), $before, 'all is there again');
	is(at($restored, q{SELECT * FROM docrep.check('TBL')}), '', 'and sound');
	incoming($restored, q{{"_id": "Raven/Hilo/x", "_rev": "1-a", "Max": 2}, {"_id": "Raven/Hilo/x", "_rev": "1-b", "Max": 1}});
	is(at($restored, q{SELECT doc->>'Max' FROM TBL WHERE _id = 'Raven/Hilo/x'}), '2', 'the resolver works there');
};

done_testing();
