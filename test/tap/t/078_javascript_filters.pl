# Filters of design documents with sources that are tables, here and at another server:
# what passes, who is told to be asking, code that changes, functions that fail or never
# end, and what docrep.explain() says of filters.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT quote replicate);
use JSON::PP;
use Test::More;

my $near = new_node('near', databases => ['one'], conf => "docrep.worker_linger = 0\ndocrep.js_timeout = '60s'\n");
my $far = new_node('far', databases => ['two'], conf => "docrep.js_timeout = '60s'\n");
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->canonical;
my %places = (local => [ $near, 'one' ], postgres => [ $far, 'two' ]);
my %sources = (local => 'docs', postgres => pg_url($far, 'two', table => 'docs'));
my $tables = 0;

sub fresh { return 'here' . ++$tables }

# The same documents in both: orders and users, one in conflict, two deleted, and functions.
my %filters = (
	by_type => 'function (doc, req) { return doc.type === req.query.type; }',
	lib => "(doc) => doc.n > require('lib/limits').least",
	bad => "function (doc) { if (doc._id === 'users-3') throw new TypeError('not this one'); return doc.n === 1; }",
	who => 'function (doc, req) { throw {forbidden: JSON.stringify(req.userCtx)}; }',
	forever => 'function (doc) { while (true) ; }',
	broken => 'function (doc) {',
);
my $design = quote($json->encode({ filters => \%filters, lib => { limits => 'exports.least = 3;' },
	views => { numbers => { map => 'function (doc) { if (doc.n) emit(doc.n); }' } } }));
my $both = quote($json->encode([ { _id => 'both', _rev => '1-b', type => 'order' }, { _id => 'both', _rev => '1-a', type => 'user' } ]));
foreach (values %places)
{
	my ($node, $db) = @$_;
	$node->safe_psql($db, qq{SELECT docrep.create_table('docs');
		INSERT INTO docs (_id, doc) VALUES ('_design/app', $design);
		INSERT INTO docs (_id, doc) SELECT 'orders/' || n, jsonb_build_object('type', 'order', 'n', n) FROM generate_series(1, 5) n;
		INSERT INTO docs (_id, doc) SELECT 'users-' || n, jsonb_build_object('type', 'user', 'n', n) FROM generate_series(1, 5) n;
		INSERT INTO docs (_id, doc) VALUES ('gone', '{"type": "order"}');
		DELETE FROM docs WHERE _id = 'gone';
		SELECT docrep.bulk_docs('docs', $both, false)});
}

# What is in a table, with "-" the deleted ones.
sub ids
{
	my ($table) = @_;
	return $near->safe_psql('one', qq{SELECT string_agg(CASE WHEN deleted THEN '-' ELSE '' END || id, ',' ORDER BY id COLLATE "C")
		FROM docrep.changes('$table')});
}

sub change_code
{
	my ($kind, $path, $code) = @_;
	my ($node, $db) = @{ $places{$kind} };
	$node->safe_psql($db, qq{UPDATE docs SET doc = jsonb_set(doc, '$path', to_jsonb(} . quote($code) . q{::text)) WHERE _id = '_design/app'});
}

# ---------- what passes ----------

my $orders = join ',', map { "orders/$_" } 1 .. 5;
my $users = join ',', map { "users-$_" } 1 .. 5;
my @cases = (
	[ 'a function', { filter => 'app/by_type', query_params => { type => 'user' } }, "both,$users" ],
	[ 'of winners', { filter => 'app/by_type', query_params => { type => 'user' }, winning_revs_only => $true }, $users ],
	[ 'with a module', { filter => 'app/lib' }, 'orders/4,orders/5,users-4,users-5' ],
	[ 'a view', { filter => '_view', query_params => { view => 'app/numbers' } }, "$orders,$users" ],
	[ 'with paths', { filter => 'app/lib', paths => ['orders/*'] }, 'orders/4,orders/5' ],
	[ 'without deletions', { filter => 'app/by_type', prevent_deletions => $true }, '_design/app' ],
);
foreach my $case (@cases)
{
	my ($name, $options, $expected) = @$case;
	foreach my $kind (sort keys %places)
	{
		my $table = fresh();
		my $result = replicate($near, 'one', $sources{$kind}, $table, create_target => $true, %$options);
		is(ids($table), $expected, "$name: $kind");
		is($result->{doc_write_failures}, 0, '... nothing was refused');
		ok(replicate($near, 'one', $sources{$kind}, $table, %$options)->{no_changes}, '... and the next run goes on from the end');
	}
}

