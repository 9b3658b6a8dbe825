# The ways to a CouchDB peer: HTTP/2 over TLS, which the server's side must have seen, and
# proxies (HTTP and SOCKS5, with a password and without), by which nobody gets to where they
# may not go.
use strict;
use warnings;

use DocrepCouch qw(docrep_contents);
use DocrepFaults;
use DocrepForward;
use DocrepHttp2;
use DocrepTest qw(:DEFAULT quote);
use DocrepTls;
use JSON::PP;
use Test::More;

my $node = new_node('near', databases => ['one']);
my $couch = DocrepCouch->new;
my $lab = DocrepFaults->new($node, 'one', $couch);
my $session = $lab->{session};
my $json = JSON::PP->new->canonical;
my $ca = DocrepTls::authority('Private Authority');
my $port = $couch->port;

$node->append_conf('postgresql.conf', "docrep.ssl_ca_file = '$ca->{file}'");
$node->reload;

# ---------- HTTP/2 ----------

# Contents of every route: inline, composed, and streamed piece by piece.
sub with_attachments
{
	return (DocrepFaults::sample(300),
		map { my $n = $_; { id => "att$n", revs => [ DocrepFaults::rev(1, "att$n") ], body => "\"n\":$n", atts => { map { +"file$_" => { content => "$n/$_ " x (2 ** ($n % 4 * 5) * 6) } } 1 .. 3 } } } 1 .. 40);
}

