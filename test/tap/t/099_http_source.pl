# What a CouchDB source may do that is right or nearly so: answers in multipart,
# errors in place of documents, contents inline, few connections, feeds that break
# off.  All arrives, or is kept as rejected and said so.
use strict;
use warnings;

use DocrepCouch;
use DocrepCouch::Store qw(json_quote);
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

# what is parked has no process
my $node = new_node('near', databases => ['one'], conf => "docrep.park_after = -1\n");
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};
my $true = JSON::PP::true;
my $false = JSON::PP::false;

sub plain { return { id => $_[0], revs => [ DocrepFaults::rev(1, $_[0]) ], body => "\"n\":\"$_[0]\"" } }

# Id, error and what came of a case's rejected documents.
sub rejected
{
	my ($case) = @_;
	return $session->must("SELECT coalesce(id, '?') || ' ' || error FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass ORDER BY 1");
}

# ---------- connections ----------

# Documents that do not fit into what is taken at a time, large contents that are
# read while documents rest, and small ones: one connection for each is enough.
my @much = (
	(map { { id => "large$_", revs => [ DocrepFaults::rev(1, $_) ], body => '"text":"' . 'x' x 400_000 . '"' } } 1 .. 16),
	(map { { id => "with$_", revs => [ DocrepFaults::rev(1, $_) ], body => '"text":"' . 'y' x 100_000 . '"',
		atts => { large => { content => "large $_ " x 10_000 }, map { ("small$_" => { content => "small $_" }) } 1 .. 3 } } } 1 .. 16),
);
foreach my $connections (1, 2)
{
	foreach my $bulk ($true, $false)
	{
		my $case = $lab->fresh('pull', @much);
		my $run = $lab->run($case, http_connections => $connections, use_bulk_get => $bulk, worker_batch_size => 20, request_timeout => undef);
		is($run->{state}, '', "http_connections $connections, use_bulk_get $bulk") or diag $run->{message};
		is($run->{result}{docs_written}, scalar @much, '... and all is there');
		$lab->is_equal($case, '... as it was') if $connections == 1;
	}
}

# ---------- other forms of the same ----------

# Answers in multipart: documents, errors, and a document with its attachments.
{
	my @docs = map { plain("part$_") } 1 .. 3;
	my $case = $lab->fresh('pull', @docs, { id => 'attached', revs => [ DocrepFaults::rev(1, 'a') ], body => '"a":1', atts => { f => { content => "a\r\n--in\r\nb" } } });
	my $doc = sub {
		my ($doc) = @_;
		my ($hash) = $doc->{revs}[0] =~ /^1-(.*)/;
		return "{\"_id\":\"$doc->{id}\",\"_rev\":\"$doc->{revs}[0]\",\"_revisions\":{\"start\":1,\"ids\":[\"$hash\"]},$doc->{body}}";
	};
	my $stub = '"_attachments":{"f":{"content_type":"text/plain","digest":"md5-' . Digest::MD5::md5_base64("a\r\n--in\r\nb") . '==","length":10,"revpos":1,"follows":true}}';
	my $rev = DocrepFaults::rev(1, 'a');
	my $attached = $doc->({ id => 'attached', revs => [$rev], body => "\"a\":1,$stub" });
	my $body = join '', "preamble\r\n",
	  "--out\r\nContent-Type: application/json\r\n\r\n", $doc->($docs[0]),
	  "\r\n--out\r\nContent-Type: application/json; error=\"true\"\r\n\r\n{\"id\":\"part2\",\"rev\":\"$docs[1]{revs}[0]\",\"error\":\"timeout\",\"reason\":\"none\"}",
	  "\r\n--out\r\nContent-Type: multipart/related; boundary=\"inn\"\r\n\r\n--inn\r\nContent-Type: application/json\r\n\r\n$attached\r\n--inn\r\nContent-Disposition: attachment; filename=\"f\"\r\n\r\na\r\n--in\r\nb\r\n--inn--",
	  "\r\n--out\r\n\r\n", $doc->($docs[2]), "\r\n--out--\r\nepilogue";
	foreach my $drip (undef, 1)
	{
		my $this = $drip ? { %$case, table => "$case->{table}slow" } : $case;
		my $fault = $couch->fault(match => "^POST /$case->{db}/_bulk_get", status => 200, type => 'multipart/mixed; boundary="out"', body => $body,
			chunked => 1, $drip ? (drip => 2000) : ());
		my $run = $lab->run($this, %DocrepFaults::patient);
		is($run->{state}, '', 'an answer in multipart' . ($drip ? ', slowly' : '')) or diag $run->{message};
		is($couch->hits($fault), 1, '... was met');
		$lab->is_equal($this, '... is understood, and what it lacks asked for');
		is(scalar grep({ /part[13]\?/ } $couch->requests("/$case->{db}/part")), 0, '... no more than that');
		$couch->heal;
		$couch->clear_log;
	}
}

