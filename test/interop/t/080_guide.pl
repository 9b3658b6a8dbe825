# "Leave CouchDB with no downtime" of docs/guide.md works as it stands: its sql
# blocks are sent to one psql, one after the other, with the address of a server of
# ours, while PouchDB goes on editing that server's database between them.
use strict;
use warnings;

use DocrepInterop;
use DocrepTest;
use IPC::Run qw(start pump finish timeout);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $address = 'https://joe:secret@couch.example/shop';

# The section as a list of { step, sql, answer (undef: none is shown), eventually }.
sub read_section
{
	my ($text) = @_;
	my ($section) = $text =~ /^<!-- leaving CouchDB:.*?-->\n(.*)^<!-- end of leaving CouchDB -->/ms
	  or die "the guide has no such section\n";
	my ($step, @blocks) = ('');

	while ($section =~ /^### ([^\n]*)\n|(^<!-- eventually -->\n)?^```sql\n(.*?)^```\n(?:^```text\n(.*?)^```\n)?/msg)
	{
		if (defined $1)
		{
			$step = $1;
			next;
		}
		push @blocks, { step => $step, eventually => defined $2, sql => $3, answer => $4 };
	}
	my $count = () = $section =~ /^```(?:sql|text)$/mg;
	my $seen = 0;
	$seen += defined $_->{answer} ? 2 : 1 foreach @blocks;
	is($seen, $count, 'every block was read');
	return @blocks;
}

my @blocks = read_section(slurp_file('docs/guide.md'));
cmp_ok(scalar @blocks, '>', 10, 'the section has its blocks');

# ---------- the old database ----------

my $couch = DocrepInterop->new('couch', admin => 'root', password => 'adminpw');
$couch->create('shop');
my $root = $couch->url('shop', admin => 1);
js('request.js', 'PUT', $couch->url('_users/org.couchdb.user:joe', admin => 1),
	'{"_id": "org.couchdb.user:joe", "type": "user", "name": "joe", "password": "secret", "roles": []}');
js('request.js', 'PUT', "$root/_security", '{"members": {"names": ["joe"], "roles": []}, "admins": {"names": [], "roles": []}}');
js('generate.js', $root, is_soak() ? 5000 : 600, 2);
js('request.js', 'PUT', "$root/nul", '{"text": "a\u0000b"}');
my $url = $couch->url('shop', user => 'joe:secret');

# ---------- the steps ----------

my $node = new_node('pg', databases => ['db']);
my ($in, $out) = ('', '');
my $end = '-- end of the answer --';
my $limit = timeout(180);
my $psql = start [ 'psql', '-XqAt', '-d', $node->connstr('db') ], '<', \$in, '>', \$out, '2>', \$out, $limit;

sub answer_of
{
	my ($sql) = @_;

	$limit->start(180);		# for each answer, not for all of them
	$out = '';
	$in = $sql . "\\echo '$end'\n";
	pump $psql until $out =~ /^\Q$end\E$/m;
	$out =~ s/^\Q$end\E\n//m;
	return $out;
}

my %answers;
foreach my $i (0 .. $#blocks)
{
	my $block = $blocks[$i];
	my $sql = $block->{sql} =~ s/\Q$address\E/$url/gr;
	my ($first) = $block->{sql} =~ /(.*)/;
	my $what = "$block->{step}: $first";

	# the clients that have not moved go on, until the last has
	js('edit.js', $root, $i + 1, 20, 0) unless $block->{step} =~ /^[57]/;
	# they must have been seen by what is to say that it is done
	wait_until(
		sub {
			my $sent = couch_revs($root);
			my $here = table_revs($node, 'db', 'shop');
			delete $_->{ unpack 'H*', 'nul' } foreach $sent, $here;
			same_revs($sent, $here);
		},
		60, 'the edits to be on both sides')
	  if $block->{step} =~ /^[57]/;

	# what is shown of the job depends on how far it has come
	wait_for_query($node, 'db', q{SELECT count(*) > 0 FROM shop WHERE doc ->> 'type' = 'order'})
	  if $block->{step} =~ /^3/;
	wait_for_query($node, 'db', 'SELECT max(doc_write_failures) FROM docrep.active_tasks', 1)
	  if $block->{step} =~ /^4/;

	my $answer = answer_of($sql);
	my $wanted = $block->{answer};
	if ($block->{eventually})
	{
		wait_until(sub { $answer eq $wanted || ($answer = answer_of($sql)) eq $wanted }, 60, "$what: \"$wanted\", not \"$answer\"");
	}
	is($answer, $wanted, $what) if defined $wanted;
	unlike($answer, qr/ERROR|FATAL|secret/, "$what: no error, no secret");
	push @{ $answers{ substr $block->{step}, 0, 1 } }, $answer;
}
$in = "\\q\n";
finish $psql;

# ---------- what the steps have shown ----------

like($answers{1}[0], qr/^conflict\|[1-9]/m, 'preflight counts the conflicts');
like($answers{1}[1], qr/^nul_in_string\|nul\|1-/m, 'and names what cannot be stored');
like($answers{1}[1], qr/^design_document\|_design\/app\|/m, 'and the design documents');
is($answers{3}[0], "t\n", 'documents could be queried while it went on');
like($answers{4}[0], qr/\|1\|/, 'a failure is counted');
like($answers{4}[2], qr/^nul\|1-/m, 'what was refused is named');
like($answers{5}[0], qr/^nul\|[^\n]*\n\z/, 'verify finds nothing but what was refused') or diag $answers{5}[0];

my ($old, $new) = (couch_leaves($root), table_leaves($node, 'db', 'shop'));
delete @$old{ grep { /^\["nul"/ } keys %$old };
is_same_leaves($old, $new, 'both sides are equal in the end');
ok(scalar(grep { /^\["first-by-sql"/ } keys %$old), 'what was written by SQL is in the old database');
is($node->safe_psql('db', 'SELECT count(*) FROM docrep.active_tasks'), 0, 'no job is left');
unlike(slurp_file($node->logfile), qr/joe:secret/, 'no secret is in the log');

done_testing();
