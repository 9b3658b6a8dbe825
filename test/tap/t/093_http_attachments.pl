# Attachments of CouchDB peers, when something is wrong with them: a digest that is
# not the content's, a length that is not, contents cut short or missing, stubs that
# nobody can fill.  Nothing half is ever stored.
use strict;
use warnings;

use Compress::Zlib ();
use Digest::MD5 qw(md5_base64);
use DocrepCouch;
use DocrepCouch::Store;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP qw(encode_json decode_json);
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};

# Documents with attachments of all sizes; large ones do not compress.
my $random = join '', map { pack 'N', ($_ * 2654435761) & 0xffffffff } 1 .. 100_000;
my @docs = (
	{ id => 'small', revs => [ DocrepFaults::rev(1, 's') ], body => '"a":1', atts => { 'empty' => { content => '' }, 'one' => { content => 'x' } } },
	{ id => 'large', revs => [ DocrepFaults::rev(2, 'l'), DocrepFaults::rev(1, 'l') ], body => '', atts => { map { ("part$_" => { type => 'application/octet-stream', content => $random . $_ }) } 1 .. 3 } },
	{ id => 'two', revs => [ DocrepFaults::rev(2, 't1'), DocrepFaults::rev(1, 't') ], body => '', atts => { shared => { content => $random } } },
	{ id => 'two', revs => [ DocrepFaults::rev(2, 't2'), DocrepFaults::rev(1, 't') ], body => '', atts => { shared => { content => $random }, own => { content => 'own' } } },
	{ id => "odd name \xC3\xA9", revs => [ DocrepFaults::rev(1, 'o') ], body => '', atts => { "a/b c+\xC3\xA9\"\\.txt" => { content => 'odd' } } },
	{ id => 'plain', revs => [ DocrepFaults::rev(1, 'p') ], body => '"plain":true' },
);

# A content as docrep has it.
sub content
{
	my ($case, $id, $name) = @_;
	return pack 'H*', $session->must("SELECT encode(docrep.get_attachment('$case->{table}', '$id', '$name'), 'hex')");
}

# ---------- nothing wrong ----------

foreach my $how ('', 'json_only', 'no_bulk_get')
{
	foreach my $way (qw(pull push))
	{
		next if $way eq 'push' && $how ne '';
		$couch->set($how => 1) if $how ne '';
		my $case = $lab->fresh($way, @docs);
		my $run = $lab->run($case);
		is($run->{state}, '', "$way of attachments" . ($how && ", $how")) or diag $run->{message};
		$lab->completes($case, 'attachments', $run);
		ok(content($case, 'large', 'part2') eq $random . 2, '... with their content');
		ok(content($case, 'small', 'empty') eq '', '... also where there is none');
		$couch->set($how => undef) if $how ne '';
	}
}

# Compressed ones stay as they are.
{
	my $packed = Compress::Zlib::memGzip('text ' x 10_000);
	my $case = $lab->fresh('pull', { id => 'packed', revs => ['1-a'], body => '', atts => { text => { content => $packed, encoding => 'gzip' } } });
	my $run = $lab->run($case);
	is($run->{state}, '', 'a compressed attachment') or diag $run->{message};
	ok(content($case, 'packed', 'text') eq 'text ' x 10_000, '... is unpacked by get_attachment');
	$lab->is_equal($case, '... and keeps its digest');
	my $back = { %$case, way => 'push', db => "$case->{db}back" };
	$run = $lab->run($back);
	is($run->{state}, '', '... and goes out again') or diag $run->{message};
	$lab->is_equal($back, '... as it came');
}

