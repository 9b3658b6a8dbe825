# CouchDB peers over TLS: an authority that nobody knows, a certificate for another
# host, one that has expired, one that is not valid yet: nothing is sent to them.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use DocrepTls;
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new(settings => { users => { joe => 'Tr0ub4dor' } });
my $lab = DocrepFaults->new($node, 'one', $couch);
my $known = DocrepTls::authority('Known Authority');
my $unknown = DocrepTls::authority('Unknown Authority');

sub tls_url { return "https://joe:Tr0ub4dor\@$_[1]:" . $_[0]->port . "/$_[2]" }

$node->append_conf('postgresql.conf', "docrep.ssl_ca_file = '$known->{file}'");
$node->reload;

my $good = DocrepTls->new($couch->port, $known, names => [ 'localhost', '127.0.0.1' ]);
foreach my $way (qw(pull push))
{
	foreach my $host ('localhost', '127.0.0.1')
	{
		my $case = $lab->fresh($way);
		$case->{url} = tls_url($good, $host, $case->{db});
		my $run = $lab->run($case);
		is($run->{state}, '', "$way over TLS, $host") or diag $run->{message};
		$lab->completes($case, 'over TLS', $run);
	}
}

my %bad = (
	'an unknown authority' => [ DocrepTls->new($couch->port, $unknown), qr/certificate/i ],
	'another host' => [ DocrepTls->new($couch->port, $known, names => [ 'other.example', '127.0.0.2' ]), qr/certificate|host/i ],
	'expired' => [ DocrepTls->new($couch->port, $known, days => -1), qr/certificate|expired/i ],
	'not valid yet' => [ DocrepTls->new($couch->port, $known, start => 1), qr/certificate|valid/i ],
);
foreach my $what (sort keys %bad)
{
	my ($tls, $message) = @{ $bad{$what} };
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		$couch->clear_log;
		my $run = $lab->run({ %$case, url => tls_url($tls, 'localhost', $case->{db}) }, retries_per_request => 10);
		is($run->{state}, 'DR503', "$way, $what") or diag $run->{message};
		like($run->{message}, $message, '... and it says so');
		unlike($run->{message}, qr/Tr0ub4dor/, '... without the password');
		# ten attempts would take minutes
		cmp_ok($run->{seconds}, '<', 60, '... at once, for it will not get better');
		is(scalar @{ $couch->log }, 0, '... and nothing was sent');
		$lab->completes({ %$case, url => tls_url($good, 'localhost', $case->{db}) }, 'afterwards', $run);
	}
}

# No TLS where TLS is expected, and the other way round.
foreach my $pair ([ 'TLS spoken to a server without', 'https://localhost:' . $couch->port ], [ 'no TLS spoken to a server with', 'http://localhost:' . $good->port ])
{
	my $run = $lab->run({ %{ $lab->fresh('pull') }, url => "$pair->[1]/db" }, %DocrepFaults::quick);
	is($run->{state}, 'DR503', $pair->[0]) or diag $run->{message};
}

# From https to http there is no redirect.
{
	my $case = $lab->fresh('pull');
	$case->{url} = tls_url($good, 'localhost', $case->{db});
	$lab->meets('redirect from https to http', case => $case, state => 'DR503', message => qr/redirect/i,
		fault => { match => '^GET /db/_changes', times => 0, status => 302, body => '', headers => [ [ Location => $couch->url($case->{db}) . '/_changes' ] ] });
}

# A connection that ends without TLS's own end, in mid-body.
{
	my $case = $lab->fresh('pull');
	$case->{url} = tls_url($good, 'localhost', $case->{db});
	$lab->meets('cut short over TLS', case => $case, options => { retries_per_request => 3 },
		fault => { match => '^POST /db/_bulk_get', close_at => 100 });
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal|Tr0ub4dor/), 'nothing died, and no password is in the log');
done_testing();
