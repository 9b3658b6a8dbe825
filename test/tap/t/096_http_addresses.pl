# Where connections may go: docrep.allowed_hosts for ordinary roles and
# docrep.denied_hosts for everybody, checked on the address that is connected to,
# of the database, of redirects and of token endpoints.
use strict;
use warnings;

use DocrepCouch;
use DocrepFaults;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new(address => '0.0.0.0');
my $port = $couch->port;
my $json = JSON::PP->new->canonical;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};

$session->must(q{CREATE ROLE carl LOGIN});
$session->must(q{GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb), docrep.replicate(jsonb) TO carl});
$session->must(q{GRANT CREATE ON SCHEMA public TO carl});
my $carl = DocrepSession->new($node, 'one', user => 'carl');

$couch->put('db', DocrepFaults::sample());
my $tables = 0;

# Pulls as a role from a URL; returns the state.
sub try_url
{
	my ($who, $url, %options) = @_;
	my $statement = 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $url, 't' . ++$tables,
		$json->encode({ connection_timeout => 60000, retries_per_request => 1, create_target => JSON::PP::true, %options })) . ')';
	$who->query($statement);
	return $who->{sqlstate} eq '00000' ? '' : $who->{sqlstate};
}

sub setting
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET docrep.$name = '$value'");
	$node->reload;
	wait_until(sub { $session->must("SHOW docrep.$name") eq $value && $carl->must("SHOW docrep.$name") eq $value }, undef, "docrep.$name");
	return;
}

# ---------- the list for ordinary roles ----------

is(try_url($carl, "http://127.0.0.1:$port/db"), '', 'an empty list allows all');
setting(allowed_hosts => '127.0.0.2,10.0.0.0/8,*.example');
foreach my $host ('127.0.0.1', 'localhost')
{
	$couch->clear_log;
	is(try_url($carl, "http://$host:$port/db"), 'DR403', "$host is not in the list");
	is(scalar @{ $couch->log }, 0, '... and nothing was sent there');
	is(try_url($session, "http://$host:$port/db"), '', '... but superusers may');
}
is(try_url($carl, "http://127.0.0.2:$port/db"), '', '127.0.0.2 is');

# redirects
foreach my $code (301, 302, 307)
{
	foreach my $to ("127.0.0.1:$port", "localhost:$port", "[::ffff:127.0.0.1]:$port", "2130706433:$port", "0x7f.1:$port", "127.1:$port")
	{
		$couch->fault(match => '^GET /db/_changes', times => 0, status => $code, body => '', headers => [ [ Location => "http://$to/db/_changes?redirected" ] ]);
		$couch->clear_log;
		my $state = try_url($carl, "http://127.0.0.2:$port/db");
		like($state, qr/^DR(403|503)$/, "redirect ($code) to $to, which is not: $state");
		is(scalar $couch->requests('redirected'), 0, '... and nothing was sent there');
		$couch->heal;
	}
}

# a token endpoint is a connection too
$couch->set(api_keys => { k3y => 100 });
sub with_key { return $json->encode({ url => "http://127.0.0.2:$port/db", auth => { iam => { api_key => 'k3y', url => "http://$_[0]:$port/identity/token" } } }) }
is(try_url($carl, with_key('127.0.0.2')), '', 'a token endpoint that is in the list');
is(try_url($carl, with_key('127.0.0.1')), 'DR403', '... and one that is not') or diag $carl->{output};
is(try_url($session, with_key('127.0.0.1')), '', '... which superusers may use');
$couch->set(api_keys => undef);

# a proxy is one
is(try_url($carl, "http://127.0.0.2:$port/db", proxy => "http://127.0.0.1:$port"), 'DR403', 'a proxy that is not in the list') or diag $carl->{output};

# ---------- the list for everybody ----------

setting(allowed_hosts => '');
foreach my $host ('169.254.169.254', '[fe80::1]', '[::ffff:169.254.169.254]', '2852039166', '169.254.1.1', '[fd00:ec2::254]')
{
	my $begin = time;
	is(try_url($session, "http://$host/db"), 'DR403', "$host is denied to everybody") or diag $session->{output};
	is(try_url($session, "http://127.0.0.1:$port/none", proxy => "http://$host:80"), 'DR403', '... as a proxy too');
	# it is not there, and would be waited for for a minute
	cmp_ok(time - $begin, '<', 45, '... at once');
}
$couch->fault(match => '^GET /db/_changes', times => 0, status => 302, body => '', headers => [ [ Location => 'http://169.254.169.254/latest/meta-data/' ] ]);
like(try_url($session, "http://127.0.0.1:$port/db"), qr/^DR(403|503)$/, 'a redirect to a denied address');
unlike($session->{output}, qr/timed out/i, '... is not tried');
$couch->heal;

setting(denied_hosts => '127.0.0.0/8');
foreach my $host ('127.0.0.1', '127.0.0.2', 'localhost', '127.1', '[::ffff:127.0.0.1]', '0.0.0.0')
{
	$couch->clear_log;
	is(try_url($session, "http://$host:$port/db"), 'DR403', "$host is denied by the setting") or diag $session->{output};
	is(scalar @{ $couch->log }, 0, '... and nothing was sent there');
}
setting(denied_hosts => '');
is(try_url($session, "http://127.0.0.1:$port/db"), '', 'an empty list denies nothing');

# denied comes before allowed
setting(denied_hosts => '127.0.0.2');
setting(allowed_hosts => '127.0.0.0/8');
is(try_url($carl, "http://127.0.0.2:$port/db"), 'DR403', 'what is denied is not allowed by being listed');
is(try_url($carl, "http://127.0.0.1:$port/db"), '', '... and the rest is');

# ---------- credentials stay with their host ----------

{
	$couch->set(users => { joe => 's3cret' });
	my $other = DocrepCouch->new;
	$couch->fault(match => '^GET /db/_changes', times => 0, status => 307, body => '',
		headers => [ [ Location => $other->url('db') . '/_changes' ] ]);
	my $state = try_url($session, $json->encode({ url => "http://127.0.0.1:$port/db", auth => { basic => { username => 'joe', password => 's3cret' } }, headers => { 'X-Key' => 's3cret', Cookie => 'Other=s3cret' } }));
	my $seen = $json->encode($other->log);
	unlike($seen, qr/authorization|s3cret/i, 'a redirect to another server takes no credentials along');
	cmp_ok(scalar @{ $other->log }, '>', 0, '... where it goes at all') or diag "$state $session->{output}";
	$couch->heal;
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal/), 'nothing died');
done_testing();
