# JavaScript functions in a server: the process that runs them comes and goes as it should,
# a function that does not end can be cancelled, and a crash concerns one document.
use strict;
use warnings;

use DocrepTest qw(:DEFAULT quote);
use DocrepEngine;
use DocrepSession;
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'docrep was built without docrep_js' unless defined DocrepEngine::program();

my $node = new_node('js', databases => ['one']);
sub sql { return $node->safe_psql('one', @_); }

sql(q{SELECT docrep.create_table('t')});
sql(q{INSERT INTO t (_id, doc) SELECT 'd' || lpad(i::text, 3, '0'), jsonb_build_object('n', i) FROM generate_series(1, 200) i});
my %filters = (
	odd => 'function(doc, req) { return doc.n % 2 === Number(req.query.rest) }',
	endless => 'function(doc) { while (true); }',
	endless_50 => 'function(doc) { while (doc.n === 50); return true }',
	bomb_50 => 'function(doc) { const a = []; while (doc.n === 50) a.push(new Array(1000).fill(1)); return true }',
	slow => 'function(doc) { let s = 0; for (let i = 0; i < 2e5; i++) s += i; return s > 0 }',
	hoards => 'function(doc) { (globalThis.kept = globalThis.kept || []).push(new Array(60000).fill(doc.n)); return true }',
	count => 'function(doc) { globalThis.calls = (globalThis.calls || 0) + 1; throw "calls: " + calls }',
	logs => 'function(doc) { log("seen " + doc._id); return true }',
);
sql(sprintf(q{INSERT INTO t (_id, doc) VALUES ('_design/app', jsonb_build_object('filters', %s::jsonb))},
	quote(JSON::PP->new->canonical->encode(\%filters))));

