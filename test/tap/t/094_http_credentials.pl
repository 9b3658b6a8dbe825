# Credentials of CouchDB peers: in the URL, in the object form, as headers, as a
# session's cookie, as a token for an API key; renewed when they run out; and never
# shown, wherever one looks.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $secret = 'Tr0ub4dor-s3cret';
my $key = 'api-k3y-s3cret';
my $true = JSON::PP::true;
my $json = JSON::PP->new->canonical;
my $node = new_node('near', databases => ['one'], conf => "log_statement = none\nlog_min_messages = info\nlog_min_duration_statement = 0\n");
my $couch = DocrepCouch->new(settings => { users => { joe => $secret, 'a@b+c' => "p/w?#\@:%s3cret" }, api_keys => { $key => 3600 } });
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};
my $host = '127.0.0.1:' . $couch->port;

# ---------- every form, both ways ----------

my %forms = (
	'URL' => sub { "http://joe:$secret\@$host/$_[0]" },
	'URL, escaped' => sub { "http://a%40b%2Bc:p%2Fw%3F%23%40%3A%25s3cret\@$host/$_[0]" },
	'object with a URL' => sub { $json->encode({ url => "http://joe:$secret\@$host/$_[0]" }) },
	'auth.basic' => sub { $json->encode({ url => "http://$host/$_[0]", auth => { basic => { username => 'joe', password => $secret } } }) },
	'auth.basic before the URL' => sub { $json->encode({ url => "http://joe:wrong\@$host/$_[0]", auth => { basic => { username => 'joe', password => $secret } } }) },
	'a header' => sub { $json->encode({ url => "http://$host/$_[0]", headers => { Authorization => 'Basic ' . encode_base64("joe:$secret", '') } }) },
	'the URL before a header' => sub { $json->encode({ url => "http://joe:$secret\@$host/$_[0]", headers => { Authorization => 'Basic d3Jvbmc6d3Jvbmc=' } }) },
	'an API key' => sub { $json->encode({ url => "http://$host/$_[0]", auth => { iam => { api_key => $key, url => "http://$host/identity/token" } } }) },
);
foreach my $form (sort keys %forms)
{
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		$case->{url} = $forms{$form}->($case->{db});
		my $run = $lab->run($case);
		is($run->{state}, '', "$way with $form") or diag $run->{message};
		$lab->completes($case, $form, $run);
	}
}

# Wrong ones: refused, once, and nothing of them is said.
my %wrong = (
	'a wrong password' => sub { "http://joe:wr0ng-s3cret\@$host/$_[0]" },
	'an unknown user' => sub { "http://nobody:wr0ng-s3cret\@$host/$_[0]" },
	'none' => sub { "http://$host/$_[0]" },
	'a wrong API key' => sub { $json->encode({ url => "http://$host/$_[0]", auth => { iam => { api_key => 'wr0ng-s3cret', url => "http://$host/identity/token" } } }) },
	'a wrong header' => sub { $json->encode({ url => "http://$host/$_[0]", headers => { Authorization => 'Basic d3Jvbmc6d3Jvbmc=' } }) },
);
foreach my $form (sort keys %wrong)
{
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		my $url = $wrong{$form}->($case->{db});
		$couch->clear_log;
		my $run = $lab->run({ %$case, url => $url });
		is($run->{state}, 'DR401', "$way with $form") or diag $run->{message};
		unlike($run->{message}, qr/s3cret|d3Jvbmc6d3Jvbmc/, '... and nothing of it is said');
		cmp_ok(scalar @{ $couch->log }, '<', 6, '... and not asked again and again');
		my $good = { %$case, url => $forms{URL}->($case->{db}) };
		$lab->completes($good, 'afterwards', $run);
	}
}

# ---------- sessions ----------

