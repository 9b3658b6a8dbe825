# The sockets of the scripted CouchDB: HTTP/1.1 with keep-alive, chunked bodies
# both ways and waiting feeds, in one process that never blocks; and the faults
# (what they do to an answer is in Answers.pm).
#
# A fault is a hash.  Which requests it is for:
#   match    pattern for "METHOD /path?query" (as sent)
#   skip     so many that match are served as usual first (0)
#   times    so many then meet the fault (1); 0: all
#   early    bytes of the request's body that are enough; the rest stays unread
# What happens then (any of these together):
#   command  [name, arguments]: a command (Commands.pm) before anything else
#   delay    seconds before the answer
#   status, headers ([name, value], ...), type, body    instead of the real answer
#   process  with status or body: the request is carried out all the same
#   replace  [pattern, text, ...] in the real body
#   append   more of the body, covered by its length
#   gzip     the body is compressed; gzip_bomb: bytes of zeros behind it, before packing
#   length   the Content-Length said, instead of the true one
#   extra    bytes behind the body, not covered by its length
#   chunked  1 or 0 instead of what is usual
#   chunk_garbage    after so many bytes of the body no chunk follows, but nonsense
#   endless  {head, unit, bytes}: the body, made up on the way (chunked)
#   drip     bytes a second
#   close_at, reset_at, hang_at   after so many bytes of the body; -1: before the status line
#   feed     {after, what, text}: a feed that waits gives so many rows (0), and then
#            cut      half of the next row, and the connection closes
#            reset    the connection is reset
#            end      it says where it is, and ends
#            stop     it ends without a word
#            mute     not a byte any more
#            text     this, and goes on
#            hold     (from its beginning) nothing, until it has ended
#   after    [name, arguments]: a command when the answer has been handed over
package DocrepCouch::Server;

use strict;
use warnings;

use Compress::Zlib ();
use DocrepCouch::Api;
use DocrepCouch::Store;
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Handle;
use IO::Select;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

# what is sent, and what tests say
use parent qw(DocrepCouch::Answers DocrepCouch::Commands);

# listener: a socket; control: handles that commands come from.
sub new
{
	my ($class, $listener, $control, %opts) = @_;
	my $store = DocrepCouch::Store->new(map { $_ => $opts{$_} } grep { defined $opts{$_} } qw(seqs uuid));
	my $self = bless {
		listener => $listener, port => $listener->sockport, address => $listener->sockhost,
		control => { map { fileno($_) => { fh => $_, in => '' } } @$control },
		store => $store, settings => $opts{settings} // {}, conns => {}, faults => [], log => [], sent => 0, timers => [],
	}, $class;

	$self->{api} = DocrepCouch::Api->new($store, $self->{settings});
	return $self;
}

