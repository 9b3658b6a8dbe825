# A feed of changes that has begun well (status 200, rows) and breaks off with an error, or
# in the middle of its JSON.  It is an error that says why, and the checkpoint is not
# beyond what was read: when the trouble is over nothing is missing.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one'], conf => "docrep.park_after = -1\n");
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $true = JSON::PP::true;

# None of these faults makes anybody wait: a server that is slow is none.
my %patient = (connection_timeout => 30_000, request_timeout => undef);

# What a CouchDB puts behind the rows when its answer has begun.
my $error = "\n\n{\"error\":\"TypeError\",\"reason\":\"doc.a is undefined\"}\n";
my %kinds = (
	'JavaScript' => [ { filter => 'app/all', query_params => { keep => 'yes' } }, qr/^DR500$/, qr{filter "app/all" failed at .*TypeError: doc\.a is undefined}s ],
	'_view' => [ { filter => '_view', query_params => { view => 'app/all' } }, qr/^DR500$/, qr{filter "_view" failed at .*TypeError: doc\.a is undefined}s ],
	'selector' => [ { selector => { keep => 'yes' } }, qr/^DR500$/, qr{filter "_selector" failed at .*TypeError: doc\.a is undefined}s ],
	'doc_ids' => [ { doc_ids => [ map { "doc$_" } 1 .. 40 ] }, qr/^DR500$/, qr{filter "_doc_ids" failed at .*TypeError: doc\.a is undefined}s ],
	'no filter' => [ {}, qr/^DR503$/, qr{reading changes failed at \S+: TypeError: doc\.a is undefined} ],
);

sub doc { return { id => "doc$_[0]", revs => [ DocrepFaults::rev(1, "doc$_[0]") ], body => "\"n\":$_[0],\"keep\":\"yes\"" } }
sub fresh
{
	return $lab->fresh('pull', (map { doc($_) } 1 .. 40),
		{ id => '_design/app', revs => [ DocrepFaults::rev(1, 'app') ], body => '"filters":{"all":"function (doc, req) { return doc.keep; }"},'
			. '"views":{"all":{"map":"function (doc) { if (doc.keep) emit(); }"}},"keep":"yes"' });
}