# A server that takes no Basic: a session is opened, and used.
$couch->set(no_basic => 1);
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way);
	$case->{url} = $forms{URL}->($case->{db});
	$couch->clear_log;
	my $run = $lab->run($case);
	is($run->{state}, '', "$way by session") or diag $run->{message};
	$lab->completes($case, 'by session', $run);
	my @sessions = $couch->requests('^POST /_session');
	is(scalar @sessions, 1, '... one session was enough');

	# the server forgets all sessions, as after a restart, in the middle
	foreach my $kind ($way eq 'pull' ? ('GET /db/_changes', 'POST /db/_bulk_get', 'PUT /db/_local') : ('POST /db/_revs_diff', 'POST /db/_bulk_docs', 'PUT /db/_local'))
	{
		$case = $lab->fresh($way);
		$case->{url} = $forms{URL}->($case->{db});
		$lab->meets("session forgotten before $kind", case => $case, fault => { match => "^$kind", command => ['forget_sessions'] });
	}
}
# Cookies that live for two seconds.
$couch->set(cookie_age => 2);
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way);
	$case->{url} = $forms{URL}->($case->{db});
	$lab->meets('cookies of two seconds', case => $case, fault => { match => $way eq 'pull' ? '^POST /db/_bulk_get' : '^POST /db/_revs_diff', delay => 2.2 },
		options => { retries_per_request => 3 });
}
$couch->set(no_basic => undef, cookie_age => undef);

# ---------- tokens ----------

# One that runs out while the replication goes on is renewed.
$couch->set(api_keys => { $key => 2 });
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way);
	$case->{url} = $forms{'an API key'}->($case->{db});
	$couch->clear_log;
	$lab->meets('tokens of two seconds', case => $case, fault => { match => $way eq 'pull' ? '^POST /db/_bulk_get' : '^POST /db/_revs_diff', delay => 2.2 },
		options => { retries_per_request => 3 });
	cmp_ok(scalar($couch->requests('^POST /identity/token')), '>=', 2, '... a new one was asked for');
}
$couch->set(api_keys => { $key => 3600 });
foreach my $fault ([ 'fails', { status => 503, body => '{}' } ], [ 'is silent', { hang_at => -1 } ], [ 'speaks HTML', { status => 200, body => '<html>' } ], [ 'gives no token', { status => 200, body => '{}' } ])
{
	my ($what, $how) = @$fault;
	my $case = $lab->fresh('pull');
	$couch->fault(match => '^POST /identity/token', times => 0, %$how);
	my $run = $lab->run({ %$case, url => $forms{'an API key'}->($case->{db}) });
	like($run->{state}, qr/^DR50[03]$/, "a token endpoint that $what");
	unlike($run->{message}, qr/s3cret/, '... and nothing of the key is said');
	$couch->heal;
	$lab->completes({ %$case, url => $forms{URL}->($case->{db}) }, 'afterwards', $run);
}

# ---------- nowhere to be seen ----------

# Secrets in an answer of the server, in a redirect, in malformed endpoints.
{
	my $case = $lab->fresh('pull');
	my $url = $forms{URL}->($case->{db});
	foreach my $fault ({ status => 403, body => "{\"error\":\"forbidden\",\"reason\":\"joe:$secret may not\"}" },
		{ status => 302, body => '', headers => [ [ Location => "http://joe:$secret\@127.0.0.1:1/x" ] ] },
		{ status => 302, body => '', headers => [ [ Location => "ftp://joe:$secret\@$host/x" ] ] },
		{ status => 500, body => "no such user $secret" })
	{
		$couch->fault(match => "^GET /$case->{db}/_changes", times => 0, %$fault);
		my $run = $lab->run({ %$case, url => $url });
		like($run->{state}, qr/^DR/, "a secret that the server repeats ($fault->{status}): $run->{state}");
		unlike($run->{message}, qr/s3cret/, '... is not shown');
		$couch->heal;
	}
}
foreach my $bad ("http://joe:$secret\@/", "http://joe:$secret\@host:port/db", "http://joe:$secret\@$host", "httpz://joe:$secret\@$host/db", "{\"url\": \"http://joe:$secret\@$host/db\", \"auth\": 5}",
	"{\"url\": \"http://$host/db\", \"auth\": {\"basic\": {\"username\": \"joe\", \"password\": [\"$secret\"]}}}", "{\"url\": \"http://joe:$secret\@$host/db\"", "http://joe:$secret\@$host/db?x=y", "http://joe:$secret\@$host/db#t")
{
	my $run = $lab->run({ way => 'pull', db => 'x', table => 'x', url => $bad });
	(my $shown = $bad) =~ s/\Q$secret\E/.../;
	like($run->{state}, qr/^DR/, "malformed: $shown ($run->{state})");
	unlike($run->{message}, qr/s3cret/, '... is not shown');
}

