# What CouchDB peers answer when something is wrong: every status of the protocol,
# at every request where it can come, ends in the state that the reference names.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};

sub error_body { return "{\"error\":\"$_[0]\",\"reason\":\"$_[1]\"}\n" }

# ---------- refusals: no second attempt is worth it ----------

my %refused = (
	401 => [ 'DR401', 'unauthorized', 'Name or password is incorrect.' ],
	403 => [ 'DR403', 'forbidden', 'You are not allowed to access this db.' ],
);
foreach my $status (sort keys %refused)
{
	my ($state, $error, $reason) = @{ $refused{$status} };
	my %fault = (times => 0, status => $status, body => error_body($error, $reason));
	foreach my $kind ('GET /db$', 'GET /db/_changes', 'POST /db/_bulk_get')
	{
		$lab->meets("$status to $kind", way => 'pull', fault => { match => "^$kind", %fault },
			state => $state, message => qr/\Q$reason\E/, within => 60);
	}
	foreach my $kind ('GET /db$', 'POST /db/_revs_diff', 'POST /db/_bulk_docs')
	{
		$lab->meets("$status to $kind", way => 'push', fault => { match => "^$kind", %fault },
			state => $state, message => qr/\Q$reason\E/, within => 60);
	}
}

# A database that is not there.
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way);
	$case->{url} = $couch->url('nowhere');
	$session->must("SELECT docrep.create_table('$case->{table}')") if $way eq 'pull';
	my $run = $lab->run($case, create_target => undef);
	is($run->{state}, 'DR404', "$way: no such database") or diag $run->{message};
	like($run->{message}, qr/nowhere/, '... and it says which');
}

# ... because it was deleted on the way.
$lab->meets('404 to GET /db/_changes', way => 'pull', state => 'DR404',
	fault => { match => '^GET /db/_changes', times => 0, status => 404, body => error_body('not_found', 'Database does not exist.') });
$lab->meets('404 to POST /db/_bulk_docs', way => 'push', state => 'DR404',
	fault => { match => '^POST /db/_bulk_docs', times => 0, status => 404, body => error_body('not_found', 'Database does not exist.') });

# create_target while somebody else creates it.
$lab->meets('412 to PUT /db', way => 'push',
	fault => { match => '^PUT /db$', command => [ 'create', 'db' ], status => 412, process => 1, body => error_body('file_exists', 'The database could not be created, the file already exists.') });

# ---------- failures of the server: asked again ----------

my %again = (pull => [ 'GET /db/_local/', 'GET /db/_changes', 'POST /db/_bulk_get', 'GET /db/attached', 'PUT /db/_local/' ],
	push => [ 'GET /db/_local/', 'POST /db/_revs_diff', 'POST /db/_bulk_docs', 'PUT /db/attached', 'PUT /db/_local/' ]);
my @codes = (408, 429, 500, 502, 503, 504);
my $turn = 0;
foreach my $way (qw(pull push))
{
	foreach my $kind (@{ $again{$way} })
	{
		foreach my $status (@codes)
		{
			$lab->meets("$status once to $kind", way => $way, options => { retries_per_request => 3 },
				fault => { match => "^$kind", status => $status, body => error_body('error', 'try again') });
		}
		my $status = $codes[ $turn++ % @codes ];
		# whatever _bulk_get fails with, documents are asked for one by one then
		next if $kind =~ /_bulk_get/;
		$lab->meets("$status for ever to $kind", way => $way,
			fault => { match => "^$kind", times => 0, status => $status, body => error_body('broken', 'out of order') },
			state => $status == 500 ? 'DR500' : 'DR503', message => qr/\b$status\b/, hits => 2, within => 60);
	}
}

