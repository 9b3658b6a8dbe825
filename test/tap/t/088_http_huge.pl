# A huge attachment between a table and a CouchDB peer, both ways: the worker's own memory
# stays small.  DOCREP_ATTACHMENT_MB says how huge (30; with DOCREP_SOAK=1 500).
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use Test::More;

my $mb = $ENV{DOCREP_ATTACHMENT_MB} // (is_soak() ? 500 : 30);
my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my %patient = (connection_timeout => 60000, request_timeout => undef);

# Nothing that a compressor could make small, and no two parts alike.
my $case;
{
	srand 7;
	my $block = pack 'N*', map { int rand 2**32 } 1 .. 250_000;
	my $content = join '', map { pack('N', $_) . substr $block, 4 } 1 .. $mb;
	$case = $lab->fresh('pull', { id => 'film', revs => [ DocrepFaults::rev(1, 'film') ], body => '"minutes":90',
		atts => { 'film.bin' => { type => 'application/octet-stream', content => $content } } });
}

foreach my $way (qw(pull push))
{
	my $this = $way eq 'pull' ? $case : { way => 'push', table => $case->{table}, db => 'pushed', leaves => 1 };
	my ($most, $run) = $lab->memory_of_workers(sub { $lab->run($this, %patient) });
	is($run->{state}, '', "$way of $mb MB") or diag $run->{message};
	diag(sprintf '%s: %d MB in %.1f s, %.0f MB/s; memory of the worker\'s own: %.1f MB at most', $way, $mb, $run->{seconds}, $mb / ($run->{seconds} || 1), $most / 1024);
	cmp_ok($most, '>', 0, '... by a worker that was seen');
	cmp_ok($most, '<', 64 * 1024, '... with less than 64 MB of its own');
	$lab->is_equal($this, '... and both sides are equal');
}
is($node->safe_psql('one', "SELECT length(docrep.get_attachment('$case->{table}', 'film', 'film.bin'))"), $mb * 1_000_000, 'all bytes are there') if $mb < 1000;

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