sub changes
{
	my ($filter, $params) = @_;
	return sprintf(q{SELECT count(*) FROM docrep.changes('t', filter => 'app/%s', query_params => '%s')}, $filter, $params // '{}');
}

# The helpers that a backend has; all of them for none.
sub helpers
{
	my ($backend) = @_;
	my @pids;
	for my $file (glob '/proc/[0-9]*/stat')
	{
		open my $stat, '<', $file or next;
		my $line = <$stat> // next;
		my ($pid, $name, $state, $parent) = $line =~ /^(\d+) \((.*)\) (\S) (\d+)/ or next;
		next unless $name eq 'docrep_js' && $state ne 'Z';
		push @pids, $pid if defined $backend ? $parent == $backend : is_ours($parent);
	}
	return @pids;
}

# Is that a process of our server?
sub is_ours
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return 0;
	my ($parent) = (<$file> // '') =~ /^\d+ \(.*\) \S (\d+)/ or return 0;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	return $pid == $postmaster || $parent == $postmaster;
}

# Seconds of the processor that a process has used.
sub used
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return 0;
	my @fields = split ' ', (<$file> // '') =~ s/^\d+ \(.*\) //r;
	return ($fields[11] + $fields[12]) / POSIX::sysconf(&POSIX::_SC_CLK_TCK);
}

is(sql(changes('odd', '{"rest": "1"}')), 100, 'a filter');

# Sends a statement (or none) and waits until the function that it calls is at it for a
# while.  Returns the helper's process; not: one that it must not be.
sub begin_busy
{
	my ($session, $backend, $sql, $not) = @_;
	my %before = map { $_ => used($_) } helpers($backend);
	my $pid;
	$session->send($sql) if defined $sql;
	wait_until(sub {
		($pid) = grep { $_ != ($not // 0) && used($_) - ($before{$_} // 0) > 0.3 } helpers($backend);
		$pid;
	}, 60, 'a function that runs');
	return $pid;
}

subtest 'one helper a session' => sub {
	my $session = DocrepSession->new($node, 'one');
	my $backend = $session->must('SELECT pg_backend_pid()');
	is_deeply([ helpers($backend) ], [], 'none before it is needed');
	is($session->must(changes('odd', '{"rest": "0"}')), 100, 'a filter');
	my @first = helpers($backend);
	is(scalar @first, 1, 'one when it is');
	$session->must(changes('odd', '{"rest": "1"}'));
	is_deeply([ helpers($backend) ], \@first, 'and it stays');

	kill 'KILL', @first;
	wait_until(sub { !helpers($backend) }, 60, 'the helper has gone');
	is($session->must(changes('odd', '{"rest": "0"}')), 100, 'one that went meanwhile is replaced');
	isnt((helpers($backend))[0], $first[0], 'by another');

	@first = helpers($backend);
	$session->must(q{SET docrep.js_memory = '32MB'});
	$session->must(changes('odd', '{"rest": "0"}'));
	isnt((helpers($backend))[0], $first[0], 'and when docrep.js_memory changes');

	$session->close;
	wait_until(sub { !helpers() }, 60, 'it ends with the session');
	pass('it ends with the session');
};

subtest 'endless functions' => sub {
	for my $case ([ 'statement_timeout', '57014' ], [ 'docrep.js_timeout', 'DR500' ])
	{
		my ($name, $state) = @$case;
		my $session = DocrepSession->new($node, 'one');
		my $began = time;
		$session->must("SET $name = '500ms'");
		$session->query(changes('endless'));
		is($session->{sqlstate}, $state, "$name ends it");
		cmp_ok(time - $began, '<', 60, "$name: in time");
		is($session->must("RESET $name;" . changes('odd', '{"rest": "1"}')), 100, "$name: the session goes on");
	}
	my ($rc, $out, $err) = $node->psql('one', q{SET docrep.js_timeout = 300;} . changes('endless_50'));
	like($err, qr/"d050".*ran longer than docrep\.js_timeout allows, 300 ms/, 'the document is named');
	($rc, $out, $err) = $node->psql('one', q{SET docrep.js_timeout = '1min';} . changes('bomb_50'));
	like($err, qr/"d050".*(?:memory|signal)/, 'so it is when memory runs out');

	for my $how (qw(pg_cancel_backend pg_terminate_backend))
	{
		my $session = DocrepSession->new($node, 'one');
		my $backend = $session->must('SELECT pg_backend_pid()');
		$session->must(q{SET docrep.js_timeout = '1h'});
		my $pid = begin_busy($session, $backend, changes('endless'));
		sql("SELECT $how($backend)");
		ok($session->receive(60), "$how: the session answers");
		is($session->{sqlstate}, $how eq 'pg_cancel_backend' ? '57014' : 'lost', "$how: as it should");
		wait_until(sub { !-e "/proc/$pid" }, 60, "$how: the helper has gone");
		is($session->must(changes('odd', '{"rest": "1"}')), 100, "$how: and on it goes");
	}
};

subtest 'crashes' => sub {
	# One that comes from outside (SpiderMonkey lets the first SIGSEGV pass that is only sent):
	# nobody is to blame, and all answers are right.
	my $session = DocrepSession->new($node, 'one');
	my $backend = $session->must('SELECT pg_backend_pid()');
	$session->must(q{SET docrep.js_timeout = '10min'});
	kill 'ABRT', begin_busy($session, $backend, changes('slow'));
	$session->receive;
	is($session->{output}, 201, 'the helper crashes: every document has its answer');

	# One that happens again with the same document.
	my $pid = begin_busy($session, $backend, changes('endless_50'));
	kill 'ABRT', $pid;
	kill 'ABRT', begin_busy($session, $backend, undef, $pid);
	$session->receive;
	is($session->{sqlstate}, 'DR500', 'it crashes twice');
	like($session->{output}, qr/"d050".*signal 6/, 'the document that it crashes with is named');
	is($session->must(changes('odd', '{"rest": "1"}')), 100, 'the session goes on');
	is($session->must('SELECT pg_backend_pid()'), $backend, 'and is the same');
	ok(!log_has($node, qr/terminating any other active server processes|was terminated by signal/), 'the server has not noticed');
};

# What functions keep in their globals adds up, and must not be charged to the document, the
# function or the role that comes next: 200 documents of 480 kB are more than there is.
subtest 'memory that was kept' => sub {
	my $session = DocrepSession->new($node, 'one');
	sql(q{SELECT docrep.create_table('u'); INSERT INTO u (_id, doc) SELECT 'd' || i, '{}' FROM generate_series(1, 200) i;
		INSERT INTO u (_id, doc) VALUES ('_design/other', '{"filters": {"busy":
			"function(doc) { let s = 0; for (let i = 0; i < 1e5; i++) s += i; return s > 0 }"}}')});
	my $other = q{SELECT count(*) FROM docrep.changes('u', filter => 'other/busy')};
	for my $round (1 .. 3)
	{
		is($session->must(changes('hoards')), 201, "$round: a function that keeps much");
		is($session->must($other), 201, "$round: another design document has its memory");
	}
	sql(q{SELECT docrep.create_table('strict')});
	sql(q{INSERT INTO strict (_id, doc) VALUES ('_design/v', '{"validate_doc_update":
		"function(doc) { (globalThis.kept = globalThis.kept || []).push(new Array(60000).fill(doc.n)); if (doc.n % 50 === 0) throw {forbidden: String(doc.n)} }"}')});
	is($session->must(q{SELECT string_agg(id, ',') FROM docrep.bulk_docs('strict',
		(SELECT jsonb_agg(jsonb_build_object('_id', 'd' || i, 'n', i)) FROM generate_series(1, 200) i)) WHERE error IS NOT NULL}),
		'd50,d100,d150,d200', 'a validation that keeps much refuses what it means to');
	my $bombs = q{SELECT count(*) FROM docrep.changes('t', filter => 'app/bomb_50')};
	for my $round (1 .. 2)
	{
		$session->query($bombs);
		like($session->{output}, qr/"d050".*(?:memory|signal)/, "$round: who is really to blame is named");
		is($session->must($other), 201, "$round: and others go on");
	}
};

subtest 'rights' => sub {
	sql('CREATE ROLE plain LOGIN');
	sql('GRANT SELECT ON t TO plain');
	for my $name (qw(docrep.js_timeout docrep.js_memory))
	{
		my ($rc, $out, $err) = $node->psql('one', "SET ROLE plain; SET $name = 20000");
		like($err, qr/permission denied to set parameter "$name"/, "$name is not for everyone");
	}
	my ($rc, $out, $err) = $node->psql('one', 'SET docrep.js_timeout = 0');
	like($err, qr/outside the valid range/, 'there is always a limit');

	# What a function keeps is not seen by another role of the same session.
	my @calls;
	for my $set ('', '', 'SET ROLE plain;')
	{
		push @calls, $set . changes('count') . ';';
	}
	($rc, $out, $err) = $node->psql('one', join("\n", @calls), on_error_stop => 0);
	is_deeply([ $err =~ /calls: (\d+)/g ], [ 1, 2, 1 ], 'globals belong to a role');
};

subtest 'log' => sub {
	my ($rc, $out, $err) = $node->psql('one', 'SET client_min_messages = debug1;' . changes('logs'));
	is($out, 201, 'a function that logs');
	like($err, qr/DEBUG:.*seen d001/, 'its lines are messages of level DEBUG1');
	cmp_ok(scalar(() = $err =~ /seen d/g), '<=', 200, 'and not too many');
};

subtest 'an end in a hurry' => sub {
	my $session = DocrepSession->new($node, 'one');
	my $backend = $session->must('SELECT pg_backend_pid()');
	$session->must(q{SET docrep.js_timeout = '1h'});
	my $pid = begin_busy($session, $backend, changes('endless'));
	$node->stop('immediate');
	# which may be between the opening of the file and its being read
	wait_until(sub {
		open my $stat, '<', "/proc/$pid/stat" or return 1;
		return (<$stat> // ') Z ') =~ /\) Z /;
	}, 60, 'the helper ends with the server');
	pass('the helper does not outlive the server');
	$node->start;
};

subtest 'without the program' => sub {
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $from = dirname(DocrepEngine::program());
	my $conf = '';
	if (sql(q{SELECT count(*) FROM pg_settings WHERE name = 'extension_destdir'}))
	{
		# functions' libraries are looked for below it, in the place that they are for
		$conf = "extension_destdir = '$dir'\n";
		$dir .= $from =~ s{^\Q$ENV{STAGE}\E}{}r;
		make_path($dir);
	}
	copy("$from/docrep.so", "$dir/docrep.so") or die "copy: $!";
	$node->append_conf('postgresql.conf', $conf . "dynamic_library_path = '$dir'\nshared_preload_libraries = '$dir/docrep.so'");
	$node->restart;
	my ($rc, $out, $err) = $node->psql('one', changes('odd'), extra_params => ['-v', 'VERBOSITY=verbose']);
	like($err, qr/ERROR:  0A000: .*"docrep_js", which is not installed/, 'it is said that it is missing');
	like($err, qr/HINT: .*libmozjs.*libseccomp/, 'and what to install');
	is(sql('SELECT count(*) FROM docrep.changes(\'t\')'), 201, 'everything else works');
};

$node->stop;
done_testing;
