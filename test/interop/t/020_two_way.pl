# Both ways, continuously, while PouchDB edits on the server and SQL edits here:
# when the edits stop both sides become equal, hold every edit, and go quiet.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest qw(:DEFAULT replicate check_table);
use JSON::PP;
use SqlEditor;
use Test::More;
use Time::HiRes qw(time);

my $true = JSON::PP::true;
my $seed = seed();
diag("DOCREP_SEED=$seed");
srand($seed);
my $seconds = $ENV{DOCREP_SECONDS} // (is_soak() ? 600 : 20);

my $couch = DocrepInterop->new('couch');
my $node = new_node('pg', databases => ['db']);
my $url = $couch->create('db');
js('generate.js', $url, 300, $seed);

my @jobs = ([ $url, 'docs' ], [ 'docs', $url ]);
replicate($node, 'db', $url, 'docs', create_target => $true);
replicate($node, 'db', @$_, continuous => $true) foreach @jobs;

# ---------- edits on both sides ----------

my @editors = map { start_js('edit.js', $url, $seed + $_, 0, 20, 30) } 1, 2;
my $sql = SqlEditor->new($node, 'db', 'docs', 30);
my $end = time + $seconds;
$sql->edit while time < $end;
# however slow the machine is
wait_until(
	sub {
		$sql->edit;
		return $sql->edits > 50 && !grep { lines_of_js($_) <= 50 } @editors;
	},
	undef,
	'more than 50 edits of each');
my @theirs = map { decode_json($_) } map { split /\n/, stop_js($_) } @editors;
my @ours = $sql->edits;
note(@theirs . ' edits by PouchDB, ' . @ours . ' by SQL');
cmp_ok(scalar @theirs, '>', 50, 'PouchDB has edited');
cmp_ok(scalar @ours, '>', 50, 'SQL has edited');

# ---------- until quiet ----------

wait_until(sub { same_revs(couch_revs($url), table_revs($node, 'db', 'docs')) }, 120, 'both sides to become equal');
my ($left, $right) = (couch_leaves($url), table_leaves($node, 'db', 'docs'));
is_same_leaves($left, $right, 'equal when the edits have stopped');
check_table($node, 'db', 'docs');
is_none_lost($right, [ @theirs, @ours ], 'no edit is lost');

# One document each way goes across and nothing else moves: it is quiet.
my $there = $couch->get('db')->{update_seq};
my $here = $node->safe_psql('db', q{SELECT docrep.info('docs') ->> 'update_seq'});
$node->safe_psql('db', q{INSERT INTO docs(_id, doc) VALUES ('last from here', '{}')});
js('request.js', 'PUT', "$url/last%20from%20there", '{}');
wait_until(sub { same_revs(couch_revs($url), table_revs($node, 'db', 'docs')) }, 60, 'the last documents to go across');
is($couch->get('db')->{update_seq}, $there + 2, 'nothing but the last documents was written there');
is($node->safe_psql('db', "SELECT count(*) FROM docrep.changes('docs', since => $here)"), 2, 'nor here');

# What a replication sends without asking first may be there already, and then
# nothing is written: each revision has taken one number at most, whoever brought
# it (none if its successor was there before it).
my %revisions = map { ("$_->[1] $_->[2]" => 1) } $couch->writes;
$revisions{"$_->[0] $_->[1]"} = 1 foreach @theirs, [ 'last from there', '1-' ];
cmp_ok($couch->get('db')->{update_seq}, '<=', scalar keys %revisions, 'nothing was written twice there');

# Its server never learns that a stream of changes was left, so it is polled.
my $asked = PostgreSQL::Test::Utils::slurp_file($couch->dir . '/log.txt');
like($asked, qr{GET /db/_changes\?feed=longpoll}, 'changes are waited for by long polls');
unlike($asked, qr{feed=continuous}, '... and no stream is opened');

replicate($node, 'db', @$_, continuous => $true, cancel => $true) foreach @jobs;
done_testing();
