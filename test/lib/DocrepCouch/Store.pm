# The databases of the scripted CouchDB (DocrepCouch): revision trees, sequences,
# attachments, local documents, all in memory.  Bodies are kept as the text they
# came in, so that they can hold what no decoder would take.  Ids are bytes.
package DocrepCouch::Store;

use strict;
use warnings;

use Compress::Zlib ();
use Digest::MD5 qw(md5_base64 md5_hex);
use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT_OK = qw(json_quote json_unquote json_members json_elements);

# ---------- JSON as text ----------

my $string = qr/"(?:[^"\\]++|\\.)*+"/s;
my $value = qr/(?<value>\s*+(?:$string|[^\s"\[\]{},:]++
	|\[(?:(?&value)(?:,(?&value))*+)?\s*+\]
	|\{(?:\s*+$string\s*+:(?&value)(?:,\s*+$string\s*+:(?&value))*+)?\s*+\})\s*+)/sx;

# Bytes as a JSON string; what is no UTF-8 but a surrogate becomes an escape.
sub json_quote
{
	my ($text) = @_;
	$text =~ s/([\\"])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
	$text =~ s/\xED([\xA0-\xBF])([\x80-\xBF])/sprintf '\\u%04x', 0xD000 | (ord($1) & 0x3F) << 6 | ord($2) & 0x3F/ge;
	return "\"$text\"";
}

# A JSON string as bytes, lone surrogates as their three.
sub json_unquote
{
	my ($text) = @_;
	my %plain = (b => "\b", f => "\f", n => "\n", r => "\r", t => "\t");

	$text =~ s/^\s*"|"\s*$//g;
	$text =~ s{\\(?:u([Dd][89ABab]..)\\u([Dd][C-Fc-f]..)|u(....)|(.))}{
		defined $1 ? utf8_bytes(0x10000 + ((hex($1) & 0x3FF) << 10 | hex($2) & 0x3FF))
		  : defined $3 ? utf8_bytes(hex $3) : $plain{$4} // $4}gse;
	return $text;
}

sub utf8_bytes
{
	my ($code) = @_;
	return chr $code if $code < 0x80;
	return pack 'C2', 0xC0 | $code >> 6, 0x80 | $code & 0x3F if $code < 0x800;
	return pack 'C3', 0xE0 | $code >> 12, 0x80 | $code >> 6 & 0x3F, 0x80 | $code & 0x3F if $code < 0x10000;
	return pack 'C4', 0xF0 | $code >> 18, 0x80 | $code >> 12 & 0x3F, 0x80 | $code >> 6 & 0x3F, 0x80 | $code & 0x3F;
}

# The members of an object: [name, text of the value], ...; undef if it is none.
sub json_members
{
	my ($text) = @_;
	my @members;

	return unless $text =~ /\A\s*+\{/gc;
	while ($text =~ /\G\s*+($string)\s*+:($value)/gc)
	{
		my ($name, $member) = ($1, $2);
		$member =~ s/^\s+|\s+$//g;
		push @members, [ json_unquote($name), $member ];
		last unless $text =~ /\G,/gc;
	}
	return $text =~ /\G\s*+\}\s*+\z/ ? \@members : undef;
}

# The elements of an array, as text; undef if it is none.
sub json_elements
{
	my ($text) = @_;
	my @elements;

	return unless $text =~ /\A\s*+\[/gc;
	while ($text =~ /\G($value)/gc)
	{
		push @elements, $1;
		last unless $text =~ /\G,/gc;
	}
	return $text =~ /\G\s*+\]\s*+\z/ ? \@elements : undef;
}

# ---------- databases ----------

# seqs: 'opaque' (as a cluster's), or 'number' (as PouchDB's).
sub new
{
	my ($class, %opts) = @_;
	return bless { uuid => md5_hex(rand() . time . $$), seqs => 'opaque', dbs => {}, made => 0, %opts }, $class;
}

sub db { return $_[0]{dbs}{ $_[1] } }

sub create_db
{
	my ($self, $name) = @_;
	return $self->{dbs}{$name} = {
		name => $name,
		seq => 0,
		docs => {},
		local => {},
		started => sprintf('%.0f', time * 1e6 + ++$self->{made}),
		tag => rand(),
	};
}

sub delete_db { return delete $_[0]{dbs}{ $_[1] } }

# A sequence as JSON.
sub seq_json
{
	my ($self, $db, $n) = @_;
	return $self->{seqs} eq 'number' ? $n : '"' . $self->seq_text($db, $n) . '"';
}

sub seq_text
{
	my ($self, $db, $n) = @_;
	return $n if $self->{seqs} eq 'number';
	my $opaque = md5_base64("$db->{tag} $n") x 12;
	$opaque =~ tr{+/}{-_};
	return "$n-g1AAAACb$opaque";
}

# What a client says in "since"; undef if it was made up.  A sequence of another
# database (or of the same name, since deleted) is the beginning, as in a cluster.
sub seq_number
{
	my ($self, $db, $text) = @_;
	return $db->{seq} if $text eq 'now';
	return unless $text =~ /^(\d+)(?:-(.+))?$/;
	my $n = $1;
	return $n if $n == 0 || $self->{seqs} eq 'number';
	return $text eq $self->seq_text($db, $n) ? $n : defined $2 && $2 =~ /^g1AAAACb/ ? 0 : undef;
}

# ---------- documents ----------

# Stores a revision: path from the newest, and deleted, body (members as text), atts.
# True if it was not known.
sub add_rev
{
	my ($self, $db, $id, $path, $rev) = @_;
	my $doc = $db->{docs}{$id} //= { revs => {}, leaves => {} };

	return 0 if exists $doc->{revs}{ $path->[0] };
	foreach my $i (0 .. $#$path)
	{
		last if exists $doc->{revs}{ $path->[$i] };
		$doc->{revs}{ $path->[$i] } = { parent => $path->[ $i + 1 ] };
		delete $doc->{leaves}{ $path->[ $i + 1 ] } if $i < $#$path;
	}
	@{ $doc->{revs}{ $path->[0] } }{qw(deleted body atts)} = @$rev{qw(deleted body atts)};
	$doc->{leaves}{ $path->[0] } = 1;
	$doc->{seq} = ++$db->{seq};
	return 1;
}

# The leaves of a document, the winner first.
sub leaves
{
	my ($doc) = @_;
	return map { $_->[3] }
	  sort { $a->[0] <=> $b->[0] || $b->[1] <=> $a->[1] || $b->[2] cmp $a->[2] }
	  map { [ $doc->{revs}{$_}{deleted} ? 1 : 0, /^(\d+)-(.*)/, $_ ] } keys %{ $doc->{leaves} };
}

# A revision and its ancestors.
sub path
{
	my ($doc, $rev) = @_;
	my @path;

	while (defined $rev)
	{
		push @path, $rev;
		$rev = $doc->{revs}{$rev}{parent};
	}
	return @path;
}

# The leaves that descend from a revision.
sub latest
{
	my ($doc, $rev) = @_;
	return grep { my $leaf = $_; grep { $_ eq $rev } path($doc, $leaf) } leaves($doc);
}

# The text of a revision.  atts: 'stubs', 'inline', or a sub that gives what is
# said of an attachment beside the rest, for its name and itself.
sub doc_json
{
	my ($id, $doc, $rev, %opts) = @_;
	my $node = $doc->{revs}{$rev};
	my @members = ('"_id":' . json_quote($id), '"_rev":' . json_quote($rev));

	push @members, '"_deleted":true' if $node->{deleted};
	if ($opts{revs})
	{
		my @path = path($doc, $rev);
		my ($start) = $rev =~ /^(\d+)/;
		push @members, "\"_revisions\":{\"start\":$start,\"ids\":["
		  . join(',', map { json_quote(s/^\d+-//r) } @path) . ']}';
	}
	push @members, $node->{body} if defined $node->{body} && $node->{body} ne '';
	if ($node->{atts} && %{ $node->{atts} })
	{
		push @members, '"_attachments":{'
		  . join(',', map { att_json($_, $node->{atts}{$_}, $opts{atts}) } sort keys %{ $node->{atts} }) . '}';
	}
	return '{' . join(',', @members) . '}';
}

sub att_json
{
	my ($name, $att, $how) = @_;
	my $said = "\"content_type\":" . json_quote($att->{type}) . ",\"revpos\":$att->{revpos},\"digest\":\"$att->{digest}\"";

	$said .= ref $how ? ',' . $how->($name, $att) : ',' . stub($att, $how);
	return json_quote($name) . ":{$said}";
}

# What is said of one that does not come along.  Its encoding is told to those who
# ask (att_encoding_info); the length is that of what was uploaded.
sub stub
{
	my ($att, $how) = @_;
	return "\"length\":$att->{length},\"stub\":true" unless $att->{encoding};
	return "\"length\":$att->{plain},\"stub\":true"
	  . (($how // '') eq 'encoding' ? ",\"encoding\":\"$att->{encoding}\",\"encoded_length\":$att->{length}" : '');
}

# An attachment: how it is described, and its content as stored.
sub new_att
{
	my (%att) = @_;
	$att{length} //= length $att{content};
	$att{plain} //= length Compress::Zlib::memGunzip(my $copy = $att{content}) if $att{encoding};
	$att{digest} //= 'md5-' . md5_base64($att{content}) . '==';
	return \%att;
}

1;
