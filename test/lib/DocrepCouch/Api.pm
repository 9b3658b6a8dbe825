# CouchDB 3's HTTP interface for the scripted CouchDB: what a replicator calls.
# answer() takes a request and gives a response; it knows nothing of sockets, nor
# of faults.  What a server refuses is told by the settings:
#
#   users         {name => password}: everything but GET / wants one of them, by
#                 Basic, or by cookie (POST /_session)
#   tokens        {token => 1}: accepted as "Authorization: Bearer"
#   api_keys      {key => seconds}: POST /identity/token gives tokens for them
#   no_basic      Basic is not accepted, only cookies
#   forbid        pattern of ids that a validation function forbids
#   max_request   bytes of a _bulk_docs that are too many
#   max_document  bytes of a document that are too many
#   max_id        bytes of an id that are too many
#   no_bulk_get, no_commit, no_session, no_local, read_only_local
#   json_only     never multipart
#   decodes       compressed attachments are always served unpacked
#   keeps_old     has not been compacted: bodies of replaced revisions are given, too
#   want_length   bodies without Content-Length are refused (411)
package DocrepCouch::Api;

use strict;
use warnings;

use Compress::Zlib ();
use DocrepCouch::Store qw(json_quote json_unquote json_members json_elements);
use Digest::MD5 qw(md5_base64 md5_hex);
use JSON::PP;
use MIME::Base64 qw(decode_base64 encode_base64);
use Time::HiRes qw(time);

my $json = JSON::PP->new->utf8->canonical->allow_nonref->max_depth(100_000);

sub new
{
	my ($class, $store, $settings) = @_;
	return bless { store => $store, settings => $settings, cookies => {}, tokens => {}, made => 0 }, $class;
}

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

sub answer
{
	my ($self, $r) = @_;
	my $set = $self->{settings};
	my ($name, @rest) = @{ $r->{segs} };

	if (!defined $name)
	{
		return reply(200, { couchdb => 'Welcome', version => '3.3.3', git_sha => '40afbcfc7', uuid => $self->{store}{uuid},
			features => [qw(access-ready partitioned pluggable-storage-engines reshard scheduler)],
			vendor => { name => 'The Apache Software Foundation' } });
	}
	return $self->session($r) if $name eq '_session' && !$set->{no_session};
	return $self->token($r) if $name eq 'identity';
	return failure(411, 'length_required', 'Length Required') if $set->{want_length} && $r->{chunked};
	my $refused = $self->refuse($r);
	return $refused if $refused;
	return failure(404, 'not_found', 'missing') if $name =~ /^_/;

	my $db = $self->{store}->db($name);
	return $self->database($r, $name, $db) if !@rest;
	return failure(404, 'not_found', 'Database does not exist.') unless $db;
	my $what = shift @rest;
	my %special = (_changes => \&changes, _revs_diff => \&revs_diff, _bulk_get => \&bulk_get,
		_bulk_docs => \&bulk_docs, _ensure_full_commit => \&commit, _local => \&local_doc,
		_all_docs => \&all_docs);
	my %not = (_bulk_get => 'no_bulk_get', _ensure_full_commit => 'no_commit');
	if ($special{$what} && !($not{$what} && $set->{ $not{$what} }))
	{
		return $special{$what}->($self, $r, $db, @rest);
	}
	$what = '_design/' . shift @rest if $what eq '_design' && @rest;
	return failure(404, 'not_found', 'missing') if $what =~ /^_(?!design\/)/;
	return $self->attachment($r, $db, $what, join '/', @rest) if @rest;
	return $r->{method} eq 'PUT' ? $self->put_doc($r, $db, $what) : $self->get_doc($r, $db, $what);
}

# ---------- who asks ----------

