# Talks to the helper program docrep_js as a backend does, but without one, in the
# frames of src/js/js_protocol.h.
#
#   my $engine = DocrepEngine->start(memory => 64 << 20);
#   $engine->realm(1, 0, { _id => '_design/app', filters => { f => 'function(doc) {...}' } });
#   my ($verdict, $reason) = $engine->compile(1, 1, 'filter', ['filters', 'f']);
#   my @answers = $engine->call(1, [$doc, $req], [$doc, $req], ...);   # [verdict, reason] each
package DocrepEngine;

use strict;
use warnings;

use File::Basename;
use File::Find;
use IO::Handle;
use JSON::PP;
use POSIX ();
use Socket;

our %VERDICT = (0 => 'no', 1 => 'yes', 2 => 'failed', 3 => 'forbidden', 4 => 'unauthorized',
	5 => 'missing', 6 => 'not called');
our %KIND = (filter => 0, view => 1, validate => 2);
our $SAME = 0xFFFFFFFF;

# Seconds (js_protocol.h): a little less.
use constant IDLE => 58;

my $json = JSON::PP->new->canonical->allow_nonref->utf8;

# Where "make stage" has put the program, or what DOCREP_JS says; nothing if there is none.
sub program
{
	my $stage = $ENV{STAGE} || dirname(__FILE__) . '/../../stage';
	my $found = $ENV{DOCREP_JS};
	find(sub { $found //= $File::Find::name if $_ eq 'docrep_js' && -x }, $stage) if -d $stage;
	return $found;
}

sub start
{
	my ($class, %opts) = @_;
	my $program = program();

	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	my $parent = $$;
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		my $fd = fileno($theirs);
		POSIX::dup2($fd, 3) if $fd != 3;
		fcntl(STDIN, 0, 0);
		%ENV = (TZ => 'UTC');
		# descriptor 3 survives exec only without close-on-exec
		open(my $three, '+<&=', 3) or POSIX::_exit(9);
		fcntl($three, 2, 0);
		exec($program, 'serve', $parent, $opts{memory} // 64 << 20) or POSIX::_exit(9);
	}
	close $theirs;
	binmode $ours;
	my $self = bless { pid => $pid, socket => $ours, in => '', timeout => $opts{timeout} // 1000, logs => [], opts => \%opts }, $class;
	my ($type, $data) = $self->read_frame;
	die 'the engine did not start' unless defined $type && $type eq 'R';
	($self->{protocol}, $self->{version}) = unpack('L a*', $data);
	return $self;
}

sub send_raw
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $at = 0;
	while ($at < length $bytes)
	{
		my $n = syswrite($self->{socket}, $bytes, length($bytes) - $at, $at);
		return 0 unless defined $n;
		$at += $n;
	}
	return 1;
}

sub frame { my ($type, $data) = @_; return pack('L a a*', 1 + length $data, $type, $data); }

sub text { my ($text) = @_; return pack('L/a*', $text); }

# The next frame, (type, data), or nothing at the end.
sub read_frame
{
	my ($self) = @_;
	while (1)
	{
		if (length $self->{in} >= 4)
		{
			my $len = unpack('L', $self->{in});
			if (length $self->{in} >= 4 + $len)
			{
				my $frame = substr($self->{in}, 0, 4 + $len, '');
				my ($type, $data) = unpack('x4 a a*', $frame);
				if ($type eq 'L')
				{
					push @{ $self->{logs} }, $data;
					next;
				}
				return ($type, $data);
			}
		}
		my $n = sysread($self->{socket}, $self->{in}, 65536, length $self->{in});
		return unless $n;
		$self->{used} = time;
	}
}

sub encode { my ($value) = @_; return ref $value eq 'SCALAR' ? $$value : $json->encode($value); }

sub realm
{
	my ($self, $number, $views, $ddoc) = @_;
	return $self->send_raw(frame('D', pack('L C a*', $number, $views, encode($ddoc))));
}

sub compile
{
	my ($self, $number, $realm, $kind, $path) = @_;
	$self->send_raw(frame('F', pack('L L C L C', $number, $realm, $KIND{$kind}, $self->{timeout}, scalar @$path)
		  . join('', map { text($_) } @$path))) or return;
	return $self->read_verdict;
}

sub read_verdict
{
	my ($self) = @_;
	my ($type, $data) = $self->read_frame;
	return unless defined $type;
	my ($verdict, $reason) = unpack('C a*', $data);
	return ($VERDICT{$verdict}, $reason);
}

# Calls a function with each list of arguments (values, or references to JSON text).
# Returns [verdict, reason] for each, as many as there are.
sub call
{
	my ($self, $number, @calls) = @_;
	my $flags = 0;
	$flags = shift(@calls)->{flags} if ref $calls[0] eq 'HASH';
	my $out = frame('B', pack('L L C L', $number, $self->{timeout}, $flags, scalar @calls));
	$out .= frame('K', pack('C', scalar @$_) . join('', map { text(encode($_)) } @$_)) for @calls;
	$self->send_raw($out) or return;
	my @answers;
	while (@answers < @calls)
	{
		my @answer = $self->read_verdict or last;
		push @answers, \@answer;
	}
	return @answers;
}

# One function of a new design document, called once: (verdict, reason).  A process whose
# memory is spent makes room for a new one (status 6), as it does in a backend.
my $next = 100;

sub once
{
	my ($self, @rest) = @_;
	# one that nobody has used for a minute has ended by itself, which a slow machine comes to see
	my $idle = time - $self->{used} > IDLE;
	for (1 .. 3)
	{
		my @answer = $self->try_once(@rest);
		return @answer if @answer && defined $answer[0];
		return unless ($self->{status} = $self->end) eq '6' || $idle && $self->{status} eq '0';
		%$self = %{ DocrepEngine->start(%{ $self->{opts} }) };
	}
	die 'a new process has no memory either';
}

# Seconds that its process has computed.
sub processor_time
{
	my ($self) = @_;
	open my $stat, '<', "/proc/$self->{pid}/stat" or return 0;
	my @field = split ' ', readline($stat) =~ s/.*\) //r;
	return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub try_once
{
	my ($self, $source, $doc, %opts) = @_;
	my $number = $next++;
	my $kind = $opts{kind} // 'filter';
	$self->realm($number, $kind eq 'view' ? 1 : 0, { _id => '_design/app', f => $source, %{ $opts{ddoc} // {} } });
	my ($verdict, $reason) = $self->compile($number, $number, $kind, ['f']);
	return ($verdict, $reason) unless defined $verdict && $verdict eq 'yes';
	my ($answer) = $self->call($number, [ $doc // { _id => 'a' }, @{ $opts{args} // [ { query => {} } ] } ]);
	$self->send_raw(frame('X', pack('L', $number)));
	return $answer ? @$answer : ();
}

# Waits for the end: the exit status, or "signal N".
sub end
{
	my ($self) = @_;
	return delete $self->{status} if defined $self->{status};
	close $self->{socket};
	waitpid($self->{pid}, 0);
	return $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
}

1;
