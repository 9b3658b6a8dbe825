# CouchDB peers that are not what they were: sequences that go back, databases
# deleted and made again, servers that restart under a continuous replication.
# Nothing is skipped without a word.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $true = JSON::PP::true;
my $node = new_node('near', databases => ['one']);
my %couch = (opaque => DocrepCouch->new, number => DocrepCouch->new(seqs => 'number'));
my %lab = map { $_ => DocrepFaults->new($node, 'one', $couch{$_}) } keys %couch;

sub plain { return { id => $_[0], revs => [ DocrepFaults::rev(1, $_[0]) ], body => '"new":1' } }

# Waits until both sides are the same.
sub wait_equal
{
	my ($lab, $case, $name) = @_;
	eval {
		wait_until(sub {
			my $there = $lab->{couch}->contents($case->{db});
			my $here = DocrepCouch::docrep_contents($node, 'one', $case->{table});
			return join("\n", map { "$_ $there->{$_}" } sort keys %$there) eq join("\n", map { "$_ $here->{$_}" } sort keys %$here);
		}, undef, $name);
	};
	return $lab->is_equal($case, $name);
}

sub job_state { return $_[0]{session}->must('SELECT state FROM docrep.active_tasks') }

foreach my $seqs ('opaque', 'number')
{
	my ($couch, $lab) = ($couch{$seqs}, $lab{$seqs});
	my $session = $lab->{session};

	# ---------- between two runs ----------

	# Deleted and made again with other contents: all of them arrive, as does what
	# has a lower sequence than the checkpoint says.
	{
		my $case = $lab->fresh('pull');
		$lab->run($case);
		$couch->delete($case->{db});
		my @new = map { plain("new$_") } 1 .. 5;
		$couch->put($case->{db}, @new);
		my $run = $lab->run($case);
		is($run->{state}, '', "$seqs: a source that was made again") or diag $run->{message};
		is($run->{result}{docs_written}, 5, '... is read from its beginning');
		is($session->must("SELECT count(*) FROM $case->{table} WHERE _id LIKE 'new%'"), '5', '... and all is there');
		is($lab->run($case)->{result}{no_changes}, $true, '... and then there is a checkpoint again');
	}
	# ... with as many documents as before, or more
	{
		my $case = $lab->fresh('pull', map { plain("old$_") } 1 .. 10);
		$lab->run($case);
		$couch->delete($case->{db});
		$couch->put($case->{db}, map { plain("new$_") } 1 .. 20);
		my $run = $lab->run($case);
		is($run->{result}{docs_written}, 20, "$seqs: also one that has grown beyond the checkpoint") or diag $run->{message};
	}
	# ... and the checkpoint with it, as from a backup of the database's files
	{
		my $case = $lab->fresh('pull', map { plain("old$_") } 1 .. 10);
		$lab->run($case);
		my $local = $couch->local($case->{db});
		$couch->delete($case->{db});
		$couch->put($case->{db}, map { plain("new$_") } 1 .. 20);
		$couch->put_local($case->{db}, $local);
		my $run = $lab->run($case);
		is($run->{state}, '', "$seqs: made again, with the old checkpoint copied") or diag $run->{message};
		is($session->must("SELECT count(*) FROM $case->{table} WHERE _id LIKE 'new%'"), '20', '... all is there') if $seqs eq 'opaque';
	}
	# a target that was made again is filled again
	{
		my $case = $lab->fresh('push');
		$lab->run($case);
		$couch->delete($case->{db});
		my $run = $lab->run($case);
		is($run->{state}, '', "$seqs: a target that was made again") or diag $run->{message};
		$lab->is_equal($case, '... is filled again');
	}
	# the source's sequence goes back: restored from a backup, its checkpoints as they were then, or (which
	# sequences that are numbers let one notice) as they are
	foreach my $how ('then', $seqs eq 'number' ? 'now' : ())
	{
		my $case = $lab->fresh('pull', map { plain("old$_") } 1 .. 10);
		$lab->run($case);
		my $local = $couch->local($case->{db});
		$couch->put($case->{db}, map { plain("old$_") } 11 .. 20);
		is($lab->run($case)->{result}{docs_written}, 10, "$seqs: ten more");
		$couch->set_seq($case->{db}, 10);
		$couch->put_local($case->{db}, $local) if $how eq 'then';
		$couch->put($case->{db}, map { plain("new$_") } 1 .. 5);
		my $run = $lab->run($case);
		is($run->{state}, '', "$seqs: a sequence that went back, with the checkpoint of $how") or diag $run->{message};
		is($run->{result}{docs_written}, 5, '... what is new arrives');
		$lab->is_equal($case, '... everything is there');
		$couch->put($case->{db}, plain('newest'));
		is($lab->run($case)->{result}{docs_written}, 1, '... and it goes on from there');
	}
	# answers whose last_seq is behind where they began
	{
		my $case = $lab->fresh('pull', map { plain("old$_") } 1 .. 50);
		my $first = $couch->seq_of($case->{db}, 5);
		$lab->meets("$seqs: a last_seq that goes back", case => $case, options => { worker_batch_size => 10 },
			fault => { match => '^GET /db/_changes', replace => [ '"last_seq":("[^"]*"|\d+)', "\"last_seq\":$first" ] });
	}

	# ---------- under a continuous replication ----------

	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		my %options = (continuous => $true, connection_timeout => 10_000, request_timeout => undef);
		my $add = sub {
			my ($id) = @_;
			$way eq 'pull' ? $couch->put($case->{db}, plain($id)) : $session->must("SELECT docrep.put('$case->{table}', '{\"_id\": \"$id\"}')");
		};
		my $run = $lab->run($case, %options);
		is($run->{state}, '', "$seqs, continuous $way") or diag $run->{message};
		wait_equal($lab, $case, '... brings what is there');
		$add->('later');
		wait_equal($lab, $case, '... and what comes later');

		$couch->restart;
		$add->('after a restart');
		wait_equal($lab, $case, '... and goes on after a restart');

		$couch->stop;
		$add->('while it is down') if $way eq 'push';
		wait_until(sub { job_state($lab) eq 'crashing' }, undef, 'the job to notice') if $way eq 'push';
		$couch->start;
		$add->('when it is up again');
		wait_equal($lab, $case, '... and when the peer was down for a while');

		# silence: a connection that is open, and nobody there
		if ($way eq 'pull' && $seqs eq 'opaque')
		{
			my $fault = $couch->fault(match => "_changes.*feed=(continuous|longpoll)", times => 0, hang_at => -1);
			$couch->restart;
			wait_until(sub { $couch->hits($fault) >= 2 }, undef, 'silence to be noticed');
			pass('... silence is noticed');
			$couch->heal;
			$add->('after the silence');
			wait_equal($lab, $case, '... and overcome');
		}

		# failing for a while
		foreach my $status (500, 503, 429, 404, 401)
		{
			$couch->fault(match => $way eq 'pull' ? "^POST /$case->{db}/_bulk_get" : "^POST /$case->{db}/_(bulk_docs|revs_diff)", times => 3, status => $status, body => '{}');
			$add->("after $status");
			wait_equal($lab, $case, "... overcomes $status three times");
			$couch->heal;
		}

		# deleted and made again
		$couch->delete($case->{db});
		if ($way eq 'pull')
		{
			$couch->put($case->{db}, map { plain("made again $_") } 1 .. 3);
			wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table} WHERE _id LIKE 'made again%'", '3');
			pass('... a source that is made again is read from its beginning');
			$couch->put($case->{db}, map { plain("made again $_") } 4 .. 200);
			wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table} WHERE _id LIKE 'made again%'", '200');
			pass('... and goes on');
		}
		else
		{
			$couch->create($case->{db});
			$add->('made again');
			wait_equal($lab, $case, '... a target that is made again is filled again');
		}
		$lab->run($case, %options, cancel => $true);
		wait_until(sub { $session->must('SELECT count(*) FROM docrep.active_tasks') eq '0' }, undef, 'the job to go');
	}
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
