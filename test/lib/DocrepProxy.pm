# A TCP proxy in front of a server, which can stop forwarding: for peers that hang.
#
#   my $proxy = DocrepProxy->new('127.0.0.1', $node->port);
#   $proxy->port
#   $proxy->stall_after(5000);   # new connections hang after so many bytes, both ways counted
#   $proxy->stall_now;           # everything hangs
#   $proxy->flow;                # nothing hangs any more, old connections included
#   $proxy->has_stalled          # a connection hangs that had something to forward
#   $proxy->bytes                # forwarded by all connections so far
#
# What hangs stays connected.  The proxy is a process that ends with the object.
package DocrepProxy;

use strict;
use warnings;

use Carp;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);

# Starts a proxy to a host and port, at a port of its own if one is given.
sub new
{
	my ($class, $host, $port, $own) = @_;
	my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', LocalPort => $own // 0,
		Proto => 'tcp', ReuseAddr => 1)
	  or croak "cannot listen: $!";
	socketpair(my $ours, my $its, Socket::AF_UNIX(), Socket::SOCK_STREAM(), 0)
	  or croak "socketpair: $!";
	my $self = bless { port => $listener->sockport, control => $ours, owner => $$ }, $class;

	$ours->autoflush(1);
	$its->autoflush(1);
	$self->{pid} = fork() // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		# nothing of the test's own must run when this process ends
		local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
		close $ours;
		open STDOUT, '>', '/dev/null';
		eval { forward($listener, $its, $host, $port); 1 } or print STDERR $@;
		POSIX::_exit(0);
	}
	close $its;
	close $listener;
	return $self;
}

sub port { return $_[0]{port} }
sub stall_after { return $_[0]->command("limit $_[1]") }
sub stall_now { return $_[0]->command('stall') }
sub flow { return $_[0]->command('flow') }
sub has_stalled { return $_[0]->command('stalled') }
sub bytes { return $_[0]->command('bytes') }

# Tells the process, and returns its answer.
sub command
{
	my ($self, $command) = @_;

	print { $self->{control} } "$command\n";
	my $answer = readline $self->{control};
	croak 'the proxy has ended' unless defined $answer;
	chomp $answer;
	return $answer;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	return unless $self->{owner} == $$;
	close $self->{control};
	waitpid $self->{pid}, 0;
	return;
}

# ---------- in the process ----------

# Forwards until the test is gone.
sub forward
{
	my ($listener, $control, $host, $port) = @_;
	my $state = { limit => -1, stalled => 0, stall => 0, bytes => 0, links => {} };
	my $select = IO::Select->new($listener, $control);

	local $SIG{PIPE} = 'IGNORE';
	while (1)
	{
		foreach my $ready ($select->can_read)
		{
			if ($ready == $control)
			{
				my $command = readline $control;
				return unless defined $command;
				print $control obey($state, $select, $command), "\n";
			}
			elsif ($ready == $listener)
			{
				add_link($state, $select, scalar $listener->accept, $host, $port);
			}
			else
			{
				carry($state, $select, $ready);
			}
		}
	}
	return;
}

sub obey
{
	my ($state, $select, $command) = @_;

	if ($command =~ /^limit (-?\d+)/)
	{
		@$state{qw(limit stalled stall)} = ($1, 0, 0);
	}
	elsif ($command =~ /^stall$/)
	{
		$state->{stall} = 1;
	}
	elsif ($command =~ /^flow$/)
	{
		@$state{qw(limit stalled stall)} = (-1, 0, 0);
		$_->{limit} = -1 foreach values %{ $state->{links} };
		$select->add(map { $_->{from} } values %{ $state->{links} });
	}
	elsif ($command =~ /^stalled$/)
	{
		return $state->{stalled};
	}
	elsif ($command =~ /^bytes$/)
	{
		return $state->{bytes};
	}
	return 1;
}

# A client has come: two links, one each way, which share their count.
sub add_link
{
	my ($state, $select, $client, $host, $port) = @_;
	my $server = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp');

	return unless $client && $server;
	setsockopt $_, IPPROTO_TCP, TCP_NODELAY, 1 foreach $client, $server;
	my $count = 0;
	foreach my $pair ([ $client, $server ], [ $server, $client ])
	{
		$state->{links}{ fileno $pair->[0] } =
		  { from => $pair->[0], to => $pair->[1], count => \$count, limit => $state->{limit} };
	}
	$select->add($client, $server);
	return;
}

# Something can be read: pass it on, up to the limit.
sub carry
{
	my ($state, $select, $from) = @_;
	my $link = $state->{links}{ fileno $from } or return;
	my $most = 65536;

	$most = $link->{limit} - ${ $link->{count} } if $link->{limit} >= 0;
	if ($state->{stall} || $most <= 0)
	{
		# it waits in the kernel, and in the end the sender waits for us
		$state->{stalled}++;
		$select->remove($from);
		return;
	}
	my $n = sysread $from, my $data, $most > 65536 ? 65536 : $most;
	my $sent = 0;
	while ($n && $sent < $n)
	{
		my $more = syswrite $link->{to}, $data, $n - $sent, $sent;
		last unless defined $more;
		$sent += $more;
	}
	if (!$n || $sent < $n)
	{
		my $to = $link->{to};
		$select->remove($from, $to);
		delete @{ $state->{links} }{ fileno($from), fileno($to) };
		close $from;
		close $to;
		return;
	}
	${ $link->{count} } += $n;
	$state->{bytes} += $n;
	return;
}

1;
