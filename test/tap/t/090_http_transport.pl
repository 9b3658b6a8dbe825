# CouchDB peers whose connections fail: refused, unresolvable, reset, cut short, too
# long, garbled, slow, silent.  One failure is overcome by asking again; what goes
# on failing ends with DR503 and nothing lost; the next run goes on from there, and
# writes nothing twice.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use IO::Socket::INET;
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);

# ---------- nothing wrong ----------

# What each way asks for, one request of every kind.
my %kinds = (
	pull => [ 'GET /db$', 'GET /db/_local/', 'GET /db/_changes', 'POST /db/_bulk_get', 'GET /db/attached', 'PUT /db/_local/' ],
	push => [ 'GET /db$', 'PUT /db$', 'GET /db/_local/', 'POST /db/_revs_diff', 'POST /db/_bulk_docs', 'PUT /db/attached', 'PUT /db/_design', 'PUT /db/_local/' ],
);
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way);
	$couch->clear_log;
	my $run = $lab->run($case);
	is($run->{state}, '', "$way without faults") or BAIL_OUT($run->{message});
	$lab->completes($case, "$way without faults", $run);
	foreach my $kind (@{ $kinds{$way} })
	{
		my $pattern = $kind =~ s{/db\b}{/$case->{db}}r;
		ok(scalar $couch->requests("^$pattern"), "$way: there is a request $kind");
	}
	my $again = $lab->run($case);
	is($again->{result}{no_changes}, JSON::PP::true, '... and the next one has nothing to do');
}

# ---------- one failure ----------

# Every request of a replication fails once, in every way; asking again is enough.
my %once = (
	'closed without an answer' => { close_at => -1 },
	'reset before the body' => { reset_at => 0 },
	'reset in mid-body' => { reset_at => 1 },
	'cut short' => { close_at => 1 },
	'a length that is too large' => { length => 10_000_000, close_at => 1_000_000 },
	'chunks that are garbled' => { chunk_garbage => 1 },
	'the end of the chunks missing' => { chunked => 1, close_at => 1 },
	'silence' => { hang_at => -1 },
	'silence in mid-body' => { hang_at => 1 },
);
my %fast = (retries_per_request => 3);
# not less, as opening is not repeated, and a busy machine may stall
my %faster = (%fast, connection_timeout => 800);
foreach my $way (qw(pull push))
{
	foreach my $kind (@{ $kinds{$way} })
	{
		# opening is not repeated within a run
		my @faults = $kind =~ /\$$/ ? () : sort keys %once;
		foreach my $what (@faults)
		{
			$lab->meets("$kind: $what", way => $way, options => defined $once{$what}{hang_at} ? \%faster : \%fast,
				prepared => scalar($kind =~ m{_local|_changes}), fault => { match => "^$kind", %{ $once{$what} } });
		}
	}
}

# ---------- an answer that was lost ----------

# What was asked for has been done, and only the answer is missing.
foreach my $kind (grep { !/^GET/ } @{ $kinds{push} })
{
	$lab->meets("$kind: done, and the answer lost", way => 'push', options => \%fast,
		fault => { match => "^$kind", process => 1, close_at => -1, status => 200 }, prepared => scalar($kind =~ m{_local}));
}

# ---------- failure that stays ----------

my %forever = (
	'reset in mid-body' => { reset_at => 1 },
	'cut short' => { close_at => 1 },
	'chunks that are garbled' => { chunk_garbage => 1 },
	'silence' => { hang_at => 1 },
	'a byte a second' => { drip => 1 },
);
foreach my $way (qw(pull push))
{
	my $turn = 0;
	foreach my $kind (@{ $kinds{$way} })
	{
		my @all = sort keys %forever;
		foreach my $what (@all[ $turn++ % @all, ($turn + 1) % @all ])
		{
			my $waits = defined $forever{$what}{hang_at} || $forever{$what}{drip};
			$lab->meets("$kind, always: $what", way => $way,
				options => { retries_per_request => 1, $waits ? (connection_timeout => 800, request_timeout => 2000) : () },
				prepared => scalar($kind =~ m{GET /db(\$|/_local|/_changes)}),
				fault => { match => "^$kind", times => 0, %{ $forever{$what} } },
				# the first PUT made the database, and 412 says so, whatever comes behind it
				# without _bulk_get documents are asked for one by one
				state => $kind eq 'PUT /db$' ? '' : $kind =~ /_bulk_get/ ? qr/^(DR503)?$/ : 'DR503', within => 60);
		}
	}
}

