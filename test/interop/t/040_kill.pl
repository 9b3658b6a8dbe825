# Both ways, continuously, with edits on both sides, while the test kills at
# random: workers of docrep, all of PostgreSQL, the CouchDB-compatible server.  In
# the end both sides are equal and hold every edit that was acknowledged.
#
# DOCREP_SEED=n repeats the choices of an earlier run (not their timing).
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT quote replicate check_table);
use JSON::PP;
use SqlEditor;
use Test::More;
use Time::HiRes qw(time);

my $true = JSON::PP::true;
my $seed = seed();
diag("DOCREP_SEED=$seed");
srand($seed);
my $seconds = $ENV{DOCREP_SECONDS} // (is_soak() ? 600 : 40);

my $couch = DocrepInterop->new('couch');
my $node = new_node('pg', databases => ['db'], conf => "docrep.max_workers = 16\n");
my $url = $couch->create('db');
js('generate.js', $url, is_soak() ? 5000 : 800, $seed);
my $big = $couch->create('big');
my $made = decode_json(js('generate.js', $big, is_soak() ? 20000 : 2500, $seed + 1));

$node->safe_psql('db', "SELECT docrep.create_table('$_')") foreach 'docs', 'big';
my @jobs = ([ $url, 'docs' ], [ 'docs', $url ], [ $big, 'big' ]);

# Continuous jobs are not remembered by a server that restarts; to ask again for
# one that is there does nothing.
sub start_jobs
{
	foreach my $job (@jobs)
	{
		my $request = JSON::PP->new->encode({ source => $job->[0], target => $job->[1], continuous => $true });
		eval { $node->psql('db', 'SELECT docrep.replicate(' . quote($request) . ')') };
	}
	return;
}

# ---------- kill ----------

my $editor = start_js('edit.js', $url, $seed, 0, 20, 30);
my $sql = SqlEditor->new($node, 'db', 'docs', 30);
my %kills;
my %kill = (
	worker => sub {
		# psql may be gone before it has read the query, if the server is just away
		my ($rc, $pids) = eval { $node->psql('db', q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'docrep worker%'}) };
		my @pids = split /\n/, $pids // '';
		return unless @pids;
		kill rand() < 0.5 ? 'TERM' : 'KILL', $pids[ rand @pids ];
	},
	postgres => sub {
		$node->stop(rand() < 0.7 ? 'immediate' : 'fast');
		$node->start;
	},
	couch => sub {
		$couch->kill9;
		$couch->start;
	});

start_jobs();
my $end = time + $seconds;
my $next = time + 2;
while (time < $end)
{
	$sql->edit;
	next if time < $next;
	my $which = (sort keys %kill)[ rand 3 ];
	$kill{$which}->();
	$kills{$which}++;

	# a server that restarts after the crash of a process takes its time
	wait_for_query($node, 'db', 'SELECT 1', '1');
	start_jobs();
	$next = time + 0.5 + rand 3;
}
note(join ', ', map { "$_ $kills{$_}" } sort keys %kills);
wait_until(
	sub {
		$sql->edit;
		return $sql->edits > 50 && lines_of_js($editor) > 0;
	},
	undef,
	'edits of both, however slow the machine is');
my @edits = (map({ decode_json($_) } split /\n/, stop_js($editor)), $sql->edits);
cmp_ok(scalar @edits, '>', 50, 'there were edits in between');

# ---------- compare ----------

wait_for_query($node, 'db', 'SELECT 1', '1');
start_jobs();
wait_until(
	sub {
		start_jobs();
		same_revs(couch_revs($url), table_revs($node, 'db', 'docs')) && same_revs(couch_revs($big), table_revs($node, 'db', 'big'));
	},
	180,
	'both sides to become equal');
my $leaves = table_leaves($node, 'db', 'docs');
is_same_leaves(couch_leaves($url), $leaves, 'equal, both ways');
is_none_lost($leaves, \@edits, 'no edit is lost');
is_same_leaves(couch_leaves($big), table_leaves($node, 'db', 'big'), 'equal, pulled');
check_table($node, 'db', $_) foreach 'docs', 'big';
is($node->safe_psql('db', 'SELECT count(*) FROM docrep.rejected_docs'), 0, 'nothing was refused');

# The table has had each document of the pulled database once, in spite of what was
# read again: a leaf that is there already takes no number.
my ($seq, $leaves_there) = split /\|/, $node->safe_psql('db', q{SELECT docrep.info('big') ->> 'update_seq',
	(SELECT sum(jsonb_array_length(changes)) FROM docrep.changes('big', style => 'all_docs'))});
is($leaves_there, $made->{leaves}, 'every leaf is there once');
note("update_seq $seq for $leaves_there leaves");

$node->safe_psql('db', 'SELECT docrep.replicate(' . quote(JSON::PP->new->encode(
	{ source => $_->[0], target => $_->[1], continuous => $true, cancel => $true })) . ')') foreach @jobs;
done_testing();