# ---------- the id ----------

foreach my $kind (sort keys %places)
{
	my $table = fresh();
	my %options = (filter => 'app/by_type', query_params => { type => 'user' });
	my %lib = (filter => 'app/lib');
	my $starts = sub { replicate($near, 'one', $sources{$kind}, $table, @_)->{history}[0]{start_last_seq} eq '0' };

	$near->safe_psql('one', "SELECT docrep.create_table('$table')");
	ok($starts->(%options), "$kind: a filter begins");
	ok($starts->(%lib), '... another, too');
	change_code($kind, '{filters,bad}', $filters{bad} . ' // changed');
	ok(!$starts->(%options), '... it goes on although another function was changed');
	ok($starts->(%lib), '... but not where modules may be anywhere');
	change_code($kind, '{lib,limits}', 'exports.least = 4;');
	ok($starts->(%lib), '... and when one is changed');
	change_code($kind, '{filters,by_type}', 'function (doc, req) { return doc.type !== req.query.type && doc.n === 5; }');
	ok($starts->(%options), '... changed code starts over');
	is(ids($table), "both,orders/4,orders/5,$users", '... and what passes now comes');
	change_code($kind, '{filters,by_type}', $filters{by_type});
	change_code($kind, '{lib,limits}', 'exports.least = 3;');
	change_code($kind, '{filters,bad}', $filters{bad});
}

# ---------- a job that waits ----------

foreach my $kind (sort keys %places)
{
	my ($node, $db) = @{ $places{$kind} };
	my $table = fresh();
	my %options = (filter => 'app/by_type', query_params => { type => "late $kind" }, continuous => $true, create_target => $true);

	replicate($near, 'one', $sources{$kind}, $table, %options);
	foreach my $n (1 .. 3)
	{
		$node->safe_psql($db, qq{INSERT INTO docs (_id, doc) VALUES ('no$n', '{"type": "early"}'), ('late$n', '{"type": "late $kind"}'), ('nor$n', '{"type": "early"}')});
		wait_until(sub { ids($table) eq join ',', map { "late$_" } 1 .. $n }, 60, "$kind: document $n");
	}
	is(ids($table), 'late1,late2,late3', "$kind: what passes comes to a job that waits");

	# changed code is noticed before the job parks, and by one that is parked when the design document changes
	foreach my $n (1, 2)
	{
		change_code($kind, '{filters,by_type}', "function (doc, req) { return doc._id === 'no$n' || doc.type === req.query.type; }");
		wait_until(sub { ids($table) eq join ',', 'late1', 'late2', 'late3', map { "no$_" } 1 .. $n }, 60, "$kind: what was passed over");
		wait_until(sub { $near->safe_psql('one', "SELECT state FROM docrep.active_tasks WHERE target LIKE '%$table'") eq 'parked' }, 60, "$kind: the job to park");
		pass("$kind: it starts over when the code changes");
	}
	change_code($kind, '{filters,by_type}', $filters{by_type});
	ok(replicate($near, 'one', $sources{$kind}, $table, %options, cancel => $true)->{ok}, '... and can be cancelled');
	$node->safe_psql($db, q{DELETE FROM docs WHERE _id ~ '^(no|nor|late)[0-9]'});
}

# ---------- functions that are no good ----------

sub fails
{
	my ($source, $target, %options) = @_;
	return sqlstate($near, 'one', 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $source, $target, $json->encode(\%options)) . ')');
}

# A task: its state and what it says.
sub task
{
	my ($id, $source, $target, %options) = @_;
	$near->safe_psql('one', 'INSERT INTO docrep.replicator (_id, doc) VALUES (' . quote($id) . ', '
		. quote($json->encode({ source => $source, target => $target, continuous => $true, %options })) . ')');
}
sub state_of
{
	my ($id) = @_;
	return $near->safe_psql('one', 'SELECT state FROM docrep.scheduler_docs WHERE doc_id = ' . quote($id));
}
# What it says while it is in a state, for which that is waited: soon it is tried again.
sub said_in
{
	my ($state, $id) = @_;
	return wait_until(sub { $near->safe_psql('one', 'SELECT info::text FROM docrep.scheduler_docs WHERE doc_id = ' . quote($id) . ' AND state = ' . quote($state)) },
		60, "task $id to be in state $state");
}

