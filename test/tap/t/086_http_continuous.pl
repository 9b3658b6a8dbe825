# A continuous pull that has caught up with a CouchDB hears of changes by a stream
# (feed=continuous): one request for all of them.  A stream that breaks is made again
# after a look at the database; where streams do not work, long polls take over.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

# what is parked has no stream
my $node = new_node('near', databases => ['one'], conf => "docrep.park_after = -1\n");
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $quiet = DocrepCouch->new;
my $quiet_lab = DocrepFaults->new($node, 'one', $quiet);
my $session = $lab->{session};
my $true = JSON::PP::true;
my %options = (continuous => $true, request_timeout => undef, connection_timeout => 20_000);
my $serial = 0;

sub plain { return { id => $_[0], revs => [ DocrepFaults::rev(1, $_[0]) ], body => "\"n\":\"$_[0]\"" } }

# Waits until a pull has brought everything.
sub arrived
{
	my ($case, $name) = @_;
	my ($lab, $couch) = @$case{qw(lab couch)};
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { ($session->query("SELECT count(*) FROM docrep.changes('$case->{table}')") // '') eq keys %{ $couch->contents($case->{db}) } }, undef, $name);
	return $lab->is_equal($case, $name);
}

# So many requests for changes of a kind.
sub asked { my ($case, $feed) = @_; return scalar $case->{couch}->requests("/$case->{db}/_changes\\?feed=$feed") }

# A database of three documents.
sub fresh
{
	my ($lab) = @_;
	my $case = $lab->fresh('pull', map { plain("first$_") } 1 .. 3);
	@$case{qw(lab couch)} = ($lab, $lab->{couch});
	return $case;
}

# A database whose continuous pull has caught up, and has made so many requests of a kind.
sub caught_up
{
	my ($times, $feed, %more) = @_;
	my $case = fresh($more{lab} // $lab);
	$case->{couch}->fault(times => 0, %{ $more{fault} }, match => "^GET /$case->{db}/_changes\\?feed=(continuous|longpoll)") if $more{fault};
	my $run = $case->{lab}->run($case, %options, %{ $more{options} // {} });
	is($run->{state}, '', "a continuous pull, $more{name}") or diag $run->{message};
	wait_until(sub { asked($case, $feed) >= $times }, undef, "$feed, $more{name}");
	return $case;
}

# A stream whose trial is over.
sub streaming { return caught_up(2, 'continuous', @_) }

sub add
{
	my ($case, $n) = @_;
	$case->{couch}->put($case->{db}, map { plain('later' . ++$serial) } 1 .. $n);
	return;
}

sub cancel { $_[0]{lab}->run($_[0], %options, cancel => $true); return }

# Failures of a case's job.
sub errors { return $session->must("SELECT coalesce(sum(error_count), 0) FROM docrep.active_tasks WHERE source LIKE '%/$_[0]{db}/'") }

# ---------- cases that need a minute, and go on meanwhile ----------

my $idle = streaming(name => 'that will idle', lab => $quiet_lab);
my $muted = streaming(name => 'whose stream falls silent', lab => $quiet_lab, fault => { skip => 1, times => 1, feed => { what => 'mute' } });
my $held = caught_up(1, 'longpoll', name => 'whose answers are held back until they are complete', lab => $quiet_lab, fault => { feed => { what => 'hold' } });
my $begin = time;
add($muted, 1);

# ---------- one request ----------

{
	my $case = streaming(name => 'one by one');
	foreach my $n (1 .. 20)
	{
		add($case, 1);
		wait_for_query($node, 'one', "SELECT count(*) FROM docrep.changes('$case->{table}')", 3 + $n);
	}
	$couch->put($case->{db}, { id => 'first1', revs => [ DocrepFaults::rev(2, 'u'), DocrepFaults::rev(1, 'first1') ], body => '"updated":1' },
		{ id => 'first2', revs => [ DocrepFaults::rev(2, 'x'), DocrepFaults::rev(1, 'first2') ], deleted => 1, body => '' },
		{ id => 'first3', revs => [ DocrepFaults::rev(2, 'c'), DocrepFaults::rev(1, 'other') ], body => '"conflict":1' });
	# which may come in several transactions
	wait_for_query($node, 'one', "SELECT string_agg(jsonb_array_length(changes) || ' ' || deleted || ' ' || coalesce(docrep.get('$case->{table}', id) ->> 'updated', ''), ', ' ORDER BY id)
		FROM docrep.changes('$case->{table}', style => 'all_docs') WHERE id LIKE 'first%'", '1 false 1, 1 true , 2 false ');
	arrived($case, 'twenty changes one by one, an update, a deletion and a conflict arrive');

	$couch->fill($case->{db}, 1, 3000);
	arrived($case, '... and three thousand at once');
	is(asked($case, '(continuous|longpoll)'), 2, '... all with one stream (and the trial before it)');
	cancel($case);
}

# In batches that are smaller than what comes, and of a few documents.
{
	my $case = streaming(name => 'in small batches', options => { worker_batch_size => 7 });
	$couch->fill($case->{db}, 1, 100);
	arrived($case, 'a hundred at once, seven a batch');
	is(asked($case, '(continuous|longpoll)'), 2, '... with one stream');
	cancel($case);

	my %some = (doc_ids => [qw(first1 wanted)]);
	$case = streaming(name => 'of a few documents', options => {%some});
	add($case, 3);
	$couch->put($case->{db}, plain('wanted'));
	wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table}", '2');
	is($session->must("SELECT string_agg(_id, ' ' ORDER BY _id) FROM $case->{table}"), 'first1 wanted', 'only what is wanted arrives');
	is(asked($case, '(continuous|longpoll)'), 2, '... with one stream');
	$lab->run($case, %options, %some, cancel => $true);
}

# More than anybody has room for, while nothing can be written.  Sequences are numbers.
{
	$couch->seqs('number');
	my $case = streaming(name => 'whose target is locked');
	my $holder = DocrepSession->new($node, 'one', app => 'holder');
	my ($most) = $lab->memory_of_workers(sub {
		$holder->must("BEGIN; LOCK TABLE $case->{table} IN EXCLUSIVE MODE");
		$couch->fill($case->{db}, 1, 20_000, size => 10, prefix => 'x' x 100);
		wait_for_query($node, 'one', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'docrep worker' AND wait_event_type = 'Lock'}, 't');
		# what the stream has not sent yet it cannot send: nobody takes it
		$holder->must('COMMIT');
		wait_for_query($node, 'one', "SELECT count(*) FROM docrep.changes('$case->{table}')", 20_003);
	});
	cmp_ok($most, '<', 65536, "twenty thousand changes at once: the worker has had $most kB");
	is(asked($case, '(continuous|longpoll)'), 2, '... with one stream');
	cancel($case);
	$holder->close;
	$couch->seqs('opaque');
}

# ---------- streams that break ----------

foreach my $what (qw(cut reset end stop))
{
	foreach my $after (0, 2)
	{
		my $name = "a stream with \"$what\" after $after rows";
		my $case = streaming(name => $what);
		# the one that is made when this one breaks; it must be there before
		my $fault = $couch->fault(match => "^GET /$case->{db}/_changes\\?feed=continuous", feed => { what => $what, after => $after });
		$couch->restart;
		wait_until(sub { $couch->hits($fault) }, undef, 'the stream to be made');
		add($case, 3);
		arrived($case, "$name: everything arrives");
		add($case, 1);
		arrived($case, '... and what comes later');
		my @requests = $couch->requests("^GET /$case->{db}(/_changes\\?feed=continuous|\$)");
		my @unseen = grep { $requests[$_] =~ /continuous/ && $requests[ $_ - 1 ] =~ /continuous/ } 1 .. $#requests;
		# the trial's successor needs no look
		is(scalar @unseen, 1, '... the database was looked at before each new stream') or diag join "\n", @requests;
		is(asked($case, 'longpoll'), 0, '... and streams are not given up');
		cancel($case);
		$couch->heal;
	}
}

# ---------- where streams do not work ----------

my %unfit = (
	'refused with 400' => { status => 400, body => '{"error":"bad_request","reason":"feed"}' },
	'refused with 403' => { status => 403, body => '{"error":"forbidden","reason":"feed"}' },
	'refused with 501' => { status => 501, body => '' },
	'with 503 always' => { status => 503, body => '' },
	'that is an empty answer' => { status => 200, body => '' },
	'that is a normal answer' => { status => 200, body => '{"results":[],"last_seq":"3-x","pending":0}' },
	'that is a page' => { status => 200, type => 'text/html', body => '<html>Welcome</html>' },
	'with garbage on a line' => { feed => { what => 'text', after => 0, text => "what is this?\n" } },
	'with a number on a line' => { feed => { what => 'text', after => 0, text => "17\n" } },
	'with an error on a line' => { feed => { what => 'text', after => 0, text => "{\"error\":\"timeout\"}\n" } },
	'that ends at once' => { feed => { what => 'end', after => 0 } },
	'that is reset at once' => { feed => { what => 'reset', after => 0 } },
	'that ends with each row' => { feed => { what => 'end', after => 1 } },
	'that is silent' => { feed => { what => 'mute', after => 0 } },
	'that is held back' => { feed => { what => 'hold' } },
);
my $same_process = 0;

sub process_of
{
	my ($case) = @_;
	return $node->safe_psql('one', "SELECT pid FROM docrep.active_tasks WHERE target = '$case->{table}'");
}

foreach my $name (sort keys %unfit)
{
	my $case = fresh($lab);
	my %fault = %{ $unfit{$name} };
	# rows that come later would meet a stream whose heartbeats have made it believed in
	$fault{command} = [ 'put', $case->{db}, map { plain("at once $_") } 1, 2 ] if $fault{feed} && ($fault{feed}{after} // 0) == 1;
	my $fault = $couch->fault(times => 0, %fault, match => "^GET /$case->{db}/_changes\\?feed=continuous");
	my $run = $lab->run($case, %options);
	is($run->{state}, '', "a stream $name") or diag $run->{message};
	wait_until(sub { $couch->hits($fault) }, undef, 'the stream to be asked for');
	arrived($case, '... what is there arrives');
	foreach (1, 2)
	{
		add($case, 2);
		arrived($case, '... and what comes later');
	}
	wait_until(sub { asked($case, 'longpoll') }, undef, 'polls to take over');
	add($case, 1);
	arrived($case, '... and what polls bring');
	cmp_ok($couch->hits($fault), '<=', 2, '... streams are not tried again and again');
	is(errors($case), '0', '... and nobody calls it an error');
	ok(log_has($node, qr{$case->{db}/ does not give its changes as a stream}), '... but the log tells');
	my ($hits, $polls, $pid) = ($couch->hits($fault), asked($case, 'longpoll'), process_of($case));
	cancel($case);
	$lab->run($case, %options);
	add($case, 1);
	arrived($case, '... and the next run');
	# another process does not know, and one row may be enough for it to believe in streams
	if (process_of($case) eq $pid)
	{
		wait_until(sub { asked($case, 'longpoll') > $polls }, undef, 'the next run to poll');
		is($couch->hits($fault), $hits, '... of the same process knows that it has to poll');
		$same_process++;
	}
	cancel($case);
	$couch->heal;
}

cmp_ok($same_process, '>', 3, 'processes were used again');

# ---------- who it is that answers ----------

# Another database of the same name, while the stream is open.
{
	my $case = streaming(name => 'of a database that will be made anew');
	$couch->delete($case->{db});
	$couch->put($case->{db}, map { plain("anew$_") } 1 .. 10);
	wait_for_query($node, 'one', "SELECT count(*) FROM $case->{table} WHERE _id LIKE 'anew%'", '10');
	pass('a database that is made anew under a stream is read from its beginning');
	cancel($case);
}

# ---------- ending ----------

{
	# its next heartbeat comes after ten seconds, and silence is noticed after half a minute
	my $case = streaming(name => 'to be cancelled', fault => { skip => 1, feed => { what => 'mute' } });
	my $begin = time;
	cancel($case);
	wait_until(sub { $session->must("SELECT count(*) FROM docrep.active_tasks WHERE source LIKE '%/$case->{db}/'") eq '0' }, undef, 'the job to go');
	cmp_ok(time - $begin, '<', 30, sprintf 'an open stream does not hold up cancelling (%.2f s)', time - $begin);
}

# ---------- what took a minute ----------

# From time to time nothing else tells that a database is another one.
wait_until(sub { scalar(grep { $_->{target} eq "/$idle->{db}" && $_->{at} > $begin + 50 } @{ $quiet->log }) }, undef, 'the idle database to be looked at');
is(asked($idle, '(continuous|longpoll)'), 2, 'an idle stream stays open, and the database is looked at');

arrived($muted, 'a stream that has fallen silent is noticed');
my @requests = $quiet->requests("^GET /$muted->{db}(/_changes\\?feed=continuous|\$)");
is(scalar grep({ /continuous/ } @requests), 3, '... it is made again') or diag join "\n", @requests;
my ($looked) = grep { $requests[ $_ - 1 ] =~ /continuous/ && $requests[$_] =~ /continuous/ } 2 .. $#requests;
is($looked // 2, 2, '... after a look at the database');
is(errors($muted), '0', '... and that is no error');

wait_until(sub { scalar $quiet->requests("/$held->{db}/_changes\\?feed=longpoll.*timeout=") }, undef, 'polls that end by themselves');
add($held, 1);
arrived($held, 'a change arrives where answers are held back');
is(errors($held), '0', '... and silence is no error');
cancel($_) foreach $idle, $muted, $held;
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
