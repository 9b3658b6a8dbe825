# What the scripted CouchDB's interface gives: feeds, documents, attachments.
package DocrepCouch::Reading;

use strict;
use warnings;

use Compress::Zlib ();
use DocrepCouch::Reply qw(failure reply);
use DocrepCouch::Store qw(json_quote json_unquote json_members json_elements);
use Digest::MD5 qw(md5_hex);
use JSON::PP;
use MIME::Base64 qw(encode_base64);

my $json = JSON::PP->new->utf8->canonical->allow_nonref->max_depth(100_000);

sub changes
{
	my ($self, $r, $db) = @_;
	my $q = $r->{query};
	my $since = $self->{store}->seq_number($db, ($q->{since} // '0') =~ s/^"(.*)"$/$1/sr);
	my $ids;

	return failure(400, 'bad_request', 'Malformed sequence supplied in \'since\' parameter.') unless defined $since;
	if (($q->{filter} // '') eq '_doc_ids')
	{
		my ($list) = map { $_->[1] } grep { $_->[0] eq 'doc_ids' } @{ json_members($r->{body}) // [] };
		$list //= $q->{doc_ids};
		return failure(400, 'bad_request', '`doc_ids` filter parameter is not a list.') unless defined $list;
		$ids = { map { json_unquote($_) => 1 } @{ json_elements($list) } };
	}
	my ($test, $refusal) = $self->filter($r, $db);
	return $refusal if $refusal;
	my $feed = {
		db => $db, test => $test, since => $since, ids => $ids, query => $q,
		kind => $q->{feed} // 'normal',
		limit => $q->{limit} // 1e15,
		heartbeat => !defined $q->{heartbeat} ? undef : $q->{heartbeat} eq 'true' ? 60 : $q->{heartbeat} / 1000,
		timeout => ($q->{timeout} // 60000) / 1000,
	};
	return { status => 200, headers => [ [ 'Content-Type', 'application/json' ] ], feed => $feed }
	  if $feed->{kind} =~ /^(longpoll|continuous|eventsource)$/;
	my ($rows, $last, $pending) = $self->feed_rows($feed);
	return { status => 200, chunked => 1, headers => [ [ 'Content-Type', 'application/json' ] ],
		body => "{\"results\":[\n" . join(",\n", @$rows) . "\n],\n\"last_seq\":"
		  . $self->{store}->seq_json($db, $last) . ",\"pending\":$pending}\n" };
}

# What a feed's filter lets through, as a sub of an id, a document and a revision (undef: all),
# or the refusal.  Selectors are equalities of members.  JavaScript is not run: a filter
# lets through what has the value of req.query in the one member that it looks at, a view
# what has that member at all; one that throws does so.
sub filter
{
	my ($self, $r, $db) = @_;
	my $q = $r->{query};
	my $name = $q->{filter};
	my $body = sub { my ($doc, $rev) = @_; return $json->decode('{' . ($doc->{revs}{$rev}{body} // '') . '}') };

	return if !defined $name || $name eq '_doc_ids';
	return sub { $_[0] =~ m{^_design/} } if $name eq '_design';
	if ($name eq '_selector')
	{
		my ($text) = map { $_->[1] } grep { $_->[0] eq 'selector' } @{ json_members($r->{body} // '') // [] };
		return (undef, failure(400, 'bad_request', 'selector is missing')) unless defined $text;
		my $selector = $json->decode($text);
		return sub {
			my $doc = $body->(@_[ 1, 2 ]);
			return !grep { !defined $doc->{$_} || $doc->{$_} ne $selector->{$_} } keys %$selector;
		};
	}
	my $view = $name eq '_view';
	my ($design, $function) = split m{/}, ($view ? $q->{view} : $name) // '', 2;
	my $doc = $db->{docs}{"_design/$design"};
	return (undef, failure(404, 'not_found', 'missing')) unless $doc;
	my $code = $body->($doc, (DocrepCouch::Store::leaves($doc))[0])->{ $view ? 'views' : 'filters' }{$function};
	$code = $code->{map} if $view && $code;
	return (undef, failure(404, 'not_found', "missing json key: $function")) unless defined $code;
	return (undef, failure(500, 'TypeError', 'doc.a is undefined')) if $code =~ /throw/;
	my ($member) = $code =~ /doc\.(\w+)/;
	return sub {
		my $value = $body->(@_[ 1, 2 ])->{$member};
		return defined $value && ($view || $value eq ($q->{$member} // ''));
	};
}

# The rows of a feed, each as text, how far was read, and how many follow.
sub feed_rows
{
	my ($self, $feed) = @_;
	my ($store, $db) = ($self->{store}, $feed->{db});
	my $docs = $db->{docs};
	my $all = ($feed->{query}{style} // '') eq 'all_docs';
	my $leaves = sub {
		my ($id) = @_;
		my @leaves = DocrepCouch::Store::leaves($docs->{$id});
		$#leaves = 0 unless $all;
		return $feed->{test} ? grep { $feed->{test}->($id, $docs->{$id}, $_) } @leaves : @leaves;
	};
	my @ids = sort { $docs->{$a}{seq} <=> $docs->{$b}{seq} }
	  grep { $docs->{$_} && $docs->{$_}{seq} > $feed->{since} && $leaves->($_) } keys %{ $feed->{ids} // $docs };
	my $pending = 0;
	my $interval = $feed->{query}{seq_interval} // 1;
	my $n = 0;

	if (@ids > $feed->{limit})
	{
		$pending = @ids - $feed->{limit};
		$#ids = $feed->{limit} - 1;
	}
	my @rows = map {
		my $doc = $docs->{$_};
		my @leaves = DocrepCouch::Store::leaves($doc);
		my $seq = ++$n % $interval == 0 || $n == @ids ? $store->seq_json($db, $doc->{seq}) : 'null';
		my $row = "{\"seq\":$seq,\"id\":" . json_quote($_) . ',"changes":['
		  . join(',', map { "{\"rev\":\"$_\"}" } $leaves->($_)) . ']'
		  . ($doc->{revs}{ $leaves[0] }{deleted} ? ',"deleted":true' : '')
		  . (($feed->{query}{include_docs} // '') eq 'true' ? ',"doc":' . DocrepCouch::Store::doc_json($_, $doc, $leaves[0]) : '') . '}';
	} @ids;
	return (\@rows, $pending ? $docs->{ $ids[-1] }{seq} : $db->{seq}, $pending);
}

sub all_docs
{
	my ($self, $r, $db) = @_;
	my @rows;

	foreach my $id (sort keys %{ $db->{docs} })
	{
		my $doc = $db->{docs}{$id};
		my ($winner) = DocrepCouch::Store::leaves($doc);
		next if $doc->{revs}{$winner}{deleted};
		push @rows, '{"id":' . json_quote($id) . ',"key":' . json_quote($id) . ",\"value\":{\"rev\":\"$winner\"}"
		  . (($r->{query}{include_docs} // '') eq 'true' ? ',"doc":' . DocrepCouch::Store::doc_json($id, $doc, $winner) : '') . '}';
	}
	return reply(200, '{"total_rows":' . @rows . ",\"offset\":0,\"rows\":[\n" . join(",\n", @rows) . "\n]}\n");
}

sub revs_diff
{
	my ($self, $r, $db) = @_;
	my $asked = json_members($r->{body}) or return failure(400, 'bad_request', 'invalid UTF-8 JSON');
	my @out;

	foreach my $member (@$asked)
	{
		my ($id, $list) = @$member;
		my $doc = $db->{docs}{$id};
		my @missing = grep { !$doc || !exists $doc->{revs}{$_} } map { json_unquote($_) } @{ json_elements($list) };
		next unless @missing;
		my ($least) = sort { $b <=> $a } map { /^(\d+)/ } @missing;
		my @ancestors = $doc ? grep { /^(\d+)/ && $1 < $least } sort keys %{ $doc->{leaves} } : ();
		push @out, json_quote($id) . ':{"missing":' . $json->encode(\@missing)
		  . (@ancestors ? ',"possible_ancestors":' . $json->encode(\@ancestors) : '') . '}';
	}
	return reply(200, '{' . join(',', @out) . "}\n");
}

sub bulk_get
{
	my ($self, $r, $db) = @_;
	my $members = json_members($r->{body});
	my ($docs) = map { $_->[1] } grep { $_->[0] eq 'docs' } @{ $members // [] };
	my %opts = (revs => ($r->{query}{revs} // '') eq 'true',
		atts => ($r->{query}{attachments} // '') eq 'true' ? \&inline : stub_form($r));
	my @results;

	return failure(400, 'bad_request', 'Missing JSON list of \'docs\'.') unless defined $docs;
	foreach my $one (@{ json_elements($docs) })
	{
		my %ask = map { $_->[0] => $_->[1] } @{ json_members($one) };
		my ($id, $rev) = map { defined $_ ? json_unquote($_) : undef } @ask{qw(id rev)};
		my $doc = $db->{docs}{$id};
		my @revs = !$doc ? () : !defined $rev ? (DocrepCouch::Store::leaves($doc))[0]
		  : ($r->{query}{latest} // '') eq 'true' ? DocrepCouch::Store::latest($doc, $rev)
		  : $self->has_body($doc, $rev) ? $rev : ();
		push @results, '{"id":' . json_quote($id) . ',"docs":['
		  . (@revs ? join(',', map { '{"ok":' . DocrepCouch::Store::doc_json($id, $doc, $_, %opts) . '}' } @revs)
			: '{"error":{"id":' . json_quote($id) . ',"rev":' . json_quote($rev // 'undefined')
			. ',"error":"not_found","reason":"missing"}}') . ']}';
	}
	return { %{ reply(200, '{"results":[' . join(',', @results) . ']}') }, chunked => 1 };
}

# Whether it has the body of a revision: of leaves, and of others until it is compacted.
sub has_body
{
	my ($self, $doc, $rev) = @_;
	return $doc->{leaves}{$rev} || ($self->{settings}{keeps_old} && defined(($doc->{revs}{$rev} // {})->{body}));
}

sub stub_form { return ($_[0]{query}{att_encoding_info} // '') eq 'true' ? 'encoding' : undef }

sub inline
{
	my ($name, $att) = @_;
	my $data = $att->{encoding} ? plain($att) : $att->{content};
	return '"data":"' . encode_base64($data, '') . '"';
}

# The content of an attachment that is kept compressed.
sub plain { return Compress::Zlib::memGunzip(my $copy = $_[0]{content}) }

# What a part that follows is called in the document.
sub follows
{
	my ($name, $att) = @_;
	return $att->{encoding} ? "\"encoding\":\"gzip\",\"encoded_length\":$att->{length},\"length\":" . $att->{plain} . ',"follows":true'
	  : "\"length\":$att->{length},\"follows\":true";
}

sub get_doc
{
	my ($self, $r, $db, $id) = @_;
	my $q = $r->{query};
	my $doc = $db->{docs}{$id};
	my $parts = ($r->{headers}{accept} // '') =~ m{multipart/} && !$self->{settings}{json_only};
	my %opts = (revs => ($q->{revs} // '') eq 'true', atts => ($q->{attachments} // '') eq 'true' ? \&inline : stub_form($r));
	my $since = $q->{atts_since} ? json_revs($q->{atts_since}) : undef;

	return failure(404, 'not_found', 'missing') unless $doc || defined $q->{open_revs};
	if (!defined $q->{open_revs})
	{
		my $rev = $q->{rev};
		my ($winner) = DocrepCouch::Store::leaves($doc);
		return failure(404, 'not_found', 'deleted') if !defined $rev && $doc->{revs}{$winner}{deleted};
		$rev //= $winner;
		($rev) = DocrepCouch::Store::latest($doc, $rev) if ($q->{latest} // '') eq 'true';
		return failure(404, 'not_found', 'missing') unless defined $rev && $doc->{leaves}{$rev};
		return $self->related($id, $doc, $rev, $since, %opts)
		  if $parts && ($q->{attachments} // '') eq 'true' && %{ $doc->{revs}{$rev}{atts} // {} };
		return reply(200, DocrepCouch::Store::doc_json($id, $doc, $rev, %opts) . "\n", [ 'ETag', "\"$rev\"" ]);
	}
	my @asked = $q->{open_revs} eq 'all' ? ($doc ? DocrepCouch::Store::leaves($doc) : ()) : @{ json_revs($q->{open_revs}) };
	my (@found, %seen);
	foreach my $rev (@asked)
	{
		my @leaves = !$doc || !exists $doc->{revs}{$rev} ? () : ($q->{latest} // '') eq 'true'
		  ? DocrepCouch::Store::latest($doc, $rev) : $self->has_body($doc, $rev) ? $rev : ();
		push @found, @leaves ? (map { [ ok => $_ ] } grep { !$seen{$_}++ } @leaves) : [ missing => $rev ];
	}
	return $self->mixed($id, $doc, \@found, $since, %opts) if $parts;
	return { %{ reply(200, '[' . join(',', map {
		$_->[0] eq 'ok' ? '{"ok":' . DocrepCouch::Store::doc_json($id, $doc, $_->[1], %opts) . '}' : "{\"missing\":\"$_->[1]\"}"
	} @found) . "]\n") }, chunked => 1 };
}

sub json_revs { return [ map { json_unquote($_) } @{ json_elements($_[0]) // [] } ] }

# Whether a client that has revisions up to these lacks an attachment.
sub is_newer
{
	my ($att, $since) = @_;
	return 1 unless $since;
	my ($most) = sort { $b <=> $a } map { /^(\d+)/ ? $1 : 0 } @$since, 0;
	return $att->{revpos} > $most;
}

# A document and its attachments as multipart/related.
sub related
{
	my ($self, $id, $doc, $rev, $since, %opts) = @_;
	my $atts = $doc->{revs}{$rev}{atts};
	my $boundary = md5_hex(rand);
	my @follow = grep { is_newer($atts->{$_}, $since) } sort keys %$atts;
	my $said = sub {
		my ($name, $att) = @_;
		return is_newer($att, $since) ? follows($name, $att) : DocrepCouch::Store::stub($att, 'encoding');
	};
	my $body = "--$boundary\r\nContent-Type: application/json\r\n\r\n"
	  . DocrepCouch::Store::doc_json($id, $doc, $rev, %opts, atts => $said);
	foreach my $name (@follow)
	{
		my $att = $atts->{$name};
		$body .= "\r\n--$boundary\r\nContent-Disposition: attachment; filename=" . json_quote($name)
		  . "\r\nContent-Type: $att->{type}\r\nContent-Length: " . length($att->{content})
		  . ($att->{encoding} ? "\r\nContent-Encoding: $att->{encoding}" : '') . "\r\n\r\n$att->{content}";
	}
	$body .= "\r\n--$boundary--";
	return { status => 200, headers => [ [ 'Content-Type', "multipart/related; boundary=\"$boundary\"" ] ], body => $body };
}

# Revisions, and those missing, as multipart/mixed.
sub mixed
{
	my ($self, $id, $doc, $found, $since, %opts) = @_;
	my $boundary = md5_hex(rand);
	my $body = '';

	foreach my $one (@$found)
	{
		my ($kind, $rev) = @$one;
		$body .= "\r\n--$boundary\r\n";
		if ($kind eq 'missing')
		{
			$body .= "Content-Type: application/json; error=\"true\"\r\n\r\n{\"missing\":\"$rev\"}";
		}
		elsif (%{ $doc->{revs}{$rev}{atts} // {} })
		{
			my $related = $self->related($id, $doc, $rev, $since, %opts);
			$body .= "Content-Type: $related->{headers}[0][1]\r\n\r\n$related->{body}";
		}
		else
		{
			$body .= "Content-Type: application/json\r\n\r\n" . DocrepCouch::Store::doc_json($id, $doc, $rev, %opts);
		}
	}
	$body .= "\r\n--$boundary--";
	return { status => 200, chunked => 1, headers => [ [ 'Content-Type', "multipart/mixed; boundary=\"$boundary\"" ] ], body => $body };
}

sub attachment
{
	my ($self, $r, $db, $id, $name) = @_;
	my $doc = $db->{docs}{$id} or return failure(404, 'not_found', 'missing');
	my $rev = $r->{query}{rev} // (DocrepCouch::Store::leaves($doc))[0];
	my $att = ($doc->{revs}{$rev}{atts} // {})->{$name} or return failure(404, 'not_found', 'Document is missing attachment');
	my $packed = $att->{encoding} && !$self->{settings}{decodes} && ($r->{headers}{'accept-encoding'} // '') =~ /gzip/;
	return { status => 200, body => $att->{encoding} && !$packed ? plain($att) : $att->{content},
		headers => [ [ 'Content-Type', $att->{type} ], [ 'ETag', '"' . ($att->{digest} =~ s/^md5-//r) . '"' ],
			$packed ? [ 'Content-Encoding', 'gzip' ] : () ] };
}

1;