# 429 says how long to wait, or does not.
foreach my $way (qw(pull push))
{
	my $kind = $way eq 'pull' ? 'POST /db/_bulk_get' : 'POST /db/_bulk_docs';
	my $case = $lab->fresh($way);
	$couch->clear_log;
	$lab->meets('429 with Retry-After', case => $case, options => { retries_per_request => 3 },
		fault => { match => "^$kind", status => 429, headers => [ [ 'Retry-After', 1 ] ], body => error_body('too_many_requests', 'slow down') });
	my @at = map { $_->{at} } grep { "$_->{method} $_->{target}" =~ /_bulk_(get|docs)/ } @{ $couch->log };
	cmp_ok($at[1] - $at[0], '>=', 0.95, '... and it was waited for');
}

# ---------- a target that refuses documents ----------

sub refused_ones
{
	my ($name, $case, $options, $missing, $wanted) = @_;
	my $run = $lab->run($case, %$options);
	is($run->{state}, '', "$name: the rest goes on") or diag $run->{message};
	is($run->{result}{doc_write_failures}, $wanted, '... and the refused are counted');
	is($run->{result}{docs_written}, $case->{leaves} - $wanted, '... as not written');
	$lab->is_equal($case, '... all others are there', except => $missing);
	my $again = $lab->run($case, %$options);
	is($again->{state}, '', '... and the next run has nothing to do with them') or diag $again->{message};
	return $run;
}

{
	my $case = $lab->fresh('push');
	$couch->set(forbid => '^(plain00[357]|dead)$');
	refused_ones('forbidden by a validation function', $case, {}, [qw(plain003 plain005 plain007 dead)], 4);
	$couch->set(forbid => '^(_design/|attached)');
	refused_ones('forbidden, sent by themselves', $lab->fresh('push'), {}, [qw(_design/app attached)], 2);
	$couch->set(forbid => undef);
}
foreach my $status (401, 403, 413, 415)
{
	my $case = $lab->fresh('push');
	$couch->fault(match => "^PUT /$case->{db}/(_design|attached)", times => 0, status => $status, body => error_body('refused', 'not here'));
	refused_ones("$status to design documents and attachments", $case, {}, [qw(_design/app attached)], 2);
	$couch->heal;
}

# ---------- too large ----------

{
	my @docs = map { { id => "d$_", revs => [ DocrepFaults::rev(1, $_) ], body => '"text":"' . 'x' x 500 . '"' } } 1 .. 200;
	my $case = $lab->fresh('push', @docs);
	$couch->set(max_request => 20_000);
	my $run = $lab->run($case);
	is($run->{state}, '', '413 to a batch: it is halved') or diag $run->{message};
	$lab->completes($case, 'halved', $run);
	$couch->set(max_request => undef);

	$couch->set(max_document => 5_000);
	push @docs, map { { id => "large$_", revs => [ DocrepFaults::rev(1, "l$_") ], body => '"text":"' . 'x' x 6000 . '"' } } 1 .. 3;
	refused_ones('documents that are too large', $lab->fresh('push', @docs), {}, [qw(large1 large2 large3)], 3);
	$couch->set(max_document => undef);

	$couch->set(max_id => 100);
	my $long = 'i' x 101;
	refused_ones('ids that are too long', $lab->fresh('push', @docs, { id => $long, revs => ['1-a'], body => '' }), {}, [$long], 1);
	$couch->set(max_id => undef);

	# refused before all of it was sent
	$lab->meets('413 before the end of the request', docs => \@docs, way => 'push',
		fault => { match => '^POST /db/_bulk_docs', early => 100, status => 413, body => error_body('too_large', 'the request entity is too large') });
}

# ---------- stubs that the target lacks ----------

{
	my $case = $lab->fresh('push');
	$lab->meets('412 to a document with attachments', case => $case, options => { retries_per_request => 3 },
		fault => { match => '^PUT /db/attached', status => 412, body => error_body('missing_stub', 'Invalid attachment stub in attached for one.txt') });
}

# ---------- documents that are not there any more ----------