my $front = DocrepHttp2->new($port, $ca);
foreach my $way (qw(pull push))
{
	my $case = $lab->fresh($way, with_attachments());
	my $db = $case->{db};
	$case->{url} = 'https://localhost:' . $front->port . "/$db";
	$front->forget;
	my $run = $lab->run($case, http_connections => 4, worker_batch_size => 50);
	is($run->{state}, '', "$way by HTTP/2") or diag $run->{message};
	$lab->completes($case, "$way by HTTP/2", $run);

	my @sessions = $front->sessions;
	my @streams = $front->streams;
	cmp_ok(scalar @sessions, '>', 0, '... of which the server has seen connections');
	is_deeply([ grep { ($_->{alpn} // '') ne 'h2' } @sessions ], [], '... all of them HTTP/2');
	# a feed and a content that is streamed have connections besides the four; those that have
	# nothing to do for a moment may be closed, and made again
	cmp_ok(scalar @sessions, '<=', 8, '... few: ' . @sessions);
	cmp_ok(scalar @streams, '>=', 3 * @sessions, '... with several streams each: ' . @streams);
	is(scalar(grep { $_->{path} !~ m{^/($db|_session|$|\?)} } @streams), 0, '... for this database');
	my %streams;
	$streams{ $_->{session} }++ foreach @streams;
	cmp_ok((sort { $b <=> $a } values %streams)[0], '>', 5, '... so a connection is used again and again');
	is((grep { $_->{path} =~ m{/$db/(_bulk_get|_bulk_docs|att)} } @streams) > 5 ? 1 : 0, 1, '... by what carries documents');
}

# A conversation that goes on for long, the feed resting in between.
{
	my $case = $lab->fresh('pull');
	$case->{url} = 'https://127.0.0.1:' . $front->port . "/$case->{db}";
	$front->forget;
	my %options = (continuous => JSON::PP::true, connection_timeout => 30000, request_timeout => undef);
	is($lab->run($case, %options)->{state}, '', 'a continuous pull by HTTP/2 starts') or diag $session->{output};
	wait_until(sub { $lab->present($case) == $case->{leaves} }, undef, 'all to come by a continuous pull');
	foreach my $n (1 .. 5)
	{
		$couch->put($case->{db}, { id => "late$n", revs => [ DocrepFaults::rev(1, "late$n") ], body => "\"n\":$n" });
		$case->{leaves}++;
		wait_until(sub { $lab->present($case) == $case->{leaves} }, undef, "change $n to arrive");
	}
	$lab->is_equal($case, 'a continuous pull by HTTP/2 brings what comes later');
	is_deeply([ grep { ($_->{alpn} // '') ne 'h2' } $front->sessions ], [], '... all of it by HTTP/2');
	is($lab->run($case, %options, cancel => JSON::PP::true)->{state}, '', '... until it is cancelled');
}

# ---------- proxies ----------

# Which field a way's proxy is in.
my %field = (pull => 'source_proxy', push => 'target_proxy');

# A replication by way of a proxy; returns its run.
sub by_proxy
{
	my ($case, $url, %options) = @_;
	return $lab->run($case, $field{ $case->{way} } => $url, %options);
}

my %who = (user => 'joe', password => 'Tr0ub:4d@r/');
my $encoded = 'Tr0ub%3A4d%40r%2F';
my %proxies = (
	'HTTP' => DocrepForward->new('http'),
	'HTTP with a password' => DocrepForward->new('http', %who),
	'SOCKS5' => DocrepForward->new('socks5'),
	'SOCKS5 with a password' => DocrepForward->new('socks5', %who),
);
my $tls_port = $front->port;

foreach my $name (sort keys %proxies)
{
	my $proxy = $proxies{$name};
	my $url = $proxy->{user} ? $proxy->url('joe', $encoded) : $proxy->url;
	my $who = $proxy->{user} ? "joe:$who{password}" : '';

	foreach my $way (qw(pull push))
	{
		foreach my $scheme (qw(http https))
		{
			my $case = $lab->fresh($way);
			my $place = "localhost:" . ($scheme eq 'http' ? $port : $tls_port);
			$case->{url} = "$scheme://$place/$case->{db}";
			$proxy->forget;
			$front->forget;
			my $run = by_proxy($case, $url);
			is($run->{state}, '', "$name: $way, $scheme") or diag $run->{message};
			$lab->completes($case, "$name: $way, $scheme", $run);
			my @log = $proxy->log;
			cmp_ok(scalar @log, '>', 0, '... which the proxy has seen');
			is_deeply([ grep { $_->[2] ne $who } @log ], [], '... and who it was');
			my $what = $name =~ /HTTP/ ? $scheme eq 'http' ? qr/^(GET|HEAD|PUT|POST) \Qhttp:\/\/$place\E\// : qr/^CONNECT \Q$place\E$/ : qr/^SOCKS5-address (127\.0\.0\.1|::1):/;
			is_deeply([ grep { "$_->[0] $_->[1]" !~ $what } @log ], [], '... asked in the way that belongs to it');
			cmp_ok(scalar(grep { $_->{alpn} eq 'h2' } $front->sessions), '>', 0, '... with HTTP/2 in the tunnel') if $scheme eq 'https';
		}
	}
}

# One proxy for both sides.
{
	my $proxy = $proxies{'HTTP with a password'};
	my $case = $lab->fresh('pull');
	$proxy->forget;
	my $text = $session->must('SELECT docrep.replicate(' . join(', ', map { quote($_) } $couch->url($case->{db}), $couch->url('both'),
		$json->encode({ create_target => JSON::PP::true, proxy => $proxy->url('joe', $encoded) })) . ')');
	is($json->decode($text)->{docs_written}, $case->{leaves}, '"proxy" is for both sides');
	is_deeply($couch->contents('both'), $couch->contents($case->{db}), '... which are equal');
	foreach my $db ($case->{db}, 'both')
	{
		cmp_ok(scalar(grep { $_->[1] =~ m{/$db/} } $proxy->log), '>', 0, "... $db by way of it");
	}
}

# The proxy is told nothing that is the server's, and the server nothing that is the proxy's.
{
	my $locked = DocrepCouch->new(settings => { users => { ann => 'serverpw' } });
	my $proxy = $proxies{'HTTP with a password'};
	$locked->put('db', DocrepFaults::sample(3));
	$proxy->forget;
	$session->must('SELECT docrep.replicate(' . join(', ', map { quote($_) } $locked->url('db', 'ann', 'serverpw'), 'apart',
		$json->encode({ create_target => JSON::PP::true, proxy => $proxy->url('joe', $encoded) })) . ')');
	unlike($json->encode($locked->log), qr/proxy-|joe|Tr0ub/i, 'the server does not see what the proxy was told');
	is_deeply([ grep { $_->[2] =~ /ann|serverpw/ } $proxy->log ], [], '... nor is the proxy told the server\'s password');
}

# socks5h: the proxy resolves the name.
{
	my $proxy = $proxies{'SOCKS5'};
	my $case = $lab->fresh('pull');
	$case->{url} = "http://localhost:$port/$case->{db}";
	$proxy->forget;
	my $run = by_proxy($case, $proxy->url(undef, undef, 'socks5h'));
	$lab->completes($case, 'socks5h', $run);
	is_deeply([ grep { "@$_[0, 1]" ne "SOCKS5-name localhost:$port" } $proxy->log ], [], '... leaves the name to the proxy');
}

# A proxy that is spoken to over TLS.
{
	my $tls = DocrepTls->new($proxies{'HTTP with a password'}->port, $ca, names => ['localhost']);
	my $unknown = DocrepTls->new($proxies{'HTTP with a password'}->port, DocrepTls::authority('Unknown Authority'), names => ['localhost']);
	foreach my $way (qw(pull push))
	{
		my $case = $lab->fresh($way);
		$case->{url} = "https://localhost:$tls_port/$case->{db}";
		my $run = by_proxy($case, "https://joe:$encoded\@localhost:" . $unknown->port);
		is($run->{state}, 'DR503', "$way, a proxy whose authority is unknown") or diag $run->{message};
		$run = by_proxy($case, "https://joe:$encoded\@localhost:" . $tls->port);
		is($run->{state}, '', "$way, a proxy that speaks TLS itself") or diag $run->{message};
		$lab->completes($case, "$way, TLS in TLS", $run);
	}
}

# ---------- proxies that refuse ----------

foreach my $name ('HTTP with a password', 'SOCKS5 with a password')
{
	my $proxy = $proxies{$name};
	my %wrong = ('a wrong password' => $proxy->url('joe', 'Wr0ngPass'), 'no password' => $proxy->url =~ s{//.*@}{//}r);
	foreach my $what (sort keys %wrong)
	{
		foreach my $scheme (qw(http https))
		{
			my $case = $lab->fresh('pull');
			$case->{url} = "$scheme://localhost:" . ($scheme eq 'http' ? $port : $tls_port) . "/$case->{db}";
			$couch->clear_log;
			my $run = by_proxy($case, $wrong{$what}, retries_per_request => 10);
			is($run->{state}, 'DR401', "$name: $what, $scheme") or diag $run->{message};
			like($run->{message}, qr/proxy/i, '... is what it says');
			unlike($run->{message}, qr/Wr0ngPass/, '... without the password');
			# ten attempts would take minutes
			cmp_ok($run->{seconds}, '<', 60, '... at once, for it will not get better');
			is(scalar @{ $couch->log }, 0, '... and the server was not asked');
		}
	}
}

# ... where the server wants a session first.
{
	my $locked = DocrepCouch->new(settings => { users => { ann => 'serverpw' } });
	my $case = $lab->fresh('pull');
	$case->{url} = $locked->url('db', 'ann', 'serverpw');
	my $run = by_proxy($case, $proxies{'HTTP with a password'}->url('joe', 'Wr0ngPass'), retries_per_request => 10);
	is($run->{state}, 'DR401', 'a wrong password, and a server with one of its own') or diag $run->{message};
	like($run->{message}, qr/proxy/i, '... says whose is wrong');
	is(scalar @{ $locked->log }, 0, '... and the server was not asked');
}

# A proxy that is not there, or cannot do it.
{
	my $case = $lab->fresh('pull');
	my $run = by_proxy($case, 'http://127.0.0.1:1');
	is($run->{state}, 'DR503', 'a proxy that is not there');
	my $broken = DocrepForward->new('http', status => 502);
	$case->{url} = "https://localhost:$tls_port/$case->{db}";
	$run = by_proxy($case, $broken->url('joe', 'S3cretToo'));
	is($run->{state}, 'DR503', 'a proxy that cannot connect') or diag $run->{message};
	like($run->{message}, qr/proxy/i, '... is what it says');
	unlike($run->{message}, qr/S3cretToo/, '... without the password');
	foreach my $bad ('http://', 'http:// x', 'ftp://joe:S3cretToo@host', 'http://joe:S3cretToo@', 'http://joe:S3cretToo@ho^st', 'http://joe:S3cretToo@host:99999')
	{
		$run = by_proxy($case, $bad);
		is($run->{state}, 'DR400', "no URL of a proxy: $bad") or diag $run->{message};
		unlike($run->{message}, qr/S3cretToo/, '... and its password is not repeated');
	}
}

# ---------- where ordinary roles may go ----------

$session->must($_) foreach q{CREATE ROLE carl LOGIN}, q{GRANT EXECUTE ON FUNCTION docrep.replicate(text, text, jsonb) TO carl}, q{GRANT CREATE ON SCHEMA public TO carl};
my $carl = DocrepSession->new($node, 'one', user => 'carl');
my $tables = 0;
$couch->put('db', DocrepFaults::sample(3));

# Connects to this server whatever name it is told.
my %liars = map { $_ => DocrepForward->new($_ eq 'http' ? 'http' : 'socks5', address => '127.0.0.1') } qw(http socks5h);

sub try_host
{
	my ($who, $host, $proxy) = @_;
	$_->forget foreach values %liars;
	$who->query('SELECT docrep.replicate(' . join(', ', map { quote($_) } "http://$host:$port/db", 'r' . ++$tables,
		$json->encode({ connection_timeout => 30000, retries_per_request => 1, create_target => JSON::PP::true, proxy => $proxy })) . ')');
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

foreach my $kind (sort keys %liars)
{
	my $proxy = $liars{$kind};
	my $url = $proxy->url(undef, undef, $kind);

	setting(allowed_hosts => '');
	is(try_host($carl, '127.0.0.9', $url), '', "$kind: an address can be looked at");
	is(try_host($session, 'couch.example', $url), '', '... a name can not, but a superuser may use it');
	is(try_host($carl, 'couch.example', $url), 'DR403', '... and others not: it might be a denied address') or diag $carl->{output};
	is(scalar $proxy->log, 0, '... so that the proxy is not asked');
	foreach my $host ('169.254.169.254', '2852039166', '0xa9fea9fe', '[fe80::1]', '[::ffff:169.254.169.254]', '0.0.0.0')
	{
		foreach my $who ($carl, $session)
		{
			is(try_host($who, $host, $url), 'DR403', "... a denied address is denied by way of a proxy too: $host") or diag $who->{output};
			is(scalar $proxy->log, 0, '... so that the proxy is not asked');
		}
	}
	setting(allowed_hosts => '127.0.0.0/8,*.example');
	is(try_host($carl, 'couch.example', $url), '', '... a name that is listed is trusted');
	is(try_host($carl, 'couch.test', $url), 'DR403', '... one that is not may be anything');
	is(try_host($carl, 'localhost', $url), 'DR403', '... although its address may be listed');
	is(try_host($carl, '127.1.2.3', $url), '', '... addresses of a listed network');
	is(try_host($carl, '10.1.2.3', $url), 'DR403', '... and of another');
	is(scalar $proxy->log, 0, '... for which the proxy is not asked');
	setting(allowed_hosts => '*.example');
	is(try_host($carl, 'couch.example', $url), 'DR403', '... the proxy must be in the list');
	is(scalar $proxy->log, 0, '... or nothing is sent to it');
	foreach my $trick ("$kind://a.example\@127.0.0.1:" . $proxy->port, "$kind://127.0.0.1:" . $proxy->port . '?@a.example', "$kind://127.0.0.1:" . $proxy->port . '#@a.example',
		"$kind://127.0.0.1:" . $proxy->port . '\\@a.example', "$kind://127.0.0.1:" . $proxy->port . '/@a.example')
	{
		isnt(try_host($carl, 'couch.example', $trick), '', "... nor to what only looks as if: $trick") or diag $carl->{output};
		is(scalar $proxy->log, 0, '... and nothing is sent to it');
	}
	setting(allowed_hosts => '*');
	is(try_host($carl, 'couch.test', $url), '', '... "*" trusts all names');
	is(try_host($carl, '169.254.169.254', $url), 'DR403', '... but no denied address');
}

# A redirect that the proxy would follow to where its client may not go.
{
	my $proxy = $liars{http};
	setting(allowed_hosts => '127.0.0.0/8,*.example');
	foreach my $to ("169.254.169.254", "inside.test", "10.0.0.1:$port")
	{
		$couch->fault(match => '^GET /db/_changes', times => 0, status => 302, body => '', headers => [ [ Location => "http://$to/db/_changes?redirected" ] ]);
		$couch->clear_log;
		is(try_host($carl, 'couch.example', $proxy->url), 'DR403', "a redirect to $to by way of a proxy") or diag $carl->{output};
		is(scalar(grep { $_->[1] =~ /redirected/ } $proxy->log), 0, '... is not followed');
		$couch->heal;
	}
}

ok(!log_has($node, qr/PANIC|TRAP|terminated by signal|Tr0ub|Wr0ngPass|S3cretToo/), 'nothing died, and no password is in the log');
done_testing();
