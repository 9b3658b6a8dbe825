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

use DocrepCouch::Reply qw(failure reply);
use DocrepCouch::Store qw(json_quote json_unquote json_members);
use Digest::MD5 qw(md5_hex);
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(time);

# documents and feeds, out and in
use parent qw(DocrepCouch::Reading DocrepCouch::Writing);

my $json = JSON::PP->new->utf8->canonical->allow_nonref->max_depth(100_000);

sub new
{
	my ($class, $store, $settings) = @_;
	return bless { store => $store, settings => $settings, cookies => {}, tokens => {}, made => 0 }, $class;
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
	my %special = (_changes => 'changes', _revs_diff => 'revs_diff', _bulk_get => 'bulk_get',
		_bulk_docs => 'bulk_docs', _ensure_full_commit => 'commit', _local => 'local_doc',
		_all_docs => 'all_docs');
	my %not = (_bulk_get => 'no_bulk_get', _ensure_full_commit => 'no_commit');
	if ($special{$what} && !($not{$what} && $set->{ $not{$what} }))
	{
		my $method = $special{$what};
		return $self->$method($r, $db, @rest);
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

1;
