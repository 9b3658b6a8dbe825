# TLS in front of a server that has none, with certificates made for the test.
#
#   my $ca = DocrepTls::authority('Test CA');       # {cert, key}, and file => path of a PEM
#   my $tls = DocrepTls->new($port, $ca, names => ['localhost'], days => 1);
#   $tls->port
#   $tls->handshakes                                # that clients have completed
#
# names: DNS names and addresses of the certificate; days => -1: it has expired
# yesterday; start => 1: it is valid from tomorrow on; clients => authority: clients
# must show a certificate of that one, as client_certificate makes them.  A process for each
# connection; all of them end with the object.
package DocrepTls;

use strict;
use warnings;

use Carp;
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use IO::Socket::SSL;
use IO::Socket::SSL::Utils;
use POSIX ();

my $serial = time;

sub authority
{
	my ($name) = @_;
	my ($cert, $key) = CERT_create(CA => 1, serial => $serial++, subject => { commonName => $name }, not_after => time + 86400);
	my $file = File::Temp->new(SUFFIX => '.pem');
	print $file PEM_cert2string($cert);
	close $file;
	chmod 0644, $file->filename;
	return { cert => $cert, key => $key, temp => $file, file => $file->filename };
}

# A client's certificate: (file of it, file of its key), to be kept with the hash.
sub client_certificate
{
	my ($ca, $name) = @_;
	my ($cert, $key) = CERT_create(serial => $serial++, subject => { commonName => $name }, issuer => [ $ca->{cert}, $ca->{key} ],
		purpose => 'client', not_after => time + 86400);
	my @files;
	foreach my $text (PEM_cert2string($cert), PEM_key2string($key))
	{
		my $file = File::Temp->new(SUFFIX => '.pem');
		print $file $text;
		close $file;
		push @{ $ca->{clients} }, $file;
		push @files, $file->filename;
	}
	return @files;
}

# A server's certificate and its key.
sub certificate
{
	my ($ca, %opts) = @_;
	my @names = @{ $opts{names} // ['localhost'] };
	return CERT_create(
		serial => $serial++, subject => { commonName => $names[0] }, issuer => [ $ca->{cert}, $ca->{key} ], purpose => 'server',
		not_before => time + ($opts{start} ? 86400 : -172800), not_after => time + 86400 * ($opts{days} // 2),
		subjectAltNames => [ map { [ /^[\d.]+$|:/ ? 'IP' : 'DNS', $_ ] } @names ]);
}

sub new
{
	my ($class, $port, $ca, %opts) = @_;
	my ($cert, $key) = certificate($ca, %opts);
	my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', Proto => 'tcp') or croak "cannot listen: $!";
	my $count = File::Temp->new;
	my $self = bless { port => $listener->sockport, owner => $$, count => $count }, $class;

	$self->{pid} = fork() // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		setpgrp;
		local $SIG{CHLD} = 'IGNORE';
		# the test's own handlers would stop its servers
		local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
		open STDOUT, '>', '/dev/null';
		while (my $client = $listener->accept)
		{
			# a connection that its process has closed must not stay open here
			if (fork)
			{
				close $client;
				next;
			}
			eval { carry($client, $port, $cert, $key, $count->filename, $opts{clients}) };
			POSIX::_exit(0);
		}
		POSIX::_exit(0);
	}
	close $listener;
	return $self;
}

sub port { return $_[0]{port} }
sub handshakes { return -s $_[0]{count}->filename }

# One connection, until either side closes.
sub carry
{
	my ($client, $port, $cert, $key, $count, $clients) = @_;
	my %demand = $clients ? (SSL_verify_mode => SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_ca_file => $clients->{file}) : ();
	my $ssl = IO::Socket::SSL->start_SSL($client, SSL_server => 1, SSL_cert => $cert, SSL_key => $key, SSL_alpn_protocols => ['http/1.1'], %demand) or return;
	open my $fh, '>>', $count;
	syswrite $fh, '.';
	close $fh;
	my $plain = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp') or return;
	my $select = IO::Select->new($ssl, $plain);
	while (1)
	{
		foreach my $from ($ssl->pending ? $ssl : $select->can_read)
		{
			my $n = sysread $from, my $data, 65536;
			return unless $n;
			my $to = $from == $ssl ? $plain : $ssl;
			for (my $sent = 0; $sent < $n;)
			{
				my $more = syswrite $to, $data, $n - $sent, $sent;
				return unless $more;
				$sent += $more;
			}
		}
	}
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	return unless $self->{owner} == $$;
	kill 'TERM', -$self->{pid};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
