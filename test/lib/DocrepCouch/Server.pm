# The sockets of the scripted CouchDB: HTTP/1.1 with keep-alive, chunked bodies
# both ways and waiting feeds, in one process that never blocks; and the faults.
#
# A fault is a hash.  Which requests it is for:
#   match    pattern for "METHOD /path?query" (as sent)
#   skip     so many that match are served as usual first (0)
#   times    so many then meet the fault (1); 0: all
#   early    bytes of the request's body that are enough; the rest stays unread
# What happens then (any of these together):
#   command  [name, arguments]: a command (see below) before anything else
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
use Digest::MD5 qw(md5_hex);
use DocrepCouch::Api;
use DocrepCouch::Store;
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Storable qw(nfreeze thaw);
use Time::HiRes qw(time);

my $json = JSON::PP->new->canonical->allow_nonref->latin1;

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

# ---------- answers ----------

sub serve
{
	my ($self, $conn, $r) = @_;
	my $fault = $r->{fault};
	my $response;

	$self->command(@{ $fault->{command} }) if $fault && $fault->{command};
	return if $conn->{dropped};
	if ($fault && (grep { defined $fault->{$_} } qw(status body endless)) && !$fault->{process})
	{
		$response = { status => $fault->{status} // 200, headers => [ [ 'Content-Type', $fault->{type} // 'application/json' ] ], body => $fault->{body} // '' };
	}
	else
	{
		$response = eval { $self->{api}->answer($r) } // do { print STDERR "scripted CouchDB: $@"; DocrepCouch::Api::failure(500, 'internal', $@) };
		if ($fault && $fault->{process})
		{
			$response = { %$response, status => $fault->{status} // $response->{status}, body => $fault->{body} // $response->{body} };
			delete $response->{feed};
		}
	}
	push @{ $self->{log} }, { method => $r->{method}, target => $r->{target}, headers => $r->{headers},
		length => length $r->{body}, md5 => md5_hex($r->{body}), status => $response->{status}, conn => $conn->{no},
		at => time, fault => $fault ? $fault->{no} : undef,
		body => length $r->{body} > 20000 ? substr($r->{body}, 0, 20000) : $r->{body} };
	shift @{ $self->{log} } if @{ $self->{log} } > 20000;
	$response->{feed}{fault} = $fault->{feed} if $response->{feed} && $fault && $fault->{feed};
	return $self->begin_feed($conn, $response) if $response->{feed} && !($fault && grep { defined $fault->{$_} } qw(close_at reset_at hang_at));
	if ($response->{feed})
	{
		$response->{chunked} = 1;
		$response->{body} = '';
	}
	$self->send_response($conn, $r, $response, $fault // {});
	$self->write_some($conn);
	push @{ $self->{timers} }, { due => time, command => $fault->{after} } if $fault && $fault->{after};
	return;
}

# Puts an answer, with what the fault does to it, into the connection's queue.
sub send_response
{
	my ($self, $conn, $r, $response, $fault) = @_;
	my $body = $response->{body} // '';
	my @headers = ([ 'Server', 'CouchDB/3.3.3 (Erlang OTP/24)' ], @{ $response->{headers} }, @{ $fault->{headers} // [] });
	my $chunked = $fault->{chunked} // ($fault->{endless} || defined $fault->{chunk_garbage} || $response->{chunked});

	my @replace = @{ $fault->{replace} // [] };
	while (my ($pattern, $text) = splice @replace, 0, 2)
	{
		$body =~ s/$pattern/$text/g;
	}
	$body .= $fault->{append} if defined $fault->{append};
	if ($fault->{gzip} || $fault->{gzip_bomb})
	{
		$body = $fault->{gzip_bomb} ? bomb($body, $fault->{gzip_bomb}) : Compress::Zlib::memGzip($body);
		push @headers, [ 'Content-Encoding', 'gzip' ];
	}
	my $last = $conn->{deaf} || ($r->{headers}{connection} // '') =~ /close/i;
	push @headers, [ 'Connection', 'close' ] if $last;
	my $bare = $r->{method} eq 'HEAD' || $response->{status} == 304;
	push @headers, $chunked ? [ 'Transfer-Encoding', 'chunked' ] : [ 'Content-Length', $fault->{length} // length $body ];
	my $head = "HTTP/1.1 $response->{status} Status\r\n" . join('', map { "$_->[0]: $_->[1]\r\n" } @headers) . "\r\n";
	my @ops;
	push @ops, { due => time + $fault->{delay} } if $fault->{delay};

	my $end = (grep { defined $fault->{$_} } qw(close_at reset_at hang_at))[0];
	my $at = defined $end ? $fault->{$end} : undef;
	$body = substr $body, 0, $at if defined $at && $at >= 0 && $at < length $body;
	if (!defined $at || $at >= 0)
	{
		push @ops, { data => $head };
		if ($bare) { }
		elsif ($fault->{endless})
		{
			my $endless = $fault->{endless};
			my $unit = $endless->{unit} x (1 + int 65536 / length $endless->{unit});
			push @ops, { data => chunk($endless->{head}) } if length($endless->{head} // '');
			push @ops, { data => '', again => chunk($unit), left => int($endless->{bytes} / length $unit) };
			push @ops, { data => "0\r\n\r\n" };
		}
		elsif (defined $fault->{chunk_garbage})
		{
			push @ops, { data => chunk(substr $body, 0, $fault->{chunk_garbage}) . "what is this?\r\n" . substr $body, 0, 50 };
		}
		elsif ($chunked)
		{
			# in pieces of odd sizes, so that nothing ends where a chunk does
			my $text = join '', map { chunk($_) } unpack '(a1733)*', $body;
			push @ops, { data => $text . (defined $end ? '' : "0\r\n\r\n") };
		}
		else
		{
			push @ops, { data => $body . ($fault->{extra} // '') };
		}
	}
	push @ops, { act => $end =~ s/_at//r } if defined $end;
	push @ops, { act => 'close' } if $last || defined $fault->{chunk_garbage} || defined $fault->{extra};
	foreach my $op (@ops)
	{
		$op->{drip} = $fault->{drip} if $fault->{drip} && defined $op->{data} && $op != $ops[0];
	}
	push @{ $conn->{out} }, @ops;
	return;
}

sub chunk { return sprintf("%x\r\n", length $_[0]) . "$_[0]\r\n" }

# A body and so many blanks, packed into very little: after a full flush a block
# depends on nothing before it, and can be repeated.
sub bomb
{
	my ($body, $bytes) = @_;
	my ($z) = Compress::Zlib::deflateInit(-WindowBits => -Compress::Zlib::MAX_WBITS());
	my $pack = sub { return join '', map { $_->[0] } [ $z->deflate($_[0]) ], [ $z->flush(Compress::Zlib::Z_FULL_FLUSH()) ] };
	my $begin = $pack->($body);

	return "\x1f\x8b\x08\0\0\0\0\0\0\x03$begin" . $pack->(' ' x 1048576) x int($bytes / 1048576) . "\x03\0" . "\0" x 8;
}

# Goes on with a connection's queue.
sub write_some
{
	my ($self, $conn) = @_;

	while (my $op = $conn->{out}[0])
	{
		return if ($op->{due} // 0) > time;
		if ($op->{act})
		{
			return $self->drop($conn, $op->{act} eq 'reset') unless $op->{act} eq 'hang';
			$op->{due} = time + 1e6;
			return;
		}
		if (defined $op->{data} && $op->{data} ne '')
		{
			my $n = syswrite $conn->{fh}, $op->{data}, $op->{drip} ? 1 : length $op->{data};
			if (!defined $n)
			{
				return if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
				return $self->drop($conn);
			}
			substr $op->{data}, 0, $n, '';
			$self->{sent} += $n;
			$op->{due} = time + $n / $op->{drip} if $op->{drip};
			next if $op->{data} ne '';
		}
		if (($op->{left} // 0) > 0)
		{
			$op->{left}--;
			$op->{data} = $op->{again};
			# others get their turn
			return if ++$conn->{turns} % 16 == 0;
			next;
		}
		shift @{ $conn->{out} };
	}
	$self->take_requests($conn) if $conn->{in} ne '' && !$conn->{dropped};
	return;
}

# ---------- feeds that wait ----------

sub begin_feed
{
	my ($self, $conn, $response) = @_;
	my $feed = $response->{feed};

	$feed->{end} = time + $feed->{timeout};
	$feed->{beat} = time + $feed->{heartbeat} if $feed->{heartbeat};
	$conn->{feed} = $feed;
	my $head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
	$head .= chunk("{\"results\":[\n") if $feed->{kind} eq 'longpoll';
	$self->feed_text($conn, $feed, $head);
	return;
}

# More of a feed: sent, or held back as by a proxy that wants all of an answer.
sub feed_text
{
	my ($self, $conn, $feed, $text) = @_;

	$feed->{held} .= $text;
	return if ($feed->{fault}{what} // '') eq 'hold' && $conn->{feed};
	push @{ $conn->{out} }, { data => $feed->{held} };
	$feed->{held} = '';
	$self->write_some($conn);
	return;
}

# What a fault does to a feed: text behind its rows, of which those that follow half
# of one are taken away.  Sets the feed's "over" when nothing is to come any more.
sub spoil_feed
{
	my ($feed, $rows, $json_seq) = @_;
	my ($what, $after) = ($feed->{fault}{what}, $feed->{fault}{after} // 0);
	my $left = $after - ($feed->{given} // 0);
	my %over = (cut => 'close', mute => 'hang', reset => 'reset', end => 'end', stop => 'end');
	my $next = '';

	$feed->{given} += @$rows;
	return '' if $what eq 'hold' || $feed->{given} < $after + ($what eq 'cut' ? 1 : 0);
	($next) = splice @$rows, $left if $what eq 'cut' || $what eq 'mute';
	$feed->{over} = $over{$what};
	my $text = $what eq 'text' ? $feed->{fault}{text} : $what eq 'cut' ? substr $next, 0, length($next) / 2
	  : $what eq 'end' ? "{\"last_seq\":$json_seq,\"pending\":0}\n" : '';
	delete $feed->{fault};
	return $text;
}

# Every feed is given what there is for it.
sub feed_all
{
	my ($self) = @_;
	my $now = time;

	foreach my $conn (values %{ $self->{conns} })
	{
		my $feed = $conn->{feed} or next;
		next if @{ $conn->{out} };
		my $text = '';
		my ($rows, $last) = ([], $feed->{since});
		my $gone = ($self->{store}->db($feed->{db}{name}) // 0) != $feed->{db};
		($rows, $last) = $self->{api}->feed_rows($feed)
		  if $feed->{db}{seq} > $feed->{since} && ($feed->{looked} // -1) != $feed->{db}{seq};
		$feed->{looked} = $feed->{db}{seq};
		$feed->{limit} -= @$rows;
		my $end = $gone || $feed->{limit} <= 0 || (!$feed->{heartbeat} && $now >= $feed->{end});
		my $json_seq = $self->{store}->seq_json($feed->{db}, $last);
		if ($feed->{kind} eq 'longpoll')
		{
			next unless @$rows || $end || beats($feed, $now, \$text);
			$text .= join(",\n", @$rows) . "\n],\n\"last_seq\":$json_seq,\"pending\":0}\n" if @$rows || $end;
			$end = 1 if @$rows;
		}
		else
		{
			my $spoilt = $feed->{fault} ? spoil_feed($feed, $rows, $json_seq) : '';
			$text .= join('', map { "$_\n" } @$rows) . $spoilt;
			$feed->{since} = $last;
			$feed->{end} = $now + $feed->{timeout} if @$rows;
			beats($feed, $now, \$text) unless @$rows || $feed->{over};
			$text .= "{\"last_seq\":$json_seq,\"pending\":0}\n" if $end && !$feed->{over};
		}
		$text = chunk($text) if $text ne '';
		my $over = $feed->{over} // ($end ? 'end' : '');
		if ($over ne '')
		{
			$text .= "0\r\n\r\n" if $over eq 'end';
			delete $conn->{feed};
			$self->feed_text($conn, $feed, $text);
			push @{ $conn->{out} }, { act => $over } if $over ne 'end';
			$self->write_some($conn) unless $conn->{dropped};
			next;
		}
		else
		{
			($feed->{due}) = sort { $a <=> $b } grep { defined } $feed->{heartbeat} ? $feed->{beat} : $feed->{end};
		}
		$self->feed_text($conn, $feed, $text);
	}
	return;
}

sub beats
{
	my ($feed, $now, $text) = @_;
	return 0 unless $feed->{heartbeat} && $now >= $feed->{beat};
	$$text .= "\n";
	$feed->{beat} = $now + $feed->{heartbeat};
	return 1;
}

# ---------- commands ----------

# Commands: [name, arguments], each answered by [error, result].  From tests they
# come frozen, behind their length; by hand as lines of JSON (lines => 1).
sub read_control
{
	my ($self, $control, $no) = @_;
	my $n = sysread $control->{fh}, $control->{in}, 1048576, length $control->{in};

	if (!$n)
	{
		delete $self->{control}{$no};
		return;
	}
	while (my $command = $control->{lines} ? next_line($control) : next_frozen($control))
	{
		my $result = eval { $self->command(@$command) };
		my $answer = [ "$@", $result ];
		my $reply = $control->{reply} // $control->{fh};
		print $reply $control->{lines} ? $json->encode($answer) . "\n" : pack 'N/a*', nfreeze($answer);
		$reply->flush;
	}
	return;
}

sub next_line
{
	my ($control) = @_;
	return $control->{in} =~ s/^(.*?)\n// ? $json->decode($1) : undef;
}

sub next_frozen
{
	my ($control) = @_;
	return if length $control->{in} < 4;
	my $length = unpack 'N', $control->{in};
	return if length $control->{in} < 4 + $length;
	my $command = thaw(substr $control->{in}, 4, $length);
	substr $control->{in}, 0, 4 + $length, '';
	return $command;
}

sub command
{
	my ($self, $name, @args) = @_;
	my $sub = $self->can("do_$name") or die "no command \"$name\"\n";
	return $sub->($self, @args);
}

sub do_fault
{
	my ($self, %fault) = @_;
	push @{ $self->{faults} }, { skip => 0, times => 1, %fault, hits => 0, seen => 0, no => ++$self->{fault_count} };
	return $self->{fault_count};
}

# Takes all faults away; what hangs or drips, ends.
sub do_heal
{
	my ($self) = @_;
	$self->{faults} = [];
	foreach my $conn (values %{ $self->{conns} })
	{
		$self->drop($conn) if grep { $_->{act} || $_->{drip} || ($_->{left} // 0) > 0 || $_->{due} } @{ $conn->{out} };
	}
	return 1;
}

sub do_hits
{
	my ($self, $no) = @_;
	my ($fault) = grep { !defined $no || $_->{no} == $no } @{ $self->{faults} };
	return $fault ? $fault->{hits} : 0;
}

sub do_quit { $_[0]{control} = {}; return 1 }
sub do_log { return $_[0]{log} }
sub do_clear_log { $_[0]{log} = []; return 1 }
sub do_set { my ($self, %set) = @_; $self->{settings}{$_} = $set{$_} foreach keys %set; return 1 }
sub do_create { $_[0]{store}->create_db($_[1]); return 1 }
sub do_delete { $_[0]{store}->delete_db($_[1]); return 1 }
sub do_seqs { $_[0]{store}{seqs} = $_[1]; return 1 }
sub do_sent { return $_[0]{sent} }
sub do_connections { return scalar keys %{ $_[0]{conns} } }
sub do_forget_sessions { @{ $_[0]{api} }{qw(cookies tokens)} = ({}, {}); return 1 }

# Sets the database's counter back: a shard that was restored.
sub do_set_seq
{
	my ($self, $name, $n) = @_;
	my $db = $self->{store}->db($name);
	$db->{seq} = $n;
	$_->{seq} = $_->{seq} > $n ? $n : $_->{seq} foreach values %{ $db->{docs} };
	return 1;
}

# Revisions: {id, revs (newest first), deleted, body (members as text), atts: {name: {type, content, ...}}}.
sub do_put
{
	my ($self, $name, @docs) = @_;
	my $db = $self->{store}->db($name) // $self->{store}->create_db($name);
	foreach my $doc (@docs)
	{
		my ($generation) = $doc->{revs}[0] =~ /^(\d+)/;
		my %atts = map { $_ => DocrepCouch::Store::new_att(type => 'text/plain', revpos => 0 + $generation, %{ $doc->{atts}{$_} }) }
		  keys %{ $doc->{atts} // {} };
		$self->{store}->add_rev($db, $doc->{id}, $doc->{revs},
			{ deleted => $doc->{deleted}, body => $doc->{body}, atts => \%atts });
	}
	return scalar @docs;
}

# Documents n to m of the kind that tests need many of.
sub do_fill
{
	my ($self, $name, $from, $to, %opts) = @_;
	my $size = $opts{size} // 100;
	$self->do_put($name, map { {
		id => sprintf('%s%06d', $opts{prefix} // 'doc', $_),
		revs => [ map { "$_-" . md5_hex("$_ $name") } reverse 1 .. $opts{revs} // 1 ],
		body => "\"n\":$_,\"text\":\"" . ('x' x $size) . '"',
	} } $from .. $to);
	return 1;
}

# All there is: id => [[rev, deleted, path, body as JSON text, {attachment: [type, length, digest]}], ...].
sub do_contents
{
	my ($self, $name) = @_;
	my $db = $self->{store}->db($name) or return;
	my %all;
	foreach my $id (keys %{ $db->{docs} })
	{
		my $doc = $db->{docs}{$id};
		$all{$id} = [ map {
			my $node = $doc->{revs}{$_};
			[ $_, $node->{deleted} ? 1 : 0, join(' ', DocrepCouch::Store::path($doc, $_)), '{' . ($node->{body} // '') . '}',
				{ map { my $att = $node->{atts}{$_}; $_ => [ $att->{type}, $att->{digest} ] } keys %{ $node->{atts} // {} } } ]
		} sort keys %{ $doc->{leaves} } ];
	}
	return \%all;
}

sub do_received { my $db = $_[0]{store}->db($_[1]); return $db ? $db->{received} // {} : {} }
sub do_local { my $db = $_[0]{store}->db($_[1]); return $db ? $db->{local} : {} }
sub do_drop_local { $_[0]{store}->db($_[1])->{local} = {}; return 1 }

# Puts local documents as they are, as from a copy of the database.
sub do_put_local
{
	my ($self, $name, $local) = @_;
	$self->{store}->db($name)->{local} = $local;
	return 1;
}

# A sequence as JSON.
sub do_seq_of { return $_[0]{store}->seq_json($_[0]{store}->db($_[1]), $_[2]) }

# All connections are reset: a restart that nobody else notices.
sub do_restart
{
	my ($self) = @_;
	$self->drop($_, 1) foreach values %{ $self->{conns} };
	return 1;
}

# Down, for some seconds or until "start".
sub do_stop
{
	my ($self, $seconds) = @_;
	$self->do_restart;
	close $self->{listener} if $self->{listener};
	$self->{listener} = undef;
	push @{ $self->{timers} }, { due => time + $seconds, command => ['start'] } if $seconds;
	return 1;
}

sub do_start
{
	my ($self) = @_;
	$self->{listener} //= IO::Socket::INET->new(Listen => 100, LocalAddr => $self->{address}, LocalPort => $self->{port}, Proto => 'tcp', ReuseAddr => 1)
	  or die "cannot listen: $!\n";
	return 1;
}

1;
