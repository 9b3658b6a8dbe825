# Third-party CouchDB software for the interop tests.
#
#   use DocrepInterop;
#   my $couch = DocrepInterop->new('one');                    # express-pouchdb over LevelDB
#   my $small = DocrepInterop->new('two', kind => 'router');  # pouchdb-express-router: no _bulk_get
#   my $shut  = DocrepInterop->new('three', admin => 'root', password => 'secret');
#   $couch->create('db'); $couch->url('db');
#   $couch->kill9; $couch->start;                             # the same port and files
#   my $out = js('generate.js', $couch->url('db'), 5000, 1);
#   is_same_leaves(couch_leaves($couch->url('db')), table_leaves($node, 'postgres', 'docs'), 'equal');
#
# A server listens on a free port of 127.0.0.1, and ends with the object or with
# the test, however that ends.
package DocrepInterop;

use strict;
use warnings;

use Carp;
use Cwd;
use DocrepTest;
use Exporter 'import';
use File::Basename;
use IO::Handle;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

our @EXPORT = qw(
  js
  start_js
  lines_of_js
  stop_js
  post
  couch_leaves
  table_leaves
  is_same_leaves
  couch_revs
  table_revs
  same_revs
  is_none_lost
  is_written_once
);

# Absolute, for tests change their directory.
my $js_dir = Cwd::abs_path(dirname(__FILE__) . '/../js');
my $json = JSON::PP->new->canonical;
my @servers;
my $dumps = 0;

# Starts a server of its own directory; see the top.
sub new
{
	my ($class, $name, %opts) = @_;
	my $self = bless {
		name => $name,
		kind => $opts{kind} // 'pouchdb',
		dir => PostgreSQL::Test::Utils::tempdir("couch_$name"),
		port => 0,
		admin => $opts{admin},
		password => $opts{password},
		owner => $$,
	}, $class;

	$self->{log} = "$PostgreSQL::Test::Utils::log_path/" . basename($0, '.pl') . "_couch_$name.log";
	push @servers, $self;
	return $self->start;
}

# Starts it, the second time on the port that it had the first time.  Waits until it listens.
sub start
{
	my ($self) = @_;
	my @args = ($self->{kind}, $self->{dir}, $self->{port});
	push @args, $self->{admin}, $self->{password} if defined $self->{admin};

	# somebody's outgoing connection may have the port for a moment
	wait_until(
		sub {
			$self->launch(@args);
			my $port = readline $self->{out};
			if (defined $port)
			{
				chomp($self->{port} = $port);
				return 1;
			}
			$self->kill9;
			return 0;
		},
		60,
		"the server $self->{name} to start (see $self->{log})");
	return $self;
}

# The process: we hold its standard input, whose end is its end.
sub launch
{
	my ($self, @args) = @_;

	pipe(my $its_in, my $in) or croak "pipe: $!";
	pipe(my $out, my $its_out) or croak "pipe: $!";
	$self->{pid} = fork() // croak "fork: $!";
	if ($self->{pid} == 0)
	{
		open STDIN, '<&', $its_in;
		open STDOUT, '>&', $its_out;
		open STDERR, '>>', $self->{log};
		close $in;
		close $out;
		exec('node', "$js_dir/server.js", @args) or POSIX::_exit(127);
	}
	close $its_in;
	close $its_out;
	@$self{qw(in out)} = ($in, $out);
	return;
}

# Ends it with a signal, KILL by default, and waits until it is gone.
sub kill9
{
	my ($self, $signal) = @_;

	return unless $self->{pid};
	kill $signal // 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	delete @$self{qw(pid in out)};
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	$self->kill9 if $self->{owner} == $$;
	return;
}

END
{
	local ($?, $!, $@);
	$_->DESTROY foreach @servers;
}

sub port { return $_[0]{port} }
sub dir { return $_[0]{dir} }

# The address of a database of it, or of the server; user => 'name:password' puts
# that in, and admin => 1 the administrator's.
sub url
{
	my ($self, $db, %opts) = @_;
	my $user = $opts{user} // ($opts{admin} ? "$self->{admin}:$self->{password}" : undef);

	return 'http://' . (defined $user ? "$user\@" : '') . "127.0.0.1:$self->{port}" . (defined $db ? "/$db" : '');
}

