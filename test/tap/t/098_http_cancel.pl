# CouchDB peers that hang, or are slow without an end, hold nobody up: cancelling,
# terminating, time-outs, shutdown and DROP DATABASE take effect soon, at every request.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

# before any time-out of a minute
my $soon = 30;
my $true = JSON::PP::true;
my $node = new_node('near', databases => [ 'one', 'other' ], conf => 'docrep.worker_linger = 0');
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);

# Nothing here ends by itself.
my %patient = (connection_timeout => 60000, request_timeout => undef, retries_per_request => 0);

my %ends = (
	'cancel' => sub { my ($lab, $case, %options) = @_; $lab->{onlooker}->must($lab->statement($case, %patient, %options, cancel => $true)); return qr/^DR500$/ },
	'cancelling the caller' => sub { $_[0]{onlooker}->must(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'}); return qr/^57014$/ },
	'termination of the caller' => sub { $_[0]{onlooker}->must(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'}); return qr/^lost$/ },
	'termination of the worker' => sub { $_[0]{onlooker}->must('SELECT pg_terminate_backend(pid) FROM docrep.active_tasks'); return qr/^57P01$/ },
);
my %faults = (
	'silent' => { hang_at => -1 },
	'silent in mid-body' => { hang_at => 20 },
	'slow' => { drip => 1 },
);
my %kinds = (
	pull => [ 'GET /db$', 'GET /db/_local/', 'GET /db/_changes', 'POST /db/_bulk_get', 'GET /db/attached', 'PUT /db/_local/' ],
	push => [ 'GET /db$', 'PUT /db$', 'POST /db/_revs_diff', 'POST /db/_bulk_docs', 'PUT /db/attached', 'PUT /db/_local/' ],
);

$lab->{onlooker} = DocrepSession->new($node, 'one', app => 'onlooker');
my @ends = sort keys %ends;
my @faults = sort keys %faults;
my $turn = 0;
foreach my $way (qw(pull push))
{
	foreach my $kind (@{ $kinds{$way} })
	{
		foreach my $what (@faults[ $turn % @faults, ($turn + 1) % @faults ])
		{
			my $end = $ends[ $turn++ % @ends ];
			my $case = $lab->fresh($way);
			my $fault = $couch->fault(DocrepFaults::for_case($case, { match => "^$kind", times => 0, %{ $faults{$what} } }));
			my $caller = $lab->{session};
			$caller->send($lab->statement($case, %patient));
			wait_until(sub { $couch->hits($fault) || $caller->receive(0) }, undef, "$kind to be asked for");
			my $begin = time;
			my $state = $ends{$end}->($lab, $case);
			my $answered = $caller->receive($soon);
			my $gone = eval { wait_for_query($node, 'one', 'SELECT count(*) FROM docrep.active_tasks', '0', $soon) };
			my $took = time - $begin;
			ok($answered && $gone, sprintf '%s, %s at %s: %s (%.1f s)', $way, $what, $kind, $end, $took);
			like($answered ? $caller->{sqlstate} : 'no answer', $state, '... and the caller is told') or diag $caller->{output};
			$couch->heal;
			my $run = $lab->run($case);
			is($run->{state}, '', '... and afterwards it goes on') or diag $run->{message};
			$lab->is_equal($case, '... to the end');
		}
	}
}

# ---------- the worker does not burn the processor while it waits ----------

{
	my $case = $lab->fresh('pull');
	my $fault = $couch->fault(match => "^POST /$case->{db}/_bulk_get", times => 0, drip => 5);
	$lab->{session}->send($lab->statement($case, %patient));
	wait_until(sub { $couch->hits($fault) }, undef, 'the request');
	my $pid = $lab->{onlooker}->must('SELECT pid FROM docrep.active_tasks');
	my $ticks = sub { my @stat = split / /, PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ s/^.*\) //r; return $stat[11] + $stat[12] };
	my $before = $ticks->();
	my $sent = $couch->sent;
	wait_until(sub { $couch->sent >= $sent + 10 }, undef, 'ten bytes');
	cmp_ok($ticks->() - $before, '<=', 20, 'a slow answer costs no time of the processor');
	$lab->{onlooker}->must($lab->statement($case, %patient, cancel => $true));
	$lab->{session}->receive;
	$couch->heal;
}

# ---------- idle, and everything hangs ----------

foreach my $end ('cancel', 'DROP DATABASE', 'DROP EXTENSION', 'shutdown')
{
	my $db = 'idle' . ++$turn;
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE other");
	my $idle = DocrepFaults->new($node, $db, $couch);
	my @cases = map { $idle->fresh($_) } qw(pull push);
	foreach my $case (@cases)
	{
		my $run = $idle->run($case, %patient, continuous => $true);
		is($run->{state}, '', "continuous $case->{way}") or diag $run->{message};
	}
	wait_for_query($node, $db, q{SELECT count(*) FROM docrep.active_tasks WHERE state IN ('idle', 'parked')}, '2');
	$couch->fault(match => '.', times => 0, hang_at => -1);
	my $begin = time;
	if ($end eq 'cancel') { $idle->run($_, %patient, continuous => $true, cancel => $true) foreach @cases }
	$idle->{session}->close;
	$node->safe_psql('postgres', "DROP DATABASE $db") if $end eq 'DROP DATABASE';
	$node->safe_psql($db, 'DROP EXTENSION docrep CASCADE') if $end eq 'DROP EXTENSION';
	if ($end eq 'shutdown')
	{
		$lab->{$_}->close foreach qw(session onlooker);
		$node->restart;
	}
	wait_for_query($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'}, '0', $soon);
	cmp_ok(time - $begin, '<', $soon, sprintf 'both ways idle, the peer silent: %s (%.1f s)', $end, time - $begin);
	$couch->heal;
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
