# The tour of README.md works as it stands: what is in its sql blocks is sent to
# one psql, line by line as if pasted, and the answers are those in its text
# blocks.
use strict;
use warnings;

use DocrepTest;
use IPC::Run qw(start pump finish timeout);
use PostgreSQL::Test::Utils;
use Test::More;

# The tour as a list of { sql, answer (undef: none is shown), eventually }.
sub read_tour
{
	my ($text) = @_;
	my ($tour) = $text =~ /^<!-- tour:.*?-->\n(.*)^<!-- end of the tour -->/ms
	  or die "README.md has no tour\n";
	my @blocks;

	while ($tour =~ /(^<!-- eventually -->\n)?^```sql\n(.*?)^```\n(?:^```text\n(.*?)^```\n)?/msg)
	{
		push @blocks, { eventually => defined $1, sql => $2, answer => $3 };
	}
	my $count = () = $tour =~ /^```(?:sql|text)$/mg;
	my $seen  = 0;
	$seen += defined $_->{answer} ? 2 : 1 foreach @blocks;
	is($seen, $count, 'every block of the tour was read');
	return @blocks;
}

# What may differ from one cluster to another, and white space at ends of lines.
sub normal
{
	my ($answer) = @_;
	$answer =~ s/as user "\w+"/as user "postgres"/g;
	$answer =~ s/[ \t]+$//mg;
	$answer =~ s/\n+\z/\n/;
	return $answer;
}

my $node = new_node('readme', databases => [ 'a', 'b' ]);
my @blocks = read_tour(slurp_file('README.md'));
cmp_ok(scalar @blocks, '>', 10, 'the tour has its blocks');

my ($in, $out) = ('', '');
my $end  = '-- end of the answer --';
my $psql = start [ 'psql', '-X', '-d', $node->connstr('a') ], '<', \$in, '>', \$out, '2>', \$out,
  timeout(600);

# Sends a block to psql; its answer.
sub answer_of
{
	my ($block) = @_;
	$out = '';
	$in  = $block->{sql} . "\\echo '$end'\n";
	pump $psql until $out =~ /^\Q$end\E$/m;
	$out =~ s/^\Q$end\E\n//m;
	return normal($out);
}

foreach my $i (0 .. $#blocks)
{
	my $block  = $blocks[$i];
	my $wanted = normal($block->{answer} // '');
	my $answer = answer_of($block);
	my ($first) = $block->{sql} =~ /(.*)/;

	# some blocks show what another process is about to do
	if ($block->{eventually})
	{
		wait_until(sub { $answer eq $wanted || ($answer = answer_of($block)) eq $wanted },
			undef, "block $i: \"$wanted\", not \"$answer\"");
	}
	is($answer, $wanted, "block $i: $first");

	# no error that the page does not show
	unlike($answer, qr/ERROR|FATAL/, "block $i: no error") unless $wanted =~ /ERROR/;
}
$in = "\\q\n";
finish $psql;

done_testing();