# In the middle of many batches: what was done before the failure is not done again.
{
	my @docs = map { { id => "d$_", revs => [ DocrepFaults::rev(1, $_) ], body => "\"n\":$_" } } 1 .. 200;
	foreach my $way (qw(pull push))
	{
		my ($kind, $good) = $way eq 'pull' ? ('GET /db/_changes', 1) : ('POST /db/_bulk_docs', 5);
		my $case = $lab->fresh($way, @docs);
		$lab->meets("$kind fails after $good", case => $case, options => { worker_batch_size => 20 },
			fault => { match => "^$kind", skip => $good, times => 0, reset_at => 1 }, state => 'DR503');
	}
}

# ---------- too long ----------

# Bytes behind the end of an answer are not part of it.
foreach my $kind ('GET /db/_changes', 'POST /db/_bulk_get', 'GET /db/attached')
{
	$lab->meets("$kind: longer than said", way => 'pull', fault => { match => "^$kind", chunked => 0, extra => 'garbage' x 1000 });
}

# ---------- the peer restarts ----------

$lab->meets('restart between changes and fetch', way => 'pull', fault => { match => '^POST /db/_bulk_get', command => ['restart'] });
$lab->meets('restart between diff and write', way => 'push', fault => { match => '^POST /db/_bulk_docs', command => ['restart'] });
$lab->meets('down for a moment', way => 'pull', fault => { match => '^POST /db/_bulk_get', command => [ 'stop', 0.5 ] },
	options => { retries_per_request => 5 });
$lab->meets('down for a moment', way => 'push', fault => { match => '^POST /db/_bulk_docs', command => [ 'stop', 0.5 ] },
	options => { retries_per_request => 5 });
{
	my $case = $lab->fresh('pull');
	$couch->fault(match => "^POST /$case->{db}/_bulk_get", command => ['stop']);
	my $run = $lab->run($case, retries_per_request => 2);
	is($run->{state}, 'DR503', 'down for good between changes and fetch');
	$couch->start;
	$lab->completes($case, 'up again', $run);
}

# ---------- nobody there ----------

# bound, and nobody listens
my $unused = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp') or die "cannot bind: $!";
my $free = $unused->sockport;
my %nobody = (
	'refused' => "http://127.0.0.1:$free/db",
	'refused, with a login first' => "http://joe:secret\@127.0.0.1:$free/db",
	'no such name' => 'http://no-such-host.invalid/db',
);
foreach my $what (sort keys %nobody)
{
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		$case->{url} = $nobody{$what};
		my $run = $lab->run($case, %DocrepFaults::quick, retries_per_request => 10);
		is($run->{state}, 'DR503', "$way: $what");
		like($run->{message}, qr/127\.0\.0\.1:$free|no-such-host/, '... and says who');
		# ten attempts would take minutes
		cmp_ok($run->{seconds}, '<', 60, '... at once');
	}
}

# ---------- what is allowed ----------

# Answers packed with gzip; redirects of reads, also to another place.
$lab->meets('answers packed with gzip', way => 'pull', fault => { match => '^(GET|POST) /db(?!/attached/)', times => 0, gzip => 1 });
{
	my $case = $lab->fresh('pull');
	$couch->fault(match => "^GET /moved\\b", times => 0, status => 301, headers => [ [ Location => $couch->url($case->{db}) ] ], body => '');
	my $run = $lab->run({ %$case, url => $couch->url('moved') });
	# only the reads are redirected: POST and checkpoints meet a database that is not there
	like($run->{state}, qr/^(|DR404|DR503|DR500)$/, "a database that has moved: $run->{state}");
	$couch->heal;
	foreach my $code (301, 302, 303, 307, 308)
	{
		$lab->meets("$code of the changes", way => 'pull',
			fault => { match => '^GET /db/_changes\?', status => $code, body => '', headers => [ [ Location => '/elsewhere' ] ] },
			options => {}, state => 'DR404');
	}
}

# Redirects that go nowhere.
foreach my $to (
	[ 'round in circles', undef, qr/redirect/i ],
	[ 'to a file', 'file:///etc/passwd', qr/redirect|protocol|scheme/i ],
	[ 'to ftp', 'ftp://127.0.0.1/x', qr/redirect|protocol|scheme/i ],
	[ 'to gopher', 'gopher://127.0.0.1/x', qr/redirect|protocol|scheme/i ])
{
	my $case = $lab->fresh('pull');
	my $location = $to->[1] // $couch->url($case->{db}) . '/_changes?round=1';
	$lab->meets("redirect $to->[0]", case => $case,
		fault => { match => '^GET /db/_changes', times => 0, status => 302, body => '', headers => [ [ Location => $location ] ] },
		state => 'DR503', message => $to->[2]);
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
