# What the scripted CouchDB's server sends: answers and feeds that wait, and what
# faults (Server.pm) do to them.
package DocrepCouch::Answers;

use strict;
use warnings;

use Compress::Zlib ();
use Digest::MD5 qw(md5_hex);
use DocrepCouch::Api;
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Time::HiRes qw(time);

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

# How many bytes of what drips are due: one, and those that we were too slow for.
sub dripping
{
	my ($op) = @_;
	$op->{begun} //= time;
	return 1 + int((time - $op->{begun}) * $op->{drip}) - ($op->{dripped} // 0) || 1;
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
			my $n = syswrite $conn->{fh}, $op->{data}, $op->{drip} ? dripping($op) : length $op->{data};
			if (!defined $n)
			{
				return if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};
				return $self->drop($conn);
			}
			substr $op->{data}, 0, $n, '';
			$self->{sent} += $n;
			$op->{due} = $op->{begun} + ($op->{dripped} += $n) / $op->{drip} if $op->{drip};
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
	return if $feed->{fault} && $feed->{fault}{what} eq 'hold' && $conn->{feed};
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

1;
