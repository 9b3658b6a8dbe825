# Helpers for docrep's TAP tests, on top of PostgreSQL::Test::Cluster.
#
#   use DocrepTest;
#   my $a = new_node('a', databases => ['one', 'two'], conf => "work_mem = '8MB'");
#   $a->safe_psql('one', q{SELECT docrep.create_table('orders')});
#   my $url = pg_url($a, 'one', table => 'orders');
#   wait_until(sub { ... }, 10, 'the document on the target');
#
# The tests run through "make check-tap", which sets up paths and environment.
package DocrepTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  new_node
  pg_url
  wait_until
  wait_for_query
  sqlstate
  log_has
  reload_conf
  is_soak
  seed
);

# The rest is asked for by name: use DocrepTest qw(:DEFAULT replicate contents);
our @EXPORT_OK = qw(
  quote
  replicate
  contents
  is_same_contents
  check_table
);

# Makes, starts and returns a PostgreSQL::Test::Cluster whose server finds the
# staged extension.  Options:
#   databases  => ['db', ...]  databases to make, with CREATE EXTENSION docrep in
#                              each; by default the extension is in "postgres"
#   extension  => 0            no CREATE EXTENSION
#   preload    => 0            without shared_preload_libraries
#   tcp        => 1            listens on 127.0.0.1 too
#   conf       => "a = b\n"    more of postgresql.conf
#   init       => { ... }      arguments for init(), as allows_streaming => 1
#   start      => 0            leaves it stopped; nothing is created then
# The server restarts after a crash of one of its processes, as real ones do.
sub new_node
{
	my ($name, %opts) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $opts{init} // {} });
	$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
log_statement = none
max_connections = 60
max_worker_processes = 64
CONF
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''")
	  if exists $opts{preload} && !$opts{preload};
	$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'")
	  if $opts{tcp};
	$node->append_conf('postgresql.conf', $opts{conf}) if defined $opts{conf};
	return $node if exists $opts{start} && !$opts{start};

	$node->start;
	foreach my $db (@{ $opts{databases} // ['postgres'] })
	{
		$node->safe_psql('postgres', qq{CREATE DATABASE "$db"})
		  unless $db eq 'postgres';
		$node->safe_psql($db, 'CREATE EXTENSION docrep')
		  unless exists $opts{extension} && !$opts{extension};
	}
	return $node;
}

# The URL of a database of a node, or of a document table in it (table => name),
# for a role other than the superuser (user => name, password => word), over
# 127.0.0.1 for nodes made with tcp (tcp => 1), with query parameters (params =>
# 'connect_timeout=3').
sub pg_url
{
	my ($node, $dbname, %opts) = @_;
	my $host = $opts{tcp} ? '127.0.0.1' : escape($node->host);
	my $user = escape($opts{user} // getpwuid($>));

	$user .= ':' . escape($opts{password}) if defined $opts{password};
	my $url = "postgresql://$user\@$host:" . $node->port . '/' . escape($dbname);
	$url .= "?$opts{params}" if defined $opts{params};
	$url .= '#' . escape($opts{table}) if defined $opts{table};
	return $url;
}

# Percent-encodes what has a meaning of its own in a URL.
sub escape
{
	my ($text) = @_;
	utf8::encode($text) if utf8::is_utf8($text);
	$text =~ s/([^A-Za-z0-9_.~-])/sprintf('%%%02X', ord($1))/ge;
	return $text;
}

# Calls a sub until it returns something true, and returns that; dies after so
# many seconds (default: PG_TEST_TIMEOUT_DEFAULT), saying what it waited for.
sub wait_until
{
	my ($check, $timeout, $what) = @_;
	$timeout //= $PostgreSQL::Test::Utils::timeout_default // 180;
	$what //= 'a condition';
	my $end = time + $timeout;
	my $pause = 0.01;

	while (1)
	{
		my $value = $check->();
		return $value if $value;
		croak "waited $timeout s in vain for $what" if time > $end;
		sleep $pause;
		$pause *= 1.5 if $pause < 0.2;
	}
}

# Waits until a query of one value gives the one expected ('t' by default).
# Errors count as "not yet", for the server may be starting.
sub wait_for_query
{
	my ($node, $dbname, $query, $expected, $timeout) = @_;
	my $last = '';
	$expected //= 't';

	my $done = eval {
		wait_until(
			sub {
				# psql may be gone before it has read the query, which is fatal to
				# the one who writes it
				my ($rc, $out, $err) = eval { $node->psql($dbname, $query) };
				$last = !defined $rc ? $@ : $rc == 0 ? $out : $err;
				return defined $rc && $rc == 0 && $out eq $expected;
			},
			$timeout,
			"\"$query\" to give \"$expected\"");
	};
	croak "$@last result: $last" unless $done;
	return 1;
}

# Runs SQL that is expected to fail; returns (SQLSTATE, whole message).  Both are
# empty if it succeeds.
sub sqlstate
{
	my ($node, $dbname, $sql) = @_;
	my ($rc, $out, $err) = $node->psql($dbname, "\\set VERBOSITY verbose\n$sql",
		on_error_stop => 1);

	return ('', '') if $rc == 0;
	my ($state) = $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	return ($state // '', $err);
}

# Whether the log of a node, from a byte on, has a line that matches.
sub log_has
{
	my ($node, $pattern, $offset) = @_;
	my $log = slurp_file($node->logfile);

	return substr($log, $offset // 0) =~ $pattern;
}

# Makes a server read its configuration files; whoever connects after this finds it so
# (pg_ctl only sends a signal, which takes effect when the postmaster gets to it).
sub reload_conf
{
	my ($node) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');

	$node->reload;
	return wait_for_query($node, 'postgres', "SELECT pg_conf_load_time() > '$before'");
}

# A string as an SQL literal.
sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Runs docrep.replicate() in a database of a node, with options as a hash, and
# returns its result, decoded; dies if it fails.
sub replicate
{
	my ($node, $dbname, $source, $target, %options) = @_;
	my $json = JSON::PP->new->canonical;
	my $result = $node->safe_psql($dbname,
		'SELECT docrep.replicate(' . join(', ', map { quote($_) } $source, $target, $json->encode(\%options)) . ')');

	return $json->decode($result);
}

# Every document of a table with all of its leaves, their histories and bodies:
# a hash from ids to text, or for large tables to digests of it (digest => 1).
sub contents
{
	my ($node, $dbname, $table, %opts) = @_;
	my $digest = $opts{digest} ? 'md5' : '';
	my $rows = $node->safe_psql($dbname, qq{
		SELECT c.id || E'\t' || $digest(c.deleted || ' ' || c.changes || ' ' ||
			docrep.get('$table', c.id, open_revs => '"all"', revs => true))
		FROM docrep.changes('$table', style => 'all_docs') c});
	my %contents;

	foreach my $row (split /\n/, $rows)
	{
		my ($id, $rest) = split /\t/, $row, 2;
		croak "$id comes twice in the changes feed" if exists $contents{$id};
		$contents{$id} = $rest;
	}
	return \%contents;
}

# A test that two results of contents() are the same; tells which documents are
# not, and how.
sub is_same_contents
{
	my ($left, $right, $name) = @_;
	my @differ =
	  grep { ($left->{$_} // '') ne ($right->{$_} // '') }
	  sort keys %{ { %$left, %$right } };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = is(scalar @differ, 0, $name . ' (' . keys(%$left) . ' documents)');
	foreach my $id (@differ > 5 ? @differ[ 0 .. 4 ] : @differ)
	{
		diag("$id\n  here  " . ($left->{$id} // 'missing') . "\n  there " . ($right->{$id} // 'missing'));
	}
	return $ok;
}

# A test that docrep.check() finds nothing wrong with a table.
sub check_table
{
	my ($node, $dbname, $table, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql($dbname, "SELECT * FROM docrep.check('$table') LIMIT 20"),
		'', $name // "nothing is wrong with $table of " . $node->name);
}

# Whether this is "make soak", which has hours, and not "make check".
sub is_soak
{
	return $ENV{DOCREP_SOAK} ? 1 : 0;
}

# What random choices of a test begin with: DOCREP_SEED, or else in "make soak" always another
# number, and in "make check" always the same, so that it does not fail for what was there before.
sub seed
{
	return $ENV{DOCREP_SEED} // (is_soak() ? int(time * 1000) % 1_000_000 : 1);
}

1;