sub refuse
{
	my ($self, $r) = @_;
	my $set = $self->{settings};
	my $auth = $r->{headers}{authorization} // '';

	return unless $set->{users} || $set->{tokens} || $set->{api_keys};
	if ($auth =~ /^Basic (.*)/ && !$set->{no_basic})
	{
		my ($user, $password) = split /:/, decode_base64($1), 2;
		my $known = ($set->{users} // {})->{ $user // '' };
		return if defined $known && $known eq ($password // '');
		return failure(401, 'unauthorized', 'Name or password is incorrect.');
	}
	if ($auth =~ /^Bearer (.*)/)
	{
		return if ($set->{tokens} // {})->{$1} || ($self->{tokens}{$1} // 0) > time;
		return failure(401, 'unauthorized', 'Token rejected.');
	}
	if (($r->{headers}{cookie} // '') =~ /AuthSession=([^;]+)/)
	{
		return if ($self->{cookies}{$1} // 0) > time;
	}
	return failure(401, 'unauthorized', 'You are not authorized to access this db.', [ 'WWW-Authenticate', 'Basic realm="server"' ]);
}

sub session
{
	my ($self, $r) = @_;
	my $set = $self->{settings};

	return reply(200, { ok => JSON::PP::true, userCtx => { name => undef, roles => [] } }) if $r->{method} ne 'POST';
	my $form = $r->{body} =~ /^\s*\{/ ? $json->decode($r->{body}) : { parse_query($r->{body}) };
	my $known = ($set->{users} // {})->{ $form->{name} // '' };
	return failure(401, 'unauthorized', 'Name or password is incorrect.')
	  unless defined $known && $known eq ($form->{password} // '');
	my $cookie = md5_hex('cookie' . rand . ++$self->{made});
	my $age = $set->{cookie_age} // 600;
	$self->{cookies}{$cookie} = time + $age;
	return reply(200, { ok => JSON::PP::true, name => $form->{name}, roles => [] },
		[ 'Set-Cookie', "AuthSession=$cookie; Version=1; Max-Age=$age; Path=/; HttpOnly" ]);
}

# Tokens for API keys, as IBM's IAM gives them.
sub token
{
	my ($self, $r) = @_;
	my %form = parse_query($r->{body});
	my $age = $self->{settings}{api_keys}{ $form{apikey} // '' };

	return failure(400, 'BXNIM0415E', 'Provided API key could not be found.') unless defined $age;
	my $token = 'token.' . md5_hex('token' . rand . ++$self->{made});
	$self->{tokens}{$token} = time + $age;
	return reply(200, { access_token => $token, refresh_token => 'not_supported', token_type => 'Bearer',
		expires_in => 0 + $age, expiration => int(time + $age), scope => 'ibm openid' });
}

sub parse_query
{
	my ($text) = @_;
	my %query;
	foreach my $pair (split /&/, $text // '')
	{
		my ($name, $value) = map { s/\+/ /gr =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger } split /=/, $pair, 2;
		$query{$name} = $value // '';
	}
	return %query;
}

# ---------- databases ----------

sub database
{
	my ($self, $r, $name, $db) = @_;
	my $store = $self->{store};

	if ($r->{method} eq 'PUT')
	{
		return failure(412, 'file_exists', 'The database could not be created, the file already exists.') if $db;
		$store->create_db($name);
		return reply(201, { ok => JSON::PP::true });
	}
	return failure(404, 'not_found', 'Database does not exist.') unless $db;
	if ($r->{method} eq 'DELETE')
	{
		$store->delete_db($name);
		return reply(200, { ok => JSON::PP::true });
	}
	my $live = grep { my ($w) = DocrepCouch::Store::leaves($_); !$_->{revs}{$w}{deleted} } values %{ $db->{docs} };
	my $dead = keys(%{ $db->{docs} }) - $live;
	return reply(200, qq({"instance_start_time":"$db->{started}","db_name":) . json_quote($name)
		. ',"purge_seq":' . $store->seq_json($db, 0) . ',"update_seq":' . $store->seq_json($db, $db->{seq})
		. qq(,"sizes":{"file":1,"external":1,"active":1},"props":{},"doc_del_count":$dead,"doc_count":$live,)
		. qq("disk_format_version":8,"compact_running":false,"cluster":{"q":2,"n":1,"w":1,"r":1}}\n));
}

sub commit
{
	my ($self, $r, $db) = @_;
	return reply(201, qq({"ok":true,"instance_start_time":"$db->{started}"}\n));
}

sub local_doc
{
	my ($self, $r, $db, @rest) = @_;
	my $set = $self->{settings};
	my $id = join '/', @rest;

	return failure(403, 'forbidden', 'You are not allowed to access this db.') if $set->{no_local};
	if ($r->{method} eq 'PUT')
	{
		return failure(401, 'unauthorized', 'You are not a server admin.') if $set->{read_only_local};
		my $members = json_members($r->{body}) or return failure(400, 'bad_request', 'invalid UTF-8 JSON');
		my $old = $db->{local}{$id};
		my ($rev) = map { json_unquote($_->[1]) } grep { $_->[0] eq '_rev' } @$members;
		return failure(409, 'conflict', 'Document update conflict.')
		  if $set->{strict_local} && ($rev // '') ne ($old ? "0-$old->{n}" : '');
		my $n = ($old ? $old->{n} : 0) + 1;
		$db->{local}{$id} = { n => $n, body => join ',', map { json_quote($_->[0]) . ":$_->[1]" } grep { $_->[0] !~ /^_/ } @$members };
		return reply(201, { ok => JSON::PP::true, id => "_local/$id", rev => "0-$n" });
	}
	my $doc = $db->{local}{$id} or return failure(404, 'not_found', 'missing');
	return reply(200, '{"_id":' . json_quote("_local/$id") . ",\"_rev\":\"0-$doc->{n}\""
		. ($doc->{body} eq '' ? '' : ",$doc->{body}") . "}\n");
}

# ---------- reading ----------

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

# ---------- writing ----------

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