foreach my $kind (sort keys %places)
{
	my ($node, $db) = @{ $places{$kind} };
	my $table = fresh();
	my ($state, $message);

	$near->safe_psql('one', "SELECT docrep.create_table('$table')");
	($state, $message) = fails($sources{$kind}, $table, filter => 'app/bad');
	is($state, 'DR500', "$kind: a function that throws");
	like($message, qr{filter "app/bad" failed for document "users-3": TypeError: not this one}, '... the document is named');
	is(ids($table), 'orders/1,users-1', '... and what comes before it has arrived');
	($state, $message) = fails($sources{$kind}, $table, filter => 'app/none');
	is($state, 'DR404', "$kind: no such function");
	like($message, qr{missing json key: none}, '... is said');
	($state, $message) = fails($sources{$kind}, $table, filter => 'none/f');
	is($state, 'DR404', "$kind: no design document");
	like($message, qr{_design/none}, '... is said');
	($state, $message) = fails($sources{$kind}, $table, filter => 'app/a/b');
	is($state, 'DR400', "$kind: a malformed name");

	task("bad $kind", $sources{$kind}, $table, filter => 'app/bad');
	like(said_in('crashing', "bad $kind"), qr{users-3.*not this one}, "$kind: a task whose function throws is crashing, and says why");
	task("none $kind", $sources{$kind}, $table, filter => 'none/f');
	like(said_in('error', "none $kind"), qr{none/f}, "$kind: a task whose function is missing is in error");
	task("broken $kind", $sources{$kind}, $table, filter => 'app/broken');
	like(said_in('crashing', "broken $kind"), qr{compilation_error: SyntaxError}, "$kind: a task whose function does not compile is crashing, as in CouchDB");
	$near->safe_psql('one', 'DELETE FROM docrep.replicator');
}

