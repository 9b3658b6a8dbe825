# Two servers that replicate both ways while writers write on both and the test
# kills at random: backends, workers and the launcher with signal 9, the servers
# by immediate and fast stops, connections and workers by pg_terminate_backend.
# In the end both hold the same trees, with every write that was acknowledged.
#
# DOCREP_SEED=n repeats the choices of an earlier run (not their timing).
# DOCREP_SOAK=1 takes ten minutes; DOCREP_SECONDS=n says how long exactly.
#
# fsync stays as the harness has it (off): the machine survives, so what
# has been written to the operating system is not lost by killing processes.  What
# a server has not yet written is: the batches of replications, which commit
# without waiting.
use strict;
use warnings;

use DocrepSession;
use DocrepTest qw(:DEFAULT quote contents is_same_contents check_table);
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = seed();
my $seconds = $ENV{DOCREP_SECONDS} // (is_soak() ? 600 : 45);
my $writers_each = 2;
my $shared_ids = is_soak() ? 400 : 60;
note("DOCREP_SEED=$seed, $seconds seconds");
diag("DOCREP_SEED=$seed");
srand($seed);

my @nodes = map {
	new_node($_, databases => ['db'],
		conf => "log_min_messages = warning\nwal_level = replica\nmax_wal_size = '4GB'")
} 'left', 'right';

# no history is cut off, so that every revision can be asked for in the end
$_->safe_psql('db', q{SELECT docrep.create_table('docs', revs_limit => 1000000)}) foreach @nodes;
my @urls = map { pg_url($_, 'db', table => 'docs') } @nodes;

# ---------- writers ----------

# One process each.  Its log has a line for each write that was acknowledged:
# "known ID REV" for a revision that must be there, "over ID REV" for one that
# must not be a leaf any more, and "never ID" for a document that was rolled back.
my $json = JSON::PP->new->canonical;
my $logdir = PostgreSQL::Test::Utils::tempdir();
my @writers;
my $test_pid = $$;