# Makes a database.
sub create
{
	my ($self, $db) = @_;
	js('request.js', 'PUT', $self->url($db, admin => defined $self->{admin}));
	return $self->url($db);
}

# GET of a path of it, decoded.
sub get
{
	my ($self, $path) = @_;
	return $json->decode(js('request.js', 'GET', $self->url($path, admin => defined $self->{admin})));
}

# What replicators have written here so far: a list of [database, id, rev, asked, answered].
sub writes
{
	my ($self) = @_;
	return map { $json->decode($_) } grep { /\]$/ } split /\n/, slurp_file("$self->{dir}/writes.log");
}

# ---------- programs ----------

# A file name that nobody has used.
sub dump_file
{
	return "$PostgreSQL::Test::Utils::tmp_check/dump-$$-" . ++$dumps;
}

# Runs a helper program and returns what it prints; dies if it fails.
sub js
{
	my ($program, @args) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'node', "$js_dir/$program", @args ], '<', \undef, '>', \$out, '2>', \$err)
	  or croak "$program failed: $err";
	return $out;
}

# Starts one that runs beside the test until stop_js, which sends it SIGTERM and
# returns what it has printed.
sub start_js
{
	my ($program, @args) = @_;
	my $run = { out => dump_file(), err => dump_file(), program => $program };

	# files, for nobody reads a pipe meanwhile
	$run->{harness} = IPC::Run::start([ 'node', "$js_dir/$program", @args ],
		'<', \undef, '>', $run->{out}, '2>', $run->{err});
	return $run;
}

# How many lines it has printed so far.
sub lines_of_js
{
	my ($run) = @_;

	return -e $run->{out} ? slurp_file($run->{out}) =~ tr/\n// : 0;
}

sub stop_js
{
	my ($run) = @_;

	$run->{harness}->signal('TERM');
	IPC::Run::finish($run->{harness}) or croak "$run->{program} failed: " . slurp_file($run->{err});
	return slurp_file($run->{out});
}

# POST of a body of any length; the answer's body.
sub post
{
	my ($url, $body) = @_;
	my $file = dump_file();

	append_to_file($file, $body);
	return js('request.js', 'POST', $url, "\@$file");
}

# ---------- comparing ----------

# Lines of dump.js and sqldump.js as a hash from '["id","rev"]' to the leaf as JSON text.
sub read_leaves
{
	my ($file) = @_;
	my %leaves;

	open my $in, '<', $file or croak "$file: $!";
	while (my $line = <$in>)
	{
		chomp $line;
		my ($key, $leaf) = split /\t/, $line, 2;
		croak "$key comes twice" if exists $leaves{$key};
		$leaves{$key} = $leaf;
	}
	close $in;
	return \%leaves;
}

# Every leaf of a database behind HTTP, as PouchDB reads it.
sub couch_leaves
{
	my ($url) = @_;
	my $file = dump_file();
	my $err = '';

	IPC::Run::run([ 'node', "$js_dir/dump.js", $url ], '<', \undef, '>', $file, '2>', \$err)
	  or croak "dump.js failed: $err";
	my $leaves = read_leaves($file);
	unlink $file;
	return $leaves;
}

# Every leaf of a document table, as SQL shows it.  COPY, because what psql prints
# of a SELECT lacks U+10FFFF.
sub table_leaves
{
	my ($node, $dbname, $table) = @_;
	my $file = dump_file();
	my $err = '';

	IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($dbname), '-c', qq{
			COPY (SELECT v -> 'ok' FROM docrep.changes('$table', style => 'all_docs') c,
				jsonb_array_elements(docrep.get('$table', c.id, open_revs => '"all"', revs => true,
					attachments => true)) v)
			TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')} ],
		'<', \undef, '2>', \$err, '|', [ 'node', "$js_dir/sqldump.js" ], '>', $file, '2>', \$err)
	  or croak "dump of $table failed: $err";
	my $leaves = read_leaves($file);
	unlink $file;
	return $leaves;
}

