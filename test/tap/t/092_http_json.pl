# CouchDB peers that answer what is no JSON, or another JSON, or far too much of it:
# the replication says so and ends; and documents that jsonb or text cannot hold:
# each is rejected and kept, and all others arrive.
use strict;
use warnings;

use DocrepCouch qw(normal_body);
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};

# ---------- answers that are none ----------

my $html = "<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body><form action=\"/login\"></form></body></html>\n";
my %wrong = (
	'an HTML page' => { body => $html, type => 'text/html' },
	'an HTML page that says it is JSON' => { body => $html },
	'nothing' => { body => '' },
	'half of it' => { body => '{"results":[' },
	'a string' => { body => '"ok"' },
	'null' => { body => 'null' },
	'a number' => { body => '42' },
	'nonsense' => { body => "\0\1\2\xff\xfe" x 100 },
	'deep nonsense' => { body => '[' x 100_000 },
);
my %kinds = (
	pull => [ 'GET /db$', 'GET /db/_local/', 'GET /db/_changes', 'POST /db/_bulk_get', 'GET /db/attached' ],
	push => [ 'GET /db$', 'GET /db/_local/', 'POST /db/_revs_diff', 'POST /db/_bulk_docs' ],
);
foreach my $way (qw(pull push))
{
	foreach my $kind (@{ $kinds{$way} })
	{
		foreach my $what (sort keys %wrong)
		{
			$lab->meets("$kind gives $what", way => $way, fault => { match => "^$kind", times => 0, status => 200, %{ $wrong{$what} } },
				state => qr/^DR50[03]$/, within => 60);
		}
	}
}

# The right kind of value with the wrong things in it.
my %shapes = (
	'GET /db/_changes' => [ '{}', '[]', '{"results":5,"last_seq":1}', '{"results":[5],"last_seq":1}', '{"results":[{"seq":1}],"last_seq":1}',
		'{"results":[{"seq":1,"id":"plain001"}],"last_seq":1}', '{"results":[{"seq":1,"id":"plain001","changes":{}}],"last_seq":1}',
		'{"results":[{"seq":1,"id":"plain001","changes":[{}]}],"last_seq":1}', '{"results":[{"seq":1,"id":7,"changes":[{"rev":"1-a"}]}],"last_seq":1}',
		'{"results":[{"seq":1,"id":"plain001","changes":[{"rev":"a"}]}],"last_seq":1}', '{"results":[{"seq":1,"id":"plain001","changes":[{"rev":"0-a"}]}],"last_seq":1}',
		'{"results":[{"seq":1,"id":"plain001","changes":[{"rev":"99999999999999999999-a"}]}],"last_seq":1}', '{"results":[]}' ],
	'POST /db/_bulk_get' => [ '{}', '[]', '{"results":5}', '{"results":[5]}', '{"results":[{"id":"plain001"}]}', '{"results":[{"id":"plain001","docs":5}]}',
		'{"results":[{"id":"plain001","docs":[5]}]}', '{"results":[{"id":"plain001","docs":[{"ok":5}]}]}', '{"results":[{"id":"plain001","docs":[{"ok":{}}]}]}',
		'{"results":[{"id":"plain001","docs":[{"ok":{"_id":"plain001","_rev":"x"}}]}]}',
		'{"results":[{"id":"plain001","docs":[{"ok":{"_id":"plain001","_rev":"2-a","_revisions":{"start":5,"ids":["a"]}}}]}]}',
		'{"results":[{"id":"plain001","docs":[{"ok":{"_id":"plain001","_rev":"2-a","_revisions":[]}}]}]}' ],
	'POST /db/_revs_diff' => [ '[]', '{"plain001":5}', '{"plain001":{}}', '{"plain001":{"missing":5}}', '{"plain001":{"missing":[5]}}' ],
	'POST /db/_bulk_docs' => [ '{}', '[5]', '[{}]', '[{"id":5}]', '[{"id":"plain001","error":5}]' ],
);
foreach my $kind (sort keys %shapes)
{
	foreach my $body (@{ $shapes{$kind} })
	{
		my $case = $lab->fresh($kind =~ /revs_diff|bulk_docs/ ? 'push' : 'pull');
		$couch->fault(DocrepFaults::for_case($case, { match => "^$kind", times => 0, status => 200, body => $body }));
		my $run = $lab->run($case);
		like($run->{state}, qr/^(DR50[03])?$/, "$kind gives $body: " . ($run->{state} || 'nothing happens'));
		diag($run->{message}) unless $run->{state} =~ /^(DR50[03])?$/;
		$couch->heal;
		my $again = $lab->run($case);
		is($again->{state}, '', '... and afterwards it goes on') or diag $again->{message};
		# what was said to be written, or there, by a liar, is not looked for again
		next if $kind =~ /revs_diff|bulk_docs/ && $run->{state} eq '';
		# what was a document of the wrong shape is rejected and kept
		my $failures = $run->{state} eq '' ? $run->{result}{doc_write_failures} : 0;
		is($session->must("SELECT count(*) FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass"), $failures, '... what is rejected is kept') if $failures;
		$lab->is_equal($case, '... and both sides are equal', except => $failures ? ['plain001'] : undef);
	}
}

