# A scripted look-alike of CouchDB 3, which fails on demand.
#
#   my $couch = DocrepCouch->new;                 # options: seqs => 'number', settings => {...}
#   $couch->put('db', { id => 'a', revs => ['1-a'], body => '"n":1' });
#   $couch->fill('db', 1, 1000);                  # documents in plenty
#   $couch->url('db'), $couch->url('db', 'joe', 'secret'), $couch->port
#   $couch->fault(match => 'POST /db/_bulk_get', status => 503);
#   $couch->hits                                  # of the first fault (or of a number)
#   $couch->heal                                  # no more faults
#   $couch->log                                   # requests: method, target, headers, ...
#   $couch->contents('db')                        # comparable with docrep_contents
#
# Every method that is not here is a command of DocrepCouch::Commands (do_...).  Faults are
# described in DocrepCouch::Server, settings in DocrepCouch::Api.  The server is a process
# that ends with the object.
package DocrepCouch;

use strict;
use warnings;

use Carp;
use DocrepCouch::Server;
use Encode qw(decode);
use Exporter 'import';
use IO::Handle;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Storable qw(nfreeze thaw);

our @EXPORT_OK = qw(docrep_contents normal_body);
our $AUTOLOAD;

my $body = JSON::PP->new->canonical->allow_nonref->utf8->max_depth(1_000_000)->allow_bignum;

sub new
{
	my ($class, %opts) = @_;
	my ($address, $port) = ($opts{address} // '127.0.0.1', $opts{port} // 0);

	# nobody else gets the port while the server is down
	my $place = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port, Proto => 'tcp', ReuseAddr => 1)
	  or croak "cannot bind: $!";
	my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => $address, LocalPort => $place->sockport, Proto => 'tcp', ReuseAddr => 1)
	  or croak "cannot listen: $!";
	socketpair(my $ours, my $its, Socket::AF_UNIX(), Socket::SOCK_STREAM(), 0) or croak "socketpair: $!";
	my $self = bless { port => $listener->sockport, address => $listener->sockhost, control => $ours, owner => $$ }, $class;

	$ours->autoflush(1);
	$its->autoflush(1);
	$self->{pid} = fork() // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		# nothing of the test's own must run when this process ends
		local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
		close $ours;
		open STDOUT, '>', '/dev/null';
		eval { DocrepCouch::Server->new($listener, [$its], %opts)->run; 1 } or print STDERR $@;
		POSIX::_exit(0);
	}
	close $its;
	close $listener;
	close $place;
	return $self;
}

sub port { return $_[0]{port} }

sub url
{
	my ($self, $db, $user, $password) = @_;
	my $who = defined $user ? $user . (defined $password ? ":$password" : '') . '@' : '';
	return "http://$who$self->{address}:$self->{port}" . (defined $db ? "/$db" : '');
}

# Tells the process, and returns its answer.
sub AUTOLOAD
{
	my ($self, @args) = @_;
	my $name = $AUTOLOAD =~ s/.*:://r;

	croak "no method $name" unless ref $self && DocrepCouch::Server->can("do_$name");
	print { $self->{control} } pack 'N/a*', nfreeze([ $name, @args ]);
	my ($length, $answer) = ('', '');
	read $self->{control}, $length, 4;
	croak 'the scripted CouchDB has ended' unless length $length == 4;
	read $self->{control}, $answer, unpack 'N', $length;
	my ($error, $result) = @{ thaw($answer) };
	croak $error if $error ne '';
	return $result;
}

# Requests of the log that match, as "METHOD target".
sub requests
{
	my ($self, $pattern) = @_;
	return grep { !defined $pattern || /$pattern/ } map { "$_->{method} $_->{target}" } @{ $self->log };
}

# A database as text by id, for comparing.
sub contents
{
	my ($self, $db) = @_;
	$AUTOLOAD = 'contents';
	my $all = AUTOLOAD($self, $db);
	return { map { $_ => $body->encode([ map { [ @$_[ 0 .. 2 ], normal_body($_->[3]), text($_->[4]) ] } @{ $all->{$_} } ]) } keys %$all };
}

# The same of a document table.
sub docrep_contents
{
	my ($node, $dbname, $table) = @_;
	my $rows = $node->safe_psql($dbname, qq{
		SELECT jsonb_build_array(c.id, docrep.get('$table', c.id, open_revs => '"all"', revs => true))
		FROM docrep.changes('$table', style => 'all_docs') c});
	my %all;

	foreach my $row (split /\n/, $rows)
	{
		utf8::encode($row) if utf8::is_utf8($row);
		my ($id, $found) = @{ $body->decode($row) };
		utf8::encode($id);
		my @leaves = map { $_->{ok} } @$found;
		$all{$id} = $body->encode([ map {
			my %doc = %$_;
			my ($n, $atts) = ($doc{_revisions}{start}, $doc{_attachments} // {});
			my $path = join ' ', map { $n-- . "-$_" } @{ $doc{_revisions}{ids} };
			[ $doc{_rev}, $doc{_deleted} ? 1 : 0, $path, normal_body($body->encode({ map { $_ => $doc{$_} } grep { !/^_/ } keys %doc })),
				{ map { $_ => [ @{ $atts->{$_} }{qw(content_type digest)} ] } keys %$atts } ]
		} sort { $a->{_rev} cmp $b->{_rev} } @leaves ]);
	}
	return \%all;
}

# Names of attachments, and what is said of them, as characters.
sub text
{
	my ($atts) = @_;
	return { map { decode('UTF-8', $_) => [ map { decode('UTF-8', $_) } @{ $atts->{$_} } ] } keys %$atts };
}

sub normal_body
{
	my ($text) = @_;
	# too deep for a decoder that calls itself
	return "not decoded: $text" if (() = $text =~ /[[{]/g) > 20_000;
	my $value = eval { $body->decode($text) };
	return defined $value ? $body->encode($value) : "not decoded: $text";
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	return unless $self->{owner} == $$;
	# another server's process may have the handle as well, and so keep it open
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{control} } pack 'N/a*', nfreeze(['quit']);
	close $self->{control};
	waitpid $self->{pid}, 0;
	return;
}

1;
