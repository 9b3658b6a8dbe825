# The scripted CouchDB itself: it speaks the protocol, and its faults are what they
# are called.  With a client that is not ours.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use HTTP::Tiny;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $couch = DocrepCouch->new;
my $db = $couch->url('db');
my $json = JSON::PP->new->canonical;
my $http = HTTP::Tiny->new(timeout => 120);
my $impatient = HTTP::Tiny->new(timeout => 2);
$couch->put('db', DocrepFaults::sample());

sub get { return $http->get("$db$_[0]", { headers => $_[1] // {} }) }
sub post { return $http->post("$db$_[0]", { content => ref $_[1] ? $json->encode($_[1]) : $_[1], headers => { 'Content-Type' => 'application/json' } }) }

# ---------- the protocol ----------

is(get('')->{status}, 200, 'a database');
is($http->get($couch->url('none'))->{status}, 404, 'none');
is($http->put($db)->{status}, 412, 'there already');

my $changes = $json->decode(get('/_changes?style=all_docs&limit=33')->{content});
is(scalar @{ $changes->{results} }, 33, 'changes');
like($changes->{last_seq}, qr/^\d+-.{200}/, '... with long opaque sequences');
my $rest = $json->decode(get("/_changes?style=all_docs&since=$changes->{last_seq}")->{content});
is(@{ $rest->{results} } + 33, keys %{ $couch->contents('db') }, '... and the rest');
is($changes->{pending}, scalar @{ $rest->{results} }, '... which was pending');
my ($conflict) = grep { $_->{id} eq 'conflict' } @{ $changes->{results} }, @{ $rest->{results} };
is(scalar @{ $conflict->{changes} }, 3, '... with all leaves');

my $diff = $json->decode(post('/_revs_diff', { plain001 => [ '9-x', DocrepFaults::rev(1, 'a1') ] })->{content});
is_deeply($diff, { plain001 => { missing => ['9-x'], possible_ancestors => [ DocrepFaults::rev(2, 'b1') ] } }, '_revs_diff');

my $got = $json->decode(post('/_bulk_get?revs=true&latest=true', { docs => [ { id => 'plain001', rev => DocrepFaults::rev(1, 'a1') }, { id => 'none', rev => '1-a' } ] })->{content});
is($got->{results}[0]{docs}[0]{ok}{_rev}, DocrepFaults::rev(2, 'b1'), '_bulk_get with latest');
is($got->{results}[1]{docs}[0]{error}{error}, 'not_found', '... and what is missing');

my $parts = get('/attached?open_revs=all&revs=true', { Accept => 'multipart/mixed' });
like($parts->{headers}{'content-type'}, qr{^multipart/mixed; boundary=}, 'open_revs as multipart');
like($parts->{content}, qr/Content-Disposition: attachment; filename="one.txt"/, '... with attachments');
unlike(get('/attached?open_revs=all&atts_since=["' . DocrepFaults::rev(1, 'att') . '"]', { Accept => 'multipart/mixed' })->{content}, qr/Content-Disposition/, '... that are newer');

my $related = "--b\r\nContent-Type: application/json\r\n\r\n" . $json->encode({ _id => 'p/q', _rev => '2-b', _revisions => { start => 2, ids => [ 'b', 'a' ] },
	_attachments => { x => { follows => $json->true, content_type => 'text/plain', length => 4 } } })
  . "\r\n--b\r\nContent-Disposition: attachment; filename=\"x\"\r\n\r\nabcd\r\n--b--";
my $put = sub { return $http->put("$db/p%2Fq?new_edits=false", { content => $_[0], headers => { 'Content-Type' => 'multipart/related; boundary="b"' } })->{status} };
is($put->($related), 201, 'PUT multipart/related');
is(get('/p%2Fq/x')->{content}, 'abcd', '... and its attachment');
is($put->($related =~ s/"length":4/"length":5/r =~ s/2-b/2-c/r =~ s/"b","a"/"c","a"/r), 400, '... of another length');
is($http->put("$db/p%2Fq?new_edits=false", { content => '{"_id":"p/q","_rev":"1-z","_attachments":{"y":{"stub":true}}}' })->{status}, 412, 'a stub that is not known');
is(post('/_bulk_docs', '{"new_edits":false,"docs":[{"_id":"n","_rev":"1-a","x":"\\ud800"}]}')->{status}, 201, '_bulk_docs');
like(get('/n')->{content}, qr/\\ud800/, '... keeps what it was given');

# ---------- the faults ----------

my $whole = get('/plain001')->{content};
my %faults = (
	'closed without an answer' => [ { close_at => -1, times => 2 }, sub { $_[0]{status} == 599 } ],
	'reset' => [ { reset_at => 5 }, sub { $_[0]{status} == 599 } ],
	'cut short' => [ { close_at => 5, times => 2 }, sub { $_[0]{status} == 599 } ],
	'silence' => [ { hang_at => 5 }, sub { $_[0]{status} == 599 && $_[1] > 1.5 } ],
	'slow' => [ { drip => 100 }, sub { $_[0]{content} eq $whole && $_[1] > 0.7 } ],
	'late' => [ { delay => 0.5 }, sub { $_[0]{content} eq $whole && $_[1] > 0.4 } ],
	'garbled chunks' => [ { chunk_garbage => 5 }, sub { $_[0]{status} == 599 } ],
	'another status' => [ { status => 503, headers => [ [ 'Retry-After', 1 ] ], body => 'x' }, sub { $_[0]{status} == 503 && $_[0]{headers}{'retry-after'} == 1 } ],
	'another text' => [ { replace => [ '"n":1', '"n":2' ] }, sub { $_[0]{content} eq $whole =~ s/"n":1/"n":2/r } ],
	'endless' => [ { endless => { head => '[', unit => '1,', bytes => 20e6 } }, sub { length $_[0]{content} > 19e6 } ],
);
foreach my $what (sort keys %faults)
{
	my ($fault, $expected) = @{ $faults{$what} };
	$couch->fault(match => '^GET /db/plain001', %$fault);
	my $begin = time;
	my $answer = $fault->{hang_at} ? $impatient->get("$db/plain001") : get('/plain001');
	ok($expected->($answer, time - $begin), $what) or diag $json->encode({ %$answer, content => substr $answer->{content}, 0, 200 });
	# this client repeats a GET by itself when the connection is lost
	is($couch->hits, $fault->{times} // 1, '... as often as asked');
	is(get('/plain001')->{content}, $whole, '... and then no more');
	$couch->heal;
}
$couch->stop;
is(get('')->{status}, 599, 'down');
$couch->start;
is(get('')->{status}, 200, '... and up again');
$couch->stop(0.3);
is(eval { DocrepTest::wait_until(sub { get('')->{status} == 200 }) }, 1, '... also by itself');
done_testing();