# ---------- far too much ----------

my $much = 2_000_000_000;
my $bound = 65536;
# a document is held as a whole, up to what jsonb can hold
my $bound_of_one = 320 * 1024;
my %endless = (
	'GET /db$' => { head => '{"db_name":"', unit => 'x' },
	'GET /db/_local/' => { head => '{"session_id":"', unit => 'x' },
	'GET /db/_changes' => { head => '{"results":[{"seq":1,"id":"', unit => 'x' },
	'GET /db/_changes.*' => { head => '{"results":[', unit => ' ' },
	'GET /db/_changes\?' => { head => '{"', unit => 'x' },
	'POST /db/_bulk_get' => { head => '{"results":[{"id":"plain001","docs":[{"ok":{"_id":"plain001","text":"', unit => 'x' },
	'POST /db/_bulk_get.*' => { head => '', unit => '[' },
	'GET /db/attached' => { head => '', unit => 'x' },
	'POST /db/_revs_diff' => { head => '{"', unit => 'x' },
	'POST /db/_bulk_docs' => { head => '[', unit => '{"a":"b"},' },
);
my $measured = 0;
foreach my $kind (sort keys %endless)
{
	my ($most) = $lab->memory_of_workers(sub {
		$lab->meets("2 GB to $kind", way => $kind =~ /revs_diff|bulk_docs/ ? 'push' : 'pull', options => { request_timeout => 20000 },
			fault => { match => "^$kind", times => 0, endless => { %{ $endless{$kind} }, bytes => $much } },
			# without _bulk_get documents are asked for one by one
			state => $kind =~ /_bulk_get/ ? qr/^(DR503)?$/ : qr/^DR(413|50[03])$/, within => 120);
	});
	cmp_ok($most, '<', $kind =~ /_bulk_get/ ? $bound_of_one : $bound, "... and the worker has had $most kB");
	$measured++ if $most > 0;
}

cmp_ok($measured, '>=', keys(%endless) / 2, 'memory was measured');

# Little that unpacks to much.
foreach my $kind ('GET /db$', 'GET /db/_changes', 'POST /db/_bulk_get')
{
	my ($most) = $lab->memory_of_workers(sub {
		$lab->meets("a bomb to $kind", way => 'pull', options => { request_timeout => 20000 },
			fault => { match => "^$kind", times => 0, status => 200, body => '{"results":[{"id":"', gzip_bomb => $much },
			state => $kind =~ /_bulk_get/ ? '' : qr/^DR(413|50[03])$/, within => 120);
	});
	cmp_ok($most, '<', $kind =~ /_bulk_get/ ? $bound_of_one : $bound, "... and the worker has had $most kB");
}

# More rows than were asked for, and the same one again and again.
{
	my $case = $lab->fresh('pull');
	my $row = '{"seq":' . $couch->seq_of($case->{db}, 1) . ',"id":"plain001","changes":[{"rev":"' . DocrepFaults::rev(2, 'b1') . '"}]},' . "\n";
	my ($most) = $lab->memory_of_workers(sub {
		$lab->meets('changes without an end', case => $case, options => { request_timeout => 2000 }, any_count => 1,
			fault => { match => '^GET /db/_changes', times => 2, endless => { head => '{"results":[', unit => $row, bytes => 300_000_000 } },
			state => qr/^(DR(413|50[03]))?$/, within => 120);
	});
	cmp_ok($most, '<', $bound, "... and the worker has had $most kB");
}

# Large documents, many of them: one after the other.
{
	my $case = { way => 'pull', db => 'large', table => 'large' };
	$couch->fill('large', 1, 20, size => 3_000_000);
	my ($most, $run) = $lab->memory_of_workers(sub { $lab->run($case) });
	is($run->{state}, '', '60 MB in 20 documents') or diag $run->{message};
	is($run->{result}{docs_written}, 20, '... all written');
	cmp_ok($most, '<', $bound, "... and the worker has had $most kB");
}

# ---------- documents that are hard to hold ----------