# Between changes and fetch a revision was superseded, or compacted away.
{
	my $case = $lab->fresh('pull');
	my ($newer, $older) = (DocrepFaults::rev(3, 'newer'), DocrepFaults::rev(2, 'b4'));
	$couch->fault(match => "^POST /$case->{db}/_bulk_get",
		command => [ 'put', $case->{db}, { id => 'plain004', revs => [ $newer, $older, DocrepFaults::rev(1, 'a4') ], body => '"n":"newer"' } ]);
	my $run = $lab->run($case);
	is($run->{state}, '', 'a revision superseded between changes and fetch') or diag $run->{message};
	$couch->heal;
	$lab->run($case);
	$lab->is_equal($case, '... and the newer one is there');
}
{
	my $case = $lab->fresh('pull');
	$couch->fault(match => "^POST /$case->{db}/_bulk_get",
		replace => [ '\{"ok":\{"_id":"plain004".*?\}\}', '{"error":{"id":"plain004","rev":"2-x","error":"not_found","reason":"missing"}}' ], times => 0);
	my $run = $lab->run($case);
	diag("a revision that is missing: $run->{state} $run->{message}");
	$couch->heal;
	my $again = $lab->run($case);
	is($again->{state}, '', 'a revision that was missing once') or diag $again->{message};
}

# ---------- checkpoints ----------

# A side that refuses local documents is told how to do without.
foreach my $setting ('no_local', 'read_only_local')
{
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		$couch->set($setting => 1);
		my $run = $lab->run($case);
		like($run->{state}, qr/^DR40[13]$/, "$way, $setting: refused");
		like($run->{message}, qr/HINT:.*use_checkpoints/s, '... with the hint');
		my $present = $lab->present($case);
		my $without = $lab->run($case, use_checkpoints => JSON::PP::false);
		is($without->{state}, '', '... and without checkpoints it works') or diag $without->{message};
		is($without->{result}{docs_written}, $case->{leaves} - $present, '... and writes nothing twice');
		$lab->is_equal($case, '... and both sides are equal');
		$couch->set($setting => undef);
	}
}

# A conflict of checkpoints: somebody else runs the same.
foreach my $way (qw(pull push))
{
	$couch->set(strict_local => 1);
	my $case = $lab->fresh($way);
	my $run = $lab->run($case);
	is($run->{state}, '', "$way: checkpoints with revisions") or diag $run->{message};
	$lab->completes($case, 'checkpoints with revisions', $run);
	$couch->put($case->{db}, { id => 'more', revs => ['1-abc'], body => '' }) if $way eq 'pull';
	$session->must("SELECT docrep.put('$case->{table}', '{\"_id\": \"more\"}')") if $way eq 'push';
	$couch->fault(match => "^PUT /$case->{db}/_local", status => 409, body => error_body('conflict', 'Document update conflict.'));
	my $again = $lab->run($case);
	is($again->{state}, '', '... 409 to a checkpoint is overcome') or diag $again->{message};
	is($again->{result}{docs_written}, 1, '... one more document');
	$couch->heal;
	$couch->set(strict_local => undef);
}

# ---------- servers that lack something ----------

foreach my $lacks ('no_bulk_get', 'no_commit', 'no_session', 'json_only')
{
	foreach my $way (qw(pull push))
	{
		$couch->set($lacks => 1);
		my $case = $lab->fresh($way);
		my $run = $lab->run($case);
		is($run->{state}, '', "$way, $lacks") or diag $run->{message};
		$lab->completes($case, $lacks, $run) if $run->{state} eq '';
		$couch->set($lacks => undef);
	}
}
foreach my $status (400, 404, 405, 500, 501)
{
	$lab->meets("_bulk_get that always fails with $status", way => 'pull', fault => { match => '^POST /db/_bulk_get', times => 0, status => $status, body => error_body('error', 'no') });
}
$lab->meets('_bulk_get not used', way => 'pull', options => { use_bulk_get => JSON::PP::false },
	fault => { match => '^GET /db/plain001', times => 0, delay => 0.05 });

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
