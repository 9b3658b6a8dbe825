# A proxy as companies have them: HTTP (CONNECT, and http:// in full) or SOCKS5, with
# a user and a password or without.
#
#   my $proxy = DocrepForward->new('http');                                # or 'socks5'
#   my $proxy = DocrepForward->new('http', user => 'u', password => 'p');
#   $proxy->port, $proxy->url            # with user and password if it has any
#   $proxy->url('u', 'wrong'), $proxy->url('u', 'p', 'socks5h')
#   $proxy->log                          # of those that have come: [what, where, who]
#   $proxy->forget                       # what the log has so far
#
# what: CONNECT, a method, SOCKS5-name or SOCKS5-address, and "refused" for a client that
# did not say who it is; who: "user:password" as the client gave it, or ''.  Other options:
# address => the only one that it connects to, whatever name it is told; status => the
# answer to everything.  A process a connection; all of them end with the object.
package DocrepForward;

use strict;
use warnings;

use Carp;
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use MIME::Base64;
use POSIX ();
use Socket qw(AF_INET6 inet_ntoa inet_ntop IPPROTO_TCP TCP_NODELAY);

sub new
{
	my ($class, $kind, %opts) = @_;
	my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', Proto => 'tcp') or croak "cannot listen: $!";
	my $self = bless { %opts, kind => $kind, port => $listener->sockport, owner => $$, file => File::Temp->new, seen => 0 }, $class;

	$self->{log} = $self->{file}->filename;
	$self->{pid} = fork() // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		setpgrp;
		local $SIG{CHLD} = 'IGNORE';
		# the test's own handlers would stop its servers
		local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
		open STDOUT, '>', '/dev/null';
		while (1)
		{
			my $client = $listener->accept or next;
			if (!fork)
			{
				local $SIG{PIPE} = 'IGNORE';
				setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
				$kind eq 'http' ? serve_http($self, $client) : serve_socks($self, $client);
				POSIX::_exit(0);
			}
			close $client;
		}
	}
	close $listener;
	return $self;
}

sub port { return $_[0]{port} }

