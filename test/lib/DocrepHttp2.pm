# HTTP/2 over TLS (and nothing else) in front of a server that has neither: node's.
#
#   my $ca = DocrepTls::authority('Test CA');
#   my $front = DocrepHttp2->new($couch->port, $ca);      # for localhost and 127.0.0.1
#   $front->port
#   $front->sessions      # of those that clients have made: {session, alpn}
#   $front->streams       # requests: {session, stream, active, method, path}
#   $front->forget        # what the log has so far
#
# The server ends with the object.
package DocrepHttp2;

use strict;
use warnings;

use Carp;
use DocrepTls;
use File::Basename qw(dirname);
use File::Temp ();
use IO::Handle;
use IO::Socket::SSL::Utils;
use IPC::Open2;
use JSON::PP;

sub new
{
	my ($class, $backend, $ca) = @_;
	my ($cert, $key) = DocrepTls::certificate($ca, names => [ 'localhost', '127.0.0.1' ]);
	my $dir = File::Temp->newdir;
	my $self = bless { dir => $dir, owner => $$, log => "$dir/log", seen => 0 }, $class;

	PEM_cert2file($cert, "$dir/cert.pem");
	PEM_key2file($key, "$dir/key.pem");
	open my $log, '>', $self->{log} or croak "cannot write $self->{log}: $!";
	close $log;
	$self->{pid} = open2($self->{out}, $self->{in}, 'node', dirname(__FILE__) . '/h2-front.js', $backend, "$dir/cert.pem", "$dir/key.pem", $self->{log});
	$self->{port} = readline $self->{out};
	croak 'the HTTP/2 server has not started' unless defined $self->{port};
	chomp $self->{port};
	return $self;
}

sub port { return $_[0]{port} }
sub sessions { return grep { exists $_->{session} && !exists $_->{stream} } $_[0]->entries }
sub streams { return grep { exists $_->{stream} } $_[0]->entries }

# Lines of the log that were not forgotten.
sub entries
{
	my ($self) = @_;
	open my $fh, '<', $self->{log} or croak "cannot read $self->{log}: $!";
	seek $fh, $self->{seen}, 0;
	return map { decode_json($_) } readline $fh;
}

sub forget { $_[0]{seen} = -s $_[0]{log}; return }

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	return unless $self->{owner} == $$ && $self->{pid};
	close $self->{in};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