# Statements, each with what its rows mean.
sub choose_write
{
	my ($name, $n) = @_;
	my $id = rand() < 0.7 ? 'shared ' . int(rand $shared_ids) : "$name " . int(rand($n < 3000 ? 1 + $n / 3 : 1000));
	my $lit = quote($id);
	my $body = quote($json->encode({ by => $name, n => $n, text => 'x' x rand 400 }));
	my $choice = rand;

	return [ known => "INSERT INTO docs(_id, doc) VALUES ($lit, $body) RETURNING _id, _rev" ]
	  if $choice < 0.25;
	return [ known => "UPDATE docs SET doc = doc || $body WHERE _id = $lit RETURNING _id, _rev" ]
	  if $choice < 0.50;
	return [ known => "INSERT INTO docs(_id, doc) VALUES ($lit, $body)
			ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc RETURNING _id, _rev" ]
	  if $choice < 0.60;
	return [ over => "DELETE FROM docs WHERE _id = $lit RETURNING _id, _rev" ]
	  if $choice < 0.67;
	return [ known => "SELECT _id, docrep.delete('docs', _id, _rev::text) FROM docs WHERE _id = $lit" ]
	  if $choice < 0.72;

	# a losing leaf is deleted: a conflict is resolved
	return [ known => "SELECT $lit, docrep.delete('docs', $lit, d->'_conflicts'->>0)
			FROM docrep.get('docs', $lit, conflicts => true) d WHERE d ? '_conflicts'" ]
	  if $choice < 0.80;

	# attachments, some of them small enough to travel with their documents
	my $times = 1 + int(rand() < 0.5 ? rand 900 : rand 30000);
	return [ known => "SELECT _id, docrep.put_attachment('docs', _id, 'file', 'text/plain',
			convert_to(repeat(md5('$name $n'), $times), 'UTF8'), _rev::text) FROM docs WHERE _id = $lit" ]
	  if $choice < 0.83;
	return [ known => "SELECT _id, docrep.delete_attachment('docs', _id, 'file', _rev::text) FROM docs
			WHERE _id = $lit AND _attachments IS NOT NULL" ]
	  if $choice < 0.835;
	my $lot = $n % 50;
	return [ known => "INSERT INTO docs(_id, doc) SELECT '$name $lot-' || i, $body FROM generate_series(1, 40) i
			ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc RETURNING _id, _rev" ]
	  if $choice < 0.87;
	return [ known => "UPDATE docs SET doc = doc || $body WHERE _id IN
			(SELECT _id FROM docs WHERE _id LIKE '$name %' ORDER BY random() LIMIT 10) RETURNING _id, _rev" ]
	  if $choice < 0.90;
	return [ known => "BEGIN; UPDATE docs SET doc = doc || $body WHERE _id = $lit RETURNING _id, _rev;
			SAVEPOINT s; INSERT INTO docs(_id, doc) VALUES ('$name never $n', $body); ROLLBACK TO s;
			INSERT INTO docs(_id, doc) VALUES ('$name kept $n', $body) RETURNING _id, _rev; COMMIT",
		"$name never $n" ]
	  if $choice < 0.95;
	return [ nothing => "BEGIN; INSERT INTO docs(_id, doc) VALUES ('$name never $n', $body);
			DELETE FROM docs WHERE _id = $lit; ROLLBACK", "$name never $n" ];
}

# A writer's life: write until SIGTERM, which is heeded between two statements.
sub write_until_told
{
	my ($node, $name, $seed) = @_;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	my $session = DocrepSession->new($node, 'db', app => 'writer');
	open my $log, '>', "$logdir/$name" or POSIX::_exit(1);
	$log->autoflush(1);
	srand($seed);

	for (my $n = 1; !$stop && getppid() == $test_pid; $n++)
	{
		my ($meaning, $sql, $never) = @{ choose_write($name, $n) };
		my $rows = eval { $session->query($sql, 120) };

		print $log "never $never\n" if defined $never;
		if (!defined $rows)
		{
			# no COMMIT, no promise; a transaction that failed is still open
			$session->close if $session->{sqlstate} ne 'lost' && $sql =~ /^BEGIN/;
			print $log "failed $session->{sqlstate}\n";
			print "$session->{sqlstate}: $session->{output}\n$sql\n" if $session->{sqlstate} =~ /^(2[^3]|XX)/;
			sleep 0.1 if $session->{sqlstate} eq 'lost';
		}
		elsif ($meaning ne 'nothing')
		{
			# a statement of a transaction that failed shows as a message
			if ($sql =~ /^BEGIN/ && $rows =~ /(ERROR|FATAL|WARNING):/)
			{
				print $log "failed transaction\n";
				next;
			}
			foreach my $row (grep { /\|/ } split /\n/, $rows)
			{
				my ($id, $rev) = $row =~ /^(.*)\|(.*)$/;
				print $log "$meaning $id $rev\n";
			}
		}
		print $log "done\n";
		sleep rand 0.02;
	}
	$session->close;
	return;
}

# The writers end with the test, however that ends.
END
{
	if ($$ == ($test_pid // 0))
	{
		local $?;
		kill 'TERM', map { $_->{pid} } @writers;
	}
}

# Starts the writers.
foreach my $i (0 .. 1)
{
	foreach my $k (1 .. $writers_each)
	{
		my $name = 'w' . ($i * $writers_each + $k);
		my $pid = fork() // die "fork: $!";
		if ($pid == 0)
		{
			# nothing of the test's own must run when this process ends
			open STDOUT, '>', "$logdir/$name.out";
			open STDERR, '>&', \*STDOUT;
			eval { write_until_told($nodes[$i], $name, $seed + $i * 100 + $k); 1 } or print $@;
			POSIX::_exit(0);
		}
		push @writers, { pid => $pid, name => $name };
	}
}

# ---------- replications ----------

# Each side pulls; or the left one does all; or each side pulls and the left one
# pushes as well, so that two replications write the same revisions to the right
# one at the same time (and one would mend what the other has lost).
my %arrangements = (
	'both pull' => [ [ $nodes[0], $urls[1], 'docs' ], [ $nodes[1], $urls[0], 'docs' ] ],
	'the left one pulls and pushes' => [ [ $nodes[0], $urls[1], 'docs' ], [ $nodes[0], 'docs', $urls[1] ] ],
	'both pull, and the left one pushes' =>
	  [ [ $nodes[0], $urls[1], 'docs' ], [ $nodes[1], $urls[0], 'docs' ], [ $nodes[0], 'docs', $urls[1] ] ],
);
my $arrangement = (sort keys %arrangements)[ $seed % 3 ];
my @replications = @{ $arrangements{$arrangement} };
note($arrangement);

# Small batches, so that there are many.
my $options = quote('{"continuous": true, "worker_batch_size": 20, "checkpoint_interval": 1000, "connection_timeout": 5000}');

# Sees that a replication runs: continuous ones are not remembered over a
# restart.  False if it cannot be started now, as one of the servers is down.
sub run_replication
{
	my ($replication) = @_;
	my ($node, $source, $target) = @$replication;
	my $begin = time;
	my $result = try_sql($node, 'SELECT docrep.replicate(' . quote($source) . ', ' . quote($target) . ", $options)", 60);
	diag(sprintf 'starting %s to %s on %s took %.1f s', $source, $target, $node->name, time - $begin) if time - $begin > 5;
	return defined $result;
}

# ---------- harm ----------

# SQL in a node that may be down; undef if it fails.
sub try_sql
{
	my ($node, $sql, $timeout) = @_;
	my ($rc, $out) = eval { $node->psql('db', $sql, timeout => $timeout // 30) };

	return defined $rc && $rc == 0 ? $out : undef;
}

# Whatever takes long is shown: nobody should have to wait for long.
sub report_waits
{
	foreach my $node (@nodes)
	{
		my $waits = try_sql($node, q{
			SELECT now() - query_start, backend_type, application_name, wait_event_type, wait_event,
				pg_blocking_pids(pid), left(query, 80)
			FROM pg_stat_activity WHERE state = 'active' AND now() - query_start > '5s' AND query !~ 'peer_wait'});
		diag($node->name . ": $waits") if $waits;
	}
	return;
}

# Pids of a node's processes that a condition on pg_stat_activity selects.
sub pids
{
	my ($node, $condition) = @_;
	my $out = try_sql($node, "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND $condition");
	return split /\n/, $out // '';
}

# Sends a signal to a process of a node's server, if it is still there: others may have its number by now.
sub signal
{
	my ($node, $signal, $pid) = @_;
	my ($postmaster) = (eval { slurp_file($node->data_dir . "/postmaster.pid") } // "") =~ /^(\d+)/;
	my ($parent) = -r "/proc/$$/status" ? (eval { slurp_file("/proc/$pid/status") } // "") =~ /^PPid:\s+(\d+)$/m : $postmaster;

	return kill $signal, $pid if defined $parent && $parent eq ($postmaster // '');
	return 0;
}

sub one_of
{
	return $_[ rand @_ ];
}

# A server comes back after the crash of one of its processes by itself.
sub wait_until_up
{
	my ($node) = @_;
	wait_for_query($node, 'db', 'SELECT 1', '1');
}

sub kill_postmaster
{
	my ($node) = @_;

	$node->kill9;
	# where nobody reaps orphans, the lock file names a process for ever
	unlink $node->data_dir . '/postmaster.pid';
	# its children notice, and let go of shared memory
	wait_until(
		sub {
			return 1 if $node->start(fail_ok => 1);
			$node->{_pid} = undef;
			return 0;
		},
		undef,
		'the server to start again');
	return;
}

my %processes = (
	'a writer' => "application_name = 'writer'",
	'a connection of the other side' => "application_name = 'docrep'",
	'a worker' => "backend_type = 'docrep worker'",
	'the launcher' => "backend_type = 'docrep launcher'",
);

# Each kind of harm: how often it comes, its name, and a sub that prepares it for a
# node and returns whom it hits and how (nothing: there is nobody to hit).  Pids
# are looked up beforehand, because that takes longer than many a transfer.
my @harms = (
	[ 4, 'kill -9', sub {
		my ($node) = @_;
		my $what = one_of(sort keys %processes);
		my $pid = one_of(pids($node, $processes{$what})) or return;
		return ($what, sub { signal($node, 'KILL', $pid); wait_until_up($node) });
	} ],
	[ 3, 'terminate', sub {
		my ($node) = @_;
		my $what = one_of(sort keys %processes);
		my $pid = one_of(pids($node, $processes{$what})) or return;
		return ($what, sub { signal($node, 'TERM', $pid) });
	} ],
	[ 3, 'stop immediate', sub {
		my ($node) = @_;
		return ('the server', sub { $node->stop('immediate'); sleep rand 2; $node->start });
	} ],
	[ 1, 'stop fast', sub {
		my ($node) = @_;
		return ('the server', sub { $node->stop('fast'); sleep rand 2; $node->start });
	} ],
	[ 1, 'kill -9', sub {
		my ($node) = @_;
		return ('the postmaster', sub { kill_postmaster($node) });
	} ],
	[ 1, 'stop immediate', sub {
		return ('both servers', sub { $_->stop('immediate') foreach @nodes; $_->start foreach @nodes });
	} ],
	[ 1, 'CHECKPOINT', sub { my ($node) = @_; return ('', sub { try_sql($node, 'CHECKPOINT') }) } ],
	[ 1, 'compact', sub { my ($node) = @_; return ('', sub { try_sql($node, q{SELECT docrep.compact('docs', '0')}) }) } ],
	[ 1, 'VACUUM', sub { my ($node) = @_; return ('', sub { try_sql($node, 'VACUUM') }) } ],
);
my @harm_bag = map { my $harm = $_; map { $harm } 1 .. $harm->[0] } @harms;

# Many documents at once, written by the test itself; on both sides the same ones,
# so that some of them are in conflict.
my $bursts = 0;
my %burst_revs;
sub burst
{
	my ($node) = @_;
	my $rows = try_sql($node, 'INSERT INTO docs(_id, doc) SELECT ' . quote('burst ' . ++$bursts % 8 . ' ') . qq{ || i,
		jsonb_build_object('burst', $bursts, 'text', repeat('y', 300)) FROM generate_series(1, 3000) i
		ON CONFLICT (_id) DO UPDATE SET doc = excluded.doc RETURNING _id, _rev});
	foreach my $row (split /\n/, $rows // '')
	{
		my ($id, $rev) = split /\|/, $row;
		push @{ $burst_revs{$id} }, $rev;
	}
	return;
}

my %harm_done;
my $rounds = 0;
my $end = time + $seconds;
my $unable = 0;

# A slow machine goes on for a while, until it has something to show.
sub has_enough
{
	return 0 if keys %harm_done < 4;
	my $out = try_sql($nodes[0], q{SELECT (SELECT count(*) FROM docs WHERE _attachments IS NOT NULL) >= 10
		AND docrep.conflict_count('docs') >= 10});
	return ($out // '') eq 't';
}

while (time < $end || time < $end + 300 && !has_enough())
{
	foreach my $replication (@replications)
	{
		$unable++ unless run_replication($replication);
	}

	sleep rand 2;

	# one blow, or two in a row, the second into the recovery from the first; half
	# of the time something big is on its way when it falls
	foreach (0 .. int rand 2)
	{
		my ($node, $harm) = (one_of(@nodes), one_of(@harm_bag));
		my ($what, $strike) = $harm->[2]->($node) or next;
		if (rand() < 0.6)
		{
			burst(one_of(@nodes));
			sleep rand 0.15;
		}
		$strike->();
		note(sprintf '%5.1f s left: %s %s on %s', $end - time, $harm->[1], $what, $node->name);
		$harm_done{"$harm->[1] $what"}++;
		report_waits();
	}
	$rounds++;
}

# ---------- the end ----------

kill 'TERM', $_->{pid} foreach @writers;
foreach my $writer (@writers)
{
	waitpid $writer->{pid}, 0;
	is($?, 0, "$writer->{name} ended well");
	note(slurp_file("$logdir/$writer->{name}.out")) if -s "$logdir/$writer->{name}.out";
}
note("$rounds rounds, $bursts bursts; starting a replication failed $unable times");
note("$_: $harm_done{$_}") foreach sort keys %harm_done;
cmp_ok(scalar(keys %harm_done), '>=', 4, 'harm was done in several ways');

wait_until_up($_) foreach @nodes;
foreach my $replication (@replications)
{
	wait_until(sub { run_replication($replication) }, undef, 'a replication to run');
}

# Both feeds have been read to their ends by everybody.
sub caught_up
{
	foreach my $node (@nodes)
	{
		my $out = try_sql($node, q{SELECT coalesce(bool_and(coalesce(state IN ('idle', 'parked') AND changes_pending = 0, false)), true)
			FROM docrep.active_tasks});
		return 0 unless ($out // '') eq 't';
	}
	return 1;
}
sub leaves
{
	my ($node) = @_;
	return $node->safe_psql('db', q{SELECT md5(string_agg(id || deleted || changes, ',' ORDER BY id COLLATE "C"))
		FROM docrep.changes('docs', style => 'all_docs')});
}
my $settled = eval {
	wait_until(sub { caught_up() && leaves($nodes[0]) eq leaves($nodes[1]) },
		undef, 'both sides to become equal');
};
ok($settled, 'both sides settle') or diag($@,
	map { $_->safe_psql('db', 'SELECT state, changes_pending, error_count, last_error FROM docrep.active_tasks') } @nodes);

my @contents = map { contents($_, 'db', 'docs', digest => 1) } @nodes;
my @differ = grep { ($contents[1]{$_} // '') ne $contents[0]{$_} } sort keys %{ $contents[0] };
diag(join "\n", map { $_->name . ': ' . $_->safe_psql('db',
		'SELECT docrep.get(\'docs\', ' . quote($differ[0]) . q{, open_revs => '"all"', revs => true)}) } @nodes)
  if @differ;
is_same_contents(@contents, 'both sides have the same trees and bodies');
check_table($_, 'db', 'docs') foreach @nodes;
foreach my $node (@nodes)
{
	my ($attachments, $wrong) = split /\|/, $node->safe_psql('db', q{
		SELECT count(*), count(*) FILTER (WHERE
			'md5-' || encode(decode(md5(docrep.get_attachment('docs', c.id, a.key, l->>'rev')), 'hex'), 'base64') <> a.value->>'digest')
		FROM docrep.changes('docs', style => 'all_docs') c, jsonb_array_elements(c.changes) l,
			jsonb_each(docrep.get('docs', c.id, rev => l->>'rev')->'_attachments') a});
	note($node->name . ": $attachments attachments");
	cmp_ok($attachments, '>', 5, 'there are attachments');
	is($wrong, 0, 'with the contents that their digests speak of');
}

my ($conflicts, $most, $tombstones) = split /\|/, $nodes[0]->safe_psql('db', q{
	SELECT count(*) FILTER (WHERE jsonb_array_length(changes) > 1), max(jsonb_array_length(changes)),
		count(*) FILTER (WHERE deleted)
	FROM docrep.changes('docs', style => 'all_docs')});
note("$conflicts documents with more than one leaf, $most at most; $tombstones tombstones");
cmp_ok($conflicts, '>', 5, 'both sides had a hand in some documents');

# What the writers were promised.
my (%known, %over, %never, %failed);
%known = %burst_revs;
my ($done, $acknowledged) = (0, 0);
$acknowledged += @$_ foreach values %burst_revs;
foreach my $writer (@writers)
{
	foreach my $line (split /\n/, slurp_file("$logdir/$writer->{name}"))
	{
		$done++ if $line eq 'done';
		$failed{$1}++ if $line =~ /^failed (.*)/;
		$never{$1} = 1 if $line =~ /^never (.*)/;
		next unless $line =~ /^(known|over) (.*) (\S+)$/;
		push @{ $known{$2} }, $3;
		push @{ $over{$2} }, $3 if $1 eq 'over';
		$acknowledged++;
	}
}
note("$done statements, $acknowledged revisions acknowledged of " . keys(%known) . ' documents; failed: '
	  . join ', ', map { "$_ $failed{$_}" } sort keys %failed);
is($failed{timeout} // 0, 0, 'no writer had to wait for minutes');
cmp_ok($acknowledged, '>', 200, 'there was much to lose');

sub unknown
{
	my ($node) = @_;
	my @ids = sort keys %known;
	my @answers;

	while (my @some = splice @ids, 0, 1000)
	{
		my $question = quote($json->encode({ map { $_ => $known{$_} } @some }));
		push @answers, grep { $_ ne '{}' } $node->safe_psql('db', "SELECT docrep.revs_diff('docs', $question)");
	}
	return join "\n", @answers;
}
is(unknown($_), '', 'every acknowledged revision is known to ' . $_->name) foreach @nodes;

my %leaves = map { split /\t/, $_, 2 } split /\n/,
  $nodes[0]->safe_psql('db', q{SELECT id || E'\t' || changes FROM docrep.changes('docs', style => 'all_docs')});
my @lost_deletions;
foreach my $id (sort keys %over)
{
	push @lost_deletions, map { "$id $_" } grep { $leaves{$id} =~ /"\Q$_\E"/ } @{ $over{$id} };
}
is("@lost_deletions", '', 'every acknowledged deletion is there');
is(join(', ', grep { exists $contents[0]{$_} } sort keys %never), '', 'nothing is there that was rolled back');

# Nothing is left to do, and nothing is done twice.
foreach my $i (0, 1)
{
	my $result = $json->decode($nodes[$i]->safe_psql('db',
		'SELECT docrep.replicate(' . quote($urls[ 1 - $i ]) . q{, 'docs', '{"use_checkpoints": false}')}));
	is("$result->{docs_written} $result->{doc_write_failures}", '0 0', $nodes[$i]->name . ' lacks nothing of the other');
	is($nodes[$i]->safe_psql('db', 'SELECT count(*) FROM docrep.rejected_docs'), '0', 'and has rejected nothing');
}

$_->stop('fast') foreach @nodes;
foreach my $node (@nodes)
{
	my @panics = slurp_file($node->logfile)
	  =~ /^.*(?:PANIC:|TRAP:|terminated by signal (?:4|6|7|8|11)\b|could not find block|invalid memory alloc|XX00[012]).*$/mg;
	is(join("\n", @panics), '', 'no process of ' . $node->name . ' died by itself');
}

done_testing();
