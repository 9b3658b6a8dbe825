# A user who edits a document table at random through SQL.
#
#   my $editor = SqlEditor->new($node, $dbname, $table, $shared);
#   $editor->edit;        # one edit; the server may be away, then it does nothing
#   $editor->edits;       # those that were acknowledged, as [id, rev]
package SqlEditor;

use strict;
use warnings;

use DocrepSession;
use JSON::PP;

my $json = JSON::PP->new->canonical->utf8;

sub new
{
	my ($class, $node, $dbname, $table, $shared) = @_;
	return bless {
		session => DocrepSession->new($node, $dbname, app => 'editor'),
		table => $table, shared => $shared, edits => [], n => 0 }, $class;
}

# Statements that return ids and revisions.
sub choose
{
	my ($self) = @_;
	my $table = $self->{table};
	my $n = ++$self->{n};
	my $choice = rand;
	my $id = rand() < 0.6 ? "shared " . int(rand $self->{shared}) : "sql " . int(rand 100);
	my $body = qq('{"by": "sql", "n": $n}');

	return "INSERT INTO $table(_id, doc) VALUES ('$id', $body)
			ON CONFLICT (_id) DO UPDATE SET doc = $table.doc || excluded.doc RETURNING _id, _rev"
	  if $choice < 0.45;
	return "UPDATE $table SET doc = doc || $body WHERE _id IN
			(SELECT _id FROM $table WHERE _id NOT LIKE '\\_design/%' ORDER BY random() LIMIT 3) RETURNING _id, _rev"
	  if $choice < 0.60;
	return "SELECT _id, docrep.delete('$table', _id, _rev::text) AS _rev FROM $table WHERE _id = '$id'"
	  if $choice < 0.72;
	return "SELECT id AS _id, docrep.delete('$table', id, rev::text) AS _rev FROM
			(SELECT id, rev FROM docrep.conflicts WHERE tbl = '$table'::regclass AND NOT is_winner AND NOT deleted
			ORDER BY random() LIMIT 1) c"
	  if $choice < 0.82;
	return "SELECT _id, docrep.put_attachment('$table', _id, 'from sql', 'text/plain', 'contents $n', _rev::text) AS _rev
			FROM $table WHERE _id = '$id'"
	  if $choice < 0.95;
	return "INSERT INTO $table(_id, doc) SELECT 'lot ' || i || ' of $n', $body FROM generate_series(1, 20) i RETURNING _id, _rev";
}

sub edit
{
	my ($self) = @_;
	my $sql = $self->choose;

	# a SELECT cannot take the result of a statement that writes, but a WITH can
	# hexadecimal, for psql leaves out U+10FFFF
	my $row = "encode(convert_to(jsonb_build_array(_id, _rev::text)::text, 'UTF8'), 'hex')";
	$sql = $sql =~ /^SELECT/ ? "SELECT $row FROM ($sql) w" : "WITH w AS ($sql) SELECT $row FROM w";
	my $rows = $self->{session}->query($sql, 120);
	if (!defined $rows)
	{
		die "$sql failed ($self->{session}{sqlstate}): $self->{session}{output}\n"
		  unless $self->{session}{sqlstate} =~ /^(DR409|40|23505|57|08|lost|timeout|25006|53|DR404)/;
		select undef, undef, undef, 0.1 if $self->{session}{sqlstate} =~ /^(lost|57)/;
		return;
	}
	push @{ $self->{edits} }, grep { defined $_->[1] } map { $json->decode(pack 'H*', $_) } split /\n/, $rows;
	select undef, undef, undef, rand 0.02;
	return;
}

sub edits
{
	my ($self) = @_;
	return @{ $self->{edits} };
}

1;
