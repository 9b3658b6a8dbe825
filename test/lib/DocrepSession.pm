# A psql that stays connected, for tests whose servers come and go.
#
#   my $s = DocrepSession->new($node, 'one');
#   my $rows = $s->query('SELECT 1');          # '1'; undef if it failed
#   $s->send('SELECT docrep.replicate(...)');  # does not wait
#   $s->receive(5) or ...                      # waits at most 5 s for the answer
#   $s->{sqlstate}, $s->{output}               # of the last answer
#
# Losing the server is an answer like others: sqlstate is then "lost", and the
# next statement connects again.  Works in forked processes, too.
package DocrepSession;

use strict;
use warnings;

use Carp;
use Errno;
use IO::Handle;
use IO::Select;
use IPC::Open3;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

# A session that is not connected yet; options: user, app (application_name).
sub new
{
	my ($class, $node, $dbname, %opts) = @_;
	return bless {
		connstr => $node->connstr($dbname)
		  . " application_name=" . ($opts{app} // 'session')
		  . (defined $opts{user} ? " user=$opts{user}" : ''),
		sqlstate => '',
		output => '',
	}, $class;
}

# Starts psql, which connects; whether it could turns out at the first answer.
sub connect
{
	my ($self) = @_;

	$self->close;
	local $ENV{PGCONNECT_TIMEOUT} = $PostgreSQL::Test::Utils::timeout_default // 180;
	# errors are part of the output
	$self->{pid} = open3(my $in, my $out, undef, 'psql', '-XqAt', '-v', 'VERBOSITY=verbose',
		'-v', 'ON_ERROR_STOP=0', '-d', $self->{connstr});
	$in->autoflush(1);
	@$self{qw(in out buffer owner)} = ($in, $out, '', $$);
	return $self;
}

# Lets go of psql, and so of the connection.
sub close
{
	my ($self) = @_;

	return unless $self->{pid};
	close $self->{in};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	close $self->{out};
	delete @$self{qw(pid in out)};
	return;
}

# Sends a statement; the answer is taken by receive.
sub send
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';

	$self->connect unless $self->{pid};
	$self->{mark} = 'answered ' . ++$self->{count};
	$self->{buffer} = '';
	print { $self->{in} } "$sql;\n\\echo $self->{mark} :SQLSTATE\n";
	return;
}

# Waits for the answer: true if there was one within the time, also if it was an
# error.  0 for the time only looks.
sub receive
{
	my ($self, $timeout) = @_;
	my $end = time + ($timeout // $PostgreSQL::Test::Utils::timeout_default // 180);
	my $select = IO::Select->new($self->{out});

	while (1)
	{
		if ($self->{buffer} =~ s/^\Q$self->{mark}\E (\w*)\n//m)
		{
			# without a state it is libpq that speaks: there is no server
			$self->{sqlstate} = $1 ne '' ? $1 : 'lost';
			$self->close if $1 eq '';
			last;
		}
		my $left = $end - time;
		if (!$select->can_read($left > 0 ? $left : 0))
		{
			next if $!{EINTR} && $left > 0;
			return 0;
		}
		if (!sysread($self->{out}, $self->{buffer}, 65536, length $self->{buffer}))
		{
			$self->close;
			$self->{sqlstate} = 'lost';
			last;
		}
	}
	$self->{output} = $self->{buffer};
	chomp $self->{output};
	return 1;
}

# A statement and its answer: the rows as text, or undef if it failed, was lost,
# or was not answered in time, which loses the connection as well.
sub query
{
	my ($self, $sql, $timeout) = @_;

	$self->send($sql);
	if (!$self->receive($timeout))
	{
		$self->close;
		$self->{sqlstate} = 'timeout';
	}
	return $self->{sqlstate} eq '00000' ? $self->{output} : undef;
}

# The same, but it must succeed.
sub must
{
	my ($self, $sql, $timeout) = @_;
	my $rows = $self->query($sql, $timeout);

	croak "\"$sql\" failed ($self->{sqlstate}): $self->{output}" unless defined $rows;
	return $rows;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	# a forked child must not end the psql of its parent
	$self->close if ($self->{owner} // $$) == $$;
	return;
}

1;
