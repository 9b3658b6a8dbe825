# What tests may say to the scripted CouchDB's server: what it has, what it does
# wrong, and what has come to it.
package DocrepCouch::Commands;

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use DocrepCouch::Store;
use IO::Handle;
use IO::Socket::INET;
use JSON::PP;
use Storable qw(nfreeze thaw);
use Time::HiRes qw(time);

my $json = JSON::PP->new->canonical->allow_nonref->latin1;

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

# Is there a fault that keeps a client waiting in vain?
sub do_keeps_waiting { return scalar grep { defined $_->{hang_at} || defined $_->{drip} } @{ $_[0]{faults} } }

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
	if ($self->{listener})
	{
		# its port stays ours, or another might have it when we come back
		close $self->{listener};
		$self->{listener} = undef;
		$self->{reserved} = IO::Socket::INET->new(LocalAddr => $self->{address}, LocalPort => $self->{port}, Proto => 'tcp', ReuseAddr => 1)
		  or die "cannot keep the port: $!\n";
	}
	push @{ $self->{timers} }, { due => time + $seconds, command => ['start'] } if $seconds;
	return 1;
}

sub do_start
{
	my ($self) = @_;
	return 1 if $self->{listener};
	listen $self->{reserved}, 100 or die "cannot listen: $!\n";
	$self->{listener} = delete $self->{reserved};
	return 1;
}

1;