sub url
{
	my ($self, $user, $password, $scheme) = @_;
	($user, $password) = @$self{qw(user password)} unless defined $user;
	my $who = defined $user ? "$user:$password\@" : '';
	return ($scheme // $self->{kind}) . "://${who}127.0.0.1:$self->{port}";
}

sub log
{
	my ($self) = @_;
	open my $fh, '<', $self->{log} or croak "cannot read $self->{log}: $!";
	seek $fh, $self->{seen}, 0;
	return map { chomp; [ split /\t/, $_, -1 ] } readline $fh;
}

sub forget { $_[0]{seen} = -s $_[0]{log}; return }

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

# ---------- in the processes ----------

sub note
{
	my ($self, @what) = @_;
	open my $fh, '>>', $self->{log} or return;
	syswrite $fh, join("\t", @what) . "\n";
	close $fh;
	return;
}

sub may { return !defined $_[0]{user} || $_[1] eq "$_[0]{user}:$_[0]{password}" }

sub connect_to
{
	my ($self, $host, $port) = @_;
	my $server = IO::Socket::INET->new(PeerAddr => $self->{address} // $host, PeerPort => $port, Proto => 'tcp') or return;
	setsockopt $server, IPPROTO_TCP, TCP_NODELAY, 1;
	return $server;
}

# Exactly so many bytes, or the end of the process.
sub take
{
	my ($from, $n) = @_;
	my $data = '';
	while (length $data < $n)
	{
		sysread $from, $data, $n - length $data, length $data or POSIX::_exit(0);
	}
	return $data;
}

sub give
{
	my ($to, $data) = @_;
	while (length $data)
	{
		my $sent = syswrite $to, $data or POSIX::_exit(0);
		substr $data, 0, $sent, '';
	}
	return;
}

# Both ways until one side closes.
sub carry
{
	my ($one, $two) = @_;
	my $select = IO::Select->new($one, $two);
	while (1)
	{
		foreach my $from ($select->can_read)
		{
			my $n = sysread $from, my $data, 65536;
			return unless $n;
			give($from == $one ? $two : $one, $data);
		}
	}
}

# A head, byte by byte: what follows belongs to others.
sub head
{
	my ($from) = @_;
	my $head = '';
	$head .= take($from, 1) until $head =~ /\r\n\r\n\z/;
	return $head;
}

sub serve_http
{
	my ($self, $client) = @_;
	my ($server, $with) = (undef, '');

	while (1)
	{
		my ($method, $target, $rest) = head($client) =~ /^(\S+) (\S+) (.*)\z/s or return;
		my $who = $rest =~ s/\r\nProxy-Authorization: Basic (\S+)//i ? decode_base64($1) : '';
		my $status = $self->{status} // (may($self, $who) ? 200 : 407);
		note($self, $status == 407 ? 'refused' : $method, $target, $who);
		my ($length) = $rest =~ /\r\nContent-Length: (\d+)/i;
		if ($status != 200)
		{
			# told as some do it, with what they were told
			my $text = "You are $who?";
			take($client, $length) if $length;
			give($client, "HTTP/1.1 $status No\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: " . length($text) . "\r\n\r\n$text");
			next;
		}
		if ($method eq 'CONNECT')
		{
			my ($host, $port) = $target =~ /^(.*):(\d+)$/ or return;
			$server = connect_to($self, $host, $port) or return give($client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
			give($client, "HTTP/1.1 200 Connected\r\n\r\n");
			return carry($client, $server);
		}
		my ($host, $port, $path) = $target =~ m{^http://([^/:]+|\[[^\]]*\])(?::(\d+))?(/.*)?$} or return;
		my $place = "$host:" . ($port // 80);
		($server, $with) = (connect_to($self, $host, $port // 80), $place) if $place ne $with;
		return unless $server;
		$rest =~ s/\r\nProxy-Connection: [^\r]*//i;
		give($server, "$method " . ($path // '/') . " $rest");
		return pass($self, $client, $server, $length);
	}
}

# The rest of a request of plain HTTP, and all that follows on the connection.  Requests that
# come after the first one go to the same server, so their targets are put right here.
sub pass
{
	my ($self, $client, $server, $left) = @_;
	my $select = IO::Select->new($client, $server);
	my $pending = '';
	$left //= 0;
	while (1)
	{
		foreach my $from ($select->can_read)
		{
			my $n = sysread $from, my $data, 65536;
			return unless $n;
			if ($from == $server)
			{
				give($client, $data);
				next;
			}
			$pending .= $data;
			while (length $pending)
			{
				if ($left > 0)
				{
					my $part = substr $pending, 0, $left, '';
					$left -= length $part;
					give($server, $part);
					next;
				}
				last unless $pending =~ s{\A(\S+) (http://[^/\s]+)(\S*) (.*?\r\n\r\n)}{}s;
				my ($method, $place, $path, $rest) = ($1, $2, $3, $4);
				my $who = $rest =~ /\r\nProxy-Authorization: Basic (\S+)/i ? decode_base64($1) : '';
				return unless may($self, $who);
				note($self, $method, "$place$path", $who);
				($left) = $rest =~ /\r\nContent-Length: (\d+)/i ? $1 : 0;
				$rest =~ s/\r\nProxy-[^\r]*//ig;
				give($server, "$method $path $rest");
			}
		}
	}
}

sub serve_socks
{
	my ($self, $client) = @_;
	my ($version, $n) = unpack 'CC', take($client, 2);
	my %offered = map { $_ => 1 } unpack 'C*', take($client, $n);
	my $who = '';

	return unless $version == 5;
	if (defined $self->{user})
	{
		if (!$offered{2})
		{
			note($self, 'refused', '', '');
			give($client, "\x05\xff");
			return;
		}
		give($client, "\x05\x02");
		my $user = take($client, unpack 'x C', take($client, 2));
		my $password = take($client, unpack 'C', take($client, 1));
		$who = "$user:$password";
		if (!may($self, $who))
		{
			note($self, 'refused', '', $who);
			give($client, "\x01\x01");
			return;
		}
		give($client, "\x01\x00");
	}
	else
	{
		give($client, "\x05\x00");
	}
	my ($command, $kind) = unpack 'x C x C', take($client, 4);
	my $host = $kind == 1 ? inet_ntoa(take($client, 4)) : $kind == 3 ? take($client, unpack 'C', take($client, 1)) : inet_ntop(AF_INET6, take($client, 16));
	# the servers of the tests listen there, whatever address localhost has first
	$host = '127.0.0.1' if $host eq '::1';
	my $port = unpack 'n', take($client, 2);
	note($self, $kind == 3 ? 'SOCKS5-name' : 'SOCKS5-address', "$host:$port", $who);
	my $server = $command == 1 ? connect_to($self, $host, $port) : undef;
	give($client, "\x05" . ($server ? "\x00" : "\x04") . "\x00\x01\x7f\x00\x00\x01\x00\x00");
	carry($client, $server) if $server;
	return;
}

1;