# whoever the replication says it is for
my ($state, $message) = fails('docs', fresh(), filter => 'app/who', create_target => $true, user_ctx => { roles => [ '_admin', 'editor' ] });
is($state, 'DR403', 'what a function throws as forbidden');
like($message, qr{"roles":\["_admin","editor"\]}, '... it is given the roles of user_ctx');
($state, $message) = fails('docs', "here$tables", filter => 'app/who', user_ctx => { roles => [] });
like($message, qr{"roles":\[\]}, '... or none of them');
($state, $message) = fails('docs', "here$tables", filter => 'app/who');
like($message, qr{"roles":\["_admin"}, '... else those of the role');

# ---------- functions that never end ----------

($state, $message) = sqlstate($near, 'one', q{SET statement_timeout = '500ms'; SELECT docrep.changes('docs', filter => 'app/forever')});
is($state, '57014', 'statement_timeout ends a function that never does');
($state, $message) = sqlstate($near, 'one', q{SET docrep.js_timeout = '300ms'; SELECT docrep.changes('docs', filter => 'app/forever')});
is($state, 'DR500', 'and so does docrep.js_timeout');
like($message, qr{filter "app/forever" failed for document "}, '... for the document that it was asked about');
{
	my $session = $near->background_psql('one', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/begun/, "\\echo begun\nSELECT docrep.changes('docs', filter => 'app/forever');\n\\echo over\n");
	wait_until(sub { $near->safe_psql('one', "SELECT state FROM pg_stat_activity WHERE pid = $pid AND query LIKE '%forever%'") eq 'active' }, 60, 'the query to run');
	is($near->safe_psql('one', "SELECT pg_cancel_backend($pid)"), 't', 'pg_cancel_backend');
	wait_until(sub { $near->safe_psql('one', "SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle' }, 60, 'the query to be cancelled');
	is($near->safe_psql('one', "SELECT state FROM pg_stat_activity WHERE pid = $pid"), 'idle', '... ends it, and not the session');
	$session->quit;
}
foreach my $kind (sort keys %places)
{
	my ($node, $db) = @{ $places{$kind} };
	my $table = fresh();

	$near->safe_psql('one', "SELECT docrep.create_table('$table')");
	task("forever $kind", $sources{$kind}, $table, filter => 'app/forever');
	wait_until(sub { state_of("forever $kind") eq 'running' }, 60, "$kind: the job to run");
	my $who = $kind eq 'local' ? q{backend_type = 'docrep worker'} : q{query LIKE '%peer_changes%' AND state = 'active' AND pid <> pg_backend_pid()};
	wait_until(sub { $node->safe_psql($db, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Extension' AND $who") > 0 },
		undef, "$kind: the function to be waited for");
	$near->safe_psql('one', 'DELETE FROM docrep.replicator WHERE _id = ' . quote("forever $kind"));
	wait_until(sub { $near->safe_psql('one', q{SELECT count(*) FROM docrep.scheduler_jobs WHERE doc_id LIKE 'forever%'}) == 0 }, 60, "$kind: the job to end");
	pass("$kind: a job whose function never ends can be ended");
}

# ---------- explain ----------

# The verdict of step "filter".
sub verdict
{
	my ($task, $id, $role) = @_;
	return $near->safe_psql('one', ($role ? "SET ROLE $role; " : '')
		. "SELECT verdict || ' ' || detail FROM docrep.explain(" . quote($task) . ", 'shown', " . quote($id) . q{) WHERE step = 'filter'});
}
$near->safe_psql('one', q{SELECT docrep.create_table('shown');
	CREATE SCHEMA f;
	CREATE FUNCTION f.whoami(doc jsonb, req jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN IF doc->>'_id' = 'users-3' THEN RAISE 'not for %', current_user; END IF; RETURN current_user = 'joe'; END$$;
	CREATE ROLE joe LOGIN IN ROLE pg_monitor;
	CREATE ROLE jim LOGIN IN ROLE pg_monitor;
	GRANT USAGE ON SCHEMA f TO joe;
	GRANT SELECT ON docs TO joe, jim;
	GRANT SELECT, INSERT, UPDATE, DELETE ON shown TO joe;
	GRANT SELECT ON shown TO jim;
	GRANT SELECT, INSERT, UPDATE, DELETE ON docrep.replicator TO joe});
task('shows', 'docs', 'shown', filter => 'app/by_type', query_params => { type => 'user' });
task('bad', 'docs', 'shown', filter => 'app/bad');
task('chosen', 'docs', 'shown', selector => { type => 'order' });
task('pathed', 'docs', 'shown', selector => { type => 'order' }, paths => ['orders/*']);
task('kept', 'docs', 'shown', prevent_deletions => $true);
task('viewed', 'docs', 'shown', filter => '_view', query_params => { view => 'app/numbers' }, winning_revs_only => $true);
task('remote', $sources{postgres}, 'shown', filter => 'app/by_type', query_params => { type => 'user' });
$near->safe_psql('one', q{SET SESSION AUTHORIZATION joe; INSERT INTO docrep.replicator (_id, doc) VALUES
	('joes', '{"source": "docs", "target": "shown", "filter": "f.whoami"}')});
like(verdict('shows', 'users-1'), qr{^passes filter "app/by_type" lets it pass}, 'explain: what a filter lets pass');
like(verdict('shows', 'orders/1'), qr{^stops filter "app/by_type" does not let it pass}, '... what it does not');
like(verdict('shows', 'both'), qr{^passes filter "app/by_type" lets 1 of its 2 revisions pass}, '... some revisions');
like(verdict('shows', 'nowhere'), qr{^unknown there is no document}, '... what is not there');
like(verdict('bad', 'users-3'), qr{^stops filter "app/bad" has no answer: .*users-3.*not this one}, '... about what it throws');
like(verdict('bad', 'users-1'), qr{^passes}, '... and not about another');
like(verdict('chosen', 'orders/1'), qr{^passes the selector lets it pass}, '... a selector');
like(verdict('chosen', 'users-1'), qr{^stops the selector does not let it pass}, '... that does not match');
like(verdict('pathed', 'both'), qr{^stops its id is not among those of paths}, '... paths come first');
like(verdict('kept', 'gone'), qr{^stops prevent_deletions does not let it pass}, '... deletions');
like(verdict('viewed', 'orders/1'), qr{^passes filter "_view" of "app/numbers" lets it pass}, '... a view');
like(verdict('viewed', 'both'), qr{^stops}, '... that emits nothing');
like(verdict('remote', 'orders/1'), qr{^unknown filter "app/by_type" is asked at postgresql://.*cannot be looked at from here}, '... at another server');
like(verdict('joes', 'users-1'), qr{^passes filter "f.whoami" lets it pass}, '... as the role of the replication');
like(verdict('joes', 'users-3'), qr{^stops .*not for joe}, '... with its errors');
like(verdict('joes', 'users-1', 'jim'), qr{^unknown .*role joe, which this role may not become}, '... but not for everybody');
is($near->safe_psql('one', q{SELECT verdict FROM docrep.explain('shows', 'shown', 'gone') WHERE step = 'summary'}), 'stops', '... and the summary says so');
$near->safe_psql('one', 'DELETE FROM docrep.replicator');

done_testing();