# Contents inline although stubs were asked for.
{
	my $case = $lab->fresh('pull', { id => 'inline', revs => ['1-a'], body => '', atts => { f => { content => 'abc' } } });
	my $fault = $couch->fault(match => "^POST /$case->{db}/_bulk_get", replace => [ '"length":3,"stub":true', '"data":"YWJj"' ]);
	my $run = $lab->run($case);
	is($run->{state}, '', 'contents inline') or diag $run->{message};
	$lab->is_equal($case, '... are taken');
	is(scalar $couch->requests("/$case->{db}/inline/f"), 0, '... and not asked for');
	$couch->heal;
}

# ---------- errors in place of documents ----------

my $error = sub { my ($id, $rev, $name) = @_; return "{\"error\":{\"id\":\"$id\",\"rev\":\"$rev\",\"error\":\"$name\",\"reason\":\"because\"}}" };
{
	my @docs = map { plain("doc$_") } 1 .. 5;
	my $case = $lab->fresh('pull', @docs);
	my $rev = $docs[1]{revs}[0];

	# once, in the answer for many: the document is asked for by itself
	$couch->fault(match => "^POST /$case->{db}/_bulk_get", replace => [ '\{"ok":\{"_id":"doc2".*?\}\}', $error->('doc2', $rev, 'internal_server_error') ]);
	my $run = $lab->run($case);
	is($run->{state} . ($run->{result}{docs_written} // ''), '5', 'an error for a document, once') or diag $run->{message};
	$lab->is_equal($case, '... and all is there');
	$couch->heal;

	# always: kept, and all others arrive
	my $other = { %$case, table => "$case->{table}other" };
	my $bulk = $couch->fault(match => "^POST /$case->{db}/_bulk_get", times => 0, replace => [ '\{"ok":\{"_id":"doc2".*?\}\}', $error->('doc2', $rev, 'forbidden') ]);
	my $single = $couch->fault(match => "^GET /$case->{db}/doc2\\?", times => 0, status => 200, body => '[' . $error->('doc2', $rev, 'forbidden') . ']');
	$run = $lab->run($other);
	is($run->{state}, '', 'an error for a document, always') or diag $run->{message};
	is("$run->{result}{docs_written}/$run->{result}{doc_write_failures}", '4/1', '... is counted');
	is(rejected($other), 'doc2 DR403', '... and kept');
	is($couch->hits($single), 1, '... after it was asked for by itself');
	$couch->heal;
}

# A document that is too large, among others, in answers for many and for one.
$node->safe_psql('one', 'ALTER SYSTEM SET docrep.max_document_size = 64; SELECT pg_reload_conf()');
wait_until(sub { $session->must('SHOW docrep.max_document_size') eq '64kB' }, undef, 'the setting to be known');
foreach my $bulk ($true, $false)
{
	my $case = $lab->fresh('pull', (map { plain("before$_") } 1 .. 3), { id => 'long', revs => ['1-a'], body => '"text":"' . 'x' x 100_000 . '"' }, map { plain("behind$_") } 1 .. 3);
	my $run = $lab->run($case, use_bulk_get => $bulk);
	is($run->{state}, '', 'a document beyond docrep.max_document_size') or diag $run->{message};
	is("$run->{result}{docs_written}/$run->{result}{doc_write_failures}", '6/1', '... is counted');
	is(rejected($case), 'long DR413', '... and kept, without its text');
	$lab->is_equal($case, '... and all others are there', except => ['long']);
}
$node->safe_psql('one', 'ALTER SYSTEM RESET docrep.max_document_size; SELECT pg_reload_conf()');

# An id that text cannot hold: its document is kept, not only its name.
{
	my $case = $lab->fresh('pull', { id => "nul\0id", revs => ['1-a'], body => '"kept":"entirely"' }, plain('other'));
	my $run = $lab->run($case);
	is($run->{state}, '', 'an id with NUL') or diag $run->{message};
	like($session->must("SELECT convert_from(raw, 'UTF8') FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass"), qr/"kept":"entirely"/, '... its document is kept');
}

# ---------- servers that fall over _bulk_get ----------

{
	my $case = $lab->fresh('pull');
	my $bulk = $couch->fault(match => "^POST /$case->{db}/_bulk_get", times => 0, close_at => -1);
	my $run = $lab->run($case, retries_per_request => 10, request_timeout => undef);
	is($run->{state}, '', '_bulk_get brings the server down') or diag $run->{message};
	# ten attempts would take minutes
	cmp_ok($run->{seconds}, '<', 60, '... which is soon noticed');
	$lab->is_equal($case, '... and all is there');
	$couch->heal;
}

# ---------- feeds that break off ----------

# Half of the rows, again and again: each time from where it broke off.
{
	my $case = $lab->fresh('pull', map { plain(sprintf 'row%04d', $_) } 1 .. 500);
	$couch->clear_log;
	my $fault = $couch->fault(match => "^GET /$case->{db}/_changes", times => 4, drip => 40_000, close_at => 20_000);
	my $run = $lab->run($case, worker_batch_size => 50, retries_per_request => 10, %DocrepFaults::patient);
	is($run->{state}, '', 'a feed that breaks off after some rows') or diag $run->{message};
	is($couch->hits($fault), 4, '... four times');
	my %since = map { /since=([^&]*)/ ? ($1 => 1) : () } $couch->requests("/$case->{db}/_changes");
	cmp_ok(scalar(keys %since), '>', 2, '... goes on where it broke off');
	$lab->is_equal($case, '... and all is there');
	$couch->heal;
}

# Polls that break off are no reason to begin anew.
{
	my $case = $lab->fresh('pull', plain('first'));
	$couch->fault(match => "^GET /$case->{db}/_changes.*continuous", times => 0, status => 400, body => '{}');
	my $run = $lab->run($case, continuous => $true, request_timeout => undef, retries_per_request => 5);
	is($run->{state}, '', 'a continuous replication') or diag $run->{message};
	wait_until(sub { $lab->present($case) == 1 }, undef, 'the first document');
	my $worker = $session->must('SELECT pid FROM docrep.active_tasks');
	my $fault = $couch->fault(match => "^GET /$case->{db}/_changes.*longpoll", times => 3, reset_at => -1);
	$couch->put($case->{db}, plain('second'));
	wait_until(sub { $lab->present($case) == 2 }, undef, 'the second document');
	wait_until(sub { $couch->hits($fault) == 3 }, undef, 'three polls that break off');
	$couch->put($case->{db}, plain('third'));
	wait_until(sub { $lab->present($case) == 3 }, undef, 'the third document');
	is($session->must('SELECT pid FROM docrep.active_tasks'), $worker, 'polls that break off are made again');
	$session->must($lab->statement($case, continuous => $true, request_timeout => undef, retries_per_request => 5, cancel => $true));
	$couch->heal;
}

# A sequence that the source does not know any more.
{
	my $case = $lab->fresh('pull', map { plain("doc$_") } 1 .. 5);
	$lab->run($case);
	$couch->put($case->{db}, plain('later'));
	my $fault = $couch->fault(match => "^GET /$case->{db}/_changes", status => 400, body => '{"error":"bad_request","reason":"Malformed sequence supplied in \'since\' parameter."}');
	my $run = $lab->run($case);
	is($run->{state}, '', 'a sequence that is refused') or diag $run->{message};
	is($run->{result}{docs_written} // '', 1, '... is read from the beginning');
	is($couch->hits($fault), 1, '... once');
	$lab->is_equal($case, '... and all is there');
	$couch->heal;
}

done_testing;
