#!/usr/bin/perl
# The scripted CouchDB (DocrepCouch.pm) by itself, for trying things by hand:
#
#   test/lib/couch-server.pl [--port 5984] [--seqs number] [--settings '{"users": {"joe": "secret"}}']
#
# Commands come on standard input, a line of JSON each, and are answered by a line:
#   ["fill", "db", 1, 1000]
#   ["fault", "match", "POST /db/_bulk_get", "status", 503]
# It ends with its input.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use DocrepCouch::Server;
use Getopt::Long;
use IO::Socket::INET;
use JSON::PP;

my ($port, $seqs, $settings) = (0, 'opaque', '{}');
GetOptions('port=i' => \$port, 'seqs=s' => \$seqs, 'settings=s' => \$settings) or die "see the top of the file\n";
my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', ReuseAddr => 1)
  or die "cannot listen: $!\n";
$| = 1;
print STDERR 'http://127.0.0.1:', $listener->sockport, "\n";
my $server = DocrepCouch::Server->new($listener, [ \*STDIN ], seqs => $seqs, settings => decode_json($settings));
@{ $server->{control}{ fileno STDIN } }{qw(lines reply)} = (1, \*STDOUT);
$server->run;
