# Responses of the scripted CouchDB.
package DocrepCouch::Reply;

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP;

our @EXPORT_OK = qw(failure reply);

my $json = JSON::PP->new->utf8->canonical->allow_nonref->max_depth(100_000);

# A response; the body is a structure or text.
sub reply
{
	my ($status, $body, @headers) = @_;
	return {
		status => $status,
		headers => [ [ 'Content-Type', 'application/json' ], @headers ],
		body => ref $body ? $json->encode($body) . "\n" : $body,
	};
}

sub failure
{
	my ($status, $error, $reason, @headers) = @_;
	return reply($status, { error => $error, reason => $reason }, @headers);
}

1;