# A test that two of them are the same, and that there are some; says what is not.
# Of histories the newest 1,000 revisions count (revs_limit): how much more is left
# of a branch whose fork is kept for the sake of another depends on the order of edits.
# PouchDB gives attachments that are written to it a revpos of its own, so that
# counts only with revpos => 1.
sub is_same_leaves
{
	my ($left, $right, $name, %opts) = @_;
	unless ($opts{revpos})
	{
		($left, $right) = map { my $leaves = $_; +{ map { $_ => $leaves->{$_} =~ s/"revpos":\d+,//gr } keys %$leaves } } $left, $right;
	}
	($left, $right) = map {
		my $leaves = $_;
		+{ map { $_ => $leaves->{$_} =~ s/("path":\[(?:"[^"]*",){999}"[^"]*")(?:,"[^"]*")+\]/$1]/r } keys %$leaves }
	} $left, $right;
	my @differ =
	  grep { ($left->{$_} // '') ne ($right->{$_} // '') }
	  sort keys %{ { %$left, %$right } };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = is(scalar @differ, 0, $name . ' (' . keys(%$left) . ' leaves)');
	foreach my $key (@differ > 5 ? @differ[ 0 .. 4 ] : @differ)
	{
		diag("$key\n  left  " . around($left->{$key}, $right->{$key}) . "\n  right " . around($right->{$key}, $left->{$key}));
	}
	return $ok && cmp_ok(scalar keys %$left, '>', 0, "$name: there is something");
}

# A test that every edit, as [id, rev], is a leaf or an ancestor of one.  (PouchDB's
# _revs_diff says that it misses ancestors whose bodies it never had.)
sub is_none_lost
{
	my ($leaves, $edits, $name) = @_;
	my %known;

	foreach my $key (keys %$leaves)
	{
		my $leaf = decode_json($leaves->{$key});
		$known{"$leaf->{id} $_"} = 1 foreach @{ $leaf->{path} };
	}
	my @lost = grep { !$known{$_} } map { "$_->[0] $_->[1]" } @$edits;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @lost, 0, $name . ' (' . @$edits . ' edits)') || diag(join "\n", @lost > 5 ? @lost[ 0 .. 4 ] : @lost);
}

# The part of a text in which it begins to differ from another.
sub around
{
	my ($text, $other) = @_;

	return 'missing' unless defined $text;
	return 'present' unless defined $other;
	my $same = 0;
	my $max = length $text < length $other ? length $text : length $other;
	$same++ while $same < $max && substr($text, $same, 1) eq substr($other, $same, 1);
	my $from = $same > 200 ? $same - 200 : 0;
	return ($from ? '...' : '') . substr($text, $from, 500);
}

# Cheaper: a hash from ids, as the hexadecimal digits of their bytes, to their leaf
# revisions, from the changes feeds.
sub couch_revs
{
	my ($url) = @_;
	return { map { split /\t/ } split /\n/, js('revs.js', $url) };
}

sub table_revs
{
	my ($node, $dbname, $table) = @_;
	my $rows = $node->safe_psql($dbname, qq{
		SELECT encode(convert_to(c.id, 'UTF8'), 'hex') || E'\t' ||
			(SELECT string_agg(v ->> 'rev', ',' ORDER BY v ->> 'rev' COLLATE "C") FROM jsonb_array_elements(c.changes) v)
		FROM docrep.changes('$table', style => 'all_docs') c});
	return { map { split /\t/ } split /\n/, $rows };
}

# Are two results of these the same?
sub same_revs
{
	my ($left, $right) = @_;
	return keys %$left == keys %$right && !grep { $left->{$_} ne ($right->{$_} // '') } keys %$left;
}

# A test that replicators gave a server no revision twice, that is, again more
# than so many ms (default 0) after it had acknowledged it.
sub is_written_once
{
	my ($couch, $name, $grace) = @_;
	my (%answered, @twice);

	foreach my $write (sort { $a->[3] <=> $b->[3] } $couch->writes)
	{
		my ($db, $id, $rev, $asked, $answered) = @$write;
		my $key = "$db $id $rev";
		push @twice, "$key: answered at $answered{$key} ms, asked again at $asked"
		  if defined $answered{$key} && $asked > $answered{$key} + ($grace // 0);
		$answered{$key} //= $answered;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @twice, 0, $name . ' (' . keys(%answered) . ' revisions)')
	  || diag(join "\n", @twice > 5 ? @twice[ 0 .. 4 ] : @twice);
}

1;
