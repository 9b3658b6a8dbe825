# The views that watch replications, live: tasks in all the states that they come to by themselves, what each
# role sees of them, where credentials are not shown, docrep.explain(), docrep.sources, and who holds
# tombstones back.
use strict;
use warnings;

use DocrepSession;
use DocrepTest;
use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'here',
	databases => [ 'one', 'two' ],
	tcp => 1,
	conf => "docrep.max_workers = 4\n");
my $port = $node->port;

# A port where nobody listens, and one where somebody never says a word.
my $kept = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp') or die "no socket: $!";
my $closed = $kept->sockport;
my $mute = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "no socket: $!";

sub sql
{
	my ($query, $db) = @_;
	return $node->safe_psql($db // 'one', $query);
}

sub task
{
	my ($id, $source, $target, $more) = @_;
	sql("INSERT INTO docrep.replicator(_id, doc) VALUES ('$id', jsonb_build_object('source', '$source', 'target', '$target') || '"
		  . ($more // '{}') . "')");
}

# Waits until a task is in a state.
sub task_is
{
	my ($id, $state) = @_;
	return wait_for_query($node, 'one', "SELECT state FROM docrep.scheduler_docs WHERE doc_id = '$id'", $state);
}

sub doc
{
	return decode_json(sql("SELECT docrep.scheduler_doc_json('$_[0]')"));
}

my $continuous = '{"continuous": true}';

sql("SELECT docrep.create_table('$_')") foreach qw(s t once refused);
sql("SELECT docrep.create_table('$_')", 'two') foreach qw(far copy);
sql(q{INSERT INTO s SELECT 'd' || i, '{}' FROM generate_series(1, 9) i});

# ---- running and parked ---------------------------------------------------------

task('live', 's', 't', $continuous);
task_is('live', 'running');
wait_for_query($node, 'one', 'SELECT count(*) FROM t', 9);
ok( wait_for_query($node, 'one', q{SELECT pid IS NULL AND state = 'parked' FROM docrep.active_tasks WHERE doc_id = 'live'}, 't'),
	'a job that has caught up is parked, has no process and stays in active_tasks');
is( sql(q{SELECT database, doc_id = 'live', pid IS NULL, state, user_name = current_user, info->'docs_written', info->'changes_pending',
		history->-1->>'type' FROM docrep.scheduler_jobs}),
	'one|t|t|running|t|9|0|added',
	'it is running in scheduler_jobs');
my $doc = doc('live');
is($doc->{state}, 'running', 'and in scheduler_docs');
is($doc->{id}, sql('SELECT id FROM docrep.scheduler_jobs'), 'with the job\'s id');
is($doc->{info}{docs_written}, 9, 'its info are the counts');
like($doc->{$_}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, "$_ is a time") foreach qw(start_time last_updated);
is(join(' ', sort keys %$doc),
	'database doc_id error_count id info last_updated node proxy source start_time state target', 'the members are CouchDB\'s');
my $job = decode_json(sql("SELECT docrep.scheduler_job_json('$doc->{id}')"));
is(join(' ', sort keys %$job), 'database doc_id history id info node pid source start_time target user', 'and so are a job\'s');
is($job->{pid}, undef, 'the process of a parked job is null');
is_deeply([ $job->{database}, $job->{doc_id}, $job->{history}[-1]{type} ], [ '_replicator', 'live', 'added' ], 'its task is named');
sql(q{INSERT INTO s VALUES ('wake', '{}')});
wait_for_query($node, 'one', 'SELECT count(*) FROM t', 10);
pass('a parked job that is watched wakes');

# what has come and cannot be written yet is no silence, whether the job was idle or parked
foreach my $before ('idle', 'parked')
{
	wait_for_query($node, 'one', q{SELECT state FROM docrep.active_tasks WHERE doc_id = 'live'}, $before);
	my $lock = DocrepSession->new($node, 'one')->connect;
	$lock->query('BEGIN');
	is($lock->query(q{SELECT _id FROM t WHERE _id = 'd1' FOR UPDATE}), 'd1', "$before, and a document is locked at the target");
	sql(q{UPDATE s SET doc = doc || jsonb_build_object('v', random()) WHERE _id IN ('d1', 'd2')});
	ok( wait_for_query($node, 'one', q{SELECT state, changes_pending, progress < 100 FROM docrep.active_tasks WHERE doc_id = 'live'}, 'running|2|t'),
		'a replication that has to wait for its target is running, and has changes before it');
	is(sql(q{SELECT info->'changes_pending' FROM docrep.scheduler_docs WHERE doc_id = 'live'}), '2', '... also in scheduler_docs');
	$lock->query('COMMIT');
	$lock->close;
	ok(wait_for_query($node, 'one', q{SELECT changes_pending, progress FROM docrep.active_tasks WHERE doc_id = 'live'}, '0|100'), '... until they are written');
}

# ---- completed --------------------------------------------------------------------

task('once', 's', 'once');
task_is('once', 'completed');
is(doc('once')->{info}{docs_written}, 10, 'the counts of a task that is completed are kept');
is(sql(q{SELECT count(*) FROM docrep.scheduler_jobs WHERE doc_id = 'once'}), '0', 'it is no job any more');
is(sql(q{SELECT count(*) FROM docrep.active_tasks WHERE doc_id = 'once'}), '0', 'and not active');

# ---- crashing ---------------------------------------------------------------------

task('away', 's', "postgresql://joe:hunter2\@127.0.0.1:$closed/x#y", $continuous);
task_is('away', 'crashing');
# ... between two attempts
wait_until(sub { $doc = doc('away'); return $doc->{state} eq 'crashing' && $doc->{error_count} >= 2 });
like($doc->{info}{error}, qr/connect/, 'a task whose peer is away says so, and how often it has failed');
ok( wait_for_query($node, 'one', q{SELECT jsonb_path_exists(history, '$[*] ? (@.type == "crashed" && @.reason like_regex "connect")')
			AND info->>'error' ~ 'connect' AND state = 'crashing' AND next_start IS NOT NULL
		FROM docrep.scheduler_jobs WHERE doc_id = 'away'}, 't'),
	'the job\'s history has the reason');
is( sql(q{SELECT count(*) FROM (SELECT d::text FROM docrep.scheduler_docs d UNION ALL SELECT j::text FROM docrep.scheduler_jobs j
		UNION ALL SELECT a::text FROM docrep.active_tasks a UNION ALL SELECT docrep.scheduler_docs_json()::text
		UNION ALL SELECT docrep.scheduler_jobs_json()::text UNION ALL SELECT e::text FROM docrep.explain('away', 's', 'd1') e
		UNION ALL SELECT h::text FROM docrep.tombstone_holders h UNION ALL SELECT r::text FROM docrep.replicator r) AS v(shown)
		WHERE shown LIKE '%hunter2%'}),
	'0',
	'the password is shown nowhere');

# ---- replicate() is a job and no task ------------------------------------------------

sql(q{SELECT docrep.replicate('s', 'refused', '{"continuous": true, "doc_ids": ["d1"]}')});
is( sql(q{SELECT count(*) FILTER (WHERE doc_id IS NULL), (SELECT count(*) FROM docrep.scheduler_docs WHERE target = 'refused')
		FROM docrep.scheduler_jobs WHERE target = 'refused'}),
	'1|0',
	'what replicate() asked for is a job and no document');
is( sql(q{SELECT j->'database', j->'doc_id', j->>'target' FROM jsonb_array_elements(docrep.scheduler_jobs_json()->'jobs') j WHERE j->>'target' = 'refused'}),
	'null|null|refused',
	'and has no database and document as JSON');
my ($n, $sorted) = split /\|/,
  sql(q{SELECT jsonb_array_length(j->'jobs'), jsonb_path_query_array(j, '$.jobs[*].id')
		= (SELECT jsonb_agg(id ORDER BY id COLLATE "C") FROM docrep.scheduler_jobs) FROM docrep.scheduler_jobs_json() j});
is("$n|$sorted", '3|t', 'jobs are in the order of their ids');

# ---- who sees what ------------------------------------------------------------------

sql(q{CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_read_all_stats TO watcher;
	GRANT SELECT ON s, t TO stranger, watcher});
foreach my $view (qw(scheduler_docs scheduler_jobs active_tasks))
{
	is(sql("SET ROLE stranger; SELECT count(*) FROM docrep.$view"), '0', "a stranger sees nothing in $view");
	is( sql("SET ROLE watcher; SELECT count(*) FROM docrep.$view"),
		sql("SELECT count(*) FROM docrep.$view"),
		"a member of pg_read_all_stats sees all of $view");
}
is((sqlstate($node, 'one', q{SET ROLE stranger; SELECT docrep.scheduler_doc_json('live')}))[0], 'DR404', 'nor is there a document');
is((sqlstate($node, 'one', "SET ROLE stranger; SELECT docrep.scheduler_job_json('$job->{id}')"))[0], 'DR404', 'nor a job');
is((sqlstate($node, 'one', q{SET ROLE stranger; SELECT docrep.explain('live', 's', 'd1')}))[0], 'DR404', 'nor an explanation');
is((sqlstate($node, 'one', q{SET ROLE watcher; SELECT docrep.explain('live', 's', 'd1')}))[0], '', 'but for whom may see the task and the table');

# ---- explain ------------------------------------------------------------------------

# The verdict and the text of the last row.
sub summary
{
	my ($id, $tbl, $doc_id) = @_;
	return sql("SELECT verdict || ' ' || detail FROM docrep.explain('$id', '$tbl', '$doc_id') WHERE step = 'summary'");
}

like(summary('live', 's', 'd3'), qr/^done It has been replicated/, 'what has arrived');
like(summary('live', 't', 'd3'), qr/^done/, 'seen from the target');
like(summary($job->{id}, 's', 'd3'), qr/^done/, 'by the replication id');
ok(wait_until(sub { summary('away', 's', 'd3') =~ /^waits It is not replicated yet: it has failed \d+ times in a row and is started again at .*connect/ }),
	'a peer that is away, between two attempts');
like(summary('once', 's', 'd3'), qr/^done/, 'what a completed task has carried');
sql(q{INSERT INTO s VALUES ('late', '{}')});
like(summary('once', 's', 'late'), qr/^waits .*completed/, 'what came after it was completed');
like(summary('live', 's', 'nothing'), qr/^stops .*no such document/, 'what is not there');
my $transient = sql(q{SELECT id FROM docrep.scheduler_jobs WHERE doc_id IS NULL});
like(summary($transient, 's', 'd2'), qr/^stops .*doc_ids/, 'what is not among doc_ids');
sql(q{ALTER TABLE refused ADD CHECK (doc->>'bad' IS NULL)});
task('picky', 's', 'refused', $continuous);
task_is('picky', 'running');
sql(q{INSERT INTO s VALUES ('rotten', '{"bad": true}')});
wait_for_query($node, 'one', q{SELECT count(*) FROM docrep.rejected_docs WHERE id = 'rotten'}, 1);
like(summary('picky', 's', 'rotten'), qr/^stops .*refused revision 1-[0-9a-f]+ \(23514\)/, 'what the target has refused');

# ---- sources and tombstones -----------------------------------------------------------

# "two" pulls from here; "live" and "away" are tasks here
$node->safe_psql('two', "SELECT docrep.replicate('" . pg_url($node, 'one', table => 's') . "', 'copy')");
is( sql(q{SELECT tbl, source_uuid, last_seq LIKE '%-%', at > now() - interval '5 minutes' FROM docrep.sources}, 'two'),
	'copy|' . sql(q{SELECT docrep.info('s')->>'uuid'}) . '|t|t',
	'the receiving side knows from where it has what');
unlike(sql('SELECT source FROM docrep.sources', 'two'), qr/hunter2/, 'without credentials');
is(sql(q{SELECT count(*) FROM docrep.sources WHERE tbl = 's'::regclass}), '0', 'the other side has received nothing');
is( sql(q{SELECT string_agg(tbl::text, ' ' ORDER BY tbl::text) FROM docrep.sources WHERE source_uuid = docrep.info('s')->>'uuid'}),
	'once refused t',
	'tables of one database are each other\'s sources');

sql(q{DELETE FROM s WHERE _id IN ('d1', 'd2')});
wait_for_query($node, 'one', 'SELECT count(*) FROM t', 10);
wait_for_query($node, 'one', q{SELECT tombstones FROM docrep.tombstone_holders WHERE doc_id = 'live'}, 0);
is( sql(q{SELECT tombstones, passed, disabled, counts FROM docrep.tombstone_holders WHERE doc_id = 'away'}),
	'2|0|f|t',
	'a task that has never reached its target holds back every tombstone');
is( sql(q{SELECT count(*) FROM docrep.tombstone_holders WHERE tbl = 's'::regclass AND doc_id IS NULL AND target = 'copy' AND tombstones = 2}),
	'1',
	'and so does the other database, which has not looked again');
is(sql(q{SELECT docrep.clean_tombstones('s')}), '0', 'so none is removed');
sql(q{DELETE FROM docrep.replicator WHERE _id IN ('away', 'once')});
is(sql(q{SELECT docrep.clean_tombstones('s')}), '0', 'one holder is enough');
$node->safe_psql('two', "SELECT docrep.replicate('" . pg_url($node, 'one', table => 's') . "', 'copy')");
sql(q{SELECT docrep.delete_local('s', replication_id) FROM docrep.tombstone_holders WHERE target = 'once'});
wait_for_query($node, 'one', q{SELECT sum(tombstones) FROM docrep.tombstone_holders WHERE tbl = 's'::regclass}, 0);
is(sql(q{SELECT docrep.clean_tombstones('s')}), '2', 'when all have passed them they are removed');
is(sql(q{SELECT count(*) FROM copy WHERE _id IN ('d1', 'd2')}, 'two'), '0', 'and the deletions have arrived');
is(sql(q{SELECT count(*) FROM docrep.check('s')}), '0', 'nothing is wrong with the table');

# ---- pending ---------------------------------------------------------------------------

task("mute$_", 's', 'postgresql://joe:hunter2@127.0.0.1:' . $mute->sockport . "/x#t$_", $continuous) foreach (1 .. 6);
wait_for_query($node, 'one', q{SELECT count(*) > 0 FROM docrep.scheduler_docs WHERE doc_id LIKE 'mute%' AND state = 'pending'}, 't');
pass('what waits for a process is pending');
is( sql(q{SELECT count(*) FROM docrep.scheduler_docs WHERE doc_id LIKE 'mute%' AND state NOT IN ('initializing', 'pending', 'running', 'crashing')}),
	'0',
	'none of them is over');
sql(q{DELETE FROM docrep.replicator WHERE _id LIKE 'mute%'});
ok( wait_for_query($node, 'one', q{SELECT count(*) FROM docrep.scheduler_jobs WHERE doc_id LIKE 'mute%'}, 0),
	'what is deleted is gone from all views');

# ---- many ------------------------------------------------------------------------------

my $plan = sql(q{EXPLAIN SELECT * FROM docrep.scheduler_docs});
like($plan, qr/(Hash|Merge) .*Join/, 'jobs and rows are joined in one go');
unlike($plan, qr/Nested Loop .*\n.*Function Scan on job_rows/, 'jobs are not looked through for each row');

$node->stop;
done_testing();