sub doc { return { id => $_[0], revs => [ $_[1] // DocrepFaults::rev(1, $_[0]) ], body => $_[2] } }

my $digits = '1234567890' x 1000;
my @held = (
	doc('nested 1,000 deep', undef, '"deep":' . '[' x 1000 . ']' x 1000),
	doc('objects 1,000 deep', undef, '"deep":' . '{"a":' x 1000 . '1' . '}' x 1000),
	doc('a number of 10,000 digits', undef, "\"n\":$digits"),
	doc('a fraction of 10,000 digits', undef, "\"n\":0.$digits"),
	doc('escapes', undef, '"text":"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\\\\"\\u0001\\uffff"'),
	doc('names', undef, '"":1," ":2,"a.b":3,"\\u0041":4,"\\"":5'),
	doc('members twice', undef, '"a":1,"a":2'),
	doc("i\\d\"\t\x7f", undef, '"odd":1'),
	doc('i' x 2000, undef, '"long":1'),
	doc('members that look special', undef, '"a":{"_id":"x","_rev":"y","_attachments":{"z":1}}'),
);
my %rejected = (
	'NUL in a string' => doc('nul', undef, '"text":"a\\u0000b"'),
	'NUL in a name' => doc('nul in a name', undef, '"a\\u0000b":1'),
	'a lone high surrogate' => doc('high', undef, '"text":"\\ud800"'),
	'a lone low surrogate' => doc('low', undef, '"text":"x\\udc00y"'),
	'surrogates in the wrong order' => doc('order', undef, '"text":"\\udc00\\ud800"'),
	'bytes that are no UTF-8' => doc('bytes', undef, "\"text\":\"\xff\xfe\""),
	'a number that is too large' => doc('large number', undef, '"n":1e1000000'),
	'nested 100,000 deep' => doc('too deep', undef, '"deep":' . '[' x 100_000 . ']' x 100_000),
	'an id that is too long' => doc('j' x 2001, undef, '"a":1'),
	'an id with NUL' => doc("nul\0id", undef, '"a":1'),
	'an id with a lone surrogate' => doc("surrogate\xED\xA0\x80id", undef, '"a":1'),
	'an id that is no UTF-8' => doc("bytes\xff", undef, '"a":1'),
	'an id that begins with _' => doc('_odd', undef, '"a":1'),
	'a special member that is unknown' => doc('special', undef, '"_unknown":1'),
);
foreach my $setting ('', 'no_bulk_get', 'json_only')
{
	my $case = $lab->fresh('pull', @held, DocrepFaults::sample());
	# no server has a document at such a path
	my @what = grep { $setting eq '' || !/begins with _/ } sort keys %rejected;
	my @bad = map { $rejected{$_} } @what;
	$couch->set($setting => 1, 'no_bulk_get' => 1) if $setting ne '';
	$couch->put($case->{db}, @bad);
	my $run = $lab->run($case);
	is($run->{state}, '', 'documents that cannot be held, ' . ($setting || 'by _bulk_get')) or diag $run->{message};
	is($run->{result}{doc_write_failures}, scalar @bad, '... are counted');
	is($run->{result}{docs_written}, $case->{leaves}, '... and all others are written');
	my %there = map { $_ => 1 } split /\n/, $session->must("SELECT encode(raw_id, 'hex') || ' ' || rev FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass");
	foreach my $what (@what)
	{
		my $doc = $rejected{$what};
		my $key = unpack('H*', $doc->{id}) . " $doc->{revs}[0]";
		ok(delete $there{$key}, "... $what: kept");
	}
	is(join(', ', %there), '', '... and nothing else');
	# what the source sent, to the byte
	foreach my $what ('NUL in a string', 'a lone high surrogate', 'bytes that are no UTF-8', 'a number that is too large')
	{
		my $doc = $rejected{$what};
		my $raw = pack 'H*', $session->must("SELECT encode(raw, 'hex') FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass AND rev = '$doc->{revs}[0]'");
		like($raw, qr/\Q$doc->{body}\E/, "... $what: with what the source sent");
	}
	my $reasons = $session->must("SELECT count(*) FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass AND (error IS NULL OR coalesce(reason, '') = '')");
	is($reasons, '0', '... and why');
	$lab->is_equal($case, '... all others are equal', except => [ map { $_->{id} } @bad ]);
	my $again = $lab->run($case);
	is($again->{state}, '', '... and it is not begun anew') or diag $again->{message};
	is($again->{result}{no_changes}, JSON::PP::true, '... as there is nothing new');

	# put right at the source
	$couch->put($case->{db}, { id => 'nul', revs => [ DocrepFaults::rev(2, 'right'), DocrepFaults::rev(1, 'nul') ], body => '"text":"ab"' });
	$again = $lab->run($case);
	is($again->{result}{docs_written}, 1, '... one that was put right arrives');
	$couch->set('no_bulk_get' => undef, 'json_only' => undef);
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
