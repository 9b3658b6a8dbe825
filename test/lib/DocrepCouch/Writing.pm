# What the scripted CouchDB's interface takes: documents and their attachments.
package DocrepCouch::Writing;

use strict;
use warnings;

use DocrepCouch::Reply qw(failure reply);
use DocrepCouch::Store qw(json_quote json_unquote json_members json_elements);
use JSON::PP;
use MIME::Base64 qw(decode_base64);

my $json = JSON::PP->new->utf8->canonical->allow_nonref->max_depth(100_000);

sub bulk_docs
{
	my ($self, $r, $db) = @_;
	my $set = $self->{settings};

	return failure(413, 'too_large', 'the request entity is too large')
	  if $set->{max_request} && length $r->{body} > $set->{max_request};
	my %members = map { $_->[0] => $_->[1] } @{ json_members($r->{body}) // [] };
	return failure(400, 'bad_request', 'POST body must include `docs` parameter.') unless defined $members{docs};
	return failure(400, 'bad_request', 'only new_edits: false here') unless ($members{new_edits} // '') eq 'false';
	my @docs = map { $self->read_doc($db, $_) } @{ json_elements($members{docs}) };
	foreach my $doc (@docs)
	{
		# one bad document fails them all
		return $doc->{failure} if $doc->{failure} && $doc->{failure}{status} != 403;
	}
	my @errors;
	foreach my $doc (@docs)
	{
		if ($doc->{failure})
		{
			push @errors, '{"id":' . json_quote($doc->{id}) . ",\"rev\":\"$doc->{path}[0]\",\"error\":\"forbidden\",\"reason\":\"not here\"}";
			next;
		}
		$self->store_doc($db, $doc);
	}
	return reply(201, '[' . join(',', @errors) . "]\n");
}

sub put_doc
{
	my ($self, $r, $db, $id) = @_;
	my ($text, %parts) = ($r->{body});

	return failure(400, 'bad_request', 'only new_edits=false here') unless ($r->{query}{new_edits} // '') eq 'false';
	if (($r->{headers}{'content-type'} // '') =~ m{^multipart/related;.*boundary="?([^";]+)"?}i)
	{
		($text, %parts) = read_related($r->{body}, $1);
		return failure(400, 'bad_request', 'broken multipart') unless defined $text;
	}
	my $doc = $self->read_doc($db, $text, %parts);
	return failure(400, 'bad_request', 'ids differ') if !$doc->{failure} && $doc->{id} ne $id;
	return $doc->{failure} if $doc->{failure};
	$self->store_doc($db, $doc);
	return reply(201, '{"ok":true,"id":' . json_quote($id) . ",\"rev\":\"$doc->{path}[0]\"}\n");
}

# The document's text, and attachments by name, or by their order as \0N.
sub read_related
{
	my ($body, $boundary) = @_;
	my (%parts, $text);
	my $n = 0;

	return unless "\r\n$body" =~ /\r\n--\Q$boundary\E--/;
	my @parts = split /\r\n--\Q$boundary\E(?:--)?(?:\r\n)?/, "\r\n$body";
	shift @parts;
	foreach my $part (@parts)
	{
		my ($head, $content) = $part =~ /^\r\n/ ? ('', substr $part, 2) : split /\r\n\r\n/, $part, 2;
		next unless defined $content;
		if (!defined $text)
		{
			$text = $content;
			next;
		}
		my ($name) = $head =~ /filename="((?:[^"\\]|\\.)*)"/i;
		$parts{ "\0" . $n++ } = $content;
		$parts{ json_unquote("\"$name\"") } = $content if defined $name;
	}
	return ($text, %parts);
}

# A document that was sent, checked: id, path, deleted, body, atts; or a failure.
sub read_doc
{
	my ($self, $db, $text, %parts) = @_;
	my $set = $self->{settings};
	my $members = json_members($text) or return { failure => failure(400, 'bad_request', 'invalid UTF-8 JSON') };
	my %special = map { $_->[0] => $_->[1] } grep { $_->[0] =~ /^_/ } @$members;
	my $doc = { body => join ',', map { json_quote($_->[0]) . ":$_->[1]" } grep { $_->[0] !~ /^_/ } @$members };

	return { failure => failure(400, 'bad_request', 'Document must have an _id and a _rev') } unless defined $special{_id} && defined $special{_rev};
	my ($id, $rev) = map { json_unquote($_) } @special{qw(_id _rev)};
	@$doc{qw(id path deleted)} = ($id, [$rev], ($special{_deleted} // '') eq 'true');
	if (defined $special{_revisions})
	{
		my $said = $json->decode($special{_revisions});
		my $n = $said->{start};
		$doc->{path} = [ map { $n-- . "-$_" } @{ $said->{ids} } ];
		return { failure => failure(400, 'bad_request', 'RevId isn\'t allowed to be of another revision') } if $doc->{path}[0] ne $rev;
	}
	return { %$doc, failure => failure(400, 'illegal_docid', 'Document id is too long') } if $set->{max_id} && length $id > $set->{max_id};
	return { %$doc, failure => failure(413, 'document_too_large', $id) } if $set->{max_document} && length $text > $set->{max_document};
	return { %$doc, failure => failure(403, 'forbidden', 'not here') } if defined $set->{forbid} && $id =~ /$set->{forbid}/;
	my $problem = $self->read_atts($db, $doc, $special{_attachments}, \%parts);
	return $problem ? { %$doc, failure => $problem } : $doc;
}

# Its attachments: inline, among the parts, or known already.
sub read_atts
{
	my ($self, $db, $doc, $text, $parts) = @_;
	my $n = 0;

	return unless defined $text;
	foreach my $member (@{ json_members($text) })
	{
		my ($name, $said) = ($member->[0], $json->decode($member->[1]));
		my ($generation) = $doc->{path}[0] =~ /^(\d+)/;
		my %att = (type => $said->{content_type} // 'application/octet-stream', revpos => $said->{revpos} // $generation);
		$att{encoding} = $said->{encoding} if $said->{encoding} && $said->{follows};
		if (defined $said->{data})
		{
			$att{content} = decode_base64($said->{data});
		}
		elsif ($said->{follows})
		{
			$att{content} = $parts->{$name} // $parts->{"\0$n"};
			$n++;
			return failure(400, 'bad_request', 'attachment does not follow') unless defined $att{content};
			my $length = $said->{encoded_length} // $said->{length};
			return failure(400, 'bad_request', 'attachment of another length') if defined $length && $length != length $att{content};
		}
		else
		{
			my $known = $db->{docs}{ $doc->{id} } // {};
			my ($there) = map { ($_->{atts} // {})->{$name} // () } map { $known->{revs}{$_} // () } @{ $doc->{path} };
			return failure(412, 'missing_stub', "Invalid attachment stub in $doc->{id} for $name") unless $there;
			@att{qw(content encoding)} = @$there{qw(content encoding)};
		}
		my $att = DocrepCouch::Store::new_att(%att);
		return failure(400, 'bad_request', 'attachment of another digest')
		  if $said->{follows} && defined $said->{digest} && $said->{digest} =~ /^md5-/ && $said->{digest} ne $att->{digest};
		$doc->{atts}{$name} = $att;
	}
	return;
}

# Stores it, and counts how often it was sent.
sub store_doc
{
	my ($self, $db, $doc) = @_;

	$db->{received}{"$doc->{id} $doc->{path}[0]"}++;
	$self->{store}->add_rev($db, $doc->{id}, $doc->{path}, $doc);
	return;
}

1;