# While it runs: the views, and what sessions are seen to do.
{
	my $other = DocrepSession->new($node, 'one', app => 'onlooker');
	foreach my $form (sort keys %forms)
	{
		my $case = $lab->fresh('pull');
		$case->{url} = $forms{$form}->($case->{db});
		my $fault = $couch->fault(match => "^POST /$case->{db}/_bulk_get", hang_at => -1);
		my %patient = (connection_timeout => 60000, request_timeout => undef, continuous => $true);
		$session->send($lab->statement($case, %patient));
		wait_until(sub { $couch->hits($fault) }, undef, 'the worker to wait');
		my $seen = join "\n", map { $other->must("SELECT row_to_json(x) FROM $_ x") } 'pg_stat_activity', 'docrep.active_tasks', 'docrep.checkpoints', 'docrep.rejected_docs', 'pg_locks', 'pg_settings', 'pg_cursors', 'pg_prepared_statements';
		# the statement that asked for it is its author's own, unless it was a URL's
		unlike($seen =~ s/^.*SELECT docrep\.replicate.*$//mgr, qr/s3cret/, "$form: not seen while it runs");
		$other->must($lab->statement($case, %patient, cancel => $true));
		ok($session->receive, '... and cancelled');
		$couch->heal;
		my $stored = $other->must("SELECT string_agg(l::text, '') FROM docrep.local_docs l");
		unlike($stored, qr/s3cret/, '... nor in what is stored');
	}
	my $local = join '', map { $json->encode($_) } map { $couch->local($_) } map { "case$_" } 1 .. 20;
	unlike($local, qr/s3cret/, 'nothing in the checkpoints of the other side');
}

# Failing for long, as a job that is tried again.
{
	my $case = $lab->fresh('pull');
	$case->{url} = $forms{URL}->($case->{db});
	my $run = $lab->run($case, continuous => $true);
	is($run->{state}, '', 'a continuous one') or diag $run->{message};
	$couch->set(users => { joe => 'changed' });
	$couch->forget_sessions;
	$couch->restart;
	# it is tried again and again: the state and what is said of it belong to one look
	my $row;
	wait_until(sub { ($row = $session->must('SELECT row_to_json(t) FROM docrep.active_tasks t')) =~ /"state":"crashing"/ }, undef, 'the job to fail');
	like($row, qr/failed at/, 'a password that was changed: crashing, and it says at what');
	ok(log_has($node, qr/failed at.*DETAIL:[^\n]*(password|unauthorized)/s), '... and the log says why');
	unlike($row, qr/s3cret/, '... without it');
	$couch->set(users => { joe => $secret });
	wait_for_query($node, 'one', q{SELECT state IN ('idle', 'parked') FROM docrep.active_tasks}, 't');
	pass('... and it goes on when the password is right again');
	$lab->run($case, continuous => $true, cancel => $true);
}

my $log = slurp_file($node->logfile);
my @shown = grep { /s3cret/ } split /\n/, $log;
is(scalar(grep { !/replicate\(/ } @shown), 0, 'nothing in the log') or diag join "\n", @shown[ 0 .. ($#shown < 5 ? $#shown : 5) ];
ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