# Serves until every control handle is closed.
sub run
{
	my ($self) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (%{ $self->{control} })
	{
		my $now = time;
		my $next = $now + 3600;
		my ($in, $out) = (IO::Select->new, IO::Select->new);

		$self->run_timers($now);
		$in->add(map { $_->{fh} } values %{ $self->{control} });
		$in->add($self->{listener}) if $self->{listener};
		foreach my $conn (values %{ $self->{conns} })
		{
			$in->add($conn->{fh}) unless $conn->{deaf};
			if (my $op = $conn->{out}[0])
			{
				my $due = $op->{due} // 0;
				$out->add($conn->{fh}) if $due <= $now;
				$next = $due if $due > $now && $due < $next;
			}
			elsif ($conn->{feed})
			{
				my $due = $conn->{feed}{due};
				$next = $due if defined $due && $due < $next;
			}
		}
		foreach my $timer (@{ $self->{timers} })
		{
			$next = $timer->{due} if $timer->{due} < $next;
		}
		my $wait = $next - time;
		my ($r, $w) = IO::Select->select($in, $out, undef, $wait > 0 ? $wait : 0);
		foreach my $fh (@{ $w // [] })
		{
			my $conn = $self->{conns}{ fileno($fh) // -1 };
			$self->write_some($conn) if $conn;
		}
		foreach my $fh (@{ $r // [] })
		{
			my $no = fileno($fh) // next;
			if ($self->{listener} && $fh == $self->{listener}) { $self->accept_conn }
			elsif ($self->{control}{$no}) { $self->read_control($self->{control}{$no}, $no) }
			elsif ($self->{conns}{$no}) { $self->read_some($self->{conns}{$no}) }
		}
		$self->feed_all;
	}
	return;
}

sub run_timers
{
	my ($self, $now) = @_;
	my @due = grep { $_->{due} <= $now } @{ $self->{timers} };
	$self->{timers} = [ grep { $_->{due} > $now } @{ $self->{timers} } ];
	$self->command(@{ $_->{command} }) foreach @due;
	return;
}

# ---------- connections ----------

sub accept_conn
{
	my ($self) = @_;
	my $fh = $self->{listener}->accept or return;
	$fh->blocking(0);
	setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1;
	$self->{conns}{ fileno $fh } = { fh => $fh, in => '', out => [], no => ++$self->{connections} };
	return;
}

sub drop
{
	my ($self, $conn, $reset) = @_;
	my $no = fileno $conn->{fh};

	delete $self->{conns}{$no} if defined $no;
	setsockopt $conn->{fh}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset;
	close $conn->{fh};
	$conn->{dropped} = 1;
	return;
}

sub read_some
{
	my ($self, $conn) = @_;
	my $n = sysread $conn->{fh}, $conn->{in}, 262144, length $conn->{in};

	if (!defined $n)
	{
		return if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
		return $self->drop($conn);
	}
	return $self->drop($conn) if $n == 0;
	$self->take_requests($conn);
	return;
}

# Requests that have come, one after the other; one whose feed waits is the last.
sub take_requests
{
	my ($self, $conn) = @_;

	while (!$conn->{dropped} && !$conn->{feed} && !$conn->{deaf} && !@{ $conn->{out} })
	{
		my $r = $conn->{request} //= read_head($conn) or return;
		if (($r->{headers}{expect} // '') =~ /100-continue/i && !$r->{continued}++)
		{
			syswrite $conn->{fh}, "HTTP/1.1 100 Continue\r\n\r\n";
		}
		my $complete = read_body($conn, $r);
		$r->{fault} //= $self->find_fault($r, $complete) unless $r->{looked};
		if (!$complete && !($r->{fault} && defined $r->{fault}{early} && length $r->{body} >= $r->{fault}{early}))
		{
			return;
		}
		delete $conn->{request};
		$conn->{deaf} = 1 if !$complete;
		$self->serve($conn, $r);
	}
	return;
}

sub read_head
{
	my ($conn) = @_;

	return unless $conn->{in} =~ s/^(.*?)\r\n\r\n//s;
	my ($line, @lines) = split /\r\n/, $1;
	my ($method, $target) = split / /, $line;
	my %headers;
	foreach (@lines)
	{
		my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or next;
		$headers{ lc $name } = exists $headers{ lc $name } ? "$headers{ lc $name }; $value" : $value;
	}
	$target =~ s{^https?://[^/]*}{};
	my ($path, $query) = split /\?/, $target, 2;
	my @segs = map { s/%([0-9A-Fa-f]{2})/chr hex $1/ger } grep { $_ ne '' } split m{/}, $path;
	return { method => $method, target => $target, segs => \@segs, query => { DocrepCouch::Api::parse_query($query) },
		headers => \%headers, body => '', left => $headers{'content-length'} // 0,
		chunked => !!(($headers{'transfer-encoding'} // '') =~ /chunked/i) };
}

# True if the body is complete.
sub read_body
{
	my ($conn, $r) = @_;

	if (!$r->{chunked})
	{
		my $n = length $conn->{in} < $r->{left} ? length $conn->{in} : $r->{left};
		$r->{body} .= substr $conn->{in}, 0, $n, '';
		$r->{left} -= $n;
		return $r->{left} == 0 && unpack_body($r);
	}
	while ($conn->{in} =~ /^([0-9A-Fa-f]+)[^\r]*\r\n/)
	{
		my ($head, $size) = ($+[0], hex $1);
		return 0 if length $conn->{in} < $head + $size + 2;
		$r->{body} .= substr $conn->{in}, $head, $size;
		substr $conn->{in}, 0, $head + $size + 2, '';
		return unpack_body($r) if $size == 0;
	}
	return 0;
}

sub unpack_body
{
	my ($r) = @_;
	$r->{body} = Compress::Zlib::memGunzip(my $copy = $r->{body}) // ''
	  if ($r->{headers}{'content-encoding'} // '') =~ /gzip/ && !$r->{unpacked}++;
	return 1;
}

# The fault that a request meets, if any.  Each request is counted once.
sub find_fault
{
	my ($self, $r, $complete) = @_;
	my $text = "$r->{method} $r->{target}";

	$r->{looked} = 1;
	foreach my $fault (@{ $self->{faults} })
	{
		next unless $text =~ /$fault->{match}/;
		next if $fault->{times} != 0 && $fault->{hits} >= $fault->{times};
		next if $fault->{seen}++ < $fault->{skip};
		$fault->{hits}++;
		return $fault;
	}
	return;
}

1;
