# Tasks on a standby: none runs there; when it is promoted they start within seconds and go
# on from their checkpoints, whether local, from or to another server, and what is over does
# not run again.
use strict;
use warnings;

use DocrepCouch;
use DocrepTest qw(:DEFAULT contents is_same_contents);
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $primary = new_node('primary', init => { allows_streaming => 1 }, conf => "docrep.park_after = 200ms\nclient_min_messages = warning\n");
my $third = new_node('third');
my $couch = DocrepCouch->new;
my $documents = 3000;

sub sql { return $primary->safe_psql('postgres', $_[0]) }

# --- a primary with tasks -----------------------------------------------------------

sql(qq{SELECT docrep.create_table(t) FROM unnest('{s,local,once,pull,off}'::text[]) t;
	INSERT INTO s(_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, $documents) i});
$third->safe_psql('postgres', qq{SELECT docrep.create_table(t) FROM unnest('{s,push}'::text[]) t;
	INSERT INTO s(_id, doc) SELECT 'd' || i, jsonb_build_object('n', i) FROM generate_series(1, $documents) i});
$couch->create('couch');
my %target = (local => 'local', once => 'once', push => pg_url($third, 'postgres', table => 'push'), pull => 'pull', couch => $couch->url('couch'), off => 'off');
foreach my $id (sort keys %target)
{
	my $source = $id eq 'pull' ? pg_url($third, 'postgres', table => 's') : 's';
	my $more = $id eq 'once' ? '' : $id eq 'off' ? ', "continuous": true, "disabled": true' : ', "continuous": true';
	sql(qq{INSERT INTO docrep.replicator(_id, doc) VALUES ('$id', '{"source": "$source", "target": "$target{$id}"$more}')});
}
my %here = (local => $primary, once => $primary, pull => $primary, push => $third);

# A node has everything in the targets; the CouchDB is nobody's.
sub everywhere
{
	my ($node, $count) = @_;
	wait_for_query($node, 'postgres', "SELECT count(*) FROM $_", $count) foreach qw(local pull);
	wait_for_query($third, 'postgres', 'SELECT count(*) FROM push', $count);
	wait_until(sub { keys %{ $couch->contents('couch') } == $count }, undef, 'the CouchDB to have it');
	return;
}
everywhere($primary, $documents);
wait_for_query($primary, 'postgres', q{SELECT count(*) FROM docrep.active_tasks WHERE state = 'parked'}, '4');
wait_for_query($primary, 'postgres', q{SELECT state FROM docrep.scheduler_docs WHERE doc_id = 'once'}, 'completed');

# --- its standby ------------------------------------------------------------------------

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
sql(q{INSERT INTO s(_id, doc) VALUES ('late', '{}')});
$third->safe_psql('postgres', q{INSERT INTO s(_id, doc) VALUES ('late', '{}')});
everywhere($primary, $documents + 1);

# the checkpoints of that have been written when all are parked again
wait_for_query($primary, 'postgres', q{SELECT count(*) FROM docrep.active_tasks WHERE state = 'parked'}, '4');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'docrep%'}), '0', 'a standby has no process of ours');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM docrep.active_tasks}), '0', '... and no job');
is($standby->safe_psql('postgres', q{SELECT string_agg(doc_id || ' ' || state, ',' ORDER BY doc_id) FROM docrep.scheduler_docs}),
	'couch initializing,local initializing,off pending,once completed,pull initializing,push initializing', '... but shows the tasks');
is((sqlstate($standby, 'postgres', q{DELETE FROM docrep.replicator}))[0], '25006', '... which cannot be changed there');

# --- promoted -----------------------------------------------------------------------------

$couch->clear_log;
$primary->stop('immediate');
my $begin = time;
$standby->promote;
wait_for_query($standby, 'postgres', q{SELECT count(*) FROM docrep.scheduler_docs WHERE state = 'running'}, '4');
cmp_ok(time - $begin, '<', 60, sprintf 'the tasks run %.1f s after the promotion began', time - $begin);
$standby->safe_psql('postgres', q{INSERT INTO s(_id, doc) VALUES ('promoted', '{}')});
$third->safe_psql('postgres', q{INSERT INTO s(_id, doc) VALUES ('promoted', '{}')});
everywhere($standby, $documents + 2);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM once}), $documents, 'the one-shot has not run again');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM off}), 0, 'what is disabled does not run');
is($standby->safe_psql('postgres', q{SELECT coalesce(string_agg(doc_id || ' ' || revisions_checked, ','), '') FROM docrep.active_tasks WHERE revisions_checked > 100}),
	'', 'the tasks have gone on from their checkpoints');
is_same_contents(contents($standby, 'postgres', 's', digest => 1), contents($standby, 'postgres', 'local', digest => 1), 'the copies are the same: local');
is_same_contents(contents($standby, 'postgres', 's', digest => 1), contents($third, 'postgres', 'push', digest => 1), '... in another server');
$standby->safe_psql('postgres', q{DELETE FROM docrep.replicator WHERE _id = 'push'});
# its job ends when it hears of that, which a document written at once may forestall
wait_for_query($standby, 'postgres', q{SELECT count(*) FROM docrep.active_tasks}, '3');
$standby->safe_psql('postgres', q{INSERT INTO s(_id, doc) VALUES ('after', '{}')});
wait_for_query($standby, 'postgres', 'SELECT count(*) FROM local', $documents + 3);
is($third->safe_psql('postgres', 'SELECT count(*) FROM push'), $documents + 2, 'tasks can be edited there now');
$_->stop foreach $standby, $third;
done_testing();