# The checkpoint that the run after a failure begins from, as the number its sequence begins with.
sub begins_at { my ($run) = @_; return ($run->{result}{history}[0]{start_last_seq} // 0) =~ s/-.*//r }

# What is at the target, of the documents that are named by numbers.
sub arrived
{
	my ($case) = @_;
	return 0 if $lab->{session}->must("SELECT to_regclass('$case->{table}') IS NULL") eq 't';
	return $lab->{session}->must("SELECT count(*) FROM docrep.changes('$case->{table}') WHERE id LIKE 'doc%'");
}

# ---------- a feed that tells what there is ----------

my $end = '\n\],\s*"last_seq".*';
foreach my $kind (sort keys %kinds)
{
	my ($options, $state, $message) = @{ $kinds{$kind} };
	my %breaks = (
		'after rows' => [ { replace => [ qr/(?:,\n\{"seq":[^\n]*){25}$end/s, $error ] }, $state, $message ],
		'after a comma' => [ { replace => [ qr/\n\{"seq":[^\n]*$end/s, $error ] }, $state, $message ],
		'before any' => [ { replace => [ qr/\[.*/s, "[$error" ] }, $state, $message ],
		'instead of all' => [ { body => substr $error, 2 }, $state, $message ],
		'in pieces' => [ { replace => [ qr/(?:,\n\{"seq":[^\n]*){25}$end/s, $error ], drip => 20_000 }, $state, $message ],
		'with half an error' => [ { replace => [ qr/(?:,\n\{"seq":[^\n]*){25}$end/s, substr $error, 0, 20 ] }, qr/^DR503$/, qr/it is no JSON/ ],
	);
	my %cuts = (
		'within a row' => ",\n{\"seq\":\"7-",
		'behind a row' => '',
		'behind a comma' => ',',
		'behind the rows' => "\n]",
		'before last_seq' => "\n],\n\"last_seq\"",
	);
	foreach my $break (sort keys %breaks)
	{
		my ($fault, $is, $says) = @{ $breaks{$break} };
		my $case = fresh();
		my $no = $couch->fault(match => " /$case->{db}/_changes", times => 0, %$fault);
		my $run = $lab->run($case, %patient, %$options);
		like($run->{state}, $is, "$kind: a feed that breaks off $break");
		like($run->{message}, $says, '... says why');
		cmp_ok($couch->hits($no), '>', 0, '... and was met');
		$couch->heal;
		my $before = arrived($case);
		$run = $lab->run($case, %patient, %$options);
		is($run->{state}, '', '... and when the trouble is over') or diag $run->{message};
		cmp_ok(begins_at($run), '<=', $before, '... from no further than what had arrived');
		is(arrived($case), 40, '... all is there');
	}
	# an answer that ends without being complete is gone on with from its last row
	foreach my $cut (sort keys %cuts)
	{
		my $fault = { match => '_changes', replace => [ qr/(?:,\n\{"seq":[^\n]*){25}$end/s, $cuts{$cut} ] };
		my $case = fresh();
		$couch->fault(%$fault, match => " /$case->{db}/_changes");
		my $run = $lab->run($case, %patient, %$options);
		is($run->{state}, '', "$kind: a feed that ends $cut is gone on with") or diag $run->{message};
		is($couch->hits, 1, '... once');
		is(arrived($case), 40, '... until all is there');
		$couch->heal;

		$case = fresh();
		$couch->fault(%$fault, match => " /$case->{db}/_changes");
		$couch->fault(match => " /$case->{db}/_changes", times => 0, body => '{"results":[');
		$run = $lab->run($case, %patient, %$options);
		is($run->{state}, 'DR503', '... if nothing more comes, it fails');
		like($run->{message}, qr/it ends too early/, '... and says why');
		$couch->heal;
		my $before = arrived($case);
		$run = $lab->run($case, %patient, %$options);
		cmp_ok(begins_at($run), '<=', $before, '... with no checkpoint beyond what had arrived');
		is(arrived($case), 40, '... and all comes when it can');
	}
}

# ---------- feeds that wait ----------

sub errors { return $lab->{session}->must("SELECT coalesce(string_agg(info::text, ' '), '') FROM docrep.scheduler_jobs WHERE source LIKE '%/$_[0]{db}/'") }

foreach my $kind ('JavaScript', 'doc_ids', 'no filter')
{
	my ($options, $state, $message) = @{ $kinds{$kind} };
	foreach my $mode ('continuous', 'longpoll')
	{
		# without a filter a stream that fails is given up for polls (086)
		next if $mode eq 'continuous' && $kind eq 'no filter';
		my $case = fresh();
		my @all = (%$options, continuous => $true, %patient);
		# the first stream is refused where polls are wanted
		my $refusal = $couch->fault(match => " /$case->{db}/_changes\\?feed=continuous", times => 0, status => 405, body => '{"error":"no","reason":"no"}') if $mode eq 'longpoll';
		my $run = $lab->run($case, @all);
		is($run->{state}, '', "$kind, $mode: a job begins") or diag $run->{message};
		wait_until(sub { scalar $couch->requests("/$case->{db}/_changes\\?feed=$mode") >= ($mode eq 'continuous' ? 2 : 1) }, 60, "a feed=$mode");
		my $row = sub { "{\"seq\":\"$_[0]-x\",\"id\":\"doc$_[0]\",\"changes\":[{\"rev\":\"" . DocrepFaults::rev(1, "doc$_[0]") . '"}]}' };
		my $fault = $couch->fault(match => " /$case->{db}/_changes\\?feed=$mode", times => 0,
			body => $mode eq 'continuous' ? $row->(41) . "\n$error" : "{\"results\":[\n" . $row->(41) . $error);
		$couch->put($case->{db}, doc(41));
		# the one that waits already is another
		$couch->restart;
		wait_until(sub { errors($case) =~ /doc\.a is undefined/ }, 60, "$kind, $mode: the job to say why it fails");
		pass('... which says why when its feed breaks off');
		cmp_ok($couch->hits($fault), '>', 0, '... as it should');
		is(scalar(() = $couch->requests("/$case->{db}/_changes\\?feed=longpoll")), 0, '... and streams are not given up for it') if $mode eq 'continuous';
		$couch->heal;
		$couch->put($case->{db}, doc(42));
		$lab->run($case, @all, cancel => $true);
		$couch->fault(match => " /$case->{db}/_changes\\?feed=continuous", times => 0, status => 405, body => '{"error":"no","reason":"no"}') if $mode eq 'longpoll';
		$lab->run($case, %patient, %$options);
		is(arrived($case), $kind eq 'doc_ids' ? 40 : 42, '... and afterwards all is there');
		$couch->heal;
	}
}

done_testing();