# A source that unpacks what it says is compressed: what comes counts.  Its length is
# not certain then, and what is streamed is chunked.
{
	my $lines = join '', map { sprintf "%d %x\n", $_, ($_ * 2654435761) & 0xffffffff } 1 .. 100_000;
	my %size = (large => length $lines, medium => 100_000, small => 2000);
	my @packed = (
		(map { my $size = $_; { id => $size, revs => [ DocrepFaults::rev(1, $size) ], body => '', atts => { map { my $text = substr "$_ $lines", 0, $size{$size};
			("text$_" => { content => Compress::Zlib::memGzip($text), encoding => 'gzip' }, "as it is$_" => { content => $text }) } 1 .. 2 } } } sort keys %size),
		map { { id => $_, revs => [ DocrepFaults::rev(1, $_) ], body => '' } } qw(before zero),
	);
	my $plain = sub { my ($size, $n) = @_; return substr "$n $lines", 0, $size{$size} };
	my $case = $lab->fresh('pull', @packed);
	$couch->set(decodes => 1);
	my $run = $lab->run($case);
	is($run->{state}, '', 'pull of attachments that come unpacked') or diag $run->{message};
	is("$run->{result}{docs_written}/$run->{result}{doc_write_failures}", '5/0', '... all are written');
	foreach my $size (sort keys %size)
	{
		ok(content($case, $size, "text$_") eq $plain->($size, $_), "... $size $_, as it should be") foreach 1, 2;
	}
	is($session->must("SELECT * FROM docrep.check('$case->{table}')"), '', '... and the table is sound');
	is($session->must('SELECT * FROM docrep.verify(' . quote($couch->url($case->{db})) . ", '$case->{table}')"), '', '... both sides are the same');

	# to another server, of which one demands lengths
	my $to = sub {
		my $target = DocrepCouch->new;
		$target->create('db');
		$target->set(@_);
		my $text = $session->query('SELECT docrep.replicate(' . join(', ', map { quote($_) } $couch->url($case->{db}), $target->url('db'), encode_json({ retries_per_request => 1 })) . ')');
		is($session->{sqlstate}, '00000', 'the same to another server' . (@_ ? ' that demands lengths' : '')) or diag $session->{output};
		return ($target, defined $text ? decode_json($text) : {});
	};
	my ($target, $result) = $to->();
	is("$result->{docs_written}/$result->{doc_write_failures}", '5/0', '... all are written');
	my $there = $target->contents('db');
	foreach my $size (sort keys %size)
	{
		my $digest = md5_base64($plain->($size, 1));
		like($there->{$size}, qr/"text1":\["text\/plain","md5-\Q$digest\E==/, "... $size, as it should be");
	}
	my %puts = map { $_->{target} => $_ } grep { $_->{method} eq 'PUT' && $_->{target} =~ m{^/db/[a-z]} } @{ $target->log };
	my ($large, $medium) = @puts{ '/db/large?new_edits=false', '/db/medium?new_edits=false' };
	is($large->{headers}{'transfer-encoding'}, 'chunked', '... the large one is chunked');
	ok(!exists $large->{headers}{'content-length'}, '... it has no length');
	ok($medium->{headers}{'content-length'}, '... what was composed in memory has one');

	($target, $result) = $to->(want_length => 1);
	is("$result->{docs_written}/$result->{doc_write_failures}", '4/1', '... the large one counts as failed, and all others are written');
	is(scalar grep({ $_->{target} =~ m{^/db/large} && $_->{status} == 411 } @{ $target->log }), 1, '... after one attempt');
	is(join(' ', sort keys %{ $target->contents('db') }), 'before medium small zero', '... and the others are there');
	$couch->set(decodes => undef);
}

# Contents that were there already are not sent again.
{
	my $case = $lab->fresh('pull', @docs);
	$lab->run($case);
	$couch->put($case->{db}, { id => 'large', revs => [ DocrepFaults::rev(3, 'l'), DocrepFaults::rev(2, 'l'), DocrepFaults::rev(1, 'l') ], body => '"more":1',
		atts => { map { ("part$_" => { type => 'application/octet-stream', content => $random . $_, revpos => 2 }) } 1 .. 3 } });
	my $sent = $couch->sent;
	my $run = $lab->run($case);
	is($run->{state}, '', 'a new revision with old attachments') or diag $run->{message};
	cmp_ok($couch->sent - $sent, '<', 100_000, '... travels without them');
	$lab->is_equal($case, '... and has them');
}

# ---------- broken on the way ----------

foreach my $fault ([ 'reset in the middle of a content', { reset_at => 200_000 } ], [ 'cut in the middle of a content', { close_at => 200_000 } ],
	[ 'garbled in the middle of a content', { chunk_garbage => 200_000 } ], [ 'silent in the middle of a content', { hang_at => 200_000 } ])
{
	my ($what, $how) = @$fault;
	$lab->meets($what, way => 'pull', docs => \@docs, fault => { match => '^GET /db/large', %$how }, state => qr/^(DR503)?$/);
	$lab->meets("always $what", way => 'pull', docs => \@docs, fault => { match => '^GET /db/large', times => 0, %$how }, state => 'DR503', within => 60);
}
foreach my $fault ([ 'closed', { early => 200_000, close_at => -1 } ], [ 'reset', { early => 200_000, reset_at => -1 } ], [ '503', { early => 200_000, status => 503, body => '{}' } ])
{
	my ($what, $how) = @$fault;
	$lab->meets("$what in the middle of a content", way => 'push', docs => \@docs, fault => { match => '^PUT /db/large', %$how }, state => qr/^(DR503)?$/);
	$lab->meets("always $what in the middle of a content", way => 'push', docs => \@docs, fault => { match => '^PUT /db/large', times => 0, %$how }, state => 'DR503', within => 60);
}

# ---------- wrong ----------

# Of a document whose attachment is not what is said of it: never stored as if it were.
my $digest = quotemeta(md5_base64($random . 2));
my %wrong = (
	'a wrong digest' => { replace => [ "md5-$digest", 'md5-AAAAAAAAAAAAAAAAAAAAAA' ] },
	'another content' => { match => '^GET /db/large/', replace => [ quotemeta(substr($random, 1000, 40)), 'y' x 40 ] },
	'a length that is too large' => { replace => [ '"length":400001', '"length":400002' ] },
	'a length that is too small' => { replace => [ '"length":400001', '"length":400000' ] },
	'no length' => { replace => [ '"length":400001,', '' ] },
	'a content that is missing' => { match => '^GET /db/large/part2', status => 404, body => '{"error":"not_found","reason":"Document is missing attachment"}' },
);
foreach my $what (sort keys %wrong)
{
	foreach my $how ('', 'no_bulk_get')
	{
		my $case = $lab->fresh('pull', @docs);
		$couch->set($how => 1) if $how ne '';
		$couch->fault(DocrepFaults::for_case($case, { match => '^(POST /db/_bulk_get|GET /db/large\?)', times => 0, %{ $wrong{$what} } }));
		my $run = $lab->run($case);
		like($run->{state}, qr/^(DR(404|50[03]))?$/, "$what: " . ($run->{state} || 'goes on'));
		if ($run->{state} eq '')
		{
			# then it was kept away, and says so
			is($run->{result}{doc_write_failures}, 1, '... the document counts as not written');
			is($session->must("SELECT docrep.get('$case->{table}', 'large') IS NULL"), 't', '... and is not there');
			is($session->must("SELECT count(*) FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass"), '1', '... but among those rejected');
			$lab->is_equal($case, '... all others are', except => ['large']);
		}
		else
		{
			is($session->must("SELECT docrep.get('$case->{table}', 'large') IS NULL"), 't', '... the document is not there');
			$couch->heal;
			my $again = $lab->run($case);
			is($again->{state}, '', '... and comes with the next run') or diag $again->{message};
			$lab->is_equal($case, '... and both sides are equal');
		}
		$couch->heal;
		$couch->set($how => undef) if $how ne '';
		is($session->must("SELECT * FROM docrep.check('$case->{table}')"), '', '... and the table is sound');
	}
}

# ---------- missing ----------

# The source does not have what a document of its own names: nothing ends for ever, the
# document is counted and kept, and what comes later arrives.
foreach my $which ([ 'large', 'part2' ], [ 'small', 'one' ], [ 'two', 'shared' ], [ 'large', 'part1', http_connections => 1 ], [ 'small', 'one', http_connections => 1 ])
{
	my ($id, $name, %options) = @$which;
	my $case = $lab->fresh('pull', @docs);
	my $gone = $couch->fault(match => "^GET /$case->{db}/$id/$name", times => 0, status => 404, body => '{"error":"not_found","reason":"Document is missing attachment"}');
	my $run = $lab->run($case, %options);
	my $failed = $id eq 'two' ? 2 : 1;
	is($run->{state}, '', "an attachment that is missing at the source, $id") or diag $run->{message};
	is("$run->{result}{docs_written}/$run->{result}{doc_write_failures}", @docs - $failed . "/$failed", '... its document is counted');
	is($session->must("SELECT string_agg(DISTINCT id || ' ' || error || ' ' || reason, '; ') FROM docrep.rejected_docs WHERE tbl = '$case->{table}'::regclass"),
		"$id DR404 attachment \"$name\": the source does not have its content", '... and kept');
	cmp_ok(scalar $couch->requests("^GET /$case->{db}/$id\\?open_revs"), '>=', $failed, '... after the document was looked at again');
	$lab->is_equal($case, '... all others are there', except => [$id]);
	is($session->must("SELECT * FROM docrep.check('$case->{table}')"), '', '... and the table is sound');
	$couch->put($case->{db}, { id => 'later', revs => ['1-a'], body => '' });
	is($lab->run($case)->{result}{docs_written}, 1, '... it goes on from there');

	# to another server
	my $target = DocrepCouch->new;
	my $text = $session->query('SELECT docrep.replicate(' . join(', ', map { quote($_) } $couch->url($case->{db}), $target->url('db'), '{"create_target": true}') . ')');
	is($session->{sqlstate}, '00000', '... the same to another server') or diag $session->{output};
	my $result = decode_json($text // '{}');
	is("$result->{docs_written}/$result->{doc_write_failures}", @docs + 1 - $failed . "/$failed", '... its document is counted');
	$couch->heal;
}

# The document has moved on: it is the new revision that counts.
foreach my $which ([ 'large', 'part2' ], [ 'small', 'one' ])
{
	my ($id, $name) = @$which;
	my $case = $lab->fresh('pull', @docs);
	my ($old) = grep { $_->{id} eq $id } @docs;
	my $next = { id => $id, revs => [ DocrepFaults::rev(@{ $old->{revs} } + 1, 'next'), @{ $old->{revs} } ], body => '"moved":"on"' };
	$couch->fault(match => "^GET /$case->{db}/$id/$name", times => 0, command => [ 'put', $case->{db}, $next ], status => 404, body => '{}');
	my $run = $lab->run($case);
	is($run->{state}, 'DR503', "$id, which has moved on while its attachment was read") or diag $run->{message};
	$run = $lab->run($case);
	is($run->{state}, '', '... the next run goes on') or diag $run->{message};
	is($run->{result}{doc_write_failures}, 0, '... nothing has failed');
	is($session->must("SELECT docrep.get('$case->{table}', '$id') ->> 'moved'"), 'on', '... the new revision is there');
	$couch->heal;
}

# ---------- too much ----------

{
	my ($most) = $lab->memory_of_workers(sub {
		$lab->meets('an attachment of 2 GB', way => 'pull', docs => \@docs, options => { request_timeout => 30000 },
			fault => { match => '^GET /db/large', times => 0, endless => { head => '', unit => 'x', bytes => 2_000_000_000 } }, state => qr/^DR(413|50[03])$/, within => 120);
	});
	cmp_ok($most, '<', 65536, "... and the worker has had $most kB");
}

# ---------- a target that lacks what a stub names ----------

{
	my $case = $lab->fresh('push', @docs);
	$lab->run($case);
	# the target has forgotten the contents, and answers 412 to stubs by itself
	$couch->delete($case->{db});
	$couch->create($case->{db});
	$session->must("SELECT docrep.put('$case->{table}', docrep.get('$case->{table}', 'small') || '{\"more\": 1}')");
	my $run = $lab->run($case);
	is($run->{state}, '', 'a target that has lost contents') or diag $run->{message};
	$lab->is_equal($case, '... gets them whole');
}
$lab->meets('412 to a stub', way => 'push', docs => \@docs, options => { retries_per_request => 3 },
	fault => { match => '^PUT /db/large', status => 412, body => "{\"error\":\"missing_stub\",\"reason\":\"Invalid attachment stub in large for part1\"}\n" });

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
